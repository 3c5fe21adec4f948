//! SYN cookies: what is to be known of a connection that was asked for, in the ISN of the answer (RFC 4987 §3.6).
//!
//! ```text
//! bit 31             24 23                                   4 3       1     0
//! SipHash of 4-tuple  │ SipHash of 4-tuple, their ISN, bits 3-0 │ segment size │ parity of the period
//! ```
//!
//! A cookie is of a period of 32 seconds and is good in that and the next. Each period has keys of its own, made of the
//! secret that was drawn at the start. Of the 2^32 numbers an ACK may guess, 16 are good for its 4-tuple and its sequence
//! number, eight sizes in two periods: a guess is right once in 2^28.
//!
//! The upper eight bits are there for a client whose first segment was lost, with which the cookie comes back: the number
//! that its second acknowledges is that of a cookie of its addresses, whatever sequence number it has. Such a segment is
//! dropped in silence (`net_stack/cookies.rs`); of others one in 256 would be. A second segment is taken for a first, whose
//! bytes would be missing, once in 2^20.
//!
//! Window scale and SACK do not fit: with their five bits a guess would be right once in 2^23. Others keep them in the
//! time stamp of the answer; but an answer with a time stamp agrees to one in each segment of the connection
//! (RFC 7323 §3.2), and this stack sends none. So a connection of a cookie has neither.

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher24;

use crate::clock::Time;
use crate::flow_id::Ends;

/// How long the keys are the same.
const PERIOD_MICROS: u64 = 32_000_000;

/// How long a cookie may be good: its period and the next.
const LIFETIME: Duration = Duration::from_micros(2 * PERIOD_MICROS);

/// Segment sizes that a cookie can hold: the smallest that is taken, that of who offers none, those of Ethernet and of
/// tunnels in it, and of jumbo frames.
const SIZES: [u16; 8] = [216, 536, 1_220, 1_360, 1_400, 1_440, 1_460, 8_960];

/// Makes cookies and knows them again.
#[derive(Debug)]
pub(crate) struct Cookies {
    secret: [u64; 2],
    /// Periods, and their keys: of an even period, and of an odd one.
    keys: [(u64, [u64; 2]); 2],
    /// When the last cookie that was given is no longer good.
    until: Time,
}

impl Cookies {
    /// Cookies that nobody can make without `secret`.
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        let keys = [0, 1].map(|period| (period, keys_of(secret, period)));
        Self { secret, keys, until: Time::ZERO }
    }

    /// Whether a cookie may be out that is still good.
    #[inline]
    pub(crate) fn are_out(&self, now: Time) -> bool {
        now < self.until
    }

    /// The ISN that answers a SYN with the sequence number `syn`, which offers segments of `mss` bytes.
    pub(crate) fn give(&mut self, now: Time, ends: &Ends, syn: u32, mss: u16) -> u32 {
        self.until = self.until.max(now.after(LIFETIME));
        let period = period(now);
        let size = SIZES.partition_point(|&size| size <= mss).saturating_sub(1) as u32;
        self.cookie(period, ends, syn, size << 1 | (period & 1) as u32)
    }

    /// The segment size in `cookie`, to which a SYN with the sequence number `syn` was answered; `None`: none was
    /// answered so, or that is too long ago.
    pub(crate) fn take(&mut self, now: Time, ends: &Ends, syn: u32, cookie: u32) -> Option<u16> {
        let current = period(now);
        let given = current.checked_sub(u64::from(cookie & 1) ^ current & 1)?;
        let bits = cookie & 0xf;
        (self.cookie(given, ends, syn, bits) == cookie).then(|| SIZES[(bits >> 1) as usize])
    }

    /// Whether `cookie` may be one that was given to the peer of `ends`, to whatever SYN: true of each that is still good, and
    /// of one other number in 256.
    pub(crate) fn may_be_of(&mut self, now: Time, ends: &Ends, cookie: u32) -> bool {
        let current = period(now);
        let Some(given) = current.checked_sub(u64::from(cookie & 1) ^ current & 1) else { return false };
        self.of_key(given, ends).1 == cookie >> 24
    }

    /// The cookie of a period whose four lowest bits are `bits`.
    fn cookie(&mut self, period: u64, ends: &Ends, syn: u32, bits: u32) -> u32 {
        let (mut hasher, of_key) = self.of_key(period, ends);
        hasher.write_u64(u64::from(syn) << 32 | u64::from(bits));
        of_key << 24 | (hasher.finish() as u32 & 0xf_ffff) << 4 | bits
    }

    /// What all cookies of a period have in common that are given to the peer of `ends`, and what goes on from there.
    fn of_key(&mut self, period: u64, ends: &Ends) -> (SipHasher24, u32) {
        let (of, keys) = &mut self.keys[(period & 1) as usize];
        if *of != period {
            (*of, *keys) = (period, keys_of(self.secret, period));
        }
        let mut hasher = SipHasher24::new_with_keys(keys[0], keys[1]);
        ends.feed(&mut hasher);
        let of_key = hasher.finish() as u32 & 0xff;
        (hasher, of_key)
    }
}

/// The number of the period of `now`.
fn period(now: Time) -> u64 {
    now.as_micros() / PERIOD_MICROS
}

/// The keys of a period. Of what else is hashed with the secret (`isn.rs`, `ephemeral.rs`), nothing has that length.
fn keys_of(secret: [u64; 2], period: u64) -> [u64; 2] {
    [0, 1].map(|half| {
        let mut hasher = SipHasher24::new_with_keys(secret[0], secret[1]);
        hasher.write(b"cookies");
        hasher.write_u64(period);
        hasher.write_u64(half);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    use super::*;

    const KEY: Ends = Ends::OF_TESTS;
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

    fn cookies() -> Cookies {
        Cookies::new([1, 2])
    }

    #[test]
    fn a_cookie_holds_the_segment_size_rounded_down() {
        let mut cookies = cookies();
        let sizes = [(216, 216), (535, 216), (536, 536), (1_459, 1_440), (1_460, 1_460), (65_535, 8_960), (1, 216)];
        for (offered, held) in sizes {
            let cookie = cookies.give(Time::ZERO, &KEY, 7, offered);
            assert_eq!(cookies.take(Time::ZERO, &KEY, 7, cookie), Some(held));
        }
    }

    #[test]
    fn a_cookie_is_good_for_half_a_minute_to_a_minute() {
        for given in [0, 1, 31_999, 32_000, 1_000_000] {
            let mut cookies = cookies();
            let at = Time::from_millis(given);
            let cookie = cookies.give(at, &KEY, 7, 1_460);
            let mut good = |millis| {
                let later = at.after(Duration::from_millis(millis));
                cookies.take(later, &KEY, 7, cookie).is_some() && cookies.are_out(later)
            };
            assert!(good(0) && good(32_000), "given at {given}");
            assert!(!(64_000..1_000_000).step_by(500).any(good), "given at {given}");
        }
    }

    #[test]
    fn none_is_out_before_one_was_given_nor_long_after() {
        let mut cookies = cookies();
        assert!(!cookies.are_out(Time::ZERO));
        cookies.give(Time::from_millis(5), &KEY, 7, 1_460);
        assert!(cookies.are_out(Time::from_millis(64_004)) && !cookies.are_out(Time::from_millis(64_005)));
    }

    /// Two addresses of IPv6 whose last 32 bits are the same are two.
    #[test]
    fn all_of_an_address_counts() {
        let mut cookies = cookies();
        let ends = |first| {
            let remote = Ipv6Addr::new(0xfd00, first, 0, 0, 0, 0, 0, 1).into();
            Ends { remote, local: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(), ..KEY }
        };
        let cookie = cookies.give(Time::ZERO, &ends(0), 7, 1_440);
        assert_eq!(cookies.take(Time::ZERO, &ends(0), 7, cookie), Some(1_440));
        assert_eq!(cookies.take(Time::ZERO, &ends(1), 7, cookie), None);
    }

    #[test]
    fn a_cookie_is_of_one_connection_alone() {
        let mut cookies = cookies();
        let cookie = cookies.give(Time::ZERO, &KEY, 7, 1_460);
        let others = [
            Ends { remote: OTHER, ..KEY },
            Ends { local: OTHER, ..KEY },
            Ends { remote_port: 40_001, ..KEY },
            Ends { local_port: 11_212, ..KEY },
        ];
        assert!(others.iter().all(|other| cookies.take(Time::ZERO, other, 7, cookie).is_none()));
        assert_eq!(cookies.take(Time::ZERO, &KEY, 8, cookie), None);
        assert_eq!(Cookies::new([1, 3]).take(Time::ZERO, &KEY, 7, cookie), None);
    }

    /// At each moment sixteen of the 2^32 numbers are good for a 4-tuple and a sequence number, one for each value of the
    /// four lowest bits: of the 2^24 guesses of a test that is not debugged, one in sixteen tests may see one be right.
    #[test]
    fn guesses_are_wrong() {
        let mut cookies = cookies();
        let now = Time::from_millis(100_000);
        for bits in 0..16 {
            let cookie = cookies.cookie(2 + u64::from(bits & 1), &KEY, 7, bits);
            let good = (0..1 << 10)
                .map(|other| cookie ^ other << 4)
                .filter(|&guess| cookies.take(now, &KEY, 7, guess).is_some());
            assert_eq!(good.collect::<Vec<_>>(), [cookie]);
        }
        let seed = 11;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let guesses = if cfg!(debug_assertions) { 1 << 20 } else { 1 << 24 };
        let right = (0..guesses).filter(|_| cookies.take(now, &KEY, rng.next_u32(), rng.next_u32()).is_some()).count();
        assert!(right <= 3, "{right} of {guesses} guesses, seed {seed}");
    }

    #[test]
    fn a_cookie_of_another_syn_of_the_same_addresses_is_known_and_few_other_numbers_are() {
        let mut cookies = cookies();
        let (now, later) = (Time::from_millis(100_000), Time::from_millis(131_000));
        for syn in 0..1_000 {
            let cookie = cookies.give(now, &KEY, syn, 1_460);
            assert!(cookies.may_be_of(now, &KEY, cookie) && cookies.may_be_of(later, &KEY, cookie));
        }
        let seed = 12;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let known = (0..1 << 16).filter(|_| cookies.may_be_of(now, &KEY, rng.next_u32())).count();
        assert!((128..=384).contains(&known), "{known} of 65,536, seed {seed}");
        let others = (0..1_000).filter(|port| {
            let other = Ends { remote_port: 1_024 + port, ..KEY };
            let cookie = cookies.give(now, &KEY, 7, 1_460);
            cookies.may_be_of(now, &other, cookie)
        });
        assert!(others.count() < 20);
    }

    #[test]
    fn cookies_of_one_connection_differ_from_period_to_period() {
        let mut cookies = cookies();
        let given: HashSet<u32> =
            (0..100).map(|period| cookies.give(Time::from_millis(period * 32_000), &KEY, 7, 1_460) >> 4).collect();
        assert_eq!(given.len(), 100);
    }
}
