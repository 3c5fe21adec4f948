//! Single frames, made by hand: what the stack says to each.

use std::time::Duration;

use nic::{PortConfig, QueueId, Wire};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{CloseReason, DropReason, Interest, Rings, Token};

use crate::lab::bench::{Bench, is_arp};
use crate::lab::family::port;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::{App, Server, config};

#[test]
fn only_an_exact_rst_closes_and_another_is_challenged() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    assert_eq!(bench.tcp(&Tcp::new(5_000, RST, 101 + 5_000, 0)), [], "outside the window");
    let challenge = bench.one(&Tcp::new(5_000, RST, 102, 0));
    assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, next, 101));
    assert_eq!(bench.tcp(&Tcp::new(5_000, RST, 102, 0)), [], "challenges are limited");
    assert_eq!(bench.drops(DropReason::RstNotExact), 3);
    assert_eq!(bench.tcp(&Tcp::new(5_000, RST, 101, 0)), []);
    assert_eq!(bench.server.closed.iter().map(|c| c.1).collect::<Vec<_>>(), [CloseReason::Reset]);
    bench.server.assert_nothing_left();
}

#[test]
fn a_rebooted_client_is_challenged_resets_and_connects() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    let challenge = bench.one(&Tcp::new(5_000, SYN, 9_999_999, 0));
    assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, next, 101));
    // The client knows of no connection: it resets exactly what was acknowledged.
    assert_eq!(bench.tcp(&Tcp::new(5_000, RST, challenge.ack, 0)), []);
    bench.open(5_000, 9_999_999);
    assert_eq!(bench.server.opened, 2);
}

#[test]
fn an_ack_without_an_answer_waits_five_milliseconds() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    assert_eq!(bench.tcp(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"half a request")), []);
    bench.wire.clock().advance(Duration::from_micros(4_900));
    assert_eq!(bench.turn(), Vec::<Vec<u8>>::new());
    bench.wire.clock().advance(Duration::from_micros(1_200));
    let acks: Vec<_> = bench.turn().iter().map(|frame| Tcp::read(frame)).collect();
    assert_eq!(acks.iter().map(|ack| (ack.flags, ack.ack, ack.window)).collect::<Vec<_>>(), [(ACK, 115, 4_082)]);
}

#[test]
fn an_answer_that_is_lost_is_sent_again_after_two_hundred_milliseconds() {
    let mut bench = Bench::new(App::Echo);
    let next = bench.open(5_000, 100);
    let first = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"get k\r\n"));
    assert_eq!(bench.wait(Duration::from_millis(195)), []);
    assert_eq!(bench.wait(Duration::from_millis(10)), [first]);
}

#[test]
fn level_interest_reports_as_long_as_bytes_wait() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    let &id = bench.server.flows.keys().next().expect("it is open");
    bench.tcp(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"two"));
    let now = bench.now();
    let poll = &mut bench.server.poll;
    assert!(!poll.has_work(), "an edge is told once");
    poll.register(id, Token(0), Interest::READABLE | Interest::LEVEL);
    for _ in 0..3 {
        poll.poll(now).expect("a wire is never gone");
        let event = poll.next_event().expect("bytes wait");
        assert_eq!((event.flow(), event.is_readable(), event.is_writable()), (id, true, false));
        assert_eq!(poll.flow(id).expect("it is open").recv_queue(), 3);
    }
    poll.flow(id).expect("it is open").recv(|bytes| (bytes.len(), ()));
    poll.poll(now).expect("a wire is never gone");
    assert_eq!(poll.next_event(), None);
}

#[test]
fn data_behind_an_older_ack_is_taken() {
    let mut bench = Bench::new(App::Echo);
    let next = bench.open(5_000, 100);
    let echo = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"first"));
    assert_eq!(echo.data, b"first");
    // An ACK overtakes the data that was sent before it.
    assert_eq!(bench.tcp(&Tcp::new(5_000, ACK, 112, next + 5)), []);
    let echo = bench.one(&Tcp::new(5_000, ACK | PSH, 106, next).with(b"second"));
    assert_eq!((&echo.data[..], echo.ack), (&b"second"[..], 112));
    assert_eq!(bench.server.poll.stack().stats().acks_raised, 1);
}

#[test]
fn an_ack_from_beyond_the_ring_acknowledges() {
    let mut config = config();
    config.conn_memory = 4 << 20;
    let mut bench = Bench::with(config, App::Echo);
    let next = bench.open(5_000, 100);
    assert_eq!(bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"get k\r\n")).data, b"get k\r\n");
    // What the peer has sent since is lost; it was told that so much may come.
    let ahead = 108 + 30_000;
    assert_eq!(bench.tcp(&Tcp::new(5_000, ACK, ahead, next.wrapping_add(7))), []);
    assert_eq!(bench.wait(Duration::from_secs(5)), [], "the answer has arrived and is not sent again");
    assert_eq!(bench.server.poll.stack().stats().retransmission_timeouts, 0);
}

#[test]
fn a_fin_behind_what_a_half_open_flow_has_no_room_for_is_not_taken() {
    let mut config = config();
    (config.rings, config.conn_memory) = (Rings::CHOICES[0], 4 << 20);
    let room = config.rings.rx;
    let mut bench = Bench::with(config, App::HalfClose);
    let syn_ack = bench.one(&Tcp::new(5_000, SYN, 100, 0));
    // The ACK of it is lost; the first segment carries all that there is, and more than the ring takes.
    let data: Vec<u8> = (0..1_300).map(|i| i as u8).collect();
    let all = Tcp::new(5_000, ACK | FIN | PSH, 101, syn_ack.seq.wrapping_add(1)).with(&data);
    for _ in 0..5 {
        bench.tcp(&all);
    }
    assert_eq!(bench.server.received.len(), data.len(), "{room} bytes had room at first");
    assert_eq!(bench.server.received, data);
    assert!(bench.server.flows.is_empty(), "the end was seen after all of it");
}

#[test]
fn a_stray_finds_its_core_and_the_last_core_answers_what_nobody_knows() {
    let mut both = config();
    both.peers = 1;
    let (mut home, mut other) = (Bench::with(both.clone(), App::Echo), Bench::with(both, App::Echo));
    let next = home.open(5_000, 100);
    // The client's RST comes by the other core's queue.
    let pass = |from: &mut Bench, to: &mut Bench| {
        let mut offered = Vec::new();
        let took = from.server.poll.stack_mut().next_stray(|frame, hops| offered.push((frame.to_vec(), hops)));
        for (mut frame, hops) in offered {
            let now = to.now();
            to.server.take_stray(now, &mut frame, hops);
        }
        took
    };
    assert_eq!(other.tcp(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"lost")), []);
    assert!(pass(&mut other, &mut home));
    let echo = home.turn();
    assert_eq!(Tcp::read(&echo[0]).data, b"lost");
    assert_eq!(other.tcp(&Tcp::new(5_000, RST, 105, 0)), []);
    assert!(pass(&mut other, &mut home));
    home.turn();
    assert_eq!(home.server.closed.len(), 1);
    // Known to nobody: the last core answers, once.
    assert_eq!(other.tcp(&Tcp::new(7_000, ACK, 1, 77)), []);
    assert!(pass(&mut other, &mut home));
    let answers = home.turn();
    assert_eq!((answers.len(), Tcp::read(&answers[0]).flags), (1, RST));
    assert!(!pass(&mut home, &mut other) && !pass(&mut other, &mut home));
    home.server.assert_nothing_left();
    other.server.assert_nothing_left();
}

#[test]
fn strays_are_bounded() {
    let mut two = config();
    two.peers = 1;
    let mut bench = Bench::with(two, App::Echo);
    for _ in 0..500 {
        assert_eq!(bench.tcp(&Tcp::new(7_000, ACK, 1, 77)), []);
    }
    assert_eq!(bench.drops(DropReason::Stray) + bench.drops(DropReason::StrayRate), 500);
    assert_eq!(bench.server.poll.stack().census().strays, 64);
}

#[test]
fn an_application_that_waits_is_not_told_too_early() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    let &id = bench.server.flows.keys().next().expect("it is open");
    let now = bench.now();
    let poll = &mut bench.server.poll;
    let mut flow = poll.flow(id).expect("it is open");
    assert_eq!(flow.send_slice(&[1; 8_192]), 8_192);
    assert_eq!(flow.send_room(), 0);
    poll.register(id, Token(77), Interest::EDGE);
    poll.send(now).expect("a wire is never gone");
    bench.turn();
    // A quarter is acknowledged: not yet half of the ring, as it wants. Then half is.
    bench.server.app = App::Deaf;
    for (acked, writable) in [(1_024, false), (4_096, true)] {
        let now = bench.now();
        bench.send(&Tcp::new(5_000, ACK, 101, next.wrapping_add(acked)).frame());
        let poll = &mut bench.server.poll;
        poll.take_in(now);
        let told = poll.next_event().map(|event| (event.is_writable(), event.token()));
        assert_eq!(told, writable.then_some((true, Token(77))), "{acked}");
        poll.send(now).expect("a wire is never gone");
        bench.turn();
    }
}

/// A segment of any flags from a peer whose next number is about `our`, of a server whose next is about `their`.
fn nonsense(rng: &mut Xoshiro256PlusPlus, port: u16, (their, our): (u32, u32)) -> Tcp {
    let near = |base: u32, rng: &mut Xoshiro256PlusPlus| match rng.next_u32() % 4 {
        0 => rng.next_u32(),
        1 => base.wrapping_add(rng.next_u32() % 3_000).wrapping_sub(1_500),
        _ => base,
    };
    let mut segment = Tcp::new(5_000 + port, 0, near(our, rng), near(their, rng));
    segment.flags = [SYN, ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | ACK, ACK, ACK, ACK | PSH]
        [(rng.next_u32() % 10) as usize];
    segment.window = [0, 1, 500, 65_535][(rng.next_u32() % 4) as usize];
    segment.data = vec![7; [0, 1, 300, 1_400][(rng.next_u32() % 4) as usize]];
    segment
}

/// Segments that make no sense over a few connections that do: nothing panics, nothing leaks, and who behaves is served.
#[test]
fn nonsense_harms_nobody() {
    let seed = 9_293;
    println!("seed {seed}");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut few = config();
    few.max_flows = 12;
    few.handshake_timeout = Duration::from_millis(500);
    let mut bench = Bench::with(few, App::Echo);
    let mut next = bench.open(900, 1);
    let mut seq = 2u32;
    let mut heard = [(1u32, 1u32); 8];
    for round in 0..20_000u32 {
        let port = (rng.next_u32() % 8) as u16;
        let (their, our) = heard[usize::from(port)];
        let segment = nonsense(&mut rng, port, (their, our));
        bench.send(&segment.frame());
        bench.turn_with(|frame| {
            if is_arp(frame) {
                return;
            }
            let answer = Tcp::read(frame);
            if let Some(place) = answer.peer_port.checked_sub(5_000) {
                let end =
                    answer.seq.wrapping_add(answer.data.len() as u32 + u32::from(answer.flags & (SYN | FIN) != 0));
                heard[usize::from(place)] = (end, answer.ack);
            }
        });
        if round % 20 == 0 {
            bench.wire.clock().advance(Duration::from_millis(u64::from(rng.next_u32() % 300)));
            // Whatever the others are told meanwhile is theirs.
            bench.turn_with(|_| ());
            bench.send(&Tcp::new(900, ACK | PSH, seq, next).with(b"sane").frame());
            let mut echoed = 0;
            bench.turn_with(|frame| echoed += u32::from(!is_arp(frame) && Tcp::read(frame).data == b"sane"));
            assert_eq!(echoed, 1, "round {round}");
            (seq, next) = (seq + 4, next.wrapping_add(4));
        }
    }
    let stats = *bench.server.poll.stack().stats();
    println!("{stats:?}");
    assert_eq!(stats.contained, 0);
    assert!(stats.opened > 20 && stats.resets > 5, "some of it did make sense");
    bench.tcp(&Tcp::new(900, RST, seq, 0));
    bench.wait(Duration::from_secs(400));
    let left = bench.server.flows.keys().copied().collect::<Vec<_>>();
    for id in left {
        bench.server.poll.flow(id).expect("it is open").abort();
        bench.server.flows.remove(&id);
    }
    bench.wait(Duration::from_secs(400));
    bench.server.assert_nothing_left();
}

#[test]
fn without_frames_flows_wait_and_nothing_is_lost() {
    let (wire, ours, theirs) = Wire::pair(
        port(PortConfig { frames: 20, rx_ring: 8, tx_ring: 4, ..PortConfig::default() }),
        port(PortConfig::default()),
        1,
    )
    .expect("a wire");
    let server = Server::new(config(), vec![ours.take_queue(QueueId(0)).expect("opened once")], App::Blast(40_000));
    let mut bench = Bench::on(wire, server, theirs.take_queue(QueueId(0)).expect("opened once"));
    let mut got = 0;
    let syn = bench.one(&Tcp { mss: Some(536), ..Tcp::new(5_000, SYN, 1, 0) });
    let mut next = syn.seq.wrapping_add(1);
    let mut answers = bench.tcp(&Tcp::new(5_000, ACK, 2, next));
    for _ in 0..10_000 {
        if got == 40_000 {
            break;
        }
        for answer in answers.drain(..) {
            if answer.seq == next {
                got += answer.data.len();
                next = next.wrapping_add(answer.data.len() as u32);
            }
        }
        answers = bench.tcp(&Tcp::new(5_000, ACK, 2, next));
    }
    assert_eq!(got, 40_000);
    assert!(bench.server.poll.stack().stats().parked > 0, "frames did run out");
}

#[test]
fn data_behind_the_peers_fin_is_not_taken() {
    let mut bench = Bench::new(App::Deaf);
    let next = bench.open(5_000, 100);
    bench.tcp(&Tcp::new(5_000, ACK | FIN, 101, next).with(b"all"));
    let &id = bench.server.flows.keys().next().expect("it is open");
    for (seq, data) in [(105, &b"more"[..]), (104, b"xmore"), (101, b"allxmore"), (106, b"ore")] {
        let answer = bench.one(&Tcp::new(5_000, ACK | PSH, seq, next).with(data));
        assert_eq!((answer.flags, answer.ack), (ACK, 105), "{seq}");
        let flow = bench.server.poll.flow(id).expect("it is open");
        assert!(flow.peer_closed() && flow.recv_queue() == 3, "{} bytes", flow.recv_queue());
    }
}
