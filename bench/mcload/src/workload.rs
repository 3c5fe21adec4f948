//! Which request comes next: all keys once (load), every n-th key (read back), or a seeded mix (measure).

use std::str::FromStr;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::keyspace::KeyNumber;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `get KEY`; a miss is counted, not wrong.
    Get,
    /// `set KEY FLAGS 0 BYTES`, always with the key's one value.
    Set,
}

/// One request, before it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// To which key.
    pub key: KeyNumber,
}

/// Shares of the operations in the measured phase; the shares need not add up to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Share of gets.
    pub get: u32,
    /// Share of sets.
    pub set: u32,
}

/// A mix that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--mix is '{text}'; it must look like get=90,set=10 with at least one share above 0 and each at most 1000000")]
pub struct MixError {
    text: String,
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let wrong = || MixError { text: text.to_owned() };
        let mut mix = Mix { get: 0, set: 0 };
        for part in text.split(',') {
            let (name, share) = part.trim().split_once('=').ok_or_else(wrong)?;
            let share: u32 = share.trim().parse().map_err(|_| wrong())?;
            let place = match name.trim() {
                "get" => &mut mix.get,
                "set" => &mut mix.set,
                _ => return Err(wrong()),
            };
            if share > 1_000_000 || *place != 0 {
                return Err(wrong());
            }
            *place = share;
        }
        if mix.get + mix.set == 0 { Err(wrong()) } else { Ok(mix) }
    }
}

/// The requests of one connection in one phase, in order.
#[derive(Debug, Clone)]
pub enum Workload {
    /// Walk over `next, next + step, ...` below `end`, doing the same to each.
    Walk {
        /// What to do.
        operation: Operation,
        /// The next key.
        next: KeyNumber,
        /// Distance to the one after.
        step: u64,
        /// First key not walked.
        end: KeyNumber,
    },
    /// Draw operation and key at random, `left` more times.
    Draw {
        /// Source of the draws.
        rng: Xoshiro256PlusPlus,
        /// Shares of the operations.
        mix: Mix,
        /// How many keys there are.
        keys: u64,
        /// How many requests are still to come.
        left: u64,
    },
}

impl Workload {
    /// A seeded mix of `left` requests for connection number `connection`; each connection draws a stream of its own.
    pub fn draw(seed: u64, connection: u32, mix: Mix, keys: u64, left: u64) -> Self {
        let stream = seed ^ (u64::from(connection) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Workload::Draw { rng: Xoshiro256PlusPlus::seed_from_u64(stream), mix, keys, left }
    }

    /// No request comes after this call.
    pub fn stop(&mut self) {
        match self {
            Workload::Walk { next, end, .. } => *next = *end,
            Workload::Draw { left, .. } => *left = 0,
        }
    }
}

impl Iterator for Workload {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        match self {
            Workload::Walk { operation, next, step, end } => {
                if *next >= *end {
                    return None;
                }
                let key = *next;
                *next = next.saturating_add(*step);
                Some(Request { operation: *operation, key })
            }
            Workload::Draw { rng, mix, keys, left } => {
                *left = left.checked_sub(1)?;
                let total = u64::from(mix.get) + u64::from(mix.set);
                let operation = if below(rng, total) < u64::from(mix.get) { Operation::Get } else { Operation::Set };
                Some(Request { operation, key: below(rng, *keys) })
            }
        }
    }
}

/// A number below `bound`, by Lemire's multiplication; the bias is below `bound / 2^64`.
fn below(rng: &mut impl RngCore, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_of_all_connections_together_visit_every_key_once() {
        let mut seen = vec![0; 100];
        for connection in 0..7 {
            for request in (Workload::Walk { operation: Operation::Set, next: connection, step: 7, end: 100 }) {
                seen[request.key as usize] += 1;
            }
        }
        assert_eq!(seen, vec![1; 100]);
    }

    #[test]
    fn a_drawn_mix_keeps_its_shares_its_length_and_its_seed() {
        let mix = "get=3,set=1".parse().unwrap();
        let requests: Vec<_> = Workload::draw(5, 0, mix, 10, 10_000).collect();
        let gets = requests.iter().filter(|request| request.operation == Operation::Get).count();
        assert_eq!(requests.len(), 10_000);
        assert!((7_200..7_800).contains(&gets), "{gets} gets of 10000");
        assert!(requests.iter().all(|request| request.key < 10));
        assert_eq!(requests, Workload::draw(5, 0, mix, 10, 10_000).collect::<Vec<_>>());
        assert_ne!(requests, Workload::draw(5, 1, mix, 10, 10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_mix_that_says_nothing_or_twice_is_refused() {
        for text in ["", "get", "get=0,set=0", "get=1,get=2", "get=-1", "put=1", "get=1000001"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        assert_eq!("set=1".parse::<Mix>().unwrap(), Mix { get: 0, set: 1 });
    }

    #[test]
    fn a_stopped_workload_has_no_more_requests() {
        let mut workload = Workload::draw(5, 0, Mix { get: 1, set: 0 }, 10, 10);
        workload.stop();
        assert_eq!(workload.next(), None);
    }
}
