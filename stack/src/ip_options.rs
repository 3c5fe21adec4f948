//! IPv4 options: taken off a packet before the rest of the stack sees it.
//!
//! Load balancers and tracers add options that ask nothing of the receiver: fillers, time stamps, a client's address, a
//! route recorded on the way. They are ignored, as RFC 1122 §3.2.1.8 wants of what a host does not know. A source route
//! would have the answer go where a stranger wants it; such a packet is dropped (RFC 7126 §4.3, §4.4).
//!
//! Invariant: what [`take_off`] leaves is a packet with a plain header and a right checksum, so that no other code
//! knows of options. Answers carry none. Read first: RFC 791 §3.1, "Options".

use nic::checksum;

use crate::drop_reason::DropReason;
use crate::link::{ETHERNET_BYTES, ETHERTYPE_VLAN, TAGGED_BYTES};
use crate::wire::IPV4_BYTES;

/// The end of the list, and a filler: the two options of a single byte.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Loose and strict source route.
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Takes the options off the IPv4 packet in `frame`: moves what follows them forward, and makes length and checksum of
/// the header those of one without options. The frame keeps its length; what is left over is padding.
///
/// # Errors
/// The packet is too short, its checksum is wrong, the options do not parse, or one is a source route.
pub(crate) fn take_off(frame: &mut [u8]) -> Result<(), DropReason> {
    let tagged = frame.get(12..14) == Some(&ETHERTYPE_VLAN.to_be_bytes());
    let at = if tagged { TAGGED_BYTES } else { ETHERNET_BYTES };
    let packet = frame.get_mut(at..).ok_or(DropReason::IpTooShort)?;
    let header_len = packet.first().map_or(0, |byte| usize::from(byte & 15) * 4);
    let header = packet.get(..header_len).filter(|header| header.len() >= IPV4_BYTES).ok_or(DropReason::IpTooShort)?;
    if !checksum::is_right(checksum::add(0, header)) {
        return Err(DropReason::IpChecksum);
    }
    let packet_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if packet_len < header_len || packet_len > packet.len() {
        return Err(DropReason::IpTooShort);
    }
    check(&header[IPV4_BYTES..])?;
    packet.copy_within(header_len..packet_len, IPV4_BYTES);
    let len = (packet_len - header_len + IPV4_BYTES) as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::field(checksum::add(0, &packet[..IPV4_BYTES]));
    packet[10..12].copy_from_slice(&sum);
    Ok(())
}

/// Goes through the options: each has its length within them, and none is a source route.
fn check(mut options: &[u8]) -> Result<(), DropReason> {
    loop {
        match options {
            [] | [END, ..] => return Ok(()),
            [NO_OPERATION, rest @ ..] => options = rest,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return Err(DropReason::IpSourceRoute),
            [_, len, ..] if *len >= 2 => {
                options = options.get(usize::from(*len)..).ok_or(DropReason::IpOptions)?;
            }
            _ => return Err(DropReason::IpOptions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parses_and_routes_nothing_is_taken() {
        let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
        let toa = [254, 8, 0x1f, 0x90, 10, 0, 0, 9];
        for good in [&[][..], &[1, 1, 1, 1], &[0, 9, 9, 9], &record_route, &toa, &[148, 4, 0, 0], &[1, 136, 2, 0]] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for route in [[131, 7, 4, 10, 0, 0, 9, 0], [1, 137, 3, 4, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 131]] {
            assert_eq!(check(&route), Err(DropReason::IpSourceRoute), "{route:?}");
        }
        for broken in
            [[7, 9, 4, 0, 0, 0, 0, 0], [1, 7, 0, 0, 0, 0, 0, 0], [7, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 7]]
        {
            assert_eq!(check(&broken), Err(DropReason::IpOptions), "{broken:?}");
        }
    }

    /// A frame whose packet has 4 bytes of options, 6 bytes behind them, and says that it is `total_len` long.
    fn frame(total_len: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_BYTES];
        frame.extend([0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1]);
        frame[16..18].copy_from_slice(&total_len.to_be_bytes());
        let sum = checksum::field(checksum::add(0, &frame[ETHERNET_BYTES..]));
        frame[24..26].copy_from_slice(&sum);
        frame.extend(*b"behind");
        frame
    }

    #[test]
    fn a_length_that_ends_within_the_header_or_beyond_the_frame_is_refused() {
        for (total_len, wanted) in [
            (0, Err(DropReason::IpTooShort)),
            (23, Err(DropReason::IpTooShort)),
            (24, Ok((20, &b""[..]))),
            (30, Ok((26, &b"behind"[..]))),
            (31, Err(DropReason::IpTooShort)),
        ] {
            let mut frame = frame(total_len);
            let left = take_off(&mut frame).map(|()| {
                let len = u16::from_be_bytes([frame[16], frame[17]]);
                (len, &frame[ETHERNET_BYTES + IPV4_BYTES..ETHERNET_BYTES + usize::from(len)])
            });
            assert_eq!(left, wanted, "{total_len}");
        }
    }
}
