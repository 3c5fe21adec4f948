//! A walk over every item, in steps, while the store goes on changing.
//!
//! The index grows by splitting bucket after bucket, so a walk remembers how many there were when it began, and at each
//! of those visits all that it has been split into since: an item that stays is met exactly once, however the index
//! grows. (One bucket that splits or is rewritten between two steps in it may show an item twice or pass over one.)

use super::{Index, SLOTS, Slot};
use crate::store::item::ItemRef;
use crate::store::memory::Memory;
use crate::store::segment::Segments;

/// Lines of the index that one step reads.
const LINES_MAX: u32 = 64;

/// Where a walk has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    level: u8,
    split: u32,
    bucket: u32,
    /// Slots of the bucket that have been visited.
    skip: u16,
}

impl Index {
    /// Before the first item.
    pub(crate) fn begin_walk(&self) -> Cursor {
        // At most 32 levels.
        Cursor { level: self.level as u8, split: self.split, bucket: 0, skip: 0 }
    }

    /// Visits items from `cursor` on until `visit` says that it wants no more, or 64 lines have been read. Returns where
    /// to go on; `None` at the end.
    pub(crate) fn walk(
        &self,
        memory: &Memory,
        segments: &Segments,
        mut cursor: Cursor,
        mut visit: impl FnMut(ItemRef) -> bool,
    ) -> Option<Cursor> {
        let mut lines = 0;
        while lines < LINES_MAX {
            let mut line = self.line_address(&self.pages, memory, cursor.bucket);
            let mut place = 0;
            loop {
                lines += 1;
                let words = memory.line(line).map(Slot);
                for slot in words {
                    if slot == Slot::EMPTY || slot.as_link().is_some() || !segments.is_current(slot.at()) {
                        continue;
                    }
                    place += 1;
                    if place > cursor.skip {
                        cursor.skip = place;
                        if !visit(slot.at()) {
                            return Some(cursor);
                        }
                    }
                }
                match words[SLOTS - 1].as_link() {
                    Some(next) => line = self.line_address(&self.overflow.pages, memory, next),
                    None => break,
                }
            }
            cursor = self.behind(cursor)?;
        }
        Some(cursor)
    }

    /// The bucket after that of `cursor`: the next into which its bucket of then was split, or the next one of then.
    fn behind(&self, cursor: Cursor) -> Option<Cursor> {
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
