//! Errors of ICMP: what is said to the sender of a datagram for a port on which nobody listens (RFC 1122 §3.2.2.1, §4.1.3.1),
//! and of one that was never whole (§3.3.2). They quote its IPv4 header and eight bytes (RFC 792).
//!
//! A kernel's client learns of it at its next call and need not wait in vain. Nothing is said to who cannot be one host,
//! nor about what came for more than one, behind a first fragment, or as ICMP itself (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7):
//! `classify` has dropped all but the last two, and these never come here.

use std::net::Ipv4Addr;

use nic::{Frame, FrameTooShort, checksum};

use crate::link::{packet_at, turn_round};
use crate::wire::{IPV4_BYTES, PROTOCOL_ICMP, UDP_BYTES};

/// What is quoted, and the header in front of it.
pub(crate) const QUOTED_BYTES: usize = IPV4_BYTES + UDP_BYTES;
const ICMP_BYTES: usize = 8;

/// Types and codes: nobody listens on the port; the rest of a datagram has not come in time.
pub(crate) const NO_SUCH_PORT: [u8; 2] = [3, 3];
pub(crate) const NOT_WHOLE: [u8; 2] = [11, 1];

/// Who sent the IPv4 packet in `frame`, and where it begins there.
pub(crate) fn sender(frame: &[u8]) -> (Ipv4Addr, usize) {
    let at = packet_at(frame);
    (crate::echo::sender(frame, at), at)
}

/// Turns the frame of a packet that was checked by `classify`, which begins `at`, into the error `says` about it.
///
/// # Errors
/// The frame has no room for the answer.
pub(crate) fn answer(frame: &mut Frame, at: usize, says: [u8; 2]) -> Result<(), FrameTooShort> {
    let Some(quoted) = frame.bytes().get(at..).and_then(|packet| packet.first_chunk::<QUOTED_BYTES>()).copied() else {
        return Ok(());
    };
    frame.resize(at + IPV4_BYTES + ICMP_BYTES + QUOTED_BYTES)?;
    let bytes = frame.bytes_mut();
    turn_round(bytes);
    let Some((ip, icmp)) = bytes.get_mut(at..).and_then(|packet| packet.split_first_chunk_mut::<IPV4_BYTES>()) else {
        return Ok(());
    };
    // Never cut on its way, so that its identification may be anything (RFC 6864 §4.1).
    *ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, PROTOCOL_ICMP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[3] = (IPV4_BYTES + ICMP_BYTES + QUOTED_BYTES) as u8;
    ip[12..16].copy_from_slice(&quoted[16..20]);
    ip[16..20].copy_from_slice(&quoted[12..16]);
    let sum = checksum::field(checksum::add(0, ip));
    ip[10..12].copy_from_slice(&sum);
    icmp[..ICMP_BYTES].copy_from_slice(&[says[0], says[1], 0, 0, 0, 0, 0, 0]);
    icmp[ICMP_BYTES..].copy_from_slice(&quoted);
    let sum = checksum::field(checksum::add(0, icmp));
    icmp[2..4].copy_from_slice(&sum);
    Ok(())
}
