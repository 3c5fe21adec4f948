//! IPv6 headers in place of the IPv4 ones that the rest of the stack reads and writes.
//!
//! A segment over IPv6 is given to smoltcp behind an IPv4 header with the names of its ends as addresses, written over the
//! last 20 bytes in front of its TCP header; and what is written for such a flow begins 20 bytes later in its frame, so
//! that the IPv6 header fits in front. Nothing is copied. Sums are those of IPv6: `classify` has verified them on the way
//! in, and here they are written on the way out. Read first: RFC 8200 §3, §8.1; `names.rs`.

use std::net::Ipv6Addr;

use nic::checksum;

use crate::classify::Segment;
use crate::flow_id::FlowKey;
use crate::names::Names;
use crate::options::SynOptions;
use crate::wire::{IPV4_BYTES, IPV6_BYTES, LONGER_BYTES, PROTOCOL_TCP, SYN, TCP_BYTES};

/// The least MTU of any IPv6 link (RFC 8200 §5).
pub(crate) const LEAST_MTU: u16 = 1_280;

/// Hop limit of what may leave the link.
pub(crate) const HOP_LIMIT: u8 = 64;

/// What an IPv6 header says but for lengths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    /// The flow label, of 20 bits.
    pub(crate) label: u32,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
}

impl Head {
    /// Of a segment to the peer of `key`, which is of IPv6.
    pub(crate) fn of_segment(names: &Names, key: &FlowKey) -> Self {
        let destination = names.address(key.remote);
        Self {
            source: names.address(key.local),
            destination,
            label: names.label(&destination, key),
            next_header: PROTOCOL_TCP,
            hop_limit: HOP_LIMIT,
        }
    }

    /// Writes the header of a packet with `payload_len` bytes behind it.
    pub(crate) fn write(&self, header: &mut [u8; IPV6_BYTES], payload_len: usize) {
        // Traffic class 0.
        header[..4].copy_from_slice(&(6 << 28 | self.label & 0xf_ffff).to_be_bytes());
        // No packet is longer than the MTU, which is below 65,536.
        header[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
        (header[6], header[7]) = (self.next_header, self.hop_limit);
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..].copy_from_slice(&self.destination.octets());
    }

    /// The sum of the pseudo-header in front of `len` bytes (RFC 8200 §8.1).
    pub(crate) fn pseudo_sum(&self, len: usize) -> u64 {
        let ends = (self.source.octets(), self.destination.octets());
        checksum::pseudo_header_v6(ends.0, ends.1, self.next_header, len as u32)
    }
}

/// Makes the segment at `at` in `frame`, which was written as IPv4 behind room for more, one of IPv6, with its sum. A SYN
/// then offers 20 bytes less (RFC 9293 §3.7.1).
pub(crate) fn finish_segment(frame: &mut [u8], at: usize, head: &Head) {
    let packet = frame.get_mut(at.saturating_sub(LONGER_BYTES)..).unwrap_or_default();
    let Some((ip, tcp)) = packet.split_first_chunk_mut::<IPV6_BYTES>() else { return };
    head.write(ip, tcp.len());
    if tcp.get(13).is_some_and(|flags| flags & SYN != 0) {
        lower_mss(tcp);
    }
    if let Some(field) = tcp.get_mut(16..18) {
        field.fill(0);
    }
    // The addresses are in front of it: one sum instead of three.
    let rest_of_pseudo_header = checksum::pseudo_header([0; 4], [0; 4], PROTOCOL_TCP, tcp.len() as u16);
    let sum = checksum::field(checksum::add(rest_of_pseudo_header, packet.get(8..).unwrap_or_default()));
    if let Some(field) = packet.get_mut(IPV6_BYTES + 16..IPV6_BYTES + 18) {
        field.copy_from_slice(&sum);
    }
}

/// The MSS comes first of the options of a SYN of ours.
#[cold]
fn lower_mss(tcp: &mut [u8]) {
    if let Some([2, 4, high, low]) = tcp.get_mut(TCP_BYTES..TCP_BYTES + 4) {
        let mss = u16::from_be_bytes([*high, *low]).saturating_sub(LONGER_BYTES as u16);
        [*high, *low] = mss.to_be_bytes();
    }
}

/// The size of segments to who offers none: what the least MTU leaves (RFC 9293 §3.7.1, MUST-15).
pub(crate) const USUAL_MSS: u16 = LEAST_MTU - (IPV6_BYTES + TCP_BYTES) as u16;

/// The same SYN or SYN-ACK over IPv6 with an offer of [`USUAL_MSS`] if it offers nothing: smoltcp would take that for the 536
/// bytes of IPv4. It is moved forward for it, over what is in front. `None`: it is of IPv4, or offers something, or has no
/// room for another option.
pub(crate) fn with_usual_mss(frame: &mut [u8], segment: &Segment) -> Option<Segment> {
    if !segment.key.is_ipv6() {
        return None;
    }
    insert_usual_mss(frame, segment)
}

#[cold]
fn insert_usual_mss(frame: &mut [u8], segment: &Segment) -> Option<Segment> {
    const OPTION_BYTES: u8 = 4;
    let offers = SynOptions::read(segment, frame)?.mss.is_some_and(|mss| mss > 0);
    let header_len = segment.header_len + OPTION_BYTES;
    if offers || header_len > 60 {
        return None;
    }
    let at = segment.tcp_at();
    let header = *frame.get(at..)?.first_chunk::<TCP_BYTES>()?;
    let moved = frame.get_mut(at - usize::from(OPTION_BYTES)..)?.first_chunk_mut::<{ TCP_BYTES + 4 }>()?;
    moved[..TCP_BYTES].copy_from_slice(&header);
    moved[12] = (header_len / 4) << 4 | header[12] & 0xf;
    let [high, low] = USUAL_MSS.to_be_bytes();
    moved[TCP_BYTES..].copy_from_slice(&[2, OPTION_BYTES, high, low]);
    Some(Segment {
        at: segment.at - OPTION_BYTES,
        header_len,
        packet_len: segment.packet_len + u16::from(OPTION_BYTES),
        ..*segment
    })
}

/// Writes over what is in front of a segment of the flow `key`, in its frame, the IPv4 header that smoltcp is to read.
pub(crate) fn write_as_ipv4(frame: &mut [u8], segment: &Segment, key: &FlowKey) {
    let at = usize::from(segment.at);
    let Some(header) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<IPV4_BYTES>()) else { return };
    // Don't fragment; sums are not verified again.
    *header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, PROTOCOL_TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&segment.packet_len.to_be_bytes());
    header[12..16].copy_from_slice(&key.remote.octets());
    header[16..].copy_from_slice(&key.local.octets());
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};

    use super::*;
    use crate::link::{LinkHeader, Mac};

    const HEAD: Head = Head {
        source: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        label: 0x12345,
        next_header: PROTOCOL_TCP,
        hop_limit: HOP_LIMIT,
    };

    #[test]
    fn a_segment_written_as_ipv4_becomes_one_of_ipv6_with_a_right_sum() {
        for tag in [None, Some(7)] {
            let link = LinkHeader::for_ipv6(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), tag);
            let mut frame = vec![0xee; link.len() + IPV4_BYTES + 24 + 5];
            link.write(&mut frame);
            let tcp = link.len() + IPV4_BYTES;
            frame[tcp..tcp + 24].fill(0);
            (frame[tcp + 12], frame[tcp + 13]) = (6 << 4, SYN);
            frame[tcp + 20..tcp + 24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
            finish_segment(&mut frame, link.len(), &HEAD);
            let sliced = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{:?}", sliced.net) };
            let header = ip.header().to_header();
            assert_eq!((header.source, header.destination), (HEAD.source.octets(), HEAD.destination.octets()));
            assert_eq!((header.flow_label.value(), header.hop_limit, header.traffic_class), (0x12345, 64, 0));
            let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("not TCP") };
            let sum = tcp.to_header().calc_checksum_ipv6(&header, tcp.payload()).expect("not too long");
            assert_eq!((tcp.checksum(), tcp.payload()), (sum, &[0xee; 5][..]));
            let mss = tcp.options_iterator().next().expect("one").expect("it parses");
            assert_eq!(mss, TcpOptionElement::MaximumSegmentSize(1_440));
        }
    }
}
