//! Half-open connections: from a SYN to the ACK that proves its sender real.
//!
//! A SYN makes a record (`syn_queue.rs`) and is answered by hand, at once. What comes then is judged by the record's numbers
//! as the segments of flows are by theirs: an ACK of the SYN-ACK takes a block, whose socket is had answer the SYN over
//! again, as that of a cookie is (`replay.rs`), and then reads the segment like any other. Where no block is free the record
//! stays, and the peer, or the SYN-ACK that is sent again, asks once more. So whoever sends SYNs holds records alone.
//! Read first: RFC 9293 §3.10.7.4, RFC 4987.

use std::time::Duration;

use nic::{BURST, Queue};

use super::NetStack;
use super::answers::CHALLENGE_GAP;
use super::arrival::Arrival;
use crate::block::Beginning;
use crate::classify::Segment;
use crate::clock::Time;
use crate::contain::contain;
use crate::drop_reason::DropReason;
use crate::ipv6::USUAL_MSS;
use crate::isn::above;
use crate::link::LinkHeader;
use crate::options::{self, SynOptions};
use crate::phase::{Marks, Phase};
use crate::port::Port;
use crate::replay::Record;
use crate::segment::Control;
use crate::shim::{self, Verdict};
use crate::stray::{AHEAD_OF_COOKIE, MOST_HOPS};
use crate::syn_queue::{HalfOpen, Syn};
use crate::wire::{ACK, IPV4_BYTES, SCALE, SYN, TCP_BYTES};

/// When the SYN-ACK is first sent again, and then after twice the time each time (RFC 6298 §5.5): as smoltcp does.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// Longest time between two of them, as a power of two of the first: 12.8 s.
const MOST_DOUBLINGS: u32 = 6;

impl NetStack {
    /// A SYN for a port that is listened on: a half-open connection, if there is room; returns whether there is one now.
    /// `after` is where an earlier connection of the same 4-tuple left off.
    pub(super) fn accept<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, after: Option<u32>) -> bool {
        let begun = self.begin_half_open(arrival, after);
        if let Err(reason) = begun {
            self.stats.drops.add(reason);
        }
        begun.is_ok()
    }

    /// The half-open connection of a SYN.
    ///
    /// # Errors
    /// There is none, and the reason why the SYN is dropped.
    fn begin_half_open<Q: Queue>(
        &mut self,
        arrival: &mut Arrival<'_, Q>,
        after: Option<u32>,
    ) -> Result<(), DropReason> {
        let (now, segment) = (arrival.now, arrival.segment);
        let mut options = options::read_syn(segment, arrival.frame)?;
        if let Some(most) = self.most_if_ipv6(&segment.key) {
            options.mss = options.mss.or(Some(USUAL_MSS));
            options.limit_mss(most);
        }
        if self.listener.is_paused() || self.syn_queue.is_full() {
            return Err(DropReason::SynQueueFull);
        }
        // Each can become a flow.
        if self.flows() >= self.config.max_flows {
            self.miss_block();
            return Err(DropReason::NoFreeFlow);
        }
        let (key, hash) = self.hold_ends(segment.key, arrival.hash)?;
        let room = u32::try_from(self.config.rings.rx).unwrap_or(u32::MAX).max(self.promises[0]);
        let record = HalfOpen::new(
            now,
            &Syn {
                key,
                isn: self.isn_for(now, segment, after),
                rcv_nxt: segment.seq.wrapping_add(1),
                port: arrival.port_index as u16,
                peer_window: segment.window,
                window: u16::try_from(room).unwrap_or(u16::MAX),
                options,
                link: LinkHeader::answering(arrival.frame, usize::from(segment.at)),
            },
        );
        // Where there is no frame for the answer just now, it is tried again at once.
        let answered = self.send_syn_ack(arrival.port, &record, record.link);
        let next = if answered { self.next_syn_ack(now, &record) } else { now };
        self.syn_queue.insert(hash, record, next);
        self.stats.syns += 1;
        Ok(())
    }

    /// The ISN of the connection that a SYN opens. `after` is where an earlier connection of the same 4-tuple left off.
    fn isn_for(&self, now: Time, segment: &Segment, after: Option<u32>) -> u32 {
        let ends = self.names.ends(&segment.key);
        if let Some(recorded) = &self.recorded_isns
            && let Some(isn) = recorded.find(&ends, segment.seq)
        {
            return isn;
        }
        above(after, self.isns.isn(now, &ends))
    }

    /// Sends the SYN-ACK of a record, to the station of `link`. Returns whether there was a frame for it.
    fn send_syn_ack<Q: Queue>(&mut self, port: &mut Port<Q>, record: &HalfOpen, link: LinkHeader) -> bool {
        let scale = if self.pool.is_there() { SCALE } else { 0 };
        let mss = (self.config.ip_mtu - IPV4_BYTES - TCP_BYTES) as u16;
        let options = record.options().answer(mss, scale);
        let control = Control { flags: SYN | ACK, seq: record.isn, ack: record.rcv_nxt, window: record.window };
        port.has_room() && self.send_control_with(port, &link, &record.key, control, &options)
    }

    /// When the SYN-ACK of a record, which has just been sent, is to be sent again, or the handshake is given up.
    fn next_syn_ack(&self, now: Time, record: &HalfOpen) -> Time {
        let wait = FIRST_RETRY * (1 << u32::from(record.tries).min(MOST_DOUBLINGS));
        now.after(wait).min(self.deadlines.of_handshake(record.since))
    }

    /// Sends SYN-ACKs again whose time has come, and gives up handshakes that take too long.
    #[inline]
    pub(super) fn tend_half_open<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        if self.syn_queue.len() > 0 {
            self.tend_some_half_open(now, ports);
        }
    }

    #[cold]
    #[inline(never)]
    fn tend_some_half_open<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        for _ in 0..BURST {
            let Some(number) = self.syn_queue.pop_due(now) else { return };
            let record = *self.syn_queue.get(number);
            if self.deadlines.of_handshake(record.since) <= now {
                self.fail_handshake(self.hash.of(&record.key), number);
                continue;
            }
            // The peer may have moved since.
            let link = self.link_now(now, &record.key, record.link);
            let port = ports.get_mut(usize::from(record.port));
            if port.is_some_and(|port| self.send_syn_ack(port, &record, link)) {
                let record = self.syn_queue.get_mut(number);
                record.tries = record.tries.saturating_add(1);
                let record = *record;
                let next = self.next_syn_ack(now, &record);
                self.syn_queue.arm(number, next);
            } else {
                // There is no frame: in the next turn.
                self.syn_queue.arm(number, now.after(Duration::from_micros(1)));
            }
        }
    }

    fn fail_handshake(&mut self, hash: u32, number: u32) {
        self.forget_half_open(hash, number);
        self.stats.handshakes_failed += 1;
    }

    /// Ends a record, which its flow, if it has one, does not need any more.
    fn forget_half_open(&mut self, hash: u32, number: u32) {
        let record = self.syn_queue.remove(hash, number);
        self.names.release(record.key.remote);
    }

    /// A segment of a half-open connection, RFC 9293's checks first.
    #[cold]
    #[inline(never)]
    pub(super) fn ingest_half_open<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, number: u32) {
        let (now, segment) = (arrival.now, arrival.segment);
        let record = *self.syn_queue.get(number);
        match shim::judge_half_open(&record, segment) {
            Verdict::Reset => self.fail_handshake(arrival.hash, number),
            Verdict::Challenge(reason) => {
                self.stats.drops.add(reason);
                if record.may_challenge(now) && self.stranger_limit.allows(now, self.names.payer(record.key.remote)) {
                    self.syn_queue.get_mut(number).challenged(now, CHALLENGE_GAP.as_millis() as u32);
                    self.stats.challenge_acks += 1;
                    let seq = record.isn.wrapping_add(1);
                    let control = Control { flags: ACK, seq, ack: record.rcv_nxt, window: record.window };
                    self.send_control(arrival.port, &record.link, &record.key, control);
                }
            }
            Verdict::Refuse(reason) => {
                // A SYN that was sent again may have come to two cores, by two queues, and both have answered it: another core may
                // know what is acknowledged here.
                if arrival.hops & !AHEAD_OF_COOKIE < self.config.peers.min(MOST_HOPS) {
                    let reason = self.pass_on(now, arrival.frame, arrival.hops);
                    return self.stats.drops.add(reason);
                }
                self.stats.drops.add(reason);
                self.refuse(arrival);
            }
            Verdict::Drop(reason) | Verdict::Acknowledge(reason) => self.stats.drops.add(reason),
            Verdict::Acceptable | Verdict::AcceptableInPart | Verdict::BehindHole | Verdict::BeyondRing => {
                self.open(arrival, number, &record);
            }
            Verdict::KeepAlive => self.stats.drops.add(DropReason::SeqRepeated),
        }
    }

    /// A segment acknowledges the SYN-ACK of a record: its flow, if there is a block for it, reads it.
    fn open<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, number: u32, record: &HalfOpen) {
        let beginning = Beginning {
            phase: Phase::HalfOpen,
            key: record.key,
            hash: arrival.hash,
            port: record.port,
            link: record.link,
            token: 0,
            isn: record.isn,
            rcv_nxt: record.rcv_nxt,
            peer_window: record.peer_window,
        };
        // What was answered at once was answered then; how long the other way took nobody knows.
        let timed = record.tries == 0;
        let answered_at = if timed { record.since } else { arrival.now };
        let begun = self.begin_block(arrival.now, beginning, &record.options());
        let made = begun.and_then(|index| self.replay_handshake(answered_at, index, &record.options(), record.window));
        let index = match made {
            Ok(index) => index,
            // The peer sends again what it has to say, and is asked to.
            Err(reason) => return self.stats.drops.add(reason),
        };
        let block = &mut self.blocks[index as usize];
        block.state_since = record.since;
        if !timed {
            block.marks |= Marks::SENT_AGAIN;
            (block.sent_again_at, block.sent_again_from) = (arrival.now, record.isn);
        }
        if self.ingest_first(arrival, index) {
            self.forget_half_open(arrival.hash, number);
        }
    }

    /// Makes a free block that of a half-open connection, with a socket that listens. Returns its number.
    ///
    /// # Errors
    /// No block is free, or no room to keep the peer's address.
    pub(super) fn begin_block(
        &mut self,
        now: Time,
        beginning: Beginning,
        options: &SynOptions,
    ) -> Result<u32, DropReason> {
        if self.free.is_empty() && !self.free_block(now) {
            self.miss_block();
            return Err(DropReason::NoFreeFlow);
        }
        // The flow keeps the peer's name for itself, whoever has it kept before.
        let (key, hash) = self.hold_ends(beginning.key, beginning.hash)?;
        // It is not empty, or `free_block` would have said so.
        let Some(index) = self.free.pop() else { return Err(DropReason::NoFreeFlow) };
        let beginning = Beginning { key, hash, ..beginning };
        let settings = self.socket_settings();
        let scales = self.pool.is_there();
        let block = &mut self.blocks[index as usize];
        block.listen(beginning.key.local_port);
        block.begin(now, beginning, settings);
        block.agree(options, self.config.ip_mtu, scales);
        self.heed_path_mtu(now, index);
        self.work.flows += 1;
        self.work.sets += 1;
        Ok(index)
    }

    /// Has the socket of a block that has just begun take the SYN, and answer it at `answered_at` as it was answered, with
    /// `window`. Returns the block's number.
    ///
    /// # Errors
    /// smoltcp has panicked over it; the block is free again.
    pub(super) fn replay_handshake(
        &mut self,
        answered_at: Time,
        index: u32,
        options: &SynOptions,
        window: u16,
    ) -> Result<u32, DropReason> {
        let (block, replay) = (&mut *self.blocks[index as usize], &mut self.replay);
        let isn = block.snd_nxt;
        let record = Record {
            key: block.key,
            snd_una: isn.wrapping_add(1),
            snd_nxt: isn.wrapping_add(1),
            rcv_base: block.rcv_base,
            last_ack: block.rcv_base,
            fin_received: false,
            options: *options,
            window: block.peer_window,
            round_trip: Duration::ZERO,
        };
        let answer = contain(|| replay.begin(answered_at, &record, &mut block.set, block.handle));
        let Some(Some(sent)) = answer else {
            self.free(index);
            return Err(DropReason::Contained);
        };
        block.snd_nxt = sent.end;
        block.edge = sent.ack.wrapping_add(u32::from(window));
        block.ring_edge = sent.ack.wrapping_add(u32::from(sent.window.min(window)));
        // As what is told of little room does (`offer.rs`).
        block.marks.set(Marks::TIGHT, u32::from(window) < 2 * u32::from(block.sending.mss()));
        Ok(index)
    }

    /// Has the flow of a block that has just taken its SYN read the segment that acknowledges the answer. Returns whether that
    /// has opened it, or ended it; else the block is free again.
    pub(super) fn ingest_first<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) -> bool {
        let hash = self.blocks[index as usize].hash;
        self.table.insert(hash, index);
        self.ingest_segment_apart(arrival, index);
        let nothing = self.blocks[index as usize].phase == Phase::HalfOpen;
        if nothing {
            self.table.remove(hash, index);
            self.work.timers += u64::from(self.wheel.cancel(index));
            self.free(index);
        }
        !nothing
    }
}
