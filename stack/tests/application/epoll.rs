//! The readiness API against the kernel's epoll: the same script of opens, writes, reads, closes and registrations is run on
//! both, on the in-memory wire and on TCP sockets of the loopback, and the events of every poll must be the same.
//!
//! The kernel's side waits after each step until the kernel has done it (`/proc/net/tcp`), so that nothing depends on how
//! fast this machine is.

mod kernel;
mod ours;
mod random;
mod script;

use kernel::Kernel;
use ours::Ours;
use script::Op::*;
use script::{LISTENER, Op, Told, told};
use sidestep_stack::Interest;

const R: Interest = Interest::READABLE;
const W: Interest = Interest::WRITABLE;
const RW: Interest = Interest::EDGE;
const LEVEL: Interest = Interest::LEVEL;
const ONESHOT: Interest = Interest::ONESHOT;

/// Runs the script on both and compares what each poll tells. Returns that.
fn run(script: &[Op]) -> Vec<Told> {
    let mut ours = Ours::new();
    let expected: Vec<Told> = script.iter().filter_map(|&op| ours.act(op)).collect();
    ours.finish();
    let mut drowsy = Ours::drowsy();
    let asleep: Vec<Told> = script.iter().filter_map(|&op| drowsy.act(op)).collect();
    drowsy.finish();
    assert_eq!(asleep, expected, "flows that sleep and flows that do not: {script:?}");
    let mut kernel = Kernel::new();
    let mut polls = expected.iter();
    for (at, &op) in script.iter().enumerate() {
        if op == Poll {
            let ours = polls.next().expect("one for each poll");
            let theirs = kernel.poll(ours);
            assert_eq!(*ours, theirs, "the stack and the kernel at step {at}, {:?}", &script[..=at]);
        } else {
            kernel.act(op);
        }
    }
    expected
}

/// A connection 0 that is accepted and registered.
fn opened(interest: Interest) -> Vec<Op> {
    vec![Connect(0), Accept(0), Register(0, interest)]
}

#[test]
fn edge_triggered_each_arrival_is_told_once_however_little_is_read() {
    let mut script = opened(R);
    script.extend([Poll, PeerWrites(0, 10), Poll, Poll, Reads(0, 4), Poll, PeerWrites(0, 5), Poll, Poll]);
    let seen = run(&script);
    let nothing = told([]);
    let readable = told([(0, "IN")]);
    assert_eq!(seen, [&nothing, &readable, &nothing, &nothing, &readable, &nothing].map(Clone::clone));
}

#[test]
fn level_triggered_what_waits_is_told_until_it_is_read() {
    let mut script = opened(R | LEVEL);
    script.extend([Poll, PeerWrites(0, 10), Poll, Poll, Reads(0, 4), Poll, Reads(0, 6), Poll, PeerWrites(0, 1), Poll]);
    let seen = run(&script);
    let (nothing, readable) = (told([]), told([(0, "IN")]));
    assert_eq!(seen, [&nothing, &readable, &readable, &readable, &nothing, &readable].map(Clone::clone));
}

#[test]
fn one_shot_tells_once_until_it_is_registered_anew() {
    let mut script = opened(R | ONESHOT);
    script.extend([PeerWrites(0, 10), Poll, PeerWrites(0, 10), Poll, Register(0, R | ONESHOT), Poll, Poll]);
    script.extend([Register(0, R | LEVEL | ONESHOT), Poll, Poll]);
    let (nothing, readable) = (told([]), told([(0, "IN")]));
    let seen = run(&script);
    assert_eq!(seen, [&readable, &nothing, &readable, &nothing, &readable, &nothing].map(Clone::clone));
}

#[test]
fn a_registration_tells_what_is_true_already_and_nothing_else() {
    let script = [
        Connect(0),
        PeerWrites(0, 3),
        Accept(0),
        Poll,
        Register(0, W),
        Poll,
        Register(0, R),
        Poll,
        Register(0, RW),
        Poll,
        Deregister(0),
        PeerWrites(0, 3),
        Poll,
        Register(0, RW | LEVEL),
        Poll,
    ];
    let seen = run(&script);
    let all = told([(0, "IN OUT")]);
    assert_eq!(seen, [told([]), told([(0, "OUT")]), told([(0, "IN")]), all.clone(), told([]), all]);
}

#[test]
fn room_is_told_when_it_comes_back_and_not_while_there_is_some() {
    for how in [Interest::empty(), LEVEL] {
        let mut script = opened(W | how);
        script.extend([Poll, Fill(0), Poll, PeerWrites(0, 5), Poll, PeerReads(0), Poll]);
        let seen = run(&script);
        let room = told([(0, "OUT")]);
        assert_eq!(seen, [room.clone(), told([]), told([]), room]);
    }
}

#[test]
fn what_is_true_is_told_whatever_has_happened() {
    let mut script = opened(RW);
    script.extend([Poll, PeerWrites(0, 5), Poll, Fill(0), PeerWrites(0, 5), Poll, PeerReads(0), Poll, Poll]);
    let (both, readable) = (told([(0, "IN OUT")]), told([(0, "IN")]));
    assert_eq!(run(&script), [told([(0, "OUT")]), both.clone(), readable, both, told([])]);
}

#[test]
fn the_peers_end_is_told_to_whoever_listens_and_stays_readable() {
    for (interest, first, then) in
        [(R, "IN RDHUP", ""), (R | LEVEL, "IN RDHUP", "IN RDHUP"), (W, "OUT", ""), (RW | ONESHOT, "", "")]
    {
        let mut script = opened(interest);
        script.extend([Poll, PeerWrites(0, 3), PeerShuts(0), Poll, Reads(0, 3), Poll]);
        let seen = run(&script);
        let of = |flags: &'static str| if flags.is_empty() { told([]) } else { told([(0, flags)]) };
        assert_eq!(seen[1..], [of(first), of(then)], "{interest:?}");
    }
}

#[test]
fn who_has_closed_its_own_direction_is_told_so_and_hears_on() {
    let mut script = opened(RW);
    script.extend([Poll, Shuts(0), Poll, PeerWrites(0, 9), Poll, Reads(0, 9), PeerShuts(0), Poll, Closes(0), Poll]);
    let seen = run(&script);
    assert_eq!(seen[1..4], [told([(0, "OUT")]), told([(0, "IN OUT")]), told([(0, "IN OUT RDHUP HUP")])]);
}

#[test]
fn a_reset_is_an_end_of_everything_that_was_asked_for() {
    for (interest, flags) in [
        (R, "IN RDHUP ERR HUP"),
        (W, "OUT ERR HUP"),
        (RW | LEVEL, "IN OUT RDHUP ERR HUP"),
        (R | ONESHOT, "IN RDHUP ERR HUP"),
    ] {
        let mut script = opened(interest);
        script.extend([Poll, PeerResets(0)]);
        if interest.contains(ONESHOT | W) {
            script.push(Register(0, interest));
        }
        script.extend([Poll, Closes(0), Poll]);
        let seen = run(&script);
        assert_eq!(seen[1..], [told([(0, flags)]), told([])], "{interest:?}");
    }
}

#[test]
fn a_listener_is_readable_while_connections_wait_or_when_one_comes() {
    let waits = told([(LISTENER, "IN")]);
    let nothing = told([]);
    let script = |how| vec![Listen(R | how), Connect(0), Connect(1), Poll, Poll, Accept(0), Poll, Accept(1), Poll];
    assert_eq!(run(&script(LEVEL)), [&waits, &waits, &waits, &nothing].map(Clone::clone));
    assert_eq!(run(&script(Interest::empty())), [&waits, &nothing, &nothing, &nothing].map(Clone::clone));
    let mut once = script(ONESHOT | LEVEL);
    once.extend([Connect(2), Poll, Listen(R | ONESHOT), Poll, Poll]);
    assert_eq!(run(&once), [&waits, &nothing, &nothing, &nothing, &nothing, &waits, &nothing].map(Clone::clone));
}

#[test]
fn flows_are_told_in_the_order_of_their_news_each_once() {
    let mut script = vec![Connect(0), Connect(1), Connect(2), Accept(0), Accept(1), Accept(2)];
    script.extend([Register(0, R), Register(1, R | LEVEL), Register(2, RW), Poll, PeerWrites(2, 1), PeerWrites(0, 1)]);
    script.extend([PeerWrites(1, 1), PeerWrites(2, 1), Poll, Poll]);
    let seen = run(&script);
    assert_eq!(seen[1], told([(0, "IN"), (1, "IN"), (2, "IN OUT")]));
    assert_eq!(seen[2], told([(1, "IN")]));
}

/// Deviates: of a connection that was told once the kernel keeps the end to itself until it is registered anew; here the id
/// is dead, and its application must know.
#[test]
fn the_end_of_a_flow_that_was_told_once_is_told_all_the_same() {
    let mut ours = Ours::new();
    let script = [Connect(0), Accept(0), Register(0, R | ONESHOT), PeerWrites(0, 1), Poll, PeerResets(0), Poll];
    let seen: Vec<_> = script.iter().filter_map(|&op| ours.act(op)).collect();
    assert_eq!(seen, [told([(0, "IN")]), told([(0, "ERR HUP")])]);
    ours.finish();
}

#[test]
fn any_script_tells_the_same_events_as_on_the_kernel() {
    for seed in 0..20 {
        println!("seed {seed}");
        run(&random::script(seed));
    }
}
