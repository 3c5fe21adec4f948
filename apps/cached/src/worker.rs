//! One core: its queues, its stack, its shard, and the turn that runs a request to completion on them.
//!
//! Invariant: everything a worker holds is its own core's; what crosses cores goes through a bounded queue. A turn
//! never waits, and each of its steps has a bound. Between turns [`Worker::run`] spins for a while, then sleeps on all
//! queues and the doorbell at once. Read first: ARCHITECTURE.md, "One request through the files".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use cache::{Core, KeyHash, Now};
use nic::{Doorbell, Queue, QueueError, Sleeper};
use stack::{FlowId, NetStack, Port, Readiness, StrayRing, Time};

use crate::admission::Admission;
use crate::clock::Clock;
use crate::connections::Connections;
use crate::losses::CoreLosses;
use crate::report::CoreReport;
use crate::udp_service::UdpService;

/// Flows served in one turn; the rest stay on the ready list for the next.
const READY_BUDGET: usize = 256;

/// Flows whose blocks and connections a core's own caches hold, at about 1.5 KB of each in use. Asking memory for what is
/// there already would cost a tenth of a request. What they ask for is asked of memory however few they are.
const FLOWS_IN_CACHE: usize = 1_024;

/// Flows of which what they need is asked of memory together, so that one wait serves all.
const SERVED_TOGETHER: usize = 16;

/// Connections resumed in one turn because an answer of another core has come.
const RESUME_BUDGET: usize = 256;

/// Steps of upkeep of the store in one turn.
const UPKEEP_BUDGET: u32 = 16;

/// How long a stopping core at least takes in frames before it closes connections, since other cores may hand them over.
const ARRIVED_LEAST: Duration = Duration::from_millis(5);

/// How long it at most does: far longer than it takes to serve
/// what fills every ring, and a bound where more keeps coming.
const ARRIVED_LIMIT: Duration = Duration::from_millis(50);

/// How long a stopping core waits for its connections to be answered before it throws them away.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// How long it then waits for the last FINs to be acknowledged.
const CLOSE_LIMIT: Duration = Duration::from_millis(250);

/// A core sleeps at most so long, so that items expire while nothing happens.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Why a core cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The kernel refused to let the core sleep.
    #[error("cannot wait for frames: {0}")]
    Sleep(#[source] std::io::Error),
}

/// A step of the turn; what each does is said in [`Worker::turn_in_steps`].
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

/// One core. Moves to its thread and stays there.
#[derive(Debug)]
pub struct Worker<Q: Queue> {
    /// The queues that this core polls.
    pub ports: Vec<Port<Q>>,
    /// Its TCP/IP.
    pub stack: NetStack,
    /// Its cache.
    pub cache: Core,
    /// Which session belongs to which flow.
    pub connections: Connections,
    /// Its requests over UDP, if that is served.
    pub udp: Option<UdpService>,
    /// Frames that no flow here knows.
    pub strays: StrayRing,
    /// The doorbells of all cores, by number.
    pub doorbells: Vec<Arc<Doorbell>>,
    /// The limit on connections that all cores share.
    pub admission: Arc<Admission>,
    /// Whether connections above the limit are told so, rather than left to wait (`-o maxconns_fast`).
    pub maxconns_fast: bool,
    /// Since when no more are accepted, if they are not.
    pub paused_at: Option<Time>,
    /// Where others see what it has lost.
    pub losses: CoreLosses,
}

impl<Q: Queue> Worker<Q> {
    /// One turn. Returns whether there was anything to do.
    ///
    /// # Errors
    /// A queue failed; the core cannot go on.
    pub fn turn(&mut self, time: Time, now: Now) -> Result<bool, QueueError> {
        self.turn_in_steps(time, now, |_| ())
    }

    /// One turn, telling `done` of each step that has ended, so that a benchmark can say what each costs.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    #[inline]
    pub fn turn_in_steps(&mut self, time: Time, now: Now, mut done: impl FnMut(Step)) -> Result<bool, QueueError> {
        let mut work = 0;
        work += self.collect(now); //              1 answers and requests of other shards
        done(Step::Collect);
        work += self.receive(time, now); //        2 rx_burst on every port
        done(Step::Receive);
        self.ingest(time, now); //                 3 classify, look up, smoltcp ingress
        done(Step::Ingest);
        work += self.exchange_strays(time); //     4 frames that no flow here knows
        done(Step::Strays);
        self.expire(time); //                      5 timers that are due
        done(Step::Expire);
        work += self.serve(now); //                6 ready flows: parse, execute, answer
        done(Step::Serve);
        self.post(); //                            7 one batch a shard, and its doorbell
        done(Step::Post);
        self.flush(time); //                       8 egress: the ACK rides on the answer
        done(Step::Flush);
        work += self.transmit()?; //               9 tx_burst, one wake-up
        done(Step::Transmit);
        self.upkeep(time, now); //                10 the store's upkeep, in small steps
        done(Step::Upkeep);
        Ok(work > 0)
    }

    fn collect(&mut self, now: Now) -> usize {
        self.cache.collect(now);
        let mut resumed = 0;
        while resumed < RESUME_BUDGET {
            let Some(conn) = self.cache.next_resumable() else { break };
            if self.udp.as_mut().is_some_and(|udp| udp.wake(conn)) {
                // Served in its turn, as a flow is.
            } else if let Some(id) = self.connections.flow_of(conn) {
                self.stack.wake(id);
            }
            resumed += 1;
        }
        if let Some((conn, _why)) = self.cache.next_overdue() {
            let cache = &mut self.cache;
            if !self.udp.as_mut().is_some_and(|udp| udp.abort(conn, cache, now)) {
                self.connections.abort(conn, &mut self.stack, cache);
            }
        }
        resumed
    }

    fn receive(&mut self, time: Time, now: Now) -> usize {
        // For captures: the time of day, with the second's beginning where the cache has it.
        let micros = (time.as_micros() % 1_000_000) as u32;
        let day = Duration::new(now.unix_epoch + u64::from(now.secs), micros * 1_000);
        let mut received = 0;
        for port in &mut self.ports {
            port.queue_mut().set_time(day);
            received += port.receive();
        }
        received
    }

    fn ingest(&mut self, time: Time, now: Now) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            // One call for both, so that what segments cost does not depend on whether there may be datagrams.
            let mut handler = self.udp.as_mut().map(|udp| udp.handler(&mut self.cache, now));
            self.stack.ingest_datagrams(time, port, index, handler.as_mut());
        }
    }

    fn exchange_strays(&mut self, time: Time) -> usize {
        self.strays.exchange(time, &mut self.stack, &mut self.ports)
    }

    fn expire(&mut self, time: Time) {
        self.stack.expire(time);
    }

    fn serve(&mut self, now: Now) -> usize {
        let far = self.stack.flows() > FLOWS_IN_CACHE;
        let mut served = match &mut self.udp {
            Some(udp) => udp.serve(&mut self.cache, &mut self.stack, &mut self.ports, now),
            None => 0,
        };
        let limit = served + READY_BUDGET;
        let mut group: ArrayVec<(FlowId, Readiness, Option<KeyHash>), SERVED_TOGETHER> = ArrayVec::new();
        while served < limit {
            while !group.is_full()
                && let Some((id, ready)) = self.stack.next_ready()
            {
                if far {
                    self.connections.prefetch(id, &self.cache);
                }
                group.push((id, ready, None));
            }
            if group.is_empty() {
                break;
            }
            served += group.len();
            // One alone would wait for memory here as long as it would later.
            if group.len() > 1 {
                self.foresee(&mut group, far);
            }
            for (id, ready, _) in group.drain(..) {
                if self.connections.serve(id, ready, &mut self.stack, &mut self.cache, now) {
                    self.stack.wake(id);
                }
            }
        }
        served
    }

    /// Asks memory for what serving the flows will read, all of them at once.
    fn foresee(&mut self, group: &mut [(FlowId, Readiness, Option<KeyHash>)], far: bool) {
        for (id, _, key) in group.iter_mut() {
            *key = self.connections.foresee(*id, far, &mut self.stack, &self.cache);
        }
        for (_, _, key) in group {
            if let Some(key) = key {
                self.cache.shard().prefetch_item(*key);
            }
        }
    }

    fn post(&mut self) {
        for peer in self.cache.post() {
            self.doorbells[peer].ring();
        }
    }

    fn flush(&mut self, time: Time) {
        self.stack.flush(time, &mut self.ports);
    }

    fn transmit(&mut self) -> Result<usize, QueueError> {
        let mut sent = 0;
        for port in &mut self.ports {
            sent += port.transmit()?;
        }
        Ok(sent)
    }

    fn upkeep(&mut self, time: Time, now: Now) {
        self.cache.shard_mut().maintain(now, UPKEEP_BUDGET);
        self.connections.close_idle(&mut self.stack, &mut self.cache, now);
        self.losses.copy_if_due(time, &self.stack, &self.ports, &self.strays);
        if !self.maxconns_fast {
            self.accept_or_wait(time);
        }
    }

    /// Accepts no connections while there are as many as there may be; the first core counts for all.
    fn accept_or_wait(&mut self, time: Time) {
        let full = self.admission.is_full();
        if full == self.paused_at.is_some() {
            return;
        }
        self.stack.set_accepting(!full);
        let since = std::mem::replace(&mut self.paused_at, full.then_some(time));
        if self.cache.id() == 0 {
            let counters = self.cache.counters();
            counters.not_accepting.set(u64::from(full));
            match since {
                Some(since) => counters.listen_disabled_us.add(time.since(since).as_micros() as u64),
                None => counters.listen_disabled.add(1),
            }
        }
    }

    /// The moment, as debugtime may have set it for the cache.
    fn read(&self, clock: &Clock) -> (Time, Now) {
        let (time, now) = clock.read();
        (time, self.cache.shared().control.shown(now))
    }

    /// Takes turns until `stop` is set, then answers what has arrived, closes every connection and says what was done.
    ///
    /// # Errors
    /// A queue failed, or the kernel does not let the core sleep.
    pub fn run(mut self, clock: &Clock, stop: &AtomicBool, spin: Duration) -> Result<CoreReport, WorkerError> {
        let core = self.cache.id();
        let fds = self.ports.iter().filter_map(|port| port.queue().raw_fd());
        let mut sleeper = Sleeper::new(self.doorbells[core].clone(), fds);
        let mut sleeps = 0;
        let mut busy_at = Time::ZERO;
        if core == 0 {
            // The first core polls a queue in every plan, and one core is enough to tell everybody.
            self.stack.announce(clock.read().0, 0);
        }
        while !stop.load(Ordering::Relaxed) {
            let (time, now) = self.read(clock);
            if self.turn(time, now)? {
                busy_at = time;
                continue;
            }
            let limit = if time.since(busy_at) < spin { None } else { self.sleep_limit(time) };
            let Some(limit) = limit else {
                std::hint::spin_loop();
                continue;
            };
            sleeps += 1;
            sleeper
                .sleep(Some(limit), || self.has_work() || stop.load(Ordering::Relaxed))
                .map_err(WorkerError::Sleep)?;
        }
        self.drain(clock)?;
        for port in &mut self.ports {
            port.queue_mut().close()?;
        }
        Ok(CoreReport::of(&self, sleeps))
    }

    /// How long a core that found nothing to do at `time` may sleep; `None` while there is upkeep to be done first.
    pub fn sleep_limit(&self, time: Time) -> Option<Duration> {
        let deadline = self.stack.next_deadline(time).unwrap_or(LONGEST_SLEEP);
        (!self.cache.shard().may_hold_dead()).then_some(deadline.min(LONGEST_SLEEP))
    }

    /// Whether there is work of which no descriptor tells. Asked when other cores can see already that this one is
    /// about to sleep, so it looks at every inbox.
    pub fn has_work(&self) -> bool {
        let pending = |port: &Port<Q>| port.queue().has_pending() || port.unsent() > 0;
        self.cache.has_work()
            || self.udp.as_ref().is_some_and(UdpService::has_work)
            || self.stack.has_work()
            || self.strays.has_frames()
            || self.ports.iter().any(pending)
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
        self.connections.drain(waited > ANSWER_LIMIT, &mut self.stack, &mut self.cache, now);
        if waited > ANSWER_LIMIT
            && let Some(udp) = &mut self.udp
        {
            udp.end_all(&mut self.cache, now);
        }
        let unanswered = self.udp.as_ref().map_or(0, UdpService::pending);
        if self.admission.open() == 0 && self.stack.flows() == 0 && unanswered == 0 {
            self.admission.note_stopped(self.cache.id());
        }
        // The cores leave together: they may ask for items of this core's shard, and send and receive by its queues.
        Ok(self.admission.all_stopped(self.doorbells.len()) || waited >= ANSWER_LIMIT + CLOSE_LIMIT)
    }
}
