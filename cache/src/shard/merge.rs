//! Which items stay when room is short: S3-FIFO over segments, with merging where S3-FIFO reinserts.
//!
//! ```text
//!                    asked for in small, or short: copied
//!   new item ─► small ────────────────────────────────► main ──┐  worth its bytes: copied to main's end, half as hot
//!   (a tenth)     │                                      ▲ │   │
//!                 │ neither                              │ └───┘
//!                 ▼                                      │ │ not
//!               ghost ◄────────────────────────────────────┘
//!                 └──── comes back soon: new item ───────┘
//! ```
//!
//! A segment is looked at item by item, oldest first, and is free when the last one has been copied or evicted. A full
//! shard keeps step with what it is given: an operation that takes n bytes looks on until items of n bytes have gone,
//! as far as M3 lets it, so that a set evicts about what it takes, at once, and nothing goes while nothing comes. Items
//! come to small on trial, so that a scan of items asked for once passes through a tenth of the memory. Of main the
//! better part by hits for each byte is kept (`store/worth.rs`), which always frees the rest; an item without heat
//! never is. An item that nobody asked for in small has a second trial in main if it is so
//! short that it beats what main gives up. [`Trials`](super::merging::Trials) counts how those fare, and ends second
//! trials while next to none is asked for, which is a scan. A segment of which much is dead, since its items were
//! replaced or deleted, is merged before any other and loses nothing. A run is moved from list to list and never
//! copied.
//!
//! Heat: a hit adds 4, up to 15; main's merging halves it, 3 to 2 and 2 to 0, so that 1, 5, 9 and 13 are the heats of
//! items on second trial alone.
//!
//! Invariants. M1: merging stops at a segment as soon as somebody holds it, so pinned bytes stay. M2: merging goes on
//! only in a shard that is full, and evicts only for bytes that are owed unless nearly all of the reserve is used; it
//! takes a free segment to copy into but never evicts for it.
//! M3: an operation looks at [`ITEMS_MAX`] items at most, and begins none beyond [`PROBES_MAX`] lines of the index.
//!
//! Read first: Yang, Zhang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023); Yang, Yue and
//! Vinayak, "Segcache" (NSDI 2021), §3.4. ARCHITECTURE.md has the measurements that chose this.

use crate::clock::Now;
use crate::key::KeyHash;
use crate::store::header::{self, HEAT_MAX, Layout};
use crate::store::index::Found;
use crate::store::item::ItemRef;
use crate::store::segment::{Fifo, SegmentState};
use crate::store::worth;

use super::Shard;
use super::merging::{TRIAL_HEAT, Victim, cooled};

/// Items looked at by one operation for each segment that the reserve lacks, where nothing may be evicted, and of a
/// segment that is wanted for the index.
const ITEMS_PER_MISSING: usize = 8;
/// Most items looked at by one operation.
const ITEMS_MAX: usize = 24;
/// Segments below which a shard is too small for a reserve of three.
const SMALL_SHARD: usize = 64;
/// Lines of the index read by one operation's merging, after which it begins no further item.
const PROBES_MAX: u64 = 24;
/// Bytes copied by one operation's merging, after which it begins no further item.
const COPIED_MAX: usize = 32 << 10;
/// Segments looked at for one with much dead space.
const SPARSE_SCAN: usize = 256;
/// A segment is merged for its dead space alone when that is more than one part in so many of a segment.
const SPARSE_PART: u32 = 4;
/// The same where nothing may be evicted.
const SPARSE_PART_KEEPING: u32 = 16;
/// Operations let pass after a search that found nothing to merge, where nothing may be evicted.
const PAUSE: u32 = 64;
/// Small is shortened while it has more than one segment in so many.
const SMALL_PART: usize = 10;
/// Of 256 bytes looked at in main, so many are kept.
const MAIN_SHARE: u32 = 192;
/// How much hotter than when it was evicted an item comes back.
const RETURN_HEAT: u8 = 2;

impl Shard {
    /// The queue a new item whose key has no item goes to, and its heat: both better when it was evicted lately.
    pub(super) fn admit(&mut self, hash: KeyHash) -> (Fifo, u8) {
        match self.merging.ghost.recall(&mut self.memory, hash) {
            Some(heat) => (Fifo::Main, (heat + RETURN_HEAT).min(HEAT_MAX)),
            None => (Fifo::Small, 0),
        }
    }

    /// Whether the segment of `at` is being merged: what is written there now may be gone soon.
    pub(super) fn is_being_merged(&self, at: ItemRef) -> bool {
        self.merging.victim.is_some_and(|victim| victim.at.segment == at.segment)
    }

    /// Free segments kept ahead of use: where there is eviction, one to fill and one to copy into at the least, and one
    /// more if that is a small part of the shard.
    fn reserve_segments(&self) -> usize {
        let least = match self.evict {
            false => 1,
            true if self.limit.allowed < SMALL_SHARD => 2,
            true => 3,
        };
        (self.limit.allowed / 128).clamp(least, 8)
    }

    /// Whether enough of the reserve is left for a set to evict what it takes and no more.
    fn is_in_step(&self) -> bool {
        self.missing_segments() < self.reserve_segments().min(3)
    }

    /// Segments that are free, or will be once they have rested.
    fn ready_segments(&self) -> usize {
        self.segments.free_count() + self.segments.resting_count()
    }

    /// Segments that the reserve lacks.
    fn missing_segments(&self) -> usize {
        self.reserve_segments().saturating_sub(self.ready_segments())
    }

    /// Whether there is room enough for nothing to be made. A shard with eviction is full once the reserve is used, and
    /// stays so while it has no segment beyond it: the last item of a segment often goes a little before the segment
    /// that is being filled is full, and a set of that moment shall evict as any other does.
    fn is_roomy(&mut self) -> bool {
        let (ready, reserve) = (self.ready_segments(), self.reserve_segments());
        if !self.evict {
            return ready >= reserve;
        }
        self.merging.full = ready < reserve || self.merging.full && ready == reserve;
        if !self.merging.full {
            self.merging.owed = 0;
        }
        !self.merging.full
    }

    /// Looks at a few items if fewer segments are free than should be. `taken`: bytes that the operation has taken.
    #[inline]
    pub(super) fn merge_ahead(&mut self, taken: usize, now: Now) {
        if self.is_roomy() {
            return;
        }
        self.merging.owed += taken as isize;
        let items = if self.evict { ITEMS_MAX } else { self.missing_segments() * ITEMS_PER_MISSING };
        self.merge(items.min(ITEMS_MAX), now);
    }

    /// Looks at up to `items` items of a shard that is full, while bytes are owed, too little of the reserve is left,
    /// or there is much dead space. Returns whether it did anything.
    pub(super) fn merge(&mut self, items: usize, now: Now) -> bool {
        if self.merging.pause != 0 {
            self.merging.pause -= 1;
            return false;
        }
        let last_probe = self.index.work.probes + PROBES_MAX;
        let (mut looked_at, mut copied) = (0, 0);
        while looked_at < items && copied < COPIED_MAX && self.index.work.probes < last_probe {
            if self.is_roomy() {
                break;
            }
            let in_step = self.evict && self.is_in_step() && self.merging.owed <= 0;
            match self.victim() {
                Some(victim) if in_step && !victim.sparse => break,
                Some(victim) => copied += self.look_at_next(victim, now),
                None if self.choose_without_loss(now) => {}
                None if in_step => break,
                None if self.evict && self.choose_oldest() => {}
                None => {
                    self.merging.pause = if self.evict { 0 } else { PAUSE };
                    break;
                }
            }
            looked_at += 1;
        }
        looked_at != 0
    }

    /// Notes that `bytes` bytes will not be copied. What goes because segments are missing is no credit: the next set
    /// evicts all the same.
    fn make_up_for(&mut self, bytes: usize) {
        let most = if self.is_in_step() { self.memory.segment_bytes() as isize } else { 0 };
        self.merging.owed = (self.merging.owed - bytes as isize).max(-most);
    }

    /// The victim, if it may still be looked at.
    fn victim(&mut self) -> Option<Victim> {
        let victim = self.merging.victim?;
        let good = self.segments.is_current(victim.at) && self.segments.at(victim.at.segment).holders == 0;
        if !good {
            self.merging.victim = None;
        }
        self.merging.victim
    }

    /// The queue that has more than its part.
    pub(super) fn queue_to_shorten(&self) -> Fifo {
        let [small, main] = self.queues.segments;
        if small * SMALL_PART > small + main { Fifo::Small } else { Fifo::Main }
    }

    /// Gives a segment up at once, or chooses one to look at, of which no live item will be lost. `false` when there is
    /// none.
    fn choose_without_loss(&mut self, now: Now) -> bool {
        if self.release_dead_head(now) {
            return true;
        }
        // Without a free segment there is nowhere to copy all of it to.
        let sparsest = if self.segments.free_count() != 0 { self.sparsest() } else { None };
        sparsest.inspect(|&segment| self.begin(segment, true)).is_some()
    }

    /// Chooses the oldest segment of the queue that is too long, or decides over it at once if it is a run. `false`
    /// when there is none.
    fn choose_oldest(&mut self) -> bool {
        self.merging.ghost.fit(self.stats.curr_items.value());
        let Some(oldest) = self.oldest(self.queue_to_shorten()) else { return false };
        if self.segments.at(oldest).run > 1 {
            self.look_at_run(oldest);
        } else {
            self.begin(oldest, false);
        }
        true
    }

    /// Copies a few items of the sealed `segment` elsewhere, so that it comes free. `false` when it is free now, or
    /// cannot be freed so.
    pub(super) fn move_out_of(&mut self, segment: u32, now: Now) -> bool {
        if !self.merging.victim.is_some_and(|victim| victim.at.segment == segment && victim.sparse) {
            self.begin(segment, true);
        }
        for _ in 0..ITEMS_PER_MISSING {
            match self.victim() {
                Some(victim) if victim.at.segment == segment => self.look_at_next(victim, now),
                _ => return false,
            };
        }
        true
    }

    fn begin(&mut self, segment: u32, sparse: bool) {
        let generation = self.segments.generation(segment);
        self.merging.victim = Some(Victim { at: ItemRef { segment, offset: 0, generation }, sparse });
    }

    /// The segment with the most dead space among the next few, if that is much.
    fn sparsest(&mut self) -> Option<u32> {
        let total = self.segments.total() as u32;
        let part = if self.evict { SPARSE_PART } else { SPARSE_PART_KEEPING };
        let much = self.memory.segment_bytes() as u32 / part;
        let mut best = None;
        for _ in 0..SPARSE_SCAN.min(total as usize) {
            self.merging.hand = (self.merging.hand + 1) % total;
            let segment = self.segments.at(self.merging.hand);
            if segment.state == SegmentState::Sealed
                && segment.holders == 0
                && segment.run == 1
                && segment.dead_bytes > much
            {
                best = best.max(Some((segment.dead_bytes, self.merging.hand)));
            }
        }
        best.map(|(_, segment)| segment)
    }

    /// Looks at the victim's next item, or gives the victim up at its end. Returns the bytes copied.
    fn look_at_next(&mut self, victim: Victim, now: Now) -> usize {
        let at = victim.at;
        let address = self.memory.at(at);
        let left = (self.segments.at(at.segment).used - at.offset) as usize;
        let Some(layout) = Layout::read(self.memory.bytes(address, left)) else {
            self.give_up_victim(now);
            return 0;
        };
        let bytes = layout.total();
        let next = ItemRef { offset: at.offset + bytes as u32, ..at };
        self.merging.victim = Some(Victim { at: next, ..victim });
        self.index.work.items += 1;

        let item = self.stored_item(at);
        let hash = self.hasher.hash(item.key);
        let heat = header::heat(&self.memory, address);
        let (flushed, expired, fetched) = (item.unique < self.flush.cas, item.expiry.has_passed(now), item.fetched);
        let Some(found) = self.index.find_at(&self.memory, hash, at) else {
            // Replaced or deleted.
            self.make_up_for(bytes);
            return 0;
        };
        if flushed || expired {
            if !flushed {
                self.count_reclaimed(self.class_row_of(&self.stored_item(at)), 1);
            }
            self.stats.expired_unfetched.add(u64::from(expired && !fetched));
            self.unlink(found);
            self.make_up_for(bytes);
            return 0;
        }
        let queue = self.segments.at(at.segment).queue;
        // An item of a sparse segment keeps its heat and its queue: it is copied to free the segment, and it was not its
        // turn to be judged.
        let (keep, to, heat_then) = match (victim.sparse, queue) {
            (true, _) => (true, queue, heat),
            (false, Fifo::Small) => self.judge_new(heat, bytes as u32),
            (false, Fifo::Main) => self.judge_main(heat, bytes as u32),
        };
        if keep && self.copy_kept(found, hash, bytes, (to, heat_then), now) {
            return bytes;
        }
        if victim.sparse {
            self.merging.victim = None;
        } else {
            self.merging.ghost.remember(&mut self.memory, hash, heat);
            self.count_evicted(at);
            self.epoch.end();
            self.unlink(found);
            self.make_up_for(bytes);
        }
        0
    }

    /// Whether an item of small is kept, where, and how hot.
    fn judge_new(&mut self, heat: u8, bytes: u32) -> (bool, Fifo, u8) {
        if heat != 0 {
            return (true, Fifo::Main, heat);
        }
        let short = self.merging.cutoff.passes(worth::score(heat, bytes));
        (short && self.merging.trials.are_worthwhile(), Fifo::Main, TRIAL_HEAT)
    }

    /// Whether an item of main is kept, and how hot.
    fn judge_main(&mut self, heat: u8, bytes: u32) -> (bool, Fifo, u8) {
        self.merging.trials.note(heat);
        let worth_it = self.merging.cutoff.keeps(worth::score(heat, bytes), bytes, MAIN_SHARE);
        (worth_it && heat != 0, Fifo::Main, cooled(heat))
    }

    /// Copies the item found to the end of a queue. `false` when there is no room to.
    fn copy_kept(&mut self, found: Found, hash: KeyHash, bytes: usize, (queue, heat): (Fifo, u8), now: Now) -> bool {
        let from = found.at;
        let expiry = self.item(from).expiry;
        let Some(to) = self.room_to_keep(bytes, expiry, queue, now) else { return false };
        let address = self.memory.at(to);
        self.memory.copy(self.memory.at(from), address, bytes);
        header::set_heat(&mut self.memory, address, heat);
        self.epoch.end();
        self.index.replace(&mut self.memory, hash, found, to);
        self.count_moved(from, to);
        self.stats.merged.add(1);
        true
    }

    /// Decides over the one item of a run: to main's end, or out.
    fn look_at_run(&mut self, head: u32) {
        let segment = self.segments.at(head);
        let (bytes, main) = (segment.used, segment.queue == Fifo::Main);
        let at = ItemRef { segment: head, offset: 0, generation: self.segments.generation(head) };
        let address = self.memory.address(head, 0);
        let heat = header::heat(&self.memory, address);
        self.index.work.items += 1;
        let (keep, to, heat_then) = if main { self.judge_main(heat, bytes) } else { self.judge_new(heat, bytes) };
        if keep {
            header::set_heat(&mut self.memory, address, heat_then);
            self.requeue(head, to);
        } else {
            let hash = self.hasher.hash(self.item(at).key);
            self.merging.ghost.remember(&mut self.memory, hash, heat);
            self.evict_segment(head);
            self.make_up_for(bytes as usize);
        }
    }

    /// Gives the victim up with all that is left in it. `false` when there is none to give up.
    pub(super) fn give_up_victim(&mut self, now: Now) -> bool {
        let Some(victim) = self.victim() else { return false };
        self.merging.victim = None;
        let head = victim.at.segment;
        // The end of a sparse one was not reached: its items are as good as others'.
        let goes = !victim.sparse || self.is_dead(head, now);
        if goes {
            self.give_up(head, now);
        }
        goes
    }
}

#[cfg(test)]
mod tests;
