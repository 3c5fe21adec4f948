//! What routers of IPv6 say, and what is asked of them and told to them: of a link that changes, by one core of several.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use sidestep_stack::{DropReason, OwnAddress, StackConfig};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, SYN, Tcp};
use crate::lab::v6::{
    self, Kind, Message, OTHER, THEM6, US6, config, from_station, ndp, prefix_option, router_advertisement, segments,
    settled, tcp6,
};
use crate::lab::{self, App};

const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66);

/// What is said about the link in so many milliseconds, and when.
fn said(bench: &mut Bench, millis: u64) -> Vec<(u64, Message)> {
    let mut said = Vec::new();
    for at in 0..millis {
        said.extend(bench.turn().iter().filter_map(|frame| Some((at, ndp(frame)?))));
        bench.wire.clock().advance(Duration::from_millis(1));
    }
    said
}

/// When messages of a kind are among these.
fn when(said: &[(u64, Message)], kind: Kind) -> Vec<u64> {
    said.iter().filter(|(_, message)| message.kind == kind).map(|&(at, _)| at).collect()
}

/// A router says something.
fn hear(bench: &mut Bench, router: Ipv6Addr, lifetime: u16, options: &[u8]) {
    assert!(bench.frame(&from_station(&router_advertisement(router, lifetime, options), OTHER)).is_empty());
}

fn mtu_option(mtu: u32) -> Vec<u8> {
    [&[5, 1, 0, 0][..], &mtu.to_be_bytes()].concat()
}

#[test]
fn routers_are_asked_again_when_the_link_returns_and_no_more_once_one_has_answered() {
    let mut bench = settled(config());
    hear(&mut bench, ROUTER, 1_800, &[]);
    assert_eq!(when(&said(&mut bench, 10_000), Kind::RouterSolicitation), []);
    let now = bench.now();
    bench.server.poll.stack_mut().announce(now, 0);
    assert_eq!(when(&said(&mut bench, 4_500), Kind::RouterSolicitation), [0, 4_000]);
    hear(&mut bench, ROUTER, 1_800, &[]);
    assert_eq!(when(&said(&mut bench, 10_000), Kind::RouterSolicitation), []);
}

#[test]
fn nobody_has_all_hosts_taken_to_be_on_the_link() {
    let mut bench = settled(config());
    for (prefix, len) in [("::", 0), ("2000::", 3), ("2000::", 7), ("ff00::", 8), ("fe80::", 64)] {
        let option = prefix_option(prefix.parse().expect("a prefix"), len, 600);
        hear(&mut bench, ROUTER, 1_800, &option);
        assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(ROUTER.into()), "{prefix}/{len}");
    }
    hear(&mut bench, ROUTER, 1_800, &prefix_option(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 16, 600));
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(FAR.into()));
}

#[test]
fn a_network_is_there_for_as_long_as_its_router_says_and_no_stranger_takes_it_away() {
    let mut bench = settled(config());
    let prefix = |secs| prefix_option(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 64, secs);
    hear(&mut bench, ROUTER, 1_800, &prefix(600));
    hear(&mut bench, STRANGER, 0, &prefix(0));
    hear(&mut bench, STRANGER, 1_800, &prefix(0));
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(FAR.into()));
    assert_eq!(bench.drops(DropReason::NdpNotOurs), 1, "of the first nothing was taken");
    hear(&mut bench, ROUTER, 1_800, &prefix(0));
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(ROUTER.into()));
    // One that takes no packets for elsewhere says that a network is there (RFC 4861 §6.3.4).
    hear(&mut bench, ROUTER, 0, &[]);
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(STRANGER.into()));
    hear(&mut bench, STRANGER, 0, &[]);
    assert_eq!(bench.server.poll.stack().next_hop(FAR), None);
    hear(&mut bench, "fe80::7".parse().expect("an address"), 0, &prefix(600));
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(FAR.into()));
}

/// Opens a connection whose peer takes all that it is sent; returns the lengths of the segments that come, and what acknowledges
/// all of them.
fn blasted(bench: &mut Bench, port: u16) -> (Vec<usize>, Tcp) {
    let mut syn = tcp6(port, SYN, 100, 0);
    syn.mss = Some(1_440);
    let answer = segments(&bench.frame(&syn.frame())).remove(0);
    let mut ack = tcp6(port, ACK, 101, answer.seq.wrapping_add(1));
    ack.window = 8_000;
    let lengths = taken(bench, &mut ack);
    (lengths, ack)
}

/// Sends `ack`, and returns the lengths of the segments that come then, which it acknowledges from now on.
fn taken(bench: &mut Bench, ack: &mut Tcp) -> Vec<usize> {
    let sent = segments(&bench.frame(&ack.frame()));
    let lengths: Vec<_> = sent.iter().map(|segment| segment.data.len()).collect();
    ack.ack = ack.ack.wrapping_add(lengths.iter().sum::<usize>() as u32);
    lengths
}

#[test]
fn what_a_router_says_of_the_mtu_is_heeded_by_connections_that_are_open_and_forgotten_with_it() {
    let mut bench = settled(config());
    bench.server.app = App::Blast(1_000_000);
    let (first, mut ack) = blasted(&mut bench, 5_000);
    assert_eq!(first.iter().max(), Some(&1_440));
    hear(&mut bench, ROUTER, 1_800, &mtu_option(1_400));
    assert_eq!(taken(&mut bench, &mut ack).iter().max(), Some(&1_340));
    let (second, _) = blasted(&mut bench, 5_001);
    assert_eq!(second.iter().max(), Some(&1_340));
    // It does not mention it any more, which takes nothing back.
    hear(&mut bench, ROUTER, 1_800, &[]);
    assert_eq!(taken(&mut bench, &mut ack).iter().max(), Some(&1_340));
    hear(&mut bench, ROUTER, 1_800, &mtu_option(1_279));
    hear(&mut bench, ROUTER, 1_800, &mtu_option(9_000));
    assert_eq!(taken(&mut bench, &mut ack).iter().max(), Some(&1_440), "what the link itself takes");
    hear(&mut bench, ROUTER, 1_800, &mtu_option(1_300));
    assert_eq!(taken(&mut bench, &mut ack).iter().max(), Some(&1_240));
    hear(&mut bench, ROUTER, 0, &[]);
    assert_eq!(taken(&mut bench, &mut ack).iter().max(), Some(&1_440));
}

#[test]
fn a_report_of_many_groups_is_as_long_as_any_link_takes() {
    let mut config = StackConfig::new(US6, 64, lab::OWN);
    let address = |number: u16| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, number);
    config.others.extend((0..63).map(|number| OwnAddress::new(address(number), 64)));
    let mut bench = Bench::with(config.clone(), App::Echo);
    said(&mut bench, 20_000);
    let reports = bench.frame(&v6::group_query(ROUTER));
    let groups: Vec<_> = reports.iter().map(|frame| (frame[54 + 8 + 7], (frame.len() - 54 - 16) / 20)).collect();
    assert_eq!(groups, [(3, 3), (61, 61)]);
    assert!(reports.iter().all(|frame| frame.len() <= 14 + 1_280 && ndp(frame).is_some()));
    let named: std::collections::HashSet<_> =
        reports.iter().flat_map(|frame| frame[70..].chunks(20).map(|record| record[4..].to_vec())).collect();
    assert_eq!(named.len(), 64, "each once");
    // Addresses that share a group are told of once.
    config.others.truncate(2);
    config.others.push(OwnAddress::new(Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, 2), 64));
    let mut bench = Bench::with(config, App::Echo);
    said(&mut bench, 20_000);
    let reports = bench.frame(&v6::group_query(ROUTER));
    assert_eq!(reports.iter().map(|frame| frame[54 + 8 + 7]).collect::<Vec<_>>(), [2]);
}

/// Two cores of one host; the second leaves it to the first to speak.
fn cores() -> [Bench; 2] {
    [true, false].map(|speaks| {
        let mut config = config();
        (config.peers, config.speaks) = (1, speaks);
        Bench::with(config, App::Echo)
    })
}

/// Has `there` hear what `here` has set aside for it.
fn pass_on(here: &mut Bench, there: &mut Bench) {
    let mut passed = Vec::new();
    while here.server.poll.stack_mut().next_stray(|frame, hops| passed.push((frame.to_vec(), hops))) {}
    let now = there.now();
    for (frame, hops) in &mut passed {
        there.server.take_stray(now, frame, *hops);
    }
}

fn takes_syns(bench: &mut Bench, port: u16) -> bool {
    !segments(&bench.frame(&tcp6(port, SYN, 100, 0).frame())).is_empty()
}

#[test]
fn one_core_asks_and_announces_and_the_others_use_the_addresses_when_it_does() {
    let [mut speaker, mut other] = cores();
    assert!(!takes_syns(&mut other, 5_000));
    let (told, untold) = (said(&mut speaker, 10_000), said(&mut other, 10_000));
    assert_eq!((when(&told, Kind::Solicitation), when(&told, Kind::Advertisement).len()), (vec![0], 3));
    assert!(untold.is_empty(), "{untold:?}");
    assert!(takes_syns(&mut speaker, 5_000) && takes_syns(&mut other, 5_001));
    // What it asks for itself it asks.
    let now = other.now();
    assert!(other.server.poll.stack_mut().ask_neighbor(now, THEM6, 0));
    assert_eq!(when(&said(&mut other, 100), Kind::Solicitation), [0]);
}

#[test]
fn all_cores_hear_that_somebody_has_the_address_and_when_the_link_returns_ask_anew() {
    let [mut speaker, mut other] = cores();
    speaker.turn();
    other.turn();
    // Whoever answers may be heard by either.
    let claim = from_station(&v6::advertisement(US6, v6::ALL_NODES, US6, Some(OTHER), false), OTHER);
    other.frame(&claim);
    pass_on(&mut other, &mut speaker);
    for bench in [&mut speaker, &mut other] {
        assert_eq!(bench.server.poll.stack().conflict(), Some((IpAddr::V6(US6), OTHER)));
        let told = said(bench, 3_000);
        assert_eq!(when(&told, Kind::Advertisement), []);
        assert!(!takes_syns(bench, 5_000));
    }
    for bench in [&mut speaker, &mut other] {
        let now = bench.now();
        bench.server.poll.stack_mut().announce(now, 0);
    }
    let (told, untold) = (said(&mut speaker, 3_000), said(&mut other, 3_000));
    assert_eq!(when(&told, Kind::Solicitation), [0]);
    assert!(untold.is_empty(), "{untold:?}");
    assert!(takes_syns(&mut speaker, 5_001) && takes_syns(&mut other, 5_002));
}
