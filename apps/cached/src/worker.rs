//! `Worker`: one core, with its queues, its stack and its shard, and the turn that runs a request to completion on
//! them.
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
use stack::{FlowId, NetStack, Port, Readiness, StrayRing, Time};

pub use run::WorkerError;
pub use step::TurnStep;

use crate::capture::CoreCapture;
use crate::connections::Connections;
use crate::losses::{CoreLosses, Losses};
use crate::orders::Listing;
use crate::surroundings::CoreSurroundings;
use crate::udp_service::UdpService;

/// Flows served in one turn; the rest stay on the ready list for the next.
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
    /// The queues that this core polls.
    pub ports: Vec<Port<Q>>,
    /// Its TCP/IP.
    pub stack: NetStack,
    /// Its cache.
    pub cache: Core,
    /// Which session belongs to which flow.
    pub connections: Connections,
    /// Its requests over UDP; does nothing where UDP is not served.
    pub udp: UdpService,
    /// Frames that no flow here knows.
    pub strays: StrayRing,
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
        Self {
            ports: queues.into_iter().map(Port::new).collect(),
            stack,
            losses: CoreLosses::new(losses, cache.id()),
            surroundings: CoreSurroundings::default(),
            cache,
            connections,
            udp: UdpService::default(),
            strays,
            capture: CoreCapture::default(),
            doorbells: doorbells.to_vec(),
            polls: false,
            maxconns_fast: true,
            listing: None,
            drains: false,
            paused_at: None,
        }
    }

    /// One turn: ten steps, each bounded. Returns whether there was anything to do.
    ///
    /// # Errors
    /// A queue failed; the core cannot go on.
    pub fn turn(&mut self, time: Time, now: Now) -> Result<bool, QueueError> {
        let mut work = 0;
        work += self.collect(now); //              1 answers and requests of other shards
        work += self.receive(time, now); //        2 rx_burst on every port
        self.ingest(time, now); //                 3 classify, look up, smoltcp ingress
        work += self.exchange_strays(time); //     4 frames that no flow here knows
        self.expire(time); //                      5 timers that are due
        work += self.serve(now); //                6 ready flows: parse, execute, answer
        self.post(); //                            7 one batch a shard, and its doorbell
        self.flush(time); //                       8 egress: the ACK rides on the answer
        work += self.transmit()?; //               9 tx_burst, one wake-up
        self.upkeep(time, now); //                10 the store's upkeep, in small steps
        Ok(work > 0)
    }

    fn collect(&mut self, now: Now) -> usize {
        self.cache.collect(now);
        let mut resumed = 0;
        while resumed < RESUME_BUDGET
            && let Some(conn) = self.cache.next_resumable()
        {
            if !self.udp.wake(conn)
                && let Some(id) = self.connections.flow_of(conn, &self.stack)
            {
                self.stack.wake(id);
            }
            resumed += 1;
        }
        if let Some((conn, _why)) = self.cache.next_overdue()
            && !self.udp.abort(conn, &mut self.cache, now)
        {
            self.connections.abort(conn, &mut self.stack, &mut self.cache);
        }
        resumed
    }

    fn receive(&mut self, time: Time, now: Now) -> usize {
        self.capture.set_time(time, now);
        let mut received = 0;
        for port in &mut self.ports {
            received += port.receive();
        }
        received
    }

    fn ingest(&mut self, time: Time, now: Now) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            // One call whether or not UDP is served, so that segments cost the same either way.
            let mut handler = self.udp.handler(&mut self.cache, now);
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
        let mut served = self.udp.serve(&mut self.cache, &mut self.stack, &mut self.ports, now);
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
            // A prefetch hides the wait for memory only behind the work of another flow.
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

    /// Prefetches what serving these flows will read.
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
        self.connections.lay_to_rest();
        if self.losses.copy_if_due(time, &self.stack, &self.ports, &self.strays) {
            self.surroundings.exchange(time, &mut self.stack);
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
}
