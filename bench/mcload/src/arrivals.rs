//! When requests are to be sent in an open loop: at random moments that do not depend on the server.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::sizes::{ETC_GAP, generalized_pareto, unit};
use crate::transport::Nanos;

/// The law of the gaps between arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Gaps {
    /// Exponential: arrivals are a Poisson process, as of many clients that do not know of each other.
    Poisson,
    /// Generalized Pareto with the shape of the ETC pool, scaled to the rate asked for: burstier.
    Etc,
}

/// The intended moments of one worker's requests.
#[derive(Debug, Clone)]
pub struct Arrivals {
    rng: Xoshiro256PlusPlus,
    gaps: Gaps,
    mean_gap: f64,
    /// The next moment; kept as a fraction so that no rounding adds up.
    next: f64,
    left: u64,
    end: Nanos,
}

impl Arrivals {
    /// At most `left` arrivals from `start` until before `end`, on average `per_second` (above 0); worker number
    /// `worker` draws a stream of its own.
    pub fn new(
        gaps: Gaps,
        per_second: f64,
        (seed, worker): (u64, u32),
        start: Nanos,
        end: Option<Nanos>,
        left: u64,
    ) -> Self {
        let stream = seed.rotate_left(32) ^ (u64::from(worker) + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut arrivals = Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(stream),
            gaps,
            mean_gap: 1e9 / per_second,
            next: start as f64,
            left,
            end: end.unwrap_or(Nanos::MAX),
        };
        arrivals.step();
        arrivals
    }

    fn step(&mut self) {
        let drawn = unit(self.rng.next_u64());
        self.next += match self.gaps {
            Gaps::Poisson => -(1.0 - drawn).ln() * self.mean_gap,
            // The mean of a generalized Pareto law from 0 is scale / (1 - shape).
            Gaps::Etc => generalized_pareto(0.0, self.mean_gap * (1.0 - ETC_GAP.1), ETC_GAP.1, drawn),
        };
    }

    /// The next intended moment; `None` when no arrival follows.
    #[inline]
    pub fn next(&self) -> Option<Nanos> {
        let next = self.next as Nanos;
        (self.left > 0 && next < self.end).then_some(next)
    }

    /// Takes the next arrival if it is due at `now`.
    #[inline]
    pub fn take_due(&mut self, now: Nanos) -> Option<Nanos> {
        let next = self.next().filter(|&next| next <= now)?;
        self.left -= 1;
        self.step();
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn gaps(law: Gaps, seed: u64, count: u64) -> Vec<f64> {
        let mut arrivals = Arrivals::new(law, 50_000.0, (seed, 0), 7 * SECOND, None, count);
        let (mut last, mut gaps) = (7 * SECOND, Vec::new());
        while let Some(at) = arrivals.take_due(Nanos::MAX) {
            gaps.push((at - last) as f64);
            last = at;
        }
        assert_eq!(gaps.len() as u64, count);
        gaps
    }

    /// The largest distance of the drawn distribution from `cdf` (Kolmogorov-Smirnov), times the root of the count.
    fn distance(mut gaps: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
        gaps.sort_by(f64::total_cmp);
        let count = gaps.len() as f64;
        let apart = |(index, &gap): (usize, &f64)| {
            let (below, above) = (index as f64 / count, (index + 1) as f64 / count);
            (cdf(gap) - below).abs().max((cdf(gap) - above).abs())
        };
        gaps.iter().enumerate().map(apart).fold(0.0, f64::max) * count.sqrt()
    }

    /// Exceeded by a true sample once in 10^6: sqrt(ln(2 / 10^-6) / 2).
    const KOLMOGOROV_LIMIT: f64 = 2.694;

    #[test]
    fn poisson_gaps_are_exponential_and_do_not_depend_on_each_other() {
        for seed in 1..=10 {
            println!("seed {seed}");
            let drawn = gaps(Gaps::Poisson, seed, 400_000);
            let mean = 20_000.0;
            let found = distance(drawn.clone(), |gap| 1.0 - (-gap / mean).exp());
            assert!(found < KOLMOGOROV_LIMIT, "seed {seed}: {found}");
            let wrong_rate = distance(drawn.clone(), |gap| 1.0 - (-gap / (mean * 1.02)).exp());
            assert!(wrong_rate > KOLMOGOROV_LIMIT, "the test would not see a rate 2 % off: {wrong_rate}");
            let product: f64 = drawn.windows(2).map(|two| (two[0] - mean) * (two[1] - mean)).sum();
            let correlation = product / drawn.len() as f64 / (mean * mean);
            assert!(correlation.abs() < 5.0 / (drawn.len() as f64).sqrt(), "seed {seed}: {correlation}");
        }
    }

    #[test]
    fn counts_in_windows_vary_as_a_poisson_process_does() {
        for seed in 1..=5 {
            println!("seed {seed}");
            let mut arrivals = Arrivals::new(Gaps::Poisson, 50_000.0, (seed, 3), 0, Some(20 * SECOND), u64::MAX);
            let mut counts = vec![0.0; 2_000];
            while let Some(at) = arrivals.take_due(Nanos::MAX) {
                counts[(at / 10_000_000) as usize] += 1.0;
            }
            let mean = counts.iter().sum::<f64>() / 2_000.0;
            let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 1_999.0;
            assert!((mean - 500.0).abs() < 2.5, "seed {seed}: {mean}");
            // The dispersion index of a Poisson process is 1; of 2,000 windows its deviation is sqrt(2 / 1999).
            assert!((variance / mean - 1.0).abs() < 0.16, "seed {seed}: {variance} / {mean}");
        }
    }

    #[test]
    fn etc_gaps_have_the_published_law_at_any_rate() {
        for seed in 1..=5 {
            println!("seed {seed}");
            let scale = 20_000.0 * (1.0 - ETC_GAP.1);
            let cdf = |gap: f64| 1.0 - (1.0 + ETC_GAP.1 * gap / scale).powf(-1.0 / ETC_GAP.1);
            let found = distance(gaps(Gaps::Etc, seed, 100_000), cdf);
            assert!(found < KOLMOGOROV_LIMIT, "seed {seed}: {found}");
        }
    }

    #[test]
    fn arrivals_end_with_their_time_and_with_their_number() {
        let mut arrivals = Arrivals::new(Gaps::Poisson, 1e6, (1, 0), 0, Some(SECOND / 1_000), u64::MAX);
        let mut count = 0;
        while let Some(at) = arrivals.take_due(SECOND) {
            assert!(at < SECOND / 1_000);
            count += 1;
        }
        assert!((800..1_200).contains(&count), "{count}");
        assert_eq!(arrivals.next(), None);
        let mut arrivals = Arrivals::new(Gaps::Poisson, 1e6, (1, 0), 0, None, 3);
        assert_eq!(std::iter::from_fn(|| arrivals.take_due(SECOND)).count(), 3);
    }
}
