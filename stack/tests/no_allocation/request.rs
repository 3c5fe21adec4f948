//! After start, a turn that answers a request allocates nothing.

use std::time::Duration;

use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, Tcp};
use crate::lab::{App, config};

pub fn a_request_and_its_answer_allocate_nothing() {
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
