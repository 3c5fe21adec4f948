//! Strays are bounded: how many are kept, and how many go round the cores a second, whatever comes.

use std::time::Duration;

use sidestep_stack::DropReason;

use crate::lab::bench::{Bench, segments};
use crate::lab::raw::{ACK, RST, SYN, Tcp};
use crate::lab::{App, config};

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
        while taken && bench.server.poll.stack_mut().next_stray(|_, hops| assert_eq!(hops, 1)) {
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
    assert_eq!(bench.server.poll.stack().stats().strays, 11_000);
    bench.server.assert_nothing_left();
}

#[test]
fn strays_that_nobody_takes_are_bounded() {
    let mut bench = bench();
    flood(&mut bench, 1_000, false);
    assert_eq!((bench.drops(DropReason::Stray), bench.drops(DropReason::StrayRate)), (64, 936));
    assert_eq!(bench.server.poll.stack().census().strays, 64);
}

/// Has the oldest stray of one core go to another.
fn pass_on(cores: &mut [Bench], from: usize, to: usize) {
    let mut taken = Vec::new();
    assert!(cores[from].server.poll.stack_mut().next_stray(|frame, hops| taken.push((frame.to_vec(), hops))));
    let (mut frame, hops) = taken.remove(0);
    let now = cores[to].now();
    cores[to].server.take_stray(now, &mut frame, hops);
}

/// A client's SYN has waited at one core that did not run, and was sent again by another queue: both cores answer it, with
/// numbers of their own, and the client takes the first.
#[test]
fn an_ack_of_another_cores_syn_ack_goes_to_that_core_and_nothing_is_reset() {
    let mut config = config();
    config.peers = 1;
    let mut cores: Vec<Bench> = (0..2).map(|_| Bench::with(config.clone(), App::Echo)).collect();
    cores[1].wire.clock().advance(Duration::from_secs(1));
    let syn = Tcp::new(4_000, SYN, 1, 0);
    let numbers = [0, 1].map(|core| cores[core].one(&syn).seq);
    assert_ne!(numbers[0], numbers[1]);
    let said = Tcp::new(4_000, ACK, 2, numbers[0].wrapping_add(1)).with(b"hello");
    assert_eq!(cores[1].tcp(&said), []);
    pass_on(&mut cores, 1, 0);
    let answers = segments(&cores[0].turn());
    assert!(answers.iter().any(|answer| answer.data == b"hello"), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.flags & RST == 0), "{answers:?}");
    // What no core knows is refused by the last, as ever.
    cores[1].one(&Tcp::new(4_001, SYN, 1, 0));
    assert_eq!(cores[1].tcp(&Tcp::new(4_001, ACK, 2, 77)), []);
    pass_on(&mut cores, 1, 0);
    let answers = segments(&cores[0].turn());
    assert!(answers.len() == 1 && answers[0].flags & RST != 0, "{answers:?}");
    // And one that has come round is refused by the core that has half of a connection itself.
    cores[0].one(&Tcp::new(4_002, SYN, 1, 0));
    assert_eq!(cores[1].tcp(&Tcp::new(4_002, ACK, 2, 77)), []);
    pass_on(&mut cores, 1, 0);
    let answers = segments(&cores[0].turn());
    assert!(answers.len() == 1 && answers[0].flags & RST != 0, "{answers:?}");
    assert_eq!(cores[0].drops(DropReason::AckOfNoSyn), 1);
}

/// A client was given a cookie by one core, and the first segment that gives it back is lost. The second goes round the
/// cores, of which the last has given no cookies: its RST would end the connection that the first would open.
#[test]
fn a_segment_ahead_of_the_one_that_gives_a_cookie_back_is_reset_by_no_core() {
    let mut config = config();
    (config.peers, config.syn_queue) = (2, 2);
    let mut cores: Vec<Bench> = (0..3).map(|_| Bench::with(config.clone(), App::Echo)).collect();
    cores[0].one(&Tcp::new(3_000, SYN, 1, 0));
    let next = cores[0].one(&Tcp::new(4_000, SYN, 1, 0)).seq.wrapping_add(1);
    assert_eq!(cores[0].server.poll.stack().stats().cookies_sent, 1);
    let second = Tcp::new(4_000, ACK, 1_462, next).with(b"the rest");
    let stranger = Tcp::new(4_001, ACK, 1_462, next).with(b"the rest");
    for (segment, ahead) in [(&second, 1), (&stranger, 0)] {
        assert_eq!(cores[0].tcp(segment), []);
        for core in 1..3 {
            pass_on(&mut cores, core - 1, core);
        }
        let answers = segments(&cores[2].turn());
        assert_eq!(answers.iter().filter(|answer| answer.flags & RST != 0).count(), 1 - ahead, "{answers:?}");
        assert_eq!(cores[2].drops(DropReason::AheadOfCookie), 1);
    }
    // The first comes again, and opens it.
    let answer = cores[0].tcp(&Tcp::new(4_000, ACK, 2, next).with(&[7; 1_460]));
    assert!(!answer[0].data.is_empty());
    assert_eq!(cores[0].server.poll.stack().stats().cookies_accepted, 1);
}
