//! Work per turn does not depend on how many flows idle: counted, not timed.

use std::time::Duration;

use sidestep_stack::{Rings, Work};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, SYN, Tcp};
use crate::lab::{App, config};

const IDLE: u32 = 100_000;
const EXCHANGES: u32 = 1_000;

/// A source of its own for every 50,000 flows.
fn source(number: u32) -> [u8; 4] {
    [10, 77, 0, 10 + (number / 50_000) as u8]
}

fn port(number: u32) -> u16 {
    1_024 + (number % 50_000) as u16
}

/// Opens `idle` flows, lets them rest, and counts the work of a thousand exchanges over one more.
fn work_with(idle: u32) -> Work {
    let mut config = config();
    // As many more as are half-open at a time, so that none is opened by a cookie, which leaves before other answers.
    config.max_flows = IDLE as usize + 1 + 100;
    config.flows_at_start = idle as usize + 1;
    config.rings = Rings { rx: 512, tx: 512 };
    // Each flow would have a timer, of a minute.
    config.keep_alive = None;
    let mut bench = Bench::with(config, App::Echo);
    for first in (0..idle).step_by(50) {
        let mut isns = Vec::new();
        for number in first..first + 50 {
            bench.send(&Tcp::new(port(number), SYN, number, 0).frame_from(source(number)));
        }
        bench.turn_with(|frame| isns.push(Tcp::read(frame).seq));
        assert_eq!(isns.len(), 50);
        for (number, isn) in (first..).zip(isns) {
            let ack = Tcp::new(port(number), ACK, number.wrapping_add(1), isn.wrapping_add(1));
            bench.send(&ack.frame_from(source(number)));
        }
        bench.turn_with(|frame| panic!("nothing is to be said: {:?}", Tcp::read(frame)));
    }
    let mut next = bench.open(900, 1);
    assert_eq!(bench.server.opened, u64::from(idle) + 1);
    // The timers of the handshakes run out; nothing else is armed.
    bench.wait(Duration::from_secs(30));
    let census = bench.server.poll.stack().census();
    assert_eq!((census.open, census.timers), (idle as usize + 1, 0));
    let before = bench.server.poll.stack().work();
    let mut seq = 2;
    for _ in 0..EXCHANGES {
        bench.wire.clock().advance(Duration::from_micros(150));
        let echo = bench.one(&Tcp::new(900, ACK | PSH, seq, next).with(b"get key\r\n"));
        assert_eq!(echo.data, b"get key\r\n");
        seq += 9;
        next = next.wrapping_add(9);
    }
    let after = bench.server.poll.stack().work();
    Work { flows: after.flows - before.flows, sets: after.sets - before.sets, timers: after.timers - before.timers }
}

#[test]
fn a_turn_costs_the_same_beside_a_hundred_thousand_idle_flows() {
    let alone = work_with(0);
    println!("{EXCHANGES} exchanges: {alone:?}");
    assert_eq!(work_with(IDLE), alone);
    // Ingress and flush visit the flow once each, smoltcp is called once each way.
    assert_eq!((alone.flows, alone.sets), (2 * u64::from(EXCHANGES), 2 * u64::from(EXCHANGES)));
    assert!(alone.timers <= u64::from(EXCHANGES), "{alone:?}");
}
