//! Larger rings come from memory that was there at the start: moving a connection into them, and back, allocates nothing.

use std::time::Duration;

use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, Tcp};
use crate::lab::{App, config};

pub fn a_connection_that_moves_into_larger_rings_and_back_allocates_nothing() {
    let mut config = config();
    config.conn_memory = 16 << 20;
    let mut bench = Bench::with(config, App::Echo);
    let next = bench.open(5_000, 100);
    // What is answered is acknowledged by the request after the next, so that bytes are under way at every move.
    let requests: Vec<Vec<u8>> = (0..1_000u32)
        .map(|number| {
            let (seq, ack) = (101 + number * 9, next.wrapping_add(number.saturating_sub(1) * 9));
            Tcp::new(5_000, ACK | PSH, seq, ack).with(b"get key\r\n").frame()
        })
        .collect();
    let quiet = Tcp::new(5_000, ACK, 101 + 1_000 * 9, next.wrapping_add(1_000 * 9)).frame();
    let flow = *bench.server.flows.keys().next().expect("one is open");
    let mut answers = 0;
    let (first, rest) = requests.split_at(100);
    for request in first {
        bench.send(request);
        bench.turn_with(|_| answers += 1);
    }
    assert_eq!(answers, first.len());
    let region = Region::new(ALLOCATOR);
    for (number, request) in rest.iter().enumerate() {
        bench.wire.clock().advance(Duration::from_millis(1));
        if number == 1 || number == 2 {
            assert!(bench.server.poll.enlarge(flow));
        }
        bench.send(request);
        bench.turn_with(|frame| answers += usize::from(frame.len() == 14 + 40 + 9));
    }
    // All is acknowledged; rings that move little are kept for ten seconds, and every place is looked at in turn.
    bench.send(&quiet);
    for _ in 0..200 {
        bench.wire.clock().advance(Duration::from_millis(100));
        bench.turn_with(|_| {});
    }
    let change = region.change();
    let stats = bench.server.poll.stack().stats();
    assert_eq!((stats.rings_enlarged, stats.rings_reduced, stats.rings_failed), (2, 1, 0), "{stats:?}");
    assert_eq!(answers, requests.len());
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
}
