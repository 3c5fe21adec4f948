//! What the shard's operations ask for and answer, as values.

use super::item::ItemRef;
use crate::operation::{Outcome, Purpose};

/// Which of memcached's storage commands a store is (`protocol.txt`, "Storage commands").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// Whatever was there before.
    Set,
    /// Only if the key has no item.
    Add,
    /// Only if the key has an item.
    Replace,
    /// The value goes after that of the item there; flags and expiry stay those of the item.
    Append,
    /// The value goes before that of the item there; flags and expiry stay those of the item.
    Prepend,
    /// Only if the item there has this cas unique. 0 matches no item.
    Cas(u64),
    /// As [`StoreMode::Cas`]; where the item there is newer (its unique is larger), the new one takes its place marked as
    /// stale, with the expiry of the one there (meta: `ms` with C and I). 0 matches no item.
    CasOrStale(u64),
    /// [`StoreMode::Append`], only if the item there has this cas unique.
    AppendIf(u64),
    /// [`StoreMode::Prepend`], only if the item there has this cas unique.
    PrependIf(u64),
}

impl StoreMode {
    /// Whether the value joins that of the item there.
    pub fn joins(self) -> bool {
        matches!(self, StoreMode::Append | StoreMode::Prepend | StoreMode::AppendIf(_) | StoreMode::PrependIf(_))
    }

    /// Whether it goes after that of the item there.
    pub(crate) fn appends(self) -> bool {
        matches!(self, StoreMode::Append | StoreMode::AppendIf(_))
    }
}

/// How a store ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// The item is there.
    Stored,
    /// The condition of add, replace, append or prepend was not met; or append and prepend found no room for the
    /// longer value, as in memcached.
    NotStored,
    /// The item's cas unique is another one.
    Exists,
    /// cas found no item.
    NotFound,
    /// The item is larger than the largest one may be.
    TooLarge,
    /// No room, and nothing may be evicted for it.
    OutOfMemory,
}

/// A store's outcome and the new item's cas unique (0 when nothing was stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// How it ended.
    pub outcome: StoreOutcome,
    /// The cas unique of the item stored; 0 when none was.
    pub cas: u64,
}

impl StoreOutcome {
    /// The same as an [`Outcome`]; `cas` is that of the item stored.
    pub(crate) fn outcome(self, cas: u64) -> Outcome {
        match self {
            StoreOutcome::Stored => Outcome::Stored { cas },
            StoreOutcome::NotStored => Outcome::NotStored,
            StoreOutcome::Exists => Outcome::Exists,
            StoreOutcome::NotFound => Outcome::Missed,
            StoreOutcome::TooLarge => Outcome::TooLarge,
            StoreOutcome::OutOfMemory => Outcome::NoMemory(Purpose::Store),
        }
    }
}

impl Stored {
    /// The same as an [`Outcome`].
    pub(crate) fn outcome(self) -> Outcome {
        self.outcome.outcome(self.cas)
    }

    pub(crate) fn failed(outcome: StoreOutcome) -> Stored {
        Stored { outcome, cas: 0 }
    }
}

/// Why there is no room for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The item is larger than `item_size_max`, counted as memcached counts.
    #[error("object too large for cache")]
    TooLarge,
    /// No room, and nothing may be evicted for it.
    #[error("out of memory storing object")]
    OutOfMemory,
}

impl From<StoreError> for StoreOutcome {
    fn from(error: StoreError) -> StoreOutcome {
        match error {
            StoreError::TooLarge => StoreOutcome::TooLarge,
            StoreError::OutOfMemory => StoreOutcome::OutOfMemory,
        }
    }
}

/// How incr or decr ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arith {
    /// The new number, and the item's new cas unique.
    Value {
        /// The number now stored.
        value: u64,
        /// The item's new cas unique.
        cas: u64,
    },
    /// The key has no item.
    NotFound,
    /// The item's cas unique is another one than was asked for.
    Exists,
    /// The item's value is not a decimal number below 2^64.
    NonNumeric,
    /// No room for the longer number.
    OutOfMemory,
}

/// How gat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The item has the new expiry.
    Done(ItemRef),
    /// The key has no item.
    NotFound,
    /// The item had no place for an expiry and there was no room for a copy that has; it is as before.
    OutOfMemory,
}
