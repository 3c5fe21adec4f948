//! A SYN flood allocates nothing, and nothing does who proves real meanwhile.

#[path = "lab/lab.rs"]
mod lab;

use std::alloc::System;
use std::time::Duration;

use lab::bench::Bench;
use lab::raw::{ACK, SYN, Tcp};
use lab::{App, config};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The only test of this binary: another's allocations would be counted.
#[test]
fn a_syn_flood_allocates_nothing() {
    let mut config = config();
    config.flows_at_start = 1_024;
    let mut bench = Bench::with(config, App::Record);
    let syn = |number: u32| Tcp::new(1_024 + (number % 60_000) as u16, SYN, number, 0);
    let syns: Vec<Vec<u8>> = (0..20_000).map(|number| syn(number).frame_from([10, 200, 0, 1])).collect();
    // The wire keeps buffers of its own from the first frames on, and the list of what the application is told grows.
    let (first, rest) = syns.split_at(1_000);
    let mut answers = 0;
    for syn in first {
        bench.send(syn);
        bench.turn_with(|_| answers += 1);
    }
    let syn_ack = bench.one(&Tcp::new(5_000, SYN, 1, 0));
    let ack = Tcp::new(5_000, ACK, 2, syn_ack.seq.wrapping_add(1)).frame();
    bench.server.events.reserve(16);
    let region = Region::new(ALLOCATOR);
    for (number, syn) in rest.iter().enumerate() {
        if number.is_multiple_of(100) {
            bench.wire.clock().advance(Duration::from_millis(1));
        }
        bench.send(syn);
        bench.turn_with(|frame| answers += usize::from(frame[47] == SYN | 16));
    }
    bench.send(&ack);
    bench.turn_with(|_| {});
    let change = region.change();
    assert_eq!((answers, bench.server.stack.stats().cookies_accepted), (syns.len(), 1));
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
}
