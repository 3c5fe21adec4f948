//! Answers that anybody can ask for: how many there are, and that their number tells nobody of others and starves nobody.

use std::ops::RangeInclusive;
use std::time::Duration;

use etherparse::PacketBuilder;
use sidestep_stack::DropReason;

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, RST, SYN, Tcp};
use crate::lab::{App, OWN, PEER, THEM, US, config};

/// Answers to one address in a tenth of a second.
const SHARE: RangeInclusive<usize> = 32..=95;
/// Shares into which all addresses are divided.
const SHARES: usize = 16;

/// Leaves a record in TIME-WAIT for `port` of `source`. Returns the frame of the FIN that may come again.
fn time_wait(bench: &mut Bench, source: [u8; 4], port: u16) -> Vec<u8> {
    bench.server.app = App::Blast(3);
    let syn_ack = bench.frame(&Tcp::new(port, SYN, 100, 0).frame_from(source));
    let next = Tcp::read(&syn_ack[0]).seq.wrapping_add(1);
    bench.frame(&Tcp::new(port, ACK, 101, next).frame_from(source));
    let fin = Tcp::new(port, ACK | FIN, 101, next.wrapping_add(4)).frame_from(source);
    assert_eq!(bench.frame(&fin).len(), 1);
    bench.server.app = App::Deaf;
    fin
}

#[test]
fn segments_of_no_flow_are_answered_rst_at_a_limited_rate() {
    let mut bench = Bench::new(App::Echo);
    let rst = bench.one(&Tcp::new(5_000, ACK, 7, 1_000));
    assert_eq!((rst.flags, rst.seq), (RST, 1_000));
    assert_eq!(bench.tcp(&Tcp::new(5_000, RST, 7, 0)), []);
    let answered: usize = (0..2_000).map(|_| bench.tcp(&Tcp::new(5_000, ACK, 7, 1_000)).len()).sum();
    assert!(SHARE.contains(&(1 + answered)), "{answered}");
    bench.server.assert_nothing_left();
}

#[test]
fn arp_and_echo_requests_are_answered() {
    let mut bench = Bench::new(App::Echo);
    let mut arp = vec![0xff; 6];
    arp.extend(PEER.0);
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(PEER.0);
    arp.extend(THEM.octets());
    arp.extend([0; 6]);
    arp.extend(US.octets());
    let answers = bench.frame(&arp);
    assert_eq!(answers.len(), 1);
    assert_eq!((&answers[0][..6], &answers[0][6..12], &answers[0][20..22]), (&PEER.0[..], &OWN.0[..], &[0, 2][..]));
    assert_eq!(bench.server.poll.stack().neighbor(THEM), Some(PEER));
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4(THEM.octets(), US.octets(), 9);
    builder.icmpv4_echo_request(1, 2).write(&mut ping, b"ping").expect("written to memory");
    let answered: usize = (0..300).map(|_| bench.frame(&ping).len()).sum();
    assert!(SHARE.contains(&answered), "{answered}");
    assert_eq!(bench.drops(DropReason::IcmpRate), 300 - answered as u64);
    // Another is answered all the same.
    let mut other = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4([10, 77, 0, 9], US.octets(), 9);
    builder.icmpv4_echo_request(1, 2).write(&mut other, b"ping").expect("written to memory");
    assert_eq!(bench.frame(&other).len(), 1);
    bench.server.assert_nothing_left();
}

/// However many addresses a flood gives, no more than a thousand a second.
#[test]
fn echo_requests_of_all_addresses_together_are_limited() {
    let mut bench = Bench::new(App::Deaf);
    let mut answered = 0;
    for round in 0..20 {
        for number in 0..1_000u16 {
            let [high, low] = number.to_be_bytes();
            let builder = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4([10, 78, round + high, low], US.octets(), 9);
            let mut ping = Vec::new();
            builder.icmpv4_echo_request(1, 2).write(&mut ping, b"ping").expect("written to memory");
            answered += bench.frame(&ping).len();
        }
        bench.wire.clock().advance(Duration::from_millis(100));
    }
    // Two seconds, and a tenth's at once.
    assert!((1_900..=2_100).contains(&answered), "{answered}");
}

#[test]
fn rsts_to_blind_acks_in_syn_received_are_limited() {
    let mut bench = Bench::new(App::Echo);
    let syn_ack = bench.one(&Tcp::new(5_000, SYN, 100, 0));
    let answered: usize =
        (0..2_000u32).map(|i| bench.tcp(&Tcp::new(5_000, ACK, 101, syn_ack.seq.wrapping_add(10_000 + i))).len()).sum();
    assert!(SHARE.contains(&answered), "{answered}");
    assert_eq!(bench.drops(DropReason::AckOfNoSyn), 2_000);
}

#[test]
fn challenges_of_one_flow_are_half_a_second_apart() {
    let mut bench = Bench::new(App::Deaf);
    bench.open(5_000, 100);
    let challenged: usize = (0..200)
        .map(|i| {
            bench.wire.clock().advance(Duration::from_millis(10));
            bench.tcp(&Tcp::new(5_000, SYN, 7_000 + i, 0)).len()
        })
        .sum();
    assert_eq!(challenged, 4);
}

#[test]
fn answers_for_one_record_in_time_wait_are_half_a_second_apart() {
    let mut bench = Bench::new(App::Deaf);
    let fin = time_wait(&mut bench, THEM.octets(), 5_000);
    let answered: usize = (0..200)
        .map(|_| {
            bench.wire.clock().advance(Duration::from_millis(10));
            bench.frame(&fin).len()
        })
        .sum();
    assert_eq!(answered, 4);
}

/// 200 connections of one address, each of which may be challenged.
#[test]
fn challenges_to_one_address_are_limited() {
    let mut bench = Bench::new(App::Deaf);
    for i in 0..200 {
        bench.open(5_000 + i, 100);
    }
    let challenged: usize = (0..200).map(|i| bench.tcp(&Tcp::new(5_000 + i, SYN, 7_000, 0)).len()).sum();
    assert!(SHARE.contains(&challenged), "{challenged}");
}

#[test]
fn answers_for_all_records_in_time_wait_of_one_address_are_limited() {
    let mut bench = Bench::new(App::Deaf);
    let fins: Vec<_> = (0..200).map(|i| time_wait(&mut bench, THEM.octets(), 5_000 + i)).collect();
    let answered: usize = fins.iter().map(|fin| bench.frame(fin).len()).sum();
    assert!(SHARE.contains(&answered), "{answered}");
}

/// As many addresses as there are, each with one connection.
#[test]
fn challenges_to_all_addresses_together_are_limited() {
    let mut large = config();
    large.max_flows = 4_000;
    large.flows_at_start = 4_000;
    large.prefix_len = 8;
    let mut bench = Bench::with(large, App::Deaf);
    let from = |number: u16| [10, 78, (number >> 8) as u8, number as u8];
    for number in 1..3_000u16 {
        let syn_ack = bench.frame(&Tcp::new(5_000, SYN, 100, 0).frame_from(from(number)));
        let next = Tcp::read(&syn_ack[0]).seq.wrapping_add(1);
        bench.frame(&Tcp::new(5_000, ACK, 101, next).frame_from(from(number)));
    }
    assert_eq!(bench.server.opened, 2_999);
    let challenged: usize =
        (1..3_000).map(|i| bench.frame(&Tcp::new(5_000, SYN, 7_000, 0).frame_from(from(i))).len()).sum();
    assert!((SHARES * SHARE.start()..=SHARES * SHARE.end()).contains(&challenged), "{challenged}");
}

/// What a stranger can count of a connection that is the stranger's own must not depend on whether another 4-tuple is connected
/// (CVE-2016-5696, RFC 5961 §7).
#[test]
fn one_limit_for_all_challenges_tells_nobody_of_others_connections() {
    let counted = |victim_is_connected: bool| {
        let mut bench = Bench::new(App::Deaf);
        let fin = time_wait(&mut bench, THEM.octets(), 6_666);
        if victim_is_connected {
            bench.open(5_000, 777);
        }
        bench.wait(Duration::from_millis(500));
        // One spoofed SYN to the 4-tuple in question, whose answer goes to the victim, then 200 FINs of the stranger's own.
        bench.frame(&Tcp::new(5_000, SYN, 123_456, 0).frame());
        (0..200).map(|_| bench.frame(&fin).len()).sum::<usize>()
    };
    assert_eq!(counted(true), counted(false));
}

/// The same by RSTs: a segment of no connection draws one, a segment of a connection none.
#[test]
fn one_limit_for_all_rsts_tells_nobody_of_others_connections() {
    let counted = |victim_is_connected: bool| {
        let mut bench = Bench::new(App::Deaf);
        let next = if victim_is_connected { bench.open(5_000, 777) } else { 1 };
        bench.wait(Duration::from_millis(500));
        bench.frame(&Tcp::new(5_000, ACK, 778, next).frame());
        let own = Tcp::new(6_666, ACK, 7, 1_000).frame_from([10, 77, 0, 66]);
        (0..200).map(|_| bench.frame(&own).len()).sum::<usize>()
    };
    assert_eq!(counted(true), counted(false));
}

#[test]
fn a_rebooted_client_is_challenged_though_strangers_ask_for_all_they_can_get() {
    let mut bench = Bench::new(App::Deaf);
    bench.open(5_000, 777);
    let fins: Vec<_> = (0..200).map(|i| time_wait(&mut bench, [10, 77, 0, 66], 6_000 + i)).collect();
    bench.wait(Duration::from_millis(500));
    // Answers for another's many records; to segments of no flow, and of handshakes that never end, of its own address.
    for (fin, i) in fins.iter().zip(0..) {
        bench.frame(fin);
        bench.tcp(&Tcp::new(8_000 + i, ACK, 1, 1));
        bench.tcp(&Tcp::new(9_000 + i, SYN, 1, 0));
        bench.tcp(&Tcp::new(9_000 + i, ACK, 70_000, 1));
    }
    assert_eq!(bench.tcp(&Tcp::new(5_000, SYN, 9_999_999, 0)).len(), 1, "starved of its challenge");
}

/// Of one address, as a proxy has it; all at once.
#[test]
fn keep_alives_of_many_connections_are_answered_each() {
    let mut bench = Bench::new(App::Deaf);
    let next: Vec<_> = (0..200).map(|i| bench.open(5_000 + i, 100)).collect();
    for _ in 0..3 {
        bench.wait(Duration::from_millis(500));
        let answered: usize =
            next.iter().zip(5_000..).map(|(&next, port)| bench.tcp(&Tcp::new(port, ACK, 100, next)).len()).sum();
        assert_eq!(answered, 200);
        // Two hosts could go on for ever with these.
        assert_eq!(bench.tcp(&Tcp::new(5_000, ACK, 100, next[0])), []);
    }
}

#[test]
fn a_fin_whose_acks_are_lost_is_acknowledged_as_often_as_it_comes() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    for round in 0..5 {
        let answers = bench.tcp(&Tcp::new(5_000, ACK | FIN, 101, next));
        assert!(answers.iter().any(|answer| answer.ack == 102), "{round}: {answers:?}");
        bench.wire.clock().advance(Duration::from_millis(100));
    }
}
