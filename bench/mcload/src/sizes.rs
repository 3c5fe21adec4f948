//! How long keys and values are: all alike, or as in Facebook's ETC pool.
//!
//! A length is a function of a number drawn once for each key, so that the length follows from the key alone.
//! ETC: Atikoglu, Xu, Frachtenberg, Jiang, Paleczny, "Workload Analysis of a Large-Scale Key-Value Store", SIGMETRICS
//! 2012, §5.2 and table 5.

/// Longest key of the protocol, in bytes (`protocol.txt`, "Keys").
pub const MAX_KEY_BYTES: usize = 250;
/// Largest value this generator makes, in bytes; memcached's own default limit is 1 MiB, header included.
pub const MAX_VALUE_BYTES: usize = 16 << 20;
/// Shortest ETC key made: room for the number of any key. The distribution gives shorter ones once in 10^9 keys.
pub const LEAST_ETC_KEY_BYTES: usize = 10;

/// Location, scale and shape of ETC's key lengths, a generalized extreme value distribution.
const ETC_KEY: (f64, f64, f64) = (30.7984, 8.20449, 0.078688);
/// Location, scale and shape of ETC's value lengths above 14 bytes, a generalized Pareto distribution.
const ETC_VALUE: (f64, f64, f64) = (15.0, 214.476, 0.348238);
/// Share of the keys with a value of 0, 1, ... 14 bytes.
pub const ETC_SMALL_VALUES: [f64; 15] = [
    0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837, 0.00837, 0.08989,
    0.00092, 0.00326, 0.01980,
];
/// Scale in microseconds and shape of ETC's gaps between requests, a generalized Pareto distribution from 0.
pub const ETC_GAP: (f64, f64) = (16.0292, 0.154971);

/// A length of keys or of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Always this many bytes.
    Fixed(usize),
    /// As in the ETC pool.
    Etc,
}

/// A number from 0 up to and without 1, made of all of `bits` that an f64 can tell apart.
#[inline]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// The quantile `p`, from 0 to below 1, of the generalized Pareto distribution.
#[inline]
pub fn generalized_pareto(location: f64, scale: f64, shape: f64, p: f64) -> f64 {
    location + scale / shape * ((1.0 - p).powf(-shape) - 1.0)
}

/// The quantile `p`, above 0 and below 1, of the generalized extreme value distribution.
#[inline]
pub fn generalized_extreme_value(location: f64, scale: f64, shape: f64, p: f64) -> f64 {
    location + scale / shape * ((-p.ln()).powf(-shape) - 1.0)
}

impl Size {
    /// The length of the key for which `bits` was drawn.
    #[inline]
    pub fn key(self, bits: u64) -> usize {
        match self {
            Size::Fixed(bytes) => bytes,
            Size::Etc => {
                let (location, scale, shape) = ETC_KEY;
                let length = generalized_extreme_value(location, scale, shape, unit(bits).max(f64::MIN_POSITIVE));
                // Out of range is cut off by the conversion and by the clamp.
                (length.round() as usize).clamp(LEAST_ETC_KEY_BYTES, MAX_KEY_BYTES)
            }
        }
    }

    /// The length of the value of the key for which `bits` was drawn.
    #[inline]
    pub fn value(self, bits: u64) -> usize {
        match self {
            Size::Fixed(bytes) => bytes,
            Size::Etc => etc_value(unit(bits)),
        }
    }

    /// The mean length of a value, rounded up.
    pub fn mean_value(self) -> usize {
        match self {
            Size::Fixed(bytes) => bytes,
            // 0.5584 x (15 + 214.476 / (1 - 0.348238)) + 0.4416 x (a mean of 5.7).
            Size::Etc => 195,
        }
    }

    /// The longest value this can give.
    pub fn longest_value(self) -> usize {
        match self {
            Size::Fixed(bytes) => bytes,
            Size::Etc => MAX_ETC_VALUE_BYTES,
        }
    }
}

/// Longest ETC value made, in bytes: what memcached takes by default, with its header. Once in 10^10 values is longer.
pub const MAX_ETC_VALUE_BYTES: usize = 1_000_000;
const _: () = assert!(MAX_ETC_VALUE_BYTES <= MAX_VALUE_BYTES);

fn etc_value(p: f64) -> usize {
    let mut below = 0.0;
    for (length, share) in ETC_SMALL_VALUES.iter().enumerate() {
        below += share;
        if p < below {
            return length;
        }
    }
    let (location, scale, shape) = ETC_VALUE;
    let rest = ((p - below) / (1.0 - below)).clamp(0.0, 1.0 - f64::EPSILON);
    (generalized_pareto(location, scale, shape, rest) as usize).min(MAX_ETC_VALUE_BYTES)
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    use super::*;

    const SEED: u64 = 11;
    const DRAWS: usize = 1_000_000;

    fn draws() -> impl Iterator<Item = u64> {
        println!("seed {SEED}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
        (0..DRAWS).map(move |_| rng.next_u64())
    }

    #[test]
    fn etc_values_have_the_published_masses_and_tail() {
        let mut small = [0_usize; 15];
        let (mut large, mut above_500) = (0_usize, 0_usize);
        for bits in draws() {
            match Size::Etc.value(bits) {
                length @ 0..15 => small[length] += 1,
                length => {
                    large += 1;
                    above_500 += usize::from(length > 500);
                }
            }
        }
        for (length, &count) in small.iter().enumerate() {
            let (expected, found) = (ETC_SMALL_VALUES[length] * DRAWS as f64, count as f64);
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "{length} B: {found}, expected {expected}");
        }
        // P(X > 500 | X >= 15) = (1 + k (501 - 15) / s)^(-1/k), lengths being cut to whole bytes.
        let tail = (1.0 + 0.348238 * 486.0 / 214.476_f64).powf(-1.0 / 0.348238);
        let found = above_500 as f64 / large as f64;
        assert!((found / tail - 1.0).abs() < 0.02, "{found}, expected {tail}");
        assert!((ETC_SMALL_VALUES.iter().sum::<f64>() - 0.4416).abs() < 0.0003);
    }

    #[test]
    fn etc_keys_have_the_published_quantiles() {
        let mut lengths: Vec<usize> = draws().map(|bits| Size::Etc.key(bits)).collect();
        lengths.sort_unstable();
        for p in [0.01, 0.1, 0.5, 0.9, 0.99, 0.999] {
            // The distribution function at the length found must be p, within the width of one byte.
            let length = lengths[(p * DRAWS as f64) as usize] as f64;
            let cdf = |x: f64| (-(1.0 + 0.078688 * (x - 30.7984) / 8.20449).powf(-1.0 / 0.078688)).exp();
            assert!(cdf(length - 0.55) <= p && p <= cdf(length + 0.55), "quantile {p} is {length}");
        }
    }

    #[test]
    fn lengths_stay_within_the_protocols_limits_at_the_ends() {
        for bits in [0, 1, u64::MAX, u64::MAX - 1] {
            assert!((LEAST_ETC_KEY_BYTES..=MAX_KEY_BYTES).contains(&Size::Etc.key(bits)));
            assert!(Size::Etc.value(bits) <= MAX_ETC_VALUE_BYTES);
        }
    }
}
