//! `Segmenter`: makes segments again of a frame that the kernel has merged, or has not cut yet.
//!
//! On a macvlan, a bridge or a VLAN, generic receive offload of the link below hands over many segments of a connection
//! as one frame of up to 64 kB; on a veth in generic mode the other end's kernel hands over what it has left to
//! segmentation offload. AF_XDP delivers such a frame in several chunks, of which the first begins with all headers:
//!
//! ```text
//! chunk    |headers payload 1 |      payload 2 |      payload 3 |
//! frames   |headers payload 1 | headers payload 2 | headers payload 3 |     each in its own chunk
//! ```
//!
//! The headers are written in front of the other payloads, into the headroom that every chunk has; no payload moves.
//! TCP over IPv4 and, without further headers, over IPv6. Invariant: each frame that is handed on is a whole packet whose
//! bytes keep their place in the sequence space. An IPv4 checksum is as right as the merged frame's was. Its TCP checksum is left to offload, as the kernel leaves that of
//! all that it has merged or not cut; if it was whole, it is that of other bytes now, and the stack drops the segment.
//! Safe code; off the path of every frame that is in one chunk.
//! Read first: kernel `af_xdp.rst`, "Multi-Buffer Rx"; `segmentation-offloads.rst`.

use crate::checksum;
use crate::frame::Frame;

/// The longest headers that are told apart: of a tagged link, IPv4, which has more than IPv6, and TCP, both with all the options
/// that fit.
const HEAD_BYTES: usize = 18 + 60 + 60;

/// Shortest headers of IPv4, IPv6 and TCP.
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;

/// TCP's number as a protocol.
const TCP: u8 = 6;

/// TCP's flags (RFC 9293 §3.1). A segment with one of `NEVER_MERGED` stands alone; `ONLY_LAST` belong to the last bytes.
const NEVER_MERGED: u8 = 0x02 | 0x04 | 0x20;
const ONLY_LAST: u8 = 0x01 | 0x08;

/// Cuts the frames of one queue. Belongs to one core.
#[derive(Debug)]
pub(crate) struct Segmenter {
    state: State,
    /// The headers of the frame under way.
    head: [u8; HEAD_BYTES],
    /// Frames of several chunks that were none of TCP that can be cut, and were dropped whole.
    refused: u64,
}

/// What the next chunk is.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The first of a frame.
    First,
    /// Payload of a frame.
    Payload(Cut),
    /// A chunk of a frame that is being dropped.
    Refused,
}

/// A frame under way.
#[derive(Debug, Clone, Copy)]
struct Cut {
    packet: Packet,
    /// Where its payload begins.
    payload_at: usize,
    /// The sequence number of the next byte.
    seq: u32,
    /// Bytes of payload that have not come yet.
    left: usize,
}

/// Where in a frame the parts of a packet are that cutting makes anew.
#[derive(Debug, Clone, Copy)]
struct Packet {
    /// The field of the length, and from where on the length is counted.
    length_at: usize,
    counted_from: usize,
    /// The checksum of the header, which IPv6 has not.
    sum_at: Option<usize>,
    tcp_at: usize,
}

impl Packet {
    /// Of a frame with TCP over IPv4, no fragment.
    fn ipv4(frame: &[u8], ip_at: usize) -> Option<Self> {
        let ip = frame.get(ip_at..)?.first_chunk::<IPV4_BYTES>()?;
        let tcp_at = ip_at + usize::from(ip[0] & 15) * 4;
        let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
        let is_tcp = ip[0] >> 4 == 4 && tcp_at >= ip_at + IPV4_BYTES && fragment == 0 && ip[9] == TCP;
        is_tcp.then_some(Self { length_at: ip_at + 2, counted_from: ip_at, sum_at: Some(ip_at + 10), tcp_at })
    }

    /// Of a frame with TCP right behind the IPv6 header.
    fn ipv6(frame: &[u8], ip_at: usize) -> Option<Self> {
        let ip = frame.get(ip_at..)?.first_chunk::<IPV6_BYTES>()?;
        let tcp_at = ip_at + IPV6_BYTES;
        let is_tcp = ip[0] >> 4 == 6 && ip[6] == TCP;
        is_tcp.then_some(Self { length_at: ip_at + 4, counted_from: tcp_at, sum_at: None, tcp_at })
    }
}

impl Segmenter {
    pub(crate) fn new() -> Self {
        Self { state: State::First, head: [0; HEAD_BYTES], refused: 0 }
    }

    /// Frames of several chunks that were dropped because they cannot be cut.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Makes the next chunk of a frame of several chunks a frame of its own; `more` says that others follow. Gives it
    /// back as an error when there is nothing in it to hand on.
    #[cold]
    pub(crate) fn chunk(&mut self, mut chunk: Frame, more: bool) -> Result<Frame, Frame> {
        let cut = match self.state {
            State::First => self.begin(chunk.bytes()),
            State::Payload(cut) => Some(cut).filter(|cut| chunk.grow_front(cut.payload_at)),
            State::Refused => None,
        };
        let Some(mut cut) = cut else {
            self.refuse(more);
            return Err(chunk);
        };
        let carried = chunk.len().saturating_sub(cut.payload_at).min(cut.left);
        cut.left -= carried;
        let written = carried > 0 && chunk.resize(cut.payload_at + carried).is_ok();
        if written {
            self.write_head(chunk.bytes_mut(), &cut);
        }
        cut.seq = cut.seq.wrapping_add(carried as u32);
        self.state = if more { State::Payload(cut) } else { State::First };
        if written { Ok(chunk) } else { Err(chunk) }
    }

    /// A chunk was lost, and with it the place of those behind it: the rest of the frame is dropped.
    #[cold]
    pub(crate) fn lose(&mut self, more: bool) {
        self.refuse(more);
    }

    fn refuse(&mut self, more: bool) {
        self.refused += u64::from(!matches!(self.state, State::Refused));
        self.state = if more { State::Refused } else { State::First };
    }

    /// Reads and keeps the headers of a frame; `None` when it is no TCP that can be cut.
    fn begin(&mut self, frame: &[u8]) -> Option<Cut> {
        let (ip_at, ethertype) = match frame.get(12..14)? {
            [0x81, 0] => (18, frame.get(16..18)?),
            ethertype => (14, ethertype),
        };
        let packet = match ethertype {
            [8, 0] => Packet::ipv4(frame, ip_at)?,
            [0x86, 0xdd] => Packet::ipv6(frame, ip_at)?,
            _ => return None,
        };
        let tcp_at = packet.tcp_at;
        let tcp = frame.get(tcp_at..)?.first_chunk::<TCP_BYTES>()?;
        let payload_at = tcp_at + usize::from(tcp[12] >> 4) * 4;
        if payload_at < tcp_at + TCP_BYTES || tcp[13] & NEVER_MERGED != 0 {
            return None;
        }
        let end = packet.counted_from + usize::from(u16::from_be_bytes(pair(frame, packet.length_at)));
        let left = end.checked_sub(payload_at)?;
        let head = frame.get(..payload_at)?;
        self.head.get_mut(..payload_at)?.copy_from_slice(head);
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        Some(Cut { packet, payload_at, seq, left })
    }

    /// Writes the headers of the segment `frame`, whose payload is there already: those of the merged frame, with the
    /// length, the sequence number, the flags and the checksums of this segment.
    fn write_head(&self, frame: &mut [u8], cut: &Cut) {
        let Cut { packet: Packet { length_at, counted_from, sum_at, tcp_at }, payload_at, seq, left } = *cut;
        // A frame is at most 32,768 bytes long.
        let packet_len = (frame.len() - counted_from) as u16;
        let (merged, here) = (pair(&self.head, length_at), packet_len.to_be_bytes());
        let head = &mut frame[..payload_at];
        head.copy_from_slice(&self.head[..payload_at]);
        head[length_at..length_at + 2].copy_from_slice(&here);
        if let Some(at) = sum_at {
            let ip_sum = checksum::changed(pair(head, at), &merged, &here);
            head[at..at + 2].copy_from_slice(&ip_sum);
        }
        // The pseudo-header has the packet's length without the IP header, which changes by as much. What is left to offload
        // is the sum itself.
        let tcp_sum = checksum::sum_changed(pair(head, tcp_at + 16), &merged, &here);
        head[tcp_at + 16..tcp_at + 18].copy_from_slice(&tcp_sum);
        head[tcp_at + 4..tcp_at + 8].copy_from_slice(&seq.to_be_bytes());
        if left > 0 {
            head[tcp_at + 13] &= !ONLY_LAST;
        }
    }
}

fn pair(bytes: &[u8], at: usize) -> [u8; 2] {
    [bytes[at], bytes[at + 1]]
}

#[cfg(test)]
mod tests;
