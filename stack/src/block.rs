//! Flow blocks: everything that belongs to one flow, in one stretch of memory that is made once and recycled.
//!
//! ```text
//! FlowBlock (key, sequence numbers, link header, set) │ socket │ receive ring │ transmit ring
//! ```
//!
//! A block is leaked: smoltcp never gives a socket's slices back, so a socket lives as long as the process and is
//! recycled by `abort` and `listen` or `connect`, with every setting that smoltcp's `reset` leaves behind set anew
//! ([`FlowBlock::begin`]; `tests/tcp/recycle.rs` shows that a recycled flow equals a fresh one). Blocks are an odd number
//! of cache lines long, so that the same field of many blocks spreads over all sets of the cache.
//!
//! Memory of one flow: 832 bytes and its two rings, in whole cache lines, so 13,120 bytes with the default rings; its
//! slots in the flow table, the timer wheel and the lists add 60.

use std::time::Duration;

use smoltcp::iface::{Context, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::wire::IpAddress;

use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::config::ConfigError;
use crate::flow_id::FlowKey;
use crate::link::LinkHeader;
use crate::options::SynOptions;
use crate::phase::{Marks, Phase};
use crate::ready::{Interest, News};
use crate::ring_pool::Place;
use crate::rings::Rings;
use crate::scoreboard::BoardNumber;
use crate::sending::Sending;
use crate::wire::{IPV4_BYTES, SCALE, TCP_BYTES};

/// What a flow's peer is promised that may come beyond the receive ring: as much as the next larger rings take, those that come
/// after larger ones take, or nothing, since the flow cannot be moved any more.
pub(crate) const PROMISE_OF_OWN_RINGS: u8 = 0;
pub(crate) const PROMISE_OF_LARGER_RINGS: u8 = 1;
pub(crate) const NO_PROMISE: u8 = 2;

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
}

/// Bytes from the start of a [`FlowBlock`] to the end of its socket, behind which its rings begin.
const HEAD_BYTES: usize = size_of::<Option<FlowBlock>>() + size_of::<SocketStorage<'static>>();

const _: () = assert!(std::mem::offset_of!(Block<512, 512>, rx) == HEAD_BYTES);

fn make<const RX: usize, const TX: usize>(count: usize, into: &mut Vec<&'static mut FlowBlock>) {
    const { assert!(size_of::<Block<RX, TX>>() / 64 % 2 == 1, "a block must be an odd number of cache lines") };
    let blocks: Box<[Block<RX, TX>]> =
        (0..count).map(|_| Block { head: None, sockets: [SocketStorage::EMPTY], rx: [0; RX], tx: [0; TX] }).collect();
    for block in Box::leak(blocks) {
        let Block { head, sockets, rx, tx } = block;
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
    /// Counts the flows that this number has served.
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// Why the flow is over, in [`Phase::Ended`].
    pub(crate) close_reason: CloseReason,
    /// What has happened since the application was last told.
    pub(crate) news: News,
    /// Which promise the peer is made of room beyond the receive ring: [`PROMISE_OF_OWN_RINGS`] or another.
    pub(crate) promise: u8,
    pub(crate) marks: Marks,
    /// Window field of the peer's newest segment, as far as their order can be told.
    pub(crate) peer_window: u16,
    /// SND.NXT: the end of the highest segment that has left.
    pub(crate) snd_nxt: u32,
    /// SND.UNA as the peer has shown it: the highest acceptable ACK number seen.
    pub(crate) highest_ack: u32,
    /// Sequence number of the first byte in the receive ring.
    pub(crate) rcv_base: u32,
    /// ACK number of the last segment that left, and how far the peer was told that it may send.
    pub(crate) last_ack: u32,
    pub(crate) edge: u32,
    /// How far smoltcp takes what the peer sends: never beyond `edge`.
    pub(crate) ring_edge: u32,
    /// The end of the farthest data beyond a hole, if [`Marks::ISLANDS`].
    pub(crate) island_end: u32,
    /// By how many bits the windows that we tell are shifted, and by how many those of the socket.
    pub(crate) scale: u8,
    pub(crate) ring_scale: u8,
    /// What the peer's SYN offered.
    pub(crate) options: SynOptions,
    /// The window field that smoltcp was given last.
    pub(crate) told_window: u16,
    /// How much may be under way.
    pub(crate) sending: Sending,
    /// What the peer says it has of what is in flight, while something is missing.
    pub(crate) board: Option<BoardNumber>,
    /// Port on which the peer's last frame arrived.
    pub(crate) port: u16,
    /// Where the flow's rings are, if they are not its own.
    pub(crate) place: Option<Place>,
    /// SND.WL1: the sequence number of the segment that `peer_window` came with.
    pub(crate) window_seq: u32,
    /// Room in the transmit ring that the application waits for; 0: none.
    pub(crate) want_room: u32,
    /// What from: see `sent_again_at`.
    pub(crate) sent_again_from: u32,
    /// When the application wants to hear of the flow.
    pub(crate) interest: Interest,
    /// Of a flow that connects: source ports that were given up, since answers went to another core (`homing.rs`).
    pub(crate) tries: u8,
    /// The header of every frame to the peer; empty while an active flow's is not known.
    pub(crate) link: LinkHeader,
    /// The application's own number for the flow; of a flow that it has closed, what was acknowledged at `state_since`.
    pub(crate) token: u64,
    /// When the peer was last heard.
    pub(crate) heard_at: Time,
    /// When something unacknowledged last began to wait, if [`Marks::WAITING`].
    pub(crate) waiting_since: Time,
    /// When the present closing state, or the handshake, began; of a flow that lingers, when its peer last got on.
    pub(crate) state_since: Time,
    /// No challenge ACK before.
    pub(crate) challenge_at: Time,
    /// No question to a silent peer before.
    pub(crate) probe_at: Time,
    /// When the flow began to send again what it sends again at present, if [`Marks::SENT_AGAIN`].
    pub(crate) sent_again_at: Time,
    /// The socket.
    pub(crate) set: SocketSet<'static>,
    pub(crate) handle: SocketHandle,
}

/// What a block is told of the flow that begins in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// [`Phase::HalfOpen`] or [`Phase::Connecting`].
    pub(crate) phase: Phase,
    pub(crate) key: FlowKey,
    /// The key's hash in the flow table.
    pub(crate) hash: u32,
    /// Port that the flow's frames leave by.
    pub(crate) port: u16,
    pub(crate) link: LinkHeader,
    /// The application's number for the flow.
    pub(crate) token: u64,
    /// Our initial sequence number.
    pub(crate) isn: u32,
    /// The sequence number that follows the peer's SYN, and the window that came with it; 0 while there is no SYN.
    pub(crate) rcv_nxt: u32,
    pub(crate) peer_window: u16,
}

/// What every socket is set to, whenever it is recycled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketSettings {
    pub(crate) ack_delay: Duration,
}

impl SocketSettings {
    /// Sets a socket that listens or connects.
    pub(crate) fn apply(self, socket: &mut Socket<'static>) {
        // The congestion window is the block's.
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(FlowClock::span(self.ack_delay)));
        socket.set_timeout(None);
        socket.set_tsval_generator(None);
        socket.set_hop_limit(None);
        // Keep-alives are ours (`egress.rs`).
        socket.set_keep_alive(None);
    }
}

impl FlowBlock {
    fn new(set: SocketSet<'static>, handle: SocketHandle) -> Self {
        Self {
            key: FlowKey::NONE,
            hash: 0,
            generation: 0,
            phase: Phase::Free,
            close_reason: CloseReason::Finished,
            news: News::empty(),
            marks: Marks::empty(),
            snd_nxt: 0,
            highest_ack: 0,
            rcv_base: 0,
            last_ack: 0,
            edge: 0,
            ring_edge: 0,
            island_end: 0,
            scale: 0,
            ring_scale: 0,
            options: SynOptions::default(),
            sending: Sending::new(0, 0, false),
            told_window: 0,
            board: None,
            place: None,
            promise: PROMISE_OF_OWN_RINGS,
            peer_window: 0,
            window_seq: 0,
            want_room: 0,
            port: 0,
            interest: Interest::EDGE,
            tries: 0,
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

    /// Whether the number of the block is on a list of flows.
    pub(crate) fn is_listed(&self) -> bool {
        self.marks.intersects(Marks::OF_LISTS) || self.news.contains(News::LISTED)
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

    /// The sequence number of a segment without data: the next one, but where the peer's window is closed the one that it waits
    /// for. What lies behind that is the octet of a zero-window probe, which the peer has not taken, and a segment behind the
    /// window, with all that it acknowledges, is nothing to it.
    #[inline]
    pub(crate) fn empty_seq(&self) -> u32 {
        if self.peer_window == 0 && self.phase.has_peer() { self.highest_ack } else { self.snd_nxt }
    }

    /// RCV.NXT: the next sequence number expected of the peer.
    #[inline]
    pub(crate) fn rcv_nxt(&self) -> u32 {
        let queued = self.socket().recv_queue() as u32;
        self.rcv_base.wrapping_add(queued).wrapping_add(u32::from(self.marks.contains(Marks::FIN_RECEIVED)))
    }

    /// Makes the socket listen on `port`; [`begin`](Self::begin) must follow.
    pub(crate) fn listen(&mut self, port: u16) {
        let socket = self.socket_mut();
        socket.abort();
        // A socket that was aborted is closed, and the port is not 0: neither of listen's errors can happen.
        let listening = socket.listen(port);
        debug_assert!(listening.is_ok());
    }

    /// Makes the socket one that is about to send its SYN to the peer of `key`, with the next ISN that `context` draws;
    /// [`begin`](Self::begin) must follow.
    pub(crate) fn connect(&mut self, context: &mut Context, key: &FlowKey) {
        let socket = self.socket_mut();
        socket.abort();
        let local = (IpAddress::Ipv4(key.local), key.local_port);
        // A socket that was aborted is closed, and neither address nor port is 0: none of connect's errors can happen.
        let connecting = socket.connect(context, (IpAddress::Ipv4(key.remote), key.remote_port), local);
        debug_assert!(connecting.is_ok());
    }

    /// Makes the block that of a new flow, whose socket listens or connects: sets every field of the block, and of the
    /// socket what smoltcp's `reset` leaves of an earlier flow.
    pub(crate) fn begin(&mut self, now: Time, beginning: Beginning, settings: SocketSettings) {
        self.set_socket(settings);
        let active = beginning.phase == Phase::Connecting;
        self.key = beginning.key;
        self.hash = beginning.hash;
        self.generation = self.generation.wrapping_add(1);
        self.phase = beginning.phase;
        // Read only in `Phase::Ended`.
        self.close_reason = CloseReason::Finished;
        self.news &= News::LISTED;
        self.marks &= Marks::OF_LISTS;
        self.marks.set(Marks::ACTIVE, active);
        self.snd_nxt = beginning.isn;
        self.highest_ack = beginning.isn;
        self.rcv_base = beginning.rcv_nxt;
        self.last_ack = beginning.rcv_nxt;
        self.edge = beginning.rcv_nxt;
        self.ring_edge = beginning.rcv_nxt;
        self.scale = 0;
        self.ring_scale = 0;
        self.options = SynOptions::default();
        self.told_window = beginning.peer_window;
        self.peer_window = beginning.peer_window;
        self.window_seq = beginning.rcv_nxt;
        self.want_room = 0;
        self.port = beginning.port;
        self.interest = Interest::EDGE;
        self.tries = 0;
        self.link = beginning.link;
        self.token = beginning.token;
        self.promise = PROMISE_OF_OWN_RINGS;
        self.heard_at = now;
        self.waiting_since = now;
        self.state_since = now;
        self.challenge_at = Time::ZERO;
        self.probe_at = Time::ZERO;
        // Read only with `Marks::SENT_AGAIN`, which is not set.
        self.sent_again_at = Time::ZERO;
        self.sent_again_from = 0;
    }

    /// Sets what smoltcp's `reset`, which `listen` and `connect` call, leaves of an earlier flow: congestion window,
    /// time-stamp generator, time-outs, keep-alive, hop limit, ACK delay and Nagle.
    ///
    /// It also leaves three fields that cannot be set: the duplicate-ACK counter and the last ACK number, which the first
    /// ACK of the next handshake clears (the ACK of our SYN-ACK, or a SYN-ACK, neither of which can count as a
    /// duplicate), and the pending fast retransmit, which is always cleared within the call that sets it, since
    /// egress is only asked for with a frame in hand.
    fn set_socket(&mut self, settings: SocketSettings) {
        settings.apply(self.socket_mut());
    }

    /// Notes what the peer's SYN has offered. `scales`: our windows are shifted, if the peer takes that.
    pub(crate) fn agree(&mut self, options: &SynOptions, ip_mtu: usize, scales: bool) {
        self.options = *options;
        self.scale = if scales && options.window_scale.is_some() { SCALE } else { 0 };
        let mss = options.segment_bytes(ip_mtu - IPV4_BYTES - TCP_BYTES);
        self.sending = Sending::new(mss, options.window_scale.unwrap_or(0), options.sack_permitted);
    }

    /// Ends the use of the block: the socket holds nothing and answers nothing.
    pub(crate) fn retire(&mut self) {
        self.socket_mut().abort();
        self.key = FlowKey::NONE;
        self.phase = Phase::Free;
        self.news &= News::LISTED;
        self.marks &= Marks::OF_LISTS;
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
