//! `stats detail`: counts by key prefix, the part of a key before the first `:`.
//!
//! Off unless an administrator asks. Each core counts in a fixed table of its own that any core reads: a name is
//! written once, its counts by the owner alone. A prefix that finds no place is not counted.
//! Read first: memcached `doc/protocol.txt`, "stats detail"; memcached's `stats_prefix.c`.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cpu::Counter;

use crate::proto::word::append_word;

/// Prefixes that one core tells apart.
const PREFIXES_MAX: usize = 512;

/// Places looked at for a prefix.
const PROBES_MAX: usize = 8;

#[derive(Debug, Default)]
struct Prefix {
    name: OnceLock<Box<[u8]>>,
    gets: Counter,
    hits: Counter,
    sets: Counter,
    deletes: Counter,
}

/// What is counted for a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Get { hit: bool },
    Set,
    Delete,
}

/// One core's prefixes.
#[derive(Debug)]
pub(crate) struct PrefixTable {
    places: Box<[Prefix]>,
    /// The byte that ends a prefix (memcached's `-D`, default `:`).
    delimiter: u8,
    /// The `stats reset` since which its counts are.
    since: AtomicU32,
}

impl PrefixTable {
    pub(crate) fn new(delimiter: u8) -> PrefixTable {
        PrefixTable {
            delimiter,
            places: (0..PREFIXES_MAX).map(|_| Prefix::default()).collect(),
            since: AtomicU32::new(0),
        }
    }

    /// Counts for the prefix of `key`, if it has one. The owning core only; allocates for a prefix it first sees.
    pub(crate) fn count(&self, key: &[u8], counted: Counted, resets: u32) {
        if self.since.load(Ordering::Relaxed) != resets {
            self.clear();
            self.since.store(resets, Ordering::Relaxed);
        }
        let Some(end) = key.iter().position(|&byte| byte == self.delimiter) else { return };
        let name = &key[..end];
        let start = name.iter().fold(0usize, |sum, &byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        for probe in 0..PROBES_MAX {
            let place = &self.places[start.wrapping_add(probe) % PREFIXES_MAX];
            if &**place.name.get_or_init(|| name.into()) == name {
                match counted {
                    Counted::Get { hit } => {
                        place.gets.add(1);
                        place.hits.add(u64::from(hit));
                    }
                    Counted::Set => place.sets.add(1),
                    Counted::Delete => place.deletes.add(1),
                }
                return;
            }
        }
    }

    /// Forgets the counts; the names keep their places.
    fn clear(&self) {
        for place in &self.places {
            for count in [&place.gets, &place.hits, &place.sets, &place.deletes] {
                count.set(0);
            }
        }
    }
}

/// The counts of all cores together, by name.
pub(crate) fn dump(tables: &[PrefixTable], resets: u32) -> Box<[u8]> {
    let mut sums: BTreeMap<&[u8], [u64; 4]> = BTreeMap::new();
    let current = tables.iter().filter(|table| table.since.load(Ordering::Relaxed) == resets);
    for place in current.flat_map(|table| table.places.iter()) {
        let Some(name) = place.name.get() else { continue };
        let counts = [&place.gets, &place.hits, &place.sets, &place.deletes];
        let sum = sums.entry(name).or_default();
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count.value();
        }
    }
    let mut text = Vec::new();
    for (name, [gets, hits, sets, deletes]) in sums {
        if gets + sets + deletes == 0 {
            continue;
        }
        text.extend_from_slice(b"PREFIX ");
        append_word(&mut text, name);
        text.extend_from_slice(format!(" get {gets} hit {hits} set {sets} del {deletes}\r\n").as_bytes());
    }
    text.extend_from_slice(b"END\r\n");
    text.into_boxed_slice()
}
