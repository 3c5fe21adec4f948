//! How often each key is asked for: all alike, or by Zipf's law.
//!
//! Zipf by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone
//! discrete distributions", ACM TOMACS 6(3), 1996): exact, no table, about one round a draw. Key 0 is the hottest.

use rand_xoshiro::rand_core::RngCore;

use crate::keyspace::KeyNumber;
use crate::sizes::unit;

/// Draws key numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Popularity {
    /// Each of so many keys with the same probability.
    Uniform(u64),
    /// Key `k` with a probability in proportion to `1 / (k + 1)^exponent`.
    Zipf(Zipf),
}

impl Popularity {
    /// The next key.
    #[inline]
    pub fn draw(&self, rng: &mut impl RngCore) -> KeyNumber {
        match self {
            Popularity::Uniform(keys) => below(rng, *keys),
            Popularity::Zipf(zipf) => zipf.draw(rng),
        }
    }
}

/// A number below `bound`, by Lemire's multiplication; the bias is below `bound / 2^64`.
#[inline]
pub fn below(rng: &mut impl RngCore, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// Zipf's law over a number of keys, with what its draws need worked out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zipf {
    keys: f64,
    exponent: f64,
    /// The integral of the hat from the first key's left edge, and up to the last key's right edge.
    first: f64,
    last: f64,
    /// Draws so close to their key need no second look.
    sure: f64,
}

impl Zipf {
    /// Largest exponent taken.
    pub const MAX_EXPONENT: f64 = 10.0;

    /// The law for `keys` keys, at least 1; `exponent` must be above 0 and at most [`Self::MAX_EXPONENT`].
    pub fn new(keys: u64, exponent: f64) -> Self {
        let mut zipf = Self { keys: keys as f64, exponent, first: 0.0, last: 0.0, sure: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.keys + 0.5);
        zipf.sure = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// The exponent.
    pub fn exponent(&self) -> f64 {
        self.exponent
    }

    #[inline]
    fn draw(&self, rng: &mut impl RngCore) -> KeyNumber {
        loop {
            let area = self.last + unit(rng.next_u64()) * (self.first - self.last);
            let x = self.integral_inverse(area);
            let rank = x.round().clamp(1.0, self.keys);
            if rank - x <= self.sure || area >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    #[inline]
    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the weight from 1 to `x`; continuous in the exponent, also where that is 1.
    #[inline]
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        if power.abs() > 1e-8 { power.exp_m1() / power * log } else { log }
    }

    #[inline]
    fn integral_inverse(&self, area: f64) -> f64 {
        // Rounding may carry the argument of the logarithm below 0 at the far end of a steep law.
        let power = (area * (1.0 - self.exponent)).max(-1.0);
        let log = if power.abs() > 1e-8 { power.ln_1p() / power * area } else { area };
        log.exp()
    }
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    const SEED: u64 = 21;

    fn counts(popularity: Popularity, keys: usize, draws: usize) -> Vec<u64> {
        println!("seed {SEED}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
        let mut counts = vec![0; keys];
        (0..draws).for_each(|_| counts[popularity.draw(&mut rng) as usize] += 1);
        counts
    }

    /// Within five standard deviations of what the law says of each of the first `ranks` keys, and of all the others.
    fn follows_the_law(exponent: f64, keys: usize, draws: usize, ranks: usize) {
        let total: f64 = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).sum();
        let counts = counts(Popularity::Zipf(Zipf::new(keys as u64, exponent)), keys, draws);
        let check = |what: &str, count: u64, share: f64| {
            let expected = share * draws as f64;
            let off = (count as f64 - expected).abs() / (expected * (1.0 - share)).sqrt().max(1.0);
            assert!(off < 5.0, "zipf {exponent} over {keys}, {what}: {count}, expected {expected}");
        };
        let mut rest = 1.0;
        for rank in 1..=ranks {
            let share = (rank as f64).powf(-exponent) / total;
            rest -= share;
            check(&format!("rank {rank}"), counts[rank - 1], share);
        }
        check("the rest", counts[ranks..].iter().sum(), rest);
    }

    #[test]
    fn zipf_follows_its_law_below_at_and_above_exponent_one() {
        for exponent in [0.3, 0.64, 0.99, 1.0, 1.21, 2.1] {
            follows_the_law(exponent, 100, 200_000, 50);
        }
        follows_the_law(0.99, 1, 100, 1);
        follows_the_law(0.99, 2, 10_000, 2);
    }

    #[test]
    fn the_hottest_ycsb_key_draws_its_published_share() {
        for (keys, share) in [(1_000_000, 0.065), (10_000_000, 0.055)] {
            let counts = counts(Popularity::Zipf(Zipf::new(keys, 0.99)), keys as usize, 2_000_000);
            let found = counts[0] as f64 / 2e6;
            assert!((found - share).abs() < 0.0006, "{keys} keys: {found}, published {share}");
            assert_eq!(counts.iter().max(), Some(&counts[0]));
        }
        follows_the_law(0.99, 1_000_000, 2_000_000, 100);
    }

    #[test]
    fn uniform_draws_are_even() {
        // 99 degrees of freedom: chi square is above 160 once in 10^4 seeds.
        let counts = counts(Popularity::Uniform(100), 100, 100_000);
        let chi: f64 = counts.iter().map(|&count| (count as f64 - 1_000.0).powi(2) / 1_000.0).sum();
        assert!(chi < 160.0, "{chi}");
    }
}
