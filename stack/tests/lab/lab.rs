//! The laboratory of the tests: the stack with a small application on one end of an in-memory wire, smoltcp's ordinary
//! interface, or frames made by hand, on the other. Time is virtual and jumps to the next event.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "arp.rs"]
pub mod arp;
#[path = "bench.rs"]
pub mod bench;
#[path = "family.rs"]
pub mod family;
#[path = "flooded.rs"]
pub mod flooded;
#[path = "frames.rs"]
pub mod frames;
#[path = "odd.rs"]
pub mod odd;
#[path = "peer.rs"]
mod peer;
#[path = "raw.rs"]
pub mod raw;
#[path = "sink.rs"]
pub mod sink;
#[path = "station.rs"]
pub mod station;
#[path = "strangers.rs"]
pub mod strangers;
#[path = "udp.rs"]
pub mod udp;
#[path = "v6.rs"]
pub mod v6;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use family::Family;
use nic::{Faults, PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{
    CloseReason, DatagramHandler, Event, Flow, FlowId, Interest, Mac, NetStack, Poll, Secrets, StackConfig, Time, Token,
};

pub use peer::Peer;

pub const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub const THEM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const PORT: u16 = 11_211;

/// What the application does with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Sends back what it gets; closes when the peer has.
    Echo,
    /// Takes nothing.
    Deaf,
    /// Sends this many bytes of a pattern when the flow opens, then closes.
    Blast(usize),
    /// Answers each byte with a value of this many bytes, and asks for larger rings where it does not fit.
    Value(usize),
    /// Sends a greeting, then shuts its direction down and reads on until the peer closes.
    HalfClose,
    /// Aborts as soon as a byte arrives.
    Abort,
    /// Keeps what is told, for the test to act on.
    Record,
}

/// The stack with its queues, and what its application has seen.
pub struct Server {
    pub poll: Poll<WireQueue>,
    pub app: App,
    pub opened: u64,
    pub bytes: u64,
    pub closed: Vec<(FlowId, CloseReason)>,
    pub flows: HashMap<FlowId, usize>,
    pub received: Vec<u8>,
    pub events: Vec<Event>,
    /// Flows that the test has asked for, until they are opened; they are in `flows` too.
    pub connecting: HashSet<FlowId>,
}

pub fn secrets(seed: u8) -> Secrets {
    Secrets::from_bytes(std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8).wrapping_mul(197)))
}

pub fn config() -> StackConfig {
    let mut config = StackConfig::new(US, 24, OWN);
    config.ports = vec![PORT];
    config
}

/// Has a stack that speaks IPv6 use its address, which takes a second, and say all that it says unasked.
fn begin_to_use_addresses(wire: &Wire, server: &mut Server, mut swallow: impl FnMut()) {
    if family::FAMILY == Family::Ipv4 || !server.poll.stack().config().arp {
        return;
    }
    for _ in 0..160 {
        let now = Time::from_duration(wire.clock().now());
        server.turn(now);
        swallow();
        wire.clock().advance(Duration::from_millis(100));
    }
}

/// The byte at `offset` of the pattern that [`App::Blast`] sends.
pub fn pattern(offset: usize) -> u8 {
    (offset % 251) as u8
}

/// Sends back what was received, as far as there is room. Returns the bytes.
pub fn echo(flow: &mut Flow<'_>) -> u64 {
    let (mut scratch, mut bytes) = ([0; 4_096], 0);
    loop {
        let room = flow.send_room().min(scratch.len());
        let got = flow.peek(&mut scratch[..room]);
        if got == 0 {
            return bytes;
        }
        assert_eq!(flow.send_slice(&scratch[..got]), got);
        let mut left = got;
        while left > 0 {
            left -= flow.recv(|bytes| (bytes.len().min(left), bytes.len().min(left)));
        }
        bytes += got as u64;
    }
}

/// Sends the pattern up to `total`, as there is room. `done`: how much of it was sent.
fn send_pattern(flow: &mut Flow<'_>, done: &mut usize, total: usize) {
    while *done < total && flow.send_room() > 0 {
        let from = *done;
        *done += flow.send(|room| {
            let count = room.len().min(total - from);
            for (i, byte) in room[..count].iter_mut().enumerate() {
                *byte = pattern(from + i);
            }
            (count, count)
        });
    }
}

impl Server {
    pub fn new(config: StackConfig, queues: Vec<WireQueue>, app: App) -> Self {
        let stack = NetStack::new(family::configured(config), secrets(1)).expect("a good configuration");
        let mut poll = Poll::new(stack, queues);
        assert!(poll.ports().iter().all(|port| poll.stack().fits(port)));
        poll.accept_each(Token(0), Interest::EDGE);
        Self {
            poll,
            app,
            opened: 0,
            bytes: 0,
            closed: Vec::new(),
            flows: HashMap::new(),
            received: Vec::new(),
            events: Vec::new(),
            connecting: HashSet::new(),
        }
    }

    /// One turn, with its frames sent.
    pub fn turn(&mut self, now: Time) {
        self.poll.take_in(now);
        self.end_turn(now);
    }

    /// One turn, with its datagrams handed to `handler`.
    pub fn turn_with_datagrams(&mut self, now: Time, handler: &mut impl DatagramHandler) {
        self.poll.take_in_with(now, Some(handler));
        self.end_turn(now);
    }

    fn end_turn(&mut self, now: Time) {
        self.serve();
        self.poll.send(now).expect("a wire is never gone");
    }

    /// Takes in a frame that another core has offered.
    pub fn take_stray(&mut self, now: Time, frame: &mut [u8], hops: u8) {
        let (stack, ports) = self.poll.parts_mut();
        stack.ingest_stray(now, ports, frame, hops);
    }

    fn serve(&mut self) {
        while let Some(event) = self.poll.next_event() {
            let id = event.flow();
            if self.app == App::Record {
                self.events.push(event);
                continue;
            }
            if event.is_new() {
                self.opened += 1;
                let known = self.flows.insert(id, 0);
                assert!(known.is_none() || self.connecting.remove(&id), "a flow opens once");
            }
            if let Some(reason) = event.closed() {
                assert!(self.flows.remove(&id).is_some(), "only what was opened is closed");
                self.connecting.remove(&id);
                assert!(self.poll.flow(id).is_none(), "a closed flow's id is dead");
                self.closed.push((id, reason));
                continue;
            }
            self.visit(id);
        }
    }

    fn visit(&mut self, id: FlowId) {
        let Some(mut flow) = self.poll.flow(id) else { panic!("{id:?} was told of and is dead") };
        let Some(done) = self.flows.get_mut(&id) else { panic!("{id:?} was never opened") };
        match self.app {
            App::Echo => {
                self.bytes += echo(&mut flow);
                if flow.peer_closed() && flow.recv_queue() == 0 {
                    flow.close();
                    self.flows.remove(&id);
                }
            }
            App::Deaf | App::Record => {}
            App::Blast(total) => {
                send_pattern(&mut flow, done, total);
                if *done == total {
                    flow.close();
                    self.flows.remove(&id);
                }
            }
            App::Value(bytes) => {
                while flow.recv_queue() > 0 {
                    self.bytes += flow.recv(|asked| (asked.len(), asked.len() as u64));
                }
                let total = self.bytes as usize * bytes;
                loop {
                    let mut flow = self.poll.flow(id).expect("it is open");
                    send_pattern(&mut flow, done, total);
                    if *done == total || !self.poll.enlarge(id) {
                        break;
                    }
                }
            }
            App::HalfClose => {
                if *done == 0 {
                    *done = flow.send_slice(b"greeting");
                    self.poll.shutdown(id);
                }
                let Some(mut flow) = self.poll.flow(id) else { return };
                while flow.recv_queue() > 0 {
                    let received = &mut self.received;
                    flow.recv(|bytes| {
                        received.extend_from_slice(bytes);
                        (bytes.len(), ())
                    });
                }
                if flow.peer_closed() {
                    flow.close();
                    self.flows.remove(&id);
                }
            }
            App::Abort => {
                if flow.recv_queue() > 0 {
                    flow.abort();
                    self.flows.remove(&id);
                }
            }
        }
    }

    /// Checks that nothing is left: no flow, no timer, no frame.
    pub fn assert_nothing_left(self) {
        self.assert_nothing_open();
        station::assert_no_frame_is_held(self.poll.into_queues());
    }

    /// Checks that there is no flow and no timer.
    pub fn assert_nothing_open(&self) {
        let census = self.poll.stack().census();
        assert_eq!(census.free, census.blocks, "{census:?}");
        assert_eq!(
            (census.half_open, census.open, census.closing, census.dead, census.table, census.timers),
            (0, 0, 0, 0, 0, 0),
            "{census:?}"
        );
        assert_eq!((census.connecting, census.resolving, census.waiting), (0, 0, 0), "{census:?}");
        let held = census.time_wait.min(census.stations_held);
        assert_eq!(census.stations_held, held, "only TIME-WAIT holds hosts: {census:?}");
        assert_eq!((census.ready, census.touched, census.strays, census.asking), (0, 0, 0, 0), "{census:?}");
        assert!(self.flows.is_empty());
    }
}

/// A server and a peer on a wire.
pub struct Lab {
    pub wire: Wire,
    pub server: Server,
    pub peer: Peer,
}

impl Lab {
    pub fn new(app: App) -> Self {
        Self::with(config(), app, Faults::default(), 1)
    }

    pub fn with(config: StackConfig, app: App, faults: Faults, seed: u64) -> Self {
        Self::with_queues(config, app, faults, seed, 1)
    }

    /// One core that polls several queues.
    pub fn with_queues(config: StackConfig, app: App, faults: Faults, seed: u64, queues: u16) -> Self {
        Self::made(config, app, [faults.clone(), faults], seed, queues)
    }

    /// A server whose frames meet the first of these faults on their way, and a peer whose frames meet the second.
    pub fn between(config: StackConfig, app: App, faults: [Faults; 2], seed: u64) -> Self {
        Self::made(config, app, faults, seed, 1)
    }

    fn made(config: StackConfig, app: App, [out, back]: [Faults; 2], seed: u64, queues: u16) -> Self {
        println!("seed {seed}");
        let port = |inbound, queues| family::port(PortConfig { inbound, ..PortConfig::with_queues(queues) });
        let (wire, ours, theirs) = Wire::pair(port(back, queues), port(out, 1), seed).expect("a good configuration");
        let queues = (0..queues).map(|queue| ours.take_queue(QueueId(queue)).expect("opened once")).collect();
        let mut peer = Peer::new(theirs.take_queue(QueueId(0)).expect("opened once"), seed);
        let mut server = Server::new(config, queues, app);
        begin_to_use_addresses(&wire, &mut server, || while peer.device.take().is_some() {});
        Self { wire, server, peer }
    }

    pub fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    /// Both ends' turns at the present moment, until neither has anything to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let now = self.now();
            self.server.turn(now);
            let active = self.peer.poll(now);
            let due = self.wire.next_due().is_some_and(|due| due <= self.wire.clock().now());
            if !active && !due && !self.server.poll.stack().has_work() {
                return;
            }
        }
        panic!("no rest at {:?}: {:?}", self.now(), self.server.poll.stack());
    }

    /// When something happens next: on the wire, to the server or to the peer.
    fn next_event(&mut self) -> Option<Time> {
        let now = self.now();
        let wire = self.wire.next_due().map(Time::from_duration);
        let server = self.server.poll.stack().next_deadline(now).map(|wait| now.after(wait));
        [wire, server, self.peer.next_deadline(now)].into_iter().flatten().min()
    }

    /// Settles, then lets time pass to the next event, until `done`; panics when that takes longer than `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now().after(limit);
        loop {
            self.settle();
            if done(self) {
                return;
            }
            let now = self.now();
            let next = self.next_event().unwrap_or(end);
            assert!(
                next <= end,
                "not done after {limit:?}: {:?} {:?}",
                self.server.poll.stack(),
                self.server.poll.stack().census()
            );
            let step = next.since(now).max(Duration::from_micros(1));
            self.wire.clock().advance(step);
        }
    }

    /// Runs for `span` of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now().after(span);
        self.settle();
        while self.now() < end {
            let now = self.now();
            let next = self.next_event().map_or(end, |next| next.min(end));
            self.wire.clock().advance(next.since(now).max(Duration::from_micros(1)));
            self.settle();
        }
    }

    /// Runs until the server holds no flow, then checks that it holds nothing else either.
    pub fn finish(mut self) {
        self.run_until(Duration::from_secs(400), |lab| lab.server.poll.flows() == 0);
        // TIME-WAIT records are forgotten as time passes.
        self.run_for(Duration::from_secs(61));
        assert_eq!(self.server.poll.stack().census().time_wait, 0);
        self.server.assert_nothing_left();
    }
}
