//! After start a shard allocates nothing, whatever it is asked: an allocator that counts says so.

use std::alloc::System;

use sidestep_cache::{Expiry, KeyHasher, Now, Shard, ShardConfig, StoreMode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let hasher = KeyHasher::new([1; 16]);
    let config = ShardConfig { memory_bytes: 8 << 20, ..ShardConfig::default() };
    let mut shard = Shard::new(&config, hasher.clone()).unwrap();
    let big = vec![1; 900_000];
    let region = Region::new(ALLOCATOR);
    for n in 0..400_000u32 {
        let key = n.to_le_bytes();
        let hash = hasher.hash(&key);
        let now = Now { secs: 2 + n / 1000, unix_epoch: 0 };
        let expiry = Expiry::from_exptime(i64::from(n % 3 * 50), now);
        shard.store(hash, &key, b"17", n % 2, expiry, StoreMode::Set, now);
        shard.incr(hash, &key, 1_000_000, now);
        shard.store(hash, &key, b"9", 0, expiry, StoreMode::Append, now);
        shard.touch(hash, &key, Expiry::from_exptime(1000, now), now);
        if n % 1000 == 0
            && let Ok(mut reservation) = shard.reserve(hash, &key, big.len() as u32, 0, expiry, now)
        {
            shard.fill(&mut reservation, &big);
            shard.commit(reservation, StoreMode::Set, now);
        }
        if let Some(pin) = shard.get(hash, &key, now).and_then(|at| shard.pin(at)) {
            shard.delete(hash, &key, now);
            shard.unpin(pin);
        }
        shard.maintain(now, 4);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));
    assert!(shard.stats().cmd_set.value() > 800_000);
}
