//! Floods: 100,000 frames a second of a stranger's, for a second of virtual time. Old connections of others are answered
//! in the turn in which they ask, new ones open, and nothing grows.

#[path = "lab/lab.rs"]
mod lab;

use std::time::Duration;

use etherparse::PacketBuilder;
use lab::arp::{REPLY, REQUEST, arp};
use lab::bench::Bench;
use lab::odd::{sum, sum_ip};
use lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use lab::{App, OWN, PEER, PORT, THEM, US, config};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{DropReason, Mac};

/// Frames of the flood between two looks at the honest clients, and how often that is in the second.
const AT_ONCE: usize = 50;
const LOOKS: usize = 2_000;
const STEP: Duration = Duration::from_micros(500);
/// Turns in which so many frames, and those of the honest clients, are taken in.
const TURNS: usize = 2;
/// Turns that all of it may take until the server has nothing to do: SYNs are answered eight a turn.
const MOST_TURNS: usize = 100;
/// Looks between two new connections of an honest client.
const OPENS_EVERY: usize = 10;

const OLD_PORT: u16 = 4_000;

/// A frame of a flood.
type Flood = fn(&mut Xoshiro256PlusPlus) -> Vec<u8>;

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

/// A host that is flooded, and an honest client beside.
struct Flooded {
    bench: Bench,
    rng: Xoshiro256PlusPlus,
    /// Of the old connection: the client's next sequence number, and the server's.
    old: (u32, u32),
    next_port: u16,
}

impl Flooded {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let mut config = config();
        // So that no block need be made meanwhile.
        config.flows_at_start = 1_024;
        let mut bench = Bench::with(config, App::Echo);
        let next = bench.open(OLD_PORT, 1);
        Self { bench, rng: Xoshiro256PlusPlus::seed_from_u64(seed), old: (2, next), next_port: 20_000 }
    }

    /// Some frames of the flood, then `segment` of the honest client; what the client is sent.
    fn ask(&mut self, flood: Option<Flood>, segment: &Tcp) -> Vec<Tcp> {
        if let Some(flood) = flood {
            for _ in 0..AT_ONCE {
                let frame = flood(&mut self.rng);
                self.bench.send(&frame);
            }
        }
        self.bench.send(&segment.frame());
        let mut answers = Vec::new();
        for _ in 0..TURNS {
            self.bench.turn_with(|frame| {
                if frame[12..14] == [8, 0] && frame[23] == 6 && frame[30..34] == THEM.octets() {
                    let answer = Tcp::read(frame);
                    if answer.peer_port == segment.peer_port {
                        answers.push(answer);
                    }
                }
            });
        }
        answers
    }

    /// A request on the old connection is answered at once.
    fn old_is_served(&mut self, flood: Option<Flood>) {
        let (seq, ack) = self.old;
        let answers = self.ask(flood, &Tcp::new(OLD_PORT, ACK | PSH, seq, ack).with(b"get key\r\n"));
        let echo = answers.iter().find(|answer| !answer.data.is_empty());
        assert_eq!(echo.map(|echo| (echo.seq, &echo.data[..])), Some((ack, &b"get key\r\n"[..])), "{answers:?}");
        self.old = (seq.wrapping_add(9), ack.wrapping_add(9));
    }

    /// A new connection opens, asks and ends. Returns the answer to its SYN.
    fn new_is_served(&mut self, flood: Option<Flood>) -> Tcp {
        let port = self.next_port;
        self.next_port += 1;
        let mut syn = Tcp::new(port, SYN, 100, 0);
        syn.mss = Some(1_460);
        let answers = self.ask(flood, &syn);
        assert_eq!(answers.len(), 1, "{answers:?}");
        let syn_ack = answers[0].clone();
        assert_eq!((syn_ack.flags, syn_ack.ack, syn_ack.mss), (SYN | ACK, 101, Some(1_460)));
        let next = syn_ack.seq.wrapping_add(1);
        assert_eq!(self.ask(flood, &Tcp::new(port, ACK, 101, next)), []);
        let echo = self.ask(flood, &Tcp::new(port, ACK | PSH, 101, next).with(b"get key\r\n"));
        assert_eq!(echo.iter().map(|answer| &answer.data[..]).collect::<Vec<_>>(), [b"get key\r\n"]);
        let next = next.wrapping_add(9);
        let fin = self.ask(flood, &Tcp::new(port, ACK | FIN, 110, next));
        assert!(fin.iter().any(|answer| answer.flags & FIN != 0), "{fin:?}");
        assert_eq!(self.ask(flood, &Tcp::new(port, ACK, 111, next.wrapping_add(1))), []);
        syn_ack
    }

    /// Time passes, nothing being unacknowledged.
    fn pass(&mut self, span: Duration) {
        let (seq, ack) = self.old;
        assert_eq!(self.ask(None, &Tcp::new(OLD_PORT, ACK, seq, ack)), []);
        self.bench.wait(span);
    }

    /// The rest of the turns of a look: the server turns on while it has work, which takes it a small part of the time
    /// between two looks.
    fn go_on(&mut self) {
        for _ in 0..MOST_TURNS {
            if !self.bench.server.stack.has_work() {
                return;
            }
            self.bench.turn_with(|_| {});
        }
        panic!("the server has work for more than {MOST_TURNS} turns");
    }

    /// A second of the flood.
    fn run(&mut self, flood: Flood) {
        for look in 0..LOOKS {
            self.bench.wire.clock().advance(STEP);
            self.old_is_served(Some(flood));
            self.go_on();
            if look % OPENS_EVERY == 0 {
                self.new_is_served(None);
            }
        }
    }

    /// All is as before the flood: at once, and, when the last handshake has timed out, without a trace.
    fn end(mut self) {
        self.old_is_served(None);
        self.new_is_served(None);
        self.pass(Duration::from_secs(31));
        let (seq, ack) = self.old;
        let fin = self.bench.one(&Tcp::new(OLD_PORT, ACK | FIN, seq, ack));
        assert_eq!(fin.flags & FIN, FIN);
        self.bench.tcp(&Tcp::new(OLD_PORT, ACK, seq.wrapping_add(1), ack.wrapping_add(1)));
        self.bench.server.assert_nothing_left();
    }
}

/// A second of `flood`, beside honest clients; returns the host then.
fn endure(flood: Flood, seed: u64) -> Flooded {
    let mut flooded = Flooded::new(seed);
    let before = flooded.bench.server.stack.census();
    flooded.run(flood);
    let after = flooded.bench.server.stack.census();
    assert_eq!((after.blocks, after.open), (before.blocks, 1), "memory grew, or a connection of nobody is there");
    flooded
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
    let mut flooded = Flooded::new(13);
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
    let mut flooded = Flooded::new(14);
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
