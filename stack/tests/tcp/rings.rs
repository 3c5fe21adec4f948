//! Rings that follow the work: flows that get larger ones move into them amid what they do, and give them back, on a wire
//! that loses, repeats and reorders. Every byte comes once and in order, and nothing is left in the end.

use std::collections::HashMap;
use std::time::Duration;

use nic::{Faults, Reorder};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{FlowId, StackConfig};
use smoltcp::iface::SocketHandle;

use crate::lab::bench::{Bench, segments};
use crate::lab::raw::{ACK, Tcp};
use crate::lab::{self, App, Lab, config, pattern};

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
        for event in std::mem::take(&mut lab.server.events) {
            let id = event.flow();
            if event.is_new() {
                self.flows.insert(id, ());
            }
            if event.closed().is_some() {
                self.flows.remove(&id);
                continue;
            }
            self.visits += 1;
            if self.whim != 0 && self.visits.is_multiple_of(self.whim) {
                lab.server.poll.enlarge(id);
            }
            while self.copy(lab, id) && lab.server.poll.enlarge(id) {}
        }
    }

    /// Returns whether there is more to send than has room.
    fn copy(&mut self, lab: &mut Lab, id: FlowId) -> bool {
        let Some(mut flow) = lab.server.poll.flow(id) else { return false };
        lab::echo(&mut flow);
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
                return done && lab.server.poll.flows() == 0;
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
    // From the beginning of time, and when a peer that is asked at once is asked some time later.
    for began in [0, 1_000] {
        let mut lab = Lab::with(with_memory(16 << 20), App::Record, Faults::default(), 3);
        lab.wire.clock().advance(Duration::from_millis(began));
        let mut clients = [client(&mut lab, 500_000, 2_000_000, 2_000_000)];
        run(&mut lab, &mut Echo::default(), &mut clients, Duration::from_secs(60));
        let stats = *lab.server.poll.stack().stats();
        assert!(stats.rings_enlarged >= 2 && stats.rings_failed == 0, "{stats:?}");
        assert_eq!(lab.server.poll.stack().ring_bytes().0, 0);
        lab.finish();
    }
}

#[test]
fn a_client_that_writes_four_mebibytes_before_it_reads_is_served() {
    let mut lab = Lab::with(with_memory(64 << 20), App::Record, Faults::default(), 3);
    let bytes = (1 << 20) + (4 << 20);
    let mut clients = [client(&mut lab, 300_000, bytes, bytes)];
    run(&mut lab, &mut Echo::default(), &mut clients, Duration::from_secs(60));
    let stats = *lab.server.poll.stack().stats();
    assert!(stats.rings_enlarged >= 3 && stats.rings_failed == 0, "{stats:?}");
    assert_eq!(lab.server.poll.stack().ring_bytes().0, 0);
    lab.finish();
}

/// Opens so many connections; their flows, in the order in which they opened.
fn open(lab: &mut Lab, count: usize) -> (Vec<SocketHandle>, Vec<FlowId>) {
    let handles = (0..count).map(|_| lab.peer.connect(100_000)).collect();
    lab.run_until(Duration::from_secs(5), |lab| {
        lab.settle();
        lab.server.events.len() == count
    });
    (handles, std::mem::take(&mut lab.server.events).into_iter().map(|event| event.flow()).collect())
}

#[test]
fn nobody_gets_second_rings_while_others_wait_for_their_first() {
    // Eight of 64 KiB and one of 1 MiB.
    let mut lab = Lab::with(with_memory(4 << 20), App::Record, Faults::default(), 5);
    let (_, flows) = open(&mut lab, 11);
    let enlarge = |lab: &mut Lab, at: usize| lab.server.poll.enlarge(flows[at]);
    for at in 0..9 {
        assert!(enlarge(&mut lab, at), "the {at}th");
    }
    assert!(!enlarge(&mut lab, 9) && !enlarge(&mut lab, 0), "there are none");
    // The ninth has those of 1 MiB, for want of others.
    lab.server.poll.flow(flows[8]).expect("it is open").abort();
    lab.settle();
    assert!(!enlarge(&mut lab, 0), "the tenth waits for its first");
    assert!(enlarge(&mut lab, 9));
    lab.server.poll.flow(flows[9]).expect("it is open").abort();
    lab.settle();
    lab.wire.clock().advance(Duration::from_secs(2));
    lab.settle();
    assert!(enlarge(&mut lab, 0), "nobody has asked for long");
    assert_eq!(lab.server.poll.stack().stats().rings_failed, 0);
}

/// Has every client of `handles` say `bytes` bytes and hear them again, once each.
fn talk(lab: &mut Lab, echo: &mut Echo, handles: &[SocketHandle], bytes: usize) {
    let mut clients: Vec<_> =
        handles.iter().map(|&handle| Client { handle, bytes, sent: 0, read: 0, deaf_until: 0, closed: true }).collect();
    lab.run_until(Duration::from_secs(5), |lab| {
        for _ in 0..100 {
            echo.serve(lab);
            for client in &mut clients {
                client.act(lab);
            }
            lab.settle();
        }
        clients.iter().all(|client| client.read == bytes)
    });
}

#[test]
fn flows_that_talk_all_the_time_give_way_to_one_that_has_no_rings() {
    for bytes in [3_000, 60_000] {
        let mut lab = Lab::with(with_memory(4 << 20), App::Record, Faults::default(), 6);
        let (handles, flows) = open(&mut lab, 10);
        let mut echo = Echo::default();
        for &flow in &flows[..9] {
            assert!(lab.server.poll.enlarge(flow));
        }
        assert!(!lab.server.poll.enlarge(flows[9]), "{bytes}: there are none");
        // All the time the nine are as busy as they can be with so much at a time, and the tenth asks again and again.
        let mut waited = Duration::ZERO;
        while !lab.server.poll.enlarge(flows[9]) {
            assert!(waited < Duration::from_secs(3), "{bytes}: nobody gives way");
            talk(&mut lab, &mut echo, &handles[..9], bytes);
            lab.wire.clock().advance(Duration::from_millis(10));
            waited += Duration::from_millis(10);
            lab.settle();
        }
        assert!(waited >= Duration::from_millis(250), "{bytes}: at once ({waited:?})");
        assert_eq!(lab.server.poll.stack().stats().rings_failed, 0);
    }
}

#[test]
fn a_flow_that_has_closed_its_direction_promises_no_room_beyond_its_ring() {
    let delay = Faults { delay: Duration::from_millis(1), ..Faults::default() };
    let mut lab = Lab::with(with_memory(16 << 20), App::HalfClose, delay, 7);
    let mut client = client(&mut lab, 100_000, 400_000, usize::MAX);
    let (began, mut last) = (lab.now(), Duration::ZERO);
    lab.run_until(Duration::from_secs(600), |lab| {
        client.act(lab);
        if client.sent == client.bytes {
            lab.peer.socket(client.handle).close();
        }
        lab.settle();
        last = lab.now().since(began);
        lab.server.received.len() == client.bytes
    });
    assert!(lab.server.received.iter().enumerate().all(|(at, &byte)| byte == pattern(at)));
    // What was promised before is cut at the ring.
    assert!(last < Duration::from_secs(5), "{last:?}");
}

#[test]
fn without_memory_for_rings_nothing_is_enlarged_and_all_arrives() {
    let mut lab = Lab::with(with_memory(0), App::Record, Faults::default(), 3);
    let mut clients = [client(&mut lab, 60_000, 300_000, 0)];
    run(&mut lab, &mut Echo::default(), &mut clients, Duration::from_secs(60));
    assert_eq!(lab.server.poll.stack().stats().rings_enlarged, 0);
    lab.finish();
}

#[test]
fn a_flow_that_has_moved_little_for_long_gives_its_rings_back_and_goes_on() {
    let mut lab = Lab::with(with_memory(16 << 20), App::Record, Faults::default(), 4);
    let mut echo = Echo { whim: 1, ..Echo::default() };
    let mut clients = [client(&mut lab, 100_000, 400_000, 0)];
    clients[0].bytes = 200_000;
    lab.run_until(Duration::from_secs(30), |lab| {
        // Not closed: it goes on later.
        clients[0].closed = true;
        // What the application does, or the client, calls for another turn.
        let mut before = None;
        while before != Some((clients[0].sent, clients[0].read)) || !lab.server.events.is_empty() {
            before = Some((clients[0].sent, clients[0].read));
            echo.serve(lab);
            clients[0].act(lab);
            lab.settle();
        }
        clients[0].read == 200_000
    });
    assert!(lab.server.poll.stack().ring_bytes().0 > 0);
    for _ in 0..30 {
        lab.wire.clock().advance(Duration::from_secs(1));
        lab.settle();
    }
    assert_eq!(lab.server.poll.stack().ring_bytes().0, 0, "given back");
    assert!(lab.server.poll.stack().stats().rings_reduced >= 1);
    (clients[0].bytes, clients[0].closed) = (400_000, false);
    run(&mut lab, &mut echo, &mut clients, Duration::from_secs(30));
    lab.finish();
}

/// One turn of an application that reads all and answers nothing. Returns the last ACK number that was sent.
fn read_all(bench: &mut Bench, received: &mut Vec<u8>) -> Option<u32> {
    let now = bench.now();
    let id = bench.server.events[0].flow();
    let (stack, ports) = bench.server.poll.parts_mut();
    ports[0].receive();
    stack.ingest(now, &mut ports[0], 0);
    let mut flow = stack.flow(id).expect("nobody closes it");
    while flow.recv_queue() > 0 {
        flow.recv(|bytes| {
            received.extend_from_slice(bytes);
            (bytes.len(), ())
        });
    }
    // Who holds rings is looked at when all is read, and before that is acknowledged.
    stack.expire(now);
    bench.server.poll.send(now).expect("a wire is never gone");
    segments(&bench.turn()).last().map(|segment| segment.ack)
}

#[test]
fn rings_are_not_given_back_before_what_was_taken_from_them_is_acknowledged() {
    let mut bench = Bench::with(with_memory(4 << 20), App::Record);
    let next = bench.open(5_000, 100);
    let (mut received, mut seq) = (Vec::new(), 101_u32);
    for round in 0..30 {
        // Long enough for rings to be given back, by a turn in which more arrives than the flow's own hold.
        bench.wire.clock().advance(Duration::from_secs(15));
        for _ in 0..4 {
            let data: Vec<u8> = (0..1_460).map(|i| pattern(seq.wrapping_sub(101) as usize + i)).collect();
            bench.send(&Tcp::new(5_000, ACK, seq, next).with(&data).frame());
            seq = seq.wrapping_add(1_460);
        }
        let mut acknowledged = read_all(&mut bench, &mut received);
        bench.wire.clock().advance(Duration::from_millis(50));
        acknowledged = read_all(&mut bench, &mut received).or(acknowledged);
        assert_eq!(acknowledged, Some(seq), "round {round}");
    }
    assert_eq!(received.len(), 30 * 4 * 1_460);
    assert!(received.iter().enumerate().all(|(at, &byte)| byte == pattern(at)));
    let stats = bench.server.poll.stack().stats();
    assert!(stats.rings_reduced > 10 && stats.rings_failed == 0, "{stats:?}");
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
        let stats = *lab.server.poll.stack().stats();
        assert_eq!((stats.rings_failed, stats.contained), (0, 0), "seed {seed}: {stats:?}");
        assert_eq!(lab.server.poll.stack().ring_bytes().0, 0, "seed {seed}");
        lab.finish();
    }
}
