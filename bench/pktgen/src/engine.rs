//! `Engine`: the mode that runs on a queue, whichever it is.

use std::time::Duration;

use nic::{Queue, QueueError};

use crate::bursts::{Bursts, Progress};
use crate::pong::Pong;
use crate::sender::Sender;
use crate::tally::Tally;

/// A mode at work on one queue. Owned by one thread.
#[derive(Debug)]
pub enum Engine {
    /// `-f pong` and `-f rx`
    Pong(Box<Pong>),
    /// `-f ping` and `-f tx`
    Sender(Box<Sender>),
}

impl Engine {
    /// One turn: receives, does its work, sends, flushes. `now` never goes back.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    #[inline]
    pub fn turn<Q: Queue>(&mut self, queue: &mut Q, now: Duration) -> Result<Progress, QueueError> {
        match self {
            Self::Pong(pong) => pong.turn(queue, now),
            Self::Sender(sender) => sender.turn(queue, now),
        }
    }

    /// Begins the end. Returns whether turns are needed still.
    pub fn stop(&mut self) -> bool {
        if let Self::Sender(sender) = self { sender.stop() } else { false }
    }

    /// Whether it ended for want of an answer to ARP or a solicitation.
    pub fn found_nobody(&self) -> bool {
        if let Self::Sender(sender) = self { sender.found_nobody() } else { false }
    }

    /// Gives all frames back to the queue, and returns what was counted.
    pub fn finish<Q: Queue>(self, queue: &mut Q) -> Tally {
        let mut close = |bursts: &mut Bursts| {
            bursts.close(queue);
            std::mem::take(&mut bursts.tally)
        };
        match self {
            Self::Pong(mut pong) => close(pong.bursts()),
            Self::Sender(mut sender) => {
                let tally = close(sender.bursts());
                Tally { trips: sender.trips(), ..tally }
            }
        }
    }
}
