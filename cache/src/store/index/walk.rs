//! A walk over every item, bucket by bucket, while the store goes on changing.
//!
//! The index grows by splitting bucket after bucket, so a walk remembers how many there were when it began, and at each
//! of those visits all that it has been split into since: an item that stays is met exactly once, however the index
//! grows between two buckets.

use arrayvec::ArrayVec;

use super::{CHAIN_SLOTS_MAX, Index, SLOTS, Slot};
use crate::store::item::ItemRef;
use crate::store::memory::Memory;
use crate::store::segment::Segments;

/// Where a walk has got to: the bucket that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    level: u8,
    split: u32,
    bucket: u32,
    /// Items of the bucket that have been told, where all of them were too much for one step.
    pub(crate) skip: u8,
}

impl Cursor {
    /// In the same bucket, behind its first `told` items.
    pub(crate) fn behind_items(self, told: usize) -> Cursor {
        // A chain holds at most 57.
        Cursor { skip: told as u8, ..self }
    }
}

/// The items of one bucket.
pub(crate) type Bucket = ArrayVec<ItemRef, CHAIN_SLOTS_MAX>;

impl Index {
    /// Before the first item.
    pub(crate) fn begin_walk(&self) -> Cursor {
        // At most 32 levels.
        Cursor { level: self.level.count as u8, split: self.split, bucket: 0, skip: 0 }
    }

    /// The items of the bucket of `cursor`, and the lines read.
    pub(crate) fn bucket(&self, memory: &Memory, segments: &Segments, cursor: Cursor) -> (Bucket, u32) {
        let mut line = self.line_address(&self.pages, memory, cursor.bucket);
        let (mut items, mut lines) = (Bucket::new(), 0);
        loop {
            lines += 1;
            let words = memory.line(line).map(Slot);
            let used = |slot: &Slot| *slot != Slot::EMPTY && slot.as_link().is_none() && segments.is_current(slot.at());
            for slot in words.into_iter().filter(used) {
                // A chain has no more slots than fit; a longer one would not be found by lookups either.
                let _ = items.try_push(slot.at());
            }
            match words[SLOTS - 1].as_link() {
                Some(next) => line = self.line_address(&self.overflow.pages, memory, next),
                None => return (items, lines),
            }
        }
    }

    /// Behind the bucket of `cursor`: at the next into which its bucket of then was split, or the next one of then.
    pub(crate) fn behind(&self, cursor: Cursor) -> Option<Cursor> {
        let Cursor { level, split, bucket, .. } = cursor;
        let mask = |level: u32| (1u64 << level) - 1;
        let narrow = (u64::from(bucket) & mask(u32::from(level))) as u32;
        let level = if narrow < split { u32::from(level) + 1 } else { u32::from(level) };
        let then = (u64::from(bucket) & mask(level)) as u32;
        let next = u64::from(bucket) + (1u64 << level);
        let bucket = if next < u64::from(self.buckets()) {
            next as u32
        } else if then + 1 < (1 << cursor.level) + split {
            then + 1
        } else {
            return None;
        };
        Some(Cursor { bucket, skip: 0, ..cursor })
    }
}
