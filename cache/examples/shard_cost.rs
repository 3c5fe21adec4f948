//! What a shard costs: nanoseconds per get and set, and bytes of memory per item, for two sizes of item.
//!
//! `cargo run --release -p sidestep-cache --example shard_cost [MEMORY_MIB]`
//!
//! Working figures on one thread, without network: the median of blocks of 1,024 operations, so that being scheduled
//! away does not count. Gets go in random order over the keys held; for the last figure batches of 16 are prefetched,
//! as a burst of requests would be.

use std::time::Instant;

use sidestep_cache::operation::Store;
use sidestep_cache::{Key, KeyHash, KeyHasher, Now, Operation, Shard, ShardConfig};

const NOW: Now = Now { secs: 2, unix_epoch: 0 };
const BATCH: usize = 16;
const BLOCK: usize = 1024;

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(64);
    for (key_len, value_len) in [(36, 224), (20, 40)] {
        measure(mib << 20, key_len, value_len);
    }
}

fn measure(memory_bytes: usize, key_len: usize, value_len: usize) {
    let config = ShardConfig { memory_bytes, ..ShardConfig::default() };
    let hasher = KeyHasher::new([5; 16]);
    let started = Instant::now();
    let mut shard = Shard::new(&config, hasher.clone()).expect("the figures given are in range");
    let start_ms = started.elapsed().as_secs_f64() * 1e3;
    while shard.maintain(NOW, 1000) {}
    let value = vec![b'v'; value_len];
    // Sets the next keys; returns nanoseconds for each.
    let set_block = |shard: &mut Shard, keys: &mut u64| {
        let new: Vec<_> = (*keys..*keys + BLOCK as u64).map(|n| key_of(n, key_len)).collect();
        *keys += BLOCK as u64;
        let started = Instant::now();
        for key in &new {
            shard.execute(hasher.key(key), &Operation::Store(Store::SET), &value, NOW);
        }
        started.elapsed().as_secs_f64() * 1e9 / BLOCK as f64
    };

    let mut keys = 0u64;
    let mut blocks = Vec::new();
    while shard.stats().evictions.value() == 0 {
        blocks.push(set_block(&mut shard, &mut keys));
    }
    let fill_ns = median(&mut blocks);
    // A steady state: three times the memory has passed through.
    let end = keys * 4;
    while keys < end {
        set_block(&mut shard, &mut keys);
    }
    let items = shard.stats().curr_items.value();
    let mut blocks: Vec<f64> = (0..items / BLOCK as u64).map(|_| set_block(&mut shard, &mut keys)).collect();
    let set_ns = median(&mut blocks);

    let mut held: Vec<(Vec<u8>, KeyHash)> = (keys - items * 9 / 10..keys)
        .map(|n| {
            let key = key_of(n, key_len);
            let hash = hasher.hash(&key);
            (key, hash)
        })
        .collect();
    shuffle(&mut held);
    let plain_ns = measure_gets(&mut shard, &held, value_len, false);
    let prefetched_ns = measure_gets(&mut shard, &held, value_len, true);
    println!(
        "{key_len} B key, {value_len} B value, {} MiB: start {start_ms:.1} ms, {items} items, {:.1} B an item ({:.1} beside key and \
         value, {:.1} of them index); set {fill_ns:.0} ns filling, {set_ns:.0} ns evicting; get {plain_ns:.0} ns, {prefetched_ns:.0} ns prefetched",
        memory_bytes >> 20,
        memory_bytes as f64 / items as f64,
        memory_bytes as f64 / items as f64 - (key_len + value_len) as f64,
        shard.stats().hash_bytes.value() as f64 / items as f64,
    );
}

/// Gets of the keys in `held`, most of which are there; returns nanoseconds for each.
fn measure_gets(shard: &mut Shard, held: &[(Vec<u8>, KeyHash)], value_len: usize, prefetch: bool) -> f64 {
    let mut blocks = Vec::new();
    let mut hits = 0;
    for block in held.chunks(BLOCK) {
        // The keys themselves are brought into the cache first: a request's key is in its frame.
        let requests = block.to_vec();
        let started = Instant::now();
        for batch in requests.chunks(BATCH) {
            if prefetch {
                batch.iter().for_each(|(_, hash)| shard.prefetch(*hash));
                batch.iter().for_each(|(_, hash)| shard.prefetch_item(*hash));
            }
            for (key, hash) in batch {
                let key = Key { hash: *hash, bytes: key };
                let (_, found) = shard.execute(key, &Operation::GET, b"", NOW);
                hits += usize::from(found.is_some_and(|at| shard.item(at).value.len() == value_len));
            }
        }
        blocks.push(started.elapsed().as_secs_f64() * 1e9 / block.len() as f64);
    }
    assert!(hits * 100 >= held.len() * 99, "{hits} hits of {}", held.len());
    median(&mut blocks)
}

fn shuffle<T>(all: &mut [T]) {
    let mut state = 1u64;
    for at in (1..all.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all.swap(at, (state >> 33) as usize % (at + 1));
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn key_of(n: u64, len: usize) -> Vec<u8> {
    format!("{n:0len$}").into_bytes()
}
