//! After start, a turn that answers a request over IPv6 allocates nothing, nor does one of a host that nobody knew.

use std::net::Ipv6Addr;
use std::time::Duration;

use sidestep_stack::StackConfig;
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, RST, SYN};
use crate::lab::v6::{Talk, US6, tcp6};
use crate::lab::{App, OWN, PORT};

pub fn requests_and_hosts_that_come_and_go_allocate_nothing() {
    let mut config = StackConfig::new(US6, 64, OWN);
    config.ports = vec![PORT];
    config.stations = 100;
    let mut bench = Bench::with(config, App::Echo);
    for _ in 0..160 {
        bench.turn();
        bench.wire.clock().advance(Duration::from_millis(100));
    }
    let mut talk = Talk::open(&mut bench, 5_000);
    let frames: Vec<Vec<u8>> = (0..1_000u32)
        .flat_map(|number| {
            let request = talk.segment(ACK | PSH, b"get key\r\n");
            (talk.seq, talk.ack) = (talk.seq + 9, talk.ack.wrapping_add(9));
            let host = Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number));
            let syn = tcp6(5_000, SYN, 7, 0).from(host).frame();
            let rst = tcp6(5_000, RST, 8, 0).from(host).frame();
            [request, syn, rst]
        })
        .collect();
    // The wire keeps buffers of its own from the first frames on.
    let (first, rest) = frames.split_at(450);
    let mut answers = 0;
    for frame in first {
        bench.send(frame);
        bench.turn_with(|_| answers += 1);
    }
    let region = Region::new(ALLOCATOR);
    for frame in rest {
        bench.wire.clock().advance(Duration::from_millis(1));
        bench.send(frame);
        bench.turn_with(|frame| answers += usize::from(frame.len() >= 14 + 60));
    }
    let change = region.change();
    // An answer to each request and to each SYN.
    assert_eq!(answers, frames.len() / 3 * 2);
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
    let census = bench.server.poll.stack().census();
    assert_eq!((census.stations, census.stations_held), (100, 1));
}
