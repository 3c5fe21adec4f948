//! Limits of answers that a stranger can ask for: `RateLimit`, a token bucket, and `SharedLimit`, which tells no
//! stranger anything of the others; `AnswerLimit`, both together.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

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

/// Shares of a [`SharedLimit`].
const SHARES: usize = 16;
/// The least and the most that a share lets through before it is drawn anew.
const LEAST: u8 = 32;
const MOST: u8 = 95;
/// How often shares are drawn anew, in microseconds.
const ROUND_MICROS: u64 = 100_000;

/// Lets through 32 to 95 answers to one address in each tenth of a second, and 16 times as many in all.
///
/// With one bucket for all, an attacker who counts the answers to their own packets learns how many answers others got,
/// hence whether a connection of others exists (CVE-2016-5696, RFC 5961 §7), and can use up the answers that others need.
/// So each address takes its answers from one of 16 shares. A secret decides which share that is and how many answers
/// are in it, anew in each round: nobody outside can know either, and an address that shares with a flood in one round is
/// free of it in the next.
#[derive(Debug)]
pub(crate) struct SharedLimit {
    secret: [u64; 2],
    name: u64,
    round: u64,
    left: [u8; SHARES],
}

impl SharedLimit {
    /// A limit whose shares are drawn by `secret`, apart from those of limits of another `name`.
    pub(crate) fn new(secret: [u64; 2], name: u8) -> Self {
        let mut limit = Self { secret, name: u64::from(name), round: 0, left: [0; SHARES] };
        limit.draw();
        limit
    }

    /// Whether one more answer may go to `payer`, which is an address, or all that share what they get (`names.rs`); counts it.
    pub(crate) fn allows(&mut self, now: Time, payer: u64) -> bool {
        let round = now.as_micros() / ROUND_MICROS;
        if round != self.round {
            self.round = round;
            self.draw();
        }
        let share = self.hash(payer) as usize % SHARES;
        let allowed = self.left[share] > 0;
        self.left[share] -= u8::from(allowed);
        allowed
    }

    /// Fills the shares for a round.
    fn draw(&mut self) {
        // No IPv4 address is above 32 bits, and those of IPv6 have the first of 64.
        let drawn = [self.hash(1 << 32), self.hash(1 << 33)].map(u64::to_ne_bytes);
        for (left, byte) in self.left.iter_mut().zip(drawn.as_flattened()) {
            *left = LEAST + byte % (MOST - LEAST + 1);
        }
    }

    fn hash(&self, of: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        hasher.write_u64(self.name);
        hasher.write_u64(self.round);
        hasher.write_u64(of);
        hasher.finish()
    }
}

/// Both for one kind of answers: to one address so many, and in all.
#[derive(Debug)]
pub(crate) struct AnswerLimit {
    each: SharedLimit,
    all: RateLimit,
}

impl AnswerLimit {
    /// Lets through `per_second` in all, and of these to an address what a [`SharedLimit`] of this `name` does.
    pub(crate) fn new(secret: [u64; 2], name: u8, per_second: u32) -> Self {
        Self { each: SharedLimit::new(secret, name), all: RateLimit::new(per_second) }
    }

    /// As [`SharedLimit::allows`].
    pub(crate) fn allows(&mut self, now: Time, payer: u64) -> bool {
        self.each.allows(now, payer) && self.all.allows(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> u64 {
        u64::from(0x0a00_0000 + number)
    }

    /// Answers that `address` gets for 1,000 questions at `now`.
    fn passed(limit: &mut SharedLimit, now: Time, number: u32) -> usize {
        (0..1_000).filter(|_| limit.allows(now, address(number))).count()
    }

    #[test]
    fn one_address_gets_its_share_and_the_next_round_another() {
        let mut limit = SharedLimit::new([1, 2], 0);
        let rounds: Vec<usize> = (0..200).map(|i| passed(&mut limit, Time::from_millis(i * 100), 1)).collect();
        assert!(rounds.iter().all(|passed| (32..=95).contains(passed)), "{rounds:?}");
        let distinct: std::collections::HashSet<_> = rounds.iter().collect();
        assert!(distinct.len() > 40, "what a share holds can be foreseen: {distinct:?}");
    }

    #[test]
    fn a_flood_of_one_address_starves_few_and_nobody_for_long() {
        let mut limit = SharedLimit::new([3, 4], 0);
        let mut starved = [0; 200];
        for round in 0..50 {
            let now = Time::from_millis(round * 100);
            passed(&mut limit, now, 0);
            for (number, starved) in starved.iter_mut().enumerate() {
                *starved += u32::from(!limit.allows(now, address(1 + number as u32)));
            }
        }
        assert!(starved.iter().all(|&rounds| rounds < 15), "rounds of 50 without an answer: {starved:?}");
    }

    #[test]
    fn all_addresses_together_are_bounded() {
        let mut limit = SharedLimit::new([5, 6], 0);
        for round in 0..10 {
            let now = Time::from_millis(round * 100);
            let all = (0..100_000).filter(|&number| limit.allows(now, address(number))).count();
            assert!((16 * 32..=16 * 95).contains(&all), "{all}");
        }
    }

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
