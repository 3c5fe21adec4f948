//! After start, a turn of `Poll` allocates nothing: connections accepted, registered in each way, read, written and closed.

#[path = "../../examples/echo_server.rs"]
mod echo_server;

use nic::{PortConfig, QueueId, Wire};
use sidestep_stack::{NetStack, Poll, Time};
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::raw::{ACK, FIN, PSH, SYN, Tcp};
use crate::lab::station::Station;
use crate::lab::{config, secrets};

pub fn a_turn_allocates_nothing() {
    let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
    let stack = NetStack::new(config(), secrets(1)).expect("a good configuration");
    let mut poll = Poll::new(stack, [ours.take_queue(QueueId(0)).expect("opened once")]);
    let mut station = Station::new(theirs.take_queue(QueueId(0)).expect("opened once"));
    echo_server::begin(&mut poll);
    for round in 0..4 {
        let mut allocations = 0;
        for port in 2_000 + 50 * round..2_050 + 50 * round {
            // Making and reading frames is the test's, and not counted.
            let mut turn = |segment: &Tcp| {
                station.send(&segment.frame());
                let now = Time::from_duration(wire.clock().now());
                let region = Region::new(ALLOCATOR);
                for _ in 0..2 {
                    echo_server::turn(&mut poll, now).expect("a wire is never gone");
                }
                allocations += region.change().allocations;
                let mut last = None;
                station.receive(|frame| last = Some(Tcp::read(frame)));
                last
            };
            let next = turn(&Tcp::new(port, SYN, 1, 0)).expect("it is answered").seq.wrapping_add(1);
            turn(&Tcp::new(port, ACK, 2, next));
            let request = Tcp::new(port, ACK | PSH, 2, next).with(b"request");
            assert_eq!(turn(&request).expect("it is answered").data, b"request");
            let fin = turn(&Tcp::new(port, ACK | FIN, 9, next.wrapping_add(7))).expect("it is answered");
            turn(&Tcp::new(port, ACK, 10, fin.seq.wrapping_add(1)));
        }
        // What the wire keeps grows to its size in the first round.
        assert!(round == 0 || allocations == 0, "{allocations} in round {round}");
    }
    assert_eq!(poll.stack().flows(), 0);
}
