//! What a caller sees of an item, and the rights it may hold to one.

use crate::clock::{Expiry, Now};
use crate::key::KeyHash;
use crate::operation::Store;

/// A view of one item. Borrowed from the shard.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The key, 1 to 250 bytes.
    pub key: &'a [u8],
    /// The value; may be empty.
    pub value: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// The cas unique.
    pub cas: u64,
    /// In which order it was stored; the cas unique, unless a client has named another.
    pub(crate) unique: u64,
    /// When it is gone.
    pub expiry: Expiry,
    /// The second ([`crate::Now::secs`]) of the last access, modulo 2^24.
    pub last_access_secs: u32,
    /// Whether it was asked for since it was stored.
    pub fetched: bool,
}

impl Item<'_> {
    /// Seconds since the last access, at `now`; right up to 194 days (2^24 seconds).
    pub fn idle_secs(&self, now: Now) -> u32 {
        idle_secs(self.last_access_secs, now)
    }

    /// What is shown for an item that has gone.
    pub(crate) const EMPTY: Item<'static> = Item {
        key: &[],
        value: &[],
        flags: 0,
        cas: 0,
        unique: 0,
        expiry: Expiry::PAST,
        last_access_secs: 0,
        fetched: false,
    };
}

/// Seconds at `now` since an access at the second `access_secs`, which is kept modulo 2^24.
pub(crate) fn idle_secs(access_secs: u32, now: Now) -> u32 {
    now.secs.wrapping_sub(access_secs) & ((1 << 24) - 1)
}

/// What a hit shows of an item. Borrowed from the shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'a> {
    pub(crate) flags: u32,
    pub(crate) cas: u64,
    pub(crate) value: &'a [u8],
}

/// The place of an item, as a lookup found it. Good until the next operation on the shard that stores, deletes or
/// maintains; later it may show the item as it was, another version of it, or an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemRef {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) generation: u32,
}

/// The right to read one item's key and value until it is given back with [`crate::Shard::unpin`].
///
/// Its bytes neither move nor change nor vanish, whatever happens to the key. Dropping a pin without giving it back
/// leaks its segment; [`crate::Shard::census`] shows it.
#[must_use = "a pin holds a segment until it is given back with Shard::unpin"]
#[derive(Debug)]
pub struct Pin {
    pub(crate) at: ItemRef,
}

/// An item whose bytes are there until somebody needs their room, whether its key still names it or not.
///
/// A unique is given once, so that one read at the same place of the same generation is that of the same bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loose {
    pub(crate) at: ItemRef,
    pub(crate) unique: u64,
}

/// The right to fill a new item's value and then to commit or abandon it.
///
/// Dropping it does neither and leaks its segment; [`crate::Shard::census`] shows it.
#[must_use = "a reservation holds a segment until it is committed or abandoned"]
#[derive(Debug)]
pub struct Reservation {
    pub(crate) at: ItemRef,
    /// Where the value begins, from the item's first byte.
    pub(crate) value_at: u32,
    pub(crate) value_len: u32,
    pub(crate) filled: u32,
    pub(crate) hash: KeyHash,
    /// How the value is stored when it is whole.
    pub(crate) store: Store,
}

impl Pin {
    /// The item's place.
    pub(crate) fn at(&self) -> ItemRef {
        self.at
    }
}

impl Reservation {
    /// The item's place.
    pub(crate) fn at(&self) -> ItemRef {
        self.at
    }

    /// The hash of its key.
    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }

    /// How the value is stored when it is whole.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Bytes of the value that are still to be filled.
    pub fn missing_bytes(&self) -> u32 {
        self.value_len - self.filled
    }

    /// Bytes of the whole value.
    pub fn value_len(&self) -> u32 {
        self.value_len
    }
}
