//! `Pong`: the null responder. Frames in, addresses swapped, frames out on the queue they came by; nothing else.
//!
//! What it does a second is the ceiling of any server on this machine and link, so it must do no more than a server
//! cannot leave out: it reads the headers that say whether a frame is for us, swaps in place and looks at no checksum.
//!
//! ```text
//! rx_burst ──► classify ──► reflect ──► tx_burst ──► flush
//!                 │ ARP for us: answered
//!                 └ anything else: freed and counted by reason
//! ```

use std::time::Duration;

use nic::{Queue, QueueError};

use crate::bursts::Bursts;
use crate::engine::Progress;
use crate::packet::{Class, classify, destination_port, reflect};
use crate::station::Station;
use crate::tally::DropReason;

/// The null responder of one queue.
#[derive(Debug)]
pub struct Pong {
    station: Station,
    ports: Option<(u16, u16)>,
    bursts: Bursts,
    left: u64,
}

impl Pong {
    /// Reflects up to `count` frames sent to this station, at these ports only if any are given.
    pub fn new(station: Station, ports: Option<(u16, u16)>, batch: usize, count: u64) -> Self {
        Self { station, ports, bursts: Bursts::new(batch), left: count }
    }

    /// One turn.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    pub fn turn<Q: Queue>(&mut self, queue: &mut Q, now: Duration) -> Result<Progress, QueueError> {
        let mut moved = self.bursts.receive(queue);
        while let Some(mut frame) = self.bursts.next() {
            match classify(frame.bytes(), self.station.address) {
                Class::Ours { transport_at, .. } if self.serves(frame.bytes(), transport_at) => {
                    if self.left == 0 {
                        queue.free(frame);
                        continue;
                    }
                    self.left -= 1;
                    reflect(frame.bytes_mut(), transport_at);
                    self.bursts.send(queue, frame);
                }
                Class::Ours { .. } => self.bursts.drop(queue, frame, DropReason::OtherPort),
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

    #[inline]
    fn serves(&self, frame: &[u8], transport_at: usize) -> bool {
        match self.ports {
            None => true,
            Some((first, last)) => (first..=last).contains(&destination_port(frame, transport_at)),
        }
    }

    /// The frames it holds, and what it counted.
    pub fn bursts(&mut self) -> &mut Bursts {
        &mut self.bursts
    }
}
