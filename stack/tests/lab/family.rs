//! The same tests over IPv6: what the tests write and read as IPv4 is IPv6 on the wire.
//!
//! The binaries `ipv6`, `trains6` and `mixed` have the files of other tests as modules, and their laboratory knows by its own path that
//! it is there. Over IPv6 a host with the address 10.77.0.1 is fd77::a4d:1; an MTU is 20 bytes more, so that segments are as
//! long as they were. In `mixed` the stacks have both addresses, and what tests make by hand stays IPv4.

use std::net::{Ipv4Addr, Ipv6Addr};

use nic::{PortConfig, checksum};
use sidestep_stack::{OwnAddress, StackConfig};

/// Over what the tests of this binary are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
    /// Both.
    Mixed,
}

/// That of this binary.
pub const FAMILY: Family = {
    match module_path!().as_bytes() {
        [b'i', b'p', b'v', b'6', b':', ..] => Family::Ipv6,
        [b't', b'r', b'a', b'i', b'n', b's', b'6', b':', ..] => Family::Ipv6,
        [b'm', b'i', b'x', b'e', b'd', b':', ..] => Family::Mixed,
        _ => Family::Ipv4,
    }
};

/// Bytes of the longest segment to a peer that offers no size (RFC 9293 §3.7.1).
pub const USUAL_MSS: usize = match FAMILY {
    Family::Ipv4 | Family::Mixed => 536,
    Family::Ipv6 => 1_220,
};

/// Whether the wires of this binary take trains, as a veth does.
pub const TRAINS: bool = matches!(module_path!().as_bytes(), [b't', b'r', b'a', b'i', b'n', b's', b'6' | b':', ..]);

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

/// By what the host with this IPv4 address goes in IPv6.
pub fn in_ipv6(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// The configuration of a stack in the tests of this binary, which over IPv4 is `config`.
pub fn configured(mut config: StackConfig) -> StackConfig {
    if FAMILY == Family::Ipv4 {
        return config;
    }
    let address = in_ipv6(config.address);
    config.others.push(OwnAddress::new(address, 64));
    if FAMILY == Family::Mixed {
        config.ip_mtu = config.ip_mtu.max(1_280);
    } else {
        config.address = Ipv4Addr::UNSPECIFIED;
        (config.addresses, config.ip_mtu) = (0, config.ip_mtu + 20);
    }
    config
}

/// A port of the wire whose frames hold the packets of a stack so configured.
pub fn port(config: PortConfig) -> PortConfig {
    let longer = if FAMILY == Family::Ipv6 { 20 } else { 0 };
    PortConfig { max_frame_bytes: config.max_frame_bytes + longer, trains: config.trains || TRAINS, ..config }
}

/// Where the IPv4 packet of `frame` begins, if it is a whole one of TCP or UDP.
fn packet_at(frame: &[u8]) -> Option<usize> {
    let at = if frame.get(12..14)? == [0x81, 0] { ETHERNET_BYTES + 4 } else { ETHERNET_BYTES };
    let packet = frame.get(at..)?;
    let of_ipv4 = frame[at - 2..at] == [8, 0] && packet.first() == Some(&0x45) && packet.len() >= IPV4_BYTES;
    let whole = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff == 0;
    (of_ipv4 && whole && matches!(packet[9], 6 | 17)).then_some(at)
}

/// A frame that a test sends, as it is on the wire. A wrong sum stays wrong.
pub fn to_wire(frame: &[u8]) -> Vec<u8> {
    let Some(at) = packet_at(frame).filter(|_| FAMILY == Family::Ipv6) else { return frame.to_vec() };
    let (ip, _) = frame[at..].split_at(IPV4_BYTES);
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]])).clamp(IPV4_BYTES, frame.len() - at);
    let message = &frame[at + IPV4_BYTES..at + total];
    let address = |from: usize| Ipv4Addr::new(ip[from], ip[from + 1], ip[from + 2], ip[from + 3]);
    let (source, destination) = (address(12), address(16));
    let mut sent = frame[..at - 2].to_vec();
    sent.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    sent.extend((message.len() as u16).to_be_bytes());
    sent.extend([ip[9], ip[8]]);
    sent.extend(in_ipv6(source).octets());
    sent.extend(in_ipv6(destination).octets());
    sent.extend(message);
    let at_sum = if ip[9] == 6 { 16 } else { 6 };
    let (from, to) = (in_ipv6(source).octets(), in_ipv6(destination).octets());
    let old = checksum::pseudo_header(source.octets(), destination.octets(), ip[9], message.len() as u16);
    let new = checksum::pseudo_header_v6(from, to, ip[9], message.len() as u32);
    resum(&mut sent[at + IPV6_BYTES..], at_sum, old, new);
    sent
}

/// A frame that the stack has sent, as the tests read it. One that was damaged on its way stays so: its sum is wrong.
pub fn from_wire(frame: &[u8]) -> Vec<u8> {
    whole_from_wire(frame).unwrap_or_else(|| frame.to_vec())
}

/// The same of one whose headers are those of a segment or datagram of the stack's.
fn whole_from_wire(frame: &[u8]) -> Option<Vec<u8>> {
    let at = if frame.get(12..14)? == [0x81, 0] { ETHERNET_BYTES + 4 } else { ETHERNET_BYTES };
    let (ip, message) = frame.get(at..)?.split_at_checked(IPV6_BYTES)?;
    let whole = usize::from(u16::from_be_bytes([ip[4], ip[5]])) == message.len();
    let [source, destination] = [8, 24].map(|from| {
        let octets: [u8; 16] = ip[from..from + 16].try_into().expect("sixteen");
        (octets, Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]))
    });
    let known = [source, destination].iter().all(|(octets, address)| in_ipv6(*address).octets() == *octets);
    let protocol = ip[6];
    // Version, traffic class and hop limit are what they always are.
    let usual = ip[0] == 0x60 && ip[1] >> 4 == 0 && ip[7] == 64;
    if frame[at - 2..at] != [0x86, 0xdd] || !matches!(protocol, 6 | 17) || !(whole && known && usual) {
        return None;
    }
    let new = checksum::pseudo_header_v6(source.0, destination.0, protocol, message.len() as u32);
    let mut read = frame[..at - 2].to_vec();
    let total = (IPV4_BYTES + message.len()) as u16;
    read.extend([8, 0, 0x45, 0]);
    read.extend(total.to_be_bytes());
    read.extend([0, 0, 0x40, 0, ip[7], protocol, 0, 0]);
    read.extend(source.1.octets());
    read.extend(destination.1.octets());
    let sum = checksum::field(checksum::add(0, &read[at..at + IPV4_BYTES]));
    read[at + 10..at + 12].copy_from_slice(&sum);
    read.extend(message);
    let old = checksum::pseudo_header(source.1.octets(), destination.1.octets(), protocol, message.len() as u16);
    resum(&mut read[at + IPV4_BYTES..], if protocol == 6 { 16 } else { 6 }, new, old);
    Some(read)
}

/// Has the sum at `at` in `message`, which was right or wrong with the pseudo-header's sum `old`, be so with `new`.
fn resum(message: &mut [u8], at: usize, old: u64, new: u64) {
    let Some(field) = message.get(at..at + 2).map(|field| [field[0], field[1]]) else { return };
    if field == [0, 0] && at == 6 {
        // A datagram without one.
        return;
    }
    let right = checksum::is_right(checksum::add(old, message));
    message[at..at + 2].fill(0);
    let sum = checksum::field(checksum::add(new, message));
    let sum = if right { sum } else { [sum[0] ^ 0x55, sum[1]] };
    message[at..at + 2].copy_from_slice(&sum);
}
