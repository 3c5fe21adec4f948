//! The quantiles that every report shows of a histogram of nanoseconds.

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

/// The quantiles shown, with their names; the largest value stands beside them.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p99.9", 0.999)];

/// Each name with its value in nanoseconds.
fn named(histogram: &Histogram<u64>) -> impl Iterator<Item = (&'static str, u64)> {
    let quantiles = QUANTILES.into_iter().map(|(name, at)| (name, histogram.value_at_quantile(at)));
    quantiles.chain([("max", histogram.max())])
}

/// `p50 N p90 N p99 N p99.9 N max N`, in microseconds.
pub fn micros(histogram: &Histogram<u64>) -> String {
    named(histogram).map(|(name, nanos)| format!("{name} {:.1}", nanos as f64 / 1e3)).collect::<Vec<_>>().join(" ")
}

/// The same as an object of numbers, each in `unit_nanos` nanoseconds.
pub fn object(histogram: &Histogram<u64>, unit_nanos: f64) -> Map<String, Value> {
    let number = |nanos: u64| if unit_nanos == 1.0 { nanos.into() } else { (nanos as f64 / unit_nanos).into() };
    named(histogram).map(|(name, nanos)| (name.to_owned(), number(nanos))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantile_is_named_in_the_unit_asked_for() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1_000).for_each(|nanos| histogram.record(nanos * 1_000).unwrap());
        assert!(micros(&histogram).starts_with("p50 500.") && micros(&histogram).contains(" p99.9 "));
        assert_eq!(object(&histogram, 1.0)["p50"], histogram.value_at_quantile(0.5));
        assert_eq!(object(&histogram, 1e3)["max"], histogram.max() as f64 / 1e3);
    }
}
