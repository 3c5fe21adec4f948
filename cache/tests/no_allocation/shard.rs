//! After start a shard allocates nothing, whatever it is asked.

use sidestep_cache::operation::{Count, Store, StoreMode};
use sidestep_cache::{Expiry, KeyHasher, Now, Operation, Shard, ShardConfig};
use stats_alloc::Region;

use crate::ALLOCATOR;

pub fn a_shard_allocates_nothing_after_start() {
    let hasher = KeyHasher::new([1; 16]);
    let config = ShardConfig { memory_bytes: 8 << 20, ..ShardConfig::default() };
    let mut shard = Shard::new(&config, hasher.clone()).unwrap();
    let big = vec![1; 900_000];
    let region = Region::new(ALLOCATOR);
    for n in 0..400_000u32 {
        let bytes = n.to_le_bytes();
        let key = hasher.key(&bytes);
        let now = Now { secs: 2 + n / 1000, unix_epoch: 0 };
        let expiry = Expiry::from_exptime(i64::from(n % 3 * 50), now);
        let set = Store { flags: n % 2, expiry, ..Store::SET };
        shard.execute(key, &Operation::Store(set), b"17", now);
        shard.execute(key, &Operation::Count(Count::by(1_000_000, true)), b"", now);
        shard.execute(key, &Operation::Store(Store { mode: StoreMode::Append, ..Store::SET }), b"9", now);
        shard.execute(key, &Operation::Touch(Expiry::from_exptime(1000, now)), b"", now);
        if n % 1000 == 0
            && let Ok(mut reservation) = shard.reserve(key, &Store { flags: 0, ..set }, big.len() as u32, now)
        {
            shard.fill(&mut reservation, &big);
            shard.commit(reservation, now);
        }
        let (_, at) = shard.execute(key, &Operation::GET, b"", now);
        if let Some(pin) = at.and_then(|at| shard.pin(at)) {
            shard.execute(key, &Operation::DELETE, b"", now);
            shard.unpin(pin);
        }
        shard.maintain(now, 4);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));
    assert!(shard.stats().cmd_set.value() > 800_000);
}
