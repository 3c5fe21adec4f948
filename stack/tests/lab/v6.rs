//! IPv6 packets made by hand.

use std::net::Ipv6Addr;

use nic::checksum;
use sidestep_stack::{Mac, StackConfig};

use super::raw::Tcp;
use super::{OWN, PEER, PORT};

pub const US: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
pub const THEM: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

/// Next headers.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
pub const ICMP: u8 = 58;

/// Types of messages of neighbour discovery (RFC 4861 §4).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;
pub const REDIRECT: u8 = 137;

/// All nodes of the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A host with the address [`US`] and no other.
pub fn config() -> StackConfig {
    let mut config = StackConfig::new(US, 64, OWN);
    config.ports = vec![PORT];
    config
}

/// The station of packets for `destination`: a group's own (RFC 2464 §7), or ours.
fn station_of(destination: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = destination.octets();
    if destination.is_multicast() { Mac([0x33, 0x33, a, b, c, d]) } else { OWN }
}

/// The frame of a packet from an address at a station, whatever `body` is.
pub fn packet(
    (source, mac): (Ipv6Addr, Mac),
    destination: Ipv6Addr,
    (next, hop_limit): (u8, u8),
    body: &[u8],
) -> Vec<u8> {
    let mut frame = station_of(destination).0.to_vec();
    frame.extend(mac.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([next, hop_limit]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(body);
    frame
}

/// The same with a right checksum, whose place in `body` is given.
pub fn summed(from: (Ipv6Addr, Mac), destination: Ipv6Addr, kind: (u8, u8), body: &[u8], sum_at: usize) -> Vec<u8> {
    let mut body = body.to_vec();
    body[sum_at..sum_at + 2].fill(0);
    let sum = checksum::pseudo_header_v6(from.0.octets(), destination.octets(), kind.0, body.len() as u32);
    let field = checksum::field(checksum::add(sum, &body));
    body[sum_at..sum_at + 2].copy_from_slice(&field);
    packet(from, destination, kind, &body)
}

/// The frame that carries a segment from the peer at `source`.
pub fn frame_from(segment: &Tcp, source: Ipv6Addr) -> Vec<u8> {
    // The header of TCP is the same but for its checksum.
    let over_ipv4 = segment.frame();
    summed((source, PEER), US, (TCP, 64), &over_ipv4[14 + 20..], 16)
}

/// The frame that carries a segment from the peer.
pub fn frame(segment: &Tcp) -> Vec<u8> {
    frame_from(segment, THEM)
}

/// A datagram from `source` to our port.
pub fn datagram(source: Ipv6Addr, (from, to): (u16, u16), data: &[u8]) -> Vec<u8> {
    let head = [from.to_be_bytes(), to.to_be_bytes(), (8 + data.len() as u16).to_be_bytes(), [0, 0]].concat();
    summed((source, PEER), US, (UDP, 64), &[&head, data].concat(), 6)
}

/// A message of neighbour discovery (RFC 4861 §4) of this type, behind whose four first bytes `rest` stands.
pub fn discovery(from: (Ipv6Addr, Mac), destination: Ipv6Addr, kind: u8, rest: &[u8]) -> Vec<u8> {
    summed(from, destination, (ICMP, 255), &[&[kind, 0, 0, 0], rest].concat(), 2)
}

/// A solicitation or advertisement about `target` with these flags, and a link-layer address option of the sender's station.
pub fn neighbor(from: (Ipv6Addr, Mac), destination: Ipv6Addr, kind: u8, flags: u8, target: Ipv6Addr) -> Vec<u8> {
    let option = if kind == SOLICITATION { 1 } else { 2 };
    let rest = [&[flags, 0, 0, 0][..], &target.octets(), &[option, 1], &from.1.0].concat();
    discovery(from, destination, kind, &rest)
}

/// The solicited-node group of an address (RFC 4291 §2.7.1).
pub fn group_of(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, mid, low] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(high), u16::from_be_bytes([mid, low]))
}

/// The solicitations among `frames`: to whom, from whom, and for whom.
pub fn solicited(frames: &[Vec<u8>]) -> Vec<(Ipv6Addr, Ipv6Addr, Ipv6Addr)> {
    let address = |frame: &[u8], at: usize| Ipv6Addr::from(*frame[at..].first_chunk::<16>().expect("it is whole"));
    let is_solicitation = |frame: &&Vec<u8>| {
        frame.len() >= 78 && frame[12..14] == [0x86, 0xdd] && frame[20] == ICMP && frame[54] == SOLICITATION
    };
    frames
        .iter()
        .filter(is_solicitation)
        .map(|frame| (address(frame, 38), address(frame, 22), address(frame, 62)))
        .collect()
}
