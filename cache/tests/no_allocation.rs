//! After start a shard allocates nothing, whatever it is asked: an allocator that counts says so.

use std::alloc::System;

use sidestep_cache::{Expiry, KeyHasher, Now, Shard, ShardConfig, StoreMode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

// The only test of this file: another one's allocations would be counted too.
#[test]
fn no_operation_allocates() {
    let mut shard = Shard::new(&ShardConfig { memory_bytes: 8 << 20, ..ShardConfig::default() }).unwrap();
    let hasher = KeyHasher::new([1; 16]);
    let big = vec![1; 900_000];
    // The test program's own thread may allocate once in a while; what an operation allocates, it allocates in each round.
    let least = (0..4).map(|round| allocations(&mut shard, &hasher, &big, round * 100_000)).min();
    assert_eq!(least, Some(0));
    assert!(shard.stats().cmd_set.value() > 800_000);
}

/// Allocations of 100,000 turns of every operation, on keys from `first` on.
fn allocations(shard: &mut Shard, hasher: &KeyHasher, big: &[u8], first: u32) -> usize {
    let region = Region::new(ALLOCATOR);
    for n in first..first + 100_000 {
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
            shard.fill(&mut reservation, big);
            shard.commit(reservation, StoreMode::Set, now);
        }
        if let Some(pin) = shard.get(hash, &key, now).and_then(|at| shard.pin(at)) {
            shard.delete(hash, &key, now);
            shard.unpin(pin);
        }
        shard.maintain(now, 4);
    }
    let change = region.change();
    change.allocations + change.reallocations
}
