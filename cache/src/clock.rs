//! Time as the cache sees it: whole seconds, given as an argument.
//!
//! Nothing in this crate reads a clock. The worker passes a [`Now`] once a turn; items keep the second at which they
//! are gone as an [`Expiry`]. Read first: memcached `protocol.txt`, "Expiration times".

/// The longest expiry that counts from now, in seconds; anything above is unix time (`protocol.txt`, 30 days).
pub const RELATIVE_LIMIT_SECS: i64 = 60 * 60 * 24 * 30;

/// The present second, on a clock that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Seconds since the process's epoch. Starts at 2 or more, so that 0 can mean never and 1 long ago.
    pub secs: u32,
    /// Unix time, in seconds, of `secs == 0`. Fixed at start, so that a step of the wall clock moves no relative
    /// expiry.
    pub unix_epoch: u64,
}

/// When an item is gone: never, or at a second of [`Now::secs`].
///
/// An item is served in every second before its expiry and in none from it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(u32);

impl Expiry {
    /// Never.
    pub const NEVER: Expiry = Expiry(0);
    /// A second that has passed before any process serves its first request.
    pub const PAST: Expiry = Expiry(1);

    /// Reads a client's exptime (`protocol.txt`): 0 never, negative already expired, up to 30 days from now, above
    /// that unix time. A unix time at or before the process's epoch is in the past, as in memcached's `realtime()`.
    pub fn from_exptime(exptime: i64, now: Now) -> Expiry {
        match exptime {
            0 => Expiry::NEVER,
            i64::MIN..0 => Expiry::PAST,
            1..=RELATIVE_LIMIT_SECS => Expiry(now.secs.saturating_add(exptime as u32)),
            _ => {
                let since_epoch = (exptime as u64).saturating_sub(now.unix_epoch);
                Expiry(since_epoch.clamp(1, u64::from(u32::MAX)) as u32)
            }
        }
    }

    /// The expiry whose [`Expiry::secs`] is `secs`: 0 is never.
    #[inline]
    pub fn from_secs(secs: u32) -> Expiry {
        Expiry(secs)
    }

    /// The second of [`Now::secs`] at which the item is gone; 0 is never.
    #[inline]
    pub fn secs(self) -> u32 {
        self.0
    }

    /// Whether the item never expires.
    #[inline]
    pub fn is_never(self) -> bool {
        self.0 == 0
    }

    /// Whether the item is gone at `now`.
    #[inline]
    pub fn has_passed(self, now: Now) -> bool {
        self.0 != 0 && self.0 <= now.secs
    }

    /// Seconds left at `now`; `None` when it never expires, 0 when it has.
    pub fn remaining_secs(self, now: Now) -> Option<u32> {
        if self.is_never() { None } else { Some(self.0.saturating_sub(now.secs)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { secs: 100, unix_epoch: 1_700_000_000 };

    #[test]
    fn exptime_follows_protocol_txt() {
        assert_eq!(Expiry::from_exptime(0, NOW), Expiry::NEVER);
        assert_eq!(Expiry::from_exptime(-1, NOW), Expiry::PAST);
        assert_eq!(Expiry::from_exptime(i64::MIN, NOW), Expiry::PAST);
        assert_eq!(Expiry::from_exptime(1, NOW).secs(), 101);
        assert_eq!(Expiry::from_exptime(2_592_000, NOW).secs(), 2_592_100);
        assert_eq!(Expiry::from_exptime(2_592_001, NOW), Expiry::PAST, "1970, long before the process");
        assert_eq!(Expiry::from_exptime(1_700_000_000, NOW), Expiry::PAST);
        assert_eq!(Expiry::from_exptime(1_700_000_250, NOW).secs(), 250);
        assert_eq!(Expiry::from_exptime(i64::MAX, NOW).secs(), u32::MAX);
    }

    #[test]
    fn an_item_is_served_before_its_second_and_not_from_it_on() {
        let expiry = Expiry::from_exptime(1, NOW);
        assert!(!expiry.has_passed(NOW));
        assert!(expiry.has_passed(Now { secs: 101, ..NOW }));
        assert!(!Expiry::NEVER.has_passed(Now { secs: u32::MAX, ..NOW }));
        assert_eq!(expiry.remaining_secs(NOW), Some(1));
        assert_eq!(Expiry::NEVER.remaining_secs(NOW), None);
    }
}
