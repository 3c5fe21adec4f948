//! What senders are told by ICMP and ICMPv6 of packets that were not taken, and whom nothing is told (RFC 4443 §2.4,
//! RFC 1122 §3.2.2).

use std::net::Ipv6Addr;
use std::time::Duration;

use nic::checksum;
use sidestep_stack::DropReason;

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, Tcp};
use crate::lab::v6::{self, ALL_NODES, THEM6, Talk, US6, config, group_of, icmp, packet, settled};
use crate::lab::{self, App, OWN, PEER, THEM, US};

const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Options that have a packet dropped and its sender told, behind which `next` stands.
fn unknown_option(next: u8) -> Vec<u8> {
    vec![next, 0, 0x9e, 4, 0, 0, 0, 0]
}

#[test]
fn nobody_is_told_of_what_was_for_many_or_comes_from_nobody_or_is_an_error_itself() {
    let mut bench = settled(config());
    let asked = |source, destination, rest: &[u8]| {
        packet(source, destination, 60, 64, &[&unknown_option(58)[..], rest].concat())
    };
    let question = [128, 0, 0, 0, 0, 0, 0, 0];
    let good = asked(THEM6, US6, &question);
    let to_group = [&[0x33, 0x33, 0, 0, 0, 1][..], &good[6..]].concat();
    let error = [1, 0, 0, 0, 0, 0, 0, 0];
    let behind_fragment = [&[44, 0, 1, 4, 0, 0, 0, 0][..], &[58, 0, 0, 0, 0, 0, 0, 7], &error].concat();
    let none = [
        to_group,
        asked(THEM6, ALL_NODES, &question),
        asked(THEM6, group_of(US6), &question),
        asked(THEM6, "fd77::99".parse().expect("an address"), &question),
        asked(US6, US6, &question),
        asked(Ipv6Addr::UNSPECIFIED, US6, &question),
        asked(Ipv6Addr::LOCALHOST, US6, &question),
        asked(ALL_NODES, US6, &question),
        asked(THEM6, US6, &error),
        // It may have been an error: it ends too early.
        asked(THEM6, US6, &[]),
        packet(THEM6, US6, 60, 64, &[&unknown_option(60)[..], &behind_fragment].concat()),
    ];
    for (number, frame) in none.iter().enumerate() {
        let before = bench.drops(DropReason::Ip6Option);
        assert_eq!(bench.frame(frame), Vec::<Vec<u8>>::new(), "case {number}");
        assert_eq!(bench.drops(DropReason::Ip6Option), before + 1, "case {number}");
    }
    assert_eq!(bench.server.poll.stack().stats().parameter_problems, 0);
    // What is no first fragment has no such header.
    let later = [&unknown_option(44)[..], &[58, 0, 0, 8, 0, 0, 0, 7], &error].concat();
    for frame in [good, packet(THEM6, US6, 60, 64, &later)] {
        let answers = bench.frame(&frame);
        assert_eq!(answers.iter().map(|answer| v6::error(answer, &frame)).collect::<Vec<_>>(), [(4, 2, 42)]);
    }
    assert_eq!(bench.server.poll.stack().stats().parameter_problems, 2);
}

#[test]
fn before_an_address_is_in_use_nobody_is_told_of_anything() {
    let mut bench = Bench::with(config(), App::Echo);
    bench.turn();
    let frame = packet(THEM6, US6, 200, 64, &[0; 8]);
    assert_eq!(bench.frame(&frame), Vec::<Vec<u8>>::new());
    bench.wire.clock().advance(Duration::from_secs(2));
    bench.turn();
    assert_eq!(v6::error(&bench.frame(&frame)[0], &frame), (4, 1, 6));
}

/// RFC 4443 §2.4 (f), and each network apart: a flood leaves others theirs.
#[test]
fn what_is_told_is_limited_and_quotes_no_more_than_may_be() {
    let mut bench = settled(config());
    let long = packet(THEM6, US6, 200, 64, &[7; 1_400]);
    let answer = &bench.frame(&long)[0];
    assert_eq!((v6::error(answer, &long), answer.len()), ((4, 1, 6), 14 + 1_280));
    let mut padded = packet(THEM6, US6, 200, 64, &[7; 8]);
    padded.extend([9; 6]);
    let answer = &bench.frame(&padded)[0];
    assert_eq!(answer.len(), 14 + 40 + 8 + 48, "what is behind the packet is nobody's");
    let told = (0..1_000).filter(|_| !bench.frame(&long).is_empty()).count();
    assert!((29..=93).contains(&told), "{told}");
    // Those of other errors are others'.
    let echo = icmp(THEM6, US6, 64, &[128, 0, 0, 0, 0, 7, 0, 9]);
    assert_eq!(bench.frame(&echo).len(), 1);
    let many = (0..100_000).filter(|&number| {
        let source = Ipv6Addr::from_bits(FAR.to_bits() + (u128::from(number as u32) << 64));
        !bench.frame(&packet(source, US6, 200, 64, &[7; 8])).is_empty()
    });
    let told = told + many.count();
    assert!(told <= 100, "a tenth of a second's: {told}");
    assert_eq!(bench.server.poll.stack().stats().parameter_problems, 2 + told as u64);
}

/// The first fragment of a segment's packet, and another.
fn halves(frame: &[u8], id: u32) -> [Vec<u8>; 2] {
    let body = &frame[54..];
    [(0, 40, 1), (40, body.len(), 0)].map(|(from, to, more): (usize, usize, u16)| {
        let head = [&[frame[20], 0][..], &(from as u16 | more).to_be_bytes(), &id.to_be_bytes()].concat();
        packet(THEM6, US6, 44, 64, &[&head, &body[from..to]].concat())
    })
}

#[test]
fn who_has_sent_a_first_fragment_and_not_the_rest_is_told_after_a_minute() {
    let mut settings = config();
    settings.keep_alive = None;
    let mut bench = settled(settings);
    let mut talk = Talk::open(&mut bench, 5_000);
    let segment = talk.segment(ACK, &[b'x'; 200]);
    let ([first, _], [_, second]) = (halves(&segment, 1), halves(&segment, 2));
    assert!(bench.frame(&first).is_empty() && bench.frame(&second).is_empty());
    let begun = bench.now();
    let mut told = Vec::new();
    for _ in 0..20 {
        let Some(next) = bench.server.poll.stack().next_deadline(bench.now()) else { break };
        bench.wire.clock().advance(next);
        let passed = bench.now().since(begun);
        told.extend(bench.turn().into_iter().filter(|frame| frame[20] == 58).map(|frame| (passed, frame)));
    }
    let [(passed, answer)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*passed, v6::error(answer, &first)), (Duration::from_secs(60), (3, 1, 0)));
    assert_eq!(
        (bench.drops(DropReason::FragmentsIncomplete), bench.server.poll.stack().stats().fragments_told),
        (2, 1)
    );
    // The rest comes too late.
    let [_, rest] = halves(&segment, 1);
    assert!(bench.frame(&rest).is_empty());
    assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
}

/// Behind a flood of fragments nobody is told of those that made room for others, and of those that were in time few.
#[test]
fn a_flood_of_first_fragments_is_told_of_within_limits() {
    let mut bench = settled(config());
    let segment = Talk::open(&mut bench, 5_000).segment(ACK, &[b'x'; 200]);
    for id in 0..10_000 {
        bench.send(&halves(&segment, id)[0]);
        assert!(id % 64 != 63 || bench.turn().is_empty());
    }
    bench.turn();
    bench.wire.clock().advance(Duration::from_secs(61));
    let told = bench.turn().iter().filter(|frame| frame[20] == 58).count();
    assert_eq!((told, bench.server.poll.stack().stats().fragments_told), (8, 8), "those that were kept");
    assert_eq!(bench.drops(DropReason::FragmentsIncomplete), 10_000);
}

#[test]
fn over_ipv4_too_and_what_contradicts_itself_is_not_told_of() {
    let mut bench = Bench::new(App::Echo);
    let whole = Tcp::new(5_000, ACK, 100, 7).with(&[7; 200]).frame();
    let parts = lab::odd::cut(&whole, 1, 80);
    let lost = lab::odd::cut(&whole, 2, 80);
    let contradicts = [&lab::odd::cut(&whole, 3, 80)[0], &lab::odd::cut(&whole, 3, 88)[0], &parts[0]];
    for frame in [contradicts[0], contradicts[1], &lost[1], contradicts[2]] {
        assert!(bench.frame(frame).is_empty());
    }
    assert!(bench.wait(Duration::from_millis(999)).is_empty());
    bench.wire.clock().advance(Duration::from_millis(2));
    let answers = bench.turn();
    let [answer] = &answers[..] else { panic!("{answers:02x?}") };
    assert_eq!((&answer[..6], &answer[6..12]), (&PEER.0[..], &OWN.0[..]));
    let (ip, body) = answer[14..].split_first_chunk::<20>().expect("a packet");
    assert!(checksum::is_right(checksum::add(0, ip)) && checksum::is_right(checksum::add(0, body)));
    assert_eq!((ip[9], &ip[12..16], &ip[16..]), (1, &US.octets()[..], &THEM.octets()[..]));
    assert_eq!((&body[..2], &body[4..8], &body[8..]), (&[11, 1][..], &[0; 4][..], &parts[0][14..14 + 28]));
    assert_eq!(
        (bench.server.poll.stack().stats().fragments_told, bench.drops(DropReason::FragmentsIncomplete)),
        (1, 2)
    );
}
