//! The hash index: from a key's hash to its item's place, one cache line for most lookups.
//!
//! A bucket is one cache line of eight 8-byte slots. A ninth item turns the last slot into a link to an overflow line
//! of the same form. A slot is
//!
//! ```text
//!  63      48 47       37 36      20 19       0
//! |   tag    | generation | segment |  offset  |
//! ```
//!
//! with generation 0 for "empty" and for links, which no segment ever has: a slot whose generation is not its segment's
//! present one is stale and counts as empty (see `segment.rs` for why it cannot be mistaken later).
//!
//! The index grows by linear hashing, one bucket split at a time, and a split reads no item: the bits that tell the two
//! halves apart are the low bits of the tag. That leaves 16 - (doublings since start) bits of the tag to tell keys
//! apart; the rare false match costs one read of an item's key. The lines sit in segments of the shard's own memory, so
//! that they count against its limit; they are never given back.
//!
//! Read first: Litwin, "Linear hashing" (VLDB 1980).

/// A walk over every item.
mod walk;

use arrayvec::ArrayVec;

use crate::key::{Key, KeyHash};
use crate::store::header::{self, Layout};
use crate::store::item::ItemRef;
use crate::store::memory::{LINE_BYTES, Memory};
use crate::store::segment::Segments;

/// Bits of a slot that hold the offset in the segment.
pub(crate) const OFFSET_BITS: u32 = 20;
/// Bits of a slot that hold the segment.
pub(crate) const SEGMENT_BITS: u32 = 17;
/// Bits of a slot that hold the generation.
pub(crate) const GENERATION_BITS: u32 = 11;
/// Slots of a line.
const SLOTS: usize = 8;
/// Lines of the longest chain, its bucket included. With a keyed hash a chain of more than three is a rarity.
const CHAIN_LINES_MAX: usize = 8;
/// Slots of the longest chain: the last slot of all lines but one is a link.
const CHAIN_SLOTS_MAX: usize = CHAIN_LINES_MAX * (SLOTS - 1) + 1;
/// The index grows when it holds more than this many items for every two buckets.
const ITEMS_PER_TWO_BUCKETS: u64 = 13;

/// So many low bits of a number, at most 31, and the mask that keeps them: lookups make none.
#[derive(Debug, Clone, Copy)]
struct LowBits {
    count: u32,
    mask: u32,
}

impl LowBits {
    fn new(count: u32) -> LowBits {
        LowBits { count, mask: (1 << count) - 1 }
    }

    #[inline]
    fn of(self, number: u32) -> u32 {
        number & self.mask
    }

    /// Those and one more.
    #[inline]
    fn one_more_of(self, number: u32) -> u32 {
        number & (self.mask << 1 | 1)
    }
}

/// One slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const EMPTY: Slot = Slot(0);

    fn new(tag: u16, at: ItemRef) -> Slot {
        debug_assert!(at.generation != 0 && at.generation < 1 << GENERATION_BITS);
        debug_assert!(at.segment < 1 << SEGMENT_BITS && at.offset < 1 << OFFSET_BITS);
        Slot(
            u64::from(tag) << 48
                | u64::from(at.generation) << (SEGMENT_BITS + OFFSET_BITS)
                | u64::from(at.segment) << OFFSET_BITS
                | u64::from(at.offset),
        )
    }

    #[inline]
    fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline]
    fn at(self) -> ItemRef {
        ItemRef {
            generation: (self.0 >> (SEGMENT_BITS + OFFSET_BITS)) as u32 & ((1 << GENERATION_BITS) - 1),
            segment: (self.0 >> OFFSET_BITS) as u32 & ((1 << SEGMENT_BITS) - 1),
            offset: self.0 as u32 & ((1 << OFFSET_BITS) - 1),
        }
    }

    /// A link to overflow line `line`: its number plus one, under generation and tag 0.
    fn link(line: u32) -> Slot {
        Slot(u64::from(line) + 1)
    }

    /// The overflow line this slot links to.
    #[inline]
    fn as_link(self) -> Option<u32> {
        (self.0 != 0 && self.0 < 1 << (SEGMENT_BITS + OFFSET_BITS)).then(|| (self.0 - 1) as u32)
    }
}

/// The tag of the slot `word`, read alone.
#[inline(always)]
fn tag_of(word: [u8; 8]) -> u16 {
    u16::from_le_bytes([word[6], word[7]])
}

/// The first slot of a line that has this tag.
#[inline(always)]
fn slot_with(words: &[[u8; 8]; SLOTS], tag: u16) -> Option<usize> {
    words.iter().position(|&word| tag_of(word) == tag)
}

pub(crate) use walk::Cursor;

/// A slot's place, as [`Index::find`] met it. Good until the index changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    line: usize,
    slot: usize,
    /// Where the item is.
    pub(crate) at: ItemRef,
}

/// What the index did since start. Moves with every line or item read, so that tests can bound the work of an
/// operation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Lines of the index read.
    pub(crate) probes: u64,
    /// Items whose header or key was read.
    pub(crate) items: u64,
}

/// The lines that continue full buckets.
#[derive(Debug, Default)]
struct Overflow {
    pages: Vec<u32>,
    /// First line of the list of free ones plus one; each holds the next in its first word.
    free: u64,
    free_len: u32,
    /// Lines ever used.
    carved: u32,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    pages: Vec<u32>,
    overflow: Overflow,
    /// The bits of a line's number that place it in its page.
    in_page: LowBits,
    /// Those of a bucket's number that come from the hash's home bits: all at start. Further ones come from the tag.
    home: LowBits,
    /// Those of a bucket that is not split at the present level.
    level: LowBits,
    split: u32,
    sweep_at: u32,
    sweeps_ended: u64,
    /// Slots that no longer name an item.
    stale: u64,
    /// Sweeps to be done before every chain is as short as it can be: two after an item was removed.
    sweeps_owed: u8,
    pub(crate) work: Work,
}

impl Index {
    /// An index whose buckets fill the segments `pages`, a power of two of them, all zero; with `overflow` for its
    /// first overflow lines. `pages_max` bounds the segments it will ever have.
    pub(crate) fn new(pages: &[u32], overflow: u32, segment_bytes: usize, pages_max: usize) -> Index {
        debug_assert!(pages.len().is_power_of_two());
        let lines_per_page_log2 = (segment_bytes / LINE_BYTES).ilog2();
        let mut home = Vec::with_capacity(pages_max);
        home.extend_from_slice(pages);
        let mut overflow_pages = Vec::with_capacity(pages_max);
        overflow_pages.push(overflow);
        let level = lines_per_page_log2 + pages.len().ilog2();
        Index {
            pages: home,
            overflow: Overflow { pages: overflow_pages, ..Overflow::default() },
            in_page: LowBits::new(lines_per_page_log2),
            home: LowBits::new(level),
            level: LowBits::new(level),
            split: 0,
            sweep_at: 0,
            sweeps_ended: 0,
            stale: 0,
            sweeps_owed: 0,
            work: Work::default(),
        }
    }

    /// Segments it occupies.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len() + self.overflow.pages.len()
    }

    /// How often every bucket has been visited since start.
    pub(crate) fn sweeps_ended(&self) -> u64 {
        self.sweeps_ended
    }

    /// Slots that wait to be reused or swept.
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }

    /// Whether sweeping would take out stale slots or shorten chains.
    #[inline]
    pub(crate) fn wants_sweep(&self) -> bool {
        self.stale != 0 || self.sweeps_owed != 0
    }

    /// Notes that `slots` slots have become stale at once, with their segment's generation.
    pub(crate) fn note_stale(&mut self, slots: u32) {
        self.stale += u64::from(slots);
    }

    #[inline]
    fn buckets(&self) -> u32 {
        (1 << self.level.count) + self.split
    }

    #[inline]
    fn bucket_of(&self, home: u32, tag: u16) -> u32 {
        let wide = self.home.of(home) | u32::from(tag) << self.home.count;
        let bucket = self.level.of(wide);
        if bucket < self.split { self.level.one_more_of(wide) } else { bucket }
    }

    #[inline]
    fn line_address(&self, pages: &[u32], memory: &Memory, line: u32) -> usize {
        let page = pages[(line >> self.in_page.count) as usize];
        memory.address(page, 0) + self.in_page.of(line) as usize * LINE_BYTES
    }

    #[inline(always)]
    fn home_line(&self, memory: &Memory, hash: KeyHash) -> usize {
        self.line_address(&self.pages, memory, self.bucket_of(hash.home_bits(), hash.tag_bits()))
    }

    /// Asks for the cache line in which a lookup of `hash` begins.
    #[inline]
    pub(crate) fn prefetch(&self, memory: &Memory, hash: KeyHash) {
        memory.prefetch(self.home_line(memory, hash));
    }

    /// Asks for the first item that a lookup of `hash` will read. Its bucket should be in the cache by now. Called in
    /// loops over a burst; what does not change in them is read once where it is inlined.
    #[inline(always)]
    pub(crate) fn prefetch_item(&self, memory: &Memory, segments: &Segments, hash: KeyHash) {
        let words = memory.words(self.home_line(memory, hash));
        if let Some(slot) = slot_with(words, hash.tag_bits()) {
            let at = Slot(u64::from_le_bytes(words[slot])).at();
            if segments.is_current(at) {
                memory.prefetch(memory.at(at));
            }
        }
    }

    /// Finds the slot of `key`.
    #[inline]
    pub(crate) fn find(&mut self, memory: &Memory, segments: &Segments, key: Key<'_>) -> Option<Found> {
        self.find_item(memory, segments, key).map(|(found, _)| found)
    }

    /// Finds the slot of `key`, and the layout of its item.
    ///
    /// Nearly every key that is there is in the first slot with its tag, so that of each line this slot alone is looked
    /// at here.
    #[inline(always)]
    pub(crate) fn find_item(&mut self, memory: &Memory, segments: &Segments, key: Key<'_>) -> Option<(Found, Layout)> {
        let mut line = self.home_line(memory, key.hash);
        loop {
            self.work.probes += 1;
            let words = memory.words(line);
            if let Some(slot) = slot_with(words, key.hash.tag_bits()) {
                return match self.item_of(memory, segments, key, words[slot]) {
                    Some((at, layout)) => Some((Found { line, slot, at }, layout)),
                    None => self.find_behind(memory, segments, key, line, slot + 1),
                };
            }
            line = self.next_line(memory, words)?;
        }
    }

    /// The same, from slot `slot` of the line at `line` on.
    #[cold]
    #[inline(never)]
    fn find_behind(
        &mut self,
        memory: &Memory,
        segments: &Segments,
        key: Key<'_>,
        mut line: usize,
        mut slot: usize,
    ) -> Option<(Found, Layout)> {
        loop {
            let words = memory.words(line);
            while let Some(&word) = words.get(slot) {
                if tag_of(word) == key.hash.tag_bits()
                    && let Some((at, layout)) = self.item_of(memory, segments, key, word)
                {
                    return Some((Found { line, slot, at }, layout));
                }
                slot += 1;
            }
            line = self.next_line(memory, words)?;
            slot = 0;
            self.work.probes += 1;
        }
    }

    /// The line that continues the one with these words, if one does.
    #[inline(always)]
    fn next_line(&self, memory: &Memory, words: &[[u8; 8]; SLOTS]) -> Option<usize> {
        let next = Slot(u64::from_le_bytes(words[SLOTS - 1])).as_link()?;
        Some(self.line_address(&self.overflow.pages, memory, next))
    }

    /// The item that the slot `word` names, and its layout, if it is current and that of `key`.
    #[inline(always)]
    fn item_of(
        &mut self,
        memory: &Memory,
        segments: &Segments,
        key: Key<'_>,
        word: [u8; 8],
    ) -> Option<(ItemRef, Layout)> {
        let at = Slot(u64::from_le_bytes(word)).at();
        if !segments.is_current(at) {
            return None;
        }
        self.work.items += 1;
        Some((at, header::layout_if_key(memory, memory.at(at), key.bytes)?))
    }

    /// Finds the slot that names the item at `at`, whose key has this hash; `None` when the item is no longer linked.
    pub(crate) fn find_at(&mut self, memory: &Memory, hash: KeyHash, at: ItemRef) -> Option<Found> {
        let wanted = Slot::new(hash.tag_bits(), at).0;
        let mut line = self.home_line(memory, hash);
        loop {
            self.work.probes += 1;
            let words = memory.line(line);
            if let Some(slot) = words.iter().position(|&word| word == wanted) {
                return Some(Found { line, slot, at });
            }
            let next = Slot(words[SLOTS - 1]).as_link()?;
            line = self.line_address(&self.overflow.pages, memory, next);
        }
    }

    /// Makes the slot found name the item at `at`, of the same key.
    #[inline]
    pub(crate) fn replace(&mut self, memory: &mut Memory, hash: KeyHash, found: Found, at: ItemRef) {
        memory.set_word(found.line, found.slot, Slot::new(hash.tag_bits(), at).0);
    }

    /// Empties the slot found.
    #[inline]
    pub(crate) fn remove(&mut self, memory: &mut Memory, found: Found) {
        self.sweeps_owed = 2;
        memory.set_word(found.line, found.slot, Slot::EMPTY.0);
    }

    /// Adds a slot for the item at `at`, whose key has none.
    ///
    /// `false` when the chain is at its longest or there is no overflow line: see [`Index::victim`].
    pub(crate) fn insert(&mut self, memory: &mut Memory, segments: &Segments, hash: KeyHash, at: ItemRef) -> bool {
        let new = Slot::new(hash.tag_bits(), at);
        let mut line = self.home_line(memory, hash);
        for lines in 1.. {
            self.work.probes += 1;
            let words = memory.line(line);
            if let Some(slot) = words.iter().position(|&word| word == Slot::EMPTY.0) {
                memory.set_word(line, slot, new.0);
                return true;
            }
            let reusable = |&word: &u64| Slot(word).as_link().is_none() && !segments.is_current(Slot(word).at());
            if self.stale != 0
                && let Some(slot) = words.iter().position(reusable)
            {
                self.stale -= 1;
                memory.set_word(line, slot, new.0);
                return true;
            }
            let last = Slot(words[SLOTS - 1]);
            if let Some(next) = last.as_link() {
                line = self.line_address(&self.overflow.pages, memory, next);
                continue;
            }
            if lines == CHAIN_LINES_MAX {
                return false;
            }
            let Some(next) = self.take_overflow_line(memory) else { return false };
            let address = self.line_address(&self.overflow.pages, memory, next);
            memory.set_line(address, &[last.0, new.0, 0, 0, 0, 0, 0, 0]);
            memory.set_word(line, SLOTS - 1, Slot::link(next).0);
            return true;
        }
        false
    }

    /// An item of the chain of `hash`, to be given up for another when [`Index::insert`] found no place.
    pub(crate) fn victim(&mut self, memory: &Memory, segments: &Segments, hash: KeyHash) -> Option<Found> {
        let line = self.home_line(memory, hash);
        self.work.probes += 1;
        let words = memory.line(line).map(Slot);
        let current = words.iter().enumerate().filter(|(_, slot)| segments.is_current(slot.at()));
        current.min_by_key(|(_, slot)| segments.at(slot.at().segment).sequence).map(|(slot, found)| Found {
            line,
            slot,
            at: found.at(),
        })
    }

    /// Whether `items` are more than the index should hold, and it can grow without another segment.
    #[inline]
    pub(crate) fn wants_split(&self, items: u64) -> bool {
        items * 2 > u64::from(self.buckets()) * ITEMS_PER_TWO_BUCKETS && self.level.count < self.home.count + 16
    }

    /// Whether the next split needs another segment for buckets: [`Index::add_page`].
    pub(crate) fn needs_page(&self) -> bool {
        self.buckets() as usize == self.pages.len() << self.in_page.count
    }

    /// Gives the index a segment for buckets. Its bytes may be anything.
    pub(crate) fn add_page(&mut self, segment: u32) {
        self.pages.push(segment);
    }

    /// Whether overflow lines are about to run out: [`Index::add_overflow_page`].
    #[inline]
    pub(crate) fn needs_overflow_page(&self) -> bool {
        self.overflow.free_len == 0 && self.overflow.carved as usize == self.overflow.pages.len() << self.in_page.count
    }

    /// Gives the index a segment for overflow lines. Its bytes may be anything.
    pub(crate) fn add_overflow_page(&mut self, segment: u32) {
        self.overflow.pages.push(segment);
    }

    /// Splits one bucket in two. There must be room: [`Index::needs_page`].
    pub(crate) fn split(&mut self, memory: &mut Memory, segments: &Segments) {
        let (from, to) = (self.split, self.buckets());
        let (from_line, to_line) =
            (self.line_address(&self.pages, memory, from), self.line_address(&self.pages, memory, to));
        let slots = self.collect(memory, segments, from_line);
        self.release_chain(memory, from_line);
        let bit = self.level.count - self.home.count;
        let (stay, go): (ArrayVec<Slot, CHAIN_SLOTS_MAX>, ArrayVec<Slot, CHAIN_SLOTS_MAX>) =
            slots.iter().copied().partition(|slot| slot.tag() >> bit & 1 == 0);
        self.write_chain(memory, from_line, &stay);
        self.write_chain(memory, to_line, &go);
        self.split += 1;
        if self.split == 1 << self.level.count {
            self.level = LowBits::new(self.level.count + 1);
            self.split = 0;
        }
    }

    /// Takes the stale slots out of the next bucket and shortens its chain.
    pub(crate) fn sweep(&mut self, memory: &mut Memory, segments: &Segments) {
        let line = self.line_address(&self.pages, memory, self.sweep_at);
        let words = memory.line(line);
        if Slot(words[SLOTS - 1]).as_link().is_some() {
            let (stale, probes) = (self.stale, self.work.probes);
            let slots = self.collect(memory, segments, line);
            let lines = (self.work.probes - probes) as usize;
            if self.stale != stale || lines_of(slots.len()) < lines {
                self.release_chain(memory, line);
                self.write_chain(memory, line, &slots);
            }
        } else {
            self.work.probes += 1;
            for (slot, &word) in words.iter().enumerate() {
                if word != 0 && !segments.is_current(Slot(word).at()) {
                    self.stale -= 1;
                    memory.set_word(line, slot, Slot::EMPTY.0);
                }
            }
        }
        self.sweep_at += 1;
        if self.sweep_at >= self.buckets() {
            self.sweep_at = 0;
            self.sweeps_ended += 1;
            self.sweeps_owed = self.sweeps_owed.saturating_sub(1);
        }
        memory.prefetch(self.line_address(&self.pages, memory, self.sweep_at));
    }

    /// Notes that no slot is stale, which is as good as two sweeps that found none. Returns whether it is so.
    pub(crate) fn end_sweeps_if_clean(&mut self) -> bool {
        if self.stale == 0 {
            self.sweep_at = 0;
            self.sweeps_ended += 2;
        }
        self.stale == 0
    }

    /// The live slots of the chain at `line`. Those that are stale count as gone: the caller rewrites the chain if any.
    fn collect(&mut self, memory: &Memory, segments: &Segments, mut line: usize) -> ArrayVec<Slot, CHAIN_SLOTS_MAX> {
        let mut slots = ArrayVec::new();
        loop {
            self.work.probes += 1;
            let words = memory.line(line).map(Slot);
            for slot in words {
                if slot == Slot::EMPTY || slot.as_link().is_some() {
                } else if segments.is_current(slot.at()) {
                    slots.push(slot);
                } else {
                    self.stale -= 1;
                }
            }
            match words[SLOTS - 1].as_link() {
                Some(next) => line = self.line_address(&self.overflow.pages, memory, next),
                None => return slots,
            }
        }
    }

    /// Gives back the overflow lines of the chain at `line`, whose slots the caller holds.
    fn release_chain(&mut self, memory: &mut Memory, line: usize) {
        let mut last = Slot(memory.line(line)[SLOTS - 1]);
        while let Some(next) = last.as_link() {
            let address = self.line_address(&self.overflow.pages, memory, next);
            last = Slot(memory.line(address)[SLOTS - 1]);
            memory.set_word(address, 0, self.overflow.free);
            self.overflow.free = u64::from(next) + 1;
            self.overflow.free_len += 1;
        }
    }

    /// Writes `slots` to the bucket at `line`, over whatever is there.
    ///
    /// Overflow lines suffice: whoever writes chains has just released at least as many. (A chain of n slots needs
    /// max(0, ceil((n - 8) / 7)) of them, and two chains never need more than the one they were split from.)
    fn write_chain(&mut self, memory: &mut Memory, mut line: usize, mut slots: &[Slot]) {
        loop {
            let mut words = [0; SLOTS];
            if slots.len() <= SLOTS {
                words.iter_mut().zip(slots).for_each(|(word, slot)| *word = slot.0);
                memory.set_line(line, &words);
                return;
            }
            let (here, rest) = slots.split_at(SLOTS - 1);
            words.iter_mut().zip(here).for_each(|(word, slot)| *word = slot.0);
            let next = self.take_overflow_line(memory).expect("as many overflow lines were released as are needed");
            words[SLOTS - 1] = Slot::link(next).0;
            memory.set_line(line, &words);
            line = self.line_address(&self.overflow.pages, memory, next);
            slots = rest;
        }
    }

    fn take_overflow_line(&mut self, memory: &Memory) -> Option<u32> {
        if self.overflow.free != 0 {
            let line = (self.overflow.free - 1) as u32;
            self.overflow.free = memory.line(self.line_address(&self.overflow.pages, memory, line))[0];
            self.overflow.free_len -= 1;
            return Some(line);
        }
        if self.needs_overflow_page() {
            return None;
        }
        self.overflow.carved += 1;
        Some(self.overflow.carved - 1)
    }
}

/// Lines of the shortest chain that holds `slots` slots: all lines but the last give one up for the link.
fn lines_of(slots: usize) -> usize {
    1 + slots.saturating_sub(SLOTS).div_ceil(SLOTS - 1)
}

#[cfg(test)]
mod tests;
