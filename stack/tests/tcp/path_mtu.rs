//! A router between the peer and us, whose next link takes shorter packets than ours: it says so, sometimes, or says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use etherparse::{Icmpv4Type, PacketBuilder, icmpv4::DestUnreachableHeader};
use sidestep_stack::{DropReason, StackConfig};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, SYN, Tcp};
use crate::lab::{self, App, OWN, PEER, US, config, pattern};

/// Where the router has its end of our link.
const ROUTER: [u8; 4] = [10, 77, 0, 254];

/// What a router does with packets that are too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Router {
    /// It says so of each.
    Tells,
    /// It says so of every third, as one that limits its messages.
    TellsSome,
    /// It says so and names no length.
    NamesNothing,
    /// It says nothing.
    Silent,
}

/// Numbers that follow from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// The message of the router about a frame of ours.
fn too_long(frame: &[u8], mtu: u16) -> Vec<u8> {
    let header = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    let mut message = Vec::new();
    PacketBuilder::ethernet2(PEER.0, OWN.0)
        .ipv4(ROUTER, US.octets(), 64)
        .icmpv4(Icmpv4Type::DestinationUnreachable(header))
        .write(&mut message, &frame[14..42])
        .expect("written to memory");
    message
}

/// A client behind the router, which takes what comes, in whatever order, and acknowledges it.
struct Client {
    port: u16,
    /// Our next sequence number as it expects it, the next of its own, and where our data began.
    next: u32,
    seq: u32,
    first: u32,
    apart: BTreeMap<usize, Vec<u8>>,
    fin: Option<usize>,
    longest: usize,
}

impl Client {
    fn open(bench: &mut Bench, port: u16, window: u16) -> (Self, Vec<Vec<u8>>) {
        let mut syn = Tcp::new(port, SYN, 100, 0);
        (syn.mss, syn.window) = (Some(1_460), window);
        let answer = bench.one(&syn);
        let next = answer.seq.wrapping_add(1);
        let client = Self { port, next, seq: 101, first: next, apart: BTreeMap::new(), fin: None, longest: 0 };
        let frames = bench.frame(&client.ack(window).frame());
        (client, frames)
    }

    fn ack(&self, window: u16) -> Tcp {
        let mut ack = Tcp::new(self.port, ACK, self.seq, self.next);
        ack.window = window;
        ack
    }

    /// Takes a segment. Returns whether all is there, FIN included.
    fn take(&mut self, frame: &[u8]) -> bool {
        let segment = Tcp::read(frame);
        self.longest = self.longest.max(frame.len() - 14);
        let at = segment.seq.wrapping_sub(self.first) as usize;
        for (i, &byte) in segment.data.iter().enumerate() {
            assert_eq!(byte, pattern(at + i), "byte {} is wrong", at + i);
        }
        if segment.flags & FIN != 0 {
            self.fin = Some(at + segment.data.len());
        }
        self.apart.entry(at).or_default().resize(segment.data.len(), 0);
        let mut next = self.next.wrapping_sub(self.first) as usize;
        for (&at, data) in &self.apart {
            if at <= next {
                next = next.max(at + data.len());
            }
        }
        let whole = self.fin == Some(next);
        self.next = self.first.wrapping_add((next + usize::from(whole)) as u32);
        whole
    }
}

/// A client that has asked, and the frame of 1,500 bytes that answers it.
fn answered(bench: &mut Bench, port: u16) -> (Client, Vec<u8>) {
    let (mut client, frames) = Client::open(bench, port, 40_000);
    assert!(frames.is_empty());
    let data: Vec<u8> = (0..1_460).map(pattern).collect();
    let frames = bench.frame(&client.ack(40_000).with(&data).frame());
    client.seq = client.seq.wrapping_add(1_460);
    assert_eq!(frames.iter().map(|frame| frame.len() - 14).collect::<Vec<_>>(), [1_500]);
    (client, frames.into_iter().next().expect("one"))
}

/// Sends `total` bytes from the stack through a router whose link takes `mtu`, and returns how long it took.
fn blast(config: StackConfig, router: Router, mtu: usize, total: usize, seed: u64) -> (Bench, Duration, Client) {
    let window = 40_000;
    let mut bench = Bench::with(config, App::Blast(total));
    let mut numbers = Numbers(seed);
    let (mut client, mut frames) = Client::open(&mut bench, 5_000, window);
    let begin = bench.wire.clock().now();
    let (mut whole, mut long) = (false, 0);
    for _ in 0..100_000 {
        if whole {
            break;
        }
        let mut answers = Vec::new();
        for frame in std::mem::take(&mut frames) {
            if frame[12..14] == [8, 6] {
                continue;
            }
            if frame.len() - 14 <= mtu {
                whole |= client.take(&frame);
                continue;
            }
            long += 1;
            match router {
                Router::Tells => answers.push(too_long(&frame, mtu as u16)),
                Router::TellsSome if long % 3 == 1 => answers.push(too_long(&frame, mtu as u16)),
                Router::TellsSome => {}
                Router::NamesNothing => answers.push(too_long(&frame, 0)),
                Router::Silent => {}
            }
        }
        answers.push(client.ack(window).frame());
        while !answers.is_empty() {
            let answer = answers.swap_remove(numbers.below(answers.len()));
            frames.extend(bench.frame(&answer));
        }
        bench.wire.clock().advance(Duration::from_millis(1));
        frames.extend(bench.turn());
    }
    assert!(
        whole,
        "{router:?}, MTU {mtu}, seed {seed}: {} of {total} bytes came",
        client.next.wrapping_sub(client.first)
    );
    let took = bench.wire.clock().now() - begin;
    (bench, took, client)
}

fn with_rings(bytes: usize) -> StackConfig {
    let mut config = config();
    config.conn_memory = bytes;
    config
}

#[test]
fn bytes_pass_a_router_of_any_mtu_in_packets_as_long_as_it_takes() {
    for seed in 1..=20_u64 {
        let mtu = 552 + Numbers(seed).below(949);
        for router in [Router::Tells, Router::TellsSome, Router::NamesNothing] {
            let (bench, took, client) = blast(with_rings(16 << 20), router, mtu, 200_000, seed);
            assert!(client.longest <= mtu, "seed {seed}");
            let stats = bench.server.poll.stack().stats();
            if mtu < 1_500 {
                assert!(stats.path_mtus_lowered > 0 && stats.rings_failed == 0, "seed {seed}: {stats:?}");
                assert_eq!(bench.drops(DropReason::IcmpOther), 0, "seed {seed}");
            }
            if router == Router::Tells && mtu < 1_500 {
                assert_eq!((client.longest, stats.path_mtus_lowered), (mtu, 1), "seed {seed}");
                assert!(took < Duration::from_millis(150), "no timer was needed; seed {seed}: {took:?}");
            }
        }
    }
}

/// RFC 8899 §4.3: a black hole.
#[test]
fn a_router_that_says_nothing_is_passed_in_short_packets() {
    for seed in 1..=10_u64 {
        let mtu = 576 + Numbers(seed).below(924);
        let (bench, took, client) = blast(with_rings(16 << 20), Router::Silent, mtu, 60_000, seed);
        let stats = bench.server.poll.stack().stats();
        assert!(client.longest <= mtu, "seed {seed}");
        assert_eq!((stats.path_mtus_lowered, stats.path_mtu_holes), (0, 1), "seed {seed}");
        assert!(took < Duration::from_millis(1_500), "seed {seed}: {took:?}");
    }
}

/// A way that is only down for a second is used in full length soon after.
#[test]
fn a_way_that_was_down_is_used_in_full_length_again() {
    let mut bench = Bench::new(App::Echo);
    let (mut client, sent) = answered(&mut bench, 5_000);
    let lost = bench.wait(Duration::from_secs(1));
    assert!(lost.iter().any(|segment| segment.data.len() == 536), "{lost:?}");
    assert_eq!(bench.server.poll.stack().stats().path_mtu_holes, 1);
    client.take(&sent);
    assert_eq!(bench.tcp(&client.ack(40_000)), []);
    bench.wait(Duration::from_secs(3));
    let data = vec![0; 1_460];
    let answer = bench.tcp(&client.ack(40_000).with(&data));
    assert_eq!(answer.iter().map(|segment| segment.data.len()).collect::<Vec<_>>(), [1_460]);
}

/// 6,000 bytes fit the ring, so that the connection closes with all of them in flight.
#[test]
fn what_a_closing_connection_has_in_flight_comes_again_too() {
    for seed in 1..=20 {
        let (bench, _, client) = blast(config(), Router::Tells, 1_000, 6_000, seed);
        assert_eq!(client.longest, 1_000, "seed {seed}");
        assert_eq!(bench.server.poll.stack().stats().path_mtus_lowered, 1);
    }
}

#[test]
fn a_message_for_a_flow_of_another_core_is_passed_on_and_believed_there() {
    let mut other = config();
    other.peers = 1;
    let mut home = Bench::with(other.clone(), App::Echo);
    let mut stranger = Bench::with(other, App::Echo);
    let (_, sent) = answered(&mut home, 5_000);
    let message = too_long(&sent, 1_400);
    assert!(stranger.frame(&message).is_empty());
    let mut passed = Vec::new();
    assert!(stranger.server.poll.stack_mut().next_stray(|frame, hops| passed.push((frame.to_vec(), hops))));
    assert_eq!(stranger.drops(DropReason::Stray), 1);
    let (mut frame, hops) = passed.pop().expect("one was passed on");
    let now = home.now();
    home.server.take_stray(now, &mut frame, hops);
    let again: Vec<usize> = home.turn().iter().map(|frame| frame.len() - 14).collect();
    assert_eq!(again, [1_400, 140], "the segment again, in two");
    // One that no core has a flow for goes round once.
    let mut unknown = too_long(&Tcp::new(9, ACK, 1, 1).with(&[0; 1_460]).frame(), 1_400);
    unknown[34 + 8 + 12..34 + 8 + 16].copy_from_slice(&US.octets());
    let sum = lab::odd::sum(&[&unknown[34..36], &[0, 0], &unknown[38..]]);
    unknown[36..38].copy_from_slice(&sum);
    let now = home.now();
    home.server.take_stray(now, &mut unknown, 1);
    assert_eq!(home.drops(DropReason::IcmpOther), 1);
    assert_eq!(home.server.poll.stack().census().strays, 0);
}

/// RFC 5927 §7.2: who guesses must hit what is in flight, and what it says must be possible.
#[test]
fn guesses_about_a_flow_change_nothing_and_are_counted() {
    let mut bench = Bench::new(App::Echo);
    let (_, sent) = answered(&mut bench, 5_000);
    let mut blind = 0;
    for (byte, value) in [(38, 0x80), (38, 0x01), (40, 0x40)] {
        let mut quoted = sent.clone();
        quoted[byte] ^= value;
        assert!(bench.frame(&too_long(&quoted, 1_000)).is_empty());
        blind += 1;
        assert_eq!(bench.drops(DropReason::IcmpBlind), blind);
    }
    for mtu in [1_501, 1_500, u16::MAX] {
        assert!(bench.frame(&too_long(&sent, mtu)).is_empty());
        blind += 1;
        assert_eq!(bench.drops(DropReason::IcmpBlind), blind, "MTU {mtu}");
    }
    assert_eq!(bench.server.poll.stack().stats().path_mtus_lowered, 0);
    assert!(!bench.frame(&too_long(&sent, 1_000)).is_empty());
    assert_eq!(bench.drops(DropReason::IcmpTooLong), 1);
}

/// A flow that is told again and again is sent again only where its packets become shorter.
#[test]
fn a_flood_of_messages_that_are_true_draws_few_packets() {
    let mut bench = Bench::new(App::Echo);
    let (client, sent) = answered(&mut bench, 5_000);
    let mut drawn = 0;
    for _ in 0..10_000 {
        drawn += bench.frame(&too_long(&sent, 600)).len();
    }
    assert_eq!(drawn, 3, "1,460 bytes in segments of 560");
    assert_eq!(bench.drops(DropReason::IcmpTooLong), 10_000);
    assert_eq!(bench.tcp(&Tcp { ack: client.first.wrapping_add(1_460), ..client.ack(40_000) }), []);
}
