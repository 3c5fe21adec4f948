//! `Bursts`: the frames of a turn, on their way between a queue and a mode.

use std::net::IpAddr;
use std::time::Duration;

use nic::{Burst, Frame, Mac, Queue, QueueError};

use crate::neighbor::{self, Neighbor};
use crate::station::Station;
use crate::tally::{DropReason, Tally};

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Frames received and sent.
    pub moved: usize,
    /// Whether there is nothing left to do.
    pub done: bool,
}

/// Received frames of this turn, frames to be sent, and the counts of both.
///
/// Invariant: all frames are freed or sent by [`close`](Self::close). Receives only while all of a burst could be
/// answered, so that a full transmit ring leaves frames to the link's own receive ring, where it counts what it drops.
#[derive(Debug)]
pub struct Bursts {
    received: Burst,
    outgoing: Burst,
    batch: usize,
    /// What was counted.
    pub tally: Tally,
}

impl Bursts {
    /// For up to `batch` frames a turn.
    pub fn new(batch: usize) -> Self {
        Self {
            received: Burst::with_capacity(batch),
            outgoing: Burst::with_capacity(2 * batch),
            batch,
            tally: Tally::default(),
        }
    }

    /// Takes what has arrived; [`next`](Self::next) gives it frame by frame. Returns how many frames.
    pub fn receive<Q: Queue>(&mut self, queue: &mut Q) -> usize {
        self.tally.turns += 1;
        if self.outgoing.room() < self.batch {
            return 0;
        }
        let frames = queue.rx_burst(&mut self.received);
        self.tally.rx_batches.count(frames);
        frames
    }

    /// The next received frame.
    #[expect(clippy::should_implement_trait, reason = "an iterator would borrow the bursts for the whole loop")]
    pub fn next(&mut self) -> Option<Frame> {
        let frame = self.received.pop()?;
        self.tally.rx.count(frame.len());
        Some(frame)
    }

    /// Frames that can be sent in this turn: at most a batch.
    pub fn room(&self) -> usize {
        self.outgoing.room().min(self.batch)
    }

    /// Puts a frame into the next batch to be sent.
    pub fn send<Q: Queue>(&mut self, queue: &mut Q, frame: Frame) {
        let bytes = frame.len();
        match self.outgoing.push(frame) {
            Ok(()) => self.tally.tx.count(bytes),
            // Only when a mode sends more than `room` beside its answers.
            Err(frame) => queue.free(frame),
        }
    }

    /// Frees a received frame for a reason.
    pub fn drop<Q: Queue>(&mut self, queue: &mut Q, frame: Frame, reason: DropReason) {
        self.tally.drops.count(reason);
        queue.free(frame);
    }

    /// Handles a frame of ARP or neighbour discovery: answers it if it asks for us, and returns what it taught.
    pub fn neighbor<Q: Queue>(&mut self, queue: &mut Q, mut frame: Frame, ours: Station) -> Option<(IpAddr, Mac)> {
        match neighbor::receive(&mut frame, ours) {
            Neighbor::Answer => {
                self.tally.neighbors_answered += 1;
                self.send(queue, frame);
                None
            }
            Neighbor::Learned(address, mac) => {
                queue.free(frame);
                Some((address, mac))
            }
            Neighbor::Other => {
                self.drop(queue, frame, DropReason::OtherNeighbor);
                None
            }
        }
    }

    /// Ends a turn: hands over what is to be sent, and lets the queue do its upkeep. Returns how many frames went.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    pub fn flush<Q: Queue>(&mut self, queue: &mut Q) -> Result<usize, QueueError> {
        let frames = if self.outgoing.is_empty() { 0 } else { queue.tx_burst(&mut self.outgoing) };
        self.tally.tx_batches.count(frames);
        queue.flush()?;
        Ok(frames)
    }

    /// Notes that frames moved in this turn, if any did.
    pub fn note(&mut self, moved: usize, now: Duration) {
        if moved > 0 {
            self.tally.note_activity(now);
        }
    }

    /// Whether frames wait to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Gives all frames back; those that the link did not take are no longer counted as sent.
    pub fn close<Q: Queue>(&mut self, queue: &mut Q) {
        while let Some(frame) = self.received.pop() {
            queue.free(frame);
        }
        while let Some(frame) = self.outgoing.pop() {
            self.tally.tx.frames -= 1;
            self.tally.tx.bytes -= frame.len() as u64;
            queue.free(frame);
        }
    }
}
