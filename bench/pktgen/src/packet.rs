//! Frames: what one is (`classify`), and the UDP frames that ping and tx send (`UdpTemplate`).
//!
//! A frame as sent, 60 bytes and up: Ethernet 14, IPv4 20 without options, UDP 8, `Stamp` 18, then a pattern. Bytes
//! that never change are copied from the template; the UDP checksum of those is summed once, and a frame adds its own.
//! Read first: RFC 791 §3.1, RFC 768.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use etherparse::checksum::Sum16BitWords;
use nic::Mac;

use crate::station::Station;
use crate::tally::DropReason;

/// Shortest frame on Ethernet, without its check sequence of 4 bytes (IEEE 802.3 §3.2.7).
pub const FRAME_BYTES_MIN: usize = 60;
/// Where the IPv4 header starts.
pub const IPV4_AT: usize = 14;
/// Where the UDP header of a frame of ours starts.
const UDP_AT: usize = IPV4_AT + 20;
/// Where the stamp starts.
const STAMP_AT: usize = UDP_AT + 8;
/// Where the pattern starts.
const PATTERN_AT: usize = STAMP_AT + STAMP_BYTES;
/// Slot 2, sequence number 8, time of sending 8.
const STAMP_BYTES: usize = 18;

const ETHER_TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_TYPE_ARP: [u8; 2] = [0x08, 0x06];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a received frame is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ARP.
    Arp,
    /// TCP or UDP over IPv4 for our address.
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
pub fn classify(frame: &[u8], ours: Ipv4Addr) -> Class {
    use DropReason::{Fragment, Group, NotIpv4, OtherAddress, OtherProtocol, Truncated};
    let Some((ethernet, packet)) = frame.split_at_checked(IPV4_AT) else { return Class::Drop(Truncated) };
    if ethernet[12..14] == ETHER_TYPE_ARP {
        return Class::Arp;
    }
    if ethernet[12..14] != ETHER_TYPE_IPV4 {
        return Class::Drop(NotIpv4);
    }
    let Some(header) = packet.get(..20) else { return Class::Drop(Truncated) };
    if header[0] >> 4 != 4 {
        return Class::Drop(NotIpv4);
    }
    if header[16..20] != ours.octets() {
        return Class::Drop(OtherAddress);
    }
    // The lowest bit of the first byte says "group"; see `Mac::is_unicast`.
    if (ethernet[0] | ethernet[6]) & 1 != 0 {
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
    Class::Ours { transport_at: IPV4_AT + header_bytes, udp }
}

/// The destination port of a frame that [`classify`] called ours.
pub fn destination_port(frame: &[u8], transport_at: usize) -> u16 {
    frame.get(transport_at + 2..transport_at + 4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]))
}

/// Turns a frame that [`classify`] called ours round: Ethernet addresses, IPv4 addresses and ports change places.
///
/// No checksum changes: the same words are summed in another order (RFC 1071 §2).
pub fn reflect(frame: &mut [u8], transport_at: usize) {
    swap_halves(frame, 0, 6);
    swap_halves(frame, IPV4_AT + 12, 4);
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
    /// Sum of the pseudo-header, the UDP length and the pattern.
    sum: Sum16BitWords,
    peer: Ipv4Addr,
}

/// The sum of UDP's pseudo-header (RFC 768): both addresses, as they stand in the IPv4 header, protocol and length.
fn pseudo_header(addresses: &[u8], udp_bytes: [u8; 2]) -> Sum16BitWords {
    Sum16BitWords::new().add_slice(addresses).add_2bytes([0, UDP]).add_2bytes(udp_bytes)
}

impl UdpTemplate {
    /// Frames of `frame_bytes` (60 to 65,535) from us to the peer.
    pub fn new(from: Station, to_mac: Mac, to: Ipv4Addr, frame_bytes: usize) -> Self {
        let frame_bytes = frame_bytes.clamp(FRAME_BYTES_MIN, usize::from(u16::MAX));
        let mut payload = vec![0; frame_bytes - STAMP_AT];
        for (at, byte) in payload[STAMP_BYTES..].iter_mut().enumerate() {
            // Any odd factor: neighbours differ, and so do the bytes 256 apart.
            *byte = (at as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
        }
        // Do not fragment, so that the identification may stay 0 (RFC 6864 §4.1): the builder's own choice.
        let builder = PacketBuilder::ethernet2(from.mac.0, to_mac.0).ipv4(from.address.octets(), to.octets(), 64);
        let mut bytes = Vec::with_capacity(frame_bytes);
        builder.udp(0, 0).write(&mut bytes, &payload).expect("a payload of less than 64 KiB fits");
        let udp_bytes = [bytes[UDP_AT + 4], bytes[UDP_AT + 5]];
        let sum = pseudo_header(&bytes[IPV4_AT + 12..UDP_AT], udp_bytes).add_2bytes(udp_bytes);
        Self { sum: sum.add_slice(&bytes[PATTERN_AT..]), bytes, peer: to }
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
        frame[UDP_AT..UDP_AT + 2].copy_from_slice(&ports.source.to_be_bytes());
        frame[UDP_AT + 2..UDP_AT + 4].copy_from_slice(&ports.destination.to_be_bytes());
        frame[STAMP_AT..STAMP_AT + 2].copy_from_slice(&stamp.slot.to_be_bytes());
        frame[STAMP_AT + 2..STAMP_AT + 10].copy_from_slice(&stamp.sequence.to_be_bytes());
        frame[STAMP_AT + 10..PATTERN_AT].copy_from_slice(&stamp.sent_nanos.to_be_bytes());
        let sum = self.sum.clone().add_slice(&frame[UDP_AT..UDP_AT + 4]).add_slice(&frame[STAMP_AT..PATTERN_AT]);
        // A zero would say "no checksum" (RFC 768).
        let sum = sum.to_ones_complement_with_no_zero();
        frame[UDP_AT + 6..UDP_AT + 8].copy_from_slice(&sum.to_ne_bytes());
    }

    /// Reads the stamp from an answer: a frame of ours, turned round.
    ///
    /// # Errors
    /// Why it is none: a wrong checksum, another length or sender, or a byte of the pattern that is not as sent. The
    /// caller still has to know the stamp.
    pub fn stamp_of_answer(&self, frame: &[u8]) -> Result<Stamp, DropReason> {
        // Beyond the packet there may be padding.
        let Some(answer) = frame.get(..self.bytes.len()) else { return Err(DropReason::BadPayload) };
        if answer[IPV4_AT] != 0x45 || answer[IPV4_AT + 2..IPV4_AT + 4] != self.bytes[IPV4_AT + 2..IPV4_AT + 4] {
            return Err(DropReason::BadPayload);
        }
        let udp = &answer[UDP_AT..];
        let header = Sum16BitWords::new().add_slice(&answer[IPV4_AT..UDP_AT]);
        let whole = pseudo_header(&answer[IPV4_AT + 12..UDP_AT], (udp.len() as u16).to_be_bytes()).add_slice(udp);
        // A zero says "no checksum" (RFC 768); the bytes are compared all the same.
        if header.ones_complement() != 0 || (udp[6..8] != [0, 0] && whole.ones_complement() != 0) {
            return Err(DropReason::BadChecksum);
        }
        if answer[IPV4_AT + 12..IPV4_AT + 16] != self.peer.octets()
            || udp[4..6] != self.bytes[UDP_AT + 4..UDP_AT + 6]
            || answer[PATTERN_AT..] != self.bytes[PATTERN_AT..]
        {
            return Err(DropReason::BadPayload);
        }
        let mut stamp = &answer[STAMP_AT..];
        let mut number = |bytes: usize| {
            let (number, rest) = stamp.split_at(bytes);
            stamp = rest;
            number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        Ok(Stamp { slot: number(2) as u16, sequence: number(8), sent_nanos: number(8) })
    }
}

#[cfg(test)]
mod tests;
