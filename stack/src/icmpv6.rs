//! Answers to ICMPv6 echo requests, and to datagrams on whose port nobody listens (RFC 4443 §3.1, §4.2): the frame becomes
//! its answer in place.

use std::net::Ipv6Addr;

use nic::{Frame, FrameTooShort, checksum};

use crate::classify::Message;
use crate::classify::ipv6::UNREACHABLE;
use crate::ipv6::{HOP_LIMIT, Head, LEAST_MTU};
use crate::link::{ETHERNET_BYTES, TAGGED_BYTES, source, turn_round};
use crate::wire::{IPV6_BYTES, PROTOCOL_ICMPV6};

const ECHO_REPLY: u8 = 129;
/// Of "destination unreachable": nobody listens on the port.
const PORT: u8 = 4;
/// Length of an error's header, in bytes.
const ERROR_BYTES: usize = 8;

/// Turns the echo request in `frame` into its answer. The data is not touched: the sum is patched by what changes, since
/// the ends of the pseudo-header only change places.
pub(crate) fn answer_echo(frame: &mut [u8], place: Message) {
    turn_round(frame);
    let Some(packet) = frame.get_mut(usize::from(place.at)..usize::from(place.to)) else { return };
    let Some((header, message)) = packet.split_first_chunk_mut::<IPV6_BYTES>() else { return };
    header[7] = HOP_LIMIT;
    let (source, destination) = header[8..].split_at_mut(16);
    source.swap_with_slice(destination);
    if let [kind, code, high, low, ..] = message {
        let sum = checksum::changed([*high, *low], &[*kind, *code], &[ECHO_REPLY, *code]);
        *kind = ECHO_REPLY;
        [*high, *low] = sum;
    }
}

/// Where the IPv6 packet in `frame` begins.
pub(crate) fn packet_at(frame: &[u8]) -> usize {
    if source(frame).1.is_some() { TAGGED_BYTES } else { ETHERNET_BYTES }
}

/// Who sent the packet that begins `at` in `frame`.
pub(crate) fn sender(frame: &[u8], at: usize) -> Ipv6Addr {
    frame.get(at + 8..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default().into()
}

/// Turns the frame of a datagram that was checked by `classify`, whose packet begins `at`, into the message that nobody
/// listens on its port. It quotes as much as fits the least MTU (RFC 4443 §2.4 (c)).
///
/// # Errors
/// The frame has no room for the answer.
pub(crate) fn refuse(frame: &mut Frame, at: usize) -> Result<(), FrameTooShort> {
    let most = usize::from(LEAST_MTU) - IPV6_BYTES - ERROR_BYTES;
    // What is behind the packet is nobody's.
    let says = frame.bytes().get(at + 4..at + 6).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let quoted = frame.len().saturating_sub(at).min(IPV6_BYTES + says).min(most);
    let behind = at + IPV6_BYTES + ERROR_BYTES;
    frame.resize(behind + quoted)?;
    let bytes = frame.bytes_mut();
    bytes.copy_within(at..at + quoted, behind);
    turn_round(bytes);
    let Some((header, message)) = bytes[at..].split_first_chunk_mut::<IPV6_BYTES>() else { return Ok(()) };
    let [asker, own] =
        [8, 24].map(|from| Ipv6Addr::from(header[from..].first_chunk::<16>().copied().unwrap_or_default()));
    let head = Head { source: own, destination: asker, label: 0, next_header: PROTOCOL_ICMPV6, hop_limit: HOP_LIMIT };
    head.write(header, message.len());
    message[..ERROR_BYTES].copy_from_slice(&[UNREACHABLE, PORT, 0, 0, 0, 0, 0, 0]);
    let sum = checksum::field(checksum::add(head.pseudo_sum(message.len()), message));
    message[2..4].copy_from_slice(&sum);
    Ok(())
}
