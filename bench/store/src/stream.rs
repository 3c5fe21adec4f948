//! Streams of keys asked for, as measured at Facebook and Twitter: which key comes next, and how long it and its value
//! are.
//!
//! Every stream is of gets alone; what misses is set. It begins by asking for every key once, in an order that has
//! nothing to do with popularity, so that what is missed later was there before. All of it follows from the seed. Read
//! first: Atikoglu et al., "Workload analysis of a large-scale key-value store" (SIGMETRICS 2012); Yang, Yue and
//! Rashmi, "A large scale analysis of hundreds of in-memory cache clusters at Twitter" (OSDI 2020).

use mcload::keyspace::{mix, put_number};
use mcload::popularity::{Popularity, Zipf, below};
use mcload::sizes::Size;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::Serialize;

/// Bytes beside key and value that the number of keys is reckoned with.
const BESIDE_BYTES: u64 = 24;
/// Items whose mean size is taken.
const SAMPLE: u64 = 20_000;

/// How many times a stream's keys would fill the memory, unless asked otherwise.
pub const SPREAD: u64 = 8;

/// A kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Profile {
    /// Its name on the command line.
    pub name: &'static str,
    /// How long keys are; `None` is ETC's distribution.
    pub key_bytes: Option<usize>,
    /// How long values are; `None` is ETC's distribution.
    pub value_bytes: Option<usize>,
    /// Zipf's exponent.
    pub exponent: f64,
    /// Of 1000 requests, so many ask for a key that is asked for once.
    pub one_hit_per_mille: u64,
    /// Time to live of half of the keys and of the other half, in seconds.
    pub ttl_secs: [u32; 2],
    /// Whether each key's popularity passes to another key once in half of the stream.
    pub drift: bool,
}

/// Every profile. Twitter's numbers are the clusters of the paper.
pub const PROFILES: [Profile; 8] = [
    Profile::new("etc", None, None, 0.99),
    Profile { ttl_secs: [86_400, 43_200], ..Profile::new("c52", Some(20), Some(273), 1.21) },
    Profile { ttl_secs: [3_600, 7_200], ..Profile::new("c29", Some(36), Some(799), 1.23) },
    Profile { one_hit_per_mille: 160, ..Profile::new("c45", Some(10), Some(120), 0.64) },
    Profile { drift: true, ..Profile::new("etc-drift", None, None, 0.99) },
    Profile { drift: true, ttl_secs: [86_400, 43_200], ..Profile::new("c52-drift", Some(20), Some(273), 1.21) },
    Profile { drift: true, ttl_secs: [3_600, 7_200], ..Profile::new("c29-drift", Some(36), Some(799), 1.23) },
    Profile { drift: true, one_hit_per_mille: 160, ..Profile::new("c45-drift", Some(10), Some(120), 0.64) },
];

impl Profile {
    const fn new(name: &'static str, key_bytes: Option<usize>, value_bytes: Option<usize>, exponent: f64) -> Profile {
        Profile { name, key_bytes, value_bytes, exponent, one_hit_per_mille: 0, ttl_secs: [0; 2], drift: false }
    }

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Profile> {
        PROFILES.into_iter().find(|profile| profile.name == name)
    }
}

/// One key of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Its number; no two keys share one.
    pub number: u64,
    /// Bytes of its key.
    pub key_bytes: u32,
    /// Bytes of its value.
    pub value_bytes: u32,
    /// Its time to live in seconds; 0 is for ever.
    pub ttl_secs: u32,
}

impl Asked {
    /// Writes the key: its number, right-aligned behind `k`s.
    pub fn write_key<'a>(&self, buffer: &'a mut [u8; 250]) -> &'a [u8] {
        let key = &mut buffer[..self.key_bytes as usize];
        key.fill(b'k');
        put_number(self.number, key);
        key
    }
}

/// The requests of one profile, sized for a memory.
#[derive(Debug, Clone)]
pub struct Stream {
    profile: Profile,
    popularity: Popularity,
    keys: u64,
    /// The walk over all keys: where it is, and its step.
    walked: u64,
    step: u64,
    requests: u64,
    at: u64,
    once: u64,
    rng: Xoshiro256PlusPlus,
    seed: u64,
}

impl Stream {
    /// One request for each of as many keys as would fill `bytes`, then `requests` drawn ones.
    pub fn new(profile: Profile, bytes: u64, requests: u64, seed: u64) -> Stream {
        let mut stream = Stream {
            profile,
            popularity: Popularity::Uniform(1),
            keys: 1,
            walked: 0,
            step: 1,
            requests,
            at: 0,
            once: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            seed,
        };
        let sampled: u64 = (0..SAMPLE)
            .map(|number| stream.describe(number))
            .map(|asked| u64::from(asked.key_bytes + asked.value_bytes) + BESIDE_BYTES)
            .sum();
        stream.keys = (bytes * SAMPLE / sampled).max(1);
        stream.step = coprime(stream.keys, stream.keys as f64 * 0.618);
        stream.popularity = Popularity::Zipf(Zipf::new(stream.keys, profile.exponent));
        stream
    }

    /// How many requests there are in all.
    pub fn len(&self) -> u64 {
        self.keys + self.requests
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From which request on misses count: half of those drawn are for settling.
    pub fn counted_from(&self) -> u64 {
        self.keys + self.requests / 2
    }

    /// How many keys are asked for again and again.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    fn describe(&self, number: u64) -> Asked {
        let bits = mix(self.seed ^ mix(number));
        let size = |fixed: Option<usize>| fixed.map_or(Size::Etc, Size::Fixed);
        Asked {
            number,
            key_bytes: size(self.profile.key_bytes).key(mix(bits ^ 1)) as u32,
            value_bytes: size(self.profile.value_bytes).value(mix(bits ^ 2)) as u32,
            ttl_secs: self.profile.ttl_secs[(bits & 1) as usize],
        }
    }
}

impl Iterator for Stream {
    type Item = Asked;

    fn next(&mut self) -> Option<Asked> {
        if self.walked < self.keys {
            let number = (u128::from(self.walked) * u128::from(self.step) % u128::from(self.keys)) as u64;
            self.walked += 1;
            return Some(self.describe(number));
        }
        if self.at == self.requests {
            return None;
        }
        self.at += 1;
        if self.profile.one_hit_per_mille != 0 && below(&mut self.rng, 1000) < self.profile.one_hit_per_mille {
            self.once += 1;
            return Some(self.describe(self.keys * 8 + self.once));
        }
        let rank = self.popularity.draw(&mut self.rng);
        let generation = if self.profile.drift {
            // Each rank passes on at its own time.
            let life = (self.requests / 2).max(1);
            (self.at + mix(rank) % life) / life
        } else {
            0
        };
        Some(self.describe(rank + generation * self.keys))
    }
}

/// A number near `near` that shares no factor with `keys`.
fn coprime(keys: u64, near: f64) -> u64 {
    let shares_none = |&step: &u64| {
        let (mut a, mut b) = (keys, step);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    (near as u64 + 1..).find(shares_none).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn stream(name: &str) -> Stream {
        Stream::new(Profile::named(name).unwrap(), 32 << 20, 200_000, 5)
    }

    #[test]
    fn a_seed_makes_one_stream() {
        for profile in PROFILES {
            let (one, same): (Vec<_>, Vec<_>) = (stream(profile.name).collect(), stream(profile.name).collect());
            assert_eq!((one.len() as u64, one == same), (stream(profile.name).len(), true));
            let other: Vec<_> = Stream::new(profile, 32 << 20, 200_000, 6).collect();
            assert_ne!(one, other);
        }
    }

    #[test]
    fn about_half_of_c45s_keys_are_asked_for_once() {
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let stream = stream("c45");
        let keys = stream.keys();
        stream.skip(keys as usize).for_each(|asked| *counts.entry(asked.number).or_default() += 1);
        let once = counts.keys().filter(|&&number| number > keys * 8).count();
        assert!((once as f64 / 200_000.0 - 0.16).abs() < 0.005);
        assert!(counts.iter().all(|(&number, &count)| number <= keys * 8 || count == 1));
    }

    #[test]
    fn the_keys_would_fill_the_bytes() {
        for name in ["etc", "c52", "c29", "c45"] {
            let stream = stream(name);
            let bytes: u64 = (0..stream.keys())
                .map(|number| stream.describe(number))
                .map(|asked| u64::from(asked.key_bytes + asked.value_bytes) + BESIDE_BYTES)
                .sum();
            let factor = bytes as f64 / f64::from(32 << 20);
            assert!((0.9..1.1).contains(&factor), "{name}: {factor}");
        }
    }

    #[test]
    fn the_first_requests_ask_for_every_key_once() {
        let stream = stream("c29");
        let keys = stream.keys();
        let numbers: HashSet<u64> = stream.take(keys as usize).map(|asked| asked.number).collect();
        assert_eq!((numbers.len() as u64, numbers.iter().max()), (keys, Some(&(keys - 1))));
    }

    #[test]
    fn keys_differ_and_have_their_length() {
        let mut seen = HashSet::new();
        for asked in stream("etc").take(20_000).collect::<HashSet<_>>() {
            let mut buffer = [0; 250];
            let key = asked.write_key(&mut buffer);
            assert_eq!(key.len(), asked.key_bytes as usize);
            assert!(seen.insert(key.to_vec()));
        }
    }
}
