//! Seeded commands of one client over keys of its own, with the replies that a cache owes it.

use std::collections::HashMap;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

struct Item {
    value: Vec<u8>,
    flags: u32,
}

/// Writes commands and the replies to them.
pub struct Script {
    rng: Xoshiro256PlusPlus,
    prefix: String,
    keys: usize,
    value_max: usize,
    items: HashMap<String, Item>,
    pub sent: Vec<u8>,
    pub expected: Vec<u8>,
}

impl Script {
    /// A client whose keys begin with `prefix` and whose values have at most `value_max` bytes.
    pub fn new(seed: u64, prefix: &str, keys: usize, value_max: usize) -> Script {
        Script {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            prefix: prefix.to_owned(),
            keys,
            value_max,
            items: HashMap::new(),
            sent: Vec::new(),
            expected: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound.max(1) as u64) as usize
    }

    fn key(&mut self) -> String {
        let number = self.below(self.keys);
        // Keys of all lengths, up to the longest.
        format!("{}{number}{}", self.prefix, "_".repeat(if number.is_multiple_of(7) { 200 } else { number % 20 }))
    }

    fn value(&mut self) -> Vec<u8> {
        let bytes = match self.below(10) {
            0 => 0,
            1..6 => self.below(100),
            6..8 => self.below(self.value_max.min(2500)),
            _ => self.below(self.value_max),
        };
        let first = self.rng.next_u32();
        (0..bytes).map(|at| (first as usize + at * 7 + at / 256) as u8).collect()
    }

    fn say(&mut self, text: &str) {
        self.sent.extend_from_slice(text.as_bytes());
    }

    fn hear(&mut self, noreply: bool, text: &str) {
        if !noreply {
            self.expected.extend_from_slice(text.as_bytes());
            self.expected.extend_from_slice(b"\r\n");
        }
    }

    /// Adds `count` commands.
    pub fn extend(&mut self, count: usize) {
        for _ in 0..count {
            self.command();
        }
    }

    fn command(&mut self) {
        let noreply = self.below(4) == 0;
        let quiet = if noreply { " noreply" } else { "" };
        match self.below(100) {
            0..30 => self.store(noreply, quiet),
            30..60 => self.fetch(),
            60..68 => {
                let key = self.key();
                self.say(&format!("delete {key}{quiet}\r\n"));
                let found = self.items.remove(&key).is_some();
                self.hear(noreply, if found { "DELETED" } else { "NOT_FOUND" });
            }
            68..80 => self.arith(noreply, quiet),
            80..85 => {
                let key = self.key();
                self.say(&format!("touch {key} 0{quiet}\r\n"));
                let found = self.items.contains_key(&key);
                self.hear(noreply, if found { "TOUCHED" } else { "NOT_FOUND" });
            }
            85..88 => {
                self.say("version\r\n");
                self.hear(false, "VERSION 1.6.45-sidestep");
            }
            88..91 => {
                self.say(&format!("verbosity 1{quiet}\r\n"));
                self.hear(noreply, "OK");
            }
            91..94 => {
                self.say("nonsense\r\n");
                self.hear(false, "ERROR");
            }
            94..96 => {
                let key = self.key();
                self.say(&format!("incr {key} x\r\n"));
                self.hear(false, "CLIENT_ERROR invalid numeric delta argument");
            }
            _ => {
                // Too large for any item: swallowed, and what a set would have replaced is gone.
                let key = self.key();
                let bytes = 70_000 + self.below(3000);
                self.say(&format!("set {key} 0 0 {bytes}{quiet}\r\n"));
                self.sent.extend(std::iter::repeat_n(b'L', bytes));
                self.say("\r\n");
                self.items.remove(&key);
                self.hear(noreply, "SERVER_ERROR object too large for cache");
            }
        }
    }

    fn store(&mut self, noreply: bool, quiet: &str) {
        let (key, value, flags) = (self.key(), self.value(), self.rng.next_u32());
        let verb = ["set", "set", "set", "add", "replace", "append", "prepend"][self.below(7)];
        // The longer value must still be an item that may be.
        let grown = self.items.get(&key).map_or(0, |item| item.value.len()) + value.len();
        let verb = if grown > 60_000 { "set" } else { verb };
        self.say(&format!("{verb} {key} {flags} 0 {}{quiet}\r\n", value.len()));
        self.sent.extend_from_slice(&value);
        if self.below(20) == 0 {
            self.say("!!");
            self.hear(noreply, "CLIENT_ERROR bad data chunk");
            return;
        }
        self.say("\r\n");
        let old = self.items.get_mut(&key);
        let stored = match (verb, old) {
            ("set", _) | ("add", None) | ("replace", Some(_)) => {
                self.items.insert(key, Item { value, flags });
                true
            }
            ("append" | "prepend", Some(old)) => {
                let parts = if verb == "append" { [&old.value[..], &value] } else { [&value[..], &old.value] };
                old.value = parts.concat();
                true
            }
            _ => false,
        };
        self.hear(noreply, if stored { "STORED" } else { "NOT_STORED" });
    }

    fn fetch(&mut self) {
        let count = match self.below(4) {
            0 => 1 + self.below(60),
            _ => 1,
        };
        let verb = if self.below(5) == 0 { "gat 0" } else { "get" };
        self.say(verb);
        for _ in 0..count {
            let key = self.key();
            self.say(&format!(" {key}"));
            if let Some(item) = self.items.get(&key) {
                let header = format!("VALUE {key} {} {}\r\n", item.flags, item.value.len());
                self.expected.extend_from_slice(header.as_bytes());
                self.expected.extend_from_slice(&item.value);
                self.expected.extend_from_slice(b"\r\n");
            }
        }
        self.say("\r\n");
        self.hear(false, "END");
    }

    fn arith(&mut self, noreply: bool, quiet: &str) {
        let number = self.below(5);
        let key = format!("{}number{number}", self.prefix);
        let delta = u64::from(self.rng.next_u32());
        let increment = self.below(3) > 0;
        self.say(&format!("{} {key} {delta}{quiet}\r\n", if increment { "incr" } else { "decr" }));
        let Some(item) = self.items.get_mut(&key) else {
            self.hear(noreply, "NOT_FOUND");
            self.say(&format!("set {key} 1 0 1 noreply\r\n5\r\n"));
            self.items.insert(key, Item { value: b"5".to_vec(), flags: 1 });
            return;
        };
        let text = String::from_utf8_lossy(&item.value).trim_end().to_owned();
        let number: u64 = text.parse().expect("numbers stay numbers");
        let number = if increment { number.wrapping_add(delta) } else { number.saturating_sub(delta) };
        let mut digits = number.to_string().into_bytes();
        digits.resize(digits.len().max(item.value.len()), b' ');
        item.value = digits;
        self.hear(noreply, &number.to_string());
    }
}
