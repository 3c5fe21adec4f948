//! Strays are bounded: how many are kept, and how many go round the cores a second, whatever comes.

#[path = "lab/lab.rs"]
mod lab;

use std::time::Duration;

use lab::bench::Bench;
use lab::raw::{ACK, Tcp};
use lab::{App, config};
use sidestep_stack::DropReason;

fn bench() -> Bench {
    let mut config = config();
    config.peers = 1;
    Bench::with(config, App::Echo)
}

/// Throws `count` segments of no flow at the stack, whose strays are `taken` as they come, and returns how many were.
fn flood(bench: &mut Bench, count: u32, taken: bool) -> u64 {
    let mut offered = 0;
    for number in 0..count {
        let segment = Tcp::new(1_024 + (number % 60_000) as u16, ACK, number, 1_000);
        assert_eq!(bench.tcp(&segment), [], "the other core has not seen it");
        while taken && bench.server.stack.next_stray(|_, hops| assert_eq!(hops, 1)) {
            offered += 1;
        }
    }
    offered
}

#[test]
fn strays_are_offered_at_a_limited_rate_and_the_rest_is_counted() {
    let mut bench = bench();
    // A tenth of a second's worth of 100,000 a second at one moment.
    assert_eq!(flood(&mut bench, 12_000, true), 10_000);
    assert_eq!((bench.drops(DropReason::Stray), bench.drops(DropReason::StrayRate)), (10_000, 2_000));
    bench.wire.clock().advance(Duration::from_millis(10));
    assert_eq!(flood(&mut bench, 2_000, true), 1_000);
    assert_eq!(bench.server.stack.stats().strays, 11_000);
    bench.server.assert_nothing_left();
}

#[test]
fn strays_that_nobody_takes_are_bounded() {
    let mut bench = bench();
    flood(&mut bench, 1_000, false);
    assert_eq!((bench.drops(DropReason::Stray), bench.drops(DropReason::StrayRate)), (64, 936));
    assert_eq!(bench.server.stack.census().strays, 64);
}
