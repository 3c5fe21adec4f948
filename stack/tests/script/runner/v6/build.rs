//! Frames written from the IPv6 packets of a script.

use std::net::Ipv6Addr;

use nic::checksum;

use super::super::packet::{Conversation, Ends, pattern};
use super::layers::{Bend, Extension, Fragment, Header, Icmp, Packet, Payload};
use super::names::{Station, Where};

const TCP: u8 = 6;
const UDP: u8 = 17;
pub const ICMP: u8 = 58;

/// A payload that is not in its packet yet.
struct Upper {
    protocol: u8,
    bytes: Vec<u8>,
    /// Where its checksum stands.
    sum_at: Option<usize>,
    /// What the header says unless the script does.
    source: Where,
    destination: Where,
    hop_limit: u8,
}

/// The frame of a packet of the peer's; what it says of a connection is of `conversation`.
pub fn frame(packet: &Packet, ends: &Ends, conversation: &mut Conversation) -> Vec<u8> {
    let mut upper = upper(&packet.payload, ends, conversation);
    let Header { source, destination, hop_limit, station, length } = &packet.header;
    let source = source.as_ref().unwrap_or(&upper.source).resolve(ends);
    let destination = destination.as_ref().unwrap_or(&upper.destination).resolve(ends);
    bend(&mut upper, &packet.bend, source, destination);
    let (protocol, mut body) = (upper.protocol, upper.bytes);
    let mut next = protocol;
    for extension in packet.extensions.iter().rev() {
        body = extend(extension, next, body);
        next = number_of(extension);
    }
    let mut frame = ethernet_to(destination, ends.host_mac).to_vec();
    frame.extend(station.unwrap_or(Station::Peer).resolve(ends));
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(length.unwrap_or(body.len() as u16).to_be_bytes());
    frame.extend([next, hop_limit.unwrap_or(upper.hop_limit)]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(body);
    frame
}

/// The station of a packet for this address: a group's own (RFC 2464 §7), or that of the host.
fn ethernet_to(destination: Ipv6Addr, host: [u8; 6]) -> [u8; 6] {
    let [.., a, b, c, d] = destination.octets();
    if destination.is_multicast() { [0x33, 0x33, a, b, c, d] } else { host }
}

fn number_of(extension: &Extension) -> u8 {
    match extension {
        Extension::Options(number, _) => *number,
        Extension::Routing(..) => 43,
        Extension::Fragment(_) => 44,
        Extension::Authentication => 51,
    }
}

/// `body`, which begins with a header of the number `next`, behind an extension header.
fn extend(extension: &Extension, next: u8, body: Vec<u8>) -> Vec<u8> {
    let mut header = match extension {
        Extension::Options(_, options) => {
            let mut header = [&[next, 0], &options[..]].concat();
            match header.len().next_multiple_of(8) - header.len() {
                0 => {}
                1 => header.push(0),
                missing => {
                    header.extend([1, (missing - 2) as u8]);
                    header.resize(header.len() + missing - 2, 0);
                }
            }
            header[1] = (header.len() / 8 - 1) as u8;
            header
        }
        // One address for each segment left, all of them nobody's.
        Extension::Routing(kind, left) => {
            let mut header = vec![next, 2 * left, *kind, *left, 0, 0, 0, 0];
            header.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets().repeat(usize::from(*left)));
            header
        }
        Extension::Fragment(fragment) => return cut(fragment, next, &body),
        Extension::Authentication => [&[next, 2][..], &[0; 14]].concat(),
    };
    header.extend(body);
    header
}

fn cut(fragment: &Fragment, next: u8, body: &[u8]) -> Vec<u8> {
    let offset = fragment.at.unwrap_or(fragment.from as u16);
    let mut header = vec![next, 0];
    header.extend((offset & !7 | u16::from(fragment.more)).to_be_bytes());
    header.extend(fragment.id.to_be_bytes());
    header.extend(&body[fragment.from.min(body.len())..fragment.to.unwrap_or(body.len()).min(body.len())]);
    header
}

/// Bends a payload as the script says, and sums it.
fn bend(upper: &mut Upper, bend: &Bend, source: Ipv6Addr, destination: Ipv6Addr) {
    if let Some(code) = bend.code {
        upper.bytes[1] = code;
    }
    upper.bytes.truncate(bend.cut.unwrap_or(usize::MAX));
    let Some(at) = upper.sum_at.filter(|&at| at + 2 <= upper.bytes.len()) else { return };
    upper.bytes[at..at + 2].fill(0);
    if bend.no_sum {
        return;
    }
    let (source, destination) = (source.octets(), destination.octets());
    let sum = checksum::pseudo_header_v6(source, destination, upper.protocol, upper.bytes.len() as u32);
    let field = match checksum::field(checksum::add(sum, &upper.bytes)) {
        // Zero would mean that there is none (RFC 8200 §8.1).
        [0, 0] if upper.protocol == UDP => [0xff, 0xff],
        field => field,
    };
    upper.bytes[at..at + 2].copy_from_slice(&field);
    if bend.wrong_sum {
        upper.bytes[at + 1] ^= 1;
    }
}

fn upper(payload: &Payload, ends: &Ends, conversation: &mut Conversation) -> Upper {
    let (source, destination, hop_limit) = (Where::Peer, Where::Host, 64);
    match payload {
        Payload::Segment(segment) => {
            let bytes = conversation.write(ends, segment)[14 + 40..].to_vec();
            Upper { protocol: TCP, bytes, sum_at: Some(16), source, destination, hop_limit }
        }
        Payload::Udp { from, to, len } => {
            let mut bytes = [from.to_be_bytes(), to.to_be_bytes(), (8 + *len as u16).to_be_bytes(), [0, 0]].concat();
            bytes.extend((0..*len).map(pattern));
            Upper { protocol: UDP, bytes, sum_at: Some(6), source, destination, hop_limit }
        }
        Payload::Other(protocol, len) => {
            let bytes = (0..*len).map(pattern).collect();
            Upper { protocol: *protocol, bytes, sum_at: None, source, destination, hop_limit }
        }
        Payload::Icmp(icmp) => {
            let (bytes, destination, hop_limit) = message(icmp, ends, conversation);
            Upper { protocol: ICMP, bytes, sum_at: Some(2), source, destination, hop_limit }
        }
    }
}

/// A message of ICMPv6, and to whom and with which hop limit such a one goes.
fn message(icmp: &Icmp, ends: &Ends, conversation: &Conversation) -> (Vec<u8>, Where, u8) {
    let host = Where::Host;
    match icmp {
        Icmp::Echo { id, seq, len } => {
            let mut bytes = [&[128, 0, 0, 0][..], &id.to_be_bytes(), &seq.to_be_bytes()].concat();
            bytes.extend((0..*len).map(pattern));
            (bytes, host, 64)
        }
        Icmp::Solicitation { target, source } => {
            let mut bytes = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.resolve(ends).octets()].concat();
            link_address(&mut bytes, 1, *source, ends);
            (bytes, Where::Group(Box::new(target.clone())), 255)
        }
        Icmp::Advertisement { target, flags, station } => {
            let mut bytes = [&[136, 0, 0, 0, *flags, 0, 0, 0][..], &target.resolve(ends).octets()].concat();
            link_address(&mut bytes, 2, *station, ends);
            (bytes, host, 255)
        }
        Icmp::RouterAdvertisement { lifetime, prefix, mtu, source } => {
            let mut bytes = vec![134, 0, 0, 0, 64, 0];
            bytes.extend(lifetime.to_be_bytes());
            bytes.extend([0; 8]);
            if let Some((address, len)) = prefix {
                // On the link, not for addresses (RFC 4861 §4.6.2), for an hour.
                bytes.extend([3, 4, *len, 0x80]);
                bytes.extend(3_600_u32.to_be_bytes().repeat(2));
                bytes.extend([0; 4]);
                bytes.extend(address.octets());
            }
            if let Some(mtu) = mtu {
                bytes.extend([5, 1, 0, 0]);
                bytes.extend(mtu.to_be_bytes());
            }
            link_address(&mut bytes, 1, *source, ends);
            (bytes, Where::AllNodes, 255)
        }
        Icmp::Redirect { target, destination } => {
            let mut bytes = vec![137, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend(target.resolve(ends).octets());
            bytes.extend(destination.resolve(ends).octets());
            (bytes, host, 255)
        }
        Icmp::Error { kind, code, word, seq, len, .. } => {
            let mut bytes = vec![*kind, *code, 0, 0];
            bytes.extend(word.to_be_bytes());
            bytes.extend(conversation.quote_v6(ends, *seq, *len));
            (bytes, host, 64)
        }
    }
}

/// A link-layer address option (RFC 4861 §4.6.1).
fn link_address(bytes: &mut Vec<u8>, kind: u8, station: Option<Station>, ends: &Ends) {
    if let Some(station) = station {
        bytes.extend([kind, 1]);
        bytes.extend(station.resolve(ends));
    }
}

/// The answer of `address` at `mac` to a solicitation for it in `frame`; `None` if it is none.
pub fn answer(frame: &[u8], address: Ipv6Addr, mac: [u8; 6]) -> Option<Vec<u8>> {
    let body = frame.get(54..78).filter(|_| frame[12..14] == [0x86, 0xdd] && frame[20] == ICMP)?;
    if body[0] != 135 || body[8..24] != address.octets() {
        return None;
    }
    let to: [u8; 16] = *frame[22..].first_chunk()?;
    let mut bytes = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &address.octets(), &[2, 1], &mac].concat();
    let sum = checksum::pseudo_header_v6(address.octets(), to, ICMP, bytes.len() as u32);
    let field = checksum::field(checksum::add(sum, &bytes));
    bytes[2..4].copy_from_slice(&field);
    let mut answer = [&frame[6..12], &mac, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, bytes.len() as u8, ICMP, 255]].concat();
    answer.extend(address.octets());
    answer.extend(to);
    answer.extend(bytes);
    Some(answer)
}

/// Whether a frame is said whenever, and to no one in particular: a report of groups (MLD, RFC 3810 §5.2), or a question for
/// routers (RFC 4861 §6.3.7).
pub fn is_said_whenever(frame: &[u8]) -> bool {
    if frame.get(12..15).is_none_or(|start| start != [0x86, 0xdd, 0x60]) {
        return false;
    }
    // A report stands behind a hop-by-hop header with the router alert.
    let is_report = frame[20] == 0 && frame.get(54) == Some(&ICMP);
    is_report || frame[20] == ICMP && frame.get(54) == Some(&133)
}

/// Whether a frame is of neighbour discovery.
pub fn is_ndp(frame: &[u8]) -> bool {
    frame.get(12..14).is_some_and(|kind| kind == [0x86, 0xdd])
        && frame[20] == ICMP
        && frame.get(54).is_some_and(|kind| (133..=137).contains(kind))
}
