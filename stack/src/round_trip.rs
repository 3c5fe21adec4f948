//! `RoundTrip`: how long a flow's round trips take, in microseconds (RFC 6298 §2).

/// The longest round trip that is believed.
const MOST_MICROS: u32 = 10_000_000;

/// By how much of what the present round trip takes longer the least comes after it: a path that has become longer is known
/// as such after some thousands.
const FORGETS: u32 = 4_096;

/// The smoothed round-trip time and its variation, and the least. All 0: none was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RoundTrip {
    smoothed: u32,
    variation: u32,
    least: u32,
}

impl RoundTrip {
    /// Takes a measurement in. Returns whether it is longer than the least by more than a quarter and `more`: something waits
    /// on the way.
    pub(crate) fn measured(&mut self, micros: u32, more: u32) -> bool {
        let micros = micros.clamp(1, MOST_MICROS);
        self.least = match self.least {
            0 => micros,
            least if micros < least => micros,
            least => least + (micros - least).div_ceil(FORGETS),
        };
        self.take_in(micros);
        micros - self.least > self.least / 4 + more
    }

    /// Takes in that a round trip takes so long at the least: what was measured was none.
    pub(crate) fn at_least(&mut self, micros: u32) {
        self.take_in(micros.min(MOST_MICROS));
    }

    fn take_in(&mut self, micros: u32) {
        if self.smoothed == 0 {
            (self.smoothed, self.variation) = (micros, micros / 2);
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
        round_trip.measured(10_000, 0);
        assert_eq!((round_trip.smoothed(), round_trip.longest(0)), (10_000, 30_000));
        for _ in 0..100 {
            round_trip.measured(20_000, 0);
        }
        assert!((19_900..=20_000).contains(&round_trip.smoothed()), "{round_trip:?}");
        assert!(round_trip.longest(0) < 20_100, "{round_trip:?}");
        assert!(round_trip.longest(5_000) <= 25_000, "{round_trip:?}");
    }

    #[test]
    fn a_queue_shows_and_a_longer_path_is_one_no_more_after_long() {
        let mut round_trip = RoundTrip::default();
        round_trip.measured(10_000, 0);
        for (micros, queue) in [(12_000, false), (12_600, true), (10_100, false), (20_000, true)] {
            assert_eq!(round_trip.measured(micros, 50), queue, "{micros}");
        }
        for _ in 0..20_000 {
            round_trip.measured(20_000, 50);
        }
        assert!(!round_trip.measured(20_000, 50), "{round_trip:?}");
    }

    #[test]
    fn what_cannot_be_is_cut() {
        let mut round_trip = RoundTrip::default();
        round_trip.measured(0, 0);
        assert_eq!(round_trip.smoothed(), 1, "known");
        for _ in 0..100 {
            round_trip.measured(u32::MAX, 0);
        }
        assert!(round_trip.longest(0) < 100_000_000);
    }
}
