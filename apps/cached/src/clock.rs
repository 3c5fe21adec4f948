//! `Clock`: the one place that reads the time; everything below gets it as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cache::Now;
use stack::Time;

/// Seconds that the cache's clock shows at the start, so that 0 can mean never and 1 long ago.
const FIRST_SECOND: u64 = 2;

/// The clock of all cores: monotonic, started once. Any thread.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    unix_epoch: u64,
}

impl Clock {
    /// Starts the clock. The wall clock is read here and never again, so that a step of it moves no relative expiry.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { start: Instant::now(), unix_epoch: unix.saturating_sub(FIRST_SECOND) }
    }

    /// The moment, as the stack and as the cache count it. Once a turn.
    pub fn read(&self) -> (Time, Now) {
        let since = self.start.elapsed();
        let secs = u32::try_from(since.as_secs() + FIRST_SECOND).unwrap_or(u32::MAX);
        (Time::from_duration(since), Now { secs, unix_epoch: self.unix_epoch })
    }
}
