//! `Pong`: the null responder. Frames in, addresses swapped, frames out on the queue they came by; nothing else.
//!
//! What it does a second is the ceiling of any server on this machine and link, so it must do no more than a server
//! cannot leave out: it reads the headers that say whether a frame is for us, swaps in place and looks at no checksum.
//!
//! ```text
//! rx_burst ──► classify ──► reflect ──► tx_burst ──► flush
//!                 │ ARP, neighbour discovery for us: answered
//!                 └ anything else: freed and counted by reason
//! ```

use std::time::Duration;

use nic::{Queue, QueueError};

use crate::bursts::{Bursts, Progress};
use crate::packet::{Class, classify, destination_port, reflect};
use crate::station::Station;
use crate::tally::DropReason;

/// The null responder of one queue; or a mere counter, which frees what the other would send back.
#[derive(Debug)]
pub struct Pong {
    station: Station,
    ports: Option<(u16, u16)>,
    reflects: bool,
    bursts: Bursts,
    left: u64,
}

impl Pong {
    /// `-f pong`: reflects up to `count` frames sent to this station, at these ports only if any are given.
    pub fn new(station: Station, ports: Option<(u16, u16)>, batch: usize, count: u64) -> Self {
        Self { station, ports, reflects: true, bursts: Bursts::new(batch), left: count }
    }

    /// `-f rx`: counts and frees up to `count` frames sent to this station, and answers ARP and neighbour discovery so that they can
    /// be sent.
    pub fn rx(station: Station, batch: usize, count: u64) -> Self {
        Self { reflects: false, ..Self::new(station, None, batch, count) }
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
                    if self.reflects && self.left > 0 {
                        reflect(frame.bytes_mut(), transport_at);
                        self.bursts.send(queue, frame);
                    } else {
                        queue.free(frame);
                    }
                    self.left = self.left.saturating_sub(1);
                }
                Class::Ours { .. } => self.bursts.drop(queue, frame, DropReason::OtherPort),
                Class::Neighbor => {
                    self.bursts.neighbor(queue, frame, self.station);
                }
                Class::Drop(reason) => self.bursts.drop(queue, frame, reason),
            }
        }
        moved += self.bursts.flush(queue)?;
        self.bursts.note(moved, now);
        Ok(Progress { moved, done: self.left == 0 && !self.bursts.has_unsent() })
    }

    #[inline]
    fn serves(&self, frame: &[u8], transport_at: usize) -> bool {
        self.ports.is_none_or(|(first, last)| (first..=last).contains(&destination_port(frame, transport_at)))
    }

    /// The frames it holds, and what it counted.
    pub fn bursts(&mut self) -> &mut Bursts {
        &mut self.bursts
    }
}
