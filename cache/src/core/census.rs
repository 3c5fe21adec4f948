//! A count of everything a core has given out or holds, for tests of leaks.

use crate::store::Census;

/// What a core holds at one moment. All but the shard's items is 0 once every connection has ended and every answer
/// has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CoreCensus {
    /// Replies owed, orphans included.
    pub entries: usize,
    /// Landing slots taken.
    pub landing_slots: usize,
    /// Blocks of this core's loops that are not with it.
    pub blocks_out: usize,
    /// Connections that wait for something.
    pub waiting: usize,
    /// Connections taken from the head of a queue that have not tried again.
    pub granted: usize,
    /// Items of this shard that replies of this core are made of.
    pub held: usize,
    /// Values that other cores are reading.
    pub streams: usize,
    /// Values that are being sent to this shard.
    pub incoming: usize,
    /// Messages that found no block yet.
    pub debts: usize,
    /// Pins held by sessions and streams.
    pub pins: usize,
    /// Bytes of copies held by sessions and streams.
    pub copied_bytes: usize,
    /// What the shard holds.
    pub shard: Census,
}
