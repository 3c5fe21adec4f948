//! Every item of the shard in steps, for dumps.
//!
//! A step looks at no more than 64 items and 64 lines of the index and goes on where the one before stopped, so that a
//! dump of the whole store holds nobody up; it marks and counts nothing, and passes over what is expired or flushed.

use super::Shard;
use crate::clock::Now;
use crate::store::header;
use crate::store::index::Cursor;
use crate::store::{Item, ItemRef};

/// Items that one step looks at.
const ITEMS_PER_STEP: usize = 64;

/// Lines of the index that one step reads.
const LINES_PER_STEP: u32 = 64;

/// Bytes of text that one step makes at most.
pub(crate) const STEP_BYTES: usize = 16 << 10;

/// An item that a walk has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked<'a> {
    pub(crate) item: Item<'a>,
    /// memcached's number of its slab class.
    pub(crate) class: usize,
    /// memcached's size of it.
    pub(crate) size: usize,
    /// Its key was sent as base64.
    pub(crate) base64: bool,
}

impl Shard {
    /// Has `tell` append the lines of the next items from `cursor` on (`None`: from the first) to `text`, as long as
    /// `room` bytes are not exceeded. Returns where to go on, which is `cursor` itself when the room was too little;
    /// `None` at the end.
    ///
    /// Stops between two buckets, where nothing can be told twice or passed over; only a bucket that would not fit
    /// [`STEP_BYTES`] (a score of items of the longest keys) is told in parts.
    pub(crate) fn walk(
        &self,
        cursor: Option<Cursor>,
        now: Now,
        room: usize,
        text: &mut Vec<u8>,
        tell: impl Fn(&Walked<'_>, &mut Vec<u8>),
    ) -> Option<Cursor> {
        let mut cursor = cursor.unwrap_or_else(|| self.index.begin_walk());
        let end = text.len() + room;
        let (mut items_left, mut lines_left) = (ITEMS_PER_STEP, LINES_PER_STEP);
        loop {
            let start = text.len();
            let (items, lines) = self.index.bucket(&self.memory, &self.segments, cursor);
            if items.len() > items_left || lines > lines_left {
                return Some(cursor);
            }
            (items_left, lines_left) = (items_left - items.len(), lines_left - lines);
            for (place, &at) in items.iter().enumerate().skip(cursor.skip.into()) {
                let before = text.len();
                let item = self.stored_item(at);
                if !item.key.is_empty() && item.unique >= self.flush.cas && !item.expiry.has_passed(now) {
                    tell(&self.walked(at, item), text);
                }
                if text.len() > end {
                    let whole = start == end - room && room >= STEP_BYTES;
                    text.truncate(if whole { before } else { start });
                    return Some(if whole { cursor.behind_items(place) } else { cursor });
                }
            }
            cursor = self.index.behind(cursor)?;
            if lines_left == 0 {
                return Some(cursor);
            }
        }
    }

    fn walked<'a>(&self, at: ItemRef, item: Item<'a>) -> Walked<'a> {
        let size = self.slabs.item_bytes(item.key.len(), item.value.len(), item.flags != 0);
        let class = self.slabs.class_of(size) + 1;
        let base64 = header::marks(&self.memory, self.memory.at(at)).base64;
        Walked { item: Item { cas: self.shown(item.cas), ..item }, class, size, base64 }
    }

    /// memcached's number of the slab class that an item of these lengths would sit in.
    pub(crate) fn class_of(&self, key_len: usize, value_len: usize, flags: u32) -> u8 {
        // At most 63.
        self.slabs.class_of(self.slabs.item_bytes(key_len, value_len, flags != 0)) as u8 + 1
    }

    /// Where an item is counted by its slab class.
    pub(super) fn class_row_of(&self, item: &Item<'_>) -> usize {
        usize::from(self.class_of(item.key.len(), item.value.len(), item.flags)) - 1
    }
}
