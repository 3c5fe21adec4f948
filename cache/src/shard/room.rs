//! Room for an item: the open segment of its queue and class, a free segment, or one given up for it.
//!
//! Free segments are made in step with their use by merging (`shard/merge.rs`), which looks at each item before it
//! goes. Where that does not keep up, because a long item takes many short ones' place at once, segments are given up
//! unseen: that costs the same however many items they hold, since their slots turn stale with the generation and the
//! segment's own counts are taken from the shard's. One that is held goes to the end of its queue and is met again.
//! Held segments are bounded, so that there is always one that is not.

use crate::clock::{Expiry, Now};
use crate::lists::NONE;
use crate::store::expiry::class_of;
use crate::store::item::ItemRef;
use crate::store::segment::{Fifo, SegmentState};

use super::Shard;

/// Segments looked at in one operation for one whose items are all dead.
const DEAD_SCAN: usize = 64;
/// Held segments passed over in one operation before it gives up.
pub(super) const ROTATIONS_MAX: usize = 64;
/// Segments looked at in one operation for a run, beside the run's own length.
const RUN_SCAN: usize = 4096;
/// Segments looked at for the index to grow into.
const INDEX_SCAN: usize = 64;
/// Buckets swept by an operation that waits for a resting segment.
const SWEEP_FOR_ROOM: usize = 4;
/// Segments given up for one that may be used at once: others may have to rest.
const RELEASES_MAX: usize = 8;

/// One segment in so many is left beside the index and the longest item: those being filled, and gaps.
const GAPS_PART: usize = 16;

impl Shard {
    /// Room for the `bytes` bytes of an item that expires at `expiry`, in an open segment of `queue` or in a run of its
    /// own.
    pub(super) fn room(&mut self, bytes: usize, expiry: Expiry, queue: Fifo, now: Now) -> Option<ItemRef> {
        let class = class_of(expiry, now, self.ttl_classes);
        let segment_bytes = self.memory.segment_bytes();
        if bytes > segment_bytes {
            let head = self.take_run(bytes.div_ceil(segment_bytes) as u32, now)?;
            let segment = self.segments.at_mut(head);
            (segment.class, segment.queue, segment.used) = (class as u8, queue, bytes as u32);
            self.queues.segments[queue as usize] += segment.run as usize;
            self.segments.push_sealed(head);
            return Some(ItemRef { segment: head, offset: 0, generation: self.segments.generation(head) });
        }
        if !self.open_holds(bytes, queue, class) {
            let free = self.take_segment(now)?;
            self.open_segment(free, queue, class);
            self.report_memory();
        }
        Some(self.append(bytes, queue, class))
    }

    /// Room like [`Shard::room`], for an item that is kept: nothing is given up for it.
    pub(super) fn room_to_keep(&mut self, bytes: usize, expiry: Expiry, queue: Fifo, now: Now) -> Option<ItemRef> {
        let class = class_of(expiry, now, self.ttl_classes);
        if !self.open_holds(bytes, queue, class) {
            let free = self.segments.free_head()?;
            self.open_segment(free, queue, class);
        }
        Some(self.append(bytes, queue, class))
    }

    /// Whether there is an open segment with `bytes` bytes to spare; seals one that has fewer.
    fn open_holds(&mut self, bytes: usize, queue: Fifo, class: usize) -> bool {
        let open = self.queues.open[queue as usize][class];
        if open != NONE && self.segments.at(open).used as usize + bytes > self.memory.segment_bytes() {
            self.seal(queue, class);
            return false;
        }
        open != NONE
    }

    fn open_segment(&mut self, free: u32, queue: Fifo, class: usize) {
        self.segments.take(free, SegmentState::Open);
        let segment = self.segments.at_mut(free);
        (segment.class, segment.queue) = (class as u8, queue);
        self.queues.open[queue as usize][class] = free;
        self.queues.segments[queue as usize] += 1;
    }

    /// The next `bytes` bytes of an open segment that has them.
    fn append(&mut self, bytes: usize, queue: Fifo, class: usize) -> ItemRef {
        let open = self.queues.open[queue as usize][class];
        let segment = self.segments.at_mut(open);
        let offset = segment.used;
        segment.used += bytes as u32;
        ItemRef { segment: open, offset, generation: self.segments.generation(open) }
    }

    /// Gives the last `bytes` bytes written at `at` back, if nothing was appended since.
    pub(super) fn give_back(&mut self, at: ItemRef, bytes: usize) {
        let segment = self.segments.at_mut(at.segment);
        if segment.state == SegmentState::Open && at.offset as usize + bytes == segment.used as usize {
            segment.used = at.offset;
        }
    }

    /// Moves an open segment to the end of its queue.
    fn seal(&mut self, queue: Fifo, class: usize) {
        let index = std::mem::replace(&mut self.queues.open[queue as usize][class], NONE);
        self.segments.at_mut(index).state = SegmentState::Sealed;
        self.segments.push_sealed(index);
        self.release_if_empty(index);
    }

    /// Moves a sealed segment or run to the end of `queue`.
    pub(super) fn requeue(&mut self, head: u32, queue: Fifo) {
        let segment = self.segments.at_mut(head);
        let old = std::mem::replace(&mut segment.queue, queue);
        let run = segment.run as usize;
        self.segments.push_sealed(head);
        self.queues.segments[old as usize] -= run;
        self.queues.segments[queue as usize] += run;
        self.segments.rejuvenate(head);
    }

    /// A free segment, after reclaiming or evicting as much as it takes.
    fn take_segment(&mut self, now: Now) -> Option<u32> {
        self.wake_rested();
        if self.limit.excess > 0 {
            self.reclaim(now);
            self.settle_excess();
        }
        for _ in 0..RELEASES_MAX {
            // Where nothing may be evicted the last free segment is left for merging, which gives back more.
            if let Some(free) = self.segments.free_head()
                && (self.evict || self.segments.free_count() > 1)
            {
                return Some(free);
            }
            if !self.reclaim(now) {
                return None;
            }
            self.wake_rested();
        }
        None
    }

    /// Frees resting segments whose time has come, and brings it nearer.
    pub(super) fn wake_rested(&mut self) {
        if self.segments.resting_count() != 0 {
            if !self.index.end_sweeps_if_clean() {
                self.sweep(SWEEP_FOR_ROOM);
            }
            self.segments.wake_rested(self.index.sweeps_ended(), RELEASES_MAX);
        }
    }

    /// Gives up one segment: one whose items are all dead, else what is left of the one being merged, else the oldest,
    /// unseen. `false` when there is none to give up.
    pub(super) fn reclaim(&mut self, now: Now) -> bool {
        if self.release_dead_head(now) {
            return true;
        }
        if !self.evict {
            return self.release_dead_somewhere(now, DEAD_SCAN);
        }
        if self.give_up_victim(now) {
            return true;
        }
        if let Some(oldest) = self.oldest(self.queue_to_shorten()) {
            self.evict_segment(oldest);
            return true;
        }
        let spare = self.queues.open.as_flattened().iter().copied().filter(|&open| open != NONE);
        let oldest = spare
            .filter(|&open| self.segments.at(open).holders == 0)
            .min_by_key(|&open| self.segments.at(open).sequence);
        oldest.inspect(|&open| self.evict_segment(open)).is_some()
    }

    /// Gives up one segment whose items are all dead, if it is the oldest of its class.
    pub(super) fn release_dead_head(&mut self, now: Now) -> bool {
        let dead = [Fifo::Small, Fifo::Main]
            .into_iter()
            .flat_map(|queue| self.segments.sealed_heads(queue))
            .find(|&head| self.is_dead(head, now));
        dead.inspect(|&head| self.release_dead(head, now)).is_some()
    }

    /// The oldest sealed segment that nobody holds of `queue`, or of the other one when it has none. Those held go to
    /// the end on the way.
    pub(super) fn oldest(&mut self, queue: Fifo) -> Option<u32> {
        let other = if queue == Fifo::Small { Fifo::Main } else { Fifo::Small };
        for queue in [queue, other] {
            for _ in 0..ROTATIONS_MAX {
                let heads = self.segments.sealed_heads(queue);
                let Some(oldest) = heads.min_by_key(|&head| self.segments.at(head).sequence) else { break };
                if self.segments.at(oldest).holders == 0 {
                    return Some(oldest);
                }
                self.requeue(oldest, queue);
            }
        }
        None
    }

    /// Looks at the next `most` segments and gives up the first whose items are all dead. Returns whether one was.
    pub(super) fn release_dead_somewhere(&mut self, now: Now, most: usize) -> bool {
        for _ in 0..most.min(self.segments.total()) {
            self.hands.unseen = self.hands.unseen.saturating_sub(1);
            let index = self.hands.dead;
            self.hands.dead = (index + 1) % self.segments.total() as u32;
            if self.segments.at(index).state == SegmentState::Sealed && self.is_dead(index, now) {
                self.release_dead(index, now);
                return true;
            }
        }
        false
    }

    /// Whether the segment or run at `head` could be given up without loss.
    pub(super) fn is_dead(&self, head: u32, now: Now) -> bool {
        let segment = self.segments.at(head);
        segment.holders == 0 && segment.is_dead(now, self.flush.cas)
    }

    /// Gives up the segment or run at `head`, whose items make room unless they are all dead.
    pub(super) fn give_up(&mut self, head: u32, now: Now) {
        if self.is_dead(head, now) { self.release_dead(head, now) } else { self.evict_segment(head) }
    }

    fn release_dead(&mut self, head: u32, now: Now) {
        let segment = self.segments.at(head);
        if segment.latest_expiry.has_passed(now) {
            self.stats.expired_unfetched.add(u64::from(segment.live_unfetched));
            self.classes_of(head).for_each(|(class, items)| self.count_reclaimed(class, items));
        }
        self.release(head);
    }

    /// Counts items of a slab class whose room is had because they had expired or were flushed.
    pub(super) fn count_reclaimed(&self, class: usize, items: u64) {
        self.stats.reclaimed.add(items);
        self.stats.classes[class].reclaimed.add(items);
    }

    /// The slab classes of the live items of the segment at `head`, and how many each has.
    fn classes_of(&self, head: u32) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.class_rows.row(head).iter().enumerate();
        counts.filter(|(_, count)| count.items != 0).map(|(class, count)| (class, u64::from(count.items)))
    }

    /// Counts the items of the segment at `head`, which makes room, for their slab classes.
    fn count_evicted_classes(&self, head: u32) {
        let expires = self.segments.at(head).class != 0;
        for (class, items) in self.classes_of(head) {
            self.stats.classes[class].evictions.add(items);
            if expires {
                self.stats.classes[class].evicted_nonzero.add(items);
            }
        }
    }

    /// Counts, and notes for whoever watches, the linked item at `at`, which is about to make room.
    pub(super) fn count_evicted(&mut self, at: ItemRef) {
        self.note_evicted(at);
        let item = self.item(at);
        let (fetched, expires) = (item.fetched, !item.expiry.is_never());
        let class = self.class_row_of(&item);
        self.stats.evictions.add(1);
        self.stats.evicted_unfetched.add(u64::from(!fetched));
        self.stats.classes[class].evictions.add(1);
        if expires {
            self.stats.evicted_nonzero.add(1);
            self.stats.classes[class].evicted_nonzero.add(1);
        }
    }

    pub(super) fn evict_segment(&mut self, head: u32) {
        self.note_evicted_segment(head);
        self.count_evicted_classes(head);
        let segment = self.segments.at(head);
        self.stats.evictions.add(u64::from(segment.live));
        self.stats.evicted_unfetched.add(u64::from(segment.live_unfetched));
        if segment.class != 0 {
            self.stats.evicted_nonzero.add(u64::from(segment.live));
        }
        self.release(head);
    }

    /// Gives up the open or sealed segment, or run, at `head` with all its items.
    pub(super) fn release(&mut self, head: u32) {
        self.epoch.end();
        let segment = *self.segments.at(head);
        let (queue, class) = (segment.queue as usize, usize::from(segment.class));
        self.queues.segments[queue] -= segment.run as usize;
        if segment.state == SegmentState::Open {
            self.queues.open[queue][class] = NONE;
        }
        if segment.live != 0 {
            self.index.note_stale(segment.live);
            self.stats.curr_items.sub(u64::from(segment.live));
            self.stats.bytes.sub(segment.live_bytes);
            for (class, count) in self.class_rows.row(head).iter().enumerate() {
                self.stats.classes[class].items.sub(u64::from(count.items));
                self.stats.classes[class].bytes.sub(u64::from(count.bytes));
            }
            self.class_rows.clear(head);
        }
        self.segments.give_up(head, self.index.sweeps_ended());
    }

    /// A run of `run` segments that follow one another: free ones, else those it takes to evict.
    fn take_run(&mut self, run: u32, now: Now) -> Option<u32> {
        self.wake_rested();
        self.settle_excess();
        for _ in 0..RELEASES_MAX {
            let free = self.find_run(run, |shard, index| shard.segments.at(index).state == SegmentState::Free);
            if let Some(head) = free {
                self.segments.take_run(head, run);
                self.hands.run = head + run;
                self.go_back_to_limit(run, now);
                self.report_memory();
                return Some(head);
            }
            let window = self
                .find_run(run, |shard, index| shard.may_give_up(index, now))
                .or_else(|| self.find_run(run, |shard, index| shard.may_use(index, now)))?;
            let off = (window..window + run).filter(|&index| self.segments.at(index).state == SegmentState::Off);
            if !self.evict && off.count() > self.segments.free_count() {
                return None;
            }
            for index in window..window + run {
                let head = self.segments.head_of(index);
                if self.segments.at(head).state == SegmentState::Off {
                    self.segments.switch_on(head);
                    self.limit.excess += 1;
                } else if matches!(self.segments.at(head).state, SegmentState::Open | SegmentState::Sealed) {
                    self.give_up(head, now);
                }
            }
            self.wake_rested();
        }
        None
    }

    /// Whether `index` is free or could be made so now.
    fn may_give_up(&self, index: u32, now: Now) -> bool {
        let head = self.segments.head_of(index);
        let segment = self.segments.at(head);
        match segment.state {
            SegmentState::Free => true,
            SegmentState::Open | SegmentState::Sealed => {
                segment.holders == 0 && (self.evict || self.is_dead(head, now))
            }
            SegmentState::Off | SegmentState::Resting | SegmentState::Tail { .. } | SegmentState::Index => false,
        }
    }

    /// The same, or it is one of the gaps that a lowered limit has left: another is switched off for it.
    fn may_use(&self, index: u32, now: Now) -> bool {
        let gap = index < self.limit.ever_on && self.segments.at(index).state == SegmentState::Off;
        gap || self.may_give_up(index, now)
    }

    /// Switches off what a run of `run` segments took beyond the limit.
    fn go_back_to_limit(&mut self, run: u32, now: Now) {
        self.settle_excess();
        for _ in 0..run {
            if self.limit.excess == 0 || !self.evict || !self.reclaim(now) {
                return;
            }
            self.settle_excess();
        }
    }

    /// The first `run` segments in a row, from the hand on, that are all `usable`.
    fn find_run(&self, run: u32, usable: impl Fn(&Shard, u32) -> bool) -> Option<u32> {
        let total = self.segments.total() as u32;
        let mut index = if self.hands.run < total { self.hands.run } else { 0 };
        let mut row = 0;
        for _ in 0..(total as usize + run as usize).min(RUN_SCAN + run as usize) {
            row = if usable(self, index) { row + 1 } else { 0 };
            index += 1;
            if row == run {
                return Some(index - run);
            }
            if index == total {
                (index, row) = (0, 0);
            }
        }
        None
    }

    /// Segments that the index may have: half of them, and fewer where that would leave no room for the longest item
    /// beside what is being filled.
    fn index_segments_max(&self) -> usize {
        let longest = (self.item_size_max as usize).div_ceil(self.memory.segment_bytes());
        let others = longest + self.merging.ghost_segments + 2 + self.limit.allowed / GAPS_PART;
        (self.limit.allowed / 2).min(self.limit.allowed.saturating_sub(others))
    }

    /// The highest segment that can be had, for the index, which is to grow at the upper end so that runs find room
    /// below. `None` while its items are being moved out of the way.
    pub(super) fn take_index_segment(&mut self, now: Now) -> Option<u32> {
        if self.index.page_count() >= self.index_segments_max() {
            return None;
        }
        for _ in 0..INDEX_SCAN {
            let index = self.hands.index;
            let segment = *self.segments.at(self.segments.head_of(index));
            let movable = segment.state == SegmentState::Sealed && segment.holders == 0 && segment.run == 1;
            if movable && !self.is_dead(index, now) && self.move_out_of(index, now) {
                return None;
            }
            self.hands.index = index.checked_sub(1).unwrap_or(self.segments.total() as u32 - 1);
            if !self.may_give_up(index, now) {
                continue;
            }
            let head = self.segments.head_of(index);
            match self.segments.at(head).state {
                SegmentState::Open => continue,
                SegmentState::Free => {}
                _ => self.give_up(head, now),
            }
            if self.segments.at(index).state == SegmentState::Free {
                self.segments.take(index, SegmentState::Index);
                self.report_memory();
                return Some(index);
            }
        }
        None
    }

    /// Switches free segments off while there are more than the limit allows.
    pub(super) fn settle_excess(&mut self) {
        while self.limit.excess > 0
            && let Some(free) = self.segments.free_head()
        {
            self.segments.switch_off(free);
            self.limit.excess -= 1;
        }
    }

    /// Brings the gauges of memory up to date.
    pub(super) fn report_memory(&self) {
        let segment_bytes = self.memory.segment_bytes();
        let idle = self.segments.free_count() + self.segments.resting_count();
        self.stats.limit_maxbytes.set((self.limit.allowed * segment_bytes) as u64);
        self.stats
            .segment_bytes
            .set(((self.limit.allowed + self.limit.excess).saturating_sub(idle) * segment_bytes) as u64);
        self.stats.hash_bytes.set((self.index.page_count() * segment_bytes) as u64);
    }
}
