//! Orders to the whole shard, and the work that keeps its operations short.

use crate::clock::{Expiry, Now};
use crate::store::config::MemoryLimitError;
use crate::store::segment::SegmentState;

use super::{SEGMENTS_MIN, Shard};

/// Segments switched on, or given up, by one call that changes the limit or maintains.
const LIMIT_STEP: usize = 64;
/// Items looked at by one step of merging.
const ITEMS_PER_STEP: usize = 8;

impl Shard {
    /// Makes every item stored until now a miss; with an `exptime` above 0, from that second on every item stored until
    /// then. A later order replaces one that is not yet in force.
    ///
    /// Follows memcached 1.6.45 to the second: `flush_all 1` takes effect at once and for the rest of this second, and
    /// a unix time before the process's epoch only cancels an order not yet in force. Deviates: items flushed stay
    /// flushed when a delayed order follows; memcached shows those not yet met again until the new order is in force.
    pub fn flush_all(&mut self, exptime: i64, now: Now) {
        self.advance(now);
        self.stats.cmd_flush.add(1);
        self.flush.at = None;
        if exptime <= 0 {
            if self.slabs.uses_cas() {
                self.flush_up_to_now();
            } else {
                // Without uniques memcached goes by the second: what is stored until its end is flushed as well.
                self.flush.at = Some(now.secs);
                self.advance(now);
            }
            return;
        }
        // The flush takes items stored up to the end of the second before.
        let last = Expiry::from_exptime(exptime, now).secs().saturating_sub(1);
        if last >= now.secs {
            self.flush.at = Some(last);
            self.advance(now);
        } else if last > 0 {
            self.flush_up_to_now();
        }
    }

    /// Sets the bytes that segments, index and what is in flight may take together.
    ///
    /// A lower limit is reached as segments come free: operations and [`Shard::maintain`] evict towards it. The memory
    /// is not given back to the system.
    ///
    /// # Errors
    /// [`MemoryLimitError`] when the new limit is below what the index, what is held and two of the largest items need,
    /// or above the address space reserved at start.
    pub fn set_memory_limit(&mut self, bytes: usize) -> Result<(), MemoryLimitError> {
        let segment_bytes = self.memory.segment_bytes();
        let items = (2 * (self.item_size_max as usize).div_ceil(segment_bytes)).max(SEGMENTS_MIN);
        let least = (self.index.page_count() * 2).max(self.index.page_count() + items) + self.holds.segments;
        let wanted = bytes / segment_bytes;
        if wanted < least {
            return Err(MemoryLimitError::TooSmall { given: bytes, least: least * segment_bytes });
        }
        if wanted > self.segments.total() {
            return Err(MemoryLimitError::TooLarge { given: bytes, most: self.segments.total() * segment_bytes });
        }
        if wanted >= self.limit.allowed {
            let mut more = wanted - self.limit.allowed;
            let settled = more.min(self.limit.excess);
            self.limit.excess -= settled;
            more -= settled;
            let mut index = 0;
            while more > 0 && index < self.segments.total() as u32 {
                if self.segments.at(index).state == SegmentState::Off {
                    self.segments.switch_on(index);
                    more -= 1;
                }
                index += 1;
            }
            self.limit.ever_on = self.limit.ever_on.max(index);
        } else {
            self.limit.excess += self.limit.allowed - wanted;
        }
        self.limit.allowed = wanted;
        self.memory.want(wanted);
        self.settle_excess();
        self.report_memory();
        Ok(())
    }

    /// Does up to `budget` steps of the work that keeps operations short, each about as long as one operation: gives up
    /// segments whose items are all expired or flushed, evicts towards a lowered limit, merges, sweeps the index.
    /// Returns whether there is more to do soon.
    pub fn maintain(&mut self, now: Now, budget: u32) -> bool {
        self.advance(now);
        let mut left = budget;
        while left > 0 && self.index.stale() != 0 {
            self.sweep(1);
            left -= 1;
        }
        self.wake_rested();
        // A segment whose last item leaves comes free at once. Only time and flushes make one dead unnoticed, so one
        // round over all segments is enough after each.
        if self.hands.unseen_since != now.secs {
            (self.hands.unseen_since, self.hands.unseen) = (now.secs, self.segments.total());
        }
        let looks = LIMIT_STEP.min(left as usize);
        while left > 0 && self.hands.unseen > 0 && self.release_dead_somewhere(now, looks) {
            left -= 1;
        }
        self.settle_excess();
        while left > 0 && self.limit.excess > 0 && self.reclaim(now) {
            self.settle_excess();
            left -= 1;
        }
        while left > 0 && self.merge(ITEMS_PER_STEP, now) {
            left -= 1;
        }
        self.report_memory();
        (left == 0 || self.hands.unseen > 0) && budget > 0
    }

    /// Whether segments may be dead that [`maintain`](Self::maintain) has not looked at since the second began: a core
    /// that has nothing else to do goes on with them before it sleeps, so that what has expired is free soon.
    #[inline]
    pub fn may_hold_dead(&self) -> bool {
        self.hands.unseen > 0
    }
}
