//! Floods of hostile neighbours and of strangers over IPv6: 100,000 frames a second, for a second of virtual time. Old
//! connections are answered in the turn in which they ask, new ones open, no table grows, and each drop has its reason.

#[path = "lab/lab.rs"]
mod lab;

use std::net::Ipv6Addr;
use std::time::Duration;

use lab::flooded::{AT_ONCE, Family, Flood, Flooded, LOOKS, OLD_PORT, endure_over};
use lab::raw::{ACK, PSH, RST, SYN, Tcp};
use lab::v6::{
    ADVERTISEMENT, ALL_NODES, FRAGMENT, ICMP, REDIRECT, ROUTER_ADVERTISEMENT, SOLICITATION, THEM, US, datagram,
    discovery, frame, frame_from, group_of, neighbor, packet, summed,
};
use lab::{PEER, PORT};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{DropReason, Mac};

/// Frames of each flood.
const SENT: u64 = (AT_ONCE * LOOKS) as u64;

fn endure(flood: Flood, seed: u64) -> Flooded {
    endure_over(Family::V6, flood, seed)
}

/// An address that is nobody's here.
fn stranger(rng: &mut Xoshiro256PlusPlus) -> Ipv6Addr {
    let mut octets = [0; 16];
    rng.fill_bytes(&mut octets);
    octets[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    octets.into()
}

/// A host of our subnet that is none, and its station.
fn nobody(rng: &mut Xoshiro256PlusPlus) -> (Ipv6Addr, Mac) {
    let mut octets = US.octets();
    rng.fill_bytes(&mut octets[8..]);
    octets[8] = 0x99;
    let [_, a, b, c] = rng.next_u32().to_be_bytes();
    (octets.into(), Mac([2, 9, 9, a, b, c]))
}

/// A router that is none.
fn router(rng: &mut Xoshiro256PlusPlus) -> (Ipv6Addr, Mac) {
    let (address, mac) = nobody(rng);
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&address.octets()[8..]);
    (octets.into(), mac)
}

fn segment(rng: &mut Xoshiro256PlusPlus, flags: u8) -> Tcp {
    Tcp::new(1_024 | rng.next_u32() as u16, flags, rng.next_u32(), rng.next_u32())
}

/// A segment of a stranger, or, one in four, on the honest client's old connection.
fn spoofed(rng: &mut Xoshiro256PlusPlus, flags: u8) -> Vec<u8> {
    let mut spoofed = segment(rng, flags);
    if rng.next_u32().is_multiple_of(4) {
        spoofed.peer_port = OLD_PORT;
        return frame(&spoofed);
    }
    frame_from(&spoofed, stranger(rng))
}

fn syn(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    frame_from(&segment(rng, SYN), stranger(rng))
}

/// A question for our address, or for another's, of a host that is none.
fn solicitation(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let asker = nobody(rng);
    let target = if rng.next_u32() & 1 == 0 { US } else { asker.0 };
    neighbor(asker, group_of(target), SOLICITATION, 0, target)
}

/// An answer that nobody has asked for, of a host that is none.
fn advertisement(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let claimer = nobody(rng);
    let (to, flags) = if rng.next_u32() & 1 == 0 { (US, 0x60) } else { (ALL_NODES, 0x20) };
    neighbor(claimer, to, ADVERTISEMENT, flags, claimer.0)
}

/// The honest client's address, claimed by another station each time.
fn claim(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let (_, mac) = nobody(rng);
    let (to, flags) = if rng.next_u32() & 1 == 0 { (US, 0x60) } else { (ALL_NODES, 0x20) };
    neighbor((THEM, mac), to, ADVERTISEMENT, flags, THEM)
}

/// Our own address, claimed by another station each time, or tested by one.
fn conflict(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let (_, mac) = nobody(rng);
    neighbor((US, mac), ALL_NODES, ADVERTISEMENT, 0x20, US)
}

/// A router that is none, with a prefix, an MTU and a lifetime of its own.
fn router_advertisement(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let from = router(rng);
    let lifetime = [0, 1_800, u16::MAX][rng.next_u32() as usize % 3];
    let mtu = [1_280, 1_400, 9_000_u32][rng.next_u32() as usize % 3];
    let mut rest = [&[64, 0], &lifetime.to_be_bytes()[..], &[0; 8], &[3, 4, 64, 0xc0]].concat();
    rest.extend([0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
    rest.extend(&stranger(rng).octets()[..8]);
    rest.extend([0; 8]);
    rest.extend([5, 1, 0, 0]);
    rest.extend(mtu.to_be_bytes());
    rest.extend([1, 1]);
    rest.extend(from.1.0);
    discovery(from, ALL_NODES, ROUTER_ADVERTISEMENT, &rest)
}

/// That the honest client, or somebody else, is better reached by a router that is none.
fn redirect(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let from = router(rng);
    let to = if rng.next_u32() & 1 == 0 { THEM } else { stranger(rng) };
    let rest = [&[0; 4][..], &from.0.octets(), &to.octets(), &[2, 1], &from.1.0].concat();
    discovery(from, US, REDIRECT, &rest)
}

fn ping(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let body = [&[128, 0, 0, 0][..], &rng.next_u32().to_be_bytes(), &[1; 32]].concat();
    summed((stranger(rng), PEER), US, (ICMP, 64), &body, 2)
}

/// A fragment of a packet whose rest never comes.
fn fragment(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let place = (rng.next_u32() as u16 & 0x1fff) << 3 | 1;
    let body = [&[6, 0][..], &place.to_be_bytes(), &rng.next_u32().to_be_bytes(), &[7; 32]].concat();
    packet((stranger(rng), PEER), US, (FRAGMENT, 64), &body)
}

/// A packet whose headers have options for each hop, as many as one header holds.
fn hop_by_hop(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let segment = frame_from(&segment(rng, SYN), stranger(rng));
    let units = rng.next_u32() as usize % 100;
    let mut header = vec![6, units as u8];
    // Options of one byte each, which only fill.
    header.resize(8 + 8 * units, 0);
    packet((stranger(rng), PEER), US, (0, 64), &[&header, &segment[54..]].concat())
}

fn garbage(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut data = [0; 64];
    rng.fill_bytes(&mut data);
    let port = if data[0] & 1 == 0 { PORT } else { rng.next_u32() as u16 };
    datagram(stranger(rng), (1_024 | rng.next_u32() as u16, port), &data)
}

fn any(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    match rng.next_u32() % 9 {
        0 => syn(rng),
        1 => frame_from(&segment(rng, ACK | PSH).with(b"get key\r\n"), stranger(rng)),
        2 => fragment(rng),
        3 => solicitation(rng),
        4 => advertisement(rng),
        5 => router_advertisement(rng),
        6 => hop_by_hop(rng),
        7 => ping(rng),
        _ => garbage(rng),
    }
}

fn cut(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut frame = any(rng);
    frame.truncate(14 + rng.next_u32() as usize % (frame.len() - 14));
    frame
}

fn mutated(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut frame = any(rng);
    for _ in 0..1 + rng.next_u32() % 4 {
        let at = rng.next_u32() as usize % frame.len();
        frame[at] = rng.next_u32() as u8;
    }
    frame
}

#[test]
fn a_syn_flood_shuts_nobody_out_and_costs_no_memory() {
    let mut flooded = endure(syn, 1);
    let stats = *flooded.bench.server.stack.stats();
    assert_eq!(flooded.bench.server.stack.census().half_open, 512, "half of the queue");
    assert_eq!(stats.cookies_sent + stats.syns, SENT + 200 + 1, "every SYN has its answer");
    assert!(stats.cookies_accepted >= 190 && stats.cookies_refused == 0, "{stats:?}");
    flooded.pass(Duration::from_secs(11));
    assert_eq!(flooded.bench.server.stack.census().half_open, 0);
    flooded.end();
}

#[test]
fn guessed_cookies_open_nothing() {
    let mut flooded = endure(syn, 2);
    let before = *flooded.bench.server.stack.stats();
    flooded.run(|rng| frame_from(&segment(rng, ACK | PSH).with(b"get key\r\n"), stranger(rng)));
    let after = *flooded.bench.server.stack.stats();
    assert_eq!(after.cookies_refused - before.cookies_refused, SENT);
    assert_eq!(after.opened - before.opened, 200, "those of the honest client");
    flooded.end();
}

#[test]
fn a_flood_of_rsts_and_of_syns_on_a_live_connection_stops_nobody() {
    endure(|rng| spoofed(rng, RST | ACK), 3).end();
    endure(|rng| spoofed(rng, SYN), 4).end();
}

#[test]
fn a_flood_of_solicitations_stops_nobody() {
    let flooded = endure(solicitation, 5);
    assert!(flooded.bench.drops(DropReason::NdpNotOurs) > SENT * 4 / 10, "those for others' addresses");
    flooded.end();
}

#[test]
fn a_flood_of_advertisements_stops_nobody_and_teaches_nothing() {
    let flooded = endure(advertisement, 6);
    // The first that was claimed, drawn again.
    let (somebody, _) = nobody(&mut Xoshiro256PlusPlus::seed_from_u64(6));
    assert!(flooded.bench.server.stack.neighbor(somebody).is_none());
    flooded.end();
}

#[test]
fn a_flood_of_claims_of_the_clients_address_moves_no_flow() {
    let flooded = endure(claim, 7);
    assert_eq!(flooded.bench.server.stack.stats().flows_moved, 0);
    flooded.end();
}

#[test]
fn a_flood_of_stations_that_have_our_address_stops_nobody_and_is_not_fought() {
    let flooded = endure(conflict, 8);
    let stack = &flooded.bench.server.stack;
    assert!(stack.conflict().is_some_and(|(address, _)| address == US));
    assert_eq!(flooded.bench.drops(DropReason::AddressConflict), SENT);
    flooded.end();
}

#[test]
fn a_flood_of_routers_that_are_none_stops_nobody() {
    endure(router_advertisement, 9).end();
}

#[test]
fn a_flood_of_redirects_stops_nobody_and_moves_no_flow() {
    let flooded = endure(redirect, 10);
    assert_eq!(flooded.bench.drops(DropReason::IcmpRedirect), SENT);
    assert_eq!(flooded.bench.server.stack.stats().flows_moved, 0);
    flooded.end();
}

#[test]
fn a_flood_of_pings_stops_nobody_and_few_are_answered() {
    let flooded = endure(ping, 11);
    let answered = flooded.bench.server.stack.stats().echo_replies;
    assert!((1_000..=1_100).contains(&answered), "{answered}");
    flooded.end();
}

#[test]
fn a_flood_of_fragments_stops_nobody() {
    endure(fragment, 12).end();
}

#[test]
fn a_flood_of_options_for_each_hop_stops_nobody() {
    endure(hop_by_hop, 13).end();
}

#[test]
fn a_flood_of_datagrams_stops_nobody() {
    endure(garbage, 14).end();
}

#[test]
fn a_flood_of_cut_frames_stops_nobody() {
    endure(cut, 15).end();
}

#[test]
fn a_flood_of_mutated_frames_stops_nobody() {
    endure(mutated, 16).end();
}
