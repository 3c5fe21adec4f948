//! What the generator itself costs: cycles a request of [`Engine::turn`], driven over a transport that answers from
//! replies made beforehand and costs next to nothing.
//! `cargo run --release -p sidestep-mcload --example own_cost [BATCHES [CASE]]`.
//!
//! What the server's side does (finding the reply) is done in `wait`, which is not measured. For instruction counts run
//! one case under `valgrind --tool=callgrind --toggle-collect='*Engine*turn*'` and divide by its requests.

use std::net::{Ipv4Addr, SocketAddr};

use mcload::arrivals::{Arrivals, Gaps};
use mcload::backlog::Backlog;
use mcload::codec::Codec;
use mcload::engine::phase::Pace;
use mcload::engine::{Engine, Settings};
use mcload::keyspace::Keyspace;
use mcload::popularity::{Popularity, Zipf};
use mcload::sizes::Size;
use mcload::transport::{Close, Nanos, News, Slot, Transport, TransportError};
use mcload::workload::{Mix, Workload};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const KEYS: u64 = 10_000;
const CONNECTIONS: Slot = 32;
const TURNS_A_BATCH: usize = 100;

/// Answers gets of fixed-length keys at once.
struct Canned {
    now: Nanos,
    replies: Vec<Vec<u8>>,
    asked: Vec<Vec<u8>>,
    answers: Vec<Vec<u32>>,
    news: Vec<(Slot, News)>,
}

impl Canned {
    fn new(codec: &Codec) -> Self {
        let reply = |key| {
            let mut reply = Vec::new();
            codec.put_value_line(key, &mut reply);
            reply.extend(codec.keyspace().value(key).copy(0, usize::MAX));
            reply.extend(b"\r\nEND\r\n");
            reply
        };
        Self {
            now: 0,
            replies: (0..KEYS).map(reply).collect(),
            asked: vec![Vec::with_capacity(4096); CONNECTIONS as usize],
            answers: vec![Vec::with_capacity(64); CONNECTIONS as usize],
            news: Vec::with_capacity(64),
        }
    }
}

impl Transport for Canned {
    fn now(&mut self) -> Nanos {
        self.now
    }

    fn wait(&mut self, until: Nanos) -> Result<(), TransportError> {
        if self.news.is_empty() {
            self.now = until.min(self.now + 20_000);
        }
        for slot in 0..CONNECTIONS {
            let asked = &mut self.asked[slot as usize];
            for line in asked.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                let digits = line.iter().filter(|byte| byte.is_ascii_digit());
                let key = digits.fold(0, |key, digit| key * 10 + u32::from(digit - b'0'));
                self.answers[slot as usize].push(key);
            }
            if !asked.is_empty() {
                self.news.push((slot, News::Readable));
            }
            asked.clear();
        }
        Ok(())
    }

    fn news(&mut self) -> Option<(Slot, News)> {
        self.news.pop()
    }

    fn open(&mut self, slot: Slot) -> Result<(), TransportError> {
        self.news.push((slot, News::Opened));
        Ok(())
    }

    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos)) {
        for &key in &self.answers[slot as usize] {
            take(&self.replies[key as usize], self.now);
        }
        self.answers[slot as usize].clear();
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        self.asked[slot as usize].extend_from_slice(bytes);
        bytes.len()
    }

    fn close(&mut self, _: Slot, _: Close) {}

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

fn measure(name: &str, popularity: Popularity, depth: usize, rate: Option<f64>, batches: usize) {
    let keyspace = Keyspace::new(KEYS, Size::Fixed(30), Size::Fixed(100), 1);
    let codec = Codec::new(keyspace, popularity, 1);
    let mut transport = Canned::new(&codec);
    let settings = Settings {
        server: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        slots: CONNECTIONS as usize,
        timeout: 10_000_000_000,
        close: Close::InOrder,
    };
    let mut engine = Engine::new(settings, codec);
    let failed = "the canned transport never fails";
    engine.start_opening(0..CONNECTIONS, &mut transport).expect(failed);
    while !engine.is_done() {
        transport.wait(engine.deadline()).expect(failed);
        engine.turn(&mut transport).expect(failed);
    }
    engine.take_tally();
    let pace = rate.map_or(Pace::Closed { end: None }, |rate| Pace::Open {
        arrivals: Arrivals::new(Gaps::Poisson, rate, (1, 0), transport.now, None, u64::MAX),
        backlog: Backlog::new(CONNECTIONS as usize, 65_536),
    });
    let workload = Workload::draw(1, 0, Mix { get: 1, set: 0 }, popularity, false, u64::MAX);
    let assign = Xoshiro256PlusPlus::seed_from_u64(1);
    engine.start_steady((CONNECTIONS, depth), workload, pace, assign, true, &mut transport);
    let mut costs = Vec::with_capacity(batches);
    for _ in 0..batches {
        let (mut cycles, before) = (0, engine.tally().requests());
        for _ in 0..TURNS_A_BATCH {
            transport.wait(engine.deadline()).expect(failed);
            let begun = cpu::cycles();
            engine.turn(&mut transport).expect(failed);
            cycles += cpu::cycles() - begun;
        }
        let requests = engine.tally().requests() - before;
        if requests > 0 {
            costs.push(cycles as f64 / requests as f64);
        }
    }
    assert_eq!((engine.tally().wrong, engine.tally().misses), (0, 0));
    costs.sort_by(f64::total_cmp);
    let requests = engine.tally().requests();
    println!(
        "{name}: {:.0} cycles a request at least, median {:.0}; {requests} requests",
        costs[0],
        costs[costs.len() / 2]
    );
}

fn main() {
    let batches = std::env::args().nth(1).map_or(2_000, |batches| batches.parse().expect("a number of batches"));
    let only = std::env::args().nth(2);
    let uniform = Popularity::Uniform(KEYS);
    println!("GET of 30 B keys, 100 B values, {CONNECTIONS} connections; the engine alone");
    let zipf = Popularity::Zipf(Zipf::new(KEYS, 0.99));
    for (name, popularity, depth, rate) in [
        ("closed loop, depth 1", uniform, 1, None),
        ("closed loop, depth 16", uniform, 16, None),
        ("closed loop, depth 1, zipf 0.99", zipf, 1, None),
        ("open loop, 1 M/s", uniform, 16, Some(1e6)),
    ] {
        if only.as_deref().is_none_or(|only| only == name) {
            measure(name, popularity, depth, rate, batches);
        }
    }
}
