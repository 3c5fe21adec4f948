//! Cases that need to see inside the shard. The random ones are in `tests/store/model.rs`.

use super::*;
use crate::key::KeyHasher;
use crate::operation::{Count, Delete, Number, Operation, Outcome, Purpose, Store, View};

const NOW: Now = Now { secs: 10, unix_epoch: 1_700_000_000 };

struct Bench {
    shard: Shard,
    hasher: KeyHasher,
}

impl Bench {
    fn new(config: &ShardConfig, last_generation: u16) -> Bench {
        let hasher = KeyHasher::new([9; 16]);
        let shard = Shard::with_generations(config, hasher.clone(), last_generation).unwrap();
        Bench { shard, hasher }
    }

    fn small(evict: bool) -> Bench {
        let config = ShardConfig {
            memory_bytes: 64 << 12,
            segment_bytes: 4096,
            item_size_max: 100_000,
            evict,
            ..ShardConfig::default()
        };
        Bench::new(&config, 2047)
    }

    fn set(&mut self, key: &[u8], value: &[u8], now: Now) -> bool {
        self.set_until(key, value, Expiry::NEVER, now)
    }

    /// Stores an item that expires. Returns whether there was room.
    fn set_until(&mut self, key: &[u8], value: &[u8], expiry: Expiry, now: Now) -> bool {
        let store = Operation::Store(Store { expiry, ..Store::SET });
        match self.execute(key, &store, value, now).0 {
            Outcome::Stored { .. } => true,
            outcome => {
                assert_eq!(outcome, Outcome::NoMemory(Purpose::Store));
                false
            }
        }
    }

    fn execute(&mut self, key: &[u8], operation: &Operation, value: &[u8], now: Now) -> (Outcome, Option<ItemRef>) {
        self.shard.execute(self.hasher.key(key), operation, value, now)
    }

    fn get(&mut self, key: &[u8], now: Now) -> Option<ItemRef> {
        self.execute(key, &Operation::GET, b"", now).1
    }

    fn value(&mut self, key: &[u8], now: Now) -> Option<Vec<u8>> {
        let at = self.get(key, now)?;
        assert_eq!(self.shard.item(at).key, key);
        Some(self.shard.item(at).value.to_vec())
    }

    /// Gives everything up and checks that nothing is left anywhere.
    fn assert_whole(mut self) {
        self.shard.flush_all(0, NOW);
        // Until nothing is left to do, and resting segments are awake.
        while self.shard.maintain(NOW, 100) || self.shard.census().segments_resting != 0 {}
        let census = self.shard.census();
        assert_eq!((census.pins, census.reservations, census.segments_held), (0, 0, 0));
        let open = census.segments_open;
        let sum = census.segments_free + open + census.segments_index + census.segments_sealed;
        assert_eq!((census.segments_resting, sum), (0, census.segments));
        assert_eq!(census.segments_sealed, 0);
        let all = (0..self.shard.segments.total() as u32).map(|index| self.shard.segments.at(index));
        let in_open: u32 = all.filter(|segment| segment.state == SegmentState::Open).map(|segment| segment.live).sum();
        assert_eq!(census.items, in_open as usize, "only open segments may keep flushed items");
    }
}

#[test]
fn a_stale_slot_is_never_taken_for_a_live_one_when_generations_come_round() {
    for last_generation in [2u16, 3, 7, 20, 100] {
        let config =
            ShardConfig { memory_bytes: 16 << 12, segment_bytes: 4096, item_size_max: 8192, ..ShardConfig::default() };
        let mut bench = Bench::new(&config, last_generation);
        // Every set of a 3 KB value takes a segment of its own and evicts the oldest: a generation passes in 14 sets.
        for round in 0..20_000u32 {
            let key = (round % 97).to_le_bytes();
            let mut value = vec![0; 3000];
            value[..4].copy_from_slice(&round.to_le_bytes());
            if !bench.set(&key, &value, NOW) {
                assert!(last_generation < 100, "every segment rests");
                bench.shard.maintain(NOW, 200);
                assert!(bench.set(&key, &value, NOW));
            }
            for back in [0, 1, 5, 13, 40, 96] {
                let Some(old) = round.checked_sub(back) else { continue };
                if let Some(found) = bench.value(&(old % 97).to_le_bytes(), NOW) {
                    assert_eq!(found[..4], old.to_le_bytes(), "generations 1..={last_generation}, round {round}");
                }
            }
            let slots_of_items = bench.shard.stats.curr_items.value();
            assert!(slots_of_items <= 14, "each item has a segment");
        }
        bench.assert_whole();
    }
}

#[test]
fn pinned_bytes_stay_whatever_happens_to_the_key() {
    let mut bench = Bench::small(true);
    let value: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    assert!(bench.set(b"big", &value, NOW));
    assert!(bench.set(b"n", b"41", NOW));
    let at = bench.get(b"big", NOW).unwrap();
    let pin = bench.shard.pin(at).unwrap();
    let at = bench.get(b"n", NOW).unwrap();
    let n_pin = bench.shard.pin(at).unwrap();

    assert!(bench.set(b"big", b"small", NOW));
    let counted = bench.execute(b"n", &Operation::Count(Count::by(1, true)), b"", NOW).0;
    assert!(matches!(counted, Outcome::Number(Number { value: 42, .. })));
    assert_eq!(bench.shard.pinned(&n_pin).value, b"41");
    assert_eq!(bench.execute(b"n", &Operation::DELETE, b"", NOW).0, Outcome::Deleted);
    bench.shard.flush_all(0, NOW);
    for n in 0..10_000u32 {
        bench.set(&n.to_le_bytes(), &[7; 100], NOW);
    }
    assert!(bench.shard.stats.evictions.value() > 5000);
    assert_eq!(bench.shard.pinned(&pin).value, value);
    assert_eq!((bench.shard.pinned(&n_pin).key, bench.shard.pinned(&n_pin).value), (&b"n"[..], &b"41"[..]));
    bench.shard.unpin(pin);
    bench.shard.unpin(n_pin);
    bench.assert_whole();
}

#[test]
fn pins_and_reservations_leave_room_for_others() {
    let mut bench = Bench::small(true);
    let mut pins = Vec::new();
    for n in 0..1000u32 {
        assert!(bench.set(&n.to_le_bytes(), &[1; 3000], NOW), "{n}");
        let at = bench.get(&n.to_le_bytes(), NOW).unwrap();
        pins.extend(bench.shard.pin(at));
    }
    assert_eq!(pins.len(), 32, "half of 64 segments");
    let mut reservations = Vec::new();
    for n in 0..1000u32 {
        let key = n.to_le_bytes();
        reservations.extend(bench.shard.reserve(bench.hasher.key(&key), &Store::SET, 3000, NOW));
    }
    assert_eq!(reservations.len(), 16, "three quarters in all");
    assert!(bench.set(b"still", b"room", NOW));
    assert_eq!(bench.value(b"still", NOW).as_deref(), Some(&b"room"[..]));
    pins.into_iter().for_each(|pin| bench.shard.unpin(pin));
    reservations.into_iter().for_each(|reservation| bench.shard.abandon(reservation));
    bench.assert_whole();
}

#[test]
fn a_count_that_finds_no_room_is_counted_as_a_hit() {
    let mut bench = Bench::small(false);
    let mut stored = 0u32;
    while bench.set(&stored.to_le_bytes(), b"9", NOW) {
        stored += 1;
    }
    let outcome = bench.execute(&0u32.to_le_bytes(), &Operation::Count(Count::by(1, true)), b"", NOW).0;
    assert_eq!(outcome, Outcome::NoMemory(Purpose::Change));
    assert_eq!(bench.shard.stats.incr_hits.value(), 1);
    bench.assert_whole();
}

#[test]
fn where_items_have_no_uniques_a_client_cannot_name_one() {
    let config = ShardConfig { memory_bytes: 16 << 20, use_cas: false, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 2047);
    let named = Some(7);
    let count = Operation::Count(Count { named, ..Count::by(1, true) });
    let stored = Outcome::Stored { cas: 0, len: 1 };
    assert_eq!(bench.execute(b"n", &Operation::Store(Store { named, ..Store::SET }), b"1", NOW).0, stored);
    assert!(matches!(bench.execute(b"n", &count, b"", NOW).0, Outcome::Number(Number { value: 2, cas: 0, .. })));
    let stale = Operation::Delete(Delete { named, stale: true, ..Delete::CLASSIC });
    assert_eq!(bench.execute(b"n", &stale, b"", NOW).0, Outcome::Deleted);
    assert!(matches!(bench.execute(b"n", &Operation::GET, b"", NOW).0, Outcome::Hit(View { cas: 0, len: 1, .. })));
    bench.assert_whole();
}

#[test]
fn without_eviction_a_full_shard_says_so_and_keeps_what_it_has() {
    let mut bench = Bench::small(false);
    let mut stored = 0u32;
    while bench.set(&stored.to_le_bytes(), &[3; 500], NOW) {
        stored += 1;
    }
    assert!(stored > 400, "{stored} of 518 bytes in 252 KiB");
    assert_eq!(bench.shard.stats.evictions.value(), 0);
    for n in 0..stored {
        assert_eq!(bench.value(&n.to_le_bytes(), NOW), Some(vec![3; 500]), "{n}");
    }
    for _ in 0..1000 {
        assert!(bench.set(&1u32.to_le_bytes(), &[4; 500], NOW), "in place");
    }
    let touch = Operation::Touch(Expiry::from_secs(11));
    assert_eq!(bench.execute(&2u32.to_le_bytes(), &touch, b"", NOW).0, Outcome::Touched);
    assert_eq!(bench.value(&2u32.to_le_bytes(), Now { secs: 11, ..NOW }), None);
    bench.assert_whole();
}

#[test]
fn whole_segments_expire_without_an_access() {
    let mut bench = Bench::small(true);
    for n in 0..100u32 {
        let key = n.to_le_bytes();
        let expiry = Expiry::from_secs(NOW.secs + 5 + n % 3);
        bench.set_until(&key, &[0; 1000], expiry, NOW);
    }
    let used = bench.shard.census().segments_sealed;
    assert!(used > 20);
    bench.shard.maintain(Now { secs: NOW.secs + 6, ..NOW }, 100);
    assert_eq!(bench.shard.census().segments_sealed, used, "each has an item left");
    bench.shard.maintain(Now { secs: NOW.secs + 7, ..NOW }, 100);
    assert_eq!(bench.shard.census().segments_sealed, 0);
    assert_eq!(bench.shard.stats.expired_unfetched.value(), 100 - bench.shard.stats.curr_items.value());
    assert_eq!(bench.shard.stats.evictions.value(), 0);
}

#[test]
fn upkeep_looks_for_dead_segments_once_a_second_and_after_a_flush_and_finds_them_all() {
    let config =
        ShardConfig { memory_bytes: 1024 << 12, segment_bytes: 4096, item_size_max: 8192, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 2047);
    // Live and dying segments in turn, so that no look finds what the one before led to.
    let fill = |bench: &mut Bench, now: Now, dies: u32| {
        for n in 0..600u32 {
            let key = n.to_le_bytes();
            let expiry = if n % 2 == 0 { Expiry::NEVER } else { Expiry::from_secs(dies) };
            bench.set_until(&key, &[0; 3000], expiry, now);
        }
    };
    let rest = |bench: &mut Bench, now: Now| while bench.shard.maintain(now, 8) {};
    let at = |secs| Now { secs, ..NOW };
    fill(&mut bench, at(10), 14);
    rest(&mut bench, at(12));
    assert_eq!((bench.shard.hands.unseen, bench.shard.census().segments_sealed), (0, 598), "two are open");
    for _ in 0..1000 {
        bench.shard.maintain(at(12), 8);
        assert_eq!(bench.shard.hands.unseen, 0, "nothing can have died within the second");
    }
    bench.shard.maintain(at(13), 8);
    assert_eq!(bench.shard.hands.unseen, 1024 - 8);
    // In the middle of a round they die.
    rest(&mut bench, at(14));
    assert_eq!((bench.shard.hands.unseen, bench.shard.census().segments_sealed), (0, 299));
    bench.shard.flush_all(0, at(14));
    assert_eq!(bench.shard.hands.unseen, 1024);
    rest(&mut bench, at(14));
    assert_eq!(bench.shard.census().segments_sealed, 0);
    // A delayed flush, within the second in which it comes into force.
    fill(&mut bench, at(20), 90);
    rest(&mut bench, at(20));
    bench.shard.flush_all(2, at(20));
    assert_eq!((bench.shard.hands.unseen, bench.shard.census().segments_sealed), (0, 598));
    rest(&mut bench, at(21));
    assert_eq!((bench.shard.hands.unseen, bench.shard.census().segments_sealed), (0, 0));
    bench.assert_whole();
}

#[test]
fn what_has_expired_gives_its_room_to_what_comes() {
    let config = ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 2048);
    let fill = |bench: &mut Bench, keys: std::ops::Range<u32>, now: Now| {
        for n in keys {
            let key = n.to_le_bytes();
            let expiry = Expiry::from_secs(now.secs + 2);
            bench.set_until(&key, &[1; 66_560], expiry, now);
        }
        while bench.shard.maintain(now, 8) {}
        bench.shard.stats.segment_bytes.value()
    };
    let taken = fill(&mut bench, 0..10, NOW);
    let later = Now { secs: NOW.secs + 4, ..NOW };
    while bench.shard.maintain(later, 8) {}
    assert!(!bench.shard.may_hold_dead());
    let by_class: u64 = bench.shard.stats.classes.iter().map(|class| class.reclaimed.value()).sum();
    assert_eq!((bench.shard.stats.reclaimed.value(), by_class), (10, 10));
    assert_eq!(fill(&mut bench, 10..20, later), taken);
    bench.assert_whole();
}

#[test]
fn flush_all_keeps_memcacheds_seconds() {
    let mut bench = Bench::small(true);
    let at = |secs| Now { secs, ..NOW };
    bench.set(b"old", b"1", at(10));
    bench.shard.flush_all(0, at(10));
    assert!(bench.set(b"new", b"2", at(10)));
    assert_eq!(bench.value(b"old", at(10)), None);
    assert!(bench.value(b"new", at(10)).is_some(), "stored after the order, in the same second");

    bench.shard.flush_all(5, at(10));
    assert!(bench.value(b"new", at(13)).is_some());
    bench.set(b"late", b"3", at(14));
    assert_eq!(bench.value(b"late", at(14)), None, "the last second before the order's is flushed to its end");
    assert_eq!(bench.value(b"new", at(14)), None);
    bench.set(b"after", b"4", at(15));
    assert!(bench.value(b"after", at(15)).is_some());

    bench.shard.flush_all(10, at(15));
    bench.shard.flush_all(NOW.unix_epoch as i64, at(16));
    assert!(bench.value(b"after", at(40)).is_some(), "a time before the process cancels what is not yet in force");
    bench.shard.flush_all(-1, at(40));
    assert_eq!(bench.value(b"after", at(40)), None);
}

#[test]
fn a_lowered_limit_is_reached_and_a_raised_one_used() {
    let config = ShardConfig {
        memory_bytes: 256 << 12,
        memory_ceiling_bytes: 512 << 12,
        segment_bytes: 4096,
        item_size_max: 20_000,
        ..ShardConfig::default()
    };
    let mut bench = Bench::new(&config, 2047);
    let fill = |bench: &mut Bench| (0..20_000u32).for_each(|n| assert!(bench.set(&n.to_le_bytes(), &[1; 100], NOW)));
    fill(&mut bench);
    let full = bench.shard.stats.curr_items.value();
    bench.shard.set_memory_limit(512 << 12).unwrap();
    fill(&mut bench);
    let double = bench.shard.stats.curr_items.value();
    assert!(double * 10 > full * 19, "{full} then {double}");
    bench.shard.set_memory_limit(128 << 12).unwrap();
    while bench.shard.maintain(NOW, 64) {}
    assert_eq!(bench.shard.census().segments, 128);
    fill(&mut bench);
    assert_eq!(bench.shard.census().segments, 128);
    let half = bench.shard.stats.curr_items.value();
    assert!(half * 2 < full + full / 10, "{full} then {half}");
    assert!(bench.shard.set_memory_limit(4096).is_err() && bench.shard.set_memory_limit(1 << 40).is_err());
    bench.shard.set_memory_limit(256 << 12).unwrap();
    fill(&mut bench);
    assert_eq!(bench.shard.census().segments, 256);
    bench.assert_whole();
}

#[test]
fn long_items_find_room_after_the_limit_was_lowered_and_memory_stays_within_it() {
    for evict in [true, false] {
        let config =
            ShardConfig { memory_bytes: 64 << 20, memory_ceiling_bytes: 256 << 20, evict, ..ShardConfig::default() };
        let mut bench = Bench::new(&config, 2047);
        let segments = (16 << 20) / bench.shard.memory.segment_bytes();
        // Full, so that what goes off lies anywhere.
        for n in 0..400_000u32 {
            bench.set(&n.to_le_bytes(), &[1; 200], NOW);
        }
        if !evict {
            (0..280_000u32).for_each(|n| {
                bench.execute(&n.to_le_bytes(), &Operation::DELETE, b"", NOW);
            });
        }
        bench.shard.set_memory_limit(16 << 20).unwrap();
        while bench.shard.maintain(NOW, 64) {}
        let value = vec![2; 1_000_000];
        for n in 0..40u32 {
            let key = [b'L', n as u8 % 4];
            assert!(bench.set(&key, &value, NOW), "{n}, evict {evict}");
            assert_eq!(bench.value(&key, NOW).as_deref(), Some(&value[..]));
            bench.shard.maintain(NOW, 16);
            assert!(bench.shard.census().segments <= segments, "{:?} of {segments}", bench.shard.census());
        }
        let mut beyond = bench.shard.limit.ever_on..bench.shard.segments.total() as u32;
        assert!(beyond.len() == 768 && beyond.all(|n| bench.shard.segments.at(n).state == SegmentState::Off));
        bench.assert_whole();
    }
}

#[test]
fn keys_that_collide_under_another_hash_do_not_share_a_bucket() {
    // A thousand keys with the same FNV-1a hash modulo 2^16, found by trying.
    let fnv =
        |key: &[u8]| key.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let keys: Vec<[u8; 4]> =
        (0..u32::MAX).map(u32::to_le_bytes).filter(|key| fnv(key) & 0xffff == 7).take(1000).collect();
    let mut bench = Bench::new(&ShardConfig { memory_bytes: 16 << 20, ..ShardConfig::default() }, 2047);
    for key in &keys {
        bench.set(key, b"v", NOW);
    }
    for key in &keys {
        let before = bench.shard.index.work;
        assert!(bench.value(key, NOW).is_some());
        let work = bench.shard.index.work;
        assert!(work.probes - before.probes <= 2 && work.items - before.items <= 2);
    }
}

#[test]
fn no_operation_touches_many_items_or_lines() {
    let config = ShardConfig { memory_bytes: 256 << 20, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 2047);
    let mut worst = (0, 0);
    let mut note = |shard: &Shard, before: crate::store::index::Work| {
        worst.0 = worst.0.max(shard.index.work.items - before.items);
        worst.1 = worst.1.max(shard.index.work.probes - before.probes);
    };
    let big = vec![5; 900_000];
    for n in 0..4_000_000u32 {
        let (key, mut now) = (n.to_le_bytes(), NOW);
        now.secs += n / 100_000;
        let expiry = Expiry::from_secs(if n % 4 == 0 { now.secs + 1 + n % 97 } else { 0 });
        let before = bench.shard.index.work;
        bench.set_until(&key, &[0; 20], expiry, now);
        note(&bench.shard, before);
        let before = bench.shard.index.work;
        bench.get(&key, now);
        note(&bench.shard, before);
        let before = bench.shard.index.work;
        match n % 50_000 {
            0 => bench.shard.flush_all(0, now),
            1 => {
                bench.shard.maintain(now, 16);
            }
            2 => {
                bench.set(b"big", &big, now);
            }
            3 => bench.shard.set_memory_limit((200 + n as usize / 50_000 % 2 * 56) << 20).unwrap(),
            _ => {}
        }
        note(&bench.shard, before);
    }
    assert!(bench.shard.stats.curr_items.value() > 40_000);
    println!("most items and lines by one operation: {worst:?}");
    assert!(worst.0 <= 64 && worst.1 <= 64, "most items and lines by one operation: {worst:?}");
}

#[test]
fn a_large_shard_serves_before_its_memory_is_touched() {
    let config = ShardConfig { memory_bytes: 4 << 30, memory_ceiling_bytes: 16 << 30, ..ShardConfig::default() };
    let mut bench = Bench::new(&config, 2047);
    assert!(bench.set(b"k", b"v", NOW));
    let at = bench.get(b"k", NOW).unwrap();
    assert_eq!(bench.shard.item(at).idle_secs(Now { secs: 17, ..NOW }), 7);
    let census = bench.shard.census();
    assert_eq!((census.segments, census.segments_open), (4096, 1));
    assert_eq!(census.segments_index, 17 + 32, "the index, and one in 128 for what was evicted");
}

#[test]
fn a_shard_may_move_to_its_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Shard>();
}

#[test]
fn errors_name_the_figures_and_the_next_step() {
    let error = |config: ShardConfig| Shard::new(&config, KeyHasher::new([0; 16])).unwrap_err().to_string();
    let least = ShardConfig { memory_bytes: 1000, ..ShardConfig::default() };
    assert_eq!(error(least), "1000 bytes of memory a shard is below the least, 1048576 bytes; raise -m or lower -t");
    let small = ShardConfig { memory_bytes: 1 << 20, ..ShardConfig::default() };
    assert!(
        error(small).starts_with("an item of 1048576 bytes is more than half of a shard's 1048576 bytes; lower -I")
    );
    let tiny = ShardConfig { item_size_max: 10, ..ShardConfig::default() };
    assert!(error(tiny).contains("below the least limit, 1024 bytes"));
    let factor = ShardConfig { slab_factor: 1.0, ..ShardConfig::default() };
    assert!(error(factor).contains("set -f"));
}
