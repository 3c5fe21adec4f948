//! Items that made room for others, noted while somebody watches evictions.
//!
//! Where merging does not keep up whole segments are given up without looking at their items; of those it looks at the
//! first few only, so that watching does not make an operation's work grow.

use super::Shard;
use crate::key::KEY_MAX_BYTES;
use crate::store::evicted::Evicted;
use crate::store::header::Layout;
use crate::store::item::ItemRef;

/// Items noted and not yet taken away, at most.
const NOTED_MAX: usize = 64;

/// Items looked at in segments that are given up unseen, until what was noted is taken away, at most.
const LOOKS_MAX: usize = 12;

impl Shard {
    /// Whether items that make room are to be noted.
    pub(crate) fn note_evictions(&mut self, wanted: bool) {
        if wanted && !self.evicted.wanted {
            self.evicted.items.reserve(NOTED_MAX);
        }
        self.evicted.wanted = wanted;
    }

    /// Whether items were noted, or are to be.
    #[inline]
    pub(crate) fn has_evicted(&self) -> bool {
        self.evicted.wanted
    }

    /// The next item noted, in no particular order.
    pub(crate) fn next_evicted(&mut self) -> Option<Evicted> {
        let next = self.evicted.items.pop();
        if next.is_none() {
            self.evicted.looks = 0;
        }
        next
    }

    /// Notes the items of the segment or run at `head`, which is about to be given up, if anybody wants to know.
    pub(super) fn note_evicted_segment(&mut self, head: u32) {
        if !self.evicted.wanted {
            return;
        }
        let mut offset = 0;
        while self.evicted.looks < LOOKS_MAX {
            self.evicted.looks += 1;
            self.index.work.items += 1;
            let bytes = self.memory.bytes_from(self.memory.address(head, 0));
            let used = self.segments.at(head).used;
            let Some(layout) = bytes.get(offset as usize..used as usize).and_then(Layout::read) else { break };
            let at = ItemRef { segment: head, offset, generation: self.segments.generation(head) };
            offset += layout.total() as u32;
            let item = self.item(at);
            let hash = self.hasher.hash(item.key);
            // What was replaced or deleted before has left its bytes here too.
            if self.index.find_at(&self.memory, hash, at).is_some() {
                self.note_evicted(at);
            }
        }
    }

    /// Notes the linked item at `at`, which is about to be given up, if anybody wants to know.
    pub(super) fn note_evicted(&mut self, at: ItemRef) {
        if !self.evicted.wanted || self.evicted.items.len() >= NOTED_MAX {
            return;
        }
        let item = self.item(at);
        let evicted = Evicted {
            key: item.key.iter().copied().take(KEY_MAX_BYTES).collect(),
            fetched: item.fetched,
            expiry: item.expiry,
            last_access_secs: item.last_access_secs,
            class: self.class_of(item.key.len(), item.value.len(), item.flags),
            bytes: item.value.len() as u32,
        };
        self.evicted.items.push(evicted);
    }
}
