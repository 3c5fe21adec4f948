//! `Bench`: one worker or two, and clients, turn by turn, without a kernel, a clock or another thread.
//!
//! Invariant: whatever runs inside the closure given to [`Bench::turn`] is the worker's turn and nothing else; frames
//! are put into the queue before it and taken out after it. The same workload does the same in every run: secrets,
//! draws and time are fixed.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use cache::{CacheConfig, Core, Network, Now, ShardConfig};
use nic::{Doorbell, QueueError};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_cached::{Admission, Connections, Losses, StrayRing, UdpService, Worker};
use stack::{Mac, NetStack, Secrets, StackConfig, Time};

use crate::Failure;
use crate::client::{Client, Stage};
use crate::frame::{Datagram, SERVER, SERVER_MAC, SERVER_PORT, Segment, Sent};
use crate::ipv6;
use crate::items::{Ask, ITEMS, Items};
use crate::loop_queue::LoopQueue;
use crate::peer::Peer;
use crate::workload::{Shape, Workload};

/// Memory of the shard: five times what the items take, and soon filled by SETs.
const MEMORY_BYTES: usize = 8 << 20;
/// SETs that fill it once, at about 150 bytes each.
const FILLING_SETS: u32 = MEMORY_BYTES as u32 / 150;
/// Most requests in one segment while the store is filled.
const FILLING_DEPTH: u32 = 8;
/// Bytes that a SET takes, at most.
const SET_BYTES: usize = 160;
/// Turns before anything is measured, once the store is filled.
const WARM_UP_TURNS: usize = 64;
/// Connections opened in one turn of the set-up: a SYN and an ACK each are within a burst.
const OPENED_PER_TURN: usize = 32;
/// Connection numbers before they come round, when each connection serves one request.
const NUMBERS: u32 = 1 << 20;
/// Requests over UDP that may be under way, as the server has them.
const DATAGRAM_PLACES: usize = 512;
/// Items among which those of the other core are looked for: about half of them are.
const OTHERS_AMONG: u32 = 2_000;
/// The seed of every draw.
const SEED: u64 = 0x5eed;

/// The worker that is measured.
pub type BenchWorker = Worker<LoopQueue>;

/// A worker and its clients.
#[derive(Debug)]
pub struct Bench {
    /// The core whose connections the clients are.
    worker: BenchWorker,
    /// The core that owns what they ask for, if that is another.
    other: Option<BenchWorker>,
    /// Items that may be asked for: all, or those of the other core.
    asked: Vec<u32>,
    clients: Vec<Client>,
    /// Those that ask over UDP; none unless the workload is about them.
    peers: Vec<Peer>,
    /// The next client of a flood.
    next: u32,
    shape: Shape,
    items: Items,
    draws: Xoshiro256PlusPlus,
    micros: u64,
    turns: u64,
    answered: u64,
    frames: u64,
    frame: Vec<u8>,
    data: Vec<u8>,
}

impl Bench {
    /// Builds a worker for `workload`, opens its connections, stores all items and takes turns until everything has
    /// been used once.
    ///
    /// # Errors
    /// `flows` out of range, no memory, or the server does something wrong.
    pub fn new(workload: Workload, flows: usize) -> Result<Self, Failure> {
        let shape = workload.shape(flows);
        let (least, most) = (2 * shape.per_turn, 1 << 24);
        if workload == Workload::GetRandom && !(least..=most).contains(&flows) {
            return Err(format!("--flows is {flows}; choose {least} to {most}").into());
        }
        Self::of(shape)
    }

    /// Builds a worker for a workload of this shape, as [`new`](Self::new) does.
    ///
    /// # Errors
    /// No memory, or the server does something wrong.
    pub fn of(shape: Shape) -> Result<Self, Failure> {
        let mut workers = workers(&shape)?.into_iter();
        let worker = workers.next().ok_or("a workload without a core")?;
        let mut bench = Self {
            worker,
            other: workers.next(),
            asked: (0..ITEMS).collect(),
            // At most 2^24.
            clients: (0..shape.connections as u32).map(Client::new).collect(),
            // As many as there are clients, which is 32.
            peers: if shape.udp { (0..shape.connections as u16).map(Peer::new).collect() } else { Vec::new() },
            // Those before have connections.
            next: shape.connections as u32,
            shape,
            items: Items::new(),
            draws: Xoshiro256PlusPlus::seed_from_u64(SEED),
            micros: 0,
            turns: 0,
            answered: 0,
            frames: 0,
            frame: Vec::with_capacity(2_048),
            data: Vec::with_capacity(2_048),
        };
        bench.fill()?;
        if bench.other.is_some() {
            bench.find_others()?;
        }
        for _ in 0..WARM_UP_TURNS {
            bench.turn(plain_turn)?;
        }
        Ok(bench)
    }

    /// One turn: the clients send, `run` has the worker take its turn, the answers are checked. With another core it
    /// takes its turn then, and the worker one more, in which its answers come.
    /// Returns how many requests were answered.
    ///
    /// # Errors
    /// the queue failed, or the server did something wrong.
    pub fn turn(
        &mut self,
        run: impl FnMut(&mut BenchWorker, Time, Now) -> Result<bool, QueueError>,
    ) -> Result<u64, Failure> {
        let before = self.answered;
        if self.shape.udp {
            self.offer_datagrams()?;
        } else if self.shape.flood {
            self.offer_syns()?;
        } else if self.shape.reconnects {
            self.offer_connections()?;
        } else if self.shape.per_turn == self.shape.connections {
            for slot in 0..self.shape.connections {
                self.offer(slot, self.shape.ask, self.shape.depth)?;
            }
        } else {
            for _ in 0..self.shape.per_turn {
                let slot = self.draw_idle();
                self.offer(slot, self.shape.ask, self.shape.depth)?;
            }
        }
        self.exchange(self.shape.ask, run)?;
        Ok(self.answered - before)
    }

    /// Opens so many connections more, each of which asks once and acknowledges the answer; 32 at a time. All answers of
    /// the others must be acknowledged.
    ///
    /// # Errors
    /// The server did something wrong.
    pub fn open_more(&mut self, count: usize) -> Result<(), Failure> {
        self.clients.reserve_exact(count);
        let end = self.clients.len() + count;
        while self.clients.len() < end {
            let first = self.clients.len();
            let group = first..end.min(first + OPENED_PER_TURN);
            // At most 2^24.
            self.clients.extend(group.clone().map(|number| Client::new(number as u32)));
            for _ in [Stage::Closed, Stage::Connected] {
                for slot in group.clone() {
                    self.advance(slot)?;
                }
                self.exchange(Ask::Get, plain_turn)?;
            }
            self.ask(group.clone(), plain_turn)?;
            self.acknowledge(group)?;
        }
        Ok(())
    }

    /// The clients of `group` ask for something each, in one turn, which `run` has the worker take.
    ///
    /// # Errors
    /// The queue failed, or the server did something wrong.
    pub fn ask(
        &mut self,
        group: Range<usize>,
        run: impl FnMut(&mut BenchWorker, Time, Now) -> Result<bool, QueueError>,
    ) -> Result<(), Failure> {
        let (answered, count) = (self.answered, group.len() as u64);
        for slot in group {
            self.offer(slot, Ask::Get, 1)?;
        }
        self.exchange(Ask::Get, run)?;
        let answered = self.answered - answered;
        if answered == count { Ok(()) } else { Err(format!("{answered} of {count} were answered").into()) }
    }

    /// The clients of `group` acknowledge what they have been answered, in one turn.
    ///
    /// # Errors
    /// The server did something wrong.
    pub fn acknowledge(&mut self, group: Range<usize>) -> Result<(), Failure> {
        for slot in group {
            self.clients[slot].acknowledge(&mut self.frame);
            self.send()?;
        }
        self.exchange(Ask::Get, plain_turn)
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Frames that have passed, both ways together.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The worker, to be asked for its counters.
    pub fn worker(&self) -> &BenchWorker {
        &self.worker
    }

    /// Opens the connections and stores the items, as often as it takes to fill the store when SETs are measured.
    fn fill(&mut self) -> Result<(), Failure> {
        let fillers = self.clients.len().min(OPENED_PER_TURN);
        for first in (0..self.clients.len()).step_by(OPENED_PER_TURN) {
            let end = self.clients.len().min(first + OPENED_PER_TURN);
            for phase in [Stage::Closed, Stage::Connected] {
                for slot in first..end {
                    debug_assert_eq!(self.clients[slot].state(), phase);
                    self.advance(slot)?;
                }
                self.exchange(Ask::Set, plain_turn)?;
            }
        }
        let sets = if self.shape.ask == Ask::Set { FILLING_SETS } else { ITEMS };
        // A segment must fit the receive ring.
        let depth = FILLING_DEPTH.min((self.shape.rings.rx / SET_BYTES) as u32);
        let mut item = 0;
        while item < sets {
            for slot in 0..fillers {
                self.send_requests(slot, Ask::Set, item, depth)?;
                item += depth;
            }
            self.exchange(Ask::Set, plain_turn)?;
        }
        if self.shape.udp || self.shape.flood {
            self.close_connections()?;
        }
        Ok(())
    }

    /// Keeps of the items those that the other core owns, as far as it takes to have enough of them.
    fn find_others(&mut self) -> Result<(), Failure> {
        let crossed = |bench: &Self| bench.worker.cache.counters().cross_core_requests.value();
        let mut others = Vec::new();
        for item in 0..OTHERS_AMONG {
            let before = crossed(self);
            self.send_requests(0, Ask::Get, item, 1)?;
            self.exchange(Ask::Get, plain_turn)?;
            if crossed(self) > before {
                others.push(item);
            }
        }
        self.asked = others;
        Ok(())
    }

    /// Ends the connections, over which nothing more is asked: their last answers would never be acknowledged.
    fn close_connections(&mut self) -> Result<(), Failure> {
        for phase in [Stage::Idle, Stage::Finished] {
            for slot in 0..self.clients.len() {
                debug_assert_eq!(self.clients[slot].state(), phase);
                self.advance(slot)?;
            }
            self.exchange(Ask::Set, plain_turn)?;
        }
        Ok(())
    }

    /// Each peer asks for an item drawn at random.
    fn offer_datagrams(&mut self) -> Result<(), Failure> {
        for slot in 0..self.peers.len() {
            let item = self.draw_item();
            self.peers[slot].ask(&self.items, self.shape.ask, item, &mut self.data, &mut self.frame);
            self.send()?;
        }
        Ok(())
    }

    /// Clients that were never there before ask for a connection.
    fn offer_syns(&mut self) -> Result<(), Failure> {
        for _ in 0..self.shape.per_turn {
            Client::new(self.next).connect(&mut self.frame);
            self.next = (self.next + 1) % NUMBERS;
            self.send()?;
        }
        Ok(())
    }

    /// A connection takes four turns; a quarter of them begins in each, so that all turns are alike.
    fn offer_connections(&mut self) -> Result<(), Failure> {
        let group = self.clients.len() / 4;
        for slot in 0..self.clients.len() {
            // Those that the set-up left open are closed first; each group begins a turn after the one before.
            if self.turns >= (slot / group) as u64 {
                self.advance(slot)?;
            }
        }
        self.turns += 1;
        Ok(())
    }

    /// Sends what comes next in the life of a connection that serves one request.
    fn advance(&mut self, slot: usize) -> Result<(), Failure> {
        match self.clients[slot].state() {
            Stage::Closed => {
                self.clients[slot].connect(&mut self.frame);
                self.send()
            }
            Stage::Connected => {
                self.clients[slot].establish(&mut self.frame);
                self.send()?;
                if self.shape.reconnects && self.turns > 0 {
                    return self.offer(slot, self.shape.ask, self.shape.depth);
                }
                Ok(())
            }
            Stage::Idle => {
                self.clients[slot].close(&mut self.frame);
                self.send()
            }
            Stage::Finished => {
                self.clients[slot].finish(&mut self.frame);
                self.send()?;
                let next = (self.clients[slot].number() + self.clients.len() as u32) % NUMBERS;
                self.clients[slot] = Client::new(next);
                Ok(())
            }
            Stage::SynSent | Stage::Waiting | Stage::Closing => Ok(()),
        }
    }

    /// Sends requests for items drawn at random, unless the client still waits.
    fn offer(&mut self, slot: usize, ask: Ask, depth: u32) -> Result<(), Failure> {
        let item = self.draw_item();
        self.send_requests(slot, ask, item, depth)
    }

    fn send_requests(&mut self, slot: usize, ask: Ask, item: u32, depth: u32) -> Result<(), Failure> {
        if self.clients[slot].state() != Stage::Idle {
            return Ok(());
        }
        self.clients[slot].ask(&self.items, ask, item, depth, &mut self.data, &mut self.frame);
        self.send()
    }

    /// A number below `bound`, near enough evenly (Lemire's multiplication).
    fn draw(&mut self, bound: u32) -> u32 {
        (((self.draws.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }

    fn draw_item(&mut self) -> u32 {
        // At most ITEMS of them.
        let at = self.draw(self.asked.len() as u32);
        self.asked[at as usize]
    }

    /// A client that waits for nothing. There always are many: at most half of the clients ask in one turn.
    fn draw_idle(&mut self) -> usize {
        loop {
            let slot = self.draw(self.shape.connections as u32) as usize;
            if self.clients[slot].state() == Stage::Idle {
                return slot;
            }
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let queue = self.worker.poll.ports_mut()[0].queue_mut();
        self.frames += 1;
        if self.shape.ipv6 {
            ipv6::make_ipv6(&mut self.frame);
        }
        if queue.arrive(&self.frame) {
            return Ok(());
        }
        let census = nic::Queue::census(queue);
        Err(format!("no frame is free for a request; the worker holds {} of {}", census.held, census.total).into())
    }

    /// The turns of the cores, and their answers to the clients.
    fn exchange(
        &mut self,
        ask: Ask,
        mut run: impl FnMut(&mut BenchWorker, Time, Now) -> Result<bool, QueueError>,
    ) -> Result<(), Failure> {
        self.micros += self.shape.turn_micros;
        let time = Time::from_micros(self.micros);
        let now = Now { secs: 2 + (self.micros / 1_000_000) as u32, unix_epoch: 1_700_000_000 };
        run(&mut self.worker, time, now)?;
        if let Some(other) = &mut self.other {
            run(other, time, now)?;
            run(&mut self.worker, time, now)?;
        }
        let (clients, peers, items) = (&mut self.clients, &mut self.peers, &self.items);
        // Once the store is filled.
        let flooded = self.shape.flood && clients.iter().all(|client| client.state() == Stage::Closed);
        let (mut outcome, of_ipv6) = (Ok(()), self.shape.ipv6);
        self.worker.poll.ports_mut()[0].queue_mut().take_sent(|frame| {
            self.frames += 1;
            let read = if of_ipv6 { ipv6::as_ipv4(frame) } else { None };
            let frame = read.as_deref().unwrap_or(frame);
            if outcome.is_ok() {
                outcome = match Sent::read(frame) {
                    Some(Sent::Segment(segment)) if flooded => absorb_syn_ack(items, &segment, &mut self.answered),
                    Some(Sent::Segment(segment)) => absorb(clients, items, ask, &segment, &mut self.answered),
                    Some(Sent::Datagram(datagram)) => absorb_datagram(peers, items, ask, &datagram, &mut self.answered),
                    None => Err(to_nobody(frame.len())),
                };
            }
        });
        outcome
    }
}

fn to_nobody(bytes: usize) -> Failure {
    format!("the server sent {bytes} bytes that are no TCP segment or UDP datagram to a client").into()
}

fn absorb(
    clients: &mut [Client],
    items: &Items,
    ask: Ask,
    segment: &Segment<'_>,
    answered: &mut u64,
) -> Result<(), Failure> {
    let number = Client::number_of(segment);
    let slot = number as usize % clients.len();
    let client = &mut clients[slot];
    if client.number() != number {
        return Err(to_nobody(segment.data.len()));
    }
    let answers = client.answers();
    client.absorb(segment, items, ask)?;
    *answered += u64::from(client.answers() - answers);
    Ok(())
}

/// The answer to one of the SYNs of a flood, whose sender is made again to check it.
fn absorb_syn_ack(items: &Items, segment: &Segment<'_>, answered: &mut u64) -> Result<(), Failure> {
    let mut client = Client::new(Client::number_of(segment));
    client.connect(&mut Vec::new());
    client.absorb(segment, items, Ask::Get)?;
    *answered += 1;
    Ok(())
}

fn absorb_datagram(
    peers: &mut [Peer],
    items: &Items,
    ask: Ask,
    datagram: &Datagram<'_>,
    answered: &mut u64,
) -> Result<(), Failure> {
    let peer = Peer::number_of(datagram).and_then(|number| peers.get_mut(number));
    let peer = peer.ok_or_else(|| to_nobody(datagram.payload.len()))?;
    peer.absorb(datagram, items, ask)?;
    *answered += 1;
    Ok(())
}

/// A turn that is not measured.
fn plain_turn(worker: &mut BenchWorker, time: Time, now: Now) -> Result<bool, QueueError> {
    worker.turn(time, now)
}

fn workers(shape: &Shape) -> Result<Vec<BenchWorker>, Failure> {
    // Beside the connections held open, those that are being closed.
    let flows = shape.connections + shape.more + 256;
    let cache = CacheConfig {
        cores: shape.cores,
        shard: ShardConfig { memory_bytes: MEMORY_BYTES * shape.cores, ..ShardConfig::default() },
        connections_per_core: flows,
        datagram_places: if shape.udp { DATAGRAM_PLACES } else { 0 },
        ..CacheConfig::default()
    };
    let doorbell = || Doorbell::new().map(Arc::new).map_err(|error| format!("cannot make a doorbell: {error}"));
    let doorbells = (0..shape.cores).map(|_| doorbell()).collect::<Result<Vec<_>, _>>()?;
    let admission = Arc::new(Admission::new(flows));
    let strays = StrayRing::of(&doorbells, 2_048)?;
    let losses = Arc::new(Losses::new(shape.cores));
    let worker = |(cache, strays): (Core, StrayRing)| {
        let stack = NetStack::new(stack_config(shape, flows), secrets())?;
        // Everybody is answered in full: what a source may be sent is not what is measured here.
        let everybody = Network::new(Ipv4Addr::UNSPECIFIED, 0);
        let udp = shape.udp.then(|| UdpService::new(&cache, &stack, everybody.as_slice()));
        let connections = Connections::new(flows, admission.clone());
        let mut worker = Worker::new(vec![LoopQueue::new()?], stack, cache, connections, strays, &doorbells, &losses);
        worker.udp = udp.unwrap_or_default();
        Ok(worker)
    };
    Core::mesh(&cache, [0x5a; 16])?.into_iter().zip(strays).map(worker).collect()
}

fn secrets() -> Secrets {
    Secrets::from_bytes(std::array::from_fn(|at| at as u8 + 1))
}

fn stack_config(shape: &Shape, flows: usize) -> StackConfig {
    let mut config = if shape.ipv6 {
        // Its address is in use at once.
        let mut config = StackConfig::new(ipv6::address(SERVER), 64, Mac(SERVER_MAC));
        config.arp = false;
        config
    } else {
        StackConfig::new(SERVER, 8, Mac(SERVER_MAC))
    };
    config.ports = vec![SERVER_PORT];
    if shape.udp {
        config.udp_ports = vec![SERVER_PORT];
    }
    config.max_flows = flows;
    config.awake_flows = shape.awake_flows;
    config.flows_at_start = flows.min(shape.awake_flows);
    config.rings = shape.rings;
    // At most two cores.
    config.peers = (shape.cores - 1) as u8;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_answered_in_full_and_repeats() {
        for workload in Workload::ALL {
            let run = || {
                let mut bench = Bench::new(workload, 1_000).unwrap();
                (0..100).map(|_| bench.turn(plain_turn).unwrap()).collect::<Vec<_>>()
            };
            let answered = run();
            let shape = workload.shape(1_000);
            let each = if shape.reconnects { 8 } else { shape.per_turn as u64 * u64::from(shape.depth) };
            if shape.flood {
                // A turn answers few of the SYNs that wait, or a burst of them when many do: the same in the end.
                let (all, sent) = (answered.iter().sum::<u64>(), answered.len() as u64 * each);
                assert!(all.abs_diff(sent) <= 2 * nic::BURST as u64, "{all} of {sent} SYNs: {answered:?}");
            } else {
                assert!(answered.iter().all(|&n| n == each), "{}: {answered:?}", workload.name());
            }
            assert_eq!(answered, run());
        }
    }

    #[test]
    fn no_connection_and_no_frame_is_left_behind() {
        let mut bench = Bench::new(Workload::Connect, 0).unwrap();
        let mut held = || {
            for _ in 0..1_000 {
                bench.turn(plain_turn).unwrap();
            }
            nic::Queue::census(bench.worker.poll.ports()[0].queue()).held
        };
        // What is left of the port's reserve after a turn: the same after each, or frames would go astray.
        let after_some = held();
        assert_eq!((after_some, after_some <= 64), (held(), true), "the reserve of the port");
        // A quarter each: half-open, open, waiting for the last ACK, gone.
        assert_eq!((bench.worker.poll.stack().flows(), bench.worker.connections.admission().open()), (24, 8));
    }

    #[test]
    fn too_few_flows_are_refused() {
        let error = Bench::new(Workload::GetRandom, 10).unwrap_err().to_string();
        assert!(error.contains("64 to 16777216"), "{error}");
    }
}
