//! `stats detail`: counts by key prefix, the part of a key before the first `:`.
//!
//! Off unless an administrator asks, and nothing is made before that. Then each core counts in a table of its own that
//! any core reads: [`PREFIXES_MAX`] prefixes, as long as their names fit [`NAME_WORDS`]; [`TABLE_BYTES`] in all. A
//! prefix that finds no room is left out, and [`CoreCounters::detail_uncounted`] says how often; `stats reset` makes
//! room again.
//!
//! ```text
//!  places, by hash of the name            names
//!  | generation | offset | length | ──►   | "user42\0\0" | ...
//!  | gets | hits | sets | deletes |
//! ```
//!
//! Invariant D1: only its core writes a table. A place of another generation than the last `stats reset` began is
//! empty, so that a reset writes no table.
//! Invariant D2: a name's words are written before the place that points to them (release), and not again in that
//! generation. So a reader that finds the place (acquire), reads the name and then sees the same generation has read
//! the whole name.
//! Read first: memcached `doc/protocol.txt`, "stats detail"; memcached's `stats_prefix.c`, whose later versions keep
//! 65,536 prefixes and do not count the others.
//!
//! [`CoreCounters::detail_uncounted`]: super::CoreCounters::detail_uncounted

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use arrayvec::ArrayVec;
use cpu::Counter;

use crate::key::{KEY_MAX_BYTES, KeyHasher};
use crate::proto::word::append_word;

/// Places of one core's table, a power of two.
const PLACES: usize = 1 << 14;

/// Prefixes that one core tells apart: so many of its places that a search ends soon.
pub(crate) const PREFIXES_MAX: u32 = PLACES as u32 / 4 * 3;

/// Room of one core for names, in words of 8 bytes; each name begins a word.
const NAME_WORDS: usize = 1 << 16;

/// Bytes of one core's table.
#[cfg(test)]
const TABLE_BYTES: usize = PLACES * size_of::<PrefixCounts>() + NAME_WORDS * 8;

/// Words of the longest name.
const WORDS_MAX: usize = KEY_MAX_BYTES.div_ceil(8);

/// Names looked up, and places looked at, by one step of a dump.
const LOOKS_PER_STEP: usize = 2048;

/// The longest line of a dump: a name of which every byte is escaped, and four numbers.
const LINE_MAX_BYTES: usize = 3 * KEY_MAX_BYTES + 120;

/// What is counted for a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Get { hit: bool },
    Set,
    Delete,
}

/// Where a name is: see the module's picture. 0 is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameAt(u64);

impl NameAt {
    fn new(generation: u32, offset: usize, len: usize) -> NameAt {
        // Offsets are below 2^16, lengths below 2^8.
        NameAt(u64::from(generation) << 32 | (offset as u64) << 8 | len as u64)
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn len(self) -> usize {
        self.0 as usize & 0xff
    }

    /// The words that it takes.
    fn words(self) -> std::ops::Range<usize> {
        let start = self.0 as usize >> 8 & 0xff_ffff;
        start..start + self.len().div_ceil(8)
    }
}

#[derive(Debug, Default)]
struct PrefixCounts {
    name: AtomicU64,
    gets: Counter,
    hits: Counter,
    sets: Counter,
    deletes: Counter,
}

impl PrefixCounts {
    fn counts(&self) -> [&Counter; 4] {
        [&self.gets, &self.hits, &self.sets, &self.deletes]
    }
}

/// A name that is looked for.
struct Wanted {
    hash: u64,
    generation: u32,
    len: usize,
    /// Its bytes, filled up with zeros.
    words: ArrayVec<u64, WORDS_MAX>,
}

impl Wanted {
    fn new(hasher: &KeyHasher, generation: u32, name: &[u8]) -> Wanted {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let words = name.chunks(8).map(word).take(WORDS_MAX).collect();
        Wanted { hash: hasher.hash(name).bits(), generation, len: name.len(), words }
    }
}

/// One core's prefixes.
#[derive(Debug)]
struct PrefixTable {
    places: Box<[PrefixCounts]>,
    names: Box<[AtomicU64]>,
    /// The generation of what follows; the owner's alone.
    generation: AtomicU32,
    prefixes: AtomicU32,
    name_words: AtomicU32,
}

impl PrefixTable {
    fn new() -> PrefixTable {
        PrefixTable {
            places: (0..PLACES).map(|_| PrefixCounts::default()).collect(),
            names: (0..NAME_WORDS).map(|_| AtomicU64::new(0)).collect(),
            generation: AtomicU32::new(0),
            prefixes: AtomicU32::new(0),
            name_words: AtomicU32::new(0),
        }
    }

    /// The place of a name, and whether it is there; else it is the empty one where the name belongs. A quarter of the
    /// places is always empty.
    fn find(&self, wanted: &Wanted) -> Option<(&PrefixCounts, bool)> {
        let start = wanted.hash as usize;
        for probe in 0..PLACES {
            let place = &self.places[start.wrapping_add(probe) % PLACES];
            let name = NameAt(place.name.load(Ordering::Acquire));
            if name.generation() != wanted.generation {
                return Some((place, false));
            }
            if name.len() == wanted.len && self.words(name).eq(wanted.words.iter().copied()) {
                return Some((place, true));
            }
        }
        None
    }

    /// The place of a name that has been counted.
    fn counted(&self, wanted: &Wanted) -> Option<&PrefixCounts> {
        self.find(wanted).and_then(|(place, there)| there.then_some(place))
    }

    fn words(&self, name: NameAt) -> impl Iterator<Item = u64> {
        self.names.get(name.words()).unwrap_or_default().iter().map(|word| word.load(Ordering::Relaxed))
    }

    /// The place of a name, which is begun if there is room. The owning core only.
    fn place(&self, wanted: &Wanted) -> Option<&PrefixCounts> {
        let &Wanted { generation, len, ref words, .. } = wanted;
        if self.generation.load(Ordering::Relaxed) != generation {
            self.generation.store(generation, Ordering::Relaxed);
            self.prefixes.store(0, Ordering::Relaxed);
            self.name_words.store(0, Ordering::Relaxed);
        }
        let empty = match self.find(wanted)? {
            (place, true) => return Some(place),
            (empty, false) => empty,
        };
        let (prefixes, offset) = (self.prefixes.load(Ordering::Relaxed), self.name_words.load(Ordering::Relaxed));
        let room = self.names.get(offset as usize..offset as usize + words.len())?;
        if prefixes == PREFIXES_MAX {
            return None;
        }
        // D2: whoever reads a word of this name in place of an older one sees that the generation has changed.
        fence(Ordering::Release);
        room.iter().zip(words).for_each(|(room, &word)| room.store(word, Ordering::Relaxed));
        empty.counts().into_iter().for_each(|count| count.set(0));
        empty.name.store(NameAt::new(generation, offset as usize, len).0, Ordering::Release);
        self.prefixes.store(prefixes + 1, Ordering::Relaxed);
        self.name_words.store(offset + words.len() as u32, Ordering::Relaxed);
        Some(empty)
    }
}

/// The prefixes of all cores, and whether they are counted.
#[derive(Debug)]
pub(crate) struct Prefixes {
    on: AtomicBool,
    /// The byte that ends a prefix (memcached's `-D`, default `:`).
    delimiter: u8,
    hasher: KeyHasher,
    /// Counted up by each `stats reset`; never 0, which is the generation of places never used.
    generation: AtomicU32,
    /// By core.
    tables: Box<[OnceLock<PrefixTable>]>,
}

impl Prefixes {
    /// Of `cores` cores. `hasher` decides where a name is looked for, so that no client can choose names that collide.
    pub(crate) fn new(cores: usize, delimiter: u8, on: bool, hasher: KeyHasher) -> Prefixes {
        let tables = (0..cores).map(|_| OnceLock::new()).collect();
        let generation = AtomicU32::new(1);
        let prefixes = Prefixes { on: AtomicBool::new(false), delimiter, hasher, generation, tables };
        prefixes.set_on(on);
        prefixes
    }

    /// Whether prefixes are counted.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Counts from now on, or no more. Allocates the tables when they are first counted in.
    pub(crate) fn set_on(&self, on: bool) {
        if on {
            self.tables.iter().for_each(|table| {
                table.get_or_init(PrefixTable::new);
            });
        }
        self.on.store(on, Ordering::Relaxed);
    }

    /// Forgets every prefix.
    pub(crate) fn reset(&self) {
        if self.generation.fetch_add(1, Ordering::Relaxed) == u32::MAX {
            self.generation.store(1, Ordering::Relaxed);
        }
    }

    /// Counts for the prefix of `key`, if it has one, on `core`, whose thread alone may. `false` when there is no room.
    pub(crate) fn count(&self, core: usize, key: &[u8], counted: Counted) -> bool {
        let Some(end) = key.iter().position(|&byte| byte == self.delimiter) else { return true };
        let Some(table) = self.tables.get(core).and_then(OnceLock::get) else { return true };
        let wanted = Wanted::new(&self.hasher, self.generation.load(Ordering::Acquire), &key[..end]);
        let Some(place) = table.place(&wanted) else { return false };
        match counted {
            Counted::Get { hit } => {
                place.gets.add(1);
                place.hits.add(u64::from(hit));
            }
            Counted::Set => place.sets.add(1),
            Counted::Delete => place.deletes.add(1),
        }
        true
    }

    /// Prefixes told apart now, by the core that has most.
    pub(crate) fn most(&self) -> u64 {
        let generation = self.generation.load(Ordering::Relaxed);
        let tables = self.tables.iter().filter_map(OnceLock::get);
        let current = tables.filter(|table| table.generation.load(Ordering::Relaxed) == generation);
        current.map(|table| u64::from(table.prefixes.load(Ordering::Relaxed))).max().unwrap_or(0)
    }

    /// Appends the lines of the next prefixes to `text`, from place `from` on (0: the first) and within `room` bytes.
    /// Returns where to go on; `None` at the end. A prefix is told where the first core has it, with what all have
    /// counted, so that none is told twice.
    pub(crate) fn tell(&self, from: u32, room: usize, text: &mut Vec<u8>) -> Option<u32> {
        let end = text.len() + room;
        let generation = self.generation.load(Ordering::Relaxed);
        let (mut at, mut looks) = (from as usize, 0);
        while looks < LOOKS_PER_STEP && text.len() + LINE_MAX_BYTES <= end {
            let (core, place) = (at / PLACES, at % PLACES);
            let cell = self.tables.get(core)?;
            at += 1;
            looks += 1;
            let Some(table) = cell.get() else {
                at = (core + 1) * PLACES;
                continue;
            };
            let name = NameAt(table.places[place].name.load(Ordering::Acquire));
            if name.generation() == generation {
                looks += self.tell_one(core, table, name, text);
            }
        }
        Some(at as u32)
    }

    /// Tells the prefix `name` that `core` has, unless a core before it has it too. Returns the tables looked into.
    fn tell_one(&self, core: usize, table: &PrefixTable, name: NameAt, text: &mut Vec<u8>) -> usize {
        let words: ArrayVec<u64, WORDS_MAX> = table.words(name).take(WORDS_MAX).collect();
        let bytes: ArrayVec<u8, { WORDS_MAX * 8 }> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bytes = &bytes[..name.len().min(bytes.len())];
        let wanted = Wanted::new(&self.hasher, name.generation(), bytes);
        let (before, from_here) = self.tables.split_at(core);
        let has = |table: &OnceLock<PrefixTable>| table.get().is_some_and(|table| table.counted(&wanted).is_some());
        if let Some(first) = before.iter().position(has) {
            return first + 1;
        }
        let mut sums = [0u64; 4];
        for place in from_here.iter().filter_map(OnceLock::get).filter_map(|table| table.counted(&wanted)) {
            for (sum, count) in sums.iter_mut().zip(place.counts()) {
                *sum += count.value();
            }
        }
        // D2: after a reset, what was read may be of other names.
        fence(Ordering::Acquire);
        if self.generation.load(Ordering::Relaxed) == name.generation() {
            let [gets, hits, sets, deletes] = sums;
            text.extend_from_slice(b"PREFIX ");
            append_word(text, bytes);
            text.extend_from_slice(format!(" get {gets} hit {hits} set {sets} del {deletes}\r\n").as_bytes());
        }
        self.tables.len()
    }

    /// The lines that fit `most` bytes, and END if those are all.
    pub(crate) fn dump(&self, most: usize) -> Vec<u8> {
        let (mut text, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            if text.len() + LINE_MAX_BYTES > most {
                return text;
            }
            from = self.tell(at, most - text.len(), &mut text);
        }
        text.extend_from_slice(b"END\r\n");
        text
    }
}

#[cfg(test)]
mod tests;
