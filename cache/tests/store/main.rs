//! One core's shard: what it keeps, in what memory, against models of it.

mod item_size;
mod memory_ahead;
mod model;
mod properties;
