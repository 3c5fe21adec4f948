//! The life of a core: turn after turn until the server stops, asleep on all queues and the doorbell at once when there
//! is nothing to do, and the turns in which it answers what has arrived and closes its connections.

use std::time::Duration;

use cache::Now;
use nic::{PcapError, Queue, QueueError, Sleeper};
use stack::{Time, Waiter};

use super::Worker;
use crate::clock::Clock;
use crate::orders::Orders;
use crate::report::CoreReport;
use crate::sharing::AnyQueue;

/// How long a stopping core at least takes in frames before it closes connections, since other cores may hand them over.
const ARRIVED_LEAST: Duration = Duration::from_millis(5);

/// How long it does so at most, where frames keep coming: far longer than it takes to serve what fills every ring.
const ARRIVED_LIMIT: Duration = Duration::from_millis(50);

/// How long a stopping core waits for its connections to be answered before it throws them away.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// After what time it throws connections away that sleep, without waking them: those that no block was found for till then.
const ASLEEP_LIMIT: Duration = Duration::from_millis(250);

/// How long it then waits for the last FINs to be acknowledged.
const CLOSE_LIMIT: Duration = Duration::from_millis(250);

/// The longest sleep of a core, so that items expire while nothing happens.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Why a core cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// What was recorded of a queue is not whole.
    #[error("the capture is not whole: {0}")]
    Capture(#[from] PcapError),
    /// The kernel does not confine the core's thread.
    #[error("the core's thread cannot be confined: {0}")]
    Confine(#[source] std::io::Error),
    /// The kernel refused to let the core sleep.
    #[error("cannot wait for frames: {0}")]
    Sleep(#[source] std::io::Error),
}

impl Worker<AnyQueue> {
    /// Takes turns and does what `orders` say; once they say that it ends, answers what has arrived, closes every connection
    /// and says what was done.
    ///
    /// # Errors
    /// A queue failed, or the kernel does not let the core sleep.
    pub fn run(
        mut self,
        sleeper: Sleeper,
        clock: &Clock,
        orders: &Orders,
        spin: Duration,
    ) -> Result<CoreReport, WorkerError> {
        let core = self.cache.id();
        let mut waiter = Waiter::new(sleeper, spin);
        if core == 0 {
            // The first core polls a queue in every plan, and one core is enough to tell everybody.
            self.poll.stack_mut().announce(clock.read().0, 0);
        }
        loop {
            let (time, now) = self.read(clock);
            if orders.wants(core) {
                if orders.stops(core) {
                    break;
                }
                self.obey(orders);
            }
            if self.turn(time, now)? {
                waiter.note_busy(time);
                continue;
            }
            let limit = self.sleep_limit(time).unwrap_or(Duration::ZERO);
            let has_work = || self.has_work() || orders.wants(core);
            waiter.wait(time, Some(limit), has_work).map_err(WorkerError::Sleep)?;
        }
        self.drain(clock)?;
        self.capture.finish()?;
        Ok(CoreReport::of(&self, waiter.sleeps()))
    }
}

impl<Q: Queue> Worker<Q> {
    /// The moment, as debugtime may have set it for the cache.
    fn read(&self, clock: &Clock) -> (Time, Now) {
        let (time, now) = clock.read();
        (time, self.cache.shared().control.shown(now))
    }

    /// What the core sleeps on; where it is told to, and the kernel can, one that polls the drivers of its queues.
    pub fn sleeper(&self) -> Sleeper {
        let bell = &self.doorbells[self.cache.id()];
        match self.polls.then(|| self.poll.polling_sleeper(bell.clone())) {
            Some(Ok(sleeper)) => return sleeper,
            Some(Err(error)) => {
                tracing::info!(%error, "the kernel cannot poll drivers before a core sleeps; interrupts wake it");
            }
            None => {}
        }
        self.poll.sleeper(bell.clone())
    }

    /// How long a core that found nothing to do at `time` may sleep; `None` while there is upkeep to be done first.
    pub fn sleep_limit(&self, time: Time) -> Option<Duration> {
        let deadline = self.poll.idle(time).unwrap_or(LONGEST_SLEEP);
        let upkeep = self.cache.shard().may_hold_dead() || self.connections.takes_in_idle();
        (!upkeep).then_some(deadline.min(LONGEST_SLEEP))
    }

    /// Whether there is work of which no descriptor tells. Asked when other cores can see already that this one is
    /// about to sleep, so it looks at every inbox.
    pub fn has_work(&self) -> bool {
        self.cache.has_work() || self.udp.has_work() || self.poll.has_work()
    }

    /// Answers every request that has arrived, then closes every connection; bounded in time.
    fn drain(&mut self, clock: &Clock) -> Result<(), QueueError> {
        let (begin, _) = clock.read();
        loop {
            let (time, now) = self.read(clock);
            if self.drain_turn(begin, time, now)? {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }

    /// One turn of a core that has been stopping since `begin`. Returns whether it has stopped: no core has anything
    /// left that could be answered or closed, or it has taken too long, whatever still arrives.
    ///
    /// # Errors
    /// A queue failed; the core cannot go on.
    pub fn drain_turn(&mut self, begin: Time, time: Time, now: Now) -> Result<bool, QueueError> {
        let waited = time.since(begin);
        let moved = self.turn(time, now)?;
        if waited < ARRIVED_LEAST || moved && waited < ARRIVED_LIMIT {
            // More may have arrived than one turn takes in, or wait with a core that hands it over.
            return Ok(false);
        }
        self.connections.drain(waited > ANSWER_LIMIT, &mut self.poll, &mut self.cache, now);
        if waited > ASLEEP_LIMIT {
            self.connections.abort_asleep(time, &mut self.poll, &mut self.cache);
        }
        if waited > ANSWER_LIMIT {
            self.udp.end_all(&mut self.cache, now);
        }
        let admission = self.connections.admission();
        if self.poll.unsent() == 0 && admission.open() == 0 && self.poll.flows() == 0 && self.udp.pending() == 0 {
            admission.note_stopped(self.cache.id());
        }
        // The cores leave together: they may ask for items of this core's shard, and send and receive by its queues.
        Ok(admission.all_stopped(self.doorbells.len()) || waited >= ANSWER_LIMIT + CLOSE_LIMIT)
    }
}
