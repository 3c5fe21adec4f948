//! After start, a turn that answers a request allocates nothing.

#[path = "lab/lab.rs"]
mod lab;

use std::alloc::System;
use std::time::Duration;

use lab::bench::Bench;
use lab::raw::{ACK, PSH, Tcp};
use lab::{App, config};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The only test of this binary: another's allocations would be counted.
#[test]
fn a_request_and_its_answer_allocate_nothing() {
    let mut bench = Bench::with(config(), App::Echo);
    let next = bench.open(5_000, 100);
    let requests: Vec<Vec<u8>> = (0..1_000u32)
        .map(|number| {
            let offset = number * 9;
            Tcp::new(5_000, ACK | PSH, 101 + offset, next.wrapping_add(offset)).with(b"get key\r\n").frame()
        })
        .collect();
    // The wire keeps buffers of its own from the first frames on.
    let (first, rest) = requests.split_at(100);
    let mut answers = 0;
    for request in first {
        bench.send(request);
        bench.turn_with(|_| answers += 1);
    }
    assert_eq!(answers, first.len());
    let region = Region::new(ALLOCATOR);
    for request in rest {
        bench.wire.clock().advance(Duration::from_millis(1));
        bench.send(request);
        bench.turn_with(|frame| answers += usize::from(frame.len() == 14 + 40 + 9));
    }
    let change = region.change();
    assert_eq!(answers, requests.len());
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
}
