//! What a shard is made of. [`crate::Shard`] is the only user.

/// A count of what is held, for tests of leaks.
pub(crate) mod census;
/// What each segment holds of each slab class.
pub(crate) mod class_rows;
/// What a shard is built with.
pub(crate) mod config;
/// Items that made room.
pub(crate) mod evicted;
/// Classes of like time-to-live.
pub(crate) mod expiry;
/// What is remembered of evicted items.
pub(crate) mod ghost;
/// An item's bytes in its segment.
pub(crate) mod header;
/// From a key's hash to its item's place.
pub(crate) mod index;
/// Views of items and rights to them.
pub(crate) mod item;
/// The memory map.
pub(crate) mod memory;
/// Open and sealed segments of each queue.
pub(crate) mod queues;
/// Who holds which segment.
pub(crate) mod segment;
/// memcached's sizes and slab classes.
pub(crate) mod slab_view;
/// Counters.
pub(crate) mod stats;
/// Which items are worth their bytes.
pub(crate) mod worth;

pub use census::Census;
pub use config::{ConfigError, MemoryLimitError, ShardConfig};
pub(crate) use item::Loose;
pub use item::{Item, ItemRef, Pin, Reservation};
pub use memory::Toucher;
pub(crate) use stats::counter_block;
pub use stats::{ClassStats, ShardStats};
