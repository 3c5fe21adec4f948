//! Floods: 100,000 frames a second of a stranger's, for a second of virtual time. Old connections of others are answered
//! in the turn in which they ask, new ones open, and nothing grows.

#[path = "lab/lab.rs"]
mod lab;

use std::time::Duration;

use etherparse::PacketBuilder;
use lab::arp::{REPLY, REQUEST, arp};
use lab::flooded::{AT_ONCE, Family, Flood, Flooded, LOOKS, OLD_PORT, endure_over};
use lab::odd::{sum, sum_ip};
use lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use lab::{OWN, PEER, PORT, THEM, US};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use sidestep_stack::{DropReason, Mac};

/// An address that is nobody's here.
fn stranger(rng: &mut Xoshiro256PlusPlus) -> [u8; 4] {
    let [a, b, c, _] = rng.next_u32().to_be_bytes();
    [10, 128 | a, b, c]
}

/// A segment with these flags and with numbers that nobody knows.
fn segment(rng: &mut Xoshiro256PlusPlus, flags: u8) -> Tcp {
    Tcp::new(1_024 | rng.next_u32() as u16, flags, rng.next_u32(), rng.next_u32())
}

/// The frame of such a segment: of a stranger, or, one in four, on the honest client's old connection.
fn spoofed(rng: &mut Xoshiro256PlusPlus, flags: u8) -> Vec<u8> {
    let mut spoofed = segment(rng, flags);
    if rng.next_u32().is_multiple_of(4) {
        spoofed.peer_port = OLD_PORT;
        return spoofed.frame();
    }
    spoofed.frame_from(stranger(rng))
}

fn syn(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    segment(rng, SYN).frame_from(stranger(rng))
}

fn fragment(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut frame = segment(rng, SYN).with(&[7; 24]).frame_from(stranger(rng));
    // More fragments, at any place, of any packet; the sum is put right.
    let [identification, place] = [rng.next_u32() as u16, rng.next_u32() as u16 & 0x1fff | 0x2000];
    frame[18..20].copy_from_slice(&identification.to_be_bytes());
    frame[20..22].copy_from_slice(&place.to_be_bytes());
    sum_ip(&mut frame[14..34]);
    frame
}

fn arp_packet(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let [a, b, c, host] = rng.next_u32().to_be_bytes();
    let sender = std::net::Ipv4Addr::new(10, 77, 0, 3 + host % 250);
    let operation = if a & 1 == 0 { REQUEST } else { REPLY };
    arp(operation, (sender, Mac([2, 9, 9, a, b, c])), US)
}

/// A station that says it has our address, of us, of the honest client, or of nobody.
fn conflict(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let [a, b, c, kind] = rng.next_u32().to_be_bytes();
    let operation = if a & 1 == 0 { REQUEST } else { REPLY };
    let target = [US, THEM, std::net::Ipv4Addr::UNSPECIFIED][usize::from(kind % 3)];
    arp(operation, (US, Mac([2, 9, 9, a, b, c])), target)
}

/// A redirect of the honest client's old connection, or of one that there is not, by whoever it may be said to come from.
fn redirect(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut quoted = segment(rng, ACK);
    if rng.next_u32().is_multiple_of(2) {
        quoted.peer_port = OLD_PORT;
    }
    // As it came; a redirect quotes what was sent.
    let quoted = quoted.frame();
    let mut frame = segment(rng, ACK).with(&[0; 16]).frame_from(stranger(rng));
    frame[23] = 1;
    let (ip, message) = frame[14..].split_at_mut(20);
    message[..4].copy_from_slice(&[5, 1, 0, 0]);
    message[4..8].copy_from_slice(&stranger(rng));
    message[8..36].copy_from_slice(&quoted[14..42]);
    message[20..24].copy_from_slice(&US.octets());
    message[24..28].copy_from_slice(&THEM.octets());
    let right = sum(&[&*message]);
    message[2..4].copy_from_slice(&right);
    sum_ip(ip);
    frame
}

fn ping(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(PEER.0, OWN.0)
        .ipv4(stranger(rng), US.octets(), 64)
        .icmpv4_echo_request(rng.next_u32() as u16, 1)
        .write(&mut frame, &[1; 32])
        .expect("written to memory");
    frame
}

fn datagram(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut garbage = [0; 64];
    rng.fill_bytes(&mut garbage);
    let port = if garbage[0] & 1 == 0 { PORT } else { rng.next_u32() as u16 };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(PEER.0, OWN.0)
        .ipv4(stranger(rng), US.octets(), 64)
        .udp(1_024 | rng.next_u32() as u16, port)
        .write(&mut frame, &garbage)
        .expect("written to memory");
    frame
}

/// Any of the others.
fn any(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    match rng.next_u32() % 6 {
        0 => syn(rng),
        1 => segment(rng, ACK | PSH).with(b"get key\r\n").frame_from(stranger(rng)),
        2 => fragment(rng),
        3 => arp_packet(rng),
        4 => ping(rng),
        _ => datagram(rng),
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

/// A second of `flood`, beside honest clients; returns the host then.
fn endure(flood: Flood, seed: u64) -> Flooded {
    endure_over(Family::V4, flood, seed)
}

#[test]
fn a_syn_flood_shuts_nobody_out_and_costs_no_memory() {
    let mut flooded = endure(syn, 1);
    let stats = *flooded.bench.server.stack.stats();
    let census = flooded.bench.server.stack.census();
    assert_eq!(census.half_open, 512, "half of the queue");
    assert_eq!(stats.cookies_sent + stats.syns, 100_000 + 200 + 1, "every SYN has its answer");
    assert_eq!(stats.drops.of(DropReason::SynQueueFull) + stats.drops.of(DropReason::NoFreeFlow), 0);
    assert!(stats.cookies_accepted >= 190 && stats.cookies_refused == 0, "{stats:?}");
    // The queue is as full as before, for nobody has waited; so the next connection is one of a cookie.
    flooded.new_is_served(None);
    assert_eq!(flooded.bench.server.stack.stats().cookies_accepted, stats.cookies_accepted + 1);
    // When the handshakes of the flood have timed out, there are no cookies.
    flooded.pass(Duration::from_secs(11));
    assert_eq!(flooded.bench.server.stack.census().half_open, 0);
    flooded.new_is_served(None);
    assert_eq!(flooded.bench.server.stack.stats().cookies_sent, stats.cookies_sent + 1);
    flooded.end();
}

/// How many SYN-ACKs are among `frames`.
fn syn_acks(frames: &[Vec<u8>]) -> usize {
    frames.iter().filter(|frame| Tcp::read(frame).flags == SYN | ACK).count()
}

/// To send may be far dearer than to receive: an answer must not wait for those to a whole burst of SYNs.
#[test]
fn a_request_behind_a_burst_of_syns_is_answered_before_them_and_they_a_few_a_turn() {
    let mut flooded = Flooded::new(Family::V4, 13);
    while flooded.bench.server.stack.census().half_open < 512 {
        let frame = syn(&mut flooded.rng);
        flooded.bench.frame(&frame);
    }
    for _ in 0..AT_ONCE {
        let frame = syn(&mut flooded.rng);
        flooded.bench.send(&frame);
    }
    let (seq, ack) = flooded.old;
    let frames = flooded.bench.frame(&Tcp::new(OLD_PORT, ACK | PSH, seq, ack).with(b"get key\r\n").frame());
    assert_eq!(Tcp::read(&frames[0]).data, b"get key\r\n");
    let mut answered = syn_acks(&frames);
    assert_eq!(answered, 8);
    for _ in 1..AT_ONCE.div_ceil(8) {
        assert!(flooded.bench.server.stack.has_work(), "a core that sleeps answers nobody");
        let frames = flooded.bench.turn();
        assert!(syn_acks(&frames) <= 8);
        answered += syn_acks(&frames);
    }
    assert_eq!((answered, flooded.bench.server.stack.has_work()), (AT_ONCE, false));
}

/// Where more come than eight a turn, as many are answered as come.
#[test]
fn syns_that_come_faster_than_a_few_a_turn_are_all_answered() {
    let mut flooded = Flooded::new(Family::V4, 14);
    let mut sent = 0;
    for _ in 0..100 {
        for _ in 0..AT_ONCE {
            let frame = syn(&mut flooded.rng);
            flooded.bench.send(&frame);
            sent += 1;
        }
        flooded.bench.turn_with(|_| {});
    }
    flooded.go_on();
    let stats = flooded.bench.server.stack.stats();
    // The connection that there is has sent one too.
    assert_eq!((stats.syns - 1, stats.cookies_sent, stats.drops.total()), (512, sent - 512, 0));
    flooded.new_is_served(None);
}

#[test]
fn guessed_cookies_open_nothing() {
    let mut flooded = endure(syn, 2);
    let before = *flooded.bench.server.stack.stats();
    flooded.run(|rng| segment(rng, ACK | PSH).with(b"get key\r\n").frame_from(stranger(rng)));
    let after = *flooded.bench.server.stack.stats();
    assert_eq!(after.cookies_refused - before.cookies_refused, 100_000);
    assert_eq!(after.opened - before.opened, 200, "those of the honest client");
    flooded.end();
}

#[test]
fn a_flood_of_acks_stops_nobody() {
    endure(|rng| spoofed(rng, ACK), 3).end();
}

#[test]
fn a_flood_of_rsts_stops_nobody() {
    endure(|rng| spoofed(rng, RST | ACK), 4).end();
}

#[test]
fn a_flood_of_fins_stops_nobody() {
    endure(|rng| spoofed(rng, FIN | ACK), 5).end();
}

#[test]
fn a_flood_of_syns_on_a_live_connection_and_others_stops_nobody() {
    endure(|rng| spoofed(rng, SYN), 6).end();
}

#[test]
fn a_flood_of_fragments_stops_nobody() {
    endure(fragment, 7).end();
}

#[test]
fn a_flood_of_arp_packets_stops_nobody() {
    endure(arp_packet, 8).end();
}

#[test]
fn a_flood_of_stations_that_have_our_address_stops_nobody_and_is_not_fought() {
    let flooded = endure(conflict, 13);
    let stack = &flooded.bench.server.stack;
    assert!(stack.conflict().is_some_and(|(address, _)| address == std::net::IpAddr::V4(US)));
    assert_eq!(flooded.bench.drops(DropReason::AddressConflict), (AT_ONCE * LOOKS) as u64);
    assert!(stack.stats().arp_requests < 10, "{:?}", stack.stats());
    flooded.end();
}

#[test]
fn a_flood_of_redirects_stops_nobody_and_moves_no_flow() {
    let flooded = endure(redirect, 14);
    assert_eq!(flooded.bench.drops(DropReason::IcmpRedirect), (AT_ONCE * LOOKS) as u64);
    assert_eq!(flooded.bench.server.stack.stats().flows_moved, 0);
    flooded.end();
}

#[test]
fn a_flood_of_pings_stops_nobody_and_few_are_answered() {
    let flooded = endure(ping, 9);
    let answered = flooded.bench.server.stack.stats().echo_replies;
    assert!((1_000..=1_100).contains(&answered), "{answered}");
    flooded.end();
}

#[test]
fn a_flood_of_datagrams_stops_nobody() {
    endure(datagram, 10).end();
}

#[test]
fn a_flood_of_cut_frames_stops_nobody() {
    endure(cut, 11).end();
}

#[test]
fn a_flood_of_mutated_frames_stops_nobody() {
    endure(mutated, 12).end();
}
