//! `Sender`: sends UDP frames as fast as the queue takes them, or at a rate; for ping it waits for each to come back,
//! checks every byte and times the trip.
//!
//! Ping without a rate is a closed loop: a window of frames is outstanding and an answer lets the next one go. With a
//! rate it is an open loop: a frame is timed from when it was *to be* sent, however late that was, so that a stall
//! shows in full; the window is then a mere bound. A frame has a slot while it is outstanding, so memory is bounded by
//! the window, and each frame ends exactly once: answered or lost.
//!
//! ```text
//!          send                      answer, stamp equal
//! free ───────────► outstanding ─────────────────────────► free (answered)
//!                        └───────── time-out ────────────► free (lost)
//! ```

use std::net::IpAddr;
use std::time::Duration;

use nic::{Frame, Queue, QueueError};

use crate::bursts::{Bursts, Progress};
use crate::pace::Pace;
use crate::packet::{Class, Ports, Stamp, UdpTemplate, classify, destination_port};
use crate::resolve::{PeerMac, Resolution, Resolve};
use crate::station::Station;
use crate::tally::{DropReason, Trips};

/// Slots looked at for a time-out in one turn: a window of 65,536 is gone through in 4,096 turns.
const SWEEP_SLOTS: usize = 16;
/// Bits of a frame's number on its queue; the queue's number is above them.
const NUMBER_BITS: u32 = 48;

/// What tx and ping send, and where to.
#[derive(Debug, Clone)]
pub struct Shot {
    /// Who sends.
    pub station: Station,
    /// To whom.
    pub peer: IpAddr,
    /// Whose Ethernet address that is.
    pub peer_mac: PeerMac,
    /// Ports, taken in turn; at least one pair.
    pub ports: Vec<Ports>,
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Most frames a turn.
    pub batch: usize,
    /// When to send; `None`: as soon as possible.
    pub pace: Option<Pace>,
    /// How many frames to send.
    pub count: u64,
    /// Which queue sends, for its frames to be told from those of the others.
    pub queue: u16,
}

impl Shot {
    /// The sequence number of the queue's frame of this number: unique among all queues.
    pub fn sequence(&self, number: u64) -> u64 {
        u64::from(self.queue) << NUMBER_BITS | number
    }

    /// The ports of the frame with this sequence number.
    pub fn ports_of(&self, sequence: u64) -> Ports {
        let number = sequence & ((1 << NUMBER_BITS) - 1);
        let at = number % self.ports.len().max(1) as u64;
        self.ports.get(at as usize).copied().unwrap_or(Ports { source: 7, destination: 7 })
    }
}

/// A frame that is outstanding, or was.
#[derive(Debug, Clone, Copy)]
struct SentFrame {
    stamp: Stamp,
    /// When it was handed to the queue: never before the stamp's time.
    sent: Duration,
    outstanding: bool,
}

/// The frames that ping waits for.
#[derive(Debug)]
struct Window {
    timeout: Duration,
    slots: Vec<SentFrame>,
    free: Vec<u16>,
    swept: usize,
    /// One more than the highest sequence number that was answered.
    next_expected: u64,
    trips: Trips,
}

impl Window {
    fn new(frames: usize, timeout: Duration) -> Self {
        let stamp = Stamp { slot: 0, sequence: 0, sent_nanos: 0 };
        Self {
            timeout,
            slots: vec![SentFrame { stamp, sent: Duration::ZERO, outstanding: false }; frames],
            free: (0..frames).rev().map(|slot| slot as u16).collect(),
            swept: 0,
            next_expected: 0,
            trips: Trips::default(),
        }
    }

    fn is_outstanding(&self, stamp: Stamp) -> bool {
        self.slots.get(usize::from(stamp.slot)).is_some_and(|slot| slot.outstanding && slot.stamp == stamp)
    }

    fn sent(&mut self, stamp: Stamp, now: Duration) {
        self.slots[usize::from(stamp.slot)] = SentFrame { stamp, sent: now, outstanding: true };
        self.trips.sent += 1;
    }

    fn answered(&mut self, stamp: Stamp, now: Duration) {
        self.trips.answered += 1;
        self.trips.rtt.saturating_record((now.as_nanos() as u64).saturating_sub(stamp.sent_nanos));
        if stamp.sequence < self.next_expected {
            self.trips.reordered += 1;
        } else {
            self.next_expected = stamp.sequence + 1;
        }
        self.release(stamp.slot);
    }

    fn release(&mut self, slot: u16) {
        self.slots[usize::from(slot)].outstanding = false;
        self.free.push(slot);
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
}

/// The sender of one queue.
#[derive(Debug)]
pub struct Sender {
    shot: Shot,
    resolve: Resolve,
    template: Option<UdpTemplate>,
    bursts: Bursts,
    /// Ping's.
    window: Option<Window>,
    started: Duration,
    /// Frames sent.
    number: u64,
    stopping: bool,
}

impl Sender {
    /// `-f tx`: sends what `shot` says, and looks at nothing that comes.
    pub fn tx(shot: Shot) -> Self {
        let resolve = Resolve::new(shot.station, shot.peer, shot.peer_mac.clone());
        let (bursts, started) = (Bursts::new(shot.batch), Duration::ZERO);
        Self { shot, resolve, template: None, bursts, window: None, started, number: 0, stopping: false }
    }

    /// `-f ping`: the same with up to `window` (1 to 65,536) frames outstanding, each lost after `timeout`.
    pub fn ping(shot: Shot, window: usize, timeout: Duration) -> Self {
        Self { window: Some(Window::new(window.clamp(1, 1 << 16), timeout)), ..Self::tx(shot) }
    }

    /// One turn.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    pub fn turn<Q: Queue>(&mut self, queue: &mut Q, now: Duration) -> Result<Progress, QueueError> {
        let received = self.bursts.receive(queue);
        while let Some(frame) = self.bursts.next() {
            self.take(queue, frame, now);
        }
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
        if let Some(window) = &mut self.window {
            window.sweep(now);
        }
        self.send(queue, now);
        let sent = self.bursts.flush(queue)?;
        let (all_sent, moved) = (self.stopping || self.number == self.shot.count, received + sent);
        let (moved, done) = match &self.window {
            Some(window) => (moved, all_sent && window.free.len() == window.slots.len()),
            None => (sent, all_sent && !self.bursts.has_unsent()),
        };
        self.bursts.note(moved, now);
        Ok(Progress { moved, done })
    }

    /// Begins the end. Returns whether turns are needed still: ping waits for what is outstanding.
    pub fn stop(&mut self) -> bool {
        self.stopping = true;
        self.window.is_some()
    }

    /// Whether the search for the peer's Ethernet address failed.
    pub fn found_nobody(&self) -> bool {
        self.template.is_none()
    }

    /// The frames it holds, and what it counted but for [`trips`](Self::trips).
    pub fn bursts(&mut self) -> &mut Bursts {
        &mut self.bursts
    }

    /// What became of ping's frames.
    pub fn trips(self) -> Option<Trips> {
        self.window.map(|window| window.trips)
    }

    fn take<Q: Queue>(&mut self, queue: &mut Q, frame: Frame, now: Duration) {
        match classify(frame.bytes(), self.shot.station.address) {
            Class::Ours { transport_at, udp } => match self.answer(frame.bytes(), transport_at, udp, now) {
                Ok(()) => queue.free(frame),
                Err(reason) => self.bursts.drop(queue, frame, reason),
            },
            Class::Neighbor => {
                if let Some((address, mac)) = self.bursts.neighbor(queue, frame, self.shot.station) {
                    self.resolve.learn(address, mac);
                }
            }
            Class::Drop(reason) => self.bursts.drop(queue, frame, reason),
        }
    }

    /// Counts a frame that answers one that is outstanding; says why another does not.
    fn answer(&mut self, frame: &[u8], transport_at: usize, udp: bool, now: Duration) -> Result<(), DropReason> {
        let Some((template, window)) = self.template.as_ref().zip(self.window.as_mut()) else {
            return Err(DropReason::Unexpected);
        };
        if !udp {
            return Err(DropReason::OtherProtocol);
        }
        let stamp = template.stamp_of_answer(frame)?;
        if !window.is_outstanding(stamp) {
            return Err(DropReason::Unexpected);
        }
        // Ports are not among the stamp: an answer to the right frame may come to a wrong port.
        if self.shot.ports_of(stamp.sequence).source != destination_port(frame, transport_at) {
            return Err(DropReason::OtherPort);
        }
        window.answered(stamp, now);
        Ok(())
    }

    fn send<Q: Queue>(&mut self, queue: &mut Q, now: Duration) {
        let Some(template) = &self.template else { return };
        for _ in 0..self.bursts.room() {
            let due = self.shot.pace.map_or(now, |pace| self.started + pace.due(self.number));
            if self.stopping || self.number == self.shot.count || due > now {
                break;
            }
            let slot = match &self.window {
                Some(window) => window.free.last().copied(),
                None => Some(0),
            };
            let Some(slot) = slot else { break };
            let Some(mut frame) = queue.tx_alloc() else { break };
            if frame.resize(template.frame_bytes()).is_err() {
                queue.free(frame);
                break;
            }
            let sequence = self.shot.sequence(self.number);
            let stamp = Stamp { slot, sequence, sent_nanos: due.as_nanos() as u64 };
            template.write(frame.bytes_mut(), self.shot.ports_of(sequence), stamp);
            self.bursts.send(queue, frame);
            self.number += 1;
            if let Some(window) = &mut self.window {
                window.free.pop();
                window.sent(stamp, now);
                if self.shot.pace.is_some() {
                    window.trips.lateness.saturating_record((now - due).as_nanos() as u64);
                }
            }
        }
    }
}
