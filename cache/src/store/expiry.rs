//! Classes of like time-to-live, so that whole segments expire together.
//!
//! Items of a class share segments. The class rounds only which segment an item goes to; the second at which an item is
//! gone is its own, checked on every access.

use crate::clock::{Expiry, Now};

/// Most classes: one for items that never expire, nine for times to live up to 16 s, 64 s, ... 262,144 s, and beyond.
pub(crate) const CLASSES_MAX: usize = 10;

/// The class of an item that expires at `expiry`, below `classes`.
#[inline]
pub(crate) fn class_of(expiry: Expiry, now: Now, classes: usize) -> usize {
    let Some(secs) = expiry.remaining_secs(now) else { return 0 };
    // 16 s is 2^4; each class is four times as long as the one before.
    let raw = 1 + (32 - (secs >> 4).leading_zeros()).div_ceil(2) as usize;
    raw.min(classes - 1)
}

/// The later of two expiries, never being the latest.
#[inline]
pub(crate) fn later(one: Expiry, other: Expiry) -> Expiry {
    if one.is_never() || other.is_never() { Expiry::NEVER } else { one.max(other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_fourfold() {
        let now = Now { secs: 1000, unix_epoch: 0 };
        let class = |secs: u32| class_of(Expiry::from_secs(1000 + secs), now, CLASSES_MAX);
        assert_eq!(class_of(Expiry::NEVER, now, CLASSES_MAX), 0);
        assert_eq!(class_of(Expiry::PAST, now, CLASSES_MAX), 1);
        let classes: Vec<_> = [1, 15, 16, 63, 64, 255, 256, 1023, 1024, 86_400, 4_000_000].map(class).into();
        assert_eq!(classes, [1, 1, 2, 2, 3, 3, 4, 4, 5, 8, 9]);
        assert_eq!(class_of(Expiry::from_secs(u32::MAX), now, 2), 1);
        assert_eq!(class_of(Expiry::from_secs(u32::MAX), now, 1), 0);
    }
}
