//! Floods: 100,000 frames a second of a stranger's or a hostile neighbour's, for a second of virtual time, over either family.
//! Old connections of others are answered in the turn in which they ask, new ones open, no table grows, and what is dropped is
//! dropped for its reason.

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use sidestep_stack::DropReason;

use crate::lab::flooded::{AT_ONCE, Family, Flood, Flooded, LOOKS, OLD_PORT, endure_over};
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::strangers::{self, spoofed, syn};

/// Frames of each flood.
const SENT: u64 = (AT_ONCE * LOOKS) as u64;

/// A second of `flood` over each family, beside honest clients, and what the host is like then.
fn endure(flood: Flood, seed: u64, look: impl Fn(Family, &Flooded)) {
    for family in Family::BOTH {
        println!("{family:?}");
        let flooded = endure_over(family, flood, seed);
        look(family, &flooded);
        flooded.end();
    }
}

/// The same, which leaves nothing to be looked at.
fn survive(flood: Flood, seed: u64) {
    endure(flood, seed, |_, _| {});
}

/// The same over IPv6 alone.
fn survive_ipv6(flood: Flood, seed: u64) {
    endure_over(Family::V6, flood, seed).end();
}

fn draw(flooded: &mut Flooded, flood: Flood) -> Vec<u8> {
    flood(flooded.family, &mut flooded.rng)
}

#[test]
fn a_syn_flood_shuts_nobody_out_and_costs_no_memory() {
    for family in Family::BOTH {
        let mut flooded = endure_over(family, syn, 1);
        let stats = *flooded.bench.server.poll.stack().stats();
        let census = flooded.bench.server.poll.stack().census();
        assert_eq!(census.half_open, 512, "half of the queue");
        assert_eq!(stats.cookies_sent + stats.syns, SENT + 200 + 1, "every SYN has its answer");
        assert_eq!(stats.drops.of(DropReason::SynQueueFull) + stats.drops.of(DropReason::NoFreeFlow), 0);
        assert!(stats.cookies_accepted >= 190 && stats.cookies_refused == 0, "{stats:?}");
        // The queue is as full as before, for nobody has waited; so the next connection is one of a cookie.
        flooded.new_is_served(None);
        assert_eq!(flooded.bench.server.poll.stack().stats().cookies_accepted, stats.cookies_accepted + 1);
        // When the handshakes of the flood have timed out, there are no cookies.
        flooded.pass(Duration::from_secs(11));
        assert_eq!(flooded.bench.server.poll.stack().census().half_open, 0);
        flooded.new_is_served(None);
        assert_eq!(flooded.bench.server.poll.stack().stats().cookies_sent, stats.cookies_sent + 1);
        flooded.end();
    }
}

/// How many SYN-ACKs are among `frames`.
fn syn_acks(frames: &[Vec<u8>]) -> usize {
    frames.iter().filter(|frame| Tcp::read(frame).flags == SYN | ACK).count()
}

/// To send may be far dearer than to receive: an answer must not wait for those to a whole burst of SYNs.
#[test]
fn a_request_behind_a_burst_of_syns_is_answered_before_them_and_they_a_few_a_turn() {
    for family in Family::BOTH {
        let mut flooded = Flooded::new(family, 13);
        while flooded.bench.server.poll.stack().census().half_open < 512 {
            let frame = draw(&mut flooded, syn);
            flooded.bench.frame(&frame);
        }
        for _ in 0..AT_ONCE {
            let frame = draw(&mut flooded, syn);
            flooded.bench.send(&frame);
        }
        let (seq, ack) = flooded.old;
        let request = Tcp::new(OLD_PORT, ACK | PSH, seq, ack).with(b"get key\r\n");
        let frames = flooded.bench.frame(&request.frame_from(family.them()));
        assert_eq!(Tcp::read(&frames[0]).data, b"get key\r\n");
        let mut answered = syn_acks(&frames);
        assert_eq!(answered, 8);
        for _ in 1..AT_ONCE.div_ceil(8) {
            assert!(flooded.bench.server.poll.stack().has_work(), "a core that sleeps answers nobody");
            let frames = flooded.bench.turn();
            assert!(syn_acks(&frames) <= 8);
            answered += syn_acks(&frames);
        }
        assert_eq!((answered, flooded.bench.server.poll.stack().has_work()), (AT_ONCE, false));
    }
}

/// Where more come than eight a turn, as many are answered as come.
#[test]
fn syns_that_come_faster_than_a_few_a_turn_are_all_answered() {
    for family in Family::BOTH {
        let mut flooded = Flooded::new(family, 14);
        let mut sent = 0;
        for _ in 0..100 {
            for _ in 0..AT_ONCE {
                let frame = draw(&mut flooded, syn);
                flooded.bench.send(&frame);
                sent += 1;
            }
            flooded.bench.turn_with(|_| {});
        }
        flooded.go_on();
        let stats = flooded.bench.server.poll.stack().stats();
        // The connection that there is has sent one too.
        assert_eq!((stats.syns - 1, stats.cookies_sent, stats.drops.total()), (512, sent - 512, 0));
        flooded.new_is_served(None);
    }
}

#[test]
fn guessed_cookies_open_nothing() {
    for family in Family::BOTH {
        let mut flooded = endure_over(family, syn, 2);
        let before = *flooded.bench.server.poll.stack().stats();
        flooded.run(strangers::guess);
        let after = *flooded.bench.server.poll.stack().stats();
        assert_eq!(after.cookies_refused - before.cookies_refused, SENT);
        assert_eq!(after.opened - before.opened, 200, "those of the honest client");
        flooded.end();
    }
}

#[test]
fn a_flood_of_acks_stops_nobody() {
    survive(|family, rng| spoofed(family, rng, ACK), 3);
}

#[test]
fn a_flood_of_rsts_stops_nobody() {
    survive(|family, rng| spoofed(family, rng, RST | ACK), 4);
}

#[test]
fn a_flood_of_fins_stops_nobody() {
    survive(|family, rng| spoofed(family, rng, FIN | ACK), 5);
}

#[test]
fn a_flood_of_syns_on_a_live_connection_and_others_stops_nobody() {
    survive(|family, rng| spoofed(family, rng, SYN), 6);
}

#[test]
fn a_flood_of_fragments_stops_nobody() {
    survive(strangers::fragment, 7);
}

#[test]
fn a_flood_of_questions_for_addresses_stops_nobody() {
    endure(strangers::question, 8, |family, flooded| {
        let reason = if family == Family::V4 { DropReason::ArpNotOurs } else { DropReason::NdpNotOurs };
        let dropped = flooded.bench.drops(reason);
        assert!(dropped > SENT * 4 / 10, "those for others' addresses: {dropped}");
    });
}

#[test]
fn a_flood_of_answers_stops_nobody_and_teaches_nothing() {
    endure(strangers::answer, 9, |family, flooded| {
        // The first that was said, drawn again.
        let frame = strangers::answer(family, &mut Xoshiro256PlusPlus::seed_from_u64(9));
        let somebody = match family {
            Family::V4 => <[u8; 4]>::try_from(&frame[28..32]).expect("four").into(),
            Family::V6 => std::net::IpAddr::from(<[u8; 16]>::try_from(&frame[62..78]).expect("sixteen")),
        };
        assert_eq!(flooded.bench.server.poll.stack().neighbor(somebody), None);
    });
}

#[test]
fn a_flood_of_claims_of_the_clients_address_moves_no_flow() {
    endure(strangers::claim, 10, |_, flooded| {
        assert_eq!(flooded.bench.server.poll.stack().stats().flows_moved, 0);
    });
}

#[test]
fn a_flood_of_stations_that_have_our_address_stops_nobody_and_is_not_fought() {
    endure(strangers::conflict, 11, |family, flooded| {
        let stack = flooded.bench.server.poll.stack();
        assert!(stack.conflict().is_some_and(|(address, _)| address == family.us()));
        assert_eq!(flooded.bench.drops(DropReason::AddressConflict), SENT);
        let stats = stack.stats();
        assert!(stats.arp_requests < 10 && stats.solicitations < 10, "{stats:?}");
    });
}

#[test]
fn a_flood_of_redirects_stops_nobody_and_moves_no_flow() {
    endure(strangers::redirect, 12, |_, flooded| {
        assert_eq!(flooded.bench.drops(DropReason::IcmpRedirect), SENT);
        assert_eq!(flooded.bench.server.poll.stack().stats().flows_moved, 0);
    });
}

#[test]
fn a_flood_of_pings_stops_nobody_and_few_are_answered() {
    endure(strangers::ping, 13, |_, flooded| {
        let answered = flooded.bench.server.poll.stack().stats().echo_replies;
        assert!((1_000..=1_100).contains(&answered), "{answered}");
    });
}

#[test]
fn a_flood_of_datagrams_stops_nobody() {
    survive(strangers::garbage, 14);
}

#[test]
fn a_flood_of_cut_frames_stops_nobody() {
    survive(strangers::cut, 15);
}

#[test]
fn a_flood_of_mutated_frames_stops_nobody() {
    survive(strangers::mutated, 16);
}

#[test]
fn a_flood_of_routers_that_are_none_stops_nobody() {
    survive_ipv6(strangers::router_advertisement, 17);
}

#[test]
fn a_flood_of_options_for_each_hop_stops_nobody() {
    survive_ipv6(strangers::hop_by_hop, 18);
}

/// As many as are told of anything (RFC 4443 §2.4 (f)).
#[test]
fn a_flood_of_packets_with_faults_stops_nobody_and_of_few_their_senders_are_told() {
    let flooded = endure_over(Family::V6, strangers::problem, 19);
    let told = flooded.bench.server.poll.stack().stats().parameter_problems;
    assert!((1_000..=1_100).contains(&told), "{told}");
    flooded.end();
}
