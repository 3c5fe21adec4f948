//! Cores that sleep, in virtual time: one that has found nothing to do is not turned again until its doorbell rings, a
//! frame comes to a queue that it polls, or its time is over, as [`Worker::run`] has it.
//!
//! Between a turn that found nothing and the last look before the sleep others may take their turns, which is where a
//! wake-up is easily lost. Doorbell and sleeper are the real ones; the wait alone is the rig's.

use std::time::Duration;

use nic::{QueueId, Sleeper, Wire, Woken};
use sidestep_cached::{AnyQueue, Worker};
use stack::Time;

/// What a core does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It takes turns.
    Awake,
    /// Its last turn has found nothing; it has not said yet that it will sleep.
    Drowsy,
    /// It sleeps, until then at the latest.
    Asleep(Time),
}

/// Where one core sleeps.
#[derive(Debug)]
pub struct Bed {
    sleeper: Sleeper,
    /// The queues whose frames wake it, each on the first port of its wire.
    queues: Vec<(Wire, QueueId)>,
    state: State,
}

impl Bed {
    /// A bed for `worker`, woken by its doorbell and by frames that come to `queues`.
    pub fn new(worker: &Worker<AnyQueue>, queues: Vec<(Wire, QueueId)>) -> Self {
        let bell = worker.doorbells[worker.cache.id()].clone();
        Self { sleeper: Sleeper::new(bell, []), queues, state: State::Awake }
    }

    /// Whether the core sleeps, and until when at the latest.
    pub fn sleeps_until(&self) -> Option<Time> {
        if let State::Asleep(until) = self.state { Some(until) } else { None }
    }

    /// Gets the core up, whatever it does.
    pub fn get_up(&mut self) {
        if std::mem::replace(&mut self.state, State::Awake) != State::Awake {
            self.sleeper.end(Some(Duration::ZERO)).expect("a poll without a wait");
        }
    }

    /// Lets the core do what comes next for it, unless it is `late`; `turn` takes a turn. Returns whether anything
    /// changed, or will.
    pub fn visit(
        &mut self,
        worker: &mut Worker<AnyQueue>,
        time: Time,
        late: bool,
        turn: impl FnOnce(&mut Worker<AnyQueue>) -> bool,
    ) -> bool {
        if let State::Asleep(until) = self.state {
            if !self.is_woken(time, until) {
                return false;
            }
            self.state = State::Awake;
        }
        if late {
            return true;
        }
        if self.state == State::Drowsy {
            let limit = worker.sleep_limit(time);
            self.state = match limit {
                Some(limit) if self.sleeper.begin(|| worker.has_work()) => State::Asleep(time.after(limit)),
                _ => State::Awake,
            };
        } else if !turn(worker) && worker.sleep_limit(time).is_some() {
            self.state = State::Drowsy;
        }
        true
    }

    fn is_woken(&mut self, time: Time, until: Time) -> bool {
        let rung = self.sleeper.end(Some(Duration::ZERO)).expect("a poll without a wait") == Woken::Rung;
        if rung || time >= until || self.queues.iter().any(|(wire, queue)| wire.has_arrived(0, *queue)) {
            return true;
        }
        // Without another look, which would hide that somebody has not rung.
        self.sleeper.begin(|| false);
        false
    }
}
