//! `RoundTrip`: how long a flow's round trips take, in microseconds (RFC 6298 §2).

/// The longest round trip that is believed.
const MOST_MICROS: u32 = 10_000_000;

/// The smoothed round-trip time and its variation. Both 0: none was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RoundTrip {
    smoothed: u32,
    variation: u32,
}

impl RoundTrip {
    /// Takes a measurement in.
    pub(crate) fn measured(&mut self, micros: u32) {
        let micros = micros.clamp(1, MOST_MICROS);
        if self.smoothed == 0 {
            *self = Self { smoothed: micros, variation: micros / 2 };
            return;
        }
        let difference = self.smoothed.abs_diff(micros);
        self.variation = (3 * self.variation + difference) / 4;
        self.smoothed = ((7 * self.smoothed + micros) / 8).max(1);
    }

    /// The smoothed round-trip time; 0: none was measured.
    #[inline]
    pub(crate) fn smoothed(self) -> u32 {
        self.smoothed
    }

    /// What an answer takes at most, `least` being the least that its time varies by (§2.3: K = 4).
    pub(crate) fn longest(self, least: u32) -> u32 {
        self.smoothed + (4 * self.variation).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_the_variation_fades() {
        let mut round_trip = RoundTrip::default();
        round_trip.measured(10_000);
        assert_eq!((round_trip.smoothed(), round_trip.longest(0)), (10_000, 30_000));
        for _ in 0..100 {
            round_trip.measured(20_000);
        }
        assert!((19_900..=20_000).contains(&round_trip.smoothed()), "{round_trip:?}");
        assert!(round_trip.longest(0) < 20_100, "{round_trip:?}");
        assert!(round_trip.longest(5_000) <= 25_000, "{round_trip:?}");
    }

    #[test]
    fn what_cannot_be_is_cut() {
        let mut round_trip = RoundTrip::default();
        round_trip.measured(0);
        assert_eq!(round_trip.smoothed(), 1, "known");
        for _ in 0..100 {
            round_trip.measured(u32::MAX);
        }
        assert!(round_trip.longest(0) < 100_000_000);
    }
}
