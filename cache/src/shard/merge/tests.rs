//! What merging keeps, what it lets go, and how little it does at a time.

use rand_xoshiro::Xoshiro256StarStar;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use super::*;
use crate::clock::Expiry;
use crate::key::KeyHasher;
use crate::operation::{Operation, Outcome, Store};
use crate::store::config::ShardConfig;

const NOW: Now = Now { secs: 10, unix_epoch: 1_700_000_000 };

struct Bench {
    shard: Shard,
    hasher: KeyHasher,
    rng: Xoshiro256StarStar,
}

impl Bench {
    fn new(config: &ShardConfig, seed: u64) -> Bench {
        println!("seed {seed}");
        let hasher = KeyHasher::new([9; 16]);
        let shard = Shard::new(config, hasher.clone()).unwrap();
        Bench { shard, hasher, rng: Xoshiro256StarStar::seed_from_u64(seed) }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn set(&mut self, key: u64, len: usize, expiry: Expiry, now: Now) -> bool {
        let (key, value) = (key.to_le_bytes(), vec![key as u8; len]);
        let store = Operation::Store(Store { expiry, ..Store::SET });
        let (outcome, _) = self.shard.execute(self.hasher.key(&key), &store, &value, now);
        matches!(outcome, Outcome::Stored { .. })
    }

    /// Gets a key, and sets it when it is missing. Returns whether it was there.
    fn ask(&mut self, key: u64, len: usize) -> bool {
        let bytes = key.to_le_bytes();
        let hit = self.shard.execute(self.hasher.key(&bytes), &Operation::GET, b"", NOW).1;
        if let Some(at) = hit {
            assert_eq!((self.shard.item(at).key, self.shard.item(at).value.len()), (&bytes[..], len));
        } else {
            assert!(self.set(key, len, Expiry::NEVER, NOW));
        }
        hit.is_some()
    }
}

/// The share of gets of a hot set of half the memory that hit while ten times the memory is
/// asked for once.
fn hits_during_scan(hot_len: usize, scan_len: usize, seed: u64) -> f64 {
    let config = ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, seed);
    let hot = (8 << 20) / (hot_len as u64 + 30);
    for _ in 0..6 * hot {
        let key = bench.below(hot);
        bench.ask(key, hot_len);
    }
    let scanned = (160 << 20) / (scan_len as u64 + 30);
    let (mut gets, mut hits) = (0u64, 0u64);
    for n in 0..scanned {
        bench.ask(1 << 40 | n, scan_len);
        // The hot set is asked for as often whatever the sizes: 20 times each over the scan.
        while gets < (n + 1) * 20 * hot / scanned {
            let key = bench.below(hot);
            gets += 1;
            hits += u64::from(bench.ask(key, hot_len));
        }
    }
    println!("{hot} hot items of {hot_len} B, {scanned} of {scan_len} B: {hits} of {gets} gets hit");
    hits as f64 / gets as f64
}

#[test]
fn a_scan_does_not_flush_the_hot_set() {
    for (hot_len, scan_len) in [(100, 100), (1000, 20), (20, 1000), (1000, 8000), (4000, 4000)] {
        let hits = hits_during_scan(hot_len, scan_len, 11);
        assert!(hits > 0.95, "hot {hot_len} B, scan of {scan_len} B: {hits}");
    }
}

#[test]
fn an_item_that_comes_back_soon_after_its_eviction_is_not_on_trial_again() {
    let mut bench = Bench::new(&ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() }, 1);
    let queue_of = |bench: &mut Bench, key: u64| {
        let bytes = key.to_le_bytes();
        let at = bench.shard.peek(bench.hasher.key(&bytes), NOW).unwrap();
        bench.shard.segments.at(at.segment).queue
    };
    bench.ask(0, 200);
    assert_eq!(queue_of(&mut bench, 0), Fifo::Small);
    let mut n = 0;
    while bench.shard.peek(bench.hasher.key(&0u64.to_le_bytes()), NOW).is_some() {
        n += 1;
        bench.ask(n, 200);
    }
    assert!(n > 50_000, "evicted after {n} others");
    bench.ask(0, 200);
    assert_eq!(queue_of(&mut bench, 0), Fifo::Main);
    bench.ask(n + 1, 200);
    assert_eq!(queue_of(&mut bench, n + 1), Fifo::Small);
}

#[test]
fn merging_leaves_a_segment_that_somebody_holds_and_takes_it_when_it_is_let_go() {
    let mut bench = Bench::new(&ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() }, 7);
    // Everything is asked for, so that merging copies it; until it is in the middle of a segment.
    let mut n = 0;
    let victim = loop {
        n += 1;
        bench.ask(n, 300);
        bench.ask(n, 300);
        match bench.shard.merging.victim {
            Some(victim) if victim.at.offset > 10_000 && victim.at.offset < 30_000 => break victim,
            _ => assert!(n < 1_000_000, "merging never began"),
        }
    };
    let merged = bench.shard.stats.merged.value();
    assert!(merged > 0);
    // Of its items that merging has not come to, one is pinned.
    let ahead = |bench: &mut Bench, key: u64| {
        let bytes = key.to_le_bytes();
        let at = bench.shard.peek(bench.hasher.key(&bytes), NOW)?;
        (at.segment == victim.at.segment && at.offset >= victim.at.offset).then_some(at)
    };
    let left: Vec<u64> = (1..n).filter(|&key| ahead(&mut bench, key).is_some()).collect();
    assert!(left.len() > 50, "{} items", left.len());
    let at = ahead(&mut bench, left[20]).unwrap();
    let pin = bench.shard.pin(at).unwrap();
    // Ten times the memory passes by.
    for key in n + 1..n + 500_000 {
        bench.ask(key, 300);
        if key % 3 == 0 {
            bench.ask(key, 300);
        }
    }
    assert!(bench.shard.stats.merged.value() > merged + 50_000);
    let item = bench.shard.pinned(&pin);
    assert_eq!((item.key, item.value), (&left[20].to_le_bytes()[..], &[left[20] as u8; 300][..]));
    assert!(left.iter().all(|&key| ahead(&mut bench, key).is_some()), "all of the segment is left as it is");
    bench.shard.unpin(pin);
    for key in n + 500_000..n + 1_000_000 {
        bench.ask(key, 300);
    }
    assert!(left.iter().all(|&key| ahead(&mut bench, key).is_none()), "once let go it is given up as any other");
}

#[test]
fn dead_space_is_merged_away_without_losing_an_item() {
    for evict in [true, false] {
        let config = ShardConfig { memory_bytes: 16 << 20, evict, ..ShardConfig::default() };
        let mut bench = Bench::new(&config, 2);
        // Six tenths of the memory, written ten times over in lengths that never fit where the old value was.
        let keys = 90_000;
        for n in 0..keys * 10 {
            let (key, len) = (bench.below(keys), 70 + (n / keys % 7) as usize);
            assert!(bench.set(key, len, Expiry::NEVER, NOW), "store {n}, evict {evict}");
        }
        assert_eq!(bench.shard.stats.evictions.value(), 0);
        let items = bench.shard.stats.curr_items.value();
        let found = (0..keys).filter(|key| {
            let bytes = key.to_le_bytes();
            bench.shard.peek(bench.hasher.key(&bytes), NOW).is_some()
        });
        assert_eq!(found.count() as u64, items);
        assert!(items > keys * 99 / 100);
    }
}

#[test]
fn expired_items_give_way_before_live_ones() {
    let mut bench = Bench::new(&ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() }, 3);
    // A third lives for ever, and two thirds for a few seconds of a minute in which far more than the memory passes.
    let mut forever = 0;
    for n in 0..400_000u64 {
        let now = Now { secs: NOW.secs + (n / 4000) as u32, ..NOW };
        let expiry = if n % 10 == 0 { Expiry::NEVER } else { Expiry::from_secs(now.secs + 1 + (n % 8) as u32) };
        forever += u64::from(n % 10 == 0);
        assert!(bench.set(n, 150, expiry, now));
        bench.shard.maintain(now, 1);
    }
    let stats = &bench.shard.stats;
    assert_eq!(stats.evictions.value(), 0, "{forever} live for ever");
    assert!(stats.reclaimed.value() > 300_000);
}

#[test]
fn merging_copies_no_item_that_was_flushed_however_often_it_was_asked_for() {
    let mut bench = Bench::new(&ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() }, 8);
    // Every item of the index that is flushed, by its place.
    let flushed = |bench: &Bench| {
        let shard = &bench.shard;
        let (mut found, mut cursor) = (Vec::new(), Some(shard.index.begin_walk()));
        while let Some(at) = cursor {
            let (items, _) = shard.index.bucket(&shard.memory, &shard.segments, at);
            found.extend(items.into_iter().filter(|&at| shard.stored_item(at).cas < shard.flush.cas));
            cursor = shard.index.behind(at);
        }
        found
    };
    // What was stored before the flush is hot, so that merging would keep it.
    let mut n = 0;
    while bench.shard.stats.merged.value() < 10_000 {
        n += 1;
        (0..4).for_each(|_| {
            bench.ask(n, 300);
        });
    }
    bench.shard.flush_all(0, NOW);
    bench.shard.maintain(NOW, 1 << 16);
    // A segment that is dead as a whole is given up. Left are those that are being filled, and live items come to them.
    let left = flushed(&bench);
    assert!(left.len() > 50, "{} items", left.len());
    let evicted = bench.shard.stats.evictions.value();
    let is_there = |bench: &Bench| left.iter().any(|&at| bench.shard.segments.is_current(at));
    let first = n;
    while is_there(&bench) {
        n += 1;
        bench.ask(n, 300);
        bench.ask(n, 300);
        assert!(n < first + 1_000_000, "the segments are never merged");
    }
    println!("{} flushed items went while {} were stored", left.len(), n - first);
    assert_eq!(flushed(&bench), [], "merging has copied what was flushed");
    let live = bench.shard.stats.curr_items.value();
    let evicted = bench.shard.stats.evictions.value() - evicted;
    assert_eq!(n - first, live + evicted, "each item stored since is there or was evicted, and no flushed one was");
}

#[test]
fn no_operation_of_a_billion_byte_fill_touches_more_than_64_items_or_lines() {
    let config = ShardConfig { memory_bytes: 128 << 20, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 4);
    let (mut worst, mut bytes, mut n, mut watched) = ((0, 0), 0u64, 0u64, 0u64);
    while bytes < 1_000_000_000 {
        n += 1;
        let now = Now { secs: NOW.secs + (n / 50_000) as u32, ..NOW };
        let len = match bench.below(2000) {
            0 => 20_000 + bench.below(300_000) as usize,
            1..200 => 1000 + bench.below(3000) as usize,
            _ => bench.below(300) as usize,
        };
        let expiry =
            if n.is_multiple_of(4) { Expiry::from_secs(now.secs + 1 + (n % 40) as u32) } else { Expiry::NEVER };
        bytes += len as u64 + 8;
        let note = |shard: &Shard, before: crate::store::index::Work, worst: &mut (u64, u64)| {
            worst.0 = worst.0.max(shard.index.work.items - before.items);
            worst.1 = worst.1.max(shard.index.work.probes - before.probes);
        };
        // For half of it somebody watches evictions, and takes away after each operation what was noted.
        bench.shard.note_evictions(bytes > 500_000_000);
        while bench.shard.next_evicted().is_some() {
            watched += 1;
        }
        let before = bench.shard.index.work;
        bench.set(n % 3_000_000, len, expiry, now);
        note(&bench.shard, before, &mut worst);
        let before = bench.shard.index.work;
        let key = (n - bench.below(n.min(200_000))).to_le_bytes();
        bench.shard.execute(bench.hasher.key(&key), &Operation::GET, b"", now);
        note(&bench.shard, before, &mut worst);
        if n.is_multiple_of(64) {
            let before = bench.shard.index.work;
            bench.shard.maintain(now, 1);
            note(&bench.shard, before, &mut worst);
        }
    }
    let stats = &bench.shard.stats;
    println!(
        "{n} stores of {bytes} B, {} evicted, {watched} told; most items and lines: {worst:?}",
        stats.evictions.value()
    );
    assert!(stats.evictions.value() > 500_000 && stats.reclaimed.value() > 100_000 && watched > 250_000);
    assert!(worst.0 <= 64 && worst.1 <= 64, "most items and lines by one operation: {worst:?}");
}

/// Fills a shard of `memory_bytes` twice over with items of `len` bytes, then sets 300 more. Returns the evictions that
/// each of those came with, maintenance included.
fn evictions_by_set(memory_bytes: usize, len: usize, seed: u64) -> Vec<u64> {
    let item_size_max = (memory_bytes / 4) as u32;
    let mut bench = Bench::new(&ShardConfig { memory_bytes, item_size_max, ..ShardConfig::default() }, seed);
    let set = |bench: &mut Bench, key: u64| {
        let before = bench.shard.stats.evictions.value();
        assert!(bench.set(key, len, Expiry::NEVER, NOW));
        bench.shard.maintain(NOW, 16);
        bench.shard.stats.evictions.value() - before
    };
    let first = bench.below(1 << 40);
    let fill = 2 * (memory_bytes / len) as u64;
    for n in 0..fill {
        set(&mut bench, first + n);
    }
    let evictions = (0..300).map(|n| set(&mut bench, first + fill + n)).collect();
    // Idle, it gives up nothing more.
    let before = bench.shard.stats.evictions.value();
    for _ in 0..2000 {
        bench.shard.maintain(NOW, 16);
    }
    assert_eq!(bench.shard.stats.evictions.value(), before, "items of {len} B");
    evictions
}

#[test]
fn a_full_shard_evicts_at_once_about_what_each_set_takes_and_nothing_while_nothing_comes() {
    let cases = [(3 << 20, 66_560), (15 << 20, 11_000), (15 << 20, 66_560), (16 << 20, 1000), (64 << 20, 300_000)];
    for (memory_bytes, len) in cases {
        for seed in 5..9 {
            let evictions = evictions_by_set(memory_bytes, len, seed);
            let sum: u64 = evictions.iter().sum();
            println!("{len} B in {memory_bytes} B: {sum} evictions by 300 sets");
            let others: Vec<_> = evictions.iter().enumerate().filter(|&(_, &evicted)| evicted != 1).collect();
            assert!(others.is_empty(), "sets of {len} B that did not evict one item: {others:?}");
        }
    }
}

#[test]
fn room_that_a_higher_limit_gives_is_used_before_anything_is_evicted() {
    let config = ShardConfig { memory_bytes: 3 << 20, memory_ceiling_bytes: 64 << 20, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 6);
    for key in 0..40 {
        assert!(bench.set(key, 66_560, Expiry::NEVER, NOW));
    }
    let evicted = bench.shard.stats.evictions.value();
    assert!(evicted > 0);
    bench.shard.set_memory_limit(8 << 20).unwrap();
    let used = bench.shard.stats.segment_bytes.value();
    for key in 40..70 {
        assert!(bench.set(key, 66_560, Expiry::NEVER, NOW));
        bench.shard.maintain(NOW, 16);
    }
    assert_eq!(bench.shard.stats.evictions.value(), evicted);
    assert!(bench.shard.stats.segment_bytes.value() > used + 30 * 66_560);
}
