//! The table of segments: what each holds, who holds it, and in which order they were filled.
//!
//! ```text
//!  off ◄──► free ──► open ──► sealed ──► free        (one segment)
//!             └────► sealed (head) + tails ──► free  (a run: one item longer than a segment)
//!             └────► index                           (for good)
//!           resting ──► free                         (its generation is about to repeat; see below)
//! ```
//!
//! **Generations.** A slot of the index names a segment, an offset and the segment's generation. Freeing a segment
//! moves its generation on, which makes all its slots stale at once without touching one. Generations run through
//! 1..=last and start again; a stale slot must be gone before its generation comes round. They are split in two halves.
//! While a segment is in one half, its stale slots of the other half were all written before it entered this one. So it
//! notes on entering a half how many full sweeps of the index have ended, and may enter the next half only when two
//! more have: the second of them began after the note, visited every bucket, and took every slot that was stale then,
//! that is every slot of the half about to be entered. Until then the segment rests: it is not reused, and its
//! generation is none at all, so that those slots stay stale. A sweep goes
//! upwards and a split of the index moves slots only upwards, so a sweep misses none.
//!
//! Read first: Yang, Yue and Vinayak, "Segcache" (NSDI 2021).

use super::expiry::CLASSES_MAX;
use crate::clock::{Expiry, Now};
use crate::lists::Lists;
use crate::store::item::ItemRef;

/// The list of free segments that were in use before, and that of those that never were.
const FREE: usize = 0;
const UNUSED: usize = 1;
/// The list of resting segments.
const RESTING: usize = 2;
/// The first of the lists of sealed segments, oldest first: one for each queue and class of like time-to-live.
const SEALED: usize = 3;
/// So many segments that were never in use are few: they are used up before others are used again.
const FEW_UNUSED: usize = 16;

/// The generation of a resting segment: that of no slot, since the next one may still be that of a stale slot.
const NO_GENERATION: u16 = u16::MAX;

/// What a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Beyond the memory limit.
    Off,
    /// Holds nothing.
    Free,
    /// Holds nothing and waits for sweeps of the index.
    Resting,
    /// Items are being appended.
    Open,
    /// Full, or the head of a run.
    Sealed,
    /// Part of the run whose head is `distance` segments before.
    Tail {
        /// Segments from the head to here.
        distance: u32,
    },
    /// Part of the index.
    Index,
}

/// In which of the two queues a segment waits to be looked at (S3-FIFO's names).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fifo {
    /// New items, on trial.
    Small,
    /// Items that stood the trial.
    Main,
}

/// One segment. Of a run, the head speaks for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) state: SegmentState,
    /// The class of like time-to-live.
    pub(crate) class: u8,
    /// Whether its items were asked for when they were looked at last, or came back after an eviction.
    pub(crate) queue: Fifo,
    /// Segments of the run; 1 for a segment alone.
    pub(crate) run: u32,
    /// Pins and reservations on its bytes.
    pub(crate) holders: u32,
    /// Bytes appended so far.
    pub(crate) used: u32,
    /// Of those, bytes of items no longer linked.
    pub(crate) dead_bytes: u32,
    /// Linked items.
    pub(crate) live: u32,
    /// Linked items never asked for.
    pub(crate) live_unfetched: u32,
    /// Sizes of the linked items, as memcached counts them.
    pub(crate) live_bytes: u64,
    /// The latest expiry of any item ever linked here.
    pub(crate) latest_expiry: Expiry,
    /// The largest cas unique of any item ever linked here.
    pub(crate) largest_cas: u64,
    /// When it was opened or last moved to the end of a queue, in such events before it.
    pub(crate) sequence: u64,
    /// Whether it was ever in use, so that its memory is there.
    was_used: bool,
    /// For a resting segment: the number of ended sweeps at which it is free, and its generation then.
    rest_until: u64,
    rest_generation: u16,
    /// Ended sweeps when the generation entered the present half.
    half_entered: u64,
}

impl Segment {
    const OFF: Segment = Segment {
        state: SegmentState::Off,
        class: 0,
        queue: Fifo::Small,
        run: 1,
        holders: 0,
        used: 0,
        dead_bytes: 0,
        live: 0,
        live_unfetched: 0,
        live_bytes: 0,
        latest_expiry: Expiry::PAST,
        largest_cas: 0,
        sequence: 0,
        was_used: false,
        rest_until: 0,
        rest_generation: 0,
        half_entered: 0,
    };

    /// Whether every item is expired or flushed, so that the segment may be freed without loss.
    pub(crate) fn is_dead(&self, now: Now, flush_cas: u64) -> bool {
        self.live == 0 || self.latest_expiry.has_passed(now) || self.largest_cas < flush_cas
    }
}

/// All segments of a shard.
#[derive(Debug)]
pub(crate) struct Segments {
    table: Vec<Segment>,
    generations: Vec<u16>,
    last_generation: u16,
    /// Who waits for what: [`FREE`] and the following.
    lists: Lists,
    sequence: u64,
}

impl Segments {
    /// A table of `total` segments, all off. Generations run through 1..=`last_generation`.
    pub(crate) fn new(total: usize, last_generation: u16) -> Segments {
        Segments {
            table: vec![Segment::OFF; total],
            generations: vec![1; total],
            last_generation,
            lists: Lists::new(SEALED + 2 * CLASSES_MAX, total),
            sequence: 0,
        }
    }

    /// How many there are, those off included.
    pub(crate) fn total(&self) -> usize {
        self.table.len()
    }

    /// Segments that may be taken at once.
    pub(crate) fn free_count(&self) -> usize {
        self.lists.len(FREE) + self.lists.len(UNUSED)
    }

    /// The free segment to be taken next: while many were never in use, of those that were the one that has been free the
    /// longest, if there is one. Memory that nobody has touched has to be made by the kernel first, which takes longer than to
    /// fill it. The last few are taken before others, as those that have been free the longest.
    pub(crate) fn free_head(&self) -> Option<u32> {
        let (first, then) = if self.lists.len(UNUSED) > FEW_UNUSED { (FREE, UNUSED) } else { (UNUSED, FREE) };
        self.lists.first(first).or(self.lists.first(then))
    }

    /// Segments that wait for sweeps.
    pub(crate) fn resting_count(&self) -> usize {
        self.lists.len(RESTING)
    }

    /// The segment `index`.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> &Segment {
        &self.table[index as usize]
    }

    /// The segment `index`, to be changed. Its links and its state's lists are this table's own.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut Segment {
        &mut self.table[index as usize]
    }

    /// The generation of `index` now.
    #[inline]
    pub(crate) fn generation(&self, index: u32) -> u32 {
        u32::from(self.generations[index as usize])
    }

    /// Whether `at` names bytes that have not been given up since.
    #[inline]
    pub(crate) fn is_current(&self, at: ItemRef) -> bool {
        self.generations.get(at.segment as usize).is_some_and(|&now| u32::from(now) == at.generation)
    }

    /// The head of the run that `index` is part of; itself when it is alone.
    pub(crate) fn head_of(&self, index: u32) -> u32 {
        match self.at(index).state {
            SegmentState::Tail { distance } => index - distance,
            _ => index,
        }
    }

    /// Turns a segment that is off into a free one.
    pub(crate) fn switch_on(&mut self, index: u32) {
        debug_assert_eq!(self.at(index).state, SegmentState::Off);
        self.at_mut(index).state = SegmentState::Free;
        self.lists.push_back(if self.at(index).was_used { FREE } else { UNUSED }, index);
    }

    /// Turns a free segment off.
    pub(crate) fn switch_off(&mut self, index: u32) {
        self.take(index, SegmentState::Off);
    }

    /// Takes the free segment `index` into use as `state`, with nothing in it.
    pub(crate) fn take(&mut self, index: u32, state: SegmentState) {
        debug_assert_eq!(self.at(index).state, SegmentState::Free);
        self.lists.remove(index);
        let half_entered = self.at(index).half_entered;
        let sequence = self.sequence;
        self.sequence += 1;
        let was_used = self.at(index).was_used || state != SegmentState::Off;
        *self.at_mut(index) = Segment { state, sequence, half_entered, was_used, ..Segment::OFF };
    }

    /// Takes `run` free segments from `head` on as one run.
    pub(crate) fn take_run(&mut self, head: u32, run: u32) {
        for distance in 1..run {
            self.take(head + distance, SegmentState::Tail { distance });
        }
        self.take(head, SegmentState::Sealed);
        self.at_mut(head).run = run;
    }

    /// How many segments have been opened, as a measure of age: compare with [`Segment::sequence`].
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Makes `index` as young as one opened now.
    pub(crate) fn rejuvenate(&mut self, index: u32) {
        self.at_mut(index).sequence = self.sequence;
        self.sequence += 1;
    }

    /// Gives up the segment or run at `head` and all its slots. `sweeps` is the number of ended sweeps of the index.
    pub(crate) fn give_up(&mut self, head: u32, sweeps: u64) {
        debug_assert!(matches!(self.at(head).state, SegmentState::Open | SegmentState::Sealed));
        debug_assert_eq!(self.at(head).holders, 0);
        let run = self.at(head).run;
        for index in head + 1..head + run {
            self.at_mut(index).state = SegmentState::Off;
            self.switch_on(index);
        }
        let last = self.last_generation;
        let generation = if self.generations[head as usize] == last { 1 } else { self.generations[head as usize] + 1 };
        self.generations[head as usize] = generation;
        let segment = &mut self.table[head as usize];
        let mut rest_until = sweeps;
        if generation == 1 || generation == last / 2 + 1 {
            rest_until = segment.half_entered + 2;
            segment.half_entered = rest_until.max(sweeps);
        }
        segment.run = 1;
        segment.live = 0;
        if rest_until > sweeps {
            segment.state = SegmentState::Resting;
            (segment.rest_until, segment.rest_generation) = (rest_until, generation);
            self.generations[head as usize] = NO_GENERATION;
            self.lists.push_back(RESTING, head);
        } else {
            segment.state = SegmentState::Off;
            self.switch_on(head);
        }
    }

    /// Frees the resting segments, up to `most`, whose sweeps have ended.
    pub(crate) fn wake_rested(&mut self, sweeps: u64, most: usize) {
        for _ in 0..most {
            let Some(index) = self.lists.first(RESTING) else { return };
            if self.at(index).rest_until > sweeps {
                return;
            }
            self.generations[index as usize] = self.at(index).rest_generation;
            self.at_mut(index).state = SegmentState::Off;
            self.switch_on(index);
        }
    }

    /// Puts a sealed segment or run at the end of the list of its queue and class.
    pub(crate) fn push_sealed(&mut self, head: u32) {
        let segment = self.at(head);
        self.lists.push_back(SEALED + segment.queue as usize * CLASSES_MAX + usize::from(segment.class), head);
    }

    /// The oldest sealed segment or run of each class of `queue`.
    pub(crate) fn sealed_heads(&self, queue: Fifo) -> impl Iterator<Item = u32> + '_ {
        let first = SEALED + queue as usize * CLASSES_MAX;
        (first..first + CLASSES_MAX).filter_map(|list| self.lists.first(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_rests_when_its_generation_would_come_round_unswept() {
        let mut segments = Segments::new(1, 4);
        segments.switch_on(0);
        let cycle = |segments: &mut Segments, sweeps| {
            segments.take(0, SegmentState::Sealed);
            segments.give_up(0, sweeps);
            (segments.generation(0), segments.at(0).state)
        };
        assert_eq!(cycle(&mut segments, 0), (2, SegmentState::Free));
        assert_eq!(
            cycle(&mut segments, 0),
            (u32::from(NO_GENERATION), SegmentState::Resting),
            "the upper half, with no sweep since the start"
        );
        segments.wake_rested(1, 8);
        assert_eq!(segments.at(0).state, SegmentState::Resting, "the sweep that ended may have begun before");
        segments.wake_rested(2, 8);
        assert_eq!(segments.generation(0), 3);
        assert_eq!(cycle(&mut segments, 2), (4, SegmentState::Free));
        assert_eq!(cycle(&mut segments, 3).1, SegmentState::Resting, "one sweep since it entered the upper half");
        segments.wake_rested(4, 8);
        assert_eq!(cycle(&mut segments, 9), (2, SegmentState::Free));
        assert_eq!(cycle(&mut segments, 9), (3, SegmentState::Free), "enough sweeps: no rest");
    }

    #[test]
    fn a_run_is_taken_and_given_up_whole() {
        let mut segments = Segments::new(8, 4);
        (0..8).for_each(|index| segments.switch_on(index));
        segments.take_run(2, 4);
        assert_eq!((segments.free_count(), segments.head_of(5), segments.head_of(2)), (4, 2, 2));
        let old = ItemRef { segment: 2, offset: 0, generation: segments.generation(2) };
        assert!(segments.is_current(old));
        segments.give_up(2, 0);
        assert!(!segments.is_current(old));
        assert_eq!((segments.free_count(), segments.head_of(5)), (8, 5));
    }

    #[test]
    fn while_many_segments_were_never_used_those_that_were_are_used_again_first() {
        let mut segments = Segments::new(30, 100);
        (0..30).for_each(|index| segments.switch_on(index));
        let take = |segments: &mut Segments, most: usize| -> Vec<u32> {
            let next = || {
                let next = segments.free_head()?;
                segments.take(next, SegmentState::Sealed);
                Some(next)
            };
            std::iter::from_fn(next).take(most).collect()
        };
        assert_eq!(take(&mut segments, 3), [0, 1, 2]);
        segments.take_run(4, 2);
        segments.switch_off(3);
        for head in [1, 4, 0] {
            segments.give_up(head, 0);
        }
        segments.switch_on(3);
        assert_eq!(segments.free_count(), 29);
        assert_eq!(take(&mut segments, 6), [1, 5, 4, 0, 6, 7], "those given up, the longest free first");
        segments.give_up(6, 0);
        assert_eq!(take(&mut segments, 2), [6, 8]);
        for head in [0, 1] {
            segments.give_up(head, 0);
        }
        assert_eq!(take(&mut segments, 2), [0, 1]);
        assert_eq!(take(&mut segments, 6), [9, 10, 11, 12, 13, 14]);
        segments.give_up(0, 0);
        let last: Vec<u32> = (15..30).chain([3, 0]).collect();
        assert_eq!(
            take(&mut segments, 30),
            last,
            "few were never used: these first, and 3, switched off and on, as well"
        );
        for head in [20, 2] {
            segments.give_up(head, 0);
        }
        assert_eq!(take(&mut segments, 30), [20, 2], "all were used");
    }
}
