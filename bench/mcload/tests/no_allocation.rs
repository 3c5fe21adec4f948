//! Nothing is allocated on the path of a request, in closed and in open loop, once the loop has gone round.
//!
//! Alone in its binary, without libtest: the counter sees every allocation of the process.

#[path = "lab/canned.rs"]
mod canned;

use std::alloc::System;

use mcload::popularity::{Popularity, Zipf};
use mcload::transport::Transport;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use canned::{KEYS, NEVER_FAILS, steady};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let zipf = Popularity::Zipf(Zipf::new(KEYS, 0.99));
    for (popularity, depth, rate) in
        [(Popularity::Uniform(KEYS), 1, None), (Popularity::Uniform(KEYS), 16, None), (zipf, 16, Some(1e6))]
    {
        let (mut engine, mut transport) = steady(popularity, depth, rate);
        let mut turns = |count| {
            for _ in 0..count {
                transport.wait(engine.deadline()).expect(NEVER_FAILS);
                engine.turn(&mut transport).expect(NEVER_FAILS);
            }
            engine.tally().requests()
        };
        let before = turns(20_000);
        let region = Region::new(ALLOCATOR);
        let requests = turns(20_000) - before;
        let change = region.change();
        assert!(requests > 10_000, "{requests}");
        assert_eq!((change.allocations, change.reallocations), (0, 0), "depth {depth}, rate {rate:?}");
        println!("depth {depth}, rate {rate:?}: {requests} requests, nothing allocated");
    }
}
