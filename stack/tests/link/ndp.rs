//! Neighbour discovery as a host does it (RFC 4861, RFC 4862 §5.4): what is asked, answered, believed and counted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sidestep_stack::{Connect, DropReason, Mac, OwnAddress, Route, Routes, StackConfig};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, SYN};
use crate::lab::v6::{
    self, ALL_NODES, Kind, Message, OTHER, THEM6, US6, advertisement, group_of, ndp, prefix_option,
    router_advertisement, solicitation, station_option,
};
use crate::lab::{self, App, OWN, PEER};

/// When frames of NDP were sent, in milliseconds from now on, and what they were.
fn said(bench: &mut Bench, millis: u64) -> Vec<(u64, Message)> {
    let mut said = Vec::new();
    for at in 0..millis {
        said.extend(bench.turn().iter().filter_map(|frame| Some((at, ndp(frame)?))));
        bench.wire.clock().advance(Duration::from_millis(1));
    }
    said
}

fn config() -> StackConfig {
    let mut config = StackConfig::new(US6, 64, OWN);
    config.ports = vec![lab::PORT];
    config
}

/// A stack whose address is in use, and that is quiet.
fn settled() -> Bench {
    settled_with(config())
}

fn settled_with(config: StackConfig) -> Bench {
    let mut bench = Bench::with(config, App::Echo);
    said(&mut bench, 16_000);
    bench
}

#[test]
fn an_address_is_asked_for_a_second_before_it_is_used_and_then_announced() {
    let mut bench = Bench::with(config(), App::Echo);
    let said = said(&mut bench, 5_000);
    let of = |kind: Kind| -> Vec<u64> {
        said.iter().filter(|(_, message)| message.kind == kind).map(|&(at, _)| at).collect()
    };
    assert_eq!(of(Kind::Solicitation), [0]);
    assert_eq!(of(Kind::Advertisement), [1_000, 2_000, 3_000]);
    assert_eq!(of(Kind::Report), [0, 1_000, 2_000, 3_000]);
    assert_eq!(of(Kind::RouterSolicitation), [0, 4_000]);
    let asked = said.iter().find(|(_, message)| message.kind == Kind::Solicitation).expect("one").1;
    assert_eq!((asked.source, asked.destination, asked.target), (Ipv6Addr::UNSPECIFIED, group_of(US6), US6));
    assert_eq!((asked.to, asked.station), (Mac([0x33, 0x33, 0xff, 0, 0, 2]), None), "who has no address is nowhere");
    let told = said.iter().find(|(_, message)| message.kind == Kind::Advertisement).expect("one").1;
    assert_eq!((told.source, told.destination, told.target, told.station), (US6, ALL_NODES, US6, Some(OWN)));
    assert_eq!((told.solicited, told.overrides), (false, true));
}

#[test]
fn before_that_a_syn_is_not_taken_and_a_solicitation_not_answered() {
    let mut bench = Bench::with(config(), App::Echo);
    let syn = v6::tcp6(5_000, SYN, 100, 0).frame();
    assert!(bench.frame(&syn).iter().all(|frame| v6::tcp(frame).is_none()));
    assert_eq!(bench.drops(DropReason::Ip6NotOurs), 1);
    assert!(bench.frame(&solicitation(THEM6, group_of(US6), US6, Some(PEER))).is_empty());
    bench.wire.clock().advance(Duration::from_millis(1_001));
    bench.turn();
    let answers = bench.frame(&syn);
    assert_eq!(v6::tcp(&answers[0]).map(|syn_ack| syn_ack.flags), Some(SYN | ACK));
}

#[test]
fn an_address_that_somebody_has_or_wants_at_the_same_time_is_not_used() {
    let heard = [
        advertisement(US6, ALL_NODES, US6, Some(OTHER), false),
        solicitation(Ipv6Addr::UNSPECIFIED, group_of(US6), US6, None),
    ];
    for frame in heard {
        let mut bench = Bench::with(config(), App::Echo);
        bench.turn();
        bench.send(&v6::from_station(&frame, OTHER));
        assert!(said(&mut bench, 5_000).iter().all(|(_, message)| message.kind != Kind::Advertisement));
        assert_eq!(bench.drops(DropReason::AddressConflict), 1);
        assert_eq!(bench.server.poll.stack().conflict(), Some((IpAddr::V6(US6), OTHER)));
        bench.frame(&v6::tcp6(5_000, SYN, 100, 0).frame());
        assert_eq!(bench.drops(DropReason::Ip6NotOurs), 1, "it is not ours");
        // The link returns, and the other has gone.
        let now = bench.now();
        bench.server.poll.stack_mut().announce(now, 0);
        assert!(said(&mut bench, 2_000).iter().any(|(_, message)| message.kind == Kind::Advertisement));
        assert_eq!(v6::segments(&bench.frame(&v6::tcp6(5_001, SYN, 100, 0).frame())).len(), 1);
    }
}

#[test]
fn a_station_that_takes_the_address_later_is_counted_and_no_connection_minds() {
    let mut bench = settled();
    let mut talk = v6::Talk::open(&mut bench, 5_000);
    for round in 1..=100 {
        let frame = v6::from_station(&advertisement(US6, ALL_NODES, US6, Some(OTHER), false), OTHER);
        assert!(bench.frame(&frame).is_empty(), "it is not fought");
        assert_eq!(bench.drops(DropReason::AddressConflict), round);
    }
    assert_eq!(bench.server.poll.stack().conflict(), Some((IpAddr::V6(US6), OTHER)));
    assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
}

#[test]
fn who_asks_for_us_is_answered_and_learned() {
    let mut bench = settled();
    for (destination, station) in [(group_of(US6), Some(PEER)), (US6, Some(PEER)), (US6, None)] {
        let answers = bench.frame(&solicitation(THEM6, destination, US6, station));
        let [answer] = &answers[..] else { panic!("{answers:02x?}") };
        let answer = ndp(answer).expect("an advertisement");
        assert_eq!((answer.kind, answer.source, answer.destination), (Kind::Advertisement, US6, THEM6));
        assert_eq!((answer.to, answer.target, answer.station), (PEER, US6, Some(OWN)));
        assert!(answer.solicited && answer.overrides);
    }
    assert_eq!(bench.server.poll.stack().neighbor(THEM6), Some(PEER));
    assert_eq!(bench.server.poll.stack().stats().advertisements, 3);
    // Somebody wants the address: all are told that it is taken (RFC 4861 §7.2.4).
    let answers = bench.frame(&solicitation(Ipv6Addr::UNSPECIFIED, group_of(US6), US6, None));
    let answer = ndp(&answers[0]).expect("an advertisement");
    assert_eq!((answer.destination, answer.solicited, answer.overrides), (ALL_NODES, false, true));
    assert_eq!(bench.drops(DropReason::AddressConflict), 0);
}

#[test]
fn what_rfc_4861_does_not_allow_is_dropped_and_counted() {
    let mut bench = settled();
    let group = group_of(US6);
    let good = solicitation(THEM6, group, US6, Some(PEER));
    let routed = v6::with_hop_limit(&good, 254);
    let mut wrong_sum = good.clone();
    wrong_sum[60] ^= 1;
    let cases = [
        (routed, DropReason::NdpHopLimit),
        (wrong_sum, DropReason::IcmpMalformed),
        (v6::message(THEM6, group, &[135, 1, 0, 0, 0, 0, 0, 0], Some(US6), &[]), DropReason::NdpMalformed),
        (
            v6::message(THEM6, group, &[135, 0, 0, 0, 0, 0, 0, 0], Some(US6), &[1, 0, 2, 0, 0, 0, 0, 2]),
            DropReason::NdpMalformed,
        ),
        (
            v6::message(THEM6, group, &[135, 0, 0, 0, 0, 0, 0, 0], Some(US6), &[1, 2, 2, 0, 0, 0, 0, 2]),
            DropReason::NdpMalformed,
        ),
        (v6::message(THEM6, group, &[135, 0, 0, 0, 0, 0, 0, 0], None, &[]), DropReason::NdpMalformed),
        (solicitation(THEM6, group, ALL_NODES, Some(PEER)), DropReason::NdpMalformed),
        (solicitation(Ipv6Addr::UNSPECIFIED, group, US6, Some(PEER)), DropReason::NdpMalformed),
        (solicitation(Ipv6Addr::UNSPECIFIED, US6, US6, None), DropReason::NdpMalformed),
        (advertisement(THEM6, ALL_NODES, THEM6, Some(PEER), true), DropReason::NdpMalformed),
        (solicitation(THEM6, group, THEM6, Some(PEER)), DropReason::NdpNotOurs),
        (solicitation(THEM6, "ff02::1:ff00:77".parse().expect("a group"), US6, Some(PEER)), DropReason::NdpNotOurs),
        (advertisement(THEM6, ALL_NODES, THEM6, Some(PEER), false), DropReason::NdpNotOurs),
        (solicitation(THEM6, group, US6, Some(Mac::BROADCAST)), DropReason::NdpSource),
        (solicitation(THEM6, group, US6, Some(OWN)), DropReason::NdpSource),
        (router_advertisement(THEM6, 1_800, &[]), DropReason::NdpMalformed),
        (v6::message(THEM6, US6, &[137, 0, 0, 0, 0, 0, 0, 0], Some(US6), &[]), DropReason::IcmpRedirect),
    ];
    for (number, (frame, reason)) in cases.into_iter().enumerate() {
        let before = bench.drops(reason);
        assert!(bench.frame(&frame).is_empty(), "case {number}");
        assert_eq!(bench.drops(reason), before + 1, "case {number}: {:?}", bench.server.poll.stack().stats().drops);
    }
    assert_eq!(bench.server.poll.stack().neighbor(THEM6), None, "nothing was learned of it");
}

/// RFC 4861 §6.1.2, §7.1.2, each condition by itself: of a router's advertisement, and of a neighbour's about one that is known.
#[test]
fn no_advertisement_is_heard_that_rfc_4861_does_not_allow() {
    let router: Ipv6Addr = "fe80::1".parse().expect("an address");
    let says = station_option(1, OTHER);
    let of_router = router_advertisement(router, 1_800, &says);
    let of_neighbor = advertisement(THEM6, US6, THEM6, Some(OTHER), true);
    let resummed = |frame: &[u8], change: fn(&mut Vec<u8>)| {
        let mut body = frame[54..].to_vec();
        change(&mut body);
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("sixteen"));
        v6::icmp(address(22), address(38), 255, &body)
    };
    let mut cases = Vec::new();
    for frame in [&of_router, &of_neighbor] {
        let mut wrong_sum = frame.clone();
        wrong_sum[60] ^= 1;
        cases.extend([
            (v6::with_hop_limit(frame, 254), DropReason::NdpHopLimit),
            (wrong_sum, DropReason::IcmpMalformed),
            (resummed(frame, |body| body[1] = 1), DropReason::NdpMalformed),
            (resummed(frame, |body| body.truncate(15)), DropReason::NdpMalformed),
            (resummed(frame, |body| body.extend([14, 0, 0, 0, 0, 0, 0, 0])), DropReason::NdpMalformed),
            (resummed(frame, |body| body.extend([14, 2, 0, 0, 0, 0, 0, 0])), DropReason::NdpMalformed),
            (resummed(frame, |body| body.extend([14])), DropReason::NdpMalformed),
        ]);
    }
    cases.extend([
        (router_advertisement("2001:db8::1".parse().expect("an address"), 1_800, &says), DropReason::NdpMalformed),
        (router_advertisement(Ipv6Addr::UNSPECIFIED, 1_800, &says), DropReason::NdpMalformed),
        (router_advertisement(router, 1_800, &station_option(1, Mac::BROADCAST)), DropReason::NdpSource),
        (router_advertisement(router, 1_800, &station_option(1, OWN)), DropReason::NdpSource),
        (resummed(&of_neighbor, |body| body.truncate(23)), DropReason::NdpMalformed),
        (resummed(&of_neighbor, |body| body[8] = 0xff), DropReason::NdpMalformed),
        (advertisement(Ipv6Addr::UNSPECIFIED, US6, THEM6, Some(OTHER), true), DropReason::NdpMalformed),
        (advertisement(THEM6, ALL_NODES, THEM6, Some(OTHER), true), DropReason::NdpMalformed),
        (advertisement(THEM6, US6, THEM6, Some(Mac::BROADCAST), true), DropReason::NdpSource),
        (advertisement(THEM6, US6, Ipv6Addr::LOCALHOST, Some(OTHER), true), DropReason::NdpSource),
    ]);
    let mut bench = settled();
    let now = bench.now();
    bench.server.poll.stack_mut().learn_neighbor(now, THEM6, PEER);
    bench.wire.clock().advance(Duration::from_secs(2));
    for (number, (frame, reason)) in cases.into_iter().enumerate() {
        let before = bench.drops(reason);
        assert!(bench.frame(&v6::from_station(&frame, OTHER)).is_empty(), "case {number}");
        assert_eq!(bench.drops(reason), before + 1, "case {number}: {:?}", bench.server.poll.stack().stats().drops);
        assert_eq!(bench.server.poll.stack().next_hop("2001:db8::1".parse::<Ipv6Addr>().expect("an address")), None);
    }
    assert_eq!(bench.server.poll.stack().neighbor(THEM6), Some(PEER));
    // As they should be both are heard: one asks who is right, the other is a way.
    assert_eq!(bench.frame(&v6::from_station(&of_neighbor, OTHER)).len(), 1);
    bench.frame(&v6::from_station(&of_router, OTHER));
    assert_eq!(bench.server.poll.stack().stats().router_advertisements, 1);
}

#[test]
fn a_connection_of_ours_asks_where_its_peer_is_and_goes_there() {
    let mut bench = settled();
    let now = bench.now();
    let to = Connect::to(SocketAddr::new(THEM6.into(), 80));
    bench
        .server
        .poll
        .connect(now, &to, |_| true)
        .map(|id| bench.server.connecting.insert(id))
        .expect("it can be tried");
    let asked = bench.turn();
    let [question] = &asked[..] else { panic!("{asked:02x?}") };
    let question = ndp(question).expect("a solicitation");
    assert_eq!((question.kind, question.target, question.destination), (Kind::Solicitation, THEM6, group_of(THEM6)));
    assert_eq!((question.source, question.station), (US6, Some(OWN)));
    let sent = bench.frame(&advertisement(THEM6, US6, THEM6, Some(PEER), true));
    let syn = v6::tcp(&sent[0]).expect("the SYN");
    assert_eq!((syn.flags, syn.mss, &sent[0][..6]), (SYN, Some(1_440), &PEER.0[..]));
    assert_eq!(bench.server.poll.stack().neighbor(THEM6), Some(PEER));
}

#[test]
fn nobody_who_answers_is_asked_three_times_and_then_given_up() {
    let mut bench = settled();
    let now = bench.now();
    let to = Connect::to(SocketAddr::new(THEM6.into(), 80));
    let id = bench.server.poll.connect(now, &to, |_| true).expect("it can be tried");
    bench.server.flows.insert(id, 0);
    bench.server.connecting.insert(id);
    let asked: Vec<u64> = said(&mut bench, 5_000).iter().map(|&(at, _)| at).collect();
    assert_eq!(asked, [0, 1_000, 2_000]);
    assert_eq!(bench.server.closed.len(), 1);
    let census = bench.server.poll.stack().census();
    assert_eq!((census.stations, census.stations_held), (1, 0), "what is known of it is not held");
}

/// As by ARP: who holds the address is asked before another is believed.
#[test]
fn a_claim_of_a_live_neighbours_address_gets_no_frame_of_its_connections() {
    let mut bench = settled();
    let mut talk = v6::Talk::open(&mut bench, 5_000);
    bench.frame(&solicitation(THEM6, US6, US6, Some(PEER)));
    bench.wire.clock().advance(Duration::from_secs(2));
    let lie = v6::from_station(&advertisement(THEM6, ALL_NODES, THEM6, Some(OTHER), false), OTHER);
    let asked = bench.frame(&lie);
    let question = ndp(&asked[0]).expect("it is asked");
    assert_eq!(
        (question.kind, question.to, question.target),
        (Kind::Solicitation, Mac([0x33, 0x33, 0xff, 0, 0, 1]), THEM6)
    );
    // The liar answers first: the one that had the address is asked by itself.
    let asked = bench.frame(&v6::from_station(&advertisement(THEM6, US6, THEM6, Some(OTHER), true), OTHER));
    let question = ndp(&asked[0]).expect("the holder is asked");
    assert_eq!((question.to, question.destination), (PEER, THEM6));
    bench.frame(&advertisement(THEM6, US6, THEM6, Some(PEER), true));
    assert_eq!(bench.server.poll.stack().neighbor(THEM6), Some(PEER));
    assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
    assert_eq!(bench.server.poll.stack().stats().flows_moved, 0);
}

#[test]
fn a_flood_of_solicitations_turns_over_nothing_that_is_certain() {
    let mut settings = config();
    (settings.stations, settings.neighbors) = (64, 64);
    let mut bench = settled_with(settings);
    let mut talk = v6::Talk::open(&mut bench, 5_000);
    let now = bench.now();
    let friend: Ipv6Addr = "fd77::77".parse().expect("an address");
    bench.server.poll.stack_mut().learn_neighbor(now, friend, PEER);
    for number in 0..10_000u32 {
        let asker = Ipv6Addr::from_bits(0xfd77_0000_0000_0000_0000_0001_0000_0000 + u128::from(number));
        let answers = bench.frame(&v6::from_station(&solicitation(asker, US6, US6, Some(OTHER)), OTHER));
        assert_eq!(answers.len(), 1, "whoever asks is answered");
    }
    let census = bench.server.poll.stack().census();
    assert!(census.stations <= 64 && census.stations_held == 1, "{census:?}");
    assert_eq!(bench.server.poll.stack().neighbor(friend), Some(PEER));
    assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
}

#[test]
fn routers_are_taken_at_their_word_where_none_is_set() {
    let mut bench = settled();
    let router: Ipv6Addr = "fe80::1".parse().expect("an address");
    let far: Ipv6Addr = "2001:db8::1".parse().expect("an address");
    let near: Ipv6Addr = "2001:db8:1::1".parse().expect("an address");
    assert_eq!(bench.server.poll.stack().next_hop(far), None);
    let prefix = prefix_option("2001:db8:1::".parse().expect("a prefix"), 64, 600);
    let says = [station_option(1, OTHER).to_vec(), prefix].concat();
    bench.frame(&v6::from_station(&router_advertisement(router, 1_800, &says), OTHER));
    let hops = [far, near].map(|to| bench.server.poll.stack().next_hop(to));
    assert_eq!(hops, [Some(router.into()), Some(near.into())]);
    assert_eq!(
        (bench.server.poll.stack().neighbor(router), bench.server.poll.stack().stats().router_advertisements),
        (Some(OTHER), 1)
    );
    // A SYN to there goes by the router.
    let now = bench.now();
    bench.server.poll.connect(now, &Connect::to(SocketAddr::new(far.into(), 80)), |_| true).expect("there is a way");
    let sent = bench.turn();
    assert_eq!((sent.len(), &sent[0][..6]), (1, &OTHER.0[..]));
    // It takes no more.
    bench.frame(&v6::from_station(&router_advertisement(router, 0, &[]), OTHER));
    assert_eq!(bench.server.poll.stack().next_hop(far), None);
}

#[test]
fn a_router_that_is_set_is_the_one_whatever_others_say() {
    let router: Ipv6Addr = "fe80::1".parse().expect("an address");
    let liar: Ipv6Addr = "fe80::666".parse().expect("an address");
    let far: Ipv6Addr = "2001:db8::1".parse().expect("an address");
    let mut settings = config();
    settings.gateway6 = Some(router);
    let mut bench = Bench::with(settings, App::Echo);
    let asked = said(&mut bench, 5_000);
    assert!(asked.iter().all(|(_, message)| message.kind != Kind::RouterSolicitation));
    bench.frame(&v6::from_station(&router_advertisement(liar, 1_800, &[]), OTHER));
    assert_eq!(
        (bench.drops(DropReason::NdpNotOurs), bench.server.poll.stack().next_hop(far)),
        (1, Some(router.into()))
    );
    // Without any route by a router they are listened to.
    let own = [OwnAddress::new(US6, 64)];
    bench.server.poll.stack_mut().set_routes(&Routes::new(own, []));
    bench.frame(&v6::from_station(&router_advertisement(liar, 1_800, &[]), OTHER));
    assert_eq!(bench.server.poll.stack().next_hop(far), Some(liar.into()));
    bench.server.poll.stack_mut().set_routes(&Routes::new(own, [Route::default_by(router)]));
    assert_eq!(bench.server.poll.stack().next_hop(far), Some(router.into()));
    assert_eq!(bench.server.poll.stack().census().stations_held, 1, "the router that is set is held, and no other");
}

#[test]
fn a_question_about_groups_is_answered_by_all_of_ours() {
    let mut settings = config();
    settings.others.push(OwnAddress::new("fd77::abcd".parse::<Ipv6Addr>().expect("an address"), 64));
    let mut bench = settled_with(settings);
    let answers = bench.frame(&v6::group_query("fe80::1".parse().expect("an address")));
    let report = ndp(&answers[0]).expect("a report");
    assert_eq!(
        (report.kind, &report.groups[..2]),
        (Kind::Report, &[group_of(US6), "ff02::1:ff00:abcd".parse().expect("a group")][..])
    );
}
