//! What came of what was asked of the shard that owns a key, in terms of no protocol.
//!
//! An [`Outcome`] borrows nothing, so another core sends it back as it is. The value of a hit is not part of it: the
//! caller finds that beside the outcome.

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The item is there.
    Hit(View),
    /// The item is stored.
    Stored {
        /// Its cas unique.
        cas: u64,
    },
    /// The item is gone, or marked as stale where that was asked for.
    Deleted,
    /// The item has the new expiry.
    Touched,
    /// The item is a number and has been counted.
    Number(Number),
    /// The item is there; this is what is known of it.
    Debug(ItemFacts),
    /// The key has no item.
    Missed,
    /// The item's cas unique is another one than was asked for.
    Exists,
    /// The condition of add, replace, append or prepend was not met; or append and prepend found no room for the
    /// longer value, as in memcached.
    NotStored,
    /// The item is larger than the largest one may be.
    TooLarge,
    /// There is no room, and nothing may be evicted for it.
    NoMemory(Purpose),
    /// The item's value is not a decimal number below 2^64.
    NotANumber,
}

/// What room was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For an item to be stored.
    Store,
    /// For a longer number, or for an expiry that the item had no place for.
    Change,
    /// For a number that was not there yet.
    Create,
}

/// What a hit shows of an item, as it was before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// The cas unique.
    pub cas: u64,
    /// The client's flags.
    pub flags: u32,
    /// Bytes of the value.
    pub len: u32,
    /// Seconds left at the point where they were asked for; `None`: it never expires. Below 0 they wrap, as in
    /// memcached.
    pub ttl: Option<u32>,
    /// Seconds since it was last asked for, before this time.
    pub idle: u32,
    /// It was asked for before.
    pub fetched: bool,
    /// Its key was sent as base64.
    pub base64: bool,
    /// It is stale.
    pub stale: bool,
    /// Another client has been told to renew it.
    pub token_sent: bool,
    /// This client is to renew it.
    pub won: bool,
}

/// A number after it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The number now stored.
    pub value: u64,
    /// The item's new cas unique.
    pub cas: u64,
    /// The item was made for it.
    pub created: bool,
    /// As [`View::ttl`].
    pub ttl: Option<u32>,
}

/// What is known of an item, for those who look for mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemFacts {
    /// Seconds since the expiry, so mostly negative; -1: never.
    pub expired_for: i32,
    /// Seconds since the last access.
    pub idle: u32,
    /// The cas unique.
    pub cas: u64,
    /// Whether it was asked for.
    pub fetched: bool,
    /// memcached's slab class.
    pub class: u32,
    /// memcached's size.
    pub bytes: u32,
    /// Its key was sent as base64.
    pub base64: bool,
}
