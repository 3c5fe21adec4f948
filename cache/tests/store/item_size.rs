//! Items as large as `-I` allows: up to half of a shard's memory they are stored and read, whatever else is in the
//! shard; a larger `-I` is refused with the figures.

use sidestep_cache::operation::{Purpose, Store};
use sidestep_cache::{ItemRef, KeyHasher, Now, Operation, Outcome, Shard, ShardConfig};

const NOW: Now = Now { secs: 2, unix_epoch: 1_700_000_000 };
/// memcached's header with a cas unique, the end of a 4-byte key, and the end of the value.
const AROUND_VALUE: usize = 48 + 8 + 4 + 1 + 2;

struct Bench {
    shard: Shard,
    hasher: KeyHasher,
}

impl Bench {
    fn new(config: &ShardConfig) -> Bench {
        let hasher = KeyHasher::new([3; 16]);
        Bench { shard: Shard::new(config, hasher.clone()).unwrap(), hasher }
    }

    fn execute(&mut self, key: u32, operation: &Operation, value: &[u8]) -> (Outcome, Option<ItemRef>) {
        self.shard.execute(self.hasher.key(&key.to_le_bytes()), operation, value, NOW)
    }

    /// Stores the item. Returns why not, if not.
    fn set(&mut self, key: u32, value: &[u8]) -> Option<Outcome> {
        match self.execute(key, &Operation::Store(Store::SET), value).0 {
            Outcome::Stored { .. } => None,
            outcome => Some(outcome),
        }
    }

    fn shows(&mut self, key: u32, value: &[u8]) -> bool {
        let (_, found) = self.execute(key, &Operation::GET, b"");
        found.is_some_and(|at| self.shard.item(at).value == value)
    }
}

#[test]
fn items_of_half_a_shards_memory_are_stored_among_small_ones() {
    for memory_bytes in [2 << 20, 10_000_000] {
        for small_bytes in [0, 10, 100, 3000] {
            let item_size_max = memory_bytes / 2;
            let config = ShardConfig { memory_bytes, item_size_max: item_size_max as u32, ..ShardConfig::default() };
            let mut bench = Bench::new(&config);
            let longest = vec![7; item_size_max - AROUND_VALUE];
            let small = vec![1; small_bytes];
            for round in 0..3u32 {
                let case = format!("{memory_bytes} B of memory among items of {small_bytes} B, round {round}");
                for n in 0..2 * memory_bytes / (small_bytes + 30) {
                    assert_eq!(
                        bench.set(1000 + n as u32, &small),
                        None,
                        "{case}: {n} {:?} {:?}",
                        bench.shard.census(),
                        bench.shard.stats().evictions
                    );
                }
                assert_eq!(bench.set(round % 2, &longest), None, "{case}: {:?}", bench.shard.census());
                assert!(bench.shows(round % 2, &longest), "{case}");
                // And over itself.
                assert_eq!(bench.set(round % 2, &longest[1..]), None, "{case}");
                assert!(bench.shows(round % 2, &longest[1..]), "{case}");
                assert_eq!(bench.set(9, &[&longest[..], b"."].concat()), Some(Outcome::TooLarge), "{case}");
            }
        }
    }
}

#[test]
fn without_eviction_half_of_the_memory_is_there_for_one_item_again_and_again() {
    let config = ShardConfig { memory_bytes: 16 << 20, item_size_max: 8 << 20, evict: false, ..ShardConfig::default() };
    let mut bench = Bench::new(&config);
    let longest = vec![7; (8 << 20) - AROUND_VALUE];
    for round in 0..10 {
        assert_eq!(bench.set(1, &longest), None, "round {round}");
        assert!(bench.shows(1, &longest));
        assert_eq!(
            bench.set(2, &longest),
            Some(Outcome::NoMemory(Purpose::Store)),
            "round {round}: both would leave no room"
        );
        assert!(bench.shows(1, &longest), "nothing is lost for what found no room");
        assert_eq!(bench.execute(1, &Operation::DELETE, b"").0, Outcome::Deleted);
    }
}

#[test]
fn more_than_half_of_the_memory_is_refused_with_the_figures_and_the_next_step() {
    let refused = |memory_bytes: usize, item_size_max: u32| {
        let config = ShardConfig { memory_bytes, item_size_max, ..ShardConfig::default() };
        Shard::new(&config, KeyHasher::new([0; 16])).err().map(|error| error.to_string())
    };
    assert_eq!(refused(16 << 20, 8 << 20), None);
    assert_eq!(
        refused(16 << 20, (8 << 20) + 1).as_deref(),
        Some(
            "an item of 8388609 bytes is more than half of a shard's 16777216 bytes; lower -I to at most 8388608, raise -m \
             or lower -t"
        )
    );
}
