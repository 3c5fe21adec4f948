//! Flow blocks: everything that belongs to one flow, in one stretch of memory that is made once and recycled.
//!
//! ```text
//! FlowBlock (key, sequence numbers, link header, set) │ socket │ receive ring │ transmit ring
//! ```
//!
//! A block is leaked: smoltcp never gives a socket's slices back, so a socket lives as long as the process and is
//! recycled by `abort` and `listen` or `connect`, with every setting that smoltcp's `reset` leaves behind set anew
//! ([`FlowBlock::recycle`]; `tests/recycle.rs` shows that a recycled flow equals a fresh one). Blocks are an odd number
//! of cache lines long, so that the same field of many blocks spreads over all sets of the cache.
//!
//! Memory of one flow: 832 bytes and its two rings, in whole cache lines, so 13,120 bytes with the default rings; its
//! slots in the flow table, the timer wheel and the lists add 60.

use std::time::Duration;

use cpu::CACHE_LINE_BYTES;
use smoltcp::iface::{Context, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::wire::IpAddress;

use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::config::ConfigError;
use crate::flow_id::FlowKey;
use crate::link::LinkHeader;
use crate::rings::Rings;

/// Makes so many blocks and appends them.
pub(crate) type MakeBlocks = fn(usize, &mut Vec<&'static mut FlowBlock>);

/// The function that makes blocks with these rings.
///
/// # Errors
/// No block is built for these sizes.
pub(crate) fn maker(rings: Rings) -> Result<MakeBlocks, ConfigError> {
    Ok(match (rings.rx, rings.tx) {
        (512, 512) => make::<512, 512>,
        (2_048, 2_048) => make::<2_048, 2_048>,
        (2_048, 4_096) => make::<2_048, 4_096>,
        (4_096, 8_192) => make::<4_096, 8_192>,
        (8_192, 16_384) => make::<8_192, 16_384>,
        (16_384, 32_768) => make::<16_384, 32_768>,
        (32_768, 65_535) => make::<32_768, 65_535>,
        (65_535, 65_535) => make::<65_535, 65_535>,
        (rx, tx) => {
            let choices: Vec<_> = Rings::CHOICES.iter().map(|c| format!("{}+{}", c.rx, c.tx)).collect();
            return Err(ConfigError::Rings { rx, tx, choices: choices.join(", ") });
        }
    })
}

/// A flow's memory.
#[repr(C, align(64))]
struct Block<const RX: usize, const TX: usize> {
    head: Option<FlowBlock>,
    sockets: [SocketStorage<'static>; 1],
    rx: [u8; RX],
    tx: [u8; TX],
    /// Makes the number of cache lines odd.
    _stagger: [u8; CACHE_LINE_BYTES],
}

/// Bytes from the start of a [`FlowBlock`] to the end of its socket, behind which its rings begin.
const HEAD_BYTES: usize = size_of::<Option<FlowBlock>>() + size_of::<SocketStorage<'static>>();

const _: () = assert!(std::mem::offset_of!(Block<512, 512>, rx) == HEAD_BYTES);

fn make<const RX: usize, const TX: usize>(count: usize, into: &mut Vec<&'static mut FlowBlock>) {
    const { assert!(size_of::<Block<RX, TX>>() / 64 % 2 == 1, "a block must be an odd number of cache lines") };
    let blocks: Box<[Block<RX, TX>]> = (0..count)
        .map(|_| Block {
            head: None,
            sockets: [SocketStorage::EMPTY],
            rx: [0; RX],
            tx: [0; TX],
            _stagger: [0; CACHE_LINE_BYTES],
        })
        .collect();
    for block in Box::leak(blocks) {
        let Block { head, sockets, rx, tx, .. } = block;
        let mut set = SocketSet::new(&mut sockets[..]);
        let handle = set.add(Socket::new(SocketBuffer::new(&mut rx[..]), SocketBuffer::new(&mut tx[..])));
        into.push(head.insert(FlowBlock::new(set, handle)));
    }
}

/// One flow: what smoltcp does not know or does not tell, and the set that holds its one socket.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct FlowBlock {
    /// The 4-tuple, and its hash in the flow table.
    pub(crate) key: FlowKey,
    pub(crate) hash: u32,
    /// Counts the flows that this block has served; even while it is free.
    pub(crate) generation: u32,
    /// `FLAG_*`.
    pub(crate) flags: u32,
    /// SND.NXT: the end of the highest segment that has left.
    pub(crate) snd_nxt: u32,
    /// SND.UNA as the peer has shown it: the highest acceptable ACK number seen.
    pub(crate) highest_ack: u32,
    /// Sequence number of the first byte in the receive ring.
    pub(crate) rcv_base: u32,
    /// ACK number and window field of the last segment that left: how far the peer may send.
    pub(crate) last_ack: u32,
    pub(crate) last_window: u16,
    /// Window field of the peer's segment with the highest ACK number.
    pub(crate) peer_window: u16,
    /// Room in the transmit ring that the application waits for; 0: none.
    pub(crate) want_room: u32,
    /// Port on which the peer's last frame arrived.
    pub(crate) port: u16,
    /// Set once the flow is dead and the application has yet to hear of it.
    pub(crate) close_reason: Option<CloseReason>,
    /// The header of every frame to the peer; empty while an active flow's is not known.
    pub(crate) link: LinkHeader,
    /// The application's own number for the flow.
    pub(crate) token: u64,
    /// When the peer was last heard.
    pub(crate) heard_at: Time,
    /// When something unacknowledged last began to wait, if `FLAG_WAITING`.
    pub(crate) waiting_since: Time,
    /// When the present closing state, or the handshake, began.
    pub(crate) state_since: Time,
    /// No challenge ACK before.
    pub(crate) challenge_at: Time,
    /// No question to a silent peer before.
    pub(crate) probe_at: Time,
    /// When, and what from, the flow began to send again what it sends again at present, if `FLAG_SENT_AGAIN`.
    pub(crate) sent_again_at: Time,
    pub(crate) sent_again_from: u32,
    /// The socket.
    pub(crate) set: SocketSet<'static>,
    pub(crate) handle: SocketHandle,
}

/// The flow is on the ready list.
pub(crate) const FLAG_READY: u32 = 1;
/// The flow is on the list of flows to be polled by the next flush.
pub(crate) const FLAG_TOUCHED: u32 = 1 << 1;
/// The application has been told of the flow, or will be by the ready list.
pub(crate) const FLAG_OPEN: u32 = 1 << 2;
/// Events that the ready list is to report.
pub(crate) const FLAG_EVENT_OPENED: u32 = 1 << 3;
pub(crate) const FLAG_EVENT_READABLE: u32 = 1 << 4;
pub(crate) const FLAG_EVENT_WRITABLE: u32 = 1 << 5;
pub(crate) const FLAG_EVENT_WOKEN: u32 = 1 << 6;
/// The application has closed the flow and hears no more of it.
pub(crate) const FLAG_RELEASED: u32 = 1 << 7;
/// The peer's FIN has been accepted: one more in the receive sequence than bytes.
pub(crate) const FLAG_FIN_RECEIVED: u32 = 1 << 8;
/// Something unacknowledged is waiting.
pub(crate) const FLAG_WAITING: u32 = 1 << 9;
/// Level-triggered interest.
pub(crate) const FLAG_LEVEL_READ: u32 = 1 << 10;
pub(crate) const FLAG_LEVEL_WRITE: u32 = 1 << 11;
/// `state_since` is when FIN-WAIT-2 began.
pub(crate) const FLAG_FIN_WAIT_2: u32 = 1 << 12;

/// The application has thrown the flow away; the next flush resets it.
pub(crate) const FLAG_ABORTED: u32 = 1 << 13;

/// `state_since` is when the application closed the flow.
pub(crate) const FLAG_RELEASE_SEEN: u32 = 1 << 14;
/// We have opened the flow: the application knows of it from the first, and hears of its end whatever it was told before.
pub(crate) const FLAG_ACTIVE: u32 = 1 << 15;
/// An active flow whose handshake is under way: nothing is known of the peer.
pub(crate) const FLAG_CONNECTING: u32 = 1 << 16;
/// The flow is on the list of those that wait for a neighbour's Ethernet address.
pub(crate) const FLAG_RESOLVING: u32 = 1 << 17;

/// The flow has sent something again, which is no sign yet, and nothing new since.
pub(crate) const FLAG_SENT_AGAIN: u32 = 1 << 18;
/// It has just done so: its way is to be doubted.
pub(crate) const FLAG_DOUBTED: u32 = 1 << 19;

/// Its next hop is being asked for.
pub(crate) const FLAG_IN_DOUBT: u32 = 1 << 20;

/// A list's mark stays with the block until the list lets go of it, whatever flow uses the block by then.
const FLAGS_OF_LISTS: u32 = FLAG_READY | FLAG_TOUCHED | FLAG_RESOLVING;

/// What every socket is set to, whenever it is recycled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knobs {
    pub(crate) ack_delay: Duration,
    pub(crate) keep_alive: Option<Duration>,
}

impl FlowBlock {
    fn new(set: SocketSet<'static>, handle: SocketHandle) -> Self {
        Self {
            key: FlowKey::NONE,
            hash: 0,
            generation: 0,
            flags: 0,
            snd_nxt: 0,
            highest_ack: 0,
            rcv_base: 0,
            last_ack: 0,
            last_window: 0,
            peer_window: 0,
            want_room: 0,
            port: 0,
            close_reason: None,
            link: LinkHeader::EMPTY,
            token: 0,
            heard_at: Time::ZERO,
            waiting_since: Time::ZERO,
            state_since: Time::ZERO,
            challenge_at: Time::ZERO,
            probe_at: Time::ZERO,
            sent_again_at: Time::ZERO,
            sent_again_from: 0,
            set,
            handle,
        }
    }

    /// Asks for the cache lines of the block and of its socket, which lies right behind it.
    #[inline]
    pub(crate) fn prefetch(&self) {
        cpu::prefetch_beyond(self, 0, HEAD_BYTES);
    }

    /// The socket.
    #[inline]
    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    /// The socket, to be changed.
    #[inline]
    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Whether a flow uses the block.
    #[inline]
    pub(crate) fn in_use(&self) -> bool {
        self.generation & 1 == 1
    }

    /// RCV.NXT: the next sequence number expected of the peer.
    #[inline]
    pub(crate) fn rcv_nxt(&self) -> u32 {
        let queued = self.socket().recv_queue() as u32;
        self.rcv_base.wrapping_add(queued).wrapping_add(u32::from(self.flags & FLAG_FIN_RECEIVED != 0))
    }

    /// Makes the socket listen on `port` as if it had just been made, and every field of the block as of a new flow.
    pub(crate) fn recycle(&mut self, port: u16, knobs: Knobs) {
        let socket = self.socket_mut();
        socket.abort();
        // A socket that was aborted is closed, and the port is not 0: neither of listen's errors can happen.
        let listening = socket.listen(port);
        debug_assert!(listening.is_ok());
        self.renew(knobs);
    }

    /// Makes the socket one that is about to send its SYN to the peer of `key`, with the next ISN that `context` draws,
    /// as if it had just been made, and every field of the block as of a new flow.
    pub(crate) fn recycle_to_connect(&mut self, context: &mut Context, key: &FlowKey, knobs: Knobs) {
        let socket = self.socket_mut();
        socket.abort();
        let local = (IpAddress::Ipv4(key.local), key.local_port);
        // A socket that was aborted is closed, and neither address nor port is 0: none of connect's errors can happen.
        let connecting = socket.connect(context, (IpAddress::Ipv4(key.remote), key.remote_port), local);
        debug_assert!(connecting.is_ok());
        self.renew(knobs);
    }

    /// Sets what smoltcp's `reset` leaves of an earlier flow, and the block's own fields.
    ///
    /// That `reset`, which `listen` and `connect` call, leaves congestion window, time-stamp generator, time-outs, keep-alive,
    /// hop limit, ACK delay and Nagle as they were: each is set here. It also leaves three fields that cannot be set:
    /// the duplicate-ACK counter and last ACK number (cleared by the first ACK of the next handshake, be it that of our
    /// SYN-ACK or a SYN-ACK itself, which can never count as a duplicate), and the pending fast retransmit (always cleared within the call that sets it, since
    /// egress is only asked for with a frame in hand).
    fn renew(&mut self, knobs: Knobs) {
        let socket = self.socket_mut();
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(FlowClock::span(knobs.ack_delay)));
        socket.set_timeout(None);
        socket.set_tsval_generator(None);
        socket.set_hop_limit(None);
        // `None` first: with an interval set, smoltcp would start its timer now.
        socket.set_keep_alive(None);
        socket.set_keep_alive(knobs.keep_alive.map(FlowClock::span));
        self.flags &= FLAGS_OF_LISTS;
        self.want_room = 0;
        self.close_reason = None;
        self.token = 0;
        self.challenge_at = Time::ZERO;
        self.probe_at = Time::ZERO;
    }

    /// Ends the use of the block: the socket holds nothing and answers nothing.
    pub(crate) fn retire(&mut self) {
        self.socket_mut().abort();
        self.generation = self.generation.wrapping_add(1);
        self.key = FlowKey::NONE;
        self.flags &= FLAGS_OF_LISTS;
        self.close_reason = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_makes_blocks_of_its_sizes() {
        for rings in Rings::CHOICES {
            let mut blocks = Vec::new();
            maker(rings).expect("a choice")(2, &mut blocks);
            assert_eq!(blocks.len(), 2);
            assert_eq!(blocks[1].socket().recv_capacity(), rings.rx);
            assert_eq!(blocks[1].socket().send_capacity(), rings.tx);
            assert_eq!(std::ptr::from_ref(&*blocks[0]).addr() % 64, 0);
        }
    }

    #[test]
    fn other_sizes_are_refused_with_the_choices() {
        let error = maker(Rings { rx: 100, tx: 100 }).expect_err("no such block").to_string();
        assert!(error.contains("4096+8192"), "{error}");
    }

    #[test]
    fn the_memory_of_a_flow_is_what_the_documentation_says() {
        assert_eq!(size_of::<Block<4_096, 8_192>>(), 13_120);
        assert_eq!(Rings::DEFAULT.flow_bytes(), 13_120);
        assert_eq!(Rings { rx: 65_535, tx: 65_535 }.flow_bytes(), size_of::<Block<65_535, 65_535>>());
    }
}
