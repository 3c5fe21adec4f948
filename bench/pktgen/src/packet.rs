//! Frames: what one is (`classify`), and the UDP frames that ping and tx send (`UdpTemplate`).
//!
//! A frame as sent, 60 bytes and up over IPv4, 80 over IPv6: Ethernet 14, IPv4 20 without options or IPv6 40 without
//! extension headers, UDP 8, `Stamp` 18, then a pattern. Bytes that never change are copied from the template; the UDP
//! checksum of those is summed once, and a frame adds its own. Read first: RFC 791 §3.1, RFC 8200 §3, RFC 768.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use etherparse::checksum::Sum16BitWords;
use nic::Mac;

use crate::station::Station;
use crate::tally::DropReason;

/// Shortest frame on Ethernet, without its check sequence of 4 bytes (IEEE 802.3 §3.2.7).
pub const FRAME_BYTES_MIN: usize = 60;
/// Where the IP header starts.
pub const IP_AT: usize = 14;
/// Where the stamp starts, from the UDP header on.
const STAMP_AT: usize = 8;
/// Where the pattern starts, from the UDP header on.
const PATTERN_AT: usize = STAMP_AT + STAMP_BYTES;
/// Slot 2, sequence number 8, time of sending 8.
const STAMP_BYTES: usize = 18;

/// Next header of ICMPv6 (RFC 4443 §1).
pub const ICMP_V6: u8 = 58;
/// A neighbour solicitation among ICMPv6's types (RFC 4861 §4.3).
pub const SOLICITATION: u8 = 135;
/// A neighbour advertisement (RFC 4861 §4.4).
pub const ADVERTISEMENT: u8 = 136;

const ETHER_TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_TYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ETHER_TYPE_ARP: [u8; 2] = [0x08, 0x06];
/// Next header of IPv6's fragment header (RFC 8200 §4.5).
const FRAGMENT_HEADER: u8 = 44;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Shortest frame that ping and tx send to an address of this family: with headers and stamp.
pub fn frame_bytes_min(address: IpAddr) -> usize {
    (udp_at(address) + PATTERN_AT).max(FRAME_BYTES_MIN)
}

/// Where the UDP header of a frame of ours starts.
fn udp_at(address: IpAddr) -> usize {
    IP_AT + if address.is_ipv4() { 20 } else { 40 }
}

/// What a received frame is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ARP, or a solicitation or advertisement of neighbour discovery.
    Neighbor,
    /// TCP or UDP for our address.
    Ours {
        /// Where the TCP or UDP header starts; at least 8 bytes follow.
        transport_at: usize,
        /// Whether it is UDP.
        udp: bool,
    },
    /// Not to be used.
    Drop(DropReason),
}

/// Says what a frame is, from its headers. No checksum is looked at.
#[inline]
pub fn classify(frame: &[u8], ours: IpAddr) -> Class {
    match ours {
        IpAddr::V4(ours) => classify_v4(frame, ours.octets()),
        IpAddr::V6(ours) => classify_v6(frame, ours.octets()),
    }
}

fn classify_v4(frame: &[u8], ours: [u8; 4]) -> Class {
    use DropReason::{Fragment, Group, OtherAddress, OtherFamily, OtherProtocol, Truncated};
    let Some((ethernet, packet)) = frame.split_at_checked(IP_AT) else { return Class::Drop(Truncated) };
    if ethernet[12..14] == ETHER_TYPE_ARP {
        return Class::Neighbor;
    }
    if ethernet[12..14] != ETHER_TYPE_IPV4 {
        return Class::Drop(OtherFamily);
    }
    let Some(header) = packet.get(..20) else { return Class::Drop(Truncated) };
    if header[0] >> 4 != 4 {
        return Class::Drop(OtherFamily);
    }
    if header[16..20] != ours {
        return Class::Drop(OtherAddress);
    }
    if is_group(ethernet) {
        return Class::Drop(Group);
    }
    // More fragments, or an offset.
    if header[6] & 0x3f != 0 || header[7] != 0 {
        return Class::Drop(Fragment);
    }
    let udp = header[9] == UDP;
    if !udp && header[9] != TCP {
        return Class::Drop(OtherProtocol);
    }
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_bytes < 20 || total_bytes < header_bytes + 8 || packet.len() < total_bytes {
        return Class::Drop(Truncated);
    }
    Class::Ours { transport_at: IP_AT + header_bytes, udp }
}

fn classify_v6(frame: &[u8], ours: [u8; 16]) -> Class {
    use DropReason::{Fragment, Group, OtherAddress, OtherFamily, OtherProtocol, Truncated};
    let Some((ethernet, packet)) = frame.split_at_checked(IP_AT) else { return Class::Drop(Truncated) };
    if ethernet[12..14] != ETHER_TYPE_IPV6 {
        return Class::Drop(OtherFamily);
    }
    let Some(header) = packet.get(..40) else { return Class::Drop(Truncated) };
    if header[0] >> 4 != 6 {
        return Class::Drop(OtherFamily);
    }
    // A solicitation is sent to a group.
    if header[6] == ICMP_V6 && matches!(packet.get(40), Some(&(SOLICITATION | ADVERTISEMENT))) {
        return Class::Neighbor;
    }
    if header[24..40] != ours {
        return Class::Drop(OtherAddress);
    }
    if is_group(ethernet) {
        return Class::Drop(Group);
    }
    if header[6] == FRAGMENT_HEADER {
        return Class::Drop(Fragment);
    }
    let udp = header[6] == UDP;
    if !udp && header[6] != TCP {
        return Class::Drop(OtherProtocol);
    }
    let payload_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_bytes < 8 || packet.len() < 40 + payload_bytes {
        return Class::Drop(Truncated);
    }
    Class::Ours { transport_at: IP_AT + 40, udp }
}

/// Whether either Ethernet address is a group's: the lowest bit of its first byte says so; see `Mac::is_unicast`.
fn is_group(ethernet: &[u8]) -> bool {
    (ethernet[0] | ethernet[6]) & 1 != 0
}

/// The destination port of a frame that [`classify`] called ours.
pub fn destination_port(frame: &[u8], transport_at: usize) -> u16 {
    frame.get(transport_at + 2..transport_at + 4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]))
}

/// Turns a frame that [`classify`] called ours round: Ethernet addresses, IP addresses and ports change places.
///
/// No checksum changes: the same words are summed in another order (RFC 1071 §2).
pub fn reflect(frame: &mut [u8], transport_at: usize) {
    swap_halves(frame, 0, 6);
    if frame.get(IP_AT).is_some_and(|first| first >> 4 == 6) {
        swap_halves(frame, IP_AT + 8, 16);
    } else {
        swap_halves(frame, IP_AT + 12, 4);
    }
    swap_halves(frame, transport_at, 2);
}

fn swap_halves(frame: &mut [u8], at: usize, bytes: usize) {
    if let Some((first, second)) = frame.get_mut(at..at + 2 * bytes).map(|both| both.split_at_mut(bytes)) {
        first.swap_with_slice(second);
    }
}

/// What a frame of ours carries to be known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Where the sender keeps its record of the frame.
    pub slot: u16,
    /// Number of the frame; see [`Shot::sequence`](crate::sender::Shot::sequence).
    pub sequence: u64,
    /// When it was to be sent, in nanoseconds of the sender's clock.
    pub sent_nanos: u64,
}

/// Source and destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Source.
    pub source: u16,
    /// Destination.
    pub destination: u16,
}

/// A UDP frame but for ports, stamp and UDP checksum.
#[derive(Debug, Clone)]
pub struct UdpTemplate {
    bytes: Vec<u8>,
    /// Where the UDP header starts; the two addresses end there.
    udp_at: usize,
    /// Bytes of an address.
    address_bytes: usize,
    /// Sum of the pseudo-header, the UDP length and the pattern.
    sum: Sum16BitWords,
    /// The sender and the receiver of an answer, as they stand in its header.
    addresses_of_answer: Vec<u8>,
}

/// The sum of UDP's pseudo-header: both addresses, as they stand in the IP header, protocol and length. That of IPv6
/// (RFC 8200 §8.1) has more zeros than that of IPv4 (RFC 768), which add nothing.
fn pseudo_header(addresses: &[u8], udp_bytes: [u8; 2]) -> Sum16BitWords {
    Sum16BitWords::new().add_slice(addresses).add_2bytes([0, UDP]).add_2bytes(udp_bytes)
}

impl UdpTemplate {
    /// Frames of `frame_bytes` ([`frame_bytes_min`] to 65,535) from us to the peer, whose address must be of the family of
    /// ours: else it is an IPv6 packet between addresses with the IPv4 one mapped (RFC 4291 §2.5.5.2), which nobody answers.
    pub fn new(from: Station, to_mac: Mac, to: IpAddr, frame_bytes: usize) -> Self {
        let frame_bytes = frame_bytes.clamp(frame_bytes_min(from.address), usize::from(u16::MAX));
        let udp_at = udp_at(from.address);
        let mut payload = vec![0; frame_bytes - udp_at - STAMP_AT];
        for (at, byte) in payload[STAMP_BYTES..].iter_mut().enumerate() {
            // Any odd factor: neighbours differ, and so do the bytes 256 apart.
            *byte = (at as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
        }
        let ethernet = PacketBuilder::ethernet2(from.mac.0, to_mac.0);
        let builder = match (from.address, to) {
            // Do not fragment, so that the identification may stay 0 (RFC 6864 §4.1): the builder's own choice.
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (from, to) => ethernet.ipv6(octets_v6(from), octets_v6(to), 64),
        };
        let mut bytes = Vec::with_capacity(frame_bytes);
        builder.udp(0, 0).write(&mut bytes, &payload).expect("a payload of less than 64 KiB fits");
        let address_bytes = if from.address.is_ipv4() { 4 } else { 16 };
        let (udp_bytes, addresses) =
            ([bytes[udp_at + 4], bytes[udp_at + 5]], &bytes[udp_at - 2 * address_bytes..udp_at]);
        let sum = pseudo_header(addresses, udp_bytes).add_2bytes(udp_bytes).add_slice(&bytes[udp_at + PATTERN_AT..]);
        let (ours, peer) = addresses.split_at(address_bytes);
        let addresses_of_answer = [peer, ours].concat();
        Self { bytes, udp_at, address_bytes, sum, addresses_of_answer }
    }

    /// Bytes of every frame.
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Writes a frame; `frame` must be [`frame_bytes`](Self::frame_bytes) long, else nothing is written.
    pub fn write(&self, frame: &mut [u8], ports: Ports, stamp: Stamp) {
        if frame.len() != self.bytes.len() {
            return;
        }
        frame.copy_from_slice(&self.bytes);
        let udp = &mut frame[self.udp_at..];
        udp[..2].copy_from_slice(&ports.source.to_be_bytes());
        udp[2..4].copy_from_slice(&ports.destination.to_be_bytes());
        udp[STAMP_AT..STAMP_AT + 2].copy_from_slice(&stamp.slot.to_be_bytes());
        udp[STAMP_AT + 2..STAMP_AT + 10].copy_from_slice(&stamp.sequence.to_be_bytes());
        udp[STAMP_AT + 10..PATTERN_AT].copy_from_slice(&stamp.sent_nanos.to_be_bytes());
        let sum = self.sum.clone().add_slice(&udp[..4]).add_slice(&udp[STAMP_AT..PATTERN_AT]);
        // A zero would say "no checksum" (RFC 768), which IPv6 forbids (RFC 8200 §8.1).
        let sum = sum.to_ones_complement_with_no_zero();
        udp[6..8].copy_from_slice(&sum.to_ne_bytes());
    }

    /// Reads the stamp from an answer: a frame of ours, turned round.
    ///
    /// # Errors
    /// Why it is none: a wrong checksum, another length or sender, or a byte of the pattern that is not as sent. The
    /// caller still has to know the stamp.
    pub fn stamp_of_answer(&self, frame: &[u8]) -> Result<Stamp, DropReason> {
        // Beyond the packet there may be padding.
        let Some(answer) = frame.get(..self.bytes.len()) else { return Err(DropReason::BadPayload) };
        let (header, udp) = answer[IP_AT..].split_at(self.udp_at - IP_AT);
        let sent = &self.bytes[IP_AT..];
        let is_v4 = self.address_bytes == 4;
        // The length of the packet, or of what follows the header; of IPv6 the next header too.
        let lengths = if is_v4 { 2..4 } else { 4..7 };
        if (is_v4 && header[0] != 0x45) || (!is_v4 && header[0] >> 4 != 6) || header[lengths.clone()] != sent[lengths] {
            return Err(DropReason::BadPayload);
        }
        let addresses = &header[header.len() - 2 * self.address_bytes..];
        let whole = pseudo_header(addresses, (udp.len() as u16).to_be_bytes()).add_slice(udp);
        // A zero says "no checksum" (RFC 768), over IPv4 alone (RFC 8200 §8.1); the bytes are compared all the same.
        let is_summed = udp[6..8] != [0, 0] || !is_v4;
        if is_v4 && Sum16BitWords::new().add_slice(header).ones_complement() != 0
            || is_summed && (whole.ones_complement() != 0 || udp[6..8] == [0, 0])
        {
            return Err(DropReason::BadChecksum);
        }
        if addresses != self.addresses_of_answer
            || udp[4..6] != self.bytes[self.udp_at + 4..self.udp_at + 6]
            || udp[PATTERN_AT..] != self.bytes[self.udp_at + PATTERN_AT..]
        {
            return Err(DropReason::BadPayload);
        }
        let mut stamp = &udp[STAMP_AT..];
        let mut number = |bytes: usize| {
            let (number, rest) = stamp.split_at(bytes);
            stamp = rest;
            number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        Ok(Stamp { slot: number(2) as u16, sequence: number(8), sent_nanos: number(8) })
    }
}

/// An address as IPv6 writes it.
fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests;
