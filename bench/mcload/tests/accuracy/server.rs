//! A memcached whose faults are known exactly: what it does to a request, and when the reply leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mcload::transport::{Nanos, Slot};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

pub const MICRO: Nanos = 1_000;
pub const MILLI: Nanos = 1_000_000;
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
    /// The n-th measured request gets a reply with one bit flipped.
    pub garble: Option<u64>,
    /// The generator's thread is kept from running: each wait ends so much later than asked.
    pub oversleep: Nanos,
}

impl Faults {
    pub const fn none(delay: Delay) -> Self {
        Self { delay, drop: 0.0, stall: None, refuse_every: 0, ignore_every: 0, kill: None, garble: None, oversleep: 0 }
    }
}

/// What the server itself knows it has done; outlives the transport.
#[derive(Debug, Default)]
pub struct Truth {
    pub requests: AtomicU64,
    pub dropped: AtomicU64,
    pub refused: AtomicU64,
    pub ignored: AtomicU64,
    /// How often the generator has waited while it measured.
    pub waits: AtomicU64,
}

/// What becomes of a request.
#[derive(Debug)]
pub struct Served {
    /// The reply and when it leaves; `None`: it is lost.
    pub reply: Option<(Nanos, Vec<u8>)>,
    /// A connection that is to be reset now.
    pub kill: Option<Slot>,
}

/// The server, behind any transport.
pub struct Server {
    pub faults: Faults,
    pub truth: Arc<Truth>,
    /// Requests of loading and reading back, which meet no faults.
    spared: u64,
    items: HashMap<Vec<u8>, Vec<u8>>,
    rng: Xoshiro256PlusPlus,
    stalled_until: Nanos,
}

impl Server {
    pub fn new(faults: Faults, spared: u64, seed: u64, truth: Arc<Truth>) -> Self {
        println!("seed {seed}");
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { faults, truth, spared, items: HashMap::new(), rng, stalled_until: 0 }
    }

    /// Whether loading and reading back are over.
    pub fn is_measuring(&self) -> bool {
        self.truth.requests.load(Ordering::Relaxed) >= self.spared
    }

    /// Takes the first request off `bytes` and serves it; `None` while it is not whole. A connection's replies keep
    /// their order: `last_reply` is when the one before leaves, and is moved on.
    pub fn serve(&mut self, now: Nanos, bytes: &mut Vec<u8>, last_reply: &mut Nanos) -> Option<Served> {
        let (used, mut reply) = self.execute(bytes)?;
        bytes.drain(..used);
        let number = self.truth.requests.fetch_add(1, Ordering::Relaxed).checked_sub(self.spared);
        if let (Some(number), Some((at, length))) = (number, self.faults.stall)
            && number == at
        {
            self.stalled_until = now + length;
        }
        if number.is_some() && number == self.faults.garble {
            let middle = reply.len() / 2;
            reply[middle] ^= 1;
        }
        let kill = self.faults.kill.filter(|&(at, _)| number == Some(at)).map(|(_, victim)| victim);
        if number.is_some() && self.faults.drop > 0.0 && self.unit() < self.faults.drop {
            self.truth.dropped.fetch_add(1, Ordering::Relaxed);
            return Some(Served { reply: None, kill });
        }
        let at = (now.max(self.stalled_until) + self.delay()).max(*last_reply);
        *last_reply = at;
        Some(Served { reply: Some((at, reply)), kill })
    }

    fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
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

    /// The length of the first request and the reply to it.
    fn execute(&mut self, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
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
