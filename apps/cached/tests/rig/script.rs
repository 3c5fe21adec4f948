//! What one client asks and what it must be told: a seeded stream of requests over its own keys and the shared ones.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// Keys that every client reads and none writes.
pub const SHARED_KEYS: u32 = 64;

/// Keys of a client's own.
const OWN_KEYS: u32 = 12;

/// The value of a shared key: up to some KiB.
pub fn shared_value(key: u32) -> Vec<u8> {
    value(u64::from(key) << 32, (key as usize * 131) % 6_000)
}

/// Bytes that tell where they come from, and are no number whatever stands before them.
fn value(tag: u64, bytes: usize) -> Vec<u8> {
    let word = |at: usize| (tag ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (0..bytes).map(|at| if at == 0 { b'v' } else { (word(at / 8) >> (at % 8 * 8)) as u8 }).collect()
}

/// The requests that store the shared keys, without replies.
pub fn store_shared() -> Vec<u8> {
    let mut all = Vec::new();
    for key in 0..SHARED_KEYS {
        store(&mut all, "set", &format!("shared-{key}"), key, &shared_value(key), true);
    }
    all
}

fn store(out: &mut Vec<u8>, command: &str, key: &str, flags: u32, value: &[u8], noreply: bool) {
    let noreply = if noreply { " noreply" } else { "" };
    out.extend(format!("{command} {key} {flags} 0 {}{noreply}\r\n", value.len()).bytes());
    out.extend(value);
    out.extend(b"\r\n");
}

fn hit(out: &mut Vec<u8>, key: &str, flags: u32, value: &[u8]) {
    out.extend(format!("VALUE {key} {flags} {}\r\n", value.len()).bytes());
    out.extend(value);
    out.extend(b"\r\n");
}

/// One client's requests, and what its keys hold.
pub struct Script {
    client: u16,
    rng: Xoshiro256PlusPlus,
    model: BTreeMap<u32, (u32, Vec<u8>)>,
    /// Requests made; a multi-get is one.
    pub requests: u64,
}

impl Script {
    pub fn new(client: u16, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ u64::from(client) << 40);
        Self { client, rng, model: BTreeMap::new(), requests: 0 }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32() % limit
    }

    fn own(&self, key: u32) -> String {
        format!("own-{}-{key}", self.client)
    }

    fn length(&mut self) -> usize {
        let most = [1, 40, 200, 1_000, 1_600, 4_000, 9_000][self.below(7) as usize];
        self.below(most) as usize
    }

    /// Up to eight requests to be sent at once, and the bytes that answer them.
    pub fn batch(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (mut ask, mut answer) = (Vec::new(), Vec::new());
        for _ in 0..=self.below(8) {
            self.request(&mut ask, &mut answer);
        }
        if answer.is_empty() {
            // All without reply: ask for a sign that they were done.
            self.fetch(1, &mut ask, &mut answer);
        }
        (ask, answer)
    }

    fn request(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        match self.below(20) {
            0..=4 => self.set(ask, answer),
            5..=11 => self.fetch(1, ask, answer),
            12..=13 => {
                let keys = 2 + self.below(30);
                self.fetch(keys, ask, answer);
            }
            14..=15 => self.count(ask, answer),
            16 => self.delete(ask, answer),
            17 => self.append(ask, answer),
            18 => self.add(ask, answer),
            _ => self.touch(ask, answer),
        }
    }

    fn set(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        let (key, flags, noreply) = (self.below(OWN_KEYS), self.below(1 << 16), self.below(4) == 0);
        let value = if self.below(4) == 0 {
            u64::from(self.below(1_000_000)).to_string().into_bytes()
        } else {
            let length = self.length();
            value(self.rng.next_u64(), length)
        };
        store(ask, "set", &self.own(key), flags, &value, noreply);
        self.model.insert(key, (flags, value));
        if !noreply {
            answer.extend(b"STORED\r\n");
        }
    }

    fn add(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        let (key, length) = (self.below(OWN_KEYS), self.length());
        let value = value(self.rng.next_u64(), length);
        store(ask, "add", &self.own(key), 7, &value, false);
        match self.model.entry(key) {
            Entry::Occupied(_) => answer.extend(b"NOT_STORED\r\n"),
            Entry::Vacant(place) => {
                place.insert((7, value));
                answer.extend(b"STORED\r\n");
            }
        }
    }

    fn append(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        let (key, length) = (self.below(OWN_KEYS), self.length().min(500));
        let more = value(self.rng.next_u64(), length);
        store(ask, "append", &self.own(key), 0, &more, false);
        match self.model.get_mut(&key) {
            Some((_, value)) => {
                value.extend(&more);
                answer.extend(b"STORED\r\n");
            }
            None => answer.extend(b"NOT_STORED\r\n"),
        }
    }

    fn fetch(&mut self, keys: u32, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        ask.extend(b"get");
        for _ in 0..keys {
            if self.below(3) == 0 {
                let key = self.below(SHARED_KEYS);
                ask.extend(format!(" shared-{key}").bytes());
                hit(answer, &format!("shared-{key}"), key, &shared_value(key));
                continue;
            }
            let key = self.below(OWN_KEYS);
            let name = self.own(key);
            ask.extend(format!(" {name}").bytes());
            if let Some((flags, value)) = self.model.get(&key) {
                hit(answer, &name, *flags, value);
            }
        }
        ask.extend(b"\r\n");
        answer.extend(b"END\r\n");
    }

    fn count(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        let (key, by) = (self.below(OWN_KEYS), self.below(1_000));
        let name = self.own(key);
        ask.extend(format!("incr {name} {by}\r\n").bytes());
        let Some((_, value)) = self.model.get_mut(&key) else { return answer.extend(b"NOT_FOUND\r\n") };
        match std::str::from_utf8(value).unwrap_or_default().parse::<u64>() {
            Ok(number) => {
                *value = (number + u64::from(by)).to_string().into_bytes();
                answer.extend(value.iter());
                answer.extend(b"\r\n");
            }
            Err(_) => answer.extend(b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        }
    }

    fn delete(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        let key = self.below(OWN_KEYS);
        ask.extend(format!("delete {}\r\n", self.own(key)).bytes());
        answer.extend(if self.model.remove(&key).is_some() { &b"DELETED\r\n"[..] } else { b"NOT_FOUND\r\n" });
    }

    fn touch(&mut self, ask: &mut Vec<u8>, answer: &mut Vec<u8>) {
        self.requests += 1;
        let key = self.below(OWN_KEYS);
        ask.extend(format!("touch {} 0\r\n", self.own(key)).bytes());
        answer.extend(if self.model.contains_key(&key) { &b"TOUCHED\r\n"[..] } else { b"NOT_FOUND\r\n" });
    }

    /// Keys that the cache must hold of this client.
    pub fn items(&self) -> usize {
        self.model.len()
    }
}
