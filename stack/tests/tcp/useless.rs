//! Memory for rings that is held for peers which take next to nothing, and those who need it.

use std::collections::HashMap;
use std::time::Duration;

use sidestep_stack::{CloseReason, FlowId};

use crate::lab::bench::{Bench, segments};
use crate::lab::raw::{ACK, RST, SYN, Tcp};
use crate::lab::{App, config, pattern};

/// What every client is sent.
const TOTAL: usize = 200_000;

/// 16 flows can have rings of 64 KiB, and two those of 1 MiB.
const MEMORY: usize = 8 << 20;
const PLACES: usize = 18;

const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Takes the first flight, closes its window, and answers probes.
    Deaf,
    /// Takes 500 bytes a second.
    Trickler,
    /// Takes everything at once.
    Honest,
}

#[derive(Debug)]
struct Client {
    kind: Kind,
    next: u32,
    got: usize,
    /// When it last got something, in milliseconds, and its longest wait.
    at: u64,
    longest: u64,
    reset: bool,
}

/// A server that sends everyone [`TOTAL`] bytes, and its clients by their ports.
struct Crowd {
    bench: Bench,
    clients: HashMap<u16, Client>,
    /// By flow: its client, and what was written.
    flows: HashMap<FlowId, (u16, usize)>,
    gave_way: Vec<Kind>,
}

impl Crowd {
    fn new() -> Self {
        let mut config = config();
        config.conn_memory = MEMORY;
        (config.keep_alive, config.flows_at_start) = (None, 1_100);
        let bench = Bench::with(config, App::Record);
        bench.wire.clock().set(Duration::from_secs(100));
        Self { bench, clients: HashMap::new(), flows: HashMap::new(), gave_way: Vec::new() }
    }

    fn now(&self) -> u64 {
        self.bench.now().as_micros() / 1_000
    }

    fn join(&mut self, port: u16, kind: Kind) {
        let at = self.now();
        self.clients.insert(port, Client { kind, next: 0, got: 0, at, longest: 0, reset: false });
        self.bench.send(&Tcp::new(port, SYN, 100, 0).frame());
        self.step();
        self.step();
    }

    /// The application: writes as much as there is room for, and asks for more room.
    fn serve(&mut self) {
        for event in std::mem::take(&mut self.bench.server.events) {
            let (id, poll) = (event.flow(), &mut self.bench.server.poll);
            if let Some(reason) = event.closed() {
                let (port, _) = self.flows.remove(&id).expect("it was opened");
                if reason == CloseReason::GaveWay {
                    self.gave_way.push(self.clients[&port].kind);
                }
                continue;
            }
            let Some(flow) = poll.flow(id) else { continue };
            let (_, written) = self.flows.entry(id).or_insert((flow.peer().port(), 0));
            while let Some(mut flow) = poll.flow(id) {
                while *written < TOTAL && flow.send_room() > 0 {
                    let from = *written;
                    *written += flow.send(|room| {
                        let count = room.len().min(TOTAL - from);
                        room[..count].iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(from + i));
                        (count, count)
                    });
                }
                if *written == TOTAL || !poll.enlarge(id) {
                    break;
                }
            }
        }
    }

    /// A turn of the server, what its clients make of it, and the next turn.
    fn step(&mut self) {
        self.serve();
        let now = self.now();
        let frames = self.bench.turn();
        let mut answers = Vec::new();
        for segment in segments(&frames) {
            let client = self.clients.get_mut(&segment.peer_port).expect("it was opened");
            if segment.flags & RST != 0 {
                client.reset = true;
                continue;
            }
            if segment.flags & SYN != 0 {
                client.next = segment.seq.wrapping_add(1);
                answers.push(Tcp::new(segment.peer_port, ACK, 101, client.next));
                continue;
            }
            let takes =
                segment.seq == client.next && !(client.kind == Kind::Deaf && client.got > 0 && segment.data.len() == 1);
            if takes && !segment.data.is_empty() {
                let right = segment.data.iter().enumerate().all(|(i, &byte)| byte == pattern(client.got + i));
                assert!(right, "{client:?}");
                client.next = client.next.wrapping_add(segment.data.len() as u32);
                client.got += segment.data.len();
                client.longest = client.longest.max(now - client.at);
                client.at = now;
            }
            let window = if client.kind == Kind::Honest { 60_000 } else { 0 };
            answers.push(Tcp { window, ..Tcp::new(segment.peer_port, ACK, 101, client.next) });
        }
        for answer in answers {
            self.bench.send(&answer.frame());
        }
        self.bench.wire.clock().advance(MILLISECOND);
    }

    /// Tricklers take a little.
    fn trickle(&mut self) {
        let tricklers: Vec<_> =
            self.clients.iter().filter(|(_, client)| client.kind == Kind::Trickler && !client.reset).collect();
        let segments: Vec<_> = tricklers
            .iter()
            .map(|(port, client)| Tcp { window: 500, ..Tcp::new(**port, ACK, 101, client.next) })
            .collect();
        for (index, segment) in segments.iter().enumerate() {
            self.bench.send(&segment.frame());
            if index % 32 == 31 {
                self.step();
            }
        }
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.trickle();
            for _ in 0..200 {
                self.step();
                self.bench.wire.clock().advance(4 * MILLISECOND);
            }
        }
    }
}

/// 500 that read nothing and 500 that read next to nothing have all the memory there is: each that comes and reads is served at
/// once, and as few of the thousand give way as it takes, the closed windows first.
#[test]
fn the_most_useless_gives_way_when_memory_for_rings_is_short_and_never_before() {
    let mut crowd = Crowd::new();
    for number in 0..1_000u16 {
        crowd.join(2_000 + number, if number % 2 == 0 { Kind::Deaf } else { Kind::Trickler });
    }
    let stack = crowd.bench.server.poll.stack();
    assert_eq!(stack.stats().rings_enlarged as usize, PLACES + 2, "two have had both kinds");
    crowd.pass(10);
    let stats = *crowd.bench.server.poll.stack().stats();
    assert_eq!((stats.gave_way, stats.resets + stats.timed_out, crowd.gave_way.len()), (0, 0, 0), "nobody else came");
    for round in 0..4u16 {
        let ports = 10_000 + 10 * round..10_010 + 10 * round;
        for port in ports.clone() {
            crowd.join(port, Kind::Honest);
        }
        let mut steps = 0;
        while ports.clone().any(|port| crowd.clients[&port].got < TOTAL) {
            crowd.step();
            steps += 1;
            assert!(steps < 2_000, "round {round}: {:?}", crowd.clients[&ports.start]);
        }
        for port in ports {
            let client = &crowd.clients[&port];
            assert!(!client.reset && client.longest <= 10, "{client:?}");
            // It is done.
            let reset = Tcp::new(port, RST, 101, 0);
            crowd.bench.send(&reset.frame());
            crowd.step();
        }
        crowd.pass(2);
    }
    let stats = *crowd.bench.server.poll.stack().stats();
    let gone = crowd.clients.values().filter(|client| client.kind != Kind::Honest && client.reset).count();
    assert_eq!((gone, stats.gave_way as usize, crowd.gave_way.len()), (crowd.gave_way.len(), gone, gone));
    assert!((1..=PLACES).contains(&gone), "{gone} gave way");
    let waits = crowd.clients.values().filter(|client| client.kind == Kind::Honest).map(|client| client.longest);
    println!("{gone} gave way, the longest wait of others was {:?} ms: {:?}", waits.max(), crowd.gave_way);
    let deaf = crowd.gave_way.iter().take_while(|&&kind| kind == Kind::Deaf).count();
    assert!(deaf == gone || deaf >= PLACES / 2, "closed windows first: {:?}", crowd.gave_way);
    assert_eq!(stats.timed_out, 0);
}
