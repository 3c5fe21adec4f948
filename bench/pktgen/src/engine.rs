//! `Engine`: the mode that runs on a queue, whichever it is.

use std::time::Duration;

use nic::{Queue, QueueError};

use crate::ping::Ping;
use crate::pong::Pong;
use crate::sink::Sink;
use crate::source::Source;
use crate::tally::Tally;

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Frames received and sent.
    pub moved: usize,
    /// Whether there is nothing left to do.
    pub done: bool,
}

/// A mode at work on one queue. Owned by one thread.
#[derive(Debug)]
pub enum Engine {
    /// `-f pong`
    Pong(Pong),
    /// `-f ping`
    Ping(Box<Ping>),
    /// `-f rx`
    Rx(Sink),
    /// `-f tx`
    Tx(Source),
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
            Self::Ping(ping) => ping.turn(queue, now),
            Self::Rx(sink) => sink.turn(queue, now),
            Self::Tx(source) => source.turn(queue, now),
        }
    }

    /// Begins the end. Returns whether turns are needed still: ping waits for what is outstanding.
    pub fn stop(&mut self) -> bool {
        match self {
            Self::Ping(ping) => {
                ping.stop();
                true
            }
            _ => false,
        }
    }

    /// Whether it ended for want of an answer to ARP.
    pub fn found_nobody(&self) -> bool {
        match self {
            Self::Ping(ping) => ping.found_nobody(),
            Self::Tx(source) => source.found_nobody(),
            Self::Pong(_) | Self::Rx(_) => false,
        }
    }

    /// Gives all frames back to the queue, and returns what was counted.
    pub fn finish<Q: Queue>(mut self, queue: &mut Q) -> Tally {
        let bursts = match &mut self {
            Self::Pong(pong) => pong.bursts(),
            Self::Ping(ping) => ping.bursts(),
            Self::Rx(sink) => sink.bursts(),
            Self::Tx(source) => source.bursts(),
        };
        bursts.close(queue);
        let mut tally = std::mem::take(&mut bursts.tally);
        if let Self::Ping(ping) = &self {
            tally.trips = Some(ping.trips().clone());
        }
        tally
    }
}
