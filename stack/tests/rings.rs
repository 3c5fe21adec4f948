//! Rings that follow the work: flows that get larger ones move into them amid what they do, and give them back, on a wire
//! that loses, repeats and reorders. Every byte comes once and in order, and nothing is left in the end.

#[path = "lab/lab.rs"]
mod lab;

use std::collections::HashMap;
use std::time::Duration;

use lab::{App, Lab, config, pattern};
use nic::{Faults, Reorder};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{FlowId, StackConfig};
use smoltcp::iface::SocketHandle;

fn with_memory(bytes: usize) -> StackConfig {
    let mut config = config();
    config.conn_memory = bytes;
    config
}

/// An application that sends back what it gets and asks for larger rings when it has more to send than fits; a flow that
/// was asked for `get` bytes by the first byte it sent sends a pattern instead.
#[derive(Default)]
struct Echo {
    flows: HashMap<FlowId, ()>,
    /// Every so many visits, larger rings are asked for, needed or not; 0: never.
    whim: u32,
    visits: u32,
}

impl Echo {
    fn serve(&mut self, lab: &mut Lab) {
        for (id, ready) in std::mem::take(&mut lab.server.events) {
            if ready.opened {
                self.flows.insert(id, ());
            }
            if ready.closed.is_some() {
                self.flows.remove(&id);
                continue;
            }
            self.visits += 1;
            if self.whim != 0 && self.visits.is_multiple_of(self.whim) {
                lab.server.stack.enlarge(id);
            }
            while self.copy(lab, id) && lab.server.stack.enlarge(id) {}
        }
    }

    /// Returns whether there is more to send than has room.
    fn copy(&mut self, lab: &mut Lab, id: FlowId) -> bool {
        let Some(mut flow) = lab.server.stack.flow(id) else { return false };
        let mut scratch = [0; 4_096];
        loop {
            let room = flow.send_room().min(scratch.len());
            let got = flow.peek(&mut scratch[..room]);
            if got == 0 {
                break;
            }
            assert_eq!(flow.send_slice(&scratch[..got]), got);
            let mut left = got;
            while left > 0 {
                left -= flow.recv(|bytes| (bytes.len().min(left), bytes.len().min(left)));
            }
        }
        if flow.peer_closed() && flow.recv_queue() == 0 {
            flow.close();
            self.flows.remove(&id);
            return false;
        }
        flow.recv_queue() > 0
    }
}

/// A client that sends so many bytes of the pattern and reads them back.
struct Client {
    handle: SocketHandle,
    bytes: usize,
    sent: usize,
    read: usize,
    /// It reads nothing before it has sent so many.
    deaf_until: usize,
    closed: bool,
}

impl Client {
    /// Returns whether it is done.
    fn act(&mut self, lab: &mut Lab) -> bool {
        let socket = lab.peer.socket(self.handle);
        while self.sent < self.bytes && socket.can_send() {
            let from = self.sent;
            let bytes = self.bytes;
            self.sent += socket
                .send(|room| {
                    let count = room.len().min(bytes - from);
                    for (i, byte) in room[..count].iter_mut().enumerate() {
                        *byte = pattern(from + i);
                    }
                    (count, count)
                })
                .expect("it can send");
        }
        while self.sent >= self.deaf_until && socket.can_recv() {
            let from = self.read;
            self.read += socket
                .recv(|bytes| {
                    for (i, byte) in bytes.iter().enumerate() {
                        assert_eq!(*byte, pattern(from + i), "byte {}", from + i);
                    }
                    (bytes.len(), bytes.len())
                })
                .expect("it can receive");
        }
        if self.read == self.bytes && !self.closed {
            self.closed = true;
            socket.close();
        }
        self.closed
    }
}

/// Runs until all clients are done and all flows have ended.
fn run(lab: &mut Lab, echo: &mut Echo, clients: &mut [Client], limit: Duration) {
    lab.run_until(limit, |lab| {
        // What the application does calls for another turn.
        for _ in 0..1_000 {
            echo.serve(lab);
            let done = clients.iter_mut().filter_map(|client| (!client.act(lab)).then_some(())).count() == 0;
            lab.settle();
            if lab.server.events.is_empty() {
                return done && lab.server.stack.flows() == 0;
            }
        }
        false
    });
}

fn client(lab: &mut Lab, ring: usize, bytes: usize, deaf_until: usize) -> Client {
    Client { handle: lab.peer.connect(ring), bytes, sent: 0, read: 0, deaf_until, closed: false }
}

#[test]
fn who_writes_much_before_it_reads_is_taken_much_from() {
    let mut lab = Lab::with(with_memory(16 << 20), App::Record, Faults::default(), 3);
    let mut clients = [client(&mut lab, 500_000, 2_000_000, 2_000_000)];
    run(&mut lab, &mut Echo::default(), &mut clients, Duration::from_secs(60));
    let stats = *lab.server.stack.stats();
    assert!(stats.rings_enlarged >= 2 && stats.rings_failed == 0, "{stats:?}");
    assert_eq!(lab.server.stack.ring_bytes().0, 0);
    lab.finish();
}

#[test]
fn without_memory_for_rings_nothing_is_enlarged_and_all_arrives() {
    let mut lab = Lab::with(with_memory(0), App::Record, Faults::default(), 3);
    let mut clients = [client(&mut lab, 60_000, 300_000, 0)];
    run(&mut lab, &mut Echo::default(), &mut clients, Duration::from_secs(60));
    assert_eq!(lab.server.stack.stats().rings_enlarged, 0);
    lab.finish();
}

#[test]
fn a_flow_that_has_moved_little_for_long_gives_its_rings_back_and_goes_on() {
    let mut lab = Lab::with(with_memory(16 << 20), App::Record, Faults::default(), 4);
    let mut echo = Echo { whim: 1, ..Echo::default() };
    let mut clients = [client(&mut lab, 100_000, 400_000, 0)];
    clients[0].bytes = 200_000;
    lab.run_until(Duration::from_secs(30), |lab| {
        echo.serve(lab);
        // Not closed: it goes on later.
        clients[0].closed = true;
        clients[0].act(lab);
        lab.settle();
        clients[0].read == 200_000
    });
    assert!(lab.server.stack.ring_bytes().0 > 0);
    for _ in 0..30 {
        lab.wire.clock().advance(Duration::from_secs(1));
        lab.settle();
    }
    assert_eq!(lab.server.stack.ring_bytes().0, 0, "given back");
    assert!(lab.server.stack.stats().rings_reduced >= 1);
    (clients[0].bytes, clients[0].closed) = (400_000, false);
    run(&mut lab, &mut echo, &mut clients, Duration::from_secs(30));
    lab.finish();
}

#[test]
fn on_a_bad_wire_with_too_little_memory_every_byte_comes_once_and_nothing_is_left() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut below = |limit: u64| u64::from(rng.next_u32()) % limit;
        let faults = Faults {
            loss: [0.0, 0.01, 0.05][below(3) as usize],
            duplicate: 0.01,
            reorder: Some(Reorder { probability: 0.05, depth: 4, hold: Duration::from_micros(300) }),
            delay: Duration::from_micros(50 + below(5_000)),
            jitter: Duration::from_micros(below(500)),
            ..Faults::default()
        };
        let mut lab = Lab::with(with_memory(4 << 20), App::Record, faults, seed);
        let mut echo = Echo { whim: below(20) as u32, ..Echo::default() };
        let mut clients: Vec<_> = (0..12)
            .map(|_| {
                let bytes = 1 + below(200_000) as usize;
                let ring = [3_000, 60_000, 300_000][below(3) as usize];
                client(&mut lab, ring, bytes, if below(4) == 0 { bytes.min(ring) } else { 0 })
            })
            .collect();
        run(&mut lab, &mut echo, &mut clients, Duration::from_secs(2_000));
        let stats = *lab.server.stack.stats();
        assert_eq!((stats.rings_failed, stats.contained), (0, 0), "seed {seed}: {stats:?}");
        assert_eq!(lab.server.stack.ring_bytes().0, 0, "seed {seed}");
        lab.finish();
    }
}
