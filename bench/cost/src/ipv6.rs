//! The same frames over IPv6: what clients write and read as IPv4 goes to the server and comes from it as IPv6.
//!
//! Outside of what is measured. The address 10.0.0.1 is fd77::a00:1.

use std::net::{Ipv4Addr, Ipv6Addr};

use nic::checksum;

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const PROTOCOL_TCP: u8 = 6;
/// Where the sum is in a TCP header.
const SUM: usize = 16;

/// By what the host with this address goes over IPv6.
pub fn address(of: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd77_0000_0000_0000_0000_0000_0000_0000 | u128::from(of.to_bits()))
}

/// Makes the frame of a segment over IPv4 one over IPv6.
pub fn make_ipv6(frame: &mut Vec<u8>) {
    let ends = [12, 16].map(|from| {
        let octets = frame[ETHERNET_BYTES + from..].first_chunk::<4>().copied().unwrap_or_default();
        address(Ipv4Addr::from(octets))
    });
    let segment = frame.split_off(ETHERNET_BYTES + IPV4_BYTES);
    frame.truncate(ETHERNET_BYTES - 2);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((segment.len() as u16).to_be_bytes());
    frame.extend([PROTOCOL_TCP, 64]);
    frame.extend(ends.iter().flat_map(Ipv6Addr::octets));
    frame.extend(&segment);
    let pseudo = checksum::pseudo_header_v6(ends[0].octets(), ends[1].octets(), PROTOCOL_TCP, segment.len() as u32);
    resum(&mut frame[ETHERNET_BYTES + IPV6_BYTES..], pseudo);
}

/// The frame over IPv4 that the frame of a segment over IPv6 would have been; `None`: it is no such frame, or its sum is
/// wrong.
pub fn as_ipv4(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, segment) = frame.split_at_checked(ETHERNET_BYTES + IPV6_BYTES)?;
    let (link, ip) = header.split_at(ETHERNET_BYTES);
    if link[12..] != [0x86, 0xdd] || ip[6] != PROTOCOL_TCP {
        return None;
    }
    let [source, destination] = [8, 24].map(|from| ip[from..].first_chunk::<16>().copied().unwrap_or_default());
    let pseudo = checksum::pseudo_header_v6(source, destination, PROTOCOL_TCP, segment.len() as u32);
    if !checksum::is_right(checksum::add(pseudo, segment)) {
        return None;
    }
    let mut read = link[..12].to_vec();
    let total = (IPV4_BYTES + segment.len()) as u16;
    read.extend([8, 0, 0x45, 0]);
    read.extend(total.to_be_bytes());
    read.extend([0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
    read.extend(&source[12..]);
    read.extend(&destination[12..]);
    let sum = checksum::field(checksum::add(0, &read[ETHERNET_BYTES..]));
    read[ETHERNET_BYTES + 10..ETHERNET_BYTES + 12].copy_from_slice(&sum);
    read.extend(segment);
    let ends = [&source[12..], &destination[12..]].map(|end| end.first_chunk::<4>().copied().unwrap_or_default());
    let pseudo = checksum::pseudo_header(ends[0], ends[1], PROTOCOL_TCP, segment.len() as u16);
    resum(&mut read[ETHERNET_BYTES + IPV4_BYTES..], pseudo);
    Some(read)
}

/// Writes the sum of a segment, `pseudo` being that of its pseudo-header.
fn resum(segment: &mut [u8], pseudo: u64) {
    segment[SUM..SUM + 2].fill(0);
    let sum = checksum::field(checksum::add(pseudo, segment));
    segment[SUM..SUM + 2].copy_from_slice(&sum);
}
