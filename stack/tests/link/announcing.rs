//! What the link is told of the stack's address, and what comes of another station that has it (RFC 5227).

use std::net::Ipv4Addr;
use std::time::Duration;

use sidestep_stack::{Connect, DropReason, Mac};

use crate::lab::App;
use crate::lab::arp::{REPLY, REQUEST, arp};
use crate::lab::bench::Bench;
use crate::lab::{self, OWN, PEER, THEM, US, config};

/// Another station that has our address.
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 66]);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A stack that begins to announce its address now.
fn begun() -> Bench {
    let mut bench = Bench::new(App::Echo);
    let now = bench.now();
    bench.server.poll.stack_mut().announce(now, 0);
    bench
}

/// When something was said to everybody about our address, in milliseconds from now on, and from which address.
fn said(bench: &mut Bench, millis: u64) -> Vec<(u64, Ipv4Addr)> {
    let mut said = Vec::new();
    for at in 0..millis {
        for frame in bench.turn() {
            assert_eq!((&frame[..6], &frame[6..12], &frame[22..28]), (&[0xff; 6][..], &OWN.0[..], &OWN.0[..]));
            assert_eq!((&frame[20..22], &frame[38..42]), (&[0, REQUEST][..], &US.octets()[..]));
            said.push((at, Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31])));
        }
        bench.wire.clock().advance(Duration::from_millis(1));
    }
    said
}

const PROBES: [(u64, Ipv4Addr); 3] = [(0, NOBODY), (20, NOBODY), (40, NOBODY)];

#[test]
fn an_address_that_nobody_else_has_is_announced_and_again_when_the_link_returns() {
    let mut bench = begun();
    let all = [&PROBES[..], &[(60, US), (1_060, US), (2_060, US)]].concat();
    assert_eq!(said(&mut bench, 5_000), all);
    let now = bench.now();
    bench.server.poll.stack_mut().announce(now, 0);
    assert_eq!(said(&mut bench, 5_000), all);
    assert_eq!((bench.server.poll.stack().census().resolving, bench.server.poll.stack().conflict()), (0, None));
}

#[test]
fn a_link_that_returns_amid_the_announcements_begins_them_anew() {
    let mut bench = begun();
    said(&mut bench, 1_000);
    let now = bench.now();
    bench.server.poll.stack_mut().announce(now, 0);
    assert_eq!(said(&mut bench, 400), [&PROBES[..], &[(60, US)]].concat());
}

/// As a kernel answers a probe: to the station that asked, for an address that has none.
#[test]
fn an_address_that_answers_a_probe_is_not_announced_and_is_served_all_the_same() {
    for answer in [arp(REPLY, (US, OTHER), NOBODY), arp(REPLY, (US, OTHER), US), arp(REQUEST, (US, OTHER), THEM)] {
        let mut bench = begun();
        assert_eq!(said(&mut bench, 30), PROBES[..2]);
        assert_eq!(bench.frame(&answer), Vec::<Vec<u8>>::new(), "it is not fought");
        assert_eq!(said(&mut bench, 5_000), []);
        assert_eq!(
            (bench.drops(DropReason::AddressConflict), bench.server.poll.stack().conflict()),
            (1, Some((US.into(), OTHER)))
        );
        assert_eq!(bench.frame(&arp(REQUEST, (THEM, PEER), US)).len(), 1, "who asks is answered");
        bench.open(5_000, 100);
    }
}

#[test]
fn a_station_that_takes_the_address_later_is_counted_and_no_connection_minds() {
    let mut bench = begun();
    said(&mut bench, 5_000);
    let next = bench.open(5_000, 100);
    for round in 1..=100 {
        assert_eq!(bench.frame(&arp(REQUEST, (US, OTHER), US)), Vec::<Vec<u8>>::new());
        assert_eq!(
            (bench.drops(DropReason::AddressConflict), bench.server.poll.stack().conflict()),
            (round, Some((US.into(), OTHER)))
        );
    }
    assert_eq!(said(&mut bench, 5_000), []);
    let answer = bench.one(&lab::raw::Tcp::new(5_000, lab::raw::ACK | lab::raw::PSH, 101, next).with(b"get k\r\n"));
    assert_eq!(answer.ack, 108);
    assert_eq!(bench.server.poll.stack().neighbor(US), None, "nobody sends to it there");
}

/// ARP comes by one queue, which need not be that of the core that announces.
#[test]
fn a_conflict_that_another_core_hears_of_ends_the_announcements_too() {
    let mut both = config();
    both.peers = 1;
    let mut announcer = Bench::with(both.clone(), App::Echo);
    let mut other = Bench::with(both, App::Echo);
    let now = announcer.now();
    announcer.server.poll.stack_mut().announce(now, 0);
    assert_eq!(said(&mut announcer, 30), PROBES[..2]);
    assert_eq!(other.frame(&arp(REPLY, (US, OTHER), NOBODY)), Vec::<Vec<u8>>::new());
    let mut passed = Vec::new();
    while other.server.poll.stack_mut().next_stray(|frame, hops| passed.push((frame.to_vec(), hops))) {}
    let [(frame, 1)] = &mut passed[..] else { panic!("{passed:?}") };
    let now = announcer.now();
    announcer.server.take_stray(now, frame, 1);
    assert_eq!(said(&mut announcer, 5_000), []);
    for (bench, counted) in [(&announcer, 0), (&other, 1)] {
        let conflict = bench.server.poll.stack().conflict();
        assert_eq!((bench.drops(DropReason::AddressConflict), conflict), (counted, Some((US.into(), OTHER))));
    }
    assert_eq!(announcer.server.poll.stack().census().strays, 0, "it has been round");
}

/// It is ours: who wants it is told so, which is all that keeps the other from using it (RFC 5227 §2.1.1).
#[test]
fn anothers_probe_for_the_address_is_answered_and_is_no_conflict() {
    let mut bench = begun();
    let answers = bench.frame(&arp(REQUEST, (NOBODY, OTHER), US));
    let replies: Vec<_> = answers.iter().filter(|frame| frame[20..22] == [0, REPLY]).collect();
    assert_eq!(replies.len(), 1);
    assert_eq!((&replies[0][..6], &replies[0][28..32]), (&OTHER.0[..], &US.octets()[..]));
    assert_eq!((bench.drops(DropReason::AddressConflict), bench.server.poll.stack().conflict()), (0, None));
}

#[test]
fn what_it_has_sent_itself_is_no_conflict() {
    let mut bench = begun();
    for frame in [arp(REQUEST, (NOBODY, OWN), US), arp(REQUEST, (US, OWN), US)] {
        bench.frame(&frame);
    }
    assert_eq!((bench.drops(DropReason::AddressConflict), bench.server.poll.stack().conflict()), (0, None));
}

#[test]
fn in_a_vlan_what_is_said_unasked_has_its_tag() {
    let mut settings = config();
    settings.vlan = Some(100);
    settings.gateway = Some(THEM);
    let mut bench = Bench::with(settings, App::Echo);
    let now = bench.now();
    bench.server.poll.stack_mut().announce(now, 0);
    let far = std::net::SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);
    bench.server.poll.connect(now, &Connect::to(far), |_| true).expect("there is a way");
    let tagged = |frame: &[u8], tag: u16| [&frame[..12], &[0x81, 0], &tag.to_be_bytes()[..], &frame[12..]].concat();
    let mut sent = bench.turn();
    assert_eq!(sent.len(), 2, "a probe, and who the router is");
    // What has no tag, or another's, is not ours.
    for frame in [arp(REPLY, (THEM, PEER), US), tagged(&arp(REPLY, (THEM, PEER), US), 101)] {
        assert_eq!(bench.frame(&frame), Vec::<Vec<u8>>::new());
    }
    assert_eq!(bench.drops(DropReason::OtherVlan), 2);
    sent.extend(bench.frame(&tagged(&arp(REPLY, (THEM, PEER), US), 0xe064)));
    assert_eq!(sent.len(), 3, "and the SYN");
    for frame in &sent {
        assert_eq!(frame[12..16], [0x81, 0, 0, 100], "{frame:02x?}");
    }
    assert_eq!((&sent[2][..6], &sent[2][16..18]), (&PEER.0[..], &[8, 0][..]));
    bench.frame(&tagged(&arp(REQUEST, (US, OTHER), US), 100));
    assert_eq!(bench.server.poll.stack().conflict(), Some((US.into(), OTHER)));
}
