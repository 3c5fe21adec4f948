//! memcached's semantics as functions on bytes: what a request means and where items live.
//!
//! No network, no clock, no I/O. Start with [`Shard`], one core's items.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// Time as an argument: seconds now, and the second at which an item is gone.
pub mod clock;
/// The keyed hash of a key: its shard, and its place in the index.
pub mod key;
/// One core's items: the only mutator.
pub mod shard;
mod store;

pub use clock::{Expiry, Now};
pub use key::{KEY_MAX_BYTES, KeyHash, KeyHasher};
pub use shard::Shard;
pub use store::census::Census;
pub use store::config::{ConfigError, MemoryLimitError, ShardConfig};
pub use store::item::{Item, ItemRef, Pin, Reservation};
pub use store::outcome::{Arith, StoreError, StoreMode, StoreOutcome, Stored, Touched};
pub use store::stats::ShardStats;
