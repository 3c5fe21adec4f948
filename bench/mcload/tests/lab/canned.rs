//! A transport that answers gets from replies made beforehand, at once and for next to nothing: what is left is the
//! engine's own cost.

use std::net::{Ipv4Addr, SocketAddr};

use mcload::arrivals::{Arrivals, Gaps};
use mcload::backlog::Backlog;
use mcload::codec::Codec;
use mcload::engine::phase::Pace;
use mcload::engine::{Engine, Settings};
use mcload::keyspace::Keyspace;
use mcload::popularity::Popularity;
use mcload::sizes::Size;
use mcload::transport::{Close, Nanos, News, Slot, Transport, TransportError};
use mcload::workload::{Mix, Workload};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

pub const KEYS: u64 = 10_000;
pub const CONNECTIONS: Slot = 32;
/// Why a call on this transport cannot fail.
pub const NEVER_FAILS: &str = "the canned transport never fails";

/// Answers gets of fixed-length keys at once.
pub struct Canned {
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

/// An engine in the middle of gets of 30 B keys with 100 B values: in an open loop if there is a `rate`.
pub fn steady(popularity: Popularity, depth: usize, rate: Option<f64>) -> (Engine, Canned) {
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
    engine.start_opening(0..CONNECTIONS, &mut transport).expect(NEVER_FAILS);
    while !engine.is_done() {
        transport.wait(engine.deadline()).expect(NEVER_FAILS);
        engine.turn(&mut transport).expect(NEVER_FAILS);
    }
    engine.take_tally();
    let pace = rate.map_or(Pace::Closed { end: None }, |rate| Pace::Open {
        arrivals: Arrivals::new(Gaps::Poisson, rate, (1, 0), transport.now(), None, u64::MAX),
        backlog: Backlog::new(CONNECTIONS as usize, 65_536),
    });
    let workload = Workload::draw(1, 0, Mix { get: 1, set: 0 }, popularity, false, u64::MAX);
    let assign = Xoshiro256PlusPlus::seed_from_u64(1);
    engine.start_steady((CONNECTIONS, depth), workload, pace, assign, true, &mut transport);
    (engine, transport)
}
