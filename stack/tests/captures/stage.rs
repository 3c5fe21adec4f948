//! `Stage`: a stack to which the frames of captures are played, on a clock that follows their stamps.
//!
//! Three passes: frames as they were captured; with our station for their destination; and as if each conversation had been
//! with us (`conversation.rs`). What the stack sends is read, and every promise is looked at after each frame.

use std::time::Duration;

use nic::{PortConfig, Queue, QueueId, Wire, WireQueue};
use sidestep_stack::{CloseReason, DropReason, Interest, NetStack, OwnAddress, Poll, StackStats, Time, Token};

use super::conversation::Conversations;
use super::read::Captured;
use crate::lab::frames::check;
use crate::lab::station::Station;
use crate::lab::udp::{Call, udp_config};
use crate::lab::{OWN, THEM, US, secrets, v6};

/// Turns at one moment that no real work takes.
const TURNS_MAX: usize = 1_000;
/// Most time between two frames of a capture, in seconds: some were joined from captures of different years.
const GAP_MAX: Duration = Duration::from_secs(200);
/// Time within which everything has ended that nobody goes on with.
const END: Duration = Duration::from_secs(600);
/// The shortest and the longest frame that the station can send.
const HEADER: usize = 14;
const SENT_MAX: usize = 32_000;

/// How frames are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// As they were captured.
    Captured,
    /// To our station.
    Station,
    /// To our station, address and port, sums right, as the other side of each conversation.
    Conversation,
}

impl Pass {
    pub const ALL: [Self; 3] = [Self::Captured, Self::Station, Self::Conversation];

    pub fn name(self) -> &'static str {
        match self {
            Self::Captured => "as captured",
            Self::Station => "to our station",
            Self::Conversation => "as a conversation with us",
        }
    }
}

/// What became of frames.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub frames: u64,
    /// Longer than the port takes, or shorter than a header of the link.
    pub not_carried: u64,
    pub accepted: u64,
    /// By reason.
    pub drops: Vec<u64>,
    pub opened: u64,
    pub bytes: u64,
    pub datagrams: u64,
    pub answers: u64,
}

impl Outcome {
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub fn add(&mut self, other: &Self) {
        self.drops.resize(DropReason::ALL.len(), 0);
        self.drops.iter_mut().zip(&other.drops).for_each(|(sum, more)| *sum += more);
        self.frames += other.frames;
        self.not_carried += other.not_carried;
        self.accepted += other.accepted;
        self.opened += other.opened;
        self.bytes += other.bytes;
        self.datagrams += other.datagrams;
        self.answers += other.answers;
    }
}

/// A stack, and the station from which captures are played to it.
pub struct Stage {
    wire: Wire,
    pub poll: Poll<WireQueue>,
    station: Station,
    conversations: Conversations,
    outcome: Outcome,
    /// Frames that the port keeps ready to answer in.
    reserve: usize,
}

impl Stage {
    pub fn new() -> Self {
        let far = PortConfig { chunk_bytes: 32_768, max_frame_bytes: SENT_MAX, ..PortConfig::default() };
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), far, 1).expect("a wire");
        let mut config = udp_config();
        config.gateway = Some(THEM);
        config.others = vec![OwnAddress::new(v6::US6, 64)];
        config.gateway6 = Some(v6::THEM6);
        // Small tables, so that they fill.
        (config.max_flows, config.flows_at_start, config.syn_queue) = (256, 64, 32);
        (config.time_wait_records, config.neighbors, config.conn_memory) = (16, 16, 8 << 20);
        let queue = |port: &nic::WirePort| port.take_queue(QueueId(0)).expect("opened once");
        let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
        let mut poll = Poll::new(stack, [queue(&ours)]);
        poll.accept_each(Token(0), Interest::EDGE);
        let mut stage = Self {
            poll,
            station: Station::new(queue(&theirs)),
            wire,
            conversations: Conversations::default(),
            outcome: Outcome::default(),
            reserve: 0,
        };
        // Until the address of IPv6 has been tested, and told of.
        stage.advance(Duration::from_secs(5));
        stage.reserve = stage.held();
        stage
    }

    /// Frames of ours that are neither free nor with the wire.
    fn held(&self) -> usize {
        self.poll.ports()[0].queue().census().held
    }

    /// Plays the frames of one file, and looks that nothing is left when all have gone.
    pub fn play(&mut self, frames: &[Captured], pass: Pass) -> Outcome {
        self.outcome = Outcome { drops: vec![0; DropReason::ALL.len()], ..Outcome::default() };
        let mut last: Option<Duration> = None;
        for captured in frames {
            let gap = last.map_or(Duration::ZERO, |last| captured.at.saturating_sub(last)).min(GAP_MAX);
            last = Some(captured.at);
            self.advance(gap);
            match pass {
                Pass::Captured => self.frame(&captured.bytes),
                Pass::Station => {
                    let mut bytes = captured.bytes.clone();
                    if let Some(to) = bytes.get_mut(..6) {
                        to.copy_from_slice(&OWN.0);
                    }
                    self.frame(&bytes);
                }
                Pass::Conversation => self.converse(captured),
            }
        }
        self.end();
        std::mem::take(&mut self.outcome)
    }

    fn converse(&mut self, captured: &Captured) {
        for step in self.conversations.steps(captured) {
            let bytes = self.conversations.finish(step);
            self.frame(&bytes);
        }
        self.settle();
    }

    /// Sends one frame to the stack, and looks at what became of it.
    fn frame(&mut self, bytes: &[u8]) {
        if !(HEADER..=SENT_MAX).contains(&bytes.len()) {
            self.outcome.not_carried += 1;
            return;
        }
        self.settle();
        let (before, answered) = (*self.poll.stack().stats(), self.outcome.answers);
        let refused = self.wire.counts(0).rx_dropped;
        self.station.send(bytes);
        self.settle();
        let after = *self.poll.stack().stats();
        if after.frames == before.frames {
            assert_eq!(self.wire.counts(0).rx_dropped, refused + 1, "a frame is lost");
            self.outcome.not_carried += 1;
            return;
        }
        assert_eq!(after.frames, before.frames + 1);
        self.outcome.frames += 1;
        let mut dropped = 0;
        for (count, reason) in self.outcome.drops.iter_mut().zip(DropReason::ALL) {
            let more = after.drops.of(reason) - before.drops.of(reason);
            *count += more;
            // What was taken before, and what is taken in part.
            if !matches!(reason, DropReason::FragmentsIncomplete | DropReason::NoRing) {
                dropped += more;
            }
        }
        let taken = taken(&after) - taken(&before);
        // Counted where it ends, once; an ARP packet that is believed and a reset are not counted apart.
        let silent = is_arp(bytes) || is_discovery(bytes) || is_reset(bytes);
        assert!(taken + dropped == 1 || silent && taken + dropped == 0, "{taken} and {dropped}: {before:?} {after:?}");
        self.outcome.accepted += 1 - dropped;
        let sent = self.outcome.answers - answered;
        assert!(sent == 0 || !is_to_many(bytes), "{sent} frames answer one that is not for us alone: {bytes:02x?}");
    }

    /// Turns at the present moment until nothing is left to do.
    fn settle(&mut self) {
        let now = Time::from_duration(self.wire.clock().now());
        for _ in 0..TURNS_MAX {
            let mut echoed = 0;
            let mut echo = Call(|_: &_, payload: &[u8], replies: &mut sidestep_stack::DatagramReplies<'_>| {
                let payload = &payload[..payload.len().min(replies.max_payload())];
                let _ = replies.send(payload.len(), |room| {
                    room.copy_from_slice(payload);
                    payload.len()
                });
                echoed += 1;
            });
            self.poll.take_in_with(now, Some(&mut echo));
            self.outcome.datagrams += echoed;
            while let Some(event) = self.poll.next_event() {
                self.outcome.opened += u64::from(event.is_new());
                assert_ne!(event.closed(), Some(CloseReason::Contained), "the protocol code has panicked");
                self.conversations.hear(&mut self.poll, &event);
            }
            self.outcome.bytes += self.conversations.visit(&mut self.poll);
            self.poll.send(now).expect("a wire is never gone");
            let (conversations, answers) = (&mut self.conversations, self.outcome.answers);
            let outcome = &mut self.outcome;
            self.station.receive(|frame| {
                check(frame, &mut conversations.isns);
                conversations.note(frame);
                outcome.answers += 1;
            });
            if self.outcome.answers == answers && !self.poll.stack().has_work() {
                return;
            }
        }
        panic!("no rest after {TURNS_MAX} turns: {:?}", self.poll.stack().census());
    }

    /// Lets time pass.
    fn advance(&mut self, span: Duration) {
        let end = self.wire.clock().now() + span;
        self.settle();
        while self.wire.clock().now() < end {
            let here = self.wire.clock().now();
            let next = self.poll.stack().next_deadline(Time::from_duration(here)).unwrap_or(end);
            self.wire.clock().set((here + next.max(Duration::from_micros(1))).min(end));
            self.settle();
        }
    }

    /// Everybody is silent until all has ended, then nothing may be left.
    fn end(&mut self) {
        self.conversations.leave(&mut self.poll);
        let limit = self.wire.clock().now() + END;
        loop {
            self.advance(Duration::from_secs(20));
            let census = self.poll.stack().census();
            if census.free == census.blocks && census.time_wait == 0 && census.resolving == 0 {
                break;
            }
            assert!(self.wire.clock().now() < limit, "something is left after {END:?}: {census:?}");
        }
        self.conversations = Conversations::default();
        let census = self.poll.stack().census();
        assert_eq!((census.table, census.timers, census.dead, census.waiting), (0, 0, 0, 0), "{census:?}");
        assert_eq!((census.ready, census.touched, census.strays), (0, 0, 0), "{census:?}");
        assert_eq!(self.poll.stack().ring_bytes().0, 0, "rings are held");
        assert_eq!(self.held(), self.reserve, "frames are held");
        assert_eq!(self.poll.stack().stats().contained, 0, "a flow was thrown away because of a panic");
    }
}

/// Frames that were taken, as the stack counts them by what they were.
fn taken(stats: &StackStats) -> u64 {
    stats.segments + stats.syns + stats.cookies_sent + stats.datagrams + stats.fragments + stats.echo_replies
}

/// Where a frame's packet begins, and of what kind it is, behind one tag.
fn packet(bytes: &[u8]) -> Option<(usize, [u8; 2])> {
    let at = if bytes.get(12..14)? == [0x81, 0] { 18 } else { 14 };
    Some((at, [*bytes.get(at - 2)?, *bytes.get(at - 1)?]))
}

fn is_arp(bytes: &[u8]) -> bool {
    packet(bytes).is_some_and(|(_, kind)| kind == [8, 6])
}

/// Whether a frame is of neighbour discovery.
fn is_discovery(bytes: &[u8]) -> bool {
    let of_kind = |at: usize| bytes.get(at + 6) == Some(&v6::ICMP) && matches!(bytes.get(at + 40), Some(133..=137));
    packet(bytes).is_some_and(|(at, kind)| kind == [0x86, 0xdd] && of_kind(at))
}

fn is_reset(bytes: &[u8]) -> bool {
    let flags = packet(bytes).and_then(|(at, kind)| {
        let header = if kind == [0x86, 0xdd] { 40 } else { usize::from(bytes.get(at)? & 15) * 4 };
        bytes.get(at + header + 13)
    });
    flags.is_some_and(|flags| flags & 4 != 0)
}

/// Whether a frame is for more stations than one, or carries a packet that is not for our address. A question where
/// somebody is goes to all.
fn is_to_many(bytes: &[u8]) -> bool {
    let Some((at, kind)) = packet(bytes) else { return true };
    let group = bytes[0] & 1 == 1;
    match kind {
        [8, 6] => false,
        [8, 0] => group || bytes.get(at + 16..at + 20) != Some(&US.octets()),
        // A solicitation goes to a group; who is not known may be asked for, whatever came.
        [0x86, 0xdd] if is_discovery(bytes) => false,
        [0x86, 0xdd] => group || bytes.get(at + 24..at + 40) != Some(&v6::US6.octets()),
        _ => true,
    }
}
