//! After start, a turn of `Poll` allocates nothing: connections accepted, registered in each way, read, written and closed.

#[path = "../examples/echo_server.rs"]
mod echo_server;
#[path = "lab/lab.rs"]
mod lab;

use std::alloc::System;

use lab::raw::{ACK, FIN, PSH, SYN, Tcp};
use lab::station::Station;
use lab::{config, secrets};
use nic::{PortConfig, QueueId, Wire};
use sidestep_stack::{Events, NetStack, Poll, Time};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_turn_allocates_nothing() {
    let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
    let stack = NetStack::new(config(), secrets(1)).expect("a good configuration");
    let mut poll = Poll::new(stack, [ours.take_queue(QueueId(0)).expect("opened once")]);
    let mut station = Station::new(theirs.take_queue(QueueId(0)).expect("opened once"));
    let mut events = Events::with_capacity(64);
    echo_server::begin(&mut poll);
    for round in 0..4u16 {
        let region = Region::new(ALLOCATOR);
        let mut made = 0;
        for port in 0..50 {
            let port = 2_000 + 50 * round + port;
            let mut turn = |segment: Option<&Tcp>| {
                // Making and reading frames is the test's.
                let before = Region::new(ALLOCATOR);
                if let Some(segment) = segment {
                    station.send(&segment.frame());
                }
                made += before.change().allocations;
                let now = Time::from_duration(wire.clock().now());
                for _ in 0..2 {
                    echo_server::turn(&mut poll, now, &mut events).expect("a wire is never gone");
                }
                let before = Region::new(ALLOCATOR);
                let mut last = None;
                station.receive(|frame| last = Some(Tcp::read(frame)));
                made += before.change().allocations;
                last
            };
            let next = turn(Some(&Tcp::new(port, SYN, 1, 0))).expect("it is answered").seq.wrapping_add(1);
            turn(Some(&Tcp::new(port, ACK, 2, next)));
            let request = Tcp::new(port, ACK | PSH, 2, next).with(b"request");
            assert_eq!(turn(Some(&request)).expect("it is answered").data, b"request");
            let fin = turn(Some(&Tcp::new(port, ACK | FIN, 9, next.wrapping_add(7)))).expect("it is answered");
            turn(Some(&Tcp::new(port, ACK, 10, fin.seq.wrapping_add(1))));
        }
        let allocations = region.change().allocations - made;
        // The first round makes what grows to its size once; the requests made by the test are its own.
        assert!(round == 0 || allocations <= 50 * 2, "{allocations} in round {round}");
    }
    assert_eq!(poll.stack().flows(), 0);
}
