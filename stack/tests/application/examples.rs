//! The examples, as they are, on wires in memory: against smoltcp's ordinary interface, and against each other.
#![allow(clippy::duplicate_mod, reason = "each example brings what it needs to run by itself")]

#[path = "../../examples/client.rs"]
mod client;
#[path = "../../examples/echo_server.rs"]
mod echo_server;
#[path = "../../examples/proxy.rs"]
mod proxy;
#[path = "../../examples/udp_client.rs"]
mod udp_client;
#[path = "../../examples/udp_responder.rs"]
mod udp_responder;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use client::Client;
use nic::{PortConfig, Queue, QueueId, Wire, WirePort, WireQueue};
use proxy::Proxy;
use sidestep_stack::{CloseReason, Mac, NetStack, Poll, StackConfig, Time};
use smoltcp::socket::tcp::State;
use udp_client::UdpClient;
use udp_responder::Responder;

use crate::lab::station::Station;
use crate::lab::udp::{Udp, udp_config};
use crate::lab::{PEER, PORT, Peer, THEM, US, config, pattern, secrets};

/// Where the server behind the proxy is.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

fn poll_at(port: &WirePort, address: Ipv4Addr, mac: Mac, ports: &[u16]) -> Poll<WireQueue> {
    let mut config = StackConfig::new(address, 24, mac);
    config.ports = ports.to_vec();
    poll_with(port, config)
}

fn poll_with(port: &WirePort, config: StackConfig) -> Poll<WireQueue> {
    let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
    Poll::new(stack, [queue(port)])
}

fn queue(port: &WirePort) -> WireQueue {
    port.take_queue(QueueId(0)).expect("opened once")
}

fn wire(ports: usize) -> (Wire, Vec<WirePort>) {
    Wire::hub(vec![PortConfig::default(); ports], 1).expect("a wire")
}

/// Turns of everybody, a tenth of a millisecond apart, until `turns` says that they are done.
fn run(wire: &Wire, mut turns: impl FnMut(Time) -> bool) {
    for _ in 0..400_000 {
        if turns(Time::from_duration(wire.clock().now())) {
            return;
        }
        wire.clock().advance(Duration::from_micros(100));
    }
    panic!("not done after forty seconds");
}

/// Checks that a core holds no connection and no frame.
fn assert_nothing_left(poll: Poll<WireQueue>) {
    assert_eq!(poll.stack().flows(), 0, "{:?}", poll.stack().census());
    for mut queue in poll.into_queues() {
        queue.flush().expect("a wire is never gone");
        assert_eq!(queue.census().held, 0);
    }
}

#[test]
fn the_echo_server_sends_everything_back_to_clients_that_close_their_half_early() {
    let (wire, ports) = wire(2);
    let mut server = poll_with(&ports[0], config());
    let mut peer = Peer::new(queue(&ports[1]), 7);
    echo_server::begin(&mut server);
    let data: Vec<u8> = (0..20_000).map(pattern).collect();
    let mut sockets: Vec<_> = (0..20).map(|_| (peer.connect(30_000), Vec::new())).collect();
    let mut sent = vec![0; sockets.len()];
    run(&wire, |now| {
        echo_server::turn(&mut server, now).expect("a wire is never gone");
        peer.poll(now);
        for ((handle, got), sent) in sockets.iter_mut().zip(&mut sent) {
            let socket = peer.socket(*handle);
            if *sent < data.len() && socket.can_send() {
                *sent += socket.send_slice(&data[*sent..]).expect("it is open");
                if *sent == data.len() {
                    socket.close();
                }
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).expect("bytes wait");
            }
        }
        let answered = sockets.iter().all(|(_, got)| got.len() == data.len());
        answered && server.stack().flows() == 0
    });
    assert!(sockets.iter().all(|(_, got)| *got == data));
    assert_eq!(server.stack().stats().finished, 20);
    assert_nothing_left(server);
}

#[test]
fn the_udp_responder_answers_each_datagram() {
    let (wire, ports) = wire(2);
    let mut server = poll_with(&ports[0], udp_config());
    let mut station = Station::new(queue(&ports[1]));
    let mut responder = Responder::default();
    for (number, data) in [&b"abc"[..], b"", &[7; 1_472]].into_iter().enumerate() {
        station.send(&Udp::new(2_000 + number as u16, data).frame());
    }
    let mut answers = Vec::new();
    run(&wire, |now| {
        udp_responder::turn(&mut responder, &mut server, now).expect("a wire is never gone");
        assert_eq!(server.next_event(), None);
        station.receive(|frame| answers.push(Udp::read(frame)));
        answers.len() == 3
    });
    assert_eq!(answers[0], Udp { peer_port: 2_000, our_port: PORT, tag: None, data: b"3 cba".to_vec() });
    assert_eq!(answers[1].data, b"0 ");
    assert!(
        answers[2].data.starts_with(b"1472 \x07\x07") && answers[2].data.len() == 1_472,
        "cut to what a frame holds"
    );
    assert_eq!(responder.unanswered, 0);
}

/// The responder is at 11211, a port from which only those hear that ask there.
#[test]
fn the_udp_client_asks_until_it_is_answered() {
    let (wire, ports) = wire(2);
    let server = SocketAddrV4::new(US, PORT).into();
    let mut config = StackConfig::new(THEM, 24, PEER);
    UdpClient::configure(&mut config, server);
    let mut own = poll_with(&ports[0], config);
    let mut other = poll_with(&ports[1], udp_config());
    let (mut client, mut responder) = (UdpClient::new(server, "hello"), Responder::default());
    run(&wire, |now| {
        client.turn(&mut own, now).expect("there is a way");
        // It is not there for the first two seconds, nor says where it is.
        let there = now >= Time::from_millis(2_500);
        if there {
            udp_responder::turn(&mut responder, &mut other, now).expect("a wire is never gone");
        }
        assert!(there || client.asked == 0);
        client.answer.is_some()
    });
    assert_eq!((client.answer.as_deref(), client.asked), (Some(&b"5 olleh"[..]), 1));
    assert_nothing_left(own);
    assert_nothing_left(other);
}

#[test]
fn the_client_is_answered_over_every_connection_and_told_where_there_is_nobody() {
    let (wire, ports) = wire(2);
    let mut server = poll_with(&ports[0], config());
    let mut own = poll_at(&ports[1], THEM, PEER, &[]);
    echo_server::begin(&mut server);
    let start = Time::ZERO;
    let mut client =
        Client::begin(&mut own, start, SocketAddrV4::new(US, PORT), "hello", 100).expect("it can be tried");
    run(&wire, |now| {
        echo_server::turn(&mut server, now).expect("a wire is never gone");
        client.turn(&mut own, now).expect("a wire is never gone");
        client.is_done() && server.stack().flows() == 0
    });
    assert_eq!(client.done, vec![(CloseReason::Finished, b"hello\n".to_vec()); 100]);
    let refused = SocketAddrV4::new(US, PORT + 1);
    let now = Time::from_duration(wire.clock().now());
    let mut client = Client::begin(&mut own, now, refused, "hello", 3).expect("it can be tried");
    run(&wire, |now| {
        echo_server::turn(&mut server, now).expect("a wire is never gone");
        client.turn(&mut own, now).expect("a wire is never gone");
        client.is_done()
    });
    assert_eq!(client.done, vec![(CloseReason::Refused, Vec::new()); 3]);
    assert_nothing_left(own);
    assert_nothing_left(server);
}

#[test]
fn the_proxy_passes_both_ways_as_fast_as_the_slower_half() {
    let (wire, ports) = wire(3);
    let mut own = poll_with(&ports[0], config());
    let mut server = poll_at(&ports[1], BEHIND, Mac([2, 0, 0, 0, 0, 3]), &[7]);
    let mut peer = Peer::new(queue(&ports[2]), 7);
    echo_server::begin(&mut server);
    let mut proxy = Proxy::begin(&mut own, SocketAddrV4::new(BEHIND, 7));
    let data: Vec<u8> = (0..100_000).map(pattern).collect();
    let handle = peer.connect(2_000);
    let (mut sent, mut got) = (0, Vec::new());
    run(&wire, |now| {
        proxy.turn(&mut own, now).expect("a wire is never gone");
        echo_server::turn(&mut server, now).expect("a wire is never gone");
        peer.poll(now);
        let socket = peer.socket(handle);
        // It reads nothing before it has sent what both halves hold, and the echo is stuck.
        if sent < data.len() && socket.can_send() {
            sent += socket.send_slice(&data[sent..]).expect("it is open");
            if sent == data.len() {
                socket.close();
            }
        } else if socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).expect("bytes wait");
        }
        got.len() == data.len() && proxy.halves() == 0 && own.stack().flows() == 0
    });
    assert_eq!(got, data);
    assert_nothing_left(own);
    assert_nothing_left(server);
}

#[test]
fn the_proxy_ends_its_clients_where_the_server_is_not() {
    let (wire, ports) = wire(3);
    let mut own = poll_with(&ports[0], config());
    let mut server = poll_at(&ports[1], BEHIND, Mac([2, 0, 0, 0, 0, 3]), &[]);
    let mut peer = Peer::new(queue(&ports[2]), 7);
    let mut proxy = Proxy::begin(&mut own, SocketAddrV4::new(BEHIND, 7));
    let handle = peer.connect(2_000);
    run(&wire, |now| {
        proxy.turn(&mut own, now).expect("a wire is never gone");
        server.poll(now).expect("a wire is never gone");
        peer.poll(now);
        peer.socket(handle).state() == State::Closed
    });
    assert_eq!((proxy.halves(), own.stack().stats().connects_refused), (0, 1));
    assert_nothing_left(own);
}
