//! Median, spread, and the bootstrap interval of a median.
//!
//! The interval is the percentile bootstrap (Efron 1979): resample the ratios with replacement, take each resample's
//! median, and cut 2.5 % off either end. It makes no assumption about the shape of the distribution, and for five
//! pairs it is as wide as it should be: from the smallest ratio to the largest.

use std::fmt;

use rand::Rng;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

/// Resamples drawn for an interval: the ends then move by less than a tenth of the interval from seed to seed.
pub const RESAMPLES: usize = 10_000;

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The sample's median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl fmt::Display for Interval {
    /// `M.MM [L.LL H.HH]`, with as many digits as the format's precision says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval { median, low, high } = self;
        let digits = f.precision().unwrap_or(2);
        write!(f, "{median:.digits$} [{low:.digits$} {high:.digits$}]")
    }
}

/// Where a sample lies and how far it is spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many values.
    pub count: usize,
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// `(max - min) / median`, or 0 when the median is 0.
    pub relative: f64,
}

/// The median of `values`; `None` when there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    median_in_place(&mut sorted)
}

/// Median, smallest and largest of `values`; `None` when there are none.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    let median = median_in_place(&mut sorted)?;
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let relative = if median == 0.0 { 0.0 } else { (max - min) / median };
    Some(Spread { count: sorted.len(), median, min, max, relative })
}

/// The median of `values` with its 95 % percentile-bootstrap interval; `None` when there are none.
///
/// The same seed gives the same interval. The ends are values that a resample's median really took, chosen outward.
pub fn bootstrap_median(values: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    let median = median(values)?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut resample = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(resamples);
    for _ in 0..resamples.max(1) {
        for slot in &mut resample {
            *slot = values[random.random_range(0..values.len())];
        }
        medians.push(median_in_place(&mut resample)?);
    }
    medians.sort_by(f64::total_cmp);
    let last = medians.len() - 1;
    let cut = (medians.len() as f64 * 0.025).floor() as usize;
    Some(Interval { median, low: medians[cut.min(last)], high: medians[last - cut.min(last)] })
}

fn median_in_place(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_two_middle_ones() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn spread_is_relative_to_the_median() {
        let spread = spread(&[90.0, 100.0, 120.0]).unwrap();
        assert_eq!((spread.count, spread.median, spread.min, spread.max), (3, 100.0, 90.0, 120.0));
        assert!((spread.relative - 0.3).abs() < 1e-12);
    }

    #[test]
    fn equal_ratios_have_an_interval_of_no_width() {
        let interval = bootstrap_median(&[1.5; 20], RESAMPLES, 1).unwrap();
        assert_eq!(interval, Interval { median: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn one_seed_gives_one_interval() {
        let values: Vec<f64> = (0..20).map(|i| f64::from(i * i % 17)).collect();
        assert_eq!(bootstrap_median(&values, RESAMPLES, 9), bootstrap_median(&values, RESAMPLES, 9));
    }

    #[test]
    fn five_pairs_span_from_the_smallest_to_the_largest() {
        // The median of a resample of five is the smallest value with probability 0.058, above 0.025.
        let interval = bootstrap_median(&[1.3, 1.1, 1.2, 1.5, 1.4], RESAMPLES, 3).unwrap();
        assert_eq!(interval, Interval { median: 1.3, low: 1.1, high: 1.5 });
    }

    /// P(the median of a resample of `n` is at most the `k`-th smallest value), exactly: a binomial tail.
    fn median_at_most(n: u32, k: u32) -> f64 {
        let p = f64::from(k) / f64::from(n);
        let mut term = (1.0 - p).powi(n as i32);
        let mut tail = 0.0;
        for hits in 0..=n {
            if hits > n / 2 {
                tail += term;
            }
            term *= f64::from(n - hits) / f64::from(hits + 1) * p / (1.0 - p);
        }
        tail
    }

    #[test]
    fn interval_agrees_with_the_exact_distribution_of_the_bootstrap_median() {
        for n in [11_u32, 21, 41] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let exact_low = (1..=n).find(|&k| median_at_most(n, k) > 0.025).unwrap();
            let exact_high = (1..n).find(|&k| median_at_most(n, k) >= 0.975).unwrap();
            for seed in 0..8 {
                let interval = bootstrap_median(&values, RESAMPLES, seed).unwrap();
                // 10,000 resamples leave a standard error of 0.0016 at the 2.5 % point: one rank at most.
                assert!((interval.low - f64::from(exact_low)).abs() <= 1.0, "n {n} seed {seed} {interval:?}");
                assert!((interval.high - f64::from(exact_high)).abs() <= 1.0, "n {n} seed {seed} {interval:?}");
            }
        }
    }

    #[test]
    fn interval_covers_the_true_median_about_95_times_in_100() {
        let seed = 20_261_122;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let trials = 600;
        let mut covered = 0;
        for trial in 0..trials {
            // Exponential: skewed, as ratios of throughputs are. Its median is ln 2.
            let sample: Vec<f64> = (0..20).map(|_| -(1.0 - random.random::<f64>()).ln()).collect();
            let interval = bootstrap_median(&sample, 1_000, trial).unwrap();
            covered += u64::from(interval.low <= 2f64.ln() && 2f64.ln() <= interval.high);
        }
        let share = covered as f64 / trials as f64;
        assert!((0.91..=0.99).contains(&share), "seed {seed}: covered {share}");
    }
}
