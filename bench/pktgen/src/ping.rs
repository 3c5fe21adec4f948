//! `Ping`: sends UDP frames, waits for each to come back, checks every byte and times the trip.
//!
//! Closed loop: a window of frames is outstanding and an answer lets the next one go. With a rate it is an open loop:
//! a frame is timed from when it was *to be* sent, however late that was, so that a stall shows in full; the window is
//! then a mere bound. A frame has a slot while it is outstanding, so memory is bounded by the window, and each frame
//! ends exactly once: answered or lost.
//!
//! ```text
//!          send                      answer, stamp equal
//! free ───────────► outstanding ─────────────────────────► free (answered)
//!                        └───────── time-out ────────────► free (lost)
//! ```

use std::time::Duration;

use nic::{Frame, Queue, QueueError};

use crate::bursts::Bursts;
use crate::engine::Progress;
use crate::packet::{Class, Stamp, UdpTemplate, classify, destination_port};
use crate::resolve::{Resolution, Resolve};
use crate::source::Shot;
use crate::tally::{DropReason, Trips};

/// Slots looked at for a time-out in one turn: a window of 65,536 is gone through in 4,096 turns.
const SWEEP_SLOTS: usize = 16;

/// A frame that is outstanding, or was.
#[derive(Debug, Clone, Copy)]
struct Slot {
    stamp: Stamp,
    /// When it was handed to the queue: never before the stamp's time.
    sent: Duration,
    outstanding: bool,
}

/// The pinger of one queue.
#[derive(Debug)]
pub struct Ping {
    shot: Shot,
    timeout: Duration,
    resolve: Resolve,
    template: Option<UdpTemplate>,
    bursts: Bursts,
    trips: Trips,
    slots: Vec<Slot>,
    free: Vec<u16>,
    swept: usize,
    started: Duration,
    sequence: u64,
    /// One more than the highest sequence number that was answered.
    next_expected: u64,
    stopping: bool,
}

impl Ping {
    /// Pings as `shot` says, with up to `window` (1 to 65,536) frames outstanding, each lost after `timeout`.
    pub fn new(shot: Shot, window: usize, timeout: Duration) -> Self {
        let window = window.clamp(1, 1 << 16);
        let stamp = Stamp { slot: 0, sequence: 0, sent_nanos: 0 };
        Self {
            resolve: Resolve::new(shot.station, shot.peer, shot.peer_mac.clone()),
            bursts: Bursts::new(shot.batch),
            shot,
            timeout,
            template: None,
            trips: Trips::default(),
            slots: vec![Slot { stamp, sent: Duration::ZERO, outstanding: false }; window],
            free: (0..window).rev().map(|slot| slot as u16).collect(),
            swept: 0,
            started: Duration::ZERO,
            sequence: 0,
            next_expected: 0,
            stopping: false,
        }
    }

    /// One turn.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    pub fn turn<Q: Queue>(&mut self, queue: &mut Q, now: Duration) -> Result<Progress, QueueError> {
        if self.template.is_none() {
            match self.resolve.turn(&mut self.bursts, queue, now) {
                Resolution::Known(mac) => {
                    let Shot { station, peer, frame_bytes, .. } = self.shot;
                    self.template = Some(UdpTemplate::new(station, mac, peer, frame_bytes));
                    self.started = now;
                }
                Resolution::Asking => {}
                Resolution::NoAnswer => return Ok(Progress { moved: 0, done: true }),
            }
            let moved = self.bursts.flush(queue)?;
            return Ok(Progress { moved, done: self.stopping });
        }
        let received = self.bursts.receive(queue);
        while let Some(frame) = self.bursts.next() {
            self.take(queue, frame, now);
        }
        self.sweep(now);
        self.send(queue, now);
        let sent = self.bursts.flush(queue)?;
        if received + sent > 0 {
            self.bursts.tally.note_activity(now);
        }
        let all_sent = self.stopping || self.sequence == self.shot.count;
        Ok(Progress { moved: received + sent, done: all_sent && self.free.len() == self.slots.len() })
    }

    /// Sends no more; [`turn`](Self::turn) goes on until every frame is answered or lost.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether the search for the peer's Ethernet address failed.
    pub fn found_nobody(&self) -> bool {
        self.template.is_none()
    }

    /// The frames it holds, and what it counted but for [`trips`](Self::trips).
    pub fn bursts(&mut self) -> &mut Bursts {
        &mut self.bursts
    }

    /// What became of the frames.
    pub fn trips(&self) -> &Trips {
        &self.trips
    }

    fn take<Q: Queue>(&mut self, queue: &mut Q, frame: Frame, now: Duration) {
        match classify(frame.bytes(), self.shot.station.address) {
            Class::Ours { transport_at, udp: true } => match self.check(frame.bytes(), transport_at) {
                Ok(stamp) => {
                    queue.free(frame);
                    self.answered(stamp, now);
                }
                Err(reason) => self.bursts.drop(queue, frame, reason),
            },
            Class::Ours { udp: false, .. } => self.bursts.drop(queue, frame, DropReason::OtherProtocol),
            Class::Arp => {
                self.bursts.arp(queue, frame, self.shot.station);
            }
            Class::Drop(reason) => self.bursts.drop(queue, frame, reason),
        }
    }

    /// Whether a UDP frame answers one that is outstanding, and which.
    fn check(&self, frame: &[u8], transport_at: usize) -> Result<Stamp, DropReason> {
        let template = self.template.as_ref().ok_or(DropReason::Unexpected)?;
        let stamp = template.stamp_of_answer(frame)?;
        let slot = self.slots.get(usize::from(stamp.slot)).ok_or(DropReason::Unexpected)?;
        if !slot.outstanding || slot.stamp != stamp {
            return Err(DropReason::Unexpected);
        }
        if self.shot.ports_of(stamp.sequence).source != destination_port(frame, transport_at) {
            return Err(DropReason::OtherPort);
        }
        Ok(stamp)
    }

    fn answered(&mut self, stamp: Stamp, now: Duration) {
        self.trips.answered += 1;
        let rtt = (now.as_nanos() as u64).saturating_sub(stamp.sent_nanos);
        self.trips.rtt.saturating_record(rtt);
        if stamp.sequence < self.next_expected {
            self.trips.reordered += 1;
        } else {
            self.next_expected = stamp.sequence + 1;
        }
        self.release(stamp.slot);
    }

    fn release(&mut self, slot: u16) {
        if let Some(entry) = self.slots.get_mut(usize::from(slot)) {
            entry.outstanding = false;
            self.free.push(slot);
        }
    }

    /// Gives up frames that have been outstanding for too long; a few slots a turn.
    fn sweep(&mut self, now: Duration) {
        for _ in 0..self.slots.len().min(SWEEP_SLOTS) {
            self.swept = if self.swept + 1 < self.slots.len() { self.swept + 1 } else { 0 };
            let slot = &self.slots[self.swept];
            if slot.outstanding && now - slot.sent > self.timeout {
                self.trips.lost += 1;
                self.release(slot.stamp.slot);
            }
        }
    }

    fn send<Q: Queue>(&mut self, queue: &mut Q, now: Duration) {
        let Some(template) = &self.template else { return };
        for _ in 0..self.bursts.room() {
            if self.stopping || self.sequence == self.shot.count {
                break;
            }
            let due = self.shot.pace.map_or(now, |pace| self.started + pace.due(self.sequence));
            if due > now {
                break;
            }
            let Some(slot) = self.free.pop() else { break };
            let Some(mut frame) = queue.tx_alloc() else {
                self.free.push(slot);
                break;
            };
            if frame.resize(template.frame_bytes()).is_err() {
                queue.free(frame);
                self.free.push(slot);
                break;
            }
            let sequence = self.shot.sequence(self.sequence);
            let stamp = Stamp { slot, sequence, sent_nanos: due.as_nanos() as u64 };
            template.write(frame.bytes_mut(), self.shot.ports_of(sequence), stamp);
            self.slots[usize::from(slot)] = Slot { stamp, sent: now, outstanding: true };
            self.bursts.send(queue, frame);
            self.sequence += 1;
            self.trips.sent += 1;
            if self.shot.pace.is_some() {
                self.trips.lateness.saturating_record((now - due).as_nanos() as u64);
            }
        }
    }
}
