//! Items join and leave the index; every counter of what is stored moves here.

use crate::clock::Now;
use crate::key::KeyHash;
use crate::store::header::{self, Facts, Layout};
use crate::store::index::Found;
use crate::store::item::ItemRef;
use crate::store::segment::SegmentState;

use super::{Shard, note_latest};

/// Splits of the index after one new item, at most: the index catches up two for one.
const SPLITS_PER_LINK: usize = 2;

impl Shard {
    /// The next cas unique.
    #[inline]
    pub(super) fn new_cas(&mut self) -> u64 {
        self.uniques.take()
    }

    /// Links the item written at `at`, which takes the place of the one found, if any. Its cas unique becomes `cas`.
    ///
    /// The caller holds the segment of `at`. `false` when the index has no place for it and nothing may be evicted.
    pub(super) fn link(&mut self, hash: KeyHash, at: ItemRef, found: Option<Found>, cas: u64, now: Now) -> bool {
        let address = self.memory.at(at);
        header::set_cas(&mut self.memory, address, cas, now.secs);
        match found {
            Some(found) => {
                let old = self.memory.at(found.at);
                let heat = header::heat(&self.memory, old).max(header::heat(&self.memory, address));
                header::set_heat(&mut self.memory, address, heat);
                self.index.replace(&mut self.memory, hash, found, at);
                self.count_out(found.at);
            }
            None => {
                if !self.index.insert(&mut self.memory, &self.segments, hash, at) {
                    if !self.evict {
                        return false;
                    }
                    let Some(victim) = self.index.victim(&self.memory, &self.segments, hash) else { return false };
                    self.count_evicted(victim.at);
                    self.index.replace(&mut self.memory, hash, victim, at);
                    self.count_out(victim.at);
                }
            }
        }
        self.count_in(at);
        true
    }

    /// Takes the item found out of the index.
    pub(super) fn unlink(&mut self, found: Found) {
        self.index.remove(&mut self.memory, found);
        self.count_out(found.at);
    }

    /// Before an item is added: lets the index grow and, every second time, sweeps a bucket if any slot is stale or was
    /// emptied. A sweep then takes a third of the stores that renew everything, so that few slots are wasted.
    #[inline]
    pub(super) fn prepare_link(&mut self, now: Now) {
        if self.index.wants_sweep() && (self.uniques.next / self.uniques.step).is_multiple_of(2) {
            self.sweep(1);
        }
        if self.index.needs_overflow_page()
            && let Some(page) = self.take_index_segment(now)
        {
            self.index.add_overflow_page(page);
        }
        for _ in 0..SPLITS_PER_LINK {
            if !self.index.wants_split(self.stats.curr_items.value()) {
                return;
            }
            if self.index.needs_page() {
                let Some(page) = self.take_index_segment(now) else { return };
                self.index.add_page(page);
            }
            self.epoch.end();
            self.index.split(&mut self.memory, &self.segments);
        }
    }

    /// Sweeps `buckets` buckets of the index.
    pub(super) fn sweep(&mut self, buckets: usize) {
        self.epoch.end();
        for _ in 0..buckets {
            self.index.sweep(&mut self.memory, &self.segments);
        }
    }

    /// Counts the item at `from`, whose slot now names its copy at `to`, as being there. Frees the segment of `from` if
    /// it was the last there.
    pub(super) fn count_moved(&mut self, from: ItemRef, to: ItemRef) {
        self.count_in_segment(to);
        self.count_out_of_segment(from);
        self.release_if_empty(from.segment);
    }

    /// Counts the item at `at` as stored.
    fn count_in(&mut self, at: ItemRef) {
        let (bytes, class) = self.count_in_segment(at);
        let counted = &self.stats.classes[class];
        counted.items.add(1);
        counted.bytes.add(bytes as u64);
        self.stats.curr_items.add(1);
        self.stats.bytes.add(bytes as u64);
    }

    /// Counts the item at `at` in its segment. Returns its size and slab class.
    fn count_in_segment(&mut self, at: ItemRef) -> (usize, usize) {
        let address = self.memory.at(at);
        let Some((layout, bytes, class)) = self.size_of(address) else { return (0, 0) };
        let Facts { expiry, unique, .. } = Facts::read(self.memory.bytes_from(address), layout);
        let fetched = header::is_fetched(&self.memory, address);
        let segment = self.segments.at_mut(at.segment);
        segment.live += 1;
        segment.live_unfetched += u32::from(!fetched);
        segment.live_bytes += bytes as u64;
        note_latest(&mut segment.latest_expiry, expiry);
        segment.largest_cas = segment.largest_cas.max(unique);
        self.class_rows.add(at.segment, class, bytes);
        (bytes, class)
    }

    /// Counts the item at `at` out of its segment. Returns its size and slab class.
    fn count_out_of_segment(&mut self, at: ItemRef) -> (usize, usize) {
        let address = self.memory.at(at);
        let Some((layout, bytes, class)) = self.size_of(address) else { return (0, 0) };
        let fetched = header::is_fetched(&self.memory, address);
        let segment = self.segments.at_mut(at.segment);
        segment.live -= 1;
        segment.live_unfetched -= u32::from(!fetched);
        segment.live_bytes -= bytes as u64;
        segment.dead_bytes += layout.total() as u32;
        self.class_rows.sub(at.segment, class, bytes);
        (bytes, class)
    }

    /// Counts the item at `at`, whose slot is gone, as stored no more. Frees its segment if it was the last there.
    fn count_out(&mut self, at: ItemRef) {
        self.index.work.items += 1;
        let (bytes, class) = self.count_out_of_segment(at);
        let counted = &self.stats.classes[class];
        counted.items.sub(1);
        counted.bytes.sub(bytes as u64);
        self.stats.curr_items.sub(1);
        self.stats.bytes.sub(bytes as u64);
        self.release_if_empty(at.segment);
    }

    /// Gives up a sealed segment that holds no item and that nobody holds.
    pub(super) fn release_if_empty(&mut self, index: u32) {
        let segment = self.segments.at(index);
        if segment.state == SegmentState::Sealed && segment.live == 0 && segment.holders == 0 {
            self.release(index);
        }
    }

    /// The layout of the item at `address`, and memcached's size and slab class of it.
    fn size_of(&self, address: usize) -> Option<(Layout, usize, usize)> {
        let layout = Layout::read(self.memory.bytes_from(address))?;
        let bytes = self.slabs.item_bytes(layout.key_len.into(), layout.value_len as usize, layout.has_flags());
        Some((layout, bytes, self.slabs.class_of(bytes)))
    }
}
