//! `Train`: many segments of a flow that smoltcp writes as one, for a queue that takes such (`nic::Queue::send_train`).
//!
//! smoltcp's segments are as long as its peer and its interface take. A flow that moves into larger rings is told there that
//! its peer takes 64 kB ([`Marks::LONG`](crate::phase::Marks::LONG)), so that its interface alone says how long they are. A
//! train is written through one that is made for it (30 ns) and lets out exactly what is wanted. Everything else that the
//! flow says goes through one of its real MTU, as that of a flow with a narrow way does (`net_stack/path_mtu.rs`): nothing
//! that sends again, probes or walks through what is in flight meets a long segment.
//!
//! ```text
//! room    |      | link header | IPv4 or IPv6 header | TCP header | payload of many segments |
//! ```
//!
//! A train that the queue does not take is cut here, into frames. Read first: `one_frame.rs`, `ipv6.rs`.

use nic::{Frame, checksum};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use crate::block::FlowBlock;
use crate::ipv6::Head;
use crate::link::LinkHeader;
use crate::one_frame::capabilities;
use crate::segment::{Sent, write_ip_checksum};
use crate::wire::{FIN, IPV4_BYTES, LONGER_BYTES, PROTOCOL_TCP, PSH, RST, SYN, TCP_BYTES};

/// Longest IP packet.
const MOST_PACKET: usize = 65_535;

/// Longest that smoltcp can make one: its peer's segment size is two bytes wide (RFC 9293 §3.7.1), a TCP header 60 bytes long.
const MOST_WRITTEN: usize = IPV4_BYTES + 60 + u16::MAX as usize;

/// Headers of a segment as smoltcp writes it.
const HEAD: usize = IPV4_BYTES + TCP_BYTES;

/// Where in the room the IPv4 packet begins: behind every link header, so that the payload begins at a cache line.
const AT: usize = 128 - HEAD;

/// What such a flow is told that its peer takes.
pub(crate) const LONG_MSS: u16 = (MOST_PACKET - HEAD) as u16;

/// Segments that are worth a train, and the most that one has: there are as many frames at hand, if it is to be cut.
const LEAST_SEGMENTS: u32 = 3;
const MOST_SEGMENTS: u32 = nic::BURST as u32;

/// What may leave as a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bytes of payload.
    bytes: usize,
    pub(crate) segments: usize,
}

impl Plan {
    /// What the flow of `block` has to say in whole segments, or to the end of what it has to say; `None`: that is no train.
    #[inline]
    pub(crate) fn of(block: &FlowBlock) -> Option<Self> {
        let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
        let unsent = (block.socket().send_queue() as u32).checked_sub(in_flight)?;
        let mss = u32::from(block.sending.mss());
        if unsent < LEAST_SEGMENTS * mss || !block.phase.has_peer() {
            return None;
        }
        let room = block.sending.lets_out_to(0, block.told_window).checked_sub(in_flight)?;
        let most = MOST_SEGMENTS.min((MOST_PACKET - HEAD) as u32 / mss);
        let mut bytes = unsent.min(room).min(most * mss);
        if bytes < unsent {
            bytes -= bytes % mss;
        }
        let plan = Self { bytes: bytes as usize, segments: bytes.div_ceil(mss) as usize };
        (bytes >= LEAST_SEGMENTS * mss).then_some(plan)
    }
}

/// Room for one train, which is sent before the next is written. Belongs to one core.
pub(crate) struct Train {
    room: Box<[u8]>,
    /// Whether the queue that was heard last takes trains.
    pub(crate) taken: bool,
    /// Bytes of the packet in it, as smoltcp has written it; 0: none.
    len: usize,
    /// Whether smoltcp has written last what is longer than was planned, which is none.
    refused: bool,
    /// Its headers as smoltcp has written them, for those of pieces.
    head: [u8; HEAD],
}

impl Train {
    pub(crate) fn new() -> Self {
        Self { room: vec![0; AT + MOST_WRITTEN].into(), taken: false, len: 0, refused: false, head: [0; HEAD] }
    }

    /// Has the socket in `set`, which was told of a peer that takes it, write up to as much as is planned. Returns what it has
    /// written, if anything.
    pub(crate) fn write(&mut self, now: Instant, set: &mut SocketSet<'static>, plan: Plan) -> Option<Written> {
        (self.len, self.refused) = (0, false);
        let mut config = Config::new(HardwareAddress::Ip);
        // Draws nothing that leaves the machine.
        config.random_seed = 1;
        let mut device = Long { train: self, most: HEAD + plan.bytes };
        let mut interface = Interface::new(config, &mut device, now);
        interface.set_any_ip(true);
        interface.poll_egress(now, &mut device, set);
        let packet = &self.room[AT..AT + self.len];
        let sent = Sent::of(packet)?;
        let tcp = packet.get(IPV4_BYTES..)?.first_chunk::<TCP_BYTES>()?;
        let payload = packet.len() - IPV4_BYTES - usize::from(tcp[12] >> 4) * 4;
        let plain = payload + HEAD == packet.len() && sent.flags & (SYN | RST) == 0;
        Some(Written { sent, seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]), payload, plain })
    }

    /// Whether what smoltcp has written last was longer than was planned, so that it is none: as if it had been lost on its way.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused
    }

    /// The IPv4 packet that was written.
    pub(crate) fn packet(&mut self) -> &mut [u8] {
        &mut self.room[AT..AT + self.len]
    }

    /// Writes what was written into one frame, behind `link`, as smoltcp would have, without sums. Returns whether it fits.
    pub(crate) fn write_whole(&self, frame: &mut Frame, link: &LinkHeader) -> bool {
        let packet = &self.room[AT..AT + self.len];
        if frame.resize(link.len() + packet.len()).is_err() {
            return false;
        }
        link.write(frame.bytes_mut());
        frame.bytes_mut()[link.len()..].copy_from_slice(packet);
        true
    }

    /// Makes what was written, which has a plain TCP header, a packet as a queue takes it, and returns it. `head`: the header
    /// of a packet of IPv6.
    pub(crate) fn finish(&mut self, link: &LinkHeader, head: Option<&Head>) -> &[u8] {
        let packet = &mut self.room[AT..AT + self.len];
        if let Some(written) = packet.first_chunk() {
            self.head = *written;
        }
        let tcp_len = packet.len().saturating_sub(IPV4_BYTES);
        let pseudo = match head {
            Some(head) => head.pseudo_sum(tcp_len),
            None => {
                let addresses = packet.get(12..IPV4_BYTES).unwrap_or_default();
                // It is no longer than an IPv4 packet.
                let rest = checksum::pseudo_header([0; 4], [0; 4], PROTOCOL_TCP, tcp_len as u16);
                checksum::add(rest, addresses)
            }
        };
        if let Some(field) = packet.get_mut(IPV4_BYTES + 16..IPV4_BYTES + 18) {
            field.copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
        }
        if head.is_none() {
            write_ip_checksum(packet);
        }
        let start = AT - link.len();
        // What that writes beyond the link's header is the packet's again.
        link.write(&mut self.room[start..]);
        match head {
            None => self.room[AT..AT + 4].copy_from_slice(&self.head[..4]),
            Some(head) => {
                let before = &mut self.room[AT - LONGER_BYTES..];
                if let Some(ip) = before.first_chunk_mut() {
                    head.write(ip, tcp_len);
                }
            }
        }
        &self.room[start..AT + self.len]
    }

    /// Writes the segment that begins `at` in the payload and has `len` bytes of it into `frame`, behind `link`, as smoltcp
    /// would have written it, without sums. Returns whether it fits.
    pub(crate) fn write_piece(&self, frame: &mut Frame, link: &LinkHeader, at: usize, len: usize) -> bool {
        let Some(payload) = self.room.get(AT + HEAD + at..AT + HEAD + at + len) else { return false };
        if frame.resize(link.len() + HEAD + len).is_err() {
            return false;
        }
        let bytes = frame.bytes_mut();
        link.write(bytes);
        let packet = &mut bytes[link.len()..];
        packet[..HEAD].copy_from_slice(&self.head);
        // It is no longer than what it is a piece of.
        packet[2..4].copy_from_slice(&((HEAD + len) as u16).to_be_bytes());
        let tcp = &mut packet[IPV4_BYTES..];
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(at as u32);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        if AT + HEAD + at + len < AT + self.len {
            tcp[13] &= !(FIN | PSH);
        }
        packet[HEAD..].copy_from_slice(payload);
        true
    }
}

/// What smoltcp has written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) sent: Sent,
    /// The sequence number of its first byte.
    pub(crate) seq: u32,
    /// Bytes of its payload.
    pub(crate) payload: usize,
    /// Its header is that of data and has no options.
    pub(crate) plain: bool,
}

/// smoltcp's device for it: no packet in, at most one out.
struct Long<'a> {
    train: &'a mut Train,
    most: usize,
}

impl Device for Long<'_> {
    type RxToken<'b>
        = Nothing
    where
        Self: 'b;
    type TxToken<'b>
        = Write<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Nothing, Write<'_>)> {
        None
    }

    fn transmit(&mut self, _now: Instant) -> Option<Write<'_>> {
        let unused = self.train.len == 0 && !self.train.refused;
        unused.then_some(Write { train: self.train, most: self.most })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.most)
    }
}

/// The right to read what never comes.
struct Nothing;

impl RxToken for Nothing {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&[])
    }
}

/// The right to write the segment, of at most so many bytes.
struct Write<'b> {
    train: &'b mut Train,
    most: usize,
}

impl TxToken for Write<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Self { train, most } = self;
        // No segment is longer than was planned, which fits. If one were, smoltcp, which must write it, would write it here
        // as well, and it would go no further: there is room for whatever it can make.
        train.refused = len > most;
        train.len = if train.refused { 0 } else { len };
        let end = train.room.len().min(AT + len);
        write(&mut train.room[AT..end])
    }
}

#[cfg(test)]
mod tests;
