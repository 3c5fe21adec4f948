//! Where items live: segments, index, item headers, expiry and eviction. [`crate::Shard`] is the only user.

pub(crate) mod census;
pub(crate) mod config;
pub(crate) mod item;
pub(crate) mod outcome;
pub(crate) mod stats;
