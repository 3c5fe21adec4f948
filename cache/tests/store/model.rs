//! The shard against a map: every operation, a fake clock, seeded.
//!
//! With memory to spare every answer must be the map's. With little, an item may be missing, because it was evicted,
//! and everything else must be the map's. Pinned bytes are compared all along, and at the end nothing may be left held.

mod meta;

use std::collections::HashMap;

use rand_xoshiro::Xoshiro256StarStar;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_cache::operation::{Count, Number, Purpose, Store, StoreMode};
use sidestep_cache::{Expiry, ItemRef, KeyHasher, Now, Operation, Outcome, Pin, Reservation, Shard, ShardConfig};

#[derive(Clone, Debug, PartialEq, Default)]
struct Entry {
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    expiry: u32,
    stored_secs: u32,
    stale: bool,
    /// Somebody has been told to renew it.
    token_sent: bool,
}

/// A body that is being received.
struct Upload {
    reservation: Reservation,
    key: Vec<u8>,
    value: Vec<u8>,
    filled: usize,
}

struct Model {
    shard: Shard,
    hasher: KeyHasher,
    rng: Xoshiro256StarStar,
    now: Now,
    map: HashMap<Vec<u8>, Entry>,
    /// Items stored up to the end of this second are gone from this second on.
    flush_last: Option<u32>,
    largest_cas: u64,
    pins: Vec<(Pin, Vec<u8>, Entry)>,
    uploads: Vec<Upload>,
    shape: Shape,
    refused: u64,
}

/// What a run is like.
#[derive(Clone, Debug)]
struct Shape {
    config: ShardConfig,
    keys: u64,
    value_max: u64,
    /// One value in so many is up to 100 times as long.
    large_every: u64,
    /// Whether items may go missing.
    tight: bool,
}

impl Model {
    fn new(seed: u64, shape: Shape) -> Model {
        println!("seed {seed}, {shape:?}");
        Model {
            shard: Shard::new(&shape.config, KeyHasher::new([seed as u8; 16])).unwrap(),
            hasher: KeyHasher::new([seed as u8; 16]),
            rng: Xoshiro256StarStar::seed_from_u64(seed),
            now: Now { secs: 2, unix_epoch: 1_700_000_000 },
            map: HashMap::new(),
            flush_last: None,
            largest_cas: 0,
            pins: Vec::new(),
            uploads: Vec::new(),
            shape,
            refused: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn key(&mut self) -> Vec<u8> {
        let n = self.below(self.shape.keys);
        key_of(n)
    }

    fn new_value(&mut self) -> Vec<u8> {
        if self.below(4) == 0 {
            let number = self.rng.next_u64() >> self.below(64);
            return number.to_string().into_bytes();
        }
        let longest =
            if self.below(self.shape.large_every) == 0 { self.shape.value_max * 100 } else { self.shape.value_max };
        let len = self.below(longest + 1) as usize;
        let (start, step) = (self.rng.next_u32() as u8, self.rng.next_u32() as u8 | 1);
        (0..len).map(|n| start.wrapping_add((n as u8).wrapping_mul(step))).collect()
    }

    fn exptime(&mut self) -> i64 {
        match self.below(12) {
            0 => -1,
            1..=3 => 1 + self.below(5) as i64,
            4 => 1 + self.below(2_000_000) as i64,
            5 => self.now.unix_epoch as i64 + i64::from(self.now.secs) + self.below(20) as i64 - 5,
            _ => 0,
        }
    }

    fn flags(&mut self) -> u32 {
        if self.below(3) == 0 { self.rng.next_u32() } else { 0 }
    }

    /// What the map holds for `key` at this second. Where items may be evicted, the shard is asked first.
    fn known(&mut self, key: &[u8]) -> Option<Entry> {
        if let Some(last) = self.flush_last
            && self.now.secs >= last
        {
            self.map.retain(|_, entry| entry.stored_secs > last);
            if self.now.secs > last {
                self.flush_last = None;
            }
        }
        if self.map.get(key).is_some_and(|entry| entry.expiry != 0 && entry.expiry <= self.now.secs) {
            self.map.remove(key);
        }
        if self.shape.tight && self.shard.peek(self.hasher.key(key), self.now).is_none() {
            self.map.remove(key);
        }
        self.map.get(key).cloned()
    }

    /// Checks that the shard shows for `key` what the map holds.
    fn check_item(&mut self, key: &[u8]) {
        let known = self.known(key);
        let found = self.shard.peek(self.hasher.key(key), self.now);
        let shown = found.map(|at| self.shard.item(at));
        assert_eq!(shown.is_some(), known.is_some(), "{:?}", String::from_utf8_lossy(key));
        if let (Some(item), Some(entry)) = (shown, known) {
            assert_eq!(item.key, key);
            assert!(item.value == entry.value, "value of {:?}", String::from_utf8_lossy(key));
            assert_eq!((item.flags, item.cas, item.expiry.secs()), (entry.flags, entry.cas, entry.expiry));
        }
    }

    /// A cas unique that the client names, now and then.
    fn named(&mut self) -> Option<u64> {
        (self.below(8) == 0).then(|| [0, 1, u64::MAX - 1, u64::MAX][self.below(4) as usize])
    }

    fn new_cas(&mut self, cas: u64, named: Option<u64>) -> u64 {
        if named.is_none() {
            assert!(cas > self.largest_cas, "cas {cas} after {}", self.largest_cas);
            self.largest_cas = cas;
        }
        assert_eq!(cas, named.unwrap_or(cas));
        cas
    }

    /// A store in some mode, which may name a unique and make what it was to join.
    fn store(&mut self, known: Option<&Entry>, flags: u32, expiry: Expiry) -> Store {
        let (mode, named, vivify) = (self.mode(known), self.named(), self.below(4) == 0);
        Store { mode, flags, expiry, named, vivify, ..Store::SET }
    }

    fn mode(&mut self, known: Option<&Entry>) -> StoreMode {
        match self.below(10) {
            0 => StoreMode::Add,
            1 => StoreMode::Replace,
            2 => StoreMode::Append,
            3 => StoreMode::Prepend,
            4 => StoreMode::Cas(known.map_or(7, |entry| entry.cas)),
            5 => StoreMode::Cas(self.below(self.largest_cas + 2)),
            6 => match self.below(4) {
                0 => StoreMode::AppendIf(known.map_or(7, |entry| entry.cas)),
                1 => StoreMode::PrependIf(1 + self.below(self.largest_cas + 2)),
                2 => StoreMode::CasOrStale(known.map_or(7, |entry| entry.cas)),
                _ => StoreMode::CasOrStale(self.below(self.largest_cas + 2)),
            },
            _ => StoreMode::Set,
        }
    }

    /// Applies to the map what a store of `new` must do, given what it answered.
    fn apply_store(&mut self, key: Vec<u8>, mut new: Entry, store: Store, known: Option<Entry>, outcome: Outcome) {
        use Outcome::{Exists, Missed, NotStored};
        const DONE: Outcome = Outcome::Stored { cas: 0, len: 0 };
        let mode = store.mode;
        let item_max = self.shape.config.item_size_max as usize;
        let expected = match (mode, &known) {
            (StoreMode::Set, _) | (StoreMode::Add, None) | (StoreMode::Replace, Some(_)) => DONE,
            (StoreMode::Add, Some(_)) | (StoreMode::Replace, None) => NotStored,
            (StoreMode::AppendIf(cas) | StoreMode::PrependIf(cas), Some(old)) if old.cas != cas => Exists,
            (mode, None) if mode.joins() && store.vivify => DONE,
            (mode, None) if mode.joins() => NotStored,
            (mode, Some(old)) if mode.joins() => {
                new.value = match mode {
                    StoreMode::Append | StoreMode::AppendIf(_) => [&old.value[..], &new.value[..]].concat(),
                    _ => [&new.value[..], &old.value[..]].concat(),
                };
                (new.flags, new.expiry) = (old.flags, old.expiry);
                if item_bytes(&key, &new) > item_max { NotStored } else { DONE }
            }
            (StoreMode::Cas(_) | StoreMode::CasOrStale(_), None) => Missed,
            (StoreMode::Cas(cas) | StoreMode::CasOrStale(cas), Some(old)) if cas != 0 && old.cas == cas => DONE,
            (StoreMode::CasOrStale(cas), Some(old)) if cas != 0 && cas < old.cas => {
                (new.expiry, new.stale, new.token_sent) = (old.expiry, true, old.token_sent);
                DONE
            }
            (_, Some(_)) => Exists,
            (_, None) => NotStored,
        };
        let no_room = if mode.joins() { NotStored } else { Outcome::NoMemory(Purpose::Store) };
        if outcome == no_room && expected == DONE && self.shape.tight {
            self.refused += 1;
            return;
        }
        match (outcome, expected) {
            (Outcome::Stored { cas, len }, DONE) => {
                new.cas = self.new_cas(cas, store.named);
                assert_eq!(len as usize, new.value.len());
                self.map.insert(key, new);
            }
            _ => assert_eq!(outcome, expected, "{mode:?} with {known:?}"),
        }
    }

    fn execute(&mut self, key: &[u8], operation: &Operation) -> (Outcome, Option<ItemRef>) {
        self.shard.execute(self.hasher.key(key), operation, b"", self.now)
    }

    fn step(&mut self) {
        let key = self.key();
        let now = self.now;
        match self.below(1000) {
            0..40 => self.meta_get(key),
            40..60 => self.meta_delete(key),
            60..350 => {
                let known = self.known(&key);
                let (_, found) = self.execute(&key, &Operation::GET);
                assert_eq!(found.is_some(), known.is_some());
                assert!(found.is_none_or(|at| self.shard.item(at).fetched));
                self.check_item(&key);
            }
            350..620 => self.store_whole(key),
            620..660 => self.begin_upload(key),
            660..740 => self.go_on_uploading(),
            740..790 => {
                let known = self.known(&key);
                let (outcome, _) = self.execute(&key, &Operation::DELETE);
                assert_eq!(outcome == Outcome::Deleted, known.is_some());
                self.map.remove(&key);
            }
            790..860 => self.arith(key),
            860..920 => self.touch(key),
            920..960 => self.pin(key),
            960..990 => {
                self.shard.maintain(now, 20);
            }
            990..998 => self.now.secs += 1 + self.below(3) as u32,
            998 if self.below(4 + self.shape.keys / 100) == 0 => self.flush(&key),
            _ => {
                let known = self.known(&key);
                assert_eq!(self.shard.forget_key(self.hasher.key(&key), now), known.is_some());
                self.map.remove(&key);
            }
        }
    }

    /// A store of any mode, of a whole value.
    fn store_whole(&mut self, key: Vec<u8>) {
        let now = self.now;
        let known = self.known(&key);
        let (value, flags, expiry) = (self.new_value(), self.flags(), self.exptime());
        let expiry = Expiry::from_exptime(expiry, now);
        let store = self.store(known.as_ref(), flags, expiry);
        let new = Entry { value, flags, expiry: expiry.secs(), stored_secs: now.secs, ..Entry::default() };
        let (outcome, _) = self.shard.execute(self.hasher.key(&key), &Operation::Store(store), &new.value, now);
        if item_bytes(&key, &new) > self.shape.config.item_size_max as usize {
            assert_eq!(outcome, Outcome::TooLarge);
        } else {
            self.apply_store(key.clone(), new, store, known, outcome);
        }
        self.check_item(&key);
    }

    /// Another expiry.
    fn touch(&mut self, key: Vec<u8>) {
        let known = self.known(&key);
        let expiry = Expiry::from_exptime(self.exptime(), self.now);
        let (touched, _) = self.execute(&key, &Operation::Touch(expiry));
        match touched {
            Outcome::NoMemory(Purpose::Change) if self.shape.tight => self.refused += 1,
            Outcome::Touched => {
                assert!(known.is_some());
                self.map.get_mut(&key).unwrap().expiry = expiry.secs();
            }
            _ => assert_eq!((touched, known), (Outcome::Missed, None)),
        }
        self.check_item(&key);
    }

    /// Pins what a get finds; of many that are pinned, one is compared and let go.
    fn pin(&mut self, key: Vec<u8>) {
        let known = self.known(&key);
        let (_, found) = self.execute(&key, &Operation::GET);
        let pinned = found.and_then(|at| self.shard.pin(at));
        if let (Some(pin), Some(entry)) = (pinned, known) {
            self.pins.push((pin, key, entry));
        }
        if self.pins.len() > 12 {
            let at = self.below(self.pins.len() as u64) as usize;
            let (pin, key, entry) = self.pins.swap_remove(at);
            self.check_pin(&pin, &key, &entry);
            self.shard.unpin(pin);
        }
    }

    /// Flushes, at once or later.
    fn flush(&mut self, key: &[u8]) {
        let now = self.now;
        let delay = [0, 0, -1, 1, 2, 5][self.below(6) as usize];
        self.known(key);
        self.shard.flush_all(delay, now);
        self.flush_last = None;
        if delay > 0 {
            self.flush_last = Some(now.secs + delay as u32 - 1);
        } else {
            self.map.clear();
        }
    }

    fn begin_upload(&mut self, key: Vec<u8>) {
        let (value, flags, exptime) = (self.new_value(), self.flags(), self.exptime());
        let expiry = Expiry::from_exptime(exptime, self.now);
        let known = self.known(&key);
        let store = self.store(known.as_ref(), flags, expiry);
        match self.shard.reserve(self.hasher.key(&key), &store, value.len() as u32, self.now) {
            Ok(reservation) => {
                self.uploads.push(Upload { reservation, key, value, filled: 0 });
            }
            Err(Outcome::TooLarge) => {
                let new = Entry { value, flags, ..Entry::default() };
                assert!(item_bytes(&key, &new) > self.shape.config.item_size_max as usize);
            }
            Err(_) => {
                assert!(self.shape.tight);
                self.refused += 1;
            }
        }
    }

    fn go_on_uploading(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let at = self.below(self.uploads.len() as u64) as usize;
        let missing = self.uploads[at].value.len() - self.uploads[at].filled;
        let piece = self.below(missing as u64 * 2 + 1) as usize;
        let upload = &mut self.uploads[at];
        let end = upload.filled + piece.min(missing);
        let taken = self.shard.fill(&mut upload.reservation, &upload.value[upload.filled..end]);
        assert_eq!(
            (taken, upload.reservation.missing_bytes() as usize),
            (end - upload.filled, upload.value.len() - end)
        );
        upload.filled = end;
        let give_up = self.below(20) == 0;
        if give_up || self.uploads[at].reservation.missing_bytes() == 0 {
            let Upload { reservation, key, value, .. } = self.uploads.swap_remove(at);
            if give_up {
                self.shard.abandon(reservation);
            } else {
                let known = self.known(&key);
                let store = *reservation.store();
                let (flags, expiry) = (store.flags, store.expiry.secs());
                let outcome = self.shard.commit(reservation, self.now);
                let new = Entry { value, flags, expiry, stored_secs: self.now.secs, ..Entry::default() };
                self.apply_store(key.clone(), new, store, known, outcome);
                self.check_item(&key);
            }
        }
    }

    fn arith(&mut self, key: Vec<u8>) {
        let known = self.known(&key);
        let (up, delta, named) = (self.below(2) == 0, self.rng.next_u64() >> self.below(64), self.named());
        let (answer, _) = self.execute(&key, &Operation::Count(Count { named, ..Count::by(delta, up) }));
        if let Outcome::Number(Number { cas, .. }) = answer {
            assert_eq!(cas, named.unwrap_or(cas));
        }
        let text = known.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok()).map(str::trim_ascii_end);
        let number = text.and_then(|text| text.parse::<u64>().ok());
        match (answer, number) {
            (Outcome::NoMemory(Purpose::Change), Some(_)) if self.shape.tight => self.refused += 1,
            (Outcome::Number(Number { value, ttl: None, .. }), Some(old)) => {
                assert_eq!(value, if up { old.wrapping_add(delta) } else { old.saturating_sub(delta) });
                let at = self.shard.peek(self.hasher.key(&key), self.now).unwrap();
                // A number that has grown has the next unique, whatever was named and shown.
                let grows = value.to_string().len() > known.map_or(0, |entry| entry.value.len());
                let cas = self.new_cas(self.shard.item(at).cas, named.filter(|_| !grows));
                let entry = self.map.get_mut(&key).unwrap();
                let len = entry.value.len();
                entry.value = value.to_string().into_bytes();
                if entry.value.len() > len {
                    (entry.stale, entry.token_sent) = (false, false);
                }
                entry.value.resize(entry.value.len().max(len), b' ');
                (entry.cas, entry.stored_secs) = (cas, self.now.secs);
            }
            (Outcome::NotANumber, None) => assert!(known.is_some()),
            (Outcome::Number(Number { value, .. }), None) => {
                // A random value that memcached reads as a number and Rust does not: take it as it is.
                let entry = known.expect("a number was changed");
                assert!(entry.value.iter().any(u8::is_ascii_digit), "{value} from {entry:?}");
                let at = self.shard.peek(self.hasher.key(&key), self.now).unwrap();
                let (value, cas) = (self.shard.item(at).value.to_vec(), self.shard.item(at).cas);
                self.new_cas(cas, named.filter(|_| value.len() == entry.value.len()));
                let stored_secs = self.now.secs;
                self.map.insert(key.clone(), Entry { value, cas, stored_secs, ..entry });
            }
            (answer, _) => assert_eq!((answer, known), (Outcome::Missed, None)),
        }
        self.check_item(&key);
    }

    fn check_pin(&self, pin: &Pin, key: &[u8], entry: &Entry) {
        let item = self.shard.pinned(pin);
        assert!(item.key == key && item.value == entry.value, "pinned {:?}", String::from_utf8_lossy(key));
        assert_eq!((item.flags, item.cas), (entry.flags, entry.cas));
    }

    fn run(mut self, steps: u64) {
        for step in 0..steps {
            self.step();
            if step % 1000 == 0 {
                self.pins.iter().for_each(|(pin, key, entry)| self.check_pin(pin, key, entry));
            }
        }
        let keys: Vec<_> = self.map.keys().cloned().collect();
        for key in keys {
            self.check_item(&key);
        }
        for (pin, key, entry) in std::mem::take(&mut self.pins) {
            self.check_pin(&pin, &key, &entry);
            self.shard.unpin(pin);
        }
        for upload in std::mem::take(&mut self.uploads) {
            self.shard.abandon(upload.reservation);
        }
        let evictions = self.shard.stats().evictions.value();
        println!("{} items, {evictions} evictions, {} refused", self.map.len(), self.refused);
        if !self.shape.tight {
            assert_eq!(evictions, 0);
            assert_eq!(self.shard.stats().store_no_memory.value(), 0);
        }
        assert!(self.refused < steps / 50);
        self.assert_nothing_left();
    }

    fn assert_nothing_left(mut self) {
        self.now.secs += 1;
        self.shard.flush_all(0, self.now);
        for n in 0..self.shape.keys {
            assert_eq!(self.shard.peek(self.hasher.key(&key_of(n)), self.now), None);
        }
        while self.shard.maintain(self.now, 1000) {}
        let census = self.shard.census();
        assert_eq!((census.items, census.pins, census.reservations, census.segments_held), (0, 0, 0, 0), "{census:?}");
        assert_eq!((census.segments_sealed, census.segments_resting), (0, 0), "{census:?}");
        assert_eq!(census.segments, census.segments_free + census.segments_open + census.segments_index);
        let stats = self.shard.stats();
        assert_eq!((stats.curr_items.value(), stats.bytes.value()), (0, 0));
        assert!(stats.classes.iter().all(|class| class.items.value() == 0));
    }
}

/// Key number `n`, one in fifty of them as long as a key may be.
fn key_of(n: u64) -> Vec<u8> {
    let mut key = n.to_string().into_bytes();
    if n.is_multiple_of(50) {
        key.resize(250, b'k');
    }
    key
}

/// An item's size as memcached counts it.
fn item_bytes(key: &[u8], entry: &Entry) -> usize {
    48 + 8 + key.len() + 1 + entry.value.len() + 2 + if entry.flags == 0 { 0 } else { 4 }
}

#[test]
fn with_memory_to_spare_every_answer_is_the_maps() {
    let config = ShardConfig { memory_bytes: 64 << 20, item_size_max: 20_000, ..ShardConfig::default() };
    let shape = Shape { config, keys: 400, value_max: 100, large_every: 20, tight: false };
    for seed in 1..=3 {
        Model::new(seed, shape.clone()).run(300_000);
    }
}

#[test]
fn values_of_many_segments_are_whole() {
    let config =
        ShardConfig { memory_bytes: 64 << 20, segment_bytes: 4096, item_size_max: 400_000, ..ShardConfig::default() };
    let shape = Shape { config, keys: 60, value_max: 4000, large_every: 8, tight: false };
    Model::new(4, shape).run(40_000);
}

#[test]
fn with_little_memory_items_go_missing_and_nothing_is_wrong() {
    let config =
        ShardConfig { memory_bytes: 256 << 12, segment_bytes: 4096, item_size_max: 30_000, ..ShardConfig::default() };
    let shape = Shape { config, keys: 20_000, value_max: 150, large_every: 100, tight: true };
    for seed in 5..=7 {
        Model::new(seed, shape.clone()).run(500_000);
    }
}

#[test]
fn with_hardly_any_memory_too() {
    let config =
        ShardConfig { memory_bytes: 16 << 12, segment_bytes: 4096, item_size_max: 30_000, ..ShardConfig::default() };
    let shape = Shape { config, keys: 3_000, value_max: 60, large_every: 2_000, tight: true };
    for seed in 8..=9 {
        Model::new(seed, shape.clone()).run(200_000);
    }
}

#[test]
fn without_eviction_nothing_goes_missing() {
    let config = ShardConfig { memory_bytes: 16 << 20, item_size_max: 20_000, evict: false, ..ShardConfig::default() };
    let shape = Shape { config, keys: 300, value_max: 100, large_every: 50, tight: false };
    Model::new(10, shape).run(300_000);
}
