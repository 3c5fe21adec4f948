//! Which request comes next: all keys once (load), every n-th key (read back), or a seeded mix (measure).

use std::str::FromStr;

use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

use crate::keyspace::KeyNumber;
use crate::popularity::{Popularity, below};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `get KEY`; a miss is counted, not wrong.
    Get,
    /// `get KEY KEY ...`, of as many keys as the run says.
    MultiGet,
    /// `set KEY FLAGS 0 BYTES`, always with the key's one value.
    Set,
}

/// One request, before it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// To which key; of a multi-get, the number that its keys are drawn from, see [`MultiGet`].
    pub key: KeyNumber,
}

/// The keys of one multi-get, drawn anew from its number whenever they are needed, so that none need be kept.
#[derive(Debug, Clone)]
pub struct MultiGet {
    popularity: Popularity,
    rng: SplitMix64,
    left: u32,
}

impl MultiGet {
    /// The `count` keys of multi-get `number`.
    pub fn new(popularity: Popularity, number: u64, count: u32) -> Self {
        Self { popularity, rng: SplitMix64::seed_from_u64(number), left: count }
    }
}

impl Iterator for MultiGet {
    type Item = KeyNumber;

    #[inline]
    fn next(&mut self) -> Option<KeyNumber> {
        self.left = self.left.checked_sub(1)?;
        Some(self.popularity.draw(&mut self.rng))
    }
}

/// Shares of the operations in the measured phase; the shares need not add up to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Share of gets.
    pub get: u32,
    /// Share of sets.
    pub set: u32,
}

impl FromStr for Mix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "it must look like get=90,set=10 with at least one share above 0 and each at most 1000000";
        let mut mix = Mix { get: 0, set: 0 };
        for part in text.split(',') {
            let (name, share) = part.trim().split_once('=').ok_or(FORM)?;
            let place = match name.trim() {
                "get" => &mut mix.get,
                "set" => &mut mix.set,
                _ => return Err(FORM),
            };
            let share = share.trim().parse().ok().filter(|share| *share <= 1_000_000 && *place == 0);
            *place = share.ok_or(FORM)?;
        }
        if mix.get + mix.set == 0 { Err(FORM) } else { Ok(mix) }
    }
}

/// The requests of one worker in one phase, in order.
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
        /// How often each key is drawn.
        popularity: Popularity,
        /// Whether a get asks for several keys.
        multi: bool,
        /// How many requests are still to come.
        left: u64,
    },
}

impl Workload {
    /// A seeded mix of `left` requests for worker number `worker`; each draws a stream of its own.
    pub fn draw(seed: u64, worker: u32, mix: Mix, popularity: Popularity, multi: bool, left: u64) -> Self {
        let stream = seed ^ (u64::from(worker) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Workload::Draw { rng: Xoshiro256PlusPlus::seed_from_u64(stream), mix, popularity, multi, left }
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

    #[inline]
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
            Workload::Draw { rng, mix, popularity, multi, left } => {
                *left = left.checked_sub(1)?;
                let total = u64::from(mix.get) + u64::from(mix.set);
                if below(rng, total) >= u64::from(mix.get) {
                    Some(Request { operation: Operation::Set, key: popularity.draw(rng) })
                } else if *multi {
                    Some(Request { operation: Operation::MultiGet, key: rng.next_u64() })
                } else {
                    Some(Request { operation: Operation::Get, key: popularity.draw(rng) })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_of_all_workers_together_visit_every_key_once() {
        let mut seen = vec![0; 100];
        for worker in 0..7 {
            for request in (Workload::Walk { operation: Operation::Set, next: worker, step: 7, end: 100 }) {
                seen[request.key as usize] += 1;
            }
        }
        assert_eq!(seen, vec![1; 100]);
    }

    #[test]
    fn a_drawn_mix_keeps_its_shares_its_length_and_its_seed() {
        let mix = "get=3,set=1".parse().unwrap();
        let draw = |worker| Workload::draw(5, worker, mix, Popularity::Uniform(10), false, 10_000);
        let requests: Vec<_> = draw(0).collect();
        let gets = requests.iter().filter(|request| request.operation == Operation::Get).count();
        assert_eq!(requests.len(), 10_000);
        assert!((7_200..7_800).contains(&gets), "{gets} gets of 10000");
        assert!(requests.iter().all(|request| request.key < 10));
        assert_eq!(requests, draw(0).collect::<Vec<_>>());
        assert_ne!(requests, draw(1).collect::<Vec<_>>());
    }

    #[test]
    fn the_keys_of_a_multi_get_can_be_had_again_from_its_number() {
        let keys = |number| MultiGet::new(Popularity::Uniform(1_000), number, 10).collect::<Vec<_>>();
        assert_eq!(keys(1).len(), 10);
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
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
        let mut workload = Workload::draw(5, 0, Mix { get: 1, set: 0 }, Popularity::Uniform(10), false, 10);
        workload.stop();
        assert_eq!(workload.next(), None);
    }
}
