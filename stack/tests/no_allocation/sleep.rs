//! Flows fall asleep and wake, by segments and by their application, without an allocation on the way.

use std::time::Duration;

use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, Tcp};
use crate::lab::{App, config};

const FLOWS: usize = 600;
const AWAKE: usize = 200;

pub fn a_flow_that_wakes_allocates_nothing() {
    let mut config = config();
    (config.max_flows, config.awake_flows) = (FLOWS + 10, AWAKE);
    let mut bench = Bench::with(config, App::Echo);
    let nexts: Vec<_> = (0..FLOWS).map(|number| bench.open(2_000 + number as u16, 9)).collect();
    // Each asks, and acknowledges the answer, so that its flow rests afterwards.
    let exchange = |round: u32, number: usize, next: u32| {
        let (port, seq, ack) = (2_000 + number as u16, 10 + round, next.wrapping_add(round));
        let ask = Tcp::new(port, ACK | PSH, seq, ack).with(b"?").frame();
        [ask, Tcp::new(port, ACK, seq + 1, ack.wrapping_add(1)).frame()]
    };
    let rounds: Vec<Vec<_>> = (0..4)
        .map(|round| nexts.iter().enumerate().map(|(number, &next)| exchange(round, number, next)).collect())
        .collect();
    let (mut answers, mut calls) = (0, 0);
    for (round, exchanges) in rounds.iter().enumerate() {
        for segment in exchanges.iter().flatten() {
            bench.wire.clock().advance(Duration::from_millis(1));
            bench.send(segment);
            let region = Region::new(ALLOCATOR);
            bench.turn_with(|_| answers += 1);
            let change = region.change();
            // The wire keeps buffers of its own from the first frames on.
            calls += if round > 0 { change.allocations + change.deallocations + change.reallocations } else { 0 };
        }
    }
    let woke = bench.server.poll.stack().stats().woke;
    assert_eq!((answers, calls), (4 * FLOWS, 0));
    assert!(woke > 2 * FLOWS as u64, "{woke}");
    // Each is written to and kept from sleeping thereby: more than may be awake, and no more than come at once.
    let ids: Vec<_> = (0..FLOWS).filter_map(|index| bench.server.poll.open_at(index)).take(AWAKE + 200).collect();
    let region = Region::new(ALLOCATOR);
    let written =
        ids.iter().filter(|&&id| bench.server.poll.flow(id).is_some_and(|mut flow| flow.send_slice(b"news") == 4));
    assert_eq!(written.count(), ids.len());
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
    assert!(bench.server.poll.stack().stats().blocks_beyond > 0);
}
