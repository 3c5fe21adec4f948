//! Active opens, frame by frame: the handshake, every way in which there is none, source ports, neighbours.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Type, PacketBuilder, icmpv4::DestUnreachableHeader};
use nic::{QueueId, Rss};
use sidestep_stack::{CloseReason, Connect, ConnectError, DropReason, FlowId, StackConfig, Token};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::{App, OWN, PEER, PORT, THEM, US, config};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(THEM), 80);

fn bench() -> Bench {
    Bench::new(App::Record)
}

fn connect(bench: &mut Bench, connect: &Connect) -> Result<FlowId, ConnectError> {
    let now = bench.now();
    bench.server.poll.connect(now, connect, |_| true)
}

/// A connection to the server, whose Ethernet address is given.
fn known() -> Connect {
    let mut connect = Connect::to(SERVER);
    connect.mac = Some(PEER);
    connect.token = Token(77);
    connect
}

/// Begins a connection and returns its SYN.
fn syn(bench: &mut Bench, wanted: &Connect) -> (FlowId, Tcp) {
    let id = connect(bench, wanted).expect("nothing is in the way");
    let frames = bench.turn();
    assert_eq!(frames.len(), 1, "{frames:?}");
    let syn = Tcp::read(&frames[0]);
    assert_eq!((syn.flags, syn.peer_port, syn.ack), (SYN, 80, 0));
    (id, syn)
}

/// A segment of the server to the flow of `syn`.
fn answer(syn: &Tcp, flags: u8, seq: u32, ack: u32) -> Tcp {
    Tcp { our_port: syn.our_port, ..Tcp::new(80, flags, seq, ack) }
}

/// Opens a connection whose server begins at `seq`. Returns the SYN that did it.
fn open(bench: &mut Bench, wanted: &Connect, seq: u32) -> (FlowId, Tcp) {
    let (id, syn) = syn(bench, wanted);
    let ack = bench.one(&answer(&syn, SYN | ACK, seq, syn.seq.wrapping_add(1)));
    assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, syn.seq.wrapping_add(1), seq.wrapping_add(1)));
    assert!(bench.server.events.pop().is_some_and(|event| event.flow() == id && event.is_new()));
    (id, syn)
}

/// What was reported of the one flow, which must be its end and nothing else.
#[track_caller]
fn only_end(bench: &mut Bench, id: FlowId) -> CloseReason {
    let events = std::mem::take(&mut bench.server.events);
    let [event] = events[..] else { panic!("{events:?}") };
    assert_eq!((event.flow(), event.is_new(), event.token()), (id, false, Token(77)));
    assert!(bench.server.poll.flow(id).is_none(), "its id is dead");
    event.closed().expect("it has ended")
}

fn arp(operation: u8, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(OWN.0);
    frame.extend(PEER.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(PEER.0);
    frame.extend(from.octets());
    frame.extend(OWN.0);
    frame.extend(to.octets());
    frame
}

fn is_arp_request(frame: &[u8], wanted: Ipv4Addr) -> bool {
    frame[..6] == [0xff; 6] && frame[12..14] == [8, 6] && frame[21] == 1 && frame[38..42] == wanted.octets()
}

/// Checks that nothing is left once TIME-WAIT records are forgotten.
fn finish(mut bench: Bench) {
    for _ in 0..100 {
        bench.wire.clock().advance(Duration::from_secs(2));
        bench.turn();
    }
    assert_eq!(bench.server.poll.stack().census().time_wait, 0);
    bench.server.assert_nothing_left();
}

#[test]
fn a_connection_is_opened_used_and_closed() {
    let mut bench = bench();
    let (id, syn) = syn(&mut bench, &known());
    assert_eq!((syn.mss, syn.window), (Some(1_460), 4_096));
    assert!(syn.our_port >= 49_152);
    let census = bench.server.poll.stack().census();
    assert_eq!((census.connecting, census.half_open, census.open), (1, 0, 0));
    // Nothing can be written yet.
    assert_eq!(bench.server.poll.flow(id).expect("it is there").send_slice(b"early"), 0);
    let next = syn.seq.wrapping_add(1);
    let ack = bench.one(&answer(&syn, SYN | ACK, 900, next));
    assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, next, 901));
    let event = bench.server.events.pop().expect("it is told");
    assert_eq!((event.flow(), event.is_new(), event.closed(), event.token()), (id, true, None, Token(77)));
    let mut flow = bench.server.poll.flow(id).expect("it is there");
    assert_eq!((flow.peer(), flow.local()), (SERVER, SocketAddrV4::new(US, syn.our_port).into()));
    assert_eq!(flow.send_slice(b"request"), 7);
    let sent = bench.turn();
    let request = Tcp::read(&sent[0]);
    assert_eq!((request.data.as_slice(), request.seq, request.ack), (&b"request"[..], next, 901));
    bench.tcp(&answer(&syn, ACK | PSH, 901, next.wrapping_add(7)).with(b"reply"));
    assert!(bench.server.events.pop().is_some_and(|event| event.is_readable()));
    let mut flow = bench.server.poll.flow(id).expect("it is there");
    assert_eq!(flow.recv(|bytes| (bytes.len(), bytes.to_vec())), b"reply");
    flow.close();
    let fin = Tcp::read(&bench.turn()[0]);
    assert_eq!((fin.flags & FIN, fin.ack), (FIN, 906));
    let last = bench.one(&answer(&syn, FIN | ACK, 906, fin.seq.wrapping_add(1)));
    assert_eq!((last.flags, last.ack), (ACK, 907));
    let stats = *bench.server.poll.stack().stats();
    assert_eq!((stats.connects, stats.connected, stats.opened, stats.finished, stats.syns), (1, 1, 1, 1, 0));
    assert_eq!((bench.server.poll.stack().census().time_wait, stats.time_waits), (1, 1));
    finish(bench);
}

#[test]
fn an_exact_rst_refuses_and_no_other() {
    let mut bench = bench();
    let (id, syn) = syn(&mut bench, &known());
    let next = syn.seq.wrapping_add(1);
    for wrong in [answer(&syn, RST, next, 0), answer(&syn, RST | ACK, 0, syn.seq), answer(&syn, RST | ACK, 0, next + 1)]
    {
        assert_eq!(bench.tcp(&wrong), []);
    }
    assert!(bench.server.events.is_empty());
    assert_eq!(bench.tcp(&answer(&syn, RST | ACK, 0, next)), []);
    assert_eq!(only_end(&mut bench, id), CloseReason::Refused);
    assert_eq!((bench.server.poll.stack().stats().connects_refused, bench.drops(DropReason::RstNotExact)), (1, 3));
    finish(bench);
}

#[test]
fn a_host_that_is_not_there_is_unreachable_after_three_requests() {
    let mut bench = bench();
    let mut wanted = known();
    wanted.mac = None;
    let first = connect(&mut bench, &wanted).expect("nothing is in the way");
    let second = connect(&mut bench, &wanted).expect("nothing is in the way");
    let mut requests = Vec::new();
    for tick in 0..310u64 {
        for frame in bench.turn() {
            assert!(is_arp_request(&frame, THEM), "{frame:02x?}");
            assert_eq!((&frame[6..12], &frame[28..32]), (&OWN.0[..], &US.octets()[..]));
            requests.push(tick * 10);
        }
        bench.wire.clock().advance(Duration::from_millis(10));
    }
    assert_eq!(requests, [0, 1_000, 2_000]);
    let ended: Vec<_> = bench.server.events.drain(..).map(|event| (event.flow(), event.closed())).collect();
    assert_eq!(ended, [(first, Some(CloseReason::Unreachable)), (second, Some(CloseReason::Unreachable))]);
    let stats = *bench.server.poll.stack().stats();
    assert_eq!((stats.connects_unreachable, stats.arp_requests), (2, 3));
    finish(bench);
}

#[test]
fn an_arp_answer_lets_all_that_wait_go_on_at_once() {
    let mut bench = bench();
    for _ in 0..5 {
        let mut wanted = known();
        wanted.mac = None;
        connect(&mut bench, &wanted).expect("nothing is in the way");
    }
    let requests = bench.turn();
    assert!(requests.len() == 1 && is_arp_request(&requests[0], THEM), "{requests:02x?}");
    assert_eq!(bench.server.poll.stack().next_deadline(bench.now()), Some(Duration::from_millis(1_000)));
    // Another host's answer is no answer.
    assert_eq!(bench.frame(&arp(2, Ipv4Addr::new(10, 77, 0, 9), US)).len(), 0);
    let syns = bench.frame(&arp(2, THEM, US));
    assert_eq!(syns.iter().filter(|frame| Tcp::read(frame).flags == SYN && frame[..6] == PEER.0).count(), 5);
    // Now it is known, and asked no more.
    assert_eq!(connect(&mut bench, &Connect::to(SERVER)).map(|_| bench.turn().len()), Ok(1));
    bench.wait(Duration::from_secs(20));
    assert_eq!(bench.server.poll.stack().stats().connects_timed_out, 6);
    finish(bench);
}

#[test]
fn a_silent_host_times_out_after_syns_that_back_off_and_its_address_is_forgotten() {
    let mut bench = bench();
    bench.frame(&arp(1, THEM, US));
    let mut wanted = known();
    wanted.mac = None;
    let id = connect(&mut bench, &wanted).expect("nothing is in the way");
    let mut syns = Vec::new();
    for tick in 0..1_010u64 {
        for frame in bench.turn() {
            let segment = Tcp::read(&frame);
            assert_eq!(segment.flags, SYN, "no RST, and the same SYN again");
            syns.push((tick * 10, segment.seq));
        }
        bench.wire.clock().advance(Duration::from_millis(10));
    }
    assert!(syns.iter().all(|&(_, seq)| seq == syns[0].1));
    let times: Vec<u64> = syns.iter().map(|&(at, _)| at).collect();
    assert!((5..=8).contains(&times.len()), "{times:?}");
    assert!(times.windows(3).all(|w| w[2] - w[1] >= (w[1] - w[0]) * 3 / 2), "{times:?}");
    assert_eq!(only_end(&mut bench, id), CloseReason::TimedOut);
    assert_eq!(bench.server.poll.stack().neighbor(THEM), None);
    finish(bench);
}

#[test]
fn an_ack_of_something_else_is_answered_with_rst_and_the_handshake_goes_on() {
    let mut bench = bench();
    let (id, syn) = syn(&mut bench, &known());
    for stranger in [answer(&syn, ACK, 5, 1_234), answer(&syn, SYN | ACK, 5, 1_234), answer(&syn, FIN | ACK, 5, 1_234)]
    {
        let rst = bench.one(&stranger);
        assert_eq!((rst.flags, rst.seq), (RST, 1_234));
    }
    assert_eq!(bench.drops(DropReason::AckOfNoSyn), 3);
    // The right number, but no SYN: nothing to say.
    assert_eq!(bench.tcp(&answer(&syn, ACK, 5, syn.seq.wrapping_add(1)).with(b"data")), []);
    assert_eq!(bench.drops(DropReason::NotSynAck), 1);
    bench.one(&answer(&syn, SYN | ACK, 900, syn.seq.wrapping_add(1)));
    assert!(bench.server.events.pop().is_some_and(|event| event.flow() == id && event.is_new()));
}

#[test]
fn a_syn_that_crosses_ours_is_answered_with_syn_ack_and_establishes_nothing() {
    let mut bench = bench();
    let (id, syn) = syn(&mut bench, &known());
    let syn_ack = bench.one(&answer(&syn, SYN, 900, 0));
    assert_eq!((syn_ack.flags, syn_ack.seq, syn_ack.ack), (SYN | ACK, syn.seq, 901));
    assert_eq!(bench.drops(DropReason::SynCrossed), 1);
    // A stranger's, who guesses the ports.
    assert_eq!(bench.one(&answer(&syn, SYN, 7_000, 0)).ack, 7_001);
    assert!(bench.server.events.is_empty());
    // It has got ours, and answers it.
    let ack = bench.one(&answer(&syn, SYN | ACK, 900, syn.seq.wrapping_add(1)));
    assert_eq!((ack.flags, ack.ack), (ACK, 901));
    assert!(bench.server.events.pop().is_some_and(|event| event.flow() == id && event.is_new()));
}

#[test]
fn a_repeated_syn_ack_gets_the_ack_again_and_an_exact_rst_resets() {
    let mut bench = bench();
    let (id, syn) = open(&mut bench, &known(), 900);
    let next = syn.seq.wrapping_add(1);
    let again = bench.one(&answer(&syn, SYN | ACK, 900, next));
    assert_eq!((again.flags, again.seq, again.ack), (ACK, next, 901));
    assert_eq!(bench.drops(DropReason::SynRepeated), 1);
    bench.tcp(&answer(&syn, RST, 901, 0));
    assert_eq!(only_end(&mut bench, id), CloseReason::Reset);
    finish(bench);
}

#[test]
fn opened_and_reset_in_one_turn_is_told_as_both() {
    let mut bench = bench();
    let (id, syn) = syn(&mut bench, &known());
    let next = syn.seq.wrapping_add(1);
    bench.send(&answer(&syn, SYN | ACK, 900, next).frame());
    bench.send(&answer(&syn, RST, 901, 0).frame());
    bench.turn();
    let events = std::mem::take(&mut bench.server.events);
    let [event] = events[..] else { panic!("{events:?}") };
    assert_eq!((event.flow(), event.is_new(), event.closed()), (id, true, Some(CloseReason::Reset)));
    finish(bench);
}

fn icmp(code: DestUnreachableHeader, syn: &Tcp, seq: u32) -> Vec<u8> {
    let quoted = Tcp { seq, ..syn.clone() };
    let mut inner = Vec::new();
    let tcp = PacketBuilder::ipv4(US.octets(), THEM.octets(), 64).tcp(quoted.our_port, 80, quoted.seq, 1).syn();
    tcp.write(&mut inner, &[]).expect("written to memory");
    let mut frame = Vec::new();
    let outer = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4([10, 77, 0, 254], US.octets(), 64);
    let message = outer.icmpv4(Icmpv4Type::DestinationUnreachable(code));
    message.write(&mut frame, &inner[..28]).expect("written to memory");
    frame
}

#[test]
fn icmp_ends_a_connection_under_way_if_it_knows_the_isn_and_an_open_one_never() {
    let mut bench = bench();
    let cases = [
        (DestUnreachableHeader::Host, CloseReason::Unreachable),
        (DestUnreachableHeader::FilterProhibited, CloseReason::Unreachable),
        (DestUnreachableHeader::Port, CloseReason::Refused),
    ];
    for (code, reason) in cases {
        let (id, syn) = syn(&mut bench, &known());
        bench.frame(&icmp(code.clone(), &syn, syn.seq.wrapping_add(1)));
        bench.frame(&icmp(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 576 }, &syn, syn.seq));
        assert!(bench.server.events.is_empty());
        bench.frame(&icmp(code, &syn, syn.seq));
        assert_eq!(only_end(&mut bench, id), reason);
    }
    let (_, syn) = open(&mut bench, &known(), 900);
    bench.frame(&icmp(DestUnreachableHeader::Host, &syn, syn.seq));
    assert!(bench.server.events.is_empty());
    assert_eq!((bench.drops(DropReason::IcmpUnreachable), bench.drops(DropReason::IcmpOther)), (3, 4));
    assert_eq!(bench.drops(DropReason::IcmpBlind), 3, "no SYN is too long");
    // An echo request is still answered.
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4(THEM.octets(), US.octets(), 64);
    let echo = builder.icmpv4(Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 1, seq: 1 }));
    echo.write(&mut ping, b"x").expect("written to memory");
    assert_eq!(bench.frame(&ping).len(), 1);
}

fn one_port() -> StackConfig {
    let mut config = config();
    config.ephemeral_ports = (50_000, 50_000);
    config
}

#[test]
fn a_source_port_in_time_wait_is_taken_over_after_a_second_with_a_higher_isn() {
    let mut bench = Bench::with(one_port(), App::Record);
    let mut after = None;
    for round in 0..20u32 {
        let (id, syn) = open(&mut bench, &known(), round * 1_000);
        assert_eq!(syn.our_port, 50_000);
        if let Some(after) = after {
            assert!(syn.seq.wrapping_sub(after) as i32 > 0, "{} is not above {after}", syn.seq);
        }
        let in_use = ConnectError::NoFreePort { tried: 1, remote: SERVER };
        assert_eq!(connect(&mut bench, &known()), Err(in_use));
        bench.server.poll.flow(id).expect("it is there").close();
        let fin = Tcp::read(&bench.turn()[0]);
        bench.one(&answer(&syn, FIN | ACK, round * 1_000 + 1, fin.seq.wrapping_add(1)));
        after = Some(fin.seq.wrapping_add(1));
        bench.wire.clock().advance(Duration::from_millis(990));
        assert_eq!(connect(&mut bench, &known()), Err(in_use));
        bench.wire.clock().advance(Duration::from_millis(10));
    }
    let stats = *bench.server.poll.stack().stats();
    assert_eq!((stats.time_waits, stats.time_waits_reused), (20, 19));
    finish(bench);
}

#[test]
fn a_peer_that_still_holds_the_earlier_connection_is_told_and_the_next_syn_opens() {
    let mut bench = Bench::with(one_port(), App::Record);
    let (id, old) = open(&mut bench, &known(), 100);
    bench.server.poll.flow(id).expect("it is there").close();
    let fin = Tcp::read(&bench.turn()[0]);
    // Its FIN is acknowledged, but that ACK is lost: it is in LAST-ACK.
    bench.one(&answer(&old, FIN | ACK, 101, fin.seq.wrapping_add(1)));
    bench.wire.clock().advance(Duration::from_secs(2));
    let (id, syn) = syn(&mut bench, &known());
    // A challenge ACK for the SYN (RFC 5961 §4.2).
    let rst = bench.one(&answer(&syn, ACK, 102, fin.seq.wrapping_add(1)));
    assert_eq!((rst.flags, rst.seq), (RST, fin.seq.wrapping_add(1)));
    let again = bench.wait(Duration::from_millis(400));
    assert_eq!(again.iter().map(|s| (s.flags, s.seq)).collect::<Vec<_>>(), [(SYN, syn.seq)]);
    bench.one(&answer(&syn, SYN | ACK, 5_000, syn.seq.wrapping_add(1)));
    assert!(bench.server.events.pop().is_some_and(|event| event.flow() == id && event.is_new()));
}

#[test]
fn every_source_port_is_used_before_the_error_says_what_to_do() {
    let mut config = config();
    config.ephemeral_ports = (PORT - 50, PORT + 49);
    config.addresses = 2;
    let mut bench = Bench::with(config, App::Record);
    let mut seen = HashSet::new();
    let error = loop {
        match connect(&mut bench, &known()) {
            Ok(id) => assert!(seen.insert(bench.server.poll.flow(id).expect("it is there").local())),
            Err(error) => break error,
        }
    };
    // Two addresses of a hundred ports, one of which is listened on.
    assert_eq!((seen.len(), error), (198, ConnectError::NoFreePort { tried: 200, remote: SERVER }));
    assert!(error.to_string().contains("more addresses"), "{error}");
    // Another server is another matter.
    let mut other = known();
    other.remote.set_port(81);
    assert!(connect(&mut bench, &other).is_ok());
}

#[test]
fn only_ports_that_come_home_are_taken() {
    let mut bench = bench();
    let rss = Rss::new(4);
    for queue in 0..4 {
        for _ in 0..50 {
            let now = bench.now();
            let home = |peer, own| rss.queue_for_flow(peer, own) == QueueId(queue);
            let id = bench.server.poll.connect(now, &known(), |key| home(key.peer(), key.own()));
            let flow = bench.server.poll.flow(id.expect("there are such ports")).expect("it is there");
            assert!(home(flow.peer(), flow.local()));
        }
    }
    let now = bench.now();
    let error = bench.server.poll.connect(now, &known(), |_| false);
    assert_eq!(error, Err(ConnectError::NoFreePort { tried: 16_384, remote: SERVER }));
}

#[test]
fn a_full_syn_queue_is_no_matter_to_active_opens_nor_they_to_it() {
    let mut config = config();
    config.syn_queue = 1;
    let mut bench = Bench::with(config, App::Record);
    bench.one(&Tcp::new(5_000, SYN, 1, 0));
    // Of which nothing is kept: it gets a cookie.
    bench.one(&Tcp::new(5_001, SYN, 1, 0));
    let flows: Vec<_> = (0..10).map(|_| connect(&mut bench, &known()).expect("nothing is in the way")).collect();
    assert_eq!(bench.turn().len(), 10);
    let census = bench.server.poll.stack().census();
    assert_eq!((census.half_open, census.connecting), (1, 10));
    for id in flows {
        bench.server.poll.flow(id).expect("it is there").abort();
    }
    // An abort in SYN-SENT says nothing (RFC 9293 §3.10.5).
    assert_eq!(bench.turn().len(), 0);
    assert_eq!(bench.server.poll.stack().stats().connects_cancelled, 10);
    finish(bench);
}

#[test]
fn what_cannot_be_tried_is_refused_at_once() {
    let mut config = config();
    config.max_flows = 2;
    config.flows_at_start = 1;
    let mut bench = Bench::with(config, App::Record);
    let mut wanted = known();
    for (address, port) in [(US, 80), (THEM, 0), (Ipv4Addr::BROADCAST, 80), (Ipv4Addr::LOCALHOST, 80)] {
        let remote = SocketAddrV4::new(address, port).into();
        wanted.remote = remote;
        assert_eq!(connect(&mut bench, &wanted), Err(ConnectError::Remote { remote }));
    }
    let remote = SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 1), 80).into();
    wanted.remote = remote;
    assert_eq!(connect(&mut bench, &wanted), Err(ConnectError::NoRoute { remote }));
    wanted = known();
    wanted.source = Some(THEM.into());
    assert_eq!(connect(&mut bench, &wanted), Err(ConnectError::Source { address: THEM.into() }));
    wanted = known();
    for port in [0, PORT] {
        wanted.source_port = Some(port);
        assert_eq!(connect(&mut bench, &wanted), Err(ConnectError::PortInUse { port, remote: SERVER }));
    }
    wanted.source_port = Some(5);
    assert!(connect(&mut bench, &wanted).is_ok());
    assert_eq!(connect(&mut bench, &known()), Err(ConnectError::NoBlockYet));
    bench.turn();
    assert!(connect(&mut bench, &known()).is_ok());
    assert_eq!(connect(&mut bench, &known()), Err(ConnectError::NoFreeFlow { max_flows: 2 }));
}

#[test]
fn cancelled_while_a_neighbour_is_asked_for_leaves_nothing() {
    let mut bench = bench();
    let mut wanted = known();
    wanted.mac = None;
    for round in 0..100 {
        let ids: Vec<_> = (0..20).map(|_| connect(&mut bench, &wanted).expect("nothing is in the way")).collect();
        bench.turn();
        for (number, id) in ids.into_iter().enumerate() {
            let flow = bench.server.poll.flow(id).expect("it is there");
            match (number + round) % 3 {
                0 => flow.close(),
                1 => flow.abort(),
                _ => bench.server.poll.shutdown(id),
            }
        }
        // Those that were shut down are reported in the next turn.
        bench.turn();
        bench.turn();
        bench.server.events.clear();
        let census = bench.server.poll.stack().census();
        assert!(bench.server.poll.flows() == 0 && census.waiting <= 20, "{census:?}");
    }
    finish(bench);
}

#[test]
fn beyond_the_subnet_frames_go_to_the_gateway() {
    let mut config = config();
    config.gateway = Some(THEM);
    let mut bench = Bench::with(config, App::Record);
    let far = Ipv4Addr::new(192, 0, 2, 1);
    let id = connect(&mut bench, &Connect::to(SocketAddrV4::new(far, 80))).expect("there is a way");
    let request = bench.turn();
    assert!(is_arp_request(&request[0], THEM));
    let frames = bench.frame(&arp(2, THEM, US));
    assert_eq!((&frames[0][..6], &frames[0][30..34]), (&PEER.0[..], &far.octets()[..]));
    let syn = Tcp::read(&frames[0]);
    bench.frame(&answer(&syn, SYN | ACK, 9, syn.seq.wrapping_add(1)).frame_from(far.octets()));
    assert!(bench.server.events.pop().is_some_and(|event| event.flow() == id && event.is_new()));
}

#[test]
fn a_stack_of_several_addresses_answers_and_connects_at_each() {
    let mut config = config();
    config.addresses = 3;
    config.ephemeral_ports = (50_000, 50_000);
    let mut bench = Bench::with(config, App::Record);
    let mut sources = HashSet::new();
    for _ in 0..3 {
        let (id, _) = syn(&mut bench, &known());
        sources.insert(bench.server.poll.flow(id).expect("it is there").local().ip());
    }
    let own = [2, 3, 4].map(|last| Ipv4Addr::new(10, 77, 0, last));
    assert_eq!(sources, own.map(Into::into).into());
    for address in own {
        let reply = bench.frame(&arp(1, THEM, address));
        assert_eq!((reply.len(), &reply[0][28..32]), (1, &address.octets()[..]));
    }
    assert_eq!(bench.frame(&arp(1, THEM, Ipv4Addr::new(10, 77, 0, 5))).len(), 0);
    // Our own addresses are nobody else's.
    let spoofed = Tcp::new(5_000, SYN, 1, 0).frame_from([10, 77, 0, 4]);
    assert_eq!((bench.frame(&spoofed).len(), bench.drops(DropReason::Land)), (0, 1));
}
