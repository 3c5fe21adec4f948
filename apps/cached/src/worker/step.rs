//! `TurnStep`: a step of the turn by its name, so that a benchmark can say what each costs.

use cache::Now;
use nic::{Queue, QueueError};
use stack::Time;

use super::Worker;

/// A step of the turn; what each does is said in [`Worker::turn`] and in [`stack::Poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the turn says it, a line a step")]
pub enum TurnStep {
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

impl TurnStep {
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
    /// One step alone: all of [`TurnStep::ALL`], one after the other, are a [`turn`](Self::turn). Returns how much there
    /// was to do, as far as that counts for the turn.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn step(&mut self, step: TurnStep, time: Time, now: Now) -> Result<usize, QueueError> {
        match step {
            TurnStep::Collect => return Ok(self.collect(now)),
            TurnStep::Receive => {
                self.capture.set_time(time, now);
                return Ok(self.poll.receive());
            }
            TurnStep::Ingest => self.poll.ingest(time, self.udp.handler(&mut self.cache, now).as_mut()),
            TurnStep::Strays => return Ok(self.poll.exchange(time)),
            TurnStep::Expire => self.poll.expire(time),
            TurnStep::Serve => return Ok(self.serve(now)),
            TurnStep::Post => self.post(),
            TurnStep::Flush => self.poll.flush(time),
            TurnStep::Transmit => return self.poll.transmit(),
            TurnStep::Upkeep => self.upkeep(time, now),
        }
        Ok(0)
    }
}
