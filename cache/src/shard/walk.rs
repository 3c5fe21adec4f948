//! Every item of the shard, told in steps: `lru_crawler metadump` and `mgdump`, `stats cachedump`.
//!
//! A step looks at no more than 64 items and 64 lines of the index and goes on where the one before stopped, so that a
//! dump of the whole store holds nobody up; it marks and counts nothing, and passes over what is expired or flushed.

use std::io::Write as _;

use super::Shard;
use crate::clock::Now;
use crate::proto::base64;
use crate::proto::word::{append_uri, append_word, is_word};
use crate::store::header;
use crate::store::index::Cursor;
use crate::store::{Item, ItemRef};

/// Items that one step looks at.
const ITEMS_PER_STEP: usize = 64;

/// Lines of the index that one step reads.
const LINES_PER_STEP: u32 = 64;

/// Bytes of text that one step makes at most.
pub(crate) const STEP_BYTES: usize = 16 << 10;

/// How items are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dump {
    /// `key=… exp=… la=… cas=… fetch=… cls=… size=…`, a line an item (memcached's `crawler_metadump_eval`).
    Meta,
    /// `mg <key>`, ready to be sent (memcached's `crawler_mgdump_eval`, since 1.6.19); `mg <base64> b` where the key was
    /// stored so, or is no word.
    Mg,
    /// `ITEM <key> [<bytes> b; <unix time> s]` (memcached's `item_cachedump`).
    Cache,
}

/// Which items are told, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) dump: Dump,
    /// A bit for each slab class, by memcached's number.
    pub(crate) classes: u64,
}

impl Shard {
    /// Appends the lines of the next items from `cursor` on (`None`: from the first) to `text`, as long as `room` bytes
    /// are not exceeded. Returns where to go on, which is `cursor` itself when the room was too little; `None` at the end.
    ///
    /// Stops between two buckets, where nothing can be told twice or passed over; only a bucket that would not fit
    /// [`STEP_BYTES`] (a score of items of the longest keys) is told in parts.
    pub(crate) fn walk(
        &self,
        told: Told,
        cursor: Option<Cursor>,
        now: Now,
        room: usize,
        text: &mut Vec<u8>,
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
                if !item.key.is_empty() && item.cas >= self.flush_cas && !item.expiry.has_passed(now) {
                    self.tell(told, at, &item, now, text);
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

    fn tell(&self, told: Told, at: ItemRef, item: &Item<'_>, now: Now, text: &mut Vec<u8>) {
        let size = self.slabs.item_bytes(item.key.len(), item.value.len(), item.flags != 0);
        let class = self.slabs.class_of(size) + 1;
        if told.classes >> class & 1 == 0 {
            return;
        }
        let unix = |secs: u32| now.unix_epoch + u64::from(secs);
        // Writing to a Vec cannot fail.
        let _ = match told.dump {
            Dump::Meta => {
                text.extend_from_slice(b"key=");
                append_uri(text, item.key);
                let exp = if item.expiry.is_never() { -1 } else { unix(item.expiry.secs()) as i64 };
                let la = unix(now.secs.saturating_sub(item.idle_secs(now)));
                let fetched = if item.fetched { "yes" } else { "no" };
                let cas = self.shown(item.cas);
                writeln!(text, " exp={exp} la={la} cas={cas} fetch={fetched} cls={class} size={size}")
            }
            Dump::Mg => {
                text.extend_from_slice(b"mg ");
                let stored = header::marks(&self.memory, self.memory.at(at));
                if stored.base64 || !is_word(item.key) {
                    base64::encode(item.key, |four| text.extend_from_slice(four));
                    text.write_all(b" b\r\n")
                } else {
                    text.extend_from_slice(item.key);
                    text.write_all(b"\r\n")
                }
            }
            Dump::Cache => {
                let expiry = if item.expiry.is_never() { 0 } else { unix(item.expiry.secs()) };
                text.extend_from_slice(b"ITEM ");
                append_word(text, item.key);
                write!(text, " [{} b; {expiry} s]\r\n", item.value.len())
            }
        };
    }

    /// memcached's number of the slab class that an item of these lengths would sit in.
    pub(crate) fn class_of(&self, key_len: usize, value_len: usize, flags: u32) -> u8 {
        // At most 63.
        self.slabs.class_of(self.slabs.item_bytes(key_len, value_len, flags != 0)) as u8 + 1
    }
}
