//! One core's items: the only mutator.
//!
//! ```text
//!  observe.rs ──execute──► Shard ──► Index     hash → place           (store/index.rs)
//!                            │  ├──► Segments  who holds what         (store/segment.rs)
//!                            │  └──► Memory    the bytes              (store/memory.rs, store/header.rs)
//!                            ├── shard/execute.rs  the way in for operations; touch, debug
//!                            ├── shard/get.rs  shard/store.rs  shard/delete.rs  shard/count.rs
//!                            ├── shard/write.rs    what they share: items written, copied, linked
//!                            ├── shard/link.rs     items join and leave; every counter moves here
//!                            ├── shard/room.rs     room for an item: reclaim, runs
//!                            ├── shard/merge.rs    which items stay when room is short
//!                            ├── shard/walk.rs     every item in steps, for dumps
//!                            └── shard/upkeep.rs   flush, memory limit, maintenance
//! ```
//!
//! A shard belongs to one thread and knows no clock: every operation is told [`Now`], which must not go back. After
//! [`Shard::new`] nothing allocates. No operation touches more than 64 items and 64 lines of the index beyond its own,
//! however large the store is; the work that would is spread over operations and [`Shard::maintain`].
//!
//! Invariants. S1: every linked item has exactly one current slot, and a current slot names a linked item of its
//! segment. S2: bytes of a segment with holders neither move nor change, but for the expiry, the last access and the
//! marks in a header. S3: a free segment has no current slot.

mod count;
mod delete;
mod evicted;
mod execute;
mod get;
mod link;
mod merge;
mod merging;
mod room;
mod state;
mod store;
mod upkeep;
mod walk;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use walk::{STEP_BYTES, Walked};

use std::sync::Arc;

use crate::clock::{Expiry, Now};
use crate::key::{Key, KeyHash, KeyHasher};
use crate::store::census::Census;
use crate::store::class_rows::ClassRows;
use crate::store::config::{ConfigError, ShardConfig};
use crate::store::evicted::EvictedNotes;
use crate::store::expiry::CLASSES_MAX;
use crate::store::ghost::Ghost;
use crate::store::header::{self, Facts, Layout};
use crate::store::index::{Found, GENERATION_BITS, Index, SEGMENT_BITS};
use crate::store::item::{Item, ItemRef, Loose, Pin};
use crate::store::memory::{Memory, Toucher};
use crate::store::queues::Queues;
use crate::store::segment::{SegmentState, Segments};
use crate::store::slab_view::SlabView;
use crate::store::stats::ShardStats;

use merging::Merging;
use state::{Epoch, Flush, Hands, Holds, Limit, Uniques};

/// Fewest segments of a shard: some for the index, some for each class, some to evict.
const SEGMENTS_MIN: usize = 16;
/// Smallest segment chosen by the shard itself, in bytes.
const SEGMENT_BYTES_MIN: usize = 64 << 10;
/// Largest segment, in bytes: what the offset of a slot can address.
const SEGMENT_BYTES_MAX: usize = 1 << crate::store::index::OFFSET_BITS;
/// Most pins, and most reservations, at one time.
const HOLDERS_MAX: usize = 1 << 16;
/// One segment in so many remembers what was evicted.
const GHOST_SHARE: usize = 128;
/// The smallest `-I` that memcached takes, in bytes.
const ITEM_SIZE_MAX_LEAST: u32 = 1024;

/// One core's items.
#[derive(Debug)]
pub struct Shard {
    memory: Memory,
    segments: Segments,
    index: Index,
    slabs: SlabView,
    stats: Arc<ShardStats>,
    item_size_max: u32,
    evict: bool,
    class_rows: ClassRows,
    queues: Queues,
    merging: Merging,
    hasher: KeyHasher,
    /// Classes of like time-to-live in use: fewer in a small shard.
    ttl_classes: usize,
    limit: Limit,
    holds: Holds,
    uniques: Uniques,
    flush: Flush,
    epoch: Epoch,
    hands: Hands,
    evicted: EvictedNotes,
}

/// A live item as a lookup has found it, and what it has read of it.
#[derive(Debug, Clone, Copy)]
struct Known {
    found: Found,
    /// Where its bytes begin.
    address: usize,
    layout: Layout,
    facts: Facts,
}

/// Bytes of each segment: a power of two, by the memory where the configuration does not say.
fn segment_bytes(config: &ShardConfig) -> usize {
    match config.segment_bytes {
        0 => 1 << (config.memory_bytes / 256).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).ilog2(),
        bytes => (1usize << bytes.max(1).ilog2()).clamp(4096, SEGMENT_BYTES_MAX),
    }
}

/// Whether a shard of `least` to `most` bytes of memory can be made as the configuration says.
fn check(config: &ShardConfig, least: usize, most: usize) -> Result<(), ConfigError> {
    let memory_bytes = config.memory_bytes;
    if memory_bytes < least {
        return Err(ConfigError::MemoryTooSmall { given: memory_bytes, least });
    }
    if memory_bytes > most {
        return Err(ConfigError::MemoryTooLarge { given: memory_bytes, most });
    }
    if config.item_size_max < ITEM_SIZE_MAX_LEAST {
        return Err(ConfigError::ItemSizeMaxTooSmall { given: config.item_size_max });
    }
    if config.item_size_max as usize > memory_bytes / 2 {
        let (given, most) = (config.item_size_max, memory_bytes / 2);
        return Err(ConfigError::ItemSizeMaxTooLarge { given, memory: memory_bytes, most });
    }
    if !(config.slab_factor > 1.0 && config.slab_factor.is_finite()) {
        return Err(ConfigError::SlabFactor { given: config.slab_factor });
    }
    Ok(())
}

impl Shard {
    /// An empty shard with its memory mapped; the index's first part is touched, the rest when [`Shard::maintain`] or
    /// the first use comes to it. `hasher` is what keys are looked up by.
    ///
    /// # Errors
    /// [`ConfigError`], one variant for each figure that cannot be met.
    pub fn new(config: &ShardConfig, hasher: KeyHasher) -> Result<Shard, ConfigError> {
        Shard::with_generations(config, hasher, (1 << GENERATION_BITS) - 1)
    }

    /// [`Shard::new`] with generations 1..=`last_generation`, so that tests can make them come round.
    fn with_generations(config: &ShardConfig, hasher: KeyHasher, last_generation: u16) -> Result<Shard, ConfigError> {
        let segment_bytes = segment_bytes(config);
        let most = segment_bytes << SEGMENT_BITS;
        check(config, SEGMENTS_MIN * segment_bytes, most)?;
        let allowed = config.memory_bytes / segment_bytes;
        let total = allowed.max(config.memory_ceiling_bytes.min(most) / segment_bytes);
        let memory = match config.huge_pages {
            true => Memory::on_huge_pages(total, allowed, segment_bytes.ilog2()),
            false => Memory::new(total, segment_bytes.ilog2()),
        };
        let memory = memory.map_err(|source| ConfigError::Map { bytes: total * segment_bytes, source })?;
        memory.want(allowed);
        let slabs = SlabView::new(config.slab_factor, config.slab_chunk_min, config.slab_chunk_max, config.use_cas);
        let mut segments = Segments::new(total, last_generation);
        (0..allowed as u32).for_each(|segment| segments.switch_on(segment));

        let home = 1u32 << (allowed / 256).max(1).ilog2();
        let ghosts = if config.evict { (allowed / GHOST_SHARE) as u32 } else { 0 };
        let first = allowed as u32 - home - 1 - ghosts;
        (first..allowed as u32).for_each(|segment| segments.take(segment, SegmentState::Index));
        let pages: Vec<u32> = (first + ghosts + 1..allowed as u32).collect();
        let index = Index::new(&pages, first + ghosts, segment_bytes, total);
        let ghost = Ghost::new(memory.address(first, 0), ghosts as usize * segment_bytes);

        let stats = Arc::new(ShardStats::new(slabs.chunk_bytes()));
        let shard = Shard {
            class_rows: ClassRows::new(total, slabs.chunk_bytes().len()),
            memory,
            segments,
            index,
            slabs,
            stats,
            item_size_max: config.item_size_max,
            evict: config.evict,
            queues: Queues::EMPTY,
            merging: Merging::new(ghost, ghosts as usize),
            hasher,
            ttl_classes: (allowed / 16).clamp(1, CLASSES_MAX),
            limit: Limit { allowed, ever_on: allowed as u32, excess: 0 },
            holds: Holds::default(),
            uniques: Uniques { next: config.cas_first.max(1), step: config.cas_step.max(1) },
            flush: Flush::default(),
            epoch: Epoch::default(),
            hands: Hands { run: 0, dead: 0, index: first, unseen: 0, unseen_since: 0 },
            evicted: EvictedNotes::default(),
        };
        shard.report_memory();
        Ok(shard)
    }

    /// Whether its memory lies on huge pages that the machine keeps aside; what a later, higher limit adds does not.
    pub fn is_on_huge_pages(&self) -> bool {
        self.memory.is_on_huge_pages()
    }

    /// What makes the shard's memory ahead of use, on another thread: the index first, then segments in the order in
    /// which they are taken. To be asked for before the shard is used.
    pub fn toucher(&self) -> Toucher {
        // It lies at the end of what is allowed at the start.
        let first = self.limit.allowed - self.index.page_count();
        self.memory.toucher(first as u32..self.limit.allowed as u32)
    }

    /// Asks for the line of the index in which a lookup of `hash` begins. First of two steps over a burst of requests;
    /// [`Shard::prefetch_item`] is the second.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        self.index.prefetch(&self.memory, hash);
    }

    /// Asks for the item that a lookup of `hash` will read first, if its line of the index names one.
    #[inline]
    pub fn prefetch_item(&self, hash: KeyHash) {
        self.index.prefetch_item(&self.memory, &self.segments, hash);
    }

    /// Finds the live item of `key`, marking and counting nothing but an expired or flushed item met.
    pub fn peek(&mut self, key: Key<'_>, now: Now) -> Option<ItemRef> {
        self.lookup(key, now).map(|known| known.found.at)
    }

    /// The item at `at`; an empty one when it has gone since. Its cas unique is 0 when items have none to show.
    #[inline]
    pub fn item(&self, at: ItemRef) -> Item<'_> {
        let item = self.stored_item(at);
        Item { cas: self.shown(item.cas), ..item }
    }

    /// A cas unique as clients may know it: with `-C` it is 0, and only says what was stored before a flush.
    #[inline]
    fn shown(&self, cas: u64) -> u64 {
        if self.slabs.uses_cas() { cas } else { 0 }
    }

    /// [`Shard::item`] with its cas unique in any case.
    fn stored_item(&self, at: ItemRef) -> Item<'_> {
        let found = if self.segments.is_current(at) {
            header::read_item(self.memory.bytes_from(self.memory.at(at)))
        } else {
            None
        };
        found.unwrap_or(Item::EMPTY)
    }

    /// Holds the item's bytes as they are until [`Shard::unpin`].
    ///
    /// `None` when the item has gone, or when so many pins are out (65,536), or so much memory is held by them (half of
    /// the segments), that eviction might not find room: then copy the bytes instead.
    pub fn pin(&mut self, at: ItemRef) -> Option<Pin> {
        let current = self.segments.is_current(at);
        if !current || self.holds.pins == HOLDERS_MAX || !self.hold(at.segment, self.limit.allowed / 2) {
            self.stats.pins_refused.add(1);
            return None;
        }
        self.holds.pins += 1;
        Some(Pin { at })
    }

    /// The item a pin holds. Key, value, flags and cas are as they were when it was pinned.
    #[inline]
    pub fn pinned(&self, pin: &Pin) -> Item<'_> {
        self.item(pin.at)
    }

    /// Gives a pin back. Its segment is free again when nothing else holds it and no item is left in it.
    pub fn unpin(&mut self, pin: Pin) {
        self.holds.pins -= 1;
        self.unhold(pin.at.segment);
    }

    /// Where the item at `at` is and which it is, for [`Shard::loose`].
    pub(crate) fn glance(&self, at: ItemRef) -> Loose {
        Loose { at, unique: self.stored_item(at).unique }
    }

    /// The item whose bytes nobody holds; `None` as soon as they are gone, because others took their place.
    pub(crate) fn loose(&self, loose: &Loose) -> Option<Item<'_>> {
        let item = self.stored_item(loose.at);
        (item.unique == loose.unique && !item.key.is_empty()).then(|| Item { cas: self.shown(item.cas), ..item })
    }

    /// The shard's counters; clone the `Arc` to read them from another thread.
    pub fn stats(&self) -> &Arc<ShardStats> {
        &self.stats
    }

    /// Counts everything held or given out. For tests: walks the segment table.
    pub fn census(&self) -> Census {
        let mut census = Census {
            items: self.stats.curr_items.value() as usize,
            pins: self.holds.pins,
            reservations: self.holds.reservations,
            ..Census::default()
        };
        for index in 0..self.segments.total() as u32 {
            let segment = self.segments.at(index);
            let held = self.segments.at(self.segments.head_of(index)).holders != 0;
            census.segments_held += usize::from(held);
            census.segments += usize::from(segment.state != SegmentState::Off);
            match segment.state {
                SegmentState::Off => {}
                SegmentState::Free => census.segments_free += 1,
                SegmentState::Resting => census.segments_resting += 1,
                SegmentState::Open => census.segments_open += 1,
                SegmentState::Sealed | SegmentState::Tail { .. } => census.segments_sealed += 1,
                SegmentState::Index => census.segments_index += 1,
            }
        }
        census
    }

    /// [`Shard::lookup`] for a command that stores: what takes the place of an expired or flushed item has reclaimed
    /// it.
    #[inline]
    fn lookup_to_store(&mut self, key: Key<'_>, value_len: usize, now: Now) -> Option<Known> {
        let lost = |stats: &ShardStats| stats.get_expired.value() + stats.get_flushed.value();
        let before = lost(&self.stats);
        let found = self.lookup(key, now);
        if lost(&self.stats) > before {
            self.count_reclaimed(usize::from(self.class_of(key.bytes.len(), value_len, 0)) - 1, 1);
        }
        found
    }

    /// Finds the live item of `key`; takes an expired or flushed one out.
    fn lookup(&mut self, key: Key<'_>, now: Now) -> Option<Known> {
        self.lookup_inlined(key, now)
    }

    /// The same, as part of its caller, so that nothing of what is known is put down and picked up again: for gets.
    #[inline(always)]
    fn lookup_inlined(&mut self, key: Key<'_>, now: Now) -> Option<Known> {
        self.advance(now);
        let (found, layout) = self.index.find_item(&self.memory, &self.segments, key)?;
        let address = self.memory.at(found.at);
        let facts = Facts::read(self.memory.bytes_from(address), layout);
        if facts.unique < self.flush.cas {
            self.stats.get_flushed.add(1);
        } else if facts.expiry.has_passed(now) {
            self.stats.get_expired.add(1);
        } else {
            return Some(Known { found, address, layout, facts });
        }
        self.unlink(found);
        None
    }

    /// Notes that somebody asked for the item at `at`, whose bytes begin at `address`.
    #[inline]
    fn mark_fetched(&mut self, at: ItemRef, address: usize, now: Now) {
        if header::mark_fetched(&mut self.memory, address, now.secs) {
            self.segments.at_mut(at.segment).live_unfetched -= 1;
        }
    }

    /// The expiry field is kept in every item where nothing may be evicted, so that touch needs no room.
    fn wants_expiry_field(&self) -> bool {
        !self.evict
    }

    /// Takes note of `now`: a delayed flush comes into force.
    #[inline]
    fn advance(&mut self, now: Now) {
        if let Some(at) = self.flush.at
            && now.secs >= at
        {
            self.flush_up_to_now();
            if now.secs > at {
                self.flush.at = None;
            }
        }
    }

    /// Makes every item stored until now a miss.
    fn flush_up_to_now(&mut self) {
        if self.flush.cas != self.uniques.next {
            self.flush.cas = self.uniques.next;
            self.hands.unseen = self.segments.total();
        }
    }

    /// Counts one more holder of `segment`'s bytes, unless more than `most` segments would then be held.
    fn hold(&mut self, segment: u32, most: usize) -> bool {
        let run = self.segments.at(segment).run as usize;
        let segment = self.segments.at_mut(segment);
        if segment.holders == 0 {
            if self.holds.segments + run > most {
                return false;
            }
            self.holds.segments += run;
        }
        segment.holders += 1;
        true
    }

    /// Counts one holder less.
    fn unhold(&mut self, index: u32) {
        let segment = self.segments.at_mut(index);
        segment.holders -= 1;
        if segment.holders == 0 {
            self.holds.segments -= segment.run as usize;
            self.release_if_empty(index);
        }
    }
}

/// A reading of [`Expiry`] for the table: nothing is later than never.
pub(crate) fn note_latest(latest: &mut Expiry, expiry: Expiry) {
    *latest = crate::store::expiry::later(*latest, expiry);
}
