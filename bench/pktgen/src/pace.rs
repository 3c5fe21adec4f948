//! `Pace`: when each frame of a queue is to be sent, given a rate for all queues together.

use std::time::Duration;

/// An even rate, shared by the queues in turn: queue `i` of `n` sends frames `i`, `i + n`, `i + 2n` ... of it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    frames_per_second: u64,
    queue: u64,
    queues: u64,
}

impl Pace {
    /// The pace of `queue`, of `queues` (at least 1), at this rate of all of them (at least 1 a second).
    pub fn new(frames_per_second: u64, queue: u16, queues: u16) -> Self {
        Self { frames_per_second: frames_per_second.max(1), queue: queue.into(), queues: queues.max(1).into() }
    }

    /// When the queue's frame of this number is due, after the start.
    pub fn due(&self, sequence: u64) -> Duration {
        let frame = u128::from(sequence) * u128::from(self.queues) + u128::from(self.queue);
        let nanos = frame * 1_000_000_000 / u128::from(self.frames_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_take_turns_at_the_common_rate() {
        let paces = [Pace::new(3, 0, 2), Pace::new(3, 1, 2)];
        let due: Vec<_> = (0..2).flat_map(|frame| paces.map(|pace| pace.due(frame).as_nanos())).collect();
        assert_eq!(due, [0, 333_333_333, 666_666_666, 1_000_000_000]);
    }

    #[test]
    fn no_error_adds_up() {
        assert_eq!(Pace::new(7, 0, 1).due(7_000_000), Duration::from_secs(1_000_000));
    }
}
