//! `Waiter`: how a core waits between two turns: it looks again for a while, then sleeps on all its queues and its doorbell
//! at once.
//!
//! Who looks again finds a frame a microsecond after it has come; who sleeps leaves the processor to others, and finds it
//! some fifty later. Invariant: it does not sleep while there is work ([`nic::wait`](nic::Sleeper) has the argument).

use std::io;
use std::time::Duration;

use nic::{Sleeper, Woken};

use crate::clock::Time;

/// Belongs to one core.
#[derive(Debug)]
pub struct Waiter {
    sleeper: Sleeper,
    /// How long a core that found nothing to do looks again before it sleeps.
    spin: Duration,
    /// When there was something to do last.
    busy_at: Time,
    sleeps: u64,
}

impl Waiter {
    /// A core that has nothing to do looks again for as long as `spin`, then sleeps on `sleeper`
    /// ([`Poll::sleeper`](crate::Poll::sleeper)).
    pub fn new(sleeper: Sleeper, spin: Duration) -> Self {
        Self { sleeper, spin, busy_at: Time::ZERO, sleeps: 0 }
    }

    /// The turn at `now` had something to do: the core does not sleep for as long as it looks again.
    #[inline]
    pub fn note_busy(&mut self, now: Time) {
        self.busy_at = now;
    }

    /// Waits after a turn at `now` that had nothing to do, for no longer than `limit` (`None`: for ever; zero: it does not
    /// wait), until a frame arrives or another core rings. `has_work` is asked last, when other cores can see that this one is
    /// about to sleep, and must look at every inbox. Returns why it goes on.
    ///
    /// # Errors
    /// The kernel refused to wait.
    pub fn wait(&mut self, now: Time, limit: Option<Duration>, has_work: impl FnOnce() -> bool) -> io::Result<Woken> {
        if limit == Some(Duration::ZERO) || now.since(self.busy_at) < self.spin {
            std::hint::spin_loop();
            return Ok(Woken::Busy);
        }
        self.sleeps += 1;
        self.sleeper.sleep(limit, has_work)
    }

    /// Times that the core went to sleep, those among them at which there was work at the last look.
    pub fn sleeps(&self) -> u64 {
        self.sleeps
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nic::Doorbell;

    use super::*;

    #[test]
    fn a_core_looks_again_for_a_while_before_it_sleeps_and_sleeps_never_with_work_at_hand() {
        let bell = Arc::new(Doorbell::new().expect("a descriptor"));
        let mut waiter = Waiter::new(Sleeper::new(bell.clone(), []), Duration::from_micros(50));
        let at = Time::from_micros;
        waiter.note_busy(at(100));
        let mut wait = |now, limit, has_work: &dyn Fn() -> bool| {
            let woken = waiter.wait(at(now), limit, has_work).expect("the kernel waits");
            (woken, waiter.sleeps())
        };
        let asked = || panic!("it does not sleep");
        assert_eq!(wait(149, None, &asked), (Woken::Busy, 0));
        assert_eq!(wait(150, Some(Duration::ZERO), &asked), (Woken::Busy, 0));
        // Rung once others can see that it is about to sleep, which it would for ever.
        assert_eq!(wait(150, None, &|| !bell.ring()), (Woken::Rung, 1));
        assert_eq!(wait(150, None, &|| true), (Woken::Busy, 2));
    }
}
