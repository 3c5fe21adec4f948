//! What is left of a connection that we closed first: the record in TIME-WAIT, and who may have its addresses and ports.

use std::time::Duration;

use sidestep_stack::{DropReason, StackConfig};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::{App, config};

/// A connection of port 5000, whose client began at 100, in TIME-WAIT. Returns the server's next sequence number; 102 is
/// the client's.
fn in_time_wait(config: StackConfig) -> (Bench, u32) {
    let mut bench = Bench::with(config, App::Blast(3));
    let next = bench.one(&Tcp::new(5_000, SYN, 100, 0)).seq.wrapping_add(1);
    bench.one(&Tcp::new(5_000, ACK, 101, next));
    bench.one(&Tcp::new(5_000, ACK | FIN, 101, next.wrapping_add(4)));
    assert_eq!(bench.server.poll.stack().census().time_wait, 1);
    (bench, next.wrapping_add(4))
}

#[test]
fn a_closed_flow_leaves_a_record_that_answers_for_it() {
    let mut bench = Bench::new(App::Blast(3));
    let answer = bench.one(&Tcp::new(5_000, SYN, 100, 0));
    let next = answer.seq.wrapping_add(1);
    let data = bench.one(&Tcp::new(5_000, ACK, 101, next));
    assert_eq!((data.flags & FIN, &data.data[..]), (FIN, &[0, 1, 2][..]));
    let last = bench.one(&Tcp::new(5_000, ACK | FIN, 101, next + 4));
    assert_eq!((last.flags, last.seq, last.ack), (ACK, next + 4, 102));
    assert_eq!((bench.server.poll.flows(), bench.server.poll.stack().census().time_wait), (0, 1));
    // The FIN again: our last ACK was lost.
    let again = bench.one(&Tcp::new(5_000, ACK | FIN, 101, next + 4));
    assert_eq!((again.flags, again.seq, again.ack), (ACK, next + 4, 102));
    // RFC 1337: an RST does not end it. An older SYN does not either. A newer one begins anew, above the old numbers.
    assert_eq!(bench.tcp(&Tcp::new(5_000, RST, 102, 0)), []);
    bench.wait(Duration::from_millis(500));
    assert_eq!(bench.one(&Tcp::new(5_000, SYN, 50, 0)).flags, ACK);
    assert_eq!(bench.server.poll.stack().census().time_wait, 1);
    let answer = bench.one(&Tcp::new(5_000, SYN, 5_000, 0));
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, 5_001));
    assert!(answer.seq.wrapping_sub(next + 4) < 1 << 31, "{:x} after {:x}", answer.seq, next);
    assert_eq!(bench.server.poll.stack().census().time_wait, 0);
}

#[test]
fn data_after_our_acknowledged_close_is_answered_rst() {
    let mut bench = Bench::new(App::Blast(3));
    let answer = bench.one(&Tcp::new(5_000, SYN, 100, 0));
    let next = answer.seq.wrapping_add(1);
    bench.one(&Tcp::new(5_000, ACK, 101, next));
    // Sent before the peer can have seen the FIN: taken, as it crossed it on the way.
    let mut crossing = Tcp::new(5_000, ACK | PSH, 101, next);
    crossing.data = vec![7; 10];
    assert!(bench.tcp(&crossing).iter().all(|answer| answer.flags & RST == 0));
    assert!(bench.tcp(&Tcp::new(5_000, ACK, 111, next + 4)).iter().all(|answer| answer.flags & RST == 0));
    // RFC 1122 §4.2.2.13: now the peer knows that nobody will read it.
    let mut late = Tcp::new(5_000, ACK | PSH, 111, next + 4);
    late.data = vec![8];
    let rst = bench.one(&late);
    assert_eq!((rst.flags & RST, rst.seq), (RST, next + 4));
    assert_eq!(bench.server.poll.stack().census().time_wait, 0);
    bench.server.assert_nothing_left();
}

/// RFC 9293 §3.4.1: a new connection of the same 4-tuple begins above the old one's numbers, also when its first SYN found
/// no room.
#[test]
fn a_syn_that_finds_no_room_leaves_the_record() {
    let mut small = config();
    small.syn_queue = 1;
    let (mut bench, next) = in_time_wait(small);
    let other = bench.one(&Tcp::new(7_000, SYN, 1, 0));
    assert_eq!(bench.tcp(&Tcp::new(5_000, SYN, 5_000, 0)), []);
    assert_eq!((bench.drops(DropReason::SynQueueFull), bench.server.poll.stack().census().time_wait), (1, 1));
    // A SYN that is refused leaves it too.
    let mut tiny = Tcp::new(5_000, SYN, 5_000, 0);
    tiny.mss = Some(1);
    assert_eq!(bench.tcp(&tiny), []);
    assert_eq!(bench.server.poll.stack().census().time_wait, 1);
    bench.tcp(&Tcp::new(7_000, RST, 2, other.seq));
    let answer = bench.one(&Tcp::new(5_000, SYN, 5_000, 0));
    assert_eq!((answer.flags, bench.server.poll.stack().census().time_wait), (SYN | ACK, 0));
    assert!(answer.seq.wrapping_sub(next) < 1 << 31, "{:x} after {next:x}", answer.seq);
}

/// Two clients behind one NAT: the second has the first one's port and a lower ISN.
#[test]
fn a_syn_below_the_old_numbers_has_its_port_when_it_is_sent_again() {
    for isn in [50, 101, 100u32.wrapping_sub(1 << 30)] {
        let (mut bench, next) = in_time_wait(config());
        let challenge = bench.one(&Tcp::new(5_000, SYN, isn, 0));
        assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, next, 102));
        // It may be an old SYN still: it does not begin a connection.
        assert_eq!(bench.server.poll.stack().census().half_open, 0);
        assert_eq!(bench.tcp(&Tcp::new(5_000, RST, challenge.ack, 0)), []);
        bench.wait(Duration::from_secs(1));
        let answer = bench.one(&Tcp::new(5_000, SYN, isn, 0));
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, isn.wrapping_add(1)));
        assert!(answer.seq.wrapping_sub(next) < 1 << 31, "{:x} after {next:x}", answer.seq);
        assert_eq!(bench.server.poll.stack().census().time_wait, 0);
    }
}

/// RFC 1337: old data draws an ACK, and that an RST from a peer that has forgotten the connection.
#[test]
fn only_the_exact_rst_that_a_syn_has_asked_for_gives_the_port_away() {
    let (mut bench, next) = in_time_wait(config());
    let ack = bench.one(&Tcp::new(5_000, ACK | PSH, 95, next).with(b"old"));
    bench.tcp(&Tcp::new(5_000, RST, ack.ack, 0));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.one(&Tcp::new(5_000, SYN, 50, 0)).flags, ACK);
    for seq in [101, 103, 50] {
        bench.tcp(&Tcp::new(5_000, RST, seq, 0));
    }
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.one(&Tcp::new(5_000, SYN, 50, 0)).flags, ACK);
    assert_eq!(bench.server.poll.stack().census().time_wait, 1);
}

#[test]
fn the_fin_that_comes_again_starts_time_wait_anew() {
    let (mut bench, next) = in_time_wait(config());
    bench.wait(Duration::from_secs(20));
    assert_eq!(bench.one(&Tcp::new(5_000, ACK | FIN, 101, next)).ack, 102);
    bench.wait(Duration::from_secs(29));
    assert_eq!(bench.server.poll.stack().census().time_wait, 1);
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.server.poll.stack().census().time_wait, 0);
}

#[test]
fn another_fin_than_the_one_received_does_not_start_time_wait_anew() {
    let (mut bench, next) = in_time_wait(config());
    bench.wait(Duration::from_secs(20));
    for (seq, ack) in [(100, next), (102, next), (500_000, next), (101, next.wrapping_add(1))] {
        bench.tcp(&Tcp::new(5_000, ACK | FIN, seq, ack));
    }
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.server.poll.stack().census().time_wait, 0);
}
