//! Any sequence of acts on one small shard against a map, with a fake clock; a failure is shrunk to a short sequence.
//!
//! `model.rs` walks further and knows more commands. Here memory is so short that merging, eviction, growth of the
//! index and changes of the limit happen in nearly every case; how often is counted, and too seldom fails the test. The
//! seed is printed; another is taken from `PROPERTIES_SEED`, another number of cases from `PROPTEST_CASES`.

use std::cell::RefCell;
use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sidestep_cache::operation::{Purpose, Store, StoreMode};
use sidestep_cache::{Expiry, ItemRef, KeyHasher, Now, Operation, Outcome, Pin, Reservation, Shard, ShardConfig};

/// Keys there are: about three times as many as the memory holds.
const KEYS: u16 = 3000;
const SEGMENT_BYTES: usize = 4096;
const LEAST_SEGMENTS: usize = 48;
const MOST_SEGMENTS: usize = 192;
const ITEM_SIZE_MAX: u32 = 20_000;
const PINS_MAX: usize = 8;

#[derive(Debug, Clone)]
enum Act {
    Set {
        key: u16,
        len: usize,
        ttl: u32,
    },
    /// Sets of one length after another, for pressure; each `asked` for at once, or not.
    Fill {
        from: u16,
        count: u16,
        len: usize,
        ttl: u32,
        asked: bool,
    },
    /// Gets of one key after another, for heat.
    Ask {
        from: u16,
        count: u16,
    },
    Append {
        key: u16,
        len: usize,
    },
    Touch {
        key: u16,
        ttl: u32,
    },
    Delete {
        key: u16,
    },
    Pin {
        key: u16,
    },
    Unpin {
        nth: usize,
    },
    Reserve {
        key: u16,
        len: usize,
    },
    /// Commits, or abandons.
    Settle {
        nth: usize,
        commit: bool,
    },
    Flush {
        delay: u32,
    },
    Tick {
        secs: u32,
    },
    Limit {
        segments: usize,
    },
    Maintain {
        steps: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0..KEYS;
    let ttl = || prop_oneof![8 => Just(0u32), 1 => 1..6u32, 1 => 1..100_000u32];
    let len = || prop_oneof![8 => 0..600usize, 2 => 600..4100usize, 1 => 4100..19_000usize];
    prop_oneof![
        4 => (key(), len(), ttl()).prop_map(|(key, len, ttl)| Act::Set { key, len, ttl }),
        16 => (key(), 1..300u16, 10..500usize, ttl(), any::<bool>())
            .prop_map(|(from, count, len, ttl, asked)| Act::Fill { from, count, len, ttl, asked }),
        8 => (key(), 1..300u16).prop_map(|(from, count)| Act::Ask { from, count }),
        2 => (key(), 0..300usize).prop_map(|(key, len)| Act::Append { key, len }),
        2 => (key(), ttl()).prop_map(|(key, ttl)| Act::Touch { key, ttl }),
        2 => key().prop_map(|key| Act::Delete { key }),
        4 => key().prop_map(|key| Act::Pin { key }),
        2 => any::<usize>().prop_map(|nth| Act::Unpin { nth }),
        2 => (key(), len()).prop_map(|(key, len)| Act::Reserve { key, len }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(nth, commit)| Act::Settle { nth, commit }),
        1 => (0..4u32).prop_map(|delay| Act::Flush { delay }),
        3 => (1..3u32).prop_map(|secs| Act::Tick { secs }),
        1 => (LEAST_SEGMENTS..=MOST_SEGMENTS).prop_map(|segments| Act::Limit { segments }),
        3 => (0..40u32).prop_map(|steps| Act::Maintain { steps }),
    ]
}

/// How often what is to be tested happened.
#[derive(Debug, Default)]
struct Seen {
    merged: u64,
    evicted: u64,
    found_gone: u64,
    index_grew: u64,
    expired: u64,
    flushed: u64,
    raised: u64,
    lowered: u64,
    pins_of_items_gone: u64,
    refused: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    expiry: Expiry,
    stored_secs: u32,
}

struct World<'a> {
    shard: Shard,
    hasher: KeyHasher,
    now: Now,
    map: HashMap<u16, Entry>,
    pins: Vec<(Pin, u16, Vec<u8>)>,
    reservations: Vec<(Reservation, u16, Vec<u8>)>,
    /// Items stored up to the end of this second are gone from this second on.
    flush_last: Option<u32>,
    stores: u64,
    gone: u64,
    segments: usize,
    seen: &'a RefCell<Seen>,
}

impl<'a> World<'a> {
    fn new(segments: usize, seen: &'a RefCell<Seen>) -> World<'a> {
        let config = ShardConfig {
            memory_bytes: segments * SEGMENT_BYTES,
            memory_ceiling_bytes: MOST_SEGMENTS * SEGMENT_BYTES,
            segment_bytes: SEGMENT_BYTES,
            item_size_max: ITEM_SIZE_MAX,
            ..ShardConfig::default()
        };
        let hasher = KeyHasher::new([7; 16]);
        World {
            shard: Shard::new(&config, hasher.clone()).unwrap(),
            hasher,
            now: Now { secs: 2, unix_epoch: 1_700_000_000 },
            map: HashMap::new(),
            pins: Vec::new(),
            reservations: Vec::new(),
            flush_last: None,
            stores: 0,
            gone: 0,
            segments,
            seen,
        }
    }

    /// A value that no other store has.
    fn value(&mut self, len: usize) -> Vec<u8> {
        self.stores += 1;
        let start = self.stores.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (0..len as u64).map(|at| (start + at * ((start % 251) | 1)) as u8).collect()
    }

    fn expiry(&self, ttl: u32) -> Expiry {
        Expiry::from_exptime(i64::from(ttl), self.now)
    }

    /// What must be there for `key`, if it was not evicted; and what the shard shows for it.
    fn known(&mut self, key: u16) -> Option<Entry> {
        if let Some(last) = self.flush_last
            && self.now.secs >= last
        {
            let before = self.map.len();
            self.map.retain(|_, entry| entry.stored_secs > last);
            self.seen.borrow_mut().flushed += (before - self.map.len()) as u64;
            if self.now.secs > last {
                self.flush_last = None;
            }
        }
        if self.map.get(&key).is_some_and(|entry| entry.expiry.has_passed(self.now)) {
            self.seen.borrow_mut().expired += 1;
            self.map.remove(&key);
        }
        let bytes = key.to_le_bytes();
        match self.shard.peek(self.hasher.key(&bytes), self.now) {
            Some(at) => {
                let (item, entry) = (self.shard.item(at), self.map.get(&key).expect("what is shown was stored"));
                assert_eq!(item.key, bytes);
                assert!(item.value == entry.value, "the value of {key}");
                assert_eq!(item.expiry, entry.expiry, "the expiry of {key}");
            }
            None => self.gone += u64::from(self.map.remove(&key).is_some()),
        }
        self.map.get(&key).cloned()
    }

    fn execute(&mut self, key: u16, operation: &Operation, value: &[u8]) -> (Outcome, Option<ItemRef>) {
        self.shard.execute(self.hasher.key(&key.to_le_bytes()), operation, value, self.now)
    }

    fn set(&mut self, key: u16, len: usize, ttl: u32) {
        let (value, expiry) = (self.value(len), self.expiry(ttl));
        let (outcome, _) = self.execute(key, &Operation::Store(Store { expiry, ..Store::SET }), &value);
        self.note_store(key, value, expiry, outcome);
    }

    fn note_store(&mut self, key: u16, value: Vec<u8>, expiry: Expiry, outcome: Outcome) {
        match outcome {
            Outcome::Stored { .. } => {
                self.map.insert(key, Entry { value, expiry, stored_secs: self.now.secs });
            }
            Outcome::NoMemory(Purpose::Store) => self.seen.borrow_mut().refused += 1,
            other => panic!("a set was answered {other:?}"),
        }
    }

    fn ask(&mut self, key: u16) {
        let known = self.known(key);
        let (_, found) = self.execute(key, &Operation::GET, b"");
        assert_eq!(found.is_some(), known.is_some());
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Set { key, len, ttl } => self.set(key, len, ttl),
            Act::Fill { from, count, len, ttl, asked } => {
                for key in (from..from + count).map(|key| key % KEYS) {
                    self.set(key, len + usize::from(key % 7), ttl);
                    if asked {
                        self.ask(key);
                    }
                }
            }
            Act::Ask { from, count } => (from..from + count).for_each(|key| self.ask(key % KEYS)),
            Act::Append { key, len } => self.append(key, len),
            Act::Touch { key, ttl } => self.touch(key, ttl),
            Act::Delete { key } => {
                let known = self.known(key);
                let (outcome, _) = self.execute(key, &Operation::DELETE, b"");
                assert_eq!(outcome == Outcome::Deleted, known.is_some());
                self.map.remove(&key);
            }
            Act::Pin { key } => self.pin(key),
            Act::Unpin { nth } if !self.pins.is_empty() => {
                let (pin, key, value) = self.pins.swap_remove(nth % self.pins.len());
                let still = self.known(key).is_some_and(|entry| entry.value == value);
                self.seen.borrow_mut().pins_of_items_gone += u64::from(!still);
                self.shard.unpin(pin);
            }
            Act::Reserve { key, len } => self.reserve(key, len),
            Act::Settle { nth, commit } if !self.reservations.is_empty() => self.settle(nth, commit),
            Act::Unpin { .. } | Act::Settle { .. } => {}
            Act::Flush { delay } => self.flush(delay),
            Act::Tick { secs } => self.now.secs += secs,
            Act::Limit { segments } => self.limit(segments),
            Act::Maintain { steps } => {
                self.shard.maintain(self.now, steps);
            }
        }
    }

    /// Appends, and compares what came of it with the map.
    fn append(&mut self, key: u16, len: usize) {
        let (known, more) = (self.known(key), self.value(len));
        let append = Operation::Store(Store { mode: StoreMode::Append, ..Store::SET });
        let (outcome, _) = self.execute(key, &append, &more);
        if let (Some(entry), Outcome::Stored { .. }) = (&known, outcome) {
            self.note_store(key, [&entry.value[..], &more[..]].concat(), entry.expiry, outcome);
        } else {
            assert_eq!(outcome, Outcome::NotStored, "too large, no room, or nothing there: {known:?}");
        }
    }

    /// Gives an item another expiry, if it is there.
    fn touch(&mut self, key: u16, ttl: u32) {
        let (known, expiry) = (self.known(key), self.expiry(ttl));
        match self.execute(key, &Operation::Touch(expiry), b"").0 {
            Outcome::Touched => self.map.get_mut(&key).expect("it was touched").expiry = expiry,
            Outcome::NoMemory(_) => self.seen.borrow_mut().refused += 1,
            _ => assert!(known.is_none()),
        }
    }

    /// Pins what a get finds, while few are pinned.
    fn pin(&mut self, key: u16) {
        let known = self.known(key);
        let (_, found) = self.execute(key, &Operation::GET, b"");
        let pin = found.filter(|_| self.pins.len() < PINS_MAX).and_then(|at| self.shard.pin(at));
        self.pins.extend(pin.map(|pin| (pin, key, known.expect("it was found").value)));
    }

    /// Reserves room for a value and fills it; it is settled later.
    fn reserve(&mut self, key: u16, len: usize) {
        let bytes = key.to_le_bytes();
        match self.shard.reserve(self.hasher.key(&bytes), &Store::SET, len as u32, self.now) {
            Ok(mut reservation) => {
                let value = self.value(len);
                assert_eq!(self.shard.fill(&mut reservation, &value), len);
                self.reservations.push((reservation, key, value));
            }
            Err(_) => self.seen.borrow_mut().refused += 1,
        }
    }

    /// Commits or abandons a reservation.
    fn settle(&mut self, nth: usize, commit: bool) {
        let (reservation, key, value) = self.reservations.swap_remove(nth % self.reservations.len());
        if commit {
            let outcome = self.shard.commit(reservation, self.now);
            self.note_store(key, value, Expiry::NEVER, outcome);
        } else {
            self.shard.abandon(reservation);
        }
    }

    /// Flushes, at once or later.
    fn flush(&mut self, delay: u32) {
        self.known(0);
        self.shard.flush_all(i64::from(delay), self.now);
        self.flush_last = (delay > 0).then(|| self.now.secs + delay - 1);
        if delay == 0 {
            self.seen.borrow_mut().flushed += self.map.len() as u64;
            self.map.clear();
        }
    }

    /// Changes how much memory there is.
    fn limit(&mut self, segments: usize) {
        if self.shard.set_memory_limit(segments * SEGMENT_BYTES).is_ok() {
            let mut seen = self.seen.borrow_mut();
            seen.raised += u64::from(segments > self.segments);
            seen.lowered += u64::from(segments < self.segments);
            self.segments = segments;
        }
    }

    fn check_pins(&self) {
        for (pin, key, value) in &self.pins {
            let item = self.shard.pinned(pin);
            assert!(item.key == key.to_le_bytes() && item.value == value, "the pinned bytes of {key}");
        }
    }

    fn run(mut self, acts: Vec<Act>) {
        let index = self.shard.census().segments_index;
        for act in acts {
            self.act(act);
            self.check_pins();
        }
        (0..KEYS).for_each(|key| drop(self.known(key)));
        for (pin, ..) in std::mem::take(&mut self.pins) {
            self.shard.unpin(pin);
        }
        for (reservation, ..) in std::mem::take(&mut self.reservations) {
            self.shard.abandon(reservation);
        }
        let stats = self.shard.stats();
        let evicted = stats.evictions.value();
        assert!(self.gone <= evicted, "{} items are missing and {evicted} were evicted", self.gone);
        {
            let mut seen = self.seen.borrow_mut();
            seen.merged += stats.merged.value();
            seen.evicted += evicted;
            seen.found_gone += self.gone;
            seen.index_grew += (self.shard.census().segments_index - index) as u64;
        }
        self.now.secs += 10;
        self.shard.flush_all(0, self.now);
        while self.shard.maintain(self.now, 1000) {}
        let census = self.shard.census();
        assert_eq!((census.pins, census.reservations, census.segments_held), (0, 0, 0), "{census:?}");
        assert_eq!((census.segments_sealed, census.segments_resting), (0, 0), "{census:?}");
        assert_eq!(census.segments, self.segments, "the limit is kept: {census:?}");
    }
}

#[test]
fn merging_growth_pins_flushes_expiry_and_limits_lose_and_tear_nothing() {
    let seed = std::env::var("PROPERTIES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4u64);
    println!("seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let (cases, rng) = (u64::from(config.cases), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let seen = RefCell::new(Seen::default());
    let outcome =
        TestRunner::new_with_rng(config, rng).run(&(LEAST_SEGMENTS..=96, vec(act(), 0..300)), |(segments, acts)| {
            World::new(segments, &seen).run(acts);
            Ok(())
        });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    println!("{seen:?}");
    let Seen { merged, evicted, found_gone, index_grew, expired, flushed, raised, lowered, pins_of_items_gone, .. } =
        seen;
    assert!(merged > cases * 100 && evicted > cases * 100 && found_gone > cases * 10, "{seen:?}");
    assert!(index_grew > cases / 4 && expired > cases && flushed > cases * 10, "{seen:?}");
    assert!(raised > cases / 4 && lowered > cases / 4 && pins_of_items_gone > cases / 4, "{seen:?}");
}
