//! memcached's semantics as functions on bytes: what a request means, where items live, and how cores share them.
//!
//! No network, no clock, no I/O. Start with [`Session`] (one connection), then [`Core`] (one core's cache), then
//! [`Shard`] (one core's items).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// Time as an argument: seconds now, and the second at which an item is gone.
pub mod clock;
/// The nodes of a cluster, told by one of them.
mod cluster;
/// What administrators set while the cache runs.
mod control;
/// One core's cache: its shard, its queues to the others, what its connections are owed.
pub mod core;
/// What is counted, and by whom.
mod counters;
/// Requests over UDP: each datagram a conversation of its own.
mod datagrams;
/// Lines of dumps.
mod dump;
/// The keyed hash of a key: its shard, and its place in the index.
pub mod key;
/// Linked lists in arrays.
mod lists;
/// The queues between cores.
mod mesh;
/// Decimal numbers, read and written.
mod number;
/// What watchers and prefix counts are told of operations.
mod observe;
/// What is asked of a shard, and what came of it.
pub mod operation;
/// Sets of cores.
mod peers;
/// Numbered places.
mod pool;
/// The wire formats.
mod proto;
/// Replies on their way out.
mod replies;
/// One connection's conversation.
pub mod session;
/// Sizes and limits.
mod settings;
/// One core's items: the only mutator.
pub mod shard;
/// What all cores share.
mod shared;
/// Lists of what is counted and set, under memcached's names.
mod stats;
mod store;
/// Queues between threads, under names that a model checker can take over.
mod sync;
/// `watch`: what happens, told line by line.
mod watch;

pub use crate::core::{ConnId, Core, CoreCensus, Overdue};
pub use clock::{Expiry, Now};
pub use cluster::{Cluster, ClusterNode};
pub use control::{Control, Stopping};
pub use counters::{CoreCounters, Counters, OutsideCounts};
pub use datagrams::{DatagramOutlet, Datagrams, Network};
pub use key::{KEY_MAX_BYTES, Key, KeyHash, KeyHasher};
pub use operation::{Operation, Outcome};
pub use peers::PeerSet;
pub use session::{Given, Resting, Session, Stop, Taken, WHOLE_MAX_BYTES};
pub use settings::{CORES_MAX, CacheConfig, Commands, MeshError, Protocol, REQUESTS_PER_TAKE, ServerFacts, User};
pub use shard::Shard;
pub use shared::Shared;
pub use stats::stats_list;
pub use store::{
    Census, ClassStats, ConfigError, Item, ItemRef, MemoryLimitError, Pin, Reservation, ShardConfig, ShardStats,
    Toucher,
};
pub use watch::{CloseReason, WATCH_LINE_BYTES, WATCHERS_MAX};
