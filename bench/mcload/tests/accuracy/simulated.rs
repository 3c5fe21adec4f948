//! A transport in memory with a virtual clock, and behind it a server whose faults are known exactly.
//!
//! Time stands still but in [`Transport::wait`], which moves it to the next thing that happens or to the moment the
//! engine asked for: a run of minutes takes as long as its requests take to compute, and repeats to the nanosecond.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mcload::transport::{Close, End, Nanos, News, Slot, Transport, TransportError};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

pub const MICRO: Nanos = 1_000;
pub const MILLI: Nanos = 1_000_000;
/// How long a handshake takes.
pub const HANDSHAKE: Nanos = 50 * MICRO;

/// How long the server takes for one reply.
#[derive(Debug, Clone, Copy)]
pub enum Delay {
    Constant(Nanos),
    /// `least` and an exponential part of mean `mean`.
    Exponential {
        least: Nanos,
        mean: Nanos,
    },
    /// `slow` for so many of 1,000 replies, drawn at random, `fast` for the others.
    TwoModes {
        fast: Nanos,
        slow: Nanos,
        slow_of_1000: u64,
    },
}

/// What the server does wrong, from the moment at which all keys have been loaded and the sample read back.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub delay: Delay,
    /// Share of the replies that are never sent.
    pub drop: f64,
    /// The n-th measured request finds the server stalled, and it stays so for this long.
    pub stall: Option<(u64, Nanos)>,
    /// Every n-th connection is refused.
    pub refuse_every: u64,
    /// Every n-th connection is not answered.
    pub ignore_every: u64,
    /// The n-th measured request makes the server reset this connection, which carries none.
    pub kill: Option<(u64, Slot)>,
    /// The generator's thread is kept from running: each wait ends so much later than asked.
    pub oversleep: Nanos,
}

impl Faults {
    pub const fn none(delay: Delay) -> Self {
        Self { delay, drop: 0.0, stall: None, refuse_every: 0, ignore_every: 0, kill: None, oversleep: 0 }
    }
}

/// What the server itself knows it has done; outlives the transport.
#[derive(Debug, Default)]
pub struct Truth {
    pub requests: AtomicU64,
    pub dropped: AtomicU64,
    pub refused: AtomicU64,
    pub ignored: AtomicU64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Opened,
    Refused,
    Reset,
    Reply(Vec<u8>),
}

#[derive(Debug, Default)]
struct Line {
    generation: u32,
    open: bool,
    request: Vec<u8>,
    inbox: VecDeque<Vec<u8>>,
    /// Replies of a connection keep their order.
    last_reply: Nanos,
}

pub struct Simulated {
    now: Nanos,
    faults: Faults,
    /// Requests of loading and reading back, which meet no faults.
    spared: u64,
    truth: Arc<Truth>,
    items: HashMap<Vec<u8>, Vec<u8>>,
    lines: Vec<Line>,
    events: BinaryHeap<Reverse<(Nanos, u64, Slot, u32, Event)>>,
    scheduled: u64,
    news: VecDeque<(Slot, News)>,
    rng: Xoshiro256PlusPlus,
    stalled_until: Nanos,
    opens: u64,
}

impl Simulated {
    pub fn new(slots: usize, faults: Faults, spared: u64, seed: u64, truth: Arc<Truth>) -> Self {
        println!("seed {seed}");
        Self {
            now: 0,
            faults,
            spared,
            truth,
            items: HashMap::new(),
            lines: (0..slots).map(|_| Line::default()).collect(),
            events: BinaryHeap::new(),
            scheduled: 0,
            news: VecDeque::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            stalled_until: 0,
            opens: 0,
        }
    }

    fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn schedule(&mut self, at: Nanos, slot: Slot, event: Event) {
        self.scheduled += 1;
        let generation = self.lines[slot as usize].generation;
        self.events.push(Reverse((at, self.scheduled, slot, generation, event)));
    }

    fn delay(&mut self) -> Nanos {
        match self.faults.delay {
            Delay::Constant(delay) => delay,
            Delay::Exponential { least, mean } => least + (-(1.0 - self.unit()).ln() * mean as f64) as Nanos,
            Delay::TwoModes { fast, slow, slow_of_1000 } => {
                if self.rng.next_u64() % 1_000 < slow_of_1000 {
                    slow
                } else {
                    fast
                }
            }
        }
    }

    /// Serves the whole requests at the front of what has come on `slot`.
    fn serve(&mut self, slot: Slot) {
        while let Some((used, reply)) = self.execute(slot) {
            self.lines[slot as usize].request.drain(..used);
            let number = self.truth.requests.fetch_add(1, Ordering::Relaxed);
            let measured = number.checked_sub(self.spared);
            if let (Some(number), Some((at, length))) = (measured, self.faults.stall)
                && number == at
            {
                self.stalled_until = self.now + length;
            }
            if let (Some(number), Some((at, victim))) = (measured, self.faults.kill)
                && number == at
            {
                self.schedule(self.now, victim, Event::Reset);
            }
            if measured.is_some() && self.faults.drop > 0.0 && self.unit() < self.faults.drop {
                self.truth.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let begun = self.now.max(self.stalled_until);
            let at = (begun + self.delay()).max(self.lines[slot as usize].last_reply);
            self.lines[slot as usize].last_reply = at;
            self.schedule(at, slot, Event::Reply(reply));
        }
    }

    /// The length of the first request and the reply to it; `None` while it is not whole.
    fn execute(&mut self, slot: Slot) -> Option<(usize, Vec<u8>)> {
        let bytes = &self.lines[slot as usize].request;
        let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
        let words: Vec<&[u8]> = bytes[..end - 2].split(|&byte| byte == b' ').collect();
        if words[0] == b"set" {
            let length: usize = std::str::from_utf8(words[4]).unwrap().parse().unwrap();
            let body = bytes.get(end..end + length + 2)?;
            let mut item = [b"VALUE ", words[1], b" ", words[2], b" ", words[4], b"\r\n"].concat();
            item.extend_from_slice(body);
            self.items.insert(words[1].to_vec(), item);
            return Some((end + length + 2, b"STORED\r\n".to_vec()));
        }
        let mut reply = Vec::new();
        words[1..].iter().filter_map(|key| self.items.get(*key)).for_each(|item| reply.extend_from_slice(item));
        reply.extend_from_slice(b"END\r\n");
        Some((end, reply))
    }
}

impl Transport for Simulated {
    fn now(&mut self) -> Nanos {
        self.now
    }

    fn wait(&mut self, until: Nanos) -> Result<(), TransportError> {
        if !self.news.is_empty() {
            return Ok(());
        }
        let next = self.events.peek().map_or(Nanos::MAX, |Reverse((at, ..))| *at);
        self.now = self.now.max(next.min(until)) + self.faults.oversleep;
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, slot, generation, event))) = self.events.pop() else { break };
            let line = &mut self.lines[slot as usize];
            if line.generation != generation {
                continue;
            }
            let news = match event {
                Event::Opened => {
                    line.open = true;
                    News::Opened
                }
                Event::Refused => News::Ended(End::Refused),
                Event::Reset => {
                    line.generation += 1;
                    line.open = false;
                    News::Ended(End::Reset)
                }
                Event::Reply(bytes) => {
                    line.inbox.push_back(bytes);
                    News::Readable
                }
            };
            self.news.push_back((slot, news));
        }
        Ok(())
    }

    fn news(&mut self) -> Option<(Slot, News)> {
        self.news.pop_front()
    }

    fn open(&mut self, slot: Slot) -> Result<(), TransportError> {
        self.lines[slot as usize] = Line { generation: self.lines[slot as usize].generation + 1, ..Line::default() };
        self.opens += 1;
        let nth = |every: u64| every > 0 && self.opens % every == 0;
        let measuring = self.truth.requests.load(Ordering::Relaxed) >= self.spared;
        if measuring && nth(self.faults.refuse_every) {
            self.truth.refused.fetch_add(1, Ordering::Relaxed);
            self.schedule(self.now + HANDSHAKE, slot, Event::Refused);
        } else if measuring && nth(self.faults.ignore_every) {
            self.truth.ignored.fetch_add(1, Ordering::Relaxed);
        } else {
            self.schedule(self.now + HANDSHAKE, slot, Event::Opened);
        }
        Ok(())
    }

    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos)) {
        while let Some(bytes) = self.lines[slot as usize].inbox.pop_front() {
            take(&bytes, self.now);
        }
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        let line = &mut self.lines[slot as usize];
        if !line.open {
            return 0;
        }
        line.request.extend_from_slice(bytes);
        self.serve(slot);
        bytes.len()
    }

    fn close(&mut self, slot: Slot, _: Close) {
        let line = &mut self.lines[slot as usize];
        line.open = false;
        line.generation += 1;
        line.inbox.clear();
        self.news.retain(|&(told, _)| told != slot);
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}
