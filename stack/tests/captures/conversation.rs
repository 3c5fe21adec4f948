//! `Conversations`: what was captured between two hosts, as if one of them had been us.
//!
//! The end that asked is the peer: its frames are addressed to us, and what they acknowledge is counted from our own first
//! sequence number instead of the other host's, no further than what we have sent. The other end is the application: it
//! writes as many bytes as that host did, ends its stream where that host did, and aborts where that host reset. A
//! conversation whose beginning was not captured gets one. Sums are computed anew; what was cut off is filled with zeros.
//!
//! An IPv6 packet without extension headers is worked on in the shape of an IPv4 packet, its peer under an IPv4 address that
//! stands for it, and gets its header back before it is sent; others are sent as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nic::WireQueue;
use sidestep_stack::{Event, FlowId, Poll};

use super::read::Captured;
use crate::lab::frames::Isns;
use crate::lab::odd::{sum_body, sum_ip};
use crate::lab::raw::{ACK, FIN, RST, SYN, Tcp};
use crate::lab::{OWN, PORT, US, v6};

/// One end: address and port.
type Ends = (Ipv4Addr, u16);

/// The most of a segment that is sent at once: captures have what an offload has yet to cut.
const PART: usize = 1_400;
/// The longest packet.
const PACKET_MAX: usize = 1_500;

/// A frame to be sent. A segment acknowledges so much of what its peer is taken to have said.
#[derive(Debug)]
pub struct Step {
    bytes: Vec<u8>,
    /// Where its packet begins; `None` where it is sent as it is.
    at: Option<usize>,
    conversation: Option<Ends>,
}

/// One conversation, by the peer's end.
#[derive(Debug, Default)]
struct Conversation {
    /// The other host's first sequence number, and the next that it had not sent yet.
    theirs: Option<(u32, u32)>,
    /// Our first sequence number, and the next that we have not sent yet.
    ours: Option<(u32, u32)>,
    begun: bool,
    flow: Option<FlowId>,
    /// Bytes that the application has yet to write.
    out: usize,
    ends: bool,
    shut: bool,
    aborts: bool,
}

impl Conversation {
    /// The other host sent a segment with `len` bytes of data, all of which the application has to write.
    fn take_sent(&mut self, seq: u32, len: usize, flags: u8) {
        let next = seq.wrapping_add(len as u32);
        let first = if flags & SYN != 0 { seq } else { seq.wrapping_sub(1) };
        let (_, sent) = self.theirs.get_or_insert((first, first.wrapping_add(1)));
        let news = next.wrapping_sub(*sent) as i32;
        if news > 0 {
            self.out += news.min(1 << 20) as usize;
            *sent = next;
        }
        self.ends |= flags & FIN != 0;
        self.aborts |= flags & RST != 0;
    }
}

/// All conversations of a file.
#[derive(Debug, Default)]
pub struct Conversations {
    /// By peer's and other host's end as captured: the peer's end as we know it.
    known: BTreeMap<(Ends, Ends), Ends>,
    all: BTreeMap<Ends, Conversation>,
    /// Those of which there is news.
    touched: BTreeSet<Ends>,
    /// Our first sequence numbers, for the check of what is sent.
    pub isns: Isns,
    /// The IPv4 addresses that stand for those of IPv6.
    stand_ins: BTreeMap<Ipv6Addr, Ipv4Addr>,
}

/// The first address that stands for one of IPv6.
const FIRST_STAND_IN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);

impl Conversations {
    /// The address that stands for one of IPv6.
    fn stand_in(&mut self, address: Ipv6Addr) -> Ipv4Addr {
        let next = Ipv4Addr::from_bits(FIRST_STAND_IN.to_bits() + self.stand_ins.len() as u32);
        *self.stand_ins.entry(address).or_insert(next)
    }

    /// The frame of an IPv6 packet in the shape of one of IPv4; `None` for another.
    fn in_the_shape_of_ipv4(&mut self, captured: &Captured) -> Option<Captured> {
        let (at, body_at) = ipv6(&captured.bytes)?;
        let header = &captured.bytes[at..body_at];
        let address = |at: usize| Ipv6Addr::from(*header[at..].first_chunk::<16>().expect("40 bytes"));
        let (kind, source, destination) = (header[6], address(8), address(24));
        let len = 20 + u16::from_be_bytes([header[4], header[5]]).min(u16::MAX - 20);
        let mut bytes =
            [&captured.bytes[..at - 2], &[8, 0, 0x45, 0], &len.to_be_bytes(), &[0, 0, 0, 0, 64, kind, 0, 0]].concat();
        bytes.extend(self.stand_in(source).octets());
        bytes.extend(self.stand_in(destination).octets());
        bytes.extend(&captured.bytes[body_at..]);
        Some(Captured { at: captured.at, bytes, len: captured.len - 20 })
    }

    /// The IPv6 packet that this frame in the shape of one of IPv4 stands for; a frame of another peer is left as it is.
    fn as_ipv6(&self, bytes: Vec<u8>) -> Vec<u8> {
        let Some((at, header)) = ipv4(&bytes) else { return bytes };
        let source = Ipv4Addr::new(bytes[at + 12], bytes[at + 13], bytes[at + 14], bytes[at + 15]);
        let Some((source, _)) = self.stand_ins.iter().find(|(_, stand_in)| **stand_in == source) else { return bytes };
        let source =
            if source.is_unspecified() || source.is_loopback() || *source == v6::US6 { &v6::THEM6 } else { source };
        let total = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let body =
            &bytes[(at + header).min(bytes.len())..(at + total).clamp(at + header, bytes.len().max(at + header))];
        let kind = bytes[at + 9];
        let packet = match kind {
            6 if body.len() >= 20 => v6::summed((*source, OWN), v6::US6, (kind, 64), body, 16),
            17 if body.len() >= 8 => v6::summed((*source, OWN), v6::US6, (kind, 64), body, 6),
            _ => v6::packet_from((*source, OWN), v6::US6, (kind, 64), body),
        };
        [&bytes[..at - 2], &packet[12..]].concat()
    }

    /// What is to be sent for a captured frame.
    pub fn steps(&mut self, captured: &Captured) -> Vec<Step> {
        let shaped = self.in_the_shape_of_ipv4(captured);
        let captured = shaped.as_ref().unwrap_or(captured);
        let as_it_is = |bytes: Vec<u8>| vec![Step { bytes, at: None, conversation: None }];
        let mut bytes = captured.bytes.clone();
        let Some((at, header)) = ipv4(&bytes) else { return as_it_is(bytes) };
        let total = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        bytes.resize((at + total.min(captured.len - at)).max(bytes.len()).min(65_549), 0);
        let to_many = bytes[0] & 1 == 1;
        bytes[at + 16..at + 20].copy_from_slice(&US.octets());
        let source = Ipv4Addr::new(bytes[at + 12], bytes[at + 13], bytes[at + 14], bytes[at + 15]);
        let source = if source == US || source.is_loopback() || source.is_unspecified() {
            Ipv4Addr::new(10, 77, 0, 200)
        } else {
            source
        };
        let destination = Ipv4Addr::from_octets(captured.bytes[at + 16..at + 20].try_into().expect("four bytes"));
        bytes[at + 12..at + 16].copy_from_slice(&source.octets());
        let fragment = u16::from_be_bytes([bytes[at + 6], bytes[at + 7]]) & 0x3fff != 0;
        let kind = bytes[at + 9];
        let mut steps = if kind == 6 && !fragment {
            self.segment(bytes, at, header, (source, destination))
        } else {
            if kind == 17 && bytes.len() >= at + header + 8 && bytes[at + 6] & 0x1f == 0 && bytes[at + 7] == 0 {
                bytes[at + header + 2..at + header + 4].copy_from_slice(&PORT.to_be_bytes());
                let from = u16::from_be_bytes([bytes[at + header], bytes[at + header + 1]]);
                if from < 1_024 || from == PORT {
                    // A server's own port is not answered.
                    bytes[at + header..at + header + 2].copy_from_slice(&(20_000 + from % 20_000).to_be_bytes());
                }
                if fragment {
                    // A part of a packet has no checksum to compute; a datagram may go without (RFC 768).
                    bytes[at + header + 6..at + header + 8].fill(0);
                }
            }
            vec![Step { bytes, at: Some(at), conversation: None }]
        };
        if to_many {
            // First as it was: to many, of whom none may answer.
            let first = steps.first().map(|step| Step { bytes: step.bytes.clone(), at: step.at, conversation: None });
            steps.splice(..0, first);
            steps.iter_mut().skip(1).for_each(|step| step.bytes[..6].copy_from_slice(&OWN.0));
        } else {
            steps.iter_mut().for_each(|step| step.bytes[..6].copy_from_slice(&OWN.0));
        }
        steps
    }

    /// The steps of a segment between `source` and `destination`.
    fn segment(
        &mut self,
        mut bytes: Vec<u8>,
        at: usize,
        header: usize,
        (source, destination): (Ipv4Addr, Ipv4Addr),
    ) -> Vec<Step> {
        let tcp = at + header;
        let total = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if bytes.len() < tcp + 20 || total < header + 20 {
            return vec![Step { bytes, at: Some(at), conversation: None }];
        }
        let port = |offset: usize| u16::from_be_bytes([bytes[tcp + offset], bytes[tcp + offset + 1]]);
        let (from, to) = ((source, port(0)), (destination, port(2)));
        let word = |offset: usize| u32::from_be_bytes(bytes[tcp + offset..tcp + offset + 4].try_into().expect("four"));
        let (seq, ack, flags) = (word(4), word(8), bytes[tcp + 13]);
        let data_at = tcp + (usize::from(bytes[tcp + 12] >> 4) * 4).max(20);
        let end = (at + total).min(bytes.len());
        let len = end.saturating_sub(data_at);
        let asks = flags & (SYN | ACK) != SYN | ACK;
        let (peer, is_peer) = self.peer_of(from, to, asks);
        let Some(conversation) = self.all.get_mut(&peer) else { return Vec::new() };
        if !is_peer {
            conversation.take_sent(seq, len, flags);
            self.touched.insert(peer);
            return Vec::new();
        }
        if flags & ACK != 0 {
            conversation.theirs.get_or_insert((ack.wrapping_sub(1), ack));
        }
        let mut steps = Vec::new();
        if !conversation.begun && flags & (SYN | RST) == 0 {
            for (flags, seq) in [(SYN, seq.wrapping_sub(1)), (ACK, seq)] {
                let first = conversation.theirs.map_or(0, |(first, _)| first.wrapping_add(1));
                let frame = Tcp::new(peer.1, flags, seq, first).frame_from(peer.0.octets());
                steps.push(Step { bytes: frame, at: Some(14), conversation: Some(peer) });
            }
        }
        conversation.begun |= flags & RST == 0;
        bytes[tcp..tcp + 2].copy_from_slice(&peer.1.to_be_bytes());
        bytes[tcp + 2..tcp + 4].copy_from_slice(&PORT.to_be_bytes());
        if total <= PACKET_MAX || len <= PART {
            steps.push(Step { bytes, at: Some(at), conversation: Some(peer) });
            return steps;
        }
        for from in (0..len).step_by(PART) {
            let bytes = part_of(&bytes, (at, tcp, data_at), from..len.min(from + PART), len);
            steps.push(Step { bytes, at: Some(at), conversation: Some(peer) });
        }
        steps
    }

    /// The peer of a segment's conversation, as we know it, and whether the segment is its: who was first seen to ask is the
    /// peer, or to be answered. `asks`: the segment is no answer to a SYN.
    fn peer_of(&mut self, from: Ends, to: Ends, asks: bool) -> (Ends, bool) {
        let (key, is_peer) = if self.known.contains_key(&(from, to)) {
            ((from, to), true)
        } else if self.known.contains_key(&(to, from)) {
            ((to, from), false)
        } else if asks {
            ((from, to), true)
        } else {
            ((to, from), false)
        };
        let all = &mut self.all;
        let peer = *self.known.entry(key).or_insert_with(|| {
            let (address, mut port) = key.0;
            while port == 0 || all.contains_key(&(address, port)) {
                port = port.wrapping_add(7_919);
            }
            all.insert((address, port), Conversation::default());
            (address, port)
        });
        (peer, is_peer)
    }

    /// The frame of a step: what it acknowledges, and its sums.
    pub fn finish(&self, step: Step) -> Vec<u8> {
        let Step { mut bytes, at: Some(at), conversation } = step else { return step.bytes };
        let header = usize::from(bytes[at] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let end = (at + total).clamp(at + header, bytes.len().max(at + header));
        let (ip, body) = bytes[at..end].split_at_mut(header);
        sum_ip(ip);
        if u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 {
            return self.as_ipv6(bytes);
        }
        if let Some(conversation) = conversation.and_then(|peer| self.all.get(&peer))
            && let (Some((theirs, _)), Some((ours, next))) = (conversation.theirs, conversation.ours)
            && body.len() >= 20
        {
            let ack = u32::from_be_bytes([body[8], body[9], body[10], body[11]]);
            let mut ack = ack.wrapping_sub(theirs).wrapping_add(ours);
            if ack.wrapping_sub(next) as i32 > 0 {
                ack = next;
            }
            body[8..12].copy_from_slice(&ack.to_be_bytes());
        }
        sum_body(ip, body);
        self.as_ipv6(bytes)
    }

    /// Notes the sequence numbers of a frame that the stack has sent.
    pub fn note(&mut self, frame: &[u8]) {
        let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return };
        let peer = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr(),
            Some(NetSlice::Ipv6(ip)) => self.stand_in(ip.header().destination_addr()),
            _ => return,
        };
        let peer = (peer, tcp.destination_port());
        let Some(conversation) = self.all.get_mut(&peer) else { return };
        let seq = tcp.sequence_number();
        let next = seq.wrapping_add(tcp.payload().len() as u32 + u32::from(tcp.syn()) + u32::from(tcp.fin()));
        if tcp.syn() {
            conversation.ours = Some((seq, next));
        } else if let Some((_, sent)) = &mut conversation.ours
            && next.wrapping_sub(*sent) as i32 > 0
        {
            *sent = next;
        }
    }

    /// News of a flow.
    pub fn hear(&mut self, poll: &mut Poll<WireQueue>, event: &Event) {
        if event.closed().is_some() {
            return;
        }
        let Some(flow) = poll.flow(event.flow()) else { return };
        let peer = match flow.peer() {
            SocketAddr::V4(peer) => (*peer.ip(), peer.port()),
            SocketAddr::V6(peer) => (self.stand_in(*peer.ip()), peer.port()),
        };
        self.all.entry(peer).or_default().flow = Some(event.flow());
        self.touched.insert(peer);
    }

    /// Reads what has come and writes what can be. Returns how much was read.
    pub fn visit(&mut self, poll: &mut Poll<WireQueue>) -> u64 {
        let mut read = 0;
        for peer in std::mem::take(&mut self.touched) {
            let Some(conversation) = self.all.get_mut(&peer) else { continue };
            let Some(id) = conversation.flow else { continue };
            let Some(mut flow) = poll.flow(id) else { continue };
            while flow.recv_queue() > 0 {
                read += flow.recv(|bytes| (bytes.len(), bytes.len() as u64));
            }
            while conversation.out > 0 && flow.send_room() > 0 {
                let out = conversation.out;
                conversation.out -= flow.send(|room| {
                    let count = room.len().min(out);
                    room[..count].fill(0x55);
                    (count, count)
                });
            }
            if conversation.aborts {
                flow.abort();
                conversation.flow = None;
            } else if conversation.out == 0 && conversation.ends {
                if !std::mem::replace(&mut conversation.shut, true) {
                    poll.shutdown(id);
                }
                if let Some(flow) = poll.flow(id)
                    && flow.peer_closed()
                {
                    flow.close();
                    conversation.flow = None;
                }
            }
        }
        read
    }

    /// The capture is over: what is open is closed.
    pub fn leave(&mut self, poll: &mut Poll<WireQueue>) {
        for conversation in self.all.values_mut() {
            if let Some(flow) = conversation.flow.take().and_then(|id| poll.flow(id)) {
                flow.close();
            }
        }
    }
}

/// The segment of `bytes` whose packet, header and data begin `at` these places, with a part alone of its `len` bytes of data.
fn part_of(bytes: &[u8], (at, tcp, data_at): (usize, usize, usize), part: Range<usize>, len: usize) -> Vec<u8> {
    let mut cut = [&bytes[..data_at], &bytes[data_at + part.start..data_at + part.end]].concat();
    cut[at + 2..at + 4].copy_from_slice(&((data_at - at + part.len()) as u16).to_be_bytes());
    let seq = u32::from_be_bytes(bytes[tcp + 4..tcp + 8].try_into().expect("four"));
    cut[tcp + 4..tcp + 8].copy_from_slice(&seq.wrapping_add(part.start as u32).to_be_bytes());
    if part.end < len {
        cut[tcp + 13] &= !FIN;
    }
    cut
}

/// Where the IPv4 packet of a frame begins, and how long its header is.
fn ipv4(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = if bytes.get(12..14)? == [0x81, 0] { 18 } else { 14 };
    let header = usize::from(bytes.get(at)? & 15) * 4;
    let right = bytes[at - 2..at] == [8, 0] && bytes[at] >> 4 == 4 && header >= 20 && bytes.len() >= at + header;
    right.then_some((at, header))
}

/// Where the IPv6 packet of a frame begins, and its segment or datagram; `None` where it has another header, or is cut.
fn ipv6(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = if bytes.get(12..14)? == [0x81, 0] { 18 } else { 14 };
    let right = bytes.get(at - 2..at)? == [0x86, 0xdd] && bytes.len() >= at + 40 && bytes[at] >> 4 == 6;
    (right && [6, 17].contains(&bytes[at + 6])).then_some((at, at + 40))
}
