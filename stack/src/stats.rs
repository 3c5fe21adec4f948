//! What a stack counts, each with the sentence that says when it moves.

use crate::classify::Segment;
use crate::drop_reason::DropReason;
use crate::wire::{FIN, RST, SYN};

/// Counters of one core's stack. All only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackStats {
    /// Frames ingested.
    pub frames: u64,
    /// Frames dropped, by [`DropReason`]; each frame is counted at most once.
    pub drops: DropCounts,
    /// TCP segments handed to a flow.
    pub segments: u64,
    /// SYNs that made a half-open flow.
    pub syns: u64,
    /// SYNs answered with a SYN cookie, of which nothing was kept.
    pub cookies_sent: u64,
    /// Segments that gave a SYN cookie back and so made a flow.
    pub cookies_accepted: u64,
    /// Segments of no flow that gave back what was no SYN cookie, or none that is still good, while some were out.
    pub cookies_refused: u64,
    /// SYNs handed over to another core, since nobody accepts connections at this one; each time that one comes.
    pub handed_over: u64,
    /// Segments of flows that came to another core first, which did not know them.
    pub segments_astray: u64,
    /// Flows opened: handshakes completed, begun by either side.
    pub opened: u64,
    /// Connections asked for: [`NetStack::connect`](crate::NetStack::connect) made a flow.
    pub connects: u64,
    /// Connections asked for and opened.
    pub connected: u64,
    /// Times that a connection asked for was answered at another core, and so begun anew from another source port.
    pub connects_elsewhere: u64,
    /// Of those, how many were kept all the same: there was no other port, or too many were tried.
    pub connects_kept_away: u64,
    /// Connections asked for and refused by the peer.
    pub connects_refused: u64,
    /// Connections asked for that nobody answered in time.
    pub connects_timed_out: u64,
    /// Connections asked for to which there was no way.
    pub connects_unreachable: u64,
    /// Connections asked for and given up by the application before they were opened.
    pub connects_cancelled: u64,
    /// Opened flows that ended in order.
    pub finished: u64,
    /// Opened flows reset by the peer.
    pub resets: u64,
    /// Opened flows given up because the peer no longer answered, lingered or idled too long.
    pub timed_out: u64,
    /// Opened flows that were reset since memory for rings, or blocks for flows, were short and their peers took next to nothing.
    pub gave_way: u64,
    /// Opened flows that the application threw away.
    pub aborted: u64,
    /// Half-open flows that ended before they were opened: time-out, RST, or a SYN that did not parse.
    pub handshakes_failed: u64,
    /// Flows dropped because the protocol code panicked over them.
    pub contained: u64,
    /// RSTs sent.
    pub rsts_sent: u64,
    /// ACKs sent for segments that were dropped: challenges (RFC 5961), and answers to what was received before.
    pub challenge_acks: u64,
    /// Peers asked where they are, because data waits and nothing else would make smoltcp send it.
    pub probes: u64,
    /// Segments that others have overtaken, whose ACK number or window was replaced by the newest: otherwise the data
    /// behind the one would be lost, and the other would be taken for the peer's present window.
    pub acks_raised: u64,
    /// TIME-WAIT records made.
    pub time_waits: u64,
    /// TIME-WAIT records that gave way early because the table was full.
    pub time_waits_evicted: u64,
    /// TIME-WAIT records whose addresses and ports a new connection of ours has taken over.
    pub time_waits_reused: u64,
    /// ARP requests sent.
    pub arp_requests: u64,
    /// ARP requests answered.
    pub arp_replies: u64,
    /// Messages of NDP sent unasked: solicitations of neighbours and routers, and announcements of our addresses.
    pub solicitations: u64,
    /// Solicitations answered.
    pub advertisements: u64,
    /// Router advertisements heeded.
    pub router_advertisements: u64,
    /// Reports sent of the groups that are listened in.
    pub group_reports: u64,
    /// Flows whose frames go to another station than before: their peer, or the router to it, has moved.
    pub flows_moved: u64,
    /// ICMP echo requests answered.
    pub echo_replies: u64,
    /// Datagrams for a port on which nobody listens, whose sender was told so by ICMP.
    pub port_unreachables: u64,
    /// Packets of IPv6 that were not taken and whose sender was told what is wrong with them (RFC 4443 §3.4).
    pub parameter_problems: u64,
    /// Packets that were never whole, and whose sender was told so by ICMP.
    pub fragments_told: u64,
    /// UDP datagrams handed to the application.
    pub datagrams: u64,
    /// Fragments of segments and datagrams kept for the rest of them: each but the last, which counts as what is whole.
    pub fragments: u64,
    /// UDP datagrams sent.
    pub datagrams_sent: u64,
    /// UDP datagrams that the application could not send because no frame was left; it may have tried again.
    pub datagrams_refused: u64,
    /// Strays handed out to be offered to another core, ARP packets among them.
    pub strays: u64,
    /// Flows that got larger rings.
    pub rings_enlarged: u64,
    /// Flows that gave larger rings back, since they moved little.
    pub rings_reduced: u64,
    /// Times that a flow asked for larger rings and none were free.
    pub rings_short: u64,
    /// Flows that ended because they could not be moved to other rings; does not happen.
    pub rings_failed: u64,
    /// Trains that smoltcp made longer than was planned, and that were not sent; does not happen.
    pub trains_refused: u64,
    /// Segments taken for lost, by duplicate or partial ACKs, and sent again.
    pub sent_again: u64,
    /// Times that nothing was heard of a segment for so long that everything was sent again from there on.
    pub retransmission_timeouts: u64,
    /// Times that the earliest segment was sent again because nothing was heard for two round trips and 5 ms; counted in
    /// `sent_again` too.
    pub tail_probes: u64,
    /// Of those, and of what followed a time-out, how many the peer says it had got before.
    pub probes_needless: u64,
    /// Flows whose packets became shorter, since a router has said that its link takes none as long.
    pub path_mtus_lowered: u64,
    /// Flows whose packets became shorter, since long ones were lost again and again without a word.
    pub path_mtu_holes: u64,
    /// Flows that rested and gave their block away, and flows that were woken again.
    pub fell_asleep: u64,
    /// See `fell_asleep`.
    pub woke: u64,
    /// By what.
    pub woken_by: Woken,
    /// Blocks made beyond [`awake_flows`](crate::StackConfig::awake_flows), for applications that wanted flows that slept.
    pub blocks_beyond: u64,
    /// Flows parked because no frame was left to send with.
    pub parked: u64,
}

/// One counter for each [`DropReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl Default for DropCounts {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounts {
    /// Frames dropped for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Frames dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|&(_, count)| count > 0)
    }

    #[inline]
    pub(crate) fn add(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }
}

/// What has woken flows that slept; see [`StackStats::woken_by`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Woken {
    /// Data that was not received before.
    pub data: u64,
    /// The peer's FIN, with data or without.
    pub fin: u64,
    /// What was received before.
    pub repeated: u64,
    /// A keep-alive, or a probe of a window.
    pub keep_alive: u64,
    /// Another window, and nothing else.
    pub window: u64,
    /// An ACK that says nothing new.
    pub bare: u64,
    /// RST, exact or not.
    pub reset: u64,
    /// SYN, or SYN-ACK.
    pub syn: u64,
    /// The flow's timer.
    pub timer: u64,
    /// The application.
    pub application: u64,
}

impl Woken {
    /// A segment has woken a flow whose next is `rcv_nxt`, and whose peer's window was `window`.
    pub(crate) fn note(&mut self, segment: &Segment, rcv_nxt: u32, window: u16) {
        let ahead = segment.seq.wrapping_sub(rcv_nxt) as i32;
        let count = if segment.has(RST) {
            &mut self.reset
        } else if segment.has(SYN) {
            &mut self.syn
        } else if ahead == -1 && segment.payload_len <= 1 && !segment.has(FIN) {
            &mut self.keep_alive
        } else if ahead < 0 {
            &mut self.repeated
        } else if segment.has(FIN) {
            &mut self.fin
        } else if segment.payload_len > 0 {
            &mut self.data
        } else if segment.window != window {
            &mut self.window
        } else {
            &mut self.bare
        };
        *count += 1;
    }
}

/// What is under way on flows that are awake, and of what is left of those that sleep: each flow counts wherever it belongs. For
/// tests, which show that they reach every moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Data in flight.
    pub sent: u64,
    /// Data in the receive ring.
    pub unread: u64,
    /// Data behind a hole.
    pub hole: u64,
    /// Something was sent again and is not acknowledged.
    pub sent_again: u64,
    /// Data waits for a closed window.
    pub closed_window: u64,
    /// Our FIN is in flight.
    pub fin_sent: u64,
    /// The peer's FIN has come.
    pub fin_received: u64,
    /// What has come is yet to be acknowledged.
    pub ack_owed: u64,
    /// The peer was asked whether it is there, and has not answered.
    pub asked: u64,
    /// The flow has larger rings.
    pub enlarged: u64,
    /// Sleeping flows whose peers' windows are closed.
    pub asleep_closed_window: u64,
    /// Sleeping flows in FIN-WAIT-2.
    pub asleep_closed: u64,
}

/// What a stack has worked on since it was made: the difference over a turn is the turn's work, and must not depend
/// on how many flows idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Flow blocks visited.
    pub flows: u64,
    /// Calls of smoltcp with a flow's set.
    pub sets: u64,
    /// Timers armed, moved, fired or cancelled.
    pub timers: u64,
}

/// What a stack holds just now, for leak checks. Counted by walking every flow: not for the packet path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Flow blocks made.
    pub blocks: usize,
    /// Flow blocks that no flow uses.
    pub free: usize,
    /// Flows that sleep; they are open ones too.
    pub asleep: usize,
    /// Connections whose handshake a peer has begun, and which have a record each, and no block.
    pub half_open: usize,
    /// Connections asked for whose handshake is under way; the SYN queue does not count them.
    pub connecting: usize,
    /// Flows that the application holds: it has been or will be told of them, and has not closed them.
    /// Those connecting are not among them.
    pub open: usize,
    /// Flows that the application has closed and that still wait for the peer.
    pub closing: usize,
    /// Dead flows of which the application has yet to be told.
    pub dead: usize,
    /// Entries of the flow table and of the SYN queue's.
    pub table: usize,
    /// TIME-WAIT records.
    pub time_wait: usize,
    /// Timers armed.
    pub timers: usize,
    /// Flows on the ready list.
    pub ready: usize,
    /// Flows to be polled by the next flush.
    pub touched: usize,
    /// Strays that wait to be taken.
    pub strays: usize,
    /// SYNs that wait to be answered with a cookie.
    pub asking: usize,
    /// Neighbours that are asked for their Ethernet address.
    pub resolving: usize,
    /// Entries of the list of flows that wait for one.
    pub waiting: usize,
    /// Hosts of IPv6 that are known, and what holds them: flows, TIME-WAIT records, routes.
    pub stations: usize,
    /// See `stations`.
    pub stations_held: usize,
}
