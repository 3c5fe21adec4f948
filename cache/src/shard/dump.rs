//! `stats cachedump`: a look at some items of a class, for people who debug.
//!
//! Like every operation it looks at no more than 64 items: memcached's own dump is bounded too (to 2 MB of text) and
//! says so nowhere. Items written last come first, from each open segment, then from the oldest sealed one.

use crate::clock::Now;
use crate::key::KeyHash;
use crate::store::header::Layout;
use crate::store::item::{Item, ItemRef};
use crate::store::segment::{NONE, Queue};

use super::Shard;

/// Items looked at in one dump.
const LOOKED_AT_MAX: usize = 64;

impl Shard {
    /// Shows live items of memcached's slab class `class` (from 1) to `show`, at most `most` of them and at most 64
    /// items looked at. `hash` is what keys are looked up by.
    pub fn dump(
        &mut self,
        class: usize,
        most: usize,
        now: Now,
        hash: impl Fn(&[u8]) -> KeyHash,
        mut show: impl FnMut(&Item<'_>),
    ) {
        let (mut looked_at, mut shown) = (0, 0);
        for ttl_class in 0..self.ttl_classes {
            let queues = [Queue::Small, Queue::Main].map(|queue| {
                let queue = queue as usize;
                [Some(self.open[queue][ttl_class]), self.sealed[queue][ttl_class].head()]
            });
            for head in queues.into_iter().flatten().flatten() {
                if head == NONE {
                    continue;
                }
                let mut offset = 0;
                while looked_at < LOOKED_AT_MAX && shown < most {
                    let segment = self.segments.at(head);
                    let used = segment.used;
                    let bytes = self.memory.bytes_from(self.memory.address(head, 0));
                    // What is still being written, or was given up before it was whole, may look like anything: the
                    // index has the last word on what is an item.
                    let Some(layout) = bytes.get(offset as usize..used as usize).and_then(Layout::read) else { break };
                    looked_at += 1;
                    let at = ItemRef { segment: head, offset, generation: self.segments.generation(head) };
                    offset += layout.total() as u32;
                    let key = self.item(at).key.to_vec();
                    if self.peek(hash(&key), &key, now) != Some(at) {
                        continue;
                    }
                    let item = self.item(at);
                    let size = self.slabs.item_bytes(item.key.len(), item.value.len(), layout.has_flags());
                    if self.slabs.class_of(size) + 1 == class {
                        show(&item);
                        shown += 1;
                    }
                }
            }
        }
    }
}
