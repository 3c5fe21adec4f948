//! Where items live: segments, index, item headers, expiry and eviction. [`crate::Shard`] is the only user.

pub(crate) mod census;
pub(crate) mod config;
pub(crate) mod item;
pub(crate) mod outcome;
pub(crate) mod stats;

pub use census::Census;
pub use config::{ConfigError, MemoryLimitError, ShardConfig};
pub use item::{Item, ItemRef, Pin, Reservation};
pub use outcome::{Arith, StoreError, StoreMode, StoreOutcome, Stored, Touched};
pub use stats::ShardStats;
