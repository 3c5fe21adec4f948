//! The rig of the tests: whole workers on one end of an in-memory wire, client connections or frames made by hand on the
//! other. One thread runs everything; time is virtual, cores take turns in an order drawn from the seed.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "beds.rs"]
mod beds;
#[path = "client.rs"]
mod client;
#[path = "../../../../stack/tests/lab/raw.rs"]
pub mod raw;
#[path = "shape.rs"]
mod shape;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use cache::{CacheConfig, Core, CoreCensus, Now, ShardConfig};
use nic::{
    Doorbell, FlowPrediction, HashedBy, PortConfig, Queue, QueueId, QueuePlan, RSS_TABLE_ENTRIES, RelayError, Rss,
    RxBurst, TxBurst, Wire, WireQueue,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_cached::{
    Admission, AnyQueue, Arrivals, Connections, CoreArrivals, Losses, StrayRing, Worker, share_queues,
};
use smoltcp::socket::tcp::State;
use stack::{Mac, NetStack, Secrets, StackConfig, Time};

pub use beds::Bed;
pub use client::Client;
pub use shape::Shape;

pub const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub const THEM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const PORT: u16 = 11_211;

/// Unix time at which the rig's clock starts.
const UNIX_START: u64 = 1_700_000_000;

/// Queues and cores: as many, more, fewer, and one queue alone.
pub const LAYOUTS: [(u16, usize); 6] = [(2, 2), (5, 2), (2, 4), (1, 2), (1, 4), (3, 3)];

/// Events less than this apart are handled together, as a polling core would.
const GRAIN: Duration = Duration::from_micros(10);

/// Turns at one moment that no real work takes.
const ROUNDS: usize = 10_000;

/// The seed of a run: what the environment says, or the test's own. Printed.
pub fn seed(own: u64) -> u64 {
    let seed = match std::env::var("SIDESTEP_SEED") {
        Ok(text) => text.parse().expect("SIDESTEP_SEED is a number"),
        Err(_) => own,
    };
    println!("SIDESTEP_SEED={seed}");
    seed
}

/// Both clocks of a virtual moment.
pub fn clocks(at: Duration) -> (Time, Now) {
    // The cache's clock begins at 2, so that 0 can mean never and 1 long ago.
    (Time::from_duration(at), Now { secs: 2 + at.as_secs() as u32, unix_epoch: UNIX_START - 2 })
}

/// Workers for the queues of a plan, as the server's set-up makes them. `take` opens a queue.
pub fn workers(shape: &Shape, plan: &QueuePlan, mut take: impl FnMut(QueueId) -> AnyQueue) -> Vec<Worker<AnyQueue>> {
    let config = CacheConfig {
        cores: shape.cores,
        connections_per_core: shape.max_flows,
        landing_slots: shape.landing_slots,
        grace_secs: shape.grace_secs,
        shard: ShardConfig { memory_bytes: shape.memory_bytes, ..ShardConfig::default() },
        ..CacheConfig::default()
    };
    let caches = Core::mesh(&config, *b"a secret of test").expect("a good configuration");
    let doorbell = || Arc::new(Doorbell::new().expect("a descriptor"));
    let doorbells: Vec<_> = (0..shape.cores).map(|_| doorbell()).collect();
    let queues = share_queues::<RelayError>(plan, &doorbells, 2048, |_, id| Ok(Some(take(id)))).expect("memory");
    let admission = Arc::new(Admission::new(shape.connection_limit));
    let rings = StrayRing::of(&doorbells, 2048).expect("memory");
    let stack = || {
        let mut config = StackConfig::new(US, 16, OWN);
        config.keep_alive = shape.keep_alive;
        config.awake_flows = shape.awake_flows;
        config.ports = vec![PORT];
        config.max_flows = shape.max_flows;
        config.rings = shape.rings;
        config.idle_timeout = shape.idle_timeout;
        config.peers = (shape.cores - 1) as u8;
        NetStack::new(config, Secrets::from_bytes(*b"thirty-two bytes that are secret")).expect("a good configuration")
    };
    let losses = Arc::new(Losses::new(shape.cores));
    if let Some(core) = caches.first() {
        core.shared().counters.show_outside(losses.clone());
    }
    // The wire steers by that hash too.
    let prediction = FlowPrediction::new(Rss::new(shape.queues), HashedBy::Ports, RSS_TABLE_ENTRIES);
    let arrivals = Arrivals::new(plan, Some(prediction)).map(Arc::new);
    if let Some(arrivals) = &arrivals {
        losses.show_arrivals(arrivals.clone());
    }
    let parts = caches.into_iter().zip(queues).zip(rings);
    let worker = |((cache, queues), strays): ((Core, _), _)| {
        let mut connections = Connections::new(shape.max_flows, admission.clone());
        if let Some(arrivals) = &arrivals {
            connections.count_arrivals(CoreArrivals::new(arrivals, plan, cache.id()));
        }
        Worker::new(queues, stack(), cache, connections, strays, &doorbells, &losses)
    };
    parts.map(worker).collect()
}

/// The link of the second core in a rig of [`Rig::on_two_links`].
pub struct OtherLink {
    pub wire: Wire,
    /// The far end: what is sent here comes to the second core.
    pub queue: WireQueue,
}

/// Workers, clients, and the wire between them.
pub struct Rig {
    pub wire: Wire,
    pub workers: Vec<Worker<AnyQueue>>,
    /// By port.
    pub clients: BTreeMap<u16, Client>,
    queue: WireQueue,
    rx: RxBurst,
    tx: TxBurst,
    rng: Xoshiro256PlusPlus,
    next_port: u16,
    /// Clients to be polled at the present moment.
    touched: BTreeSet<u16>,
    /// When clients want to be polled; may hold moments that no longer matter.
    alarms: BinaryHeap<Reverse<(Time, u16)>>,
    digest: DefaultHasher,
    /// Frames that passed the clients' end, both ways.
    pub frames: u64,
    /// When the workers were told to stop.
    stopping_since: Option<Time>,
    /// By core: where it sleeps. None where cores take turns for nothing.
    pub beds: Vec<Bed>,
    /// Frames that came for no client, for tests that send frames made by hand.
    pub unclaimed: Vec<Vec<u8>>,
    /// A core that takes no turns, as one whose thread the kernel does not run.
    pub stalled: Option<usize>,
    drowsy: bool,
    /// The most flows of a core that slept at a time, where that is asked for after every turn.
    pub most_asleep: usize,
}

impl Rig {
    pub fn new(shape: Shape) -> Self {
        println!("{} queues, {} cores, wire seed {}", shape.queues, shape.cores, shape.seed);
        let side = |queues| PortConfig { inbound: shape.faults.clone(), ..PortConfig::with_queues(queues) };
        // One port stands for the NICs of all clients, of which a thousand may be sent ten segments at once.
        let all_clients = PortConfig { rx_ring: 16 * 1024, frames: 18 * 1024, ..side(1) };
        let pair = Wire::pair(side(shape.queues), all_clients, shape.seed);
        let (wire, ours, theirs) = pair.expect("a good configuration");
        let ids: Vec<_> = (0..shape.queues).map(QueueId).collect();
        let plan = QueuePlan::new(&ids, shape.cores);
        let workers = workers(&shape, &plan, |id| Box::new(ours.take_queue(id).expect("opened once")));
        let mut rig = Self::on(wire, workers, theirs.take_queue(QueueId(0)).expect("opened once"), shape.seed);
        if shape.sleeps {
            let queues = |core| plan.polled_by(core).iter().map(|&id| (rig.wire.clone(), id)).collect();
            rig.beds = rig.workers.iter().map(|worker| Bed::new(worker, queues(worker.cache.id()))).collect();
        }
        rig.drowsy = shape.drowsy;
        rig
    }

    /// Two cores with a link each, so that a test says which core a frame comes to. The rig's own wire is that of the first.
    pub fn on_two_links(shape: Shape) -> (Self, OtherLink) {
        let side = || PortConfig { inbound: shape.faults.clone(), ..PortConfig::default() };
        let link = || Wire::pair(side(), side(), shape.seed).expect("a good configuration");
        let ((wire, ours, theirs), (other_wire, other_ours, other_theirs)) = (link(), link());
        let plan = QueuePlan::new(&[QueueId(0), QueueId(1)], 2);
        let workers = workers(&shape, &plan, |id| {
            let side = if id.0 == 0 { &ours } else { &other_ours };
            Box::new(side.take_queue(QueueId(0)).expect("opened once"))
        });
        let mut rig = Self::on(wire, workers, theirs.take_queue(QueueId(0)).expect("opened once"), shape.seed);
        if shape.sleeps {
            let wires = [rig.wire.clone(), other_wire.clone()];
            let beds = rig.workers.iter().zip(wires).map(|(worker, wire)| Bed::new(worker, vec![(wire, QueueId(0))]));
            rig.beds = beds.collect();
        }
        (rig, OtherLink { wire: other_wire, queue: other_theirs.take_queue(QueueId(0)).expect("opened once") })
    }

    /// A rig of parts made elsewhere, whose cores do not sleep unless they are given beds.
    pub fn on(wire: Wire, workers: Vec<Worker<AnyQueue>>, queue: WireQueue, seed: u64) -> Self {
        Self {
            wire,
            workers,
            clients: BTreeMap::new(),
            queue,
            rx: RxBurst::default(),
            tx: TxBurst::default(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            next_port: 20_000,
            touched: BTreeSet::new(),
            alarms: BinaryHeap::new(),
            digest: DefaultHasher::new(),
            frames: 0,
            stopping_since: None,
            beds: Vec::new(),
            unclaimed: Vec::new(),
            stalled: None,
            drowsy: false,
            most_asleep: 0,
        }
    }

    pub fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    /// A hash of all frames that passed the clients' end.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Begins a connection. Returns its port.
    pub fn connect(&mut self) -> u16 {
        self.connect_with(16_384)
    }

    /// Begins a connection whose client has buffers of `ring` bytes.
    pub fn connect_with(&mut self, ring: usize) -> u16 {
        self.next_port += 1;
        let port = self.next_port;
        self.clients.insert(port, Client::new(port, ring, u64::from(port) ^ self.rng.next_u64()));
        self.touched.insert(port);
        port
    }

    /// Opens `count` connections. Returns their ports.
    pub fn connect_all(&mut self, count: usize) -> Vec<u16> {
        let ports: Vec<_> = (0..count).map(|_| self.connect()).collect();
        let done = |rig: &mut Self| ports.iter().all(|&port| rig.client(port).state() == State::Established);
        self.run_until(Duration::from_secs(10), done);
        ports
    }

    /// A client, which is polled next.
    pub fn client(&mut self, port: u16) -> &mut Client {
        self.touched.insert(port);
        self.clients.get_mut(&port).expect("it was opened")
    }

    /// Sends a frame made by hand.
    pub fn send_frame(&mut self, frame: &[u8]) {
        push(&mut self.queue, &mut self.tx, frame);
    }

    /// Turns of every core and of the clients at the present moment, until nobody has anything to do.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS, "no end of work at {:?}: {}", self.now(), self.what_is_left());
            let (time, now) = clocks(self.wire.clock().now());
            let mut moved = false;
            for core in self.order() {
                moved |= self.visit(core, time, now);
            }
            moved |= self.poll_clients(time);
            // A core may have been given something after its turn.
            moved |= self.workers.iter().any(|worker| self.beds.is_empty() && worker.has_work());
            if !moved {
                break;
            }
        }
        for (bed, worker) in self.beds.iter().zip(&self.workers) {
            let may_sleep = bed.sleeps_until().is_none() || self.stalled == Some(worker.cache.id());
            let overslept = !may_sleep && worker.has_work();
            assert!(!overslept, "core {} sleeps over its work: {}", worker.cache.id(), self.what_is_left());
        }
    }

    /// Lets a core take its turn, unless it sleeps. Returns whether there was anything to do, or is.
    fn visit(&mut self, core: usize, time: Time, now: Now) -> bool {
        if self.stalled == Some(core) {
            return false;
        }
        let (worker, drowsy, most_asleep) = (&mut self.workers[core], self.drowsy, &mut self.most_asleep);
        let mut turn = |worker: &mut Worker<AnyQueue>| {
            let worked = worker.turn(time, now).expect("a wire is never gone");
            if drowsy {
                *most_asleep = (*most_asleep).max(worker.connections.lay_all_to_rest(&mut worker.poll));
            }
            worked
        };
        if let Some(begin) = self.stopping_since {
            worker.drain_turn(begin, time, now).expect("a wire is never gone");
            return worker.has_work();
        }
        if let Some(bed) = self.beds.get_mut(core) {
            // Every other time, so that every order of looking and ringing comes up.
            return bed.visit(worker, time, self.rng.next_u32().is_multiple_of(2), turn);
        }
        turn(worker) || worker.has_work()
    }

    /// A seeded order of the cores.
    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.workers.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.rng.next_u32() as usize % (last + 1));
        }
        order
    }

    /// Polls the clients that have something to do, and no core. Returns whether any had.
    pub fn poll_clients(&mut self, now: Time) -> bool {
        self.take_frames();
        while let Some(&Reverse((at, port))) = self.alarms.peek() {
            if at > now {
                break;
            }
            self.alarms.pop();
            self.touched.insert(port);
        }
        let moved = !self.touched.is_empty();
        for port in std::mem::take(&mut self.touched) {
            let Some(client) = self.clients.get_mut(&port) else { continue };
            let (queue, tx, digest, frames) = (&mut self.queue, &mut self.tx, &mut self.digest, &mut self.frames);
            client.poll(now, |packet| {
                let mut frame = Vec::with_capacity(14 + packet.len());
                frame.extend(OWN.0);
                frame.extend(PEER.0);
                frame.extend([8, 0]);
                frame.extend_from_slice(packet);
                digest.write(&frame);
                *frames += 1;
                push(queue, tx, &frame);
            });
            if let Some(at) = client.next_deadline(now) {
                self.alarms.push(Reverse((at.max(now.after(GRAIN)), port)));
            }
        }
        moved
    }

    /// Hands what has arrived to the clients.
    fn take_frames(&mut self) {
        loop {
            // Returns the frames of the last round to the fill ring.
            self.queue.flush().expect("a wire is never gone");
            if self.queue.rx_burst(&mut self.rx) == 0 {
                return;
            }
            while let Some(frame) = self.rx.pop() {
                let bytes = frame.bytes();
                self.digest.write(bytes);
                self.frames += 1;
                if bytes.len() >= 38 && bytes[12..14] == [8, 0] {
                    let port = u16::from_be_bytes([bytes[36], bytes[37]]);
                    match self.clients.get_mut(&port) {
                        Some(client) => {
                            client.arrive(&bytes[14..]);
                            self.touched.insert(port);
                        }
                        None => self.unclaimed.push(bytes.to_vec()),
                    }
                }
                self.queue.free(frame);
            }
        }
    }

    /// Shows `look` the frames that have arrived, for tests without clients. Allocates nothing.
    pub fn look_at_frames(&mut self, look: impl FnMut(&[u8])) {
        look_at_with(&mut self.queue, &mut self.rx, look);
    }

    /// Turns of every core, in order, until none has anything to do; the clients stay as they are. `around` is called
    /// for each turn and calls what it is given.
    pub fn turns(&mut self, mut around: impl FnMut(&mut dyn FnMut())) {
        let (time, now) = clocks(self.wire.clock().now());
        let mut moved = true;
        while moved {
            moved = false;
            for worker in &mut self.workers {
                around(&mut || moved |= worker.turn(time, now).expect("a wire is never gone"));
                moved |= worker.poll.stack().has_work() || worker.cache.has_work() || worker.poll.strays().has_frames();
            }
        }
    }

    /// Sends a segment and lets the cores work; returns what they send.
    pub fn tcp(&mut self, source: [u8; 4], segment: &raw::Tcp) -> Vec<raw::Tcp> {
        self.send_frame(&segment.frame_from(source));
        self.turns(|turn| turn());
        let mut answers = Vec::new();
        self.look_at_frames(|frame| answers.push(raw::Tcp::read(frame)));
        answers
    }

    /// Opens a connection by hand, whose client begins at `seq`. Returns the server's next sequence number.
    pub fn open(&mut self, source: [u8; 4], port: u16, seq: u32) -> u32 {
        let answers = self.tcp(source, &raw::Tcp::new(port, raw::SYN, seq, 0));
        let [answer] = &answers[..] else { panic!("a SYN is answered by {answers:?}") };
        assert_eq!((answer.flags, answer.ack), (raw::SYN | raw::ACK, seq.wrapping_add(1)));
        let next = answer.seq.wrapping_add(1);
        assert_eq!(self.tcp(source, &raw::Tcp::new(port, raw::ACK, seq.wrapping_add(1), next)), []);
        next
    }

    /// Lets time pass until the next event, at most to `end`. Returns false when `end` is reached.
    fn step(&mut self, end: Duration) -> bool {
        let now = self.now();
        let stacks = self.workers.iter().filter_map(|worker| worker.poll.stack().next_deadline(now));
        let stacks = if self.beds.is_empty() { stacks.min() } else { self.first_to_wake().map(|at| at.since(now)) };
        let alarm = self.alarms.peek().map(|Reverse((at, _))| at.since(now));
        let here = self.wire.clock().now();
        let due = self.wire.next_due().map(|due| due.saturating_sub(here));
        let next = [stacks, alarm, due].into_iter().flatten().min().unwrap_or(end);
        // Stopping cores have deadlines of their own.
        let next = if self.stopping_since.is_some() { next.min(Duration::from_millis(1)) } else { next };
        let next = here + next.max(GRAIN);
        self.wire.clock().set(next.min(end));
        next < end
    }

    /// When the first core wakes of itself. All sleep when the present moment has been dealt with.
    fn first_to_wake(&self) -> Option<Time> {
        let beds = self.beds.iter().enumerate().filter(|(core, _)| self.stalled != Some(*core));
        beds.filter_map(|(_, bed)| bed.sleeps_until()).min()
    }

    /// Runs until `done`, or fails after `limit` of virtual time.
    #[track_caller]
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.wire.clock().now() + limit;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            if !self.step(end) {
                panic!("not done after {limit:?} of virtual time: {}", self.what_is_left());
            }
        }
    }

    /// What cores hold and which clients are open, for messages.
    pub fn what_is_left(&mut self) -> String {
        let mut text = String::new();
        for worker in &self.workers {
            let (stack, cache) = (worker.poll.stack().census(), worker.cache.census());
            let unsent: Vec<_> =
                worker.poll.ports().iter().map(|port| (port.unsent(), port.queue().census())).collect();
            let (stats, counters) = (worker.poll.stack().stats(), worker.cache.counters());
            let closed = (counters.slow_readers_closed.value(), counters.uploads_dropped.value());
            text += &format!("\ncore {}: {stack:?} {cache:?} {unsent:?} {stats:?}", worker.cache.id());
            text += &format!("\n slow readers closed and uploads dropped: {closed:?}");
        }
        for client in self.clients.values_mut().filter_map(|client| (!client.is_over()).then_some(client)).take(5) {
            let status = client.status();
            text += &format!("\n{} has {} {status}", client.port, shown(&client.received));
        }
        text
    }

    /// Runs for `span` of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.wire.clock().now() + span;
        self.settle();
        while self.step(end) {
            self.settle();
        }
        self.settle();
    }

    /// Sends a request and waits for exactly as many bytes as `reply` has, which must be those.
    #[track_caller]
    pub fn ask(&mut self, port: u16, request: &[u8], reply: &[u8]) {
        self.client(port).send(request);
        self.expect(port, reply);
    }

    /// Waits for as many bytes as `reply` has, which must be those.
    #[track_caller]
    pub fn expect(&mut self, port: u16, reply: &[u8]) {
        self.run_until(Duration::from_secs(60), |rig| rig.client(port).received.len() >= reply.len());
        let received = std::mem::take(&mut self.client(port).received);
        assert!(received == reply, "{} is not {}", shown(&received), shown(reply));
    }

    /// Tells the workers to stop, as SIGTERM does.
    pub fn stop(&mut self) {
        self.stopping_since = Some(self.now());
        self.beds.iter_mut().for_each(Bed::get_up);
    }

    /// Closes every client that is not, waits until everything that time ends has ended, and checks that nothing is
    /// left: no flow, timer, connection, pin, message or frame. Returns what the cores hold: items alone.
    #[track_caller]
    pub fn finish(mut self) -> Vec<CoreCensus> {
        for port in self.clients.keys().copied().collect::<Vec<_>>() {
            let client = self.client(port);
            client.reads = true;
            client.close();
        }
        let flows = |rig: &Self| rig.workers.iter().map(|worker| worker.poll.stack().flows()).sum::<usize>();
        self.run_until(Duration::from_secs(400), |rig| flows(rig) == 0);
        // TIME-WAIT records are forgotten some at a turn; a core takes one twice a second even when nothing happens.
        for _ in 0..130 {
            self.run_for(Duration::from_millis(500));
        }
        assert_eq!(self.workers[0].connections.admission().open(), 0);
        let mut left = Vec::new();
        for worker in self.workers {
            let census = worker.poll.stack().census();
            assert_eq!(census.free, census.blocks, "{census:?}");
            let flows = (census.half_open, census.open, census.closing, census.dead, census.table);
            assert_eq!(flows, (0, 0, 0, 0, 0), "{census:?}");
            let waiting = (census.time_wait, census.timers, census.ready, census.touched, census.strays);
            assert_eq!(waiting, (0, 0, 0, 0, 0), "{census:?}");
            assert_eq!(worker.cache.counters().curr_connections.value(), 0);
            let held = worker.cache.census();
            assert_eq!((held.shard.pins, held.shard.reservations), (0, 0), "{held:?}");
            assert_eq!(CoreCensus { shard: cache::Census::default(), ..held }, CoreCensus::default());
            left.push(held);
            for mut queue in worker.poll.into_queues() {
                queue.flush().expect("a wire is never gone");
                let frames = queue.census();
                assert_eq!((frames.held, frames.free + frames.fill + frames.tx), (0, frames.total), "{frames:?}");
                assert_eq!(queue.stats().foreign_frames, 0);
            }
        }
        left
    }
}

/// Sends a frame made by hand.
pub fn push(queue: &mut WireQueue, tx: &mut TxBurst, bytes: &[u8]) {
    let mut frame = queue.tx_alloc().expect("a frame is free");
    frame.resize(bytes.len()).expect("it fits");
    frame.bytes_mut().copy_from_slice(bytes);
    tx.push(frame).expect("room for one");
    assert_eq!(queue.tx_burst(tx), 1);
    queue.flush().expect("a wire is never gone");
}

/// Shows `look` the frames that have arrived at a queue.
pub fn look_at(queue: &mut WireQueue, look: impl FnMut(&[u8])) {
    look_at_with(queue, &mut RxBurst::default(), look);
}

fn look_at_with(queue: &mut WireQueue, rx: &mut RxBurst, mut look: impl FnMut(&[u8])) {
    loop {
        // Returns the frames of the last round to the fill ring.
        queue.flush().expect("a wire is never gone");
        if queue.rx_burst(rx) == 0 {
            return;
        }
        while let Some(frame) = rx.pop() {
            look(frame.bytes());
            queue.free(frame);
        }
    }
}

/// Bytes as text, long ones cut.
pub fn shown(bytes: &[u8]) -> String {
    let cut = bytes.len().min(300);
    format!("{} bytes \"{}\"", bytes.len(), bytes[..cut].escape_ascii())
}
