//! `Worker`: one core, with its network and its shard, and the turn that runs a request to completion on them.
//!
//! Invariant: everything a worker holds is its own core's; what crosses cores goes through a bounded queue. A turn
//! never waits, and each of its steps has a bound. Read first: ARCHITECTURE.md, "One request through the files".

/// What it is told by others than its clients.
mod obey;
/// Turn after turn, sleep between them, and the end.
mod run;
/// A single step of the turn, for benchmarks.
mod step;

use std::sync::Arc;

use arrayvec::ArrayVec;
use cache::{Core, KeyHash, Now};
use nic::{Doorbell, Queue, QueueError};
use stack::{Event, Interest, NetStack, Poll, StrayRing, Time, Token};

pub use run::WorkerError;
pub use step::TurnStep;

use crate::capture::CoreCapture;
use crate::connections::Connections;
use crate::losses::{CoreLosses, Losses};
use crate::orders::Listing;
use crate::surroundings::CoreSurroundings;
use crate::udp_service::UdpService;

/// Flows served in one turn; the rest are told of in the next.
const READY_BUDGET: usize = 256;

/// Flows whose blocks and connections fit a core's own caches, at about 1.5 KB of each in use. With no more flows than
/// these a prefetch of them would cost a tenth of a request for nothing. Items are prefetched however few the flows
/// are.
const FLOWS_IN_CACHE: usize = 1_024;

/// Flows whose memory is prefetched together, so that they wait for it once.
const SERVED_TOGETHER: usize = 16;

/// Connections resumed in one turn because an answer of another core has come.
const RESUME_BUDGET: usize = 256;

/// Steps of upkeep of the store in one turn.
const UPKEEP_BUDGET: u32 = 16;

/// One core. Moves to its thread and stays there.
#[derive(Debug)]
pub struct Worker<Q: Queue> {
    /// Its queues and its TCP/IP.
    pub poll: Poll<Q>,
    /// Its cache.
    pub cache: Core,
    /// Which session belongs to which flow.
    pub connections: Connections,
    /// Its requests over UDP; does nothing where UDP is not served.
    pub udp: UdpService,
    /// What its queues are recorded to; does nothing without `--capture`.
    pub capture: CoreCapture,
    /// The doorbells of all cores, by number.
    pub doorbells: Vec<Arc<Doorbell>>,
    /// Whether the kernel is to poll the drivers of its queues before it lets the core sleep (`--wait irq`).
    pub polls: bool,
    /// Whether connections above the limit are told so, rather than left to wait (`-o maxconns_fast`).
    pub maxconns_fast: bool,
    /// Where others see what it has lost.
    pub losses: CoreLosses,
    /// What it is about to tell of its connections.
    pub(crate) listing: Option<Listing>,
    /// Whether it accepts no connection any more (`sidestep ctl drain`).
    pub(crate) drains: bool,
    /// What it is told of the link.
    pub surroundings: CoreSurroundings,
    /// Since when connections are not accepted, if they are not.
    paused_at: Option<Time>,
}

impl<Q: Queue> Worker<Q> {
    /// A core that polls `queues`. It serves no UDP, records nothing and tells connections above the limit so, unless
    /// the fields are set otherwise. The doorbells and the losses are those of all cores.
    pub fn new(
        queues: Vec<Q>,
        stack: NetStack,
        cache: Core,
        connections: Connections,
        strays: StrayRing,
        doorbells: &[Arc<Doorbell>],
        losses: &Arc<Losses>,
    ) -> Self {
        let mut poll = Poll::new(stack, queues).with_strays(strays);
        // A session is found by the index of its flow: there is nothing that a token would have to say. Room is asked for while
        // it is missing.
        poll.accept_each(Token(0), Interest::READABLE);
        Self {
            poll,
            losses: CoreLosses::new(losses, cache.id()),
            surroundings: CoreSurroundings::default(),
            cache,
            connections,
            udp: UdpService::default(),
            capture: CoreCapture::default(),
            doorbells: doorbells.to_vec(),
            polls: false,
            maxconns_fast: true,
            listing: None,
            drains: false,
            paused_at: None,
        }
    }

    /// One turn: ten steps in six calls, each bounded. Returns whether there was anything to do.
    ///
    /// # Errors
    /// A queue failed; the core cannot go on.
    pub fn turn(&mut self, time: Time, now: Now) -> Result<bool, QueueError> {
        let mut work = 0;
        work += self.collect(now); //           1 answers and requests of other shards
        work += self.take_in(time, now); // 2 to 5 receive, ingest, strays, timers
        work += self.serve(now); //             6 events: parse, execute, answer
        self.post(); //                         7 one batch a shard, and its doorbell
        work += self.poll.send(time)?; //  8 and 9 the ACK rides on the answer; tx_burst, one wake-up
        self.upkeep(time, now); //             10 the store's upkeep, in small steps
        Ok(work > 0)
    }

    fn collect(&mut self, now: Now) -> usize {
        self.cache.collect(now);
        let mut resumed = 0;
        while resumed < RESUME_BUDGET
            && let Some(conn) = self.cache.next_resumable()
        {
            if !self.udp.wake(conn)
                && let Some(id) = self.connections.flow_of(conn, &self.poll)
            {
                self.poll.wake(id);
            }
            resumed += 1;
        }
        if let Some((conn, _why)) = self.cache.next_overdue()
            && !self.udp.abort(conn, &mut self.cache, now)
        {
            self.connections.abort(conn, &mut self.poll, &mut self.cache);
        }
        resumed
    }

    fn take_in(&mut self, time: Time, now: Now) -> usize {
        self.capture.set_time(time, now);
        // One call whether or not UDP is served, so that segments cost the same either way.
        let mut handler = self.udp.handler(&mut self.cache, now);
        self.poll.take_in_with(time, handler.as_mut())
    }

    fn serve(&mut self, now: Now) -> usize {
        let far = self.poll.flows() > FLOWS_IN_CACHE;
        let mut served = self.udp.serve(&mut self.cache, &mut self.poll, now);
        let limit = served + READY_BUDGET;
        let mut group: ArrayVec<(Event, Option<KeyHash>), SERVED_TOGETHER> = ArrayVec::new();
        while served < limit {
            while !group.is_full()
                && let Some(event) = self.poll.next_event()
            {
                if far {
                    self.connections.prefetch(event.flow(), &self.cache);
                }
                group.push((event, None));
            }
            if group.is_empty() {
                break;
            }
            served += group.len();
            // A prefetch hides the wait for memory only behind the work of another flow.
            if group.len() > 1 {
                self.foresee(&mut group, far);
            }
            for (event, _) in group.drain(..) {
                if self.connections.serve(&event, &mut self.poll, &mut self.cache, now) {
                    self.poll.wake(event.flow());
                }
            }
        }
        served
    }

    /// Prefetches what serving these flows will read.
    fn foresee(&mut self, group: &mut [(Event, Option<KeyHash>)], far: bool) {
        for (event, key) in group.iter_mut() {
            *key = self.connections.foresee(event.flow(), far, &mut self.poll, &self.cache);
        }
        for (_, key) in group {
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

    fn upkeep(&mut self, time: Time, now: Now) {
        self.cache.shard_mut().maintain(now, UPKEEP_BUDGET);
        self.connections.close_idle(&mut self.poll, &mut self.cache, now);
        self.connections.lay_to_rest();
        if self.losses.copy_if_due(time, &self.poll) {
            self.surroundings.exchange(time, self.poll.stack_mut());
        }
        if !self.maxconns_fast && !self.drains {
            self.accept_or_wait(time);
        }
    }

    /// Stops accepting connections at the limit of `-c`, and begins again below it. The first core counts it for all.
    fn accept_or_wait(&mut self, time: Time) {
        let full = self.connections.admission().is_full();
        if full == self.paused_at.is_some() {
            return;
        }
        self.poll.set_accepting(!full);
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
}
