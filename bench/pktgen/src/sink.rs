//! `Sink`: counts and frees what arrives for us, and answers ARP so that it can be sent.

use std::time::Duration;

use nic::{Queue, QueueError};

use crate::bursts::Bursts;
use crate::engine::Progress;
use crate::packet::{Class, classify};
use crate::station::Station;

/// The receiver of one queue.
#[derive(Debug)]
pub struct Sink {
    station: Station,
    bursts: Bursts,
    left: u64,
}

impl Sink {
    /// Counts up to `count` frames sent to this station.
    pub fn new(station: Station, batch: usize, count: u64) -> Self {
        Self { station, bursts: Bursts::new(batch), left: count }
    }

    /// One turn.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    pub fn turn<Q: Queue>(&mut self, queue: &mut Q, now: Duration) -> Result<Progress, QueueError> {
        let mut moved = self.bursts.receive(queue);
        while let Some(frame) = self.bursts.next() {
            match classify(frame.bytes(), self.station.address) {
                Class::Ours { .. } => {
                    self.left = self.left.saturating_sub(1);
                    queue.free(frame);
                }
                Class::Arp => {
                    self.bursts.arp(queue, frame, self.station);
                }
                Class::Drop(reason) => self.bursts.drop(queue, frame, reason),
            }
        }
        moved += self.bursts.flush(queue)?;
        if moved > 0 {
            self.bursts.tally.note_activity(now);
        }
        Ok(Progress { moved, done: self.left == 0 && !self.bursts.has_unsent() })
    }

    /// The frames it holds, and what it counted.
    pub fn bursts(&mut self) -> &mut Bursts {
        &mut self.bursts
    }
}
