//! `Step`: a step of the turn by its name, so that a benchmark can say what each costs.

use cache::Now;
use nic::{Queue, QueueError};
use stack::Time;

use super::Worker;

/// A step of the turn; what each does is said in [`Worker::turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the turn says it, a line a step")]
pub enum Step {
    Collect,
    Receive,
    Ingest,
    Strays,
    Expire,
    Serve,
    Post,
    Flush,
    Transmit,
    Upkeep,
}

impl Step {
    /// All of them, in the order of the turn.
    pub const ALL: [Self; 10] = [
        Self::Collect,
        Self::Receive,
        Self::Ingest,
        Self::Strays,
        Self::Expire,
        Self::Serve,
        Self::Post,
        Self::Flush,
        Self::Transmit,
        Self::Upkeep,
    ];
}

impl<Q: Queue> Worker<Q> {
    /// One step alone: all of [`Step::ALL`], one after the other, are a [`turn`](Self::turn). Returns how much there
    /// was to do, as far as that counts for the turn.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn step(&mut self, step: Step, time: Time, now: Now) -> Result<usize, QueueError> {
        match step {
            Step::Collect => return Ok(self.collect(now)),
            Step::Receive => return Ok(self.receive(time, now)),
            Step::Ingest => self.ingest(time, now),
            Step::Strays => return Ok(self.exchange_strays(time)),
            Step::Expire => self.expire(time),
            Step::Serve => return Ok(self.serve(now)),
            Step::Post => self.post(),
            Step::Flush => self.flush(time),
            Step::Transmit => return self.transmit(),
            Step::Upkeep => self.upkeep(time, now),
        }
        Ok(0)
    }
}
