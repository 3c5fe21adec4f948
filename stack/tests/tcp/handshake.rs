//! Handshakes that others begin: what a SYN may offer, how many there may be, how they end.

use std::time::Duration;

use etherparse::PacketBuilder;
use sidestep_stack::DropReason;

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, RST, SYN, Tcp};
use crate::lab::{App, OWN, PEER, PORT, THEM, US, config};

#[test]
fn a_syn_ack_offers_what_the_link_and_the_ring_can_take() {
    let mut bench = Bench::new(App::Echo);
    let answer = bench.one(&Tcp::new(5_000, SYN, 1, 0));
    assert_eq!((answer.mss, answer.window), (Some(1_460), 4_096));
}

#[test]
fn initial_sequence_numbers_do_not_follow_one_another() {
    let mut bench = Bench::new(App::Echo);
    let isns: Vec<u32> = (0..50).map(|i| bench.one(&Tcp::new(5_000 + i, SYN, 1, 0)).seq).collect();
    let near = isns.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) < 1 << 24).count();
    assert!(near < 5, "{isns:x?}");
}

#[test]
fn a_repeated_syn_waits_for_the_timer_and_gets_the_same_answer() {
    let mut bench = Bench::new(App::Echo);
    let first = bench.one(&Tcp::new(5_000, SYN, 1, 0));
    assert_eq!(bench.tcp(&Tcp::new(5_000, SYN, 1, 0)), []);
    let again = bench.wait(Duration::from_millis(250));
    assert_eq!(again, [first]);
}

#[test]
fn half_open_flows_end_and_leave_nothing() {
    let mut bench = Bench::new(App::Echo);
    for port in 5_000..5_020 {
        bench.one(&Tcp::new(port, SYN, 1, 0));
    }
    assert_eq!(bench.server.poll.stack().census().half_open, 20);
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.server.poll.stack().stats().handshakes_failed, 20);
    assert_eq!(bench.server.opened, 0);
    bench.server.assert_nothing_left();
}

#[test]
fn a_syn_flood_fills_half_of_its_queue_and_nothing_else() {
    let mut small = config();
    small.syn_queue = 10;
    small.max_flows = 12;
    small.flows_at_start = 12;
    let mut bench = Bench::with(small, App::Echo);
    let next = bench.open(4_000, 1);
    for port in 5_000..6_000 {
        bench.frame(&Tcp::new(port, SYN, 1, 0).frame());
    }
    assert_eq!(
        (bench.server.poll.stack().census().half_open, bench.server.poll.stack().stats().cookies_sent),
        (5, 995)
    );
    assert_eq!(bench.drops(DropReason::SynQueueFull), 0);
    // Who is connected is served meanwhile.
    let echo = bench.one(&Tcp::new(4_000, ACK | PSH, 2, next).with(b"still here"));
    assert_eq!(echo.data, b"still here");
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.server.poll.flows(), 1);
    bench.open(6_001, 1);
}

/// RFC 4987 §3: half-open connections must not keep out those whose ACK shows that they are real.
#[test]
fn half_open_flows_leave_half_of_the_flows_to_those_who_answer() {
    let mut small = config();
    (small.max_flows, small.flows_at_start) = (9, 9);
    let mut bench = Bench::with(small, App::Deaf);
    bench.open(4_000, 1);
    for port in 5_000..6_000 {
        bench.frame(&Tcp::new(port, SYN, 1, 0).frame());
    }
    assert_eq!(bench.server.poll.stack().census().half_open, 4);
    for port in 6_000..6_004 {
        bench.open(port, 1);
    }
    // The next has proved real too, and would be let in if one ended.
    let syn_ack = bench.one(&Tcp::new(6_004, SYN, 1, 0));
    let ack = Tcp::new(6_004, ACK, 2, syn_ack.seq.wrapping_add(1));
    assert_eq!((bench.tcp(&ack), bench.drops(DropReason::NoFreeFlow)), (vec![], 1));
    bench.tcp(&Tcp::new(4_000, RST, 2, 0));
    assert_eq!(bench.tcp(&ack), []);
    assert_eq!((bench.server.poll.stack().census().open, bench.server.poll.stack().census().half_open), (5, 4));
}

#[test]
fn who_is_not_to_be_accepted_gets_no_cookie_and_none_is_taken() {
    let mut small = config();
    small.syn_queue = 1;
    let mut bench = Bench::with(small, App::Deaf);
    bench.one(&Tcp::new(5_000, SYN, 1, 0));
    let syn_ack = bench.one(&Tcp::new(5_001, SYN, 1, 0));
    bench.server.poll.set_accepting(false);
    assert_eq!(bench.tcp(&Tcp::new(5_002, SYN, 1, 0)), []);
    let ack = Tcp::new(5_001, ACK, 2, syn_ack.seq.wrapping_add(1));
    assert_eq!((bench.tcp(&ack), bench.drops(DropReason::SynQueueFull)), (vec![], 2));
    bench.server.poll.set_accepting(true);
    assert_eq!((bench.tcp(&ack), bench.server.poll.stack().stats().cookies_accepted), (vec![], 1));
}

#[test]
fn flows_are_bounded() {
    let mut small = config();
    small.max_flows = 3;
    let mut bench = Bench::with(small, App::Deaf);
    for port in 0..3 {
        bench.open(5_000 + port, 1);
    }
    assert_eq!(bench.tcp(&Tcp::new(6_000, SYN, 1, 0)), []);
    assert_eq!(bench.drops(DropReason::NoFreeFlow), 1);
    bench.tcp(&Tcp::new(5_000, RST, 2, 0));
    bench.open(6_000, 1);
}

#[test]
fn a_dishonest_segment_size_is_refused() {
    let mut bench = Bench::new(App::Echo);
    let mut syn = Tcp::new(5_000, SYN, 1, 0);
    syn.mss = Some(48);
    assert_eq!(bench.tcp(&syn), []);
    assert_eq!(bench.drops(DropReason::TcpTinyMss), 1);
    syn.mss = Some(216);
    assert_eq!(bench.one(&syn).flags, SYN | ACK);
}

#[test]
fn options_that_do_not_parse_make_no_flow() {
    let mut bench = Bench::new(App::Echo);
    let mut syn = Tcp::new(5_000, SYN, 1, 0);
    syn.mss = Some(1_000);
    let mut frame = syn.frame();
    // The option's length becomes 5, which the checksum is then corrected for.
    frame[55] = 5;
    let sum = u16::from_be_bytes([frame[50], frame[51]]) - 1;
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(bench.frame(&frame), Vec::<Vec<u8>>::new());
    assert_eq!(bench.drops(DropReason::TcpOptions), 1);
    bench.server.assert_nothing_left();
}

/// A SYN from port 5000 with these bytes as its options.
fn syn_with_options(options: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER.0, OWN.0)
        .ipv4(THEM.octets(), US.octets(), 64)
        .tcp(5_000, PORT, 100, 60_000)
        .syn()
        .options_raw(options)
        .expect("they fit");
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).expect("written to memory");
    frame
}

#[test]
fn a_segment_size_that_is_offered_twice_is_used_as_it_was_checked() {
    // smoltcp takes the last, whatever lies between.
    for tiny in
        [&[2, 4, 5, 0xb4, 2, 4, 0, 1][..], &[2, 4, 5, 0xb4, 1, 3, 3, 7, 2, 4, 0, 1], &[2, 4, 5, 0xb4, 2, 4, 0, 0]]
    {
        let mut bench = Bench::new(App::Blast(4_000));
        assert_eq!(bench.frame(&syn_with_options(tiny)), Vec::<Vec<u8>>::new());
        assert_eq!(bench.drops(DropReason::TcpTinyMss), 1, "{tiny:?}");
    }
    let mut bench = Bench::new(App::Blast(4_000));
    let syn_ack = bench.frame(&syn_with_options(&[2, 4, 0, 1, 2, 4, 2, 0]));
    let next = Tcp::read(&syn_ack[0]).seq.wrapping_add(1);
    let data = bench.tcp(&Tcp::new(5_000, ACK, 101, next));
    assert_eq!(data.iter().map(|segment| segment.data.len()).max(), Some(512));
}

#[test]
fn a_reset_handshake_gives_its_place_back() {
    let mut small = config();
    small.syn_queue = 1;
    let mut bench = Bench::with(small, App::Deaf);
    for round in 0..50u16 {
        bench.one(&Tcp::new(5_000 + round, SYN, 1, 0));
        bench.tcp(&Tcp::new(5_000 + round, RST, 2, 0));
        assert_eq!(bench.server.poll.stack().census().half_open, 0);
    }
    bench.open(6_000, 1);
}
