//! `Segment`: one TCP segment of a capture, where it is in its frame, and the making of frames like it.
//!
//! Captures hold what their tap saw: on a host that leaves checksums and segmentation to the link, segments longer than
//! a packet with checksums not yet written. Those are made into what the link sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use etherparse::checksum::Sum16BitWords;

/// Flags of a TCP header (RFC 9293 §3.1).
pub const FIN: u8 = 1;
/// Opens a connection.
pub const SYN: u8 = 2;
/// Ends it at once.
pub const RST: u8 = 4;
const PSH: u8 = 8;
/// The acknowledgement number counts.
pub const ACK: u8 = 16;

/// Longest packet that is played as it is.
const PACKET_BYTES_MAX: usize = 1_500;

/// Longest payload of the packets that a longer one is cut into.
const PIECE_BYTES: usize = 1_400;

/// What a segment's checksum says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// The segment is whole.
    Right,
    /// It was left to the link to write.
    LeftToTheLink,
    /// The segment was damaged before it was recorded.
    Wrong,
}

/// One TCP segment over IPv4, or over IPv6 without extension headers, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window field.
    pub window: u16,
    /// Whether it is whole.
    pub sum: Sum,
    /// Where the IP header begins.
    ip_at: usize,
    /// Where the TCP header begins.
    tcp_at: usize,
    /// Where the payload is.
    pub payload: Range<usize>,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

/// Both addresses of an IP header.
fn addresses(header: &[u8]) -> Option<[IpAddr; 2]> {
    if is_ipv6(header) {
        let address = |at: usize| header.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into());
        return Some([address(8)?, address(24)?]);
    }
    let address = |at| be32(header, at).map(|bits| Ipv4Addr::from(bits).into());
    Some([address(12)?, address(16)?])
}

/// Whether an IP header is one of IPv6.
fn is_ipv6(header: &[u8]) -> bool {
    header.first().is_some_and(|first| first >> 4 == 6)
}

/// The one's complement sum of RFC 1071, in sixteen bits.
fn folded(sum: &Sum16BitWords) -> u16 {
    !sum.ones_complement().to_be()
}

/// The sum of the pseudo-header: addresses, protocol and length (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo_header(frame: &[u8], ip_at: usize, tcp_bytes: usize) -> Sum16BitWords {
    let places = if is_ipv6(&frame[ip_at..]) { ip_at + 8..ip_at + 40 } else { ip_at + 12..ip_at + 20 };
    let addresses = Sum16BitWords::new().add_slice(&frame[places]);
    addresses.add_2bytes([0, 6]).add_4bytes((tcp_bytes as u32).to_be_bytes())
}

impl Segment {
    /// Reads a frame; `None` for what is not a whole packet with TCP in it, fragments included.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut ip_at = 14;
        while matches!(be16(frame, ip_at - 2)?, 0x8100 | 0x88a8) {
            ip_at += 4;
        }
        let (header_bytes, packet_bytes) = match be16(frame, ip_at - 2)? {
            0x0800 => ipv4_lengths(frame.get(ip_at..)?)?,
            0x86dd => ipv6_lengths(frame.get(ip_at..)?)?,
            _ => return None,
        };
        let tcp_at = ip_at + header_bytes;
        let tcp = frame.get(tcp_at..ip_at + packet_bytes)?;
        let tcp_header_bytes = usize::from(*tcp.get(12)? >> 4) * 4;
        if tcp_header_bytes < 20 || tcp_header_bytes > tcp.len() {
            return None;
        }
        let pseudo = pseudo_header(frame, ip_at, tcp.len());
        let field = be16(tcp, 16)?;
        let header = frame.get(ip_at..tcp_at)?;
        // IPv6 has none; one of 0 is left to the link.
        let ip_sum_right =
            is_ipv6(header) || be16(header, 10)? == 0 || folded(&Sum16BitWords::new().add_slice(header)) == 0xffff;
        let sum = if !ip_sum_right {
            Sum::Wrong
        } else if folded(&pseudo.clone().add_slice(tcp)) == 0xffff {
            Sum::Right
        } else if field == folded(&pseudo) || field == folded(&pseudo_header(frame, ip_at, 0)) {
            Sum::LeftToTheLink
        } else {
            Sum::Wrong
        };
        let [source, destination] = addresses(header)?;
        Some(Self {
            source: SocketAddr::new(source, be16(tcp, 0)?),
            destination: SocketAddr::new(destination, be16(tcp, 2)?),
            seq: be32(tcp, 4)?,
            ack: be32(tcp, 8)?,
            flags: tcp[13],
            window: be16(tcp, 14)?,
            sum,
            ip_at,
            tcp_at,
            payload: tcp_at + tcp_header_bytes..ip_at + packet_bytes,
        })
    }

    /// Whether all of `flags` are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence number after its last byte, SYN and FIN counted.
    pub fn end(&self) -> u32 {
        let controls = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(self.payload.len() as u32).wrapping_add(controls)
    }

    /// The frames that the link would have sent of this segment's `frame`: itself, unless it was longer than a packet or
    /// its checksum was left to the link.
    pub fn as_sent(&self, frame: &[u8]) -> Vec<Vec<u8>> {
        if self.sum != Sum::LeftToTheLink && frame.len() - self.ip_at <= PACKET_BYTES_MAX {
            return vec![frame.to_vec()];
        }
        if self.sum == Sum::Wrong {
            return vec![];
        }
        let payload = &frame[self.payload.clone()];
        let pieces = if payload.is_empty() { vec![payload] } else { payload.chunks(PIECE_BYTES).collect() };
        let last = pieces.len() - 1;
        let piece = |(number, piece): (usize, &[u8])| {
            let mut made = frame[..self.payload.start].to_vec();
            made.extend_from_slice(piece);
            if number != last {
                made[self.tcp_at + 13] &= !(FIN | PSH);
            }
            let seq = self.seq.wrapping_add((number * PIECE_BYTES) as u32);
            made[self.tcp_at + 4..self.tcp_at + 8].copy_from_slice(&seq.to_be_bytes());
            self.write_sums(&mut made);
            made
        };
        pieces.into_iter().enumerate().map(piece).collect()
    }

    /// An acknowledgement of `ack` by the segment's sender, who has sent up to the segment's beginning.
    pub fn acknowledging(&self, frame: &[u8], ack: u32) -> Vec<u8> {
        let mut made = frame[..self.tcp_at + 20].to_vec();
        made[self.tcp_at + 8..self.tcp_at + 12].copy_from_slice(&ack.to_be_bytes());
        made[self.tcp_at + 12] = 5 << 4;
        made[self.tcp_at + 13] = ACK;
        self.write_sums(&mut made);
        made
    }

    /// Writes the length of the packet and both checksums.
    fn write_sums(&self, frame: &mut [u8]) {
        let (ip, tcp) = (self.ip_at, self.tcp_at);
        if is_ipv6(&frame[ip..]) {
            let payload_bytes = (frame.len() - ip - IPV6_HEADER_BYTES) as u16;
            frame[ip + 4..ip + 6].copy_from_slice(&payload_bytes.to_be_bytes());
        } else {
            let packet_bytes = (frame.len() - ip) as u16;
            frame[ip + 2..ip + 4].copy_from_slice(&packet_bytes.to_be_bytes());
            frame[ip + 10..ip + 12].fill(0);
            let sum = Sum16BitWords::new().add_slice(&frame[ip..tcp]).ones_complement();
            frame[ip + 10..ip + 12].copy_from_slice(&sum.to_ne_bytes());
        }
        frame[tcp + 16..tcp + 18].fill(0);
        let pseudo = pseudo_header(frame, ip, frame.len() - tcp);
        let sum = pseudo.add_slice(&frame[tcp..]).ones_complement();
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_ne_bytes());
    }
}

/// Bytes of IPv6's header (RFC 8200 §3).
const IPV6_HEADER_BYTES: usize = 40;

/// Bytes of the header and of the whole packet, which begins `bytes`; `None` where it is no TCP over IPv4, or a fragment. A
/// packet longer than its length field can say was not cut by the sender's link.
fn ipv4_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let header = bytes.get(..20)?;
    let header_bytes = usize::from(header[0] & 15) * 4;
    let is_fragment = be16(header, 6)? & 0x3fff != 0;
    if header[0] >> 4 != 4 || header[9] != 6 || header_bytes < 20 || is_fragment {
        return None;
    }
    let packet_bytes = match usize::from(be16(header, 2)?) {
        0 => bytes.len(),
        packet_bytes => packet_bytes,
    };
    Some((header_bytes, packet_bytes))
}

/// The same over IPv6.
fn ipv6_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let header = bytes.get(..IPV6_HEADER_BYTES)?;
    if header[0] >> 4 != 6 || header[6] != 6 {
        return None;
    }
    let packet_bytes = match usize::from(be16(header, 4)?) {
        0 => bytes.len(),
        payload_bytes => IPV6_HEADER_BYTES + payload_bytes,
    };
    Some((IPV6_HEADER_BYTES, packet_bytes))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = ethernet.ipv4([10, 77, 0, 1], [10, 77, 0, 2], 64).tcp(5_000, 11_211, 1_000, 9_000).ack(77).psh();
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("written to memory");
        frame
    }

    const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
    const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

    fn frame_v6(payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = ethernet.ipv6(CLIENT_V6.octets(), SERVER_V6.octets(), 64);
        let mut frame = Vec::new();
        ip.tcp(5_000, 11_211, 1_000, 9_000).ack(77).psh().write(&mut frame, payload).expect("written to memory");
        frame
    }

    #[test]
    fn a_segment_over_ipv6_is_read_cut_and_acknowledged() {
        let frame = frame_v6(b"get a\r\n");
        let segment = Segment::of(&frame).expect("TCP");
        assert_eq!((segment.seq, segment.ack, segment.window, segment.sum), (1_000, 77, 9_000, Sum::Right));
        assert_eq!(segment.source, SocketAddr::new(CLIENT_V6.into(), 5_000));
        assert_eq!(segment.destination, SocketAddr::new(SERVER_V6.into(), 11_211));
        assert_eq!((&frame[segment.payload.clone()], segment.end()), (&b"get a\r\n"[..], 1_007));
        assert_eq!(segment.as_sent(&frame), std::slice::from_ref(&frame));
        for cut in 0..frame.len() {
            assert_eq!(Segment::of(&frame[..cut]), None, "{cut} bytes");
        }
        // An address is summed; a header that is passed over is not looked for.
        for (place, sum) in [(30, Some(Sum::Wrong)), (frame.len() - 1, Some(Sum::Wrong)), (20, None)] {
            let mut bent = frame.clone();
            bent[place] ^= 0x20;
            assert_eq!(Segment::of(&bent).map(|segment| segment.sum), sum, "byte {place}");
        }
        let mut long = frame_v6(&[7; 10_000]);
        let partial = folded(&pseudo_header(&long, 14, long.len() - 54));
        long[70..72].copy_from_slice(&partial.to_be_bytes());
        let segment = Segment::of(&long).expect("TCP");
        assert_eq!(segment.sum, Sum::LeftToTheLink);
        let frames = segment.as_sent(&long);
        assert_eq!(frames.len(), 8);
        for frame in &frames {
            let read = etherparse::PacketHeaders::from_ethernet_slice(frame).expect("a packet");
            let (ip, tcp) = (read.net.expect("IPv6"), read.transport.expect("TCP").tcp().expect("TCP"));
            let (ip, _) = ip.ipv6_ref().expect("IPv6");
            assert_eq!(usize::from(ip.payload_length), frame.len() - 54);
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, read.payload.slice()).expect("not too long"));
        }
        let ack = segment.acknowledging(&long, 99);
        let ack = Segment::of(&ack).expect("TCP");
        assert_eq!((ack.flags, ack.ack, ack.payload.len(), ack.sum), (ACK, 99, 0, Sum::Right));
    }

    #[test]
    fn a_whole_segment_is_read_and_played_as_it_is() {
        let frame = frame(b"get a\r\n");
        let segment = Segment::of(&frame).expect("TCP");
        assert_eq!((segment.seq, segment.ack, segment.window, segment.sum), (1_000, 77, 9_000, Sum::Right));
        assert_eq!((&frame[segment.payload.clone()], segment.end()), (&b"get a\r\n"[..], 1_007));
        assert_eq!(segment.as_sent(&frame), std::slice::from_ref(&frame));
        for cut in 0..frame.len() {
            assert_eq!(Segment::of(&frame[..cut]), None, "{cut} bytes");
        }
    }

    #[test]
    fn a_damaged_segment_stays_damaged() {
        let mut frame = frame(b"get a\r\n");
        // The last byte of the payload; the time to live, which only the sum of the IPv4 header covers.
        for place in [frame.len() - 1, 22] {
            frame[place] ^= 1;
            let segment = Segment::of(&frame).expect("TCP");
            assert_eq!((segment.sum, segment.as_sent(&frame)), (Sum::Wrong, vec![frame.clone()]));
            frame[place] ^= 1;
        }
    }

    #[test]
    fn a_long_segment_without_checksum_is_cut_into_packets_with_one() {
        let payload: Vec<u8> = (0..10_000u32).map(|byte| byte as u8).collect();
        let mut frame = frame(&payload);
        let tcp_bytes = frame.len() - 34;
        let partial = folded(&pseudo_header(&frame, 14, tcp_bytes));
        frame[50..52].copy_from_slice(&partial.to_be_bytes());
        let segment = Segment::of(&frame).expect("TCP");
        assert_eq!(segment.sum, Sum::LeftToTheLink);
        let mut stream = super::super::Stream::new(1_000);
        let frames = segment.as_sent(&frame);
        for (number, frame) in frames.iter().enumerate() {
            let piece = Segment::of(frame).expect("TCP");
            assert!(piece.sum == Sum::Right && frame.len() <= 1_514);
            assert_eq!(piece.has(PSH), number + 1 == frames.len());
            stream.add(piece.seq, &frame[piece.payload.clone()]);
        }
        assert_eq!(stream.bytes(), payload);
        let ack = segment.acknowledging(&frame, 99);
        let ack = Segment::of(&ack).expect("TCP");
        assert_eq!((ack.flags, ack.seq, ack.ack, ack.payload.len(), ack.sum), (ACK, 1_000, 99, 0, Sum::Right));
    }
}
