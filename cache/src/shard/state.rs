//! The small parts of a shard's state.

use crate::store::header;

/// Names the time between two moments at which slots may have moved or items may have gone. A place that was found is
/// still right as long as the epoch is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Epoch(u64);

impl Epoch {
    /// From here on what was found before may be wrong.
    #[inline]
    pub(super) fn end(&mut self) {
        self.0 += 1;
    }
}

/// The memory limit, in segments.
#[derive(Debug)]
pub(super) struct Limit {
    /// Segments within the limit.
    pub(super) allowed: usize,
    /// Segments from here on were never within it: their memory was never touched.
    pub(super) ever_on: u32,
    /// Segments still to be switched off after the limit was lowered.
    pub(super) excess: usize,
}

/// What is held of the shard.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Segments with pins or reservations, runs counted by their segments.
    pub(super) segments: usize,
    pub(super) pins: usize,
    pub(super) reservations: usize,
}

/// The cas uniques that are given out: shards of a cache take turns with them.
#[derive(Debug)]
pub(super) struct Uniques {
    pub(super) next: u64,
    pub(super) step: u64,
}

impl Uniques {
    /// The next one.
    #[inline]
    pub(super) fn take(&mut self) -> u64 {
        let unique = self.next;
        self.next = (unique + self.step).min(header::CAS_MAX);
        unique
    }
}

/// What has been flushed, and what will be.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// Items with a smaller cas unique are flushed.
    pub(super) cas: u64,
    /// A second from which everything stored up to its end is flushed.
    pub(super) at: Option<u32>,
}

/// Where searches over the segments go on.
#[derive(Debug)]
pub(super) struct Hands {
    /// For a run.
    pub(super) run: u32,
    /// For a segment whose items are all dead.
    pub(super) dead: u32,
    /// For a segment that the index can have.
    pub(super) index: u32,
    /// Segments not looked at since one may last have become dead unnoticed: by a second gone by, or by a flush.
    pub(super) unseen: usize,
    /// The second that `unseen` is of.
    pub(super) unseen_since: u32,
}
