//! `RateLimit`: a token bucket, for answers that a stranger can ask for.

use crate::clock::Time;

/// Lets through so many a second, and as many at once as a tenth of a second brings.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_second: u64,
    /// Millionths of a token.
    tokens: u64,
    filled_at: Time,
}

impl RateLimit {
    /// A limit of `per_second`, full.
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self { per_second, tokens: per_second * 100_000, filled_at: Time::ZERO }
    }

    /// Takes a token; false when there is none.
    pub(crate) fn allows(&mut self, now: Time) -> bool {
        let micros = now.as_micros().saturating_sub(self.filled_at.as_micros()).min(100_000);
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + micros * self.per_second).min(self.per_second * 100_000);
        let allowed = self.tokens >= 1_000_000;
        if allowed {
            self.tokens -= 1_000_000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_the_rate_is_kept() {
        let mut limit = RateLimit::new(1_000);
        let passed = (0..100_000).filter(|i| limit.allows(Time::from_micros(i * 10))).count();
        assert!((1_095..=1_100).contains(&passed), "{passed}");
    }

    #[test]
    fn a_burst_is_a_tenth_of_a_second() {
        let mut limit = RateLimit::new(1_000);
        assert_eq!((0..1_000).filter(|_| limit.allows(Time::ZERO)).count(), 100);
        assert_eq!((0..1_000).filter(|_| limit.allows(Time::from_millis(3_600_000))).count(), 100);
    }
}
