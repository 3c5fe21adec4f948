//! After start the cache allocates nothing: an allocator that counts for the whole process says so.
//!
//! libtest's threads allocate too, so these run without it (`harness = false`): one after the other, all of them whatever the
//! arguments.

mod sessions;
mod shard;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    // As libtest says it, for scripts/test to count. A test that fails ends the process.
    println!("\nrunning 2 tests");
    sessions::hits_and_small_stores_allocate_nothing_after_start();
    println!("test sessions::hits_and_small_stores_allocate_nothing_after_start ... ok");
    shard::a_shard_allocates_nothing_after_start();
    println!("test shard::a_shard_allocates_nothing_after_start ... ok");
    println!("\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
