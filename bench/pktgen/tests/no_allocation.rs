//! No turn of any mode allocates, once the first frames have been round.

use std::alloc::System;

use clap::Parser;
use nic::{Queue, WireQueue};
use sidestep_pktgen::options::Plan;
use sidestep_pktgen::port::{Seat, open_wire};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn turns(seats: &mut [Seat<WireQueue>], wire: &nic::Wire, turns: usize) {
    for _ in 0..turns {
        for seat in &mut *seats {
            seat.engine.turn(&mut seat.queue, wire.clock().now()).unwrap();
        }
        wire.clock().advance(std::time::Duration::from_micros(10));
    }
}

/// One test, so that no other thread of this program allocates meanwhile.
#[test]
fn turns_do_not_allocate() {
    for line in ["-f ping", "-f ping -R 300000 -p 2", "-f tx", "-f ping -s fd77::4 -d fd77::2"] {
        let plan =
            Plan::try_parse_from(format!("pktgen -i wire: {line}").split_whitespace()).unwrap().checked().unwrap();
        let (wire, mut seats) = open_wire(&plan, 1).unwrap();
        turns(&mut seats, &wire, 2_000);
        let frames = |seats: &[Seat<WireQueue>]| seats.iter().map(|seat| seat.queue.stats().rx_frames).sum::<u64>();
        let (region, before) = (Region::new(ALLOCATOR), frames(&seats));
        turns(&mut seats, &wire, 2_000);
        let change = region.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "{line}");
        assert!(frames(&seats) - before > 10_000, "{line} moved too few frames to tell");
    }
}
