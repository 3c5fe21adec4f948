//! Connections on a perfect wire, against smoltcp's ordinary interface.

use std::time::Duration;

use nic::Queue;
use sidestep_stack::{CloseReason, Rings};
use smoltcp::socket::tcp::State;

use crate::lab::{App, Lab, config, pattern};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Sends `data` over `handle` as room permits and takes what comes back, until `want` bytes have.
fn exchange(lab: &mut Lab, handle: smoltcp::iface::SocketHandle, data: &[u8], want: usize) -> Vec<u8> {
    let mut sent = 0;
    let mut got = Vec::new();
    lab.run_until(SECONDS(300), |lab| {
        let socket = lab.peer.socket(handle);
        if sent < data.len() && socket.can_send() {
            sent += socket.send_slice(&data[sent..]).expect("it can send");
        }
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    got.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .expect("it can receive");
        }
        // Room that the peer has made must be seen by the server, and data sent at this very moment.
        let now = lab.now();
        lab.peer.poll(now);
        got.len() >= want
    });
    got
}

fn close(lab: &mut Lab, handle: smoltcp::iface::SocketHandle) {
    lab.peer.socket(handle).close();
    lab.run_until(SECONDS(30), |lab| {
        let state = lab.peer.socket(handle).state();
        matches!(state, State::TimeWait | State::Closed)
    });
}

#[test]
fn a_handshake_opens_a_flow_and_an_orderly_close_ends_it() {
    let mut lab = Lab::new(App::Echo);
    let handle = lab.peer.connect(4_096);
    lab.settle();
    assert_eq!(lab.peer.socket(handle).state(), State::Established);
    assert_eq!(lab.server.opened, 1);
    close(&mut lab, handle);
    assert_eq!(lab.server.poll.stack().stats().finished, 1);
    lab.finish();
}

#[test]
fn an_echo_of_any_size_comes_back_whole() {
    for rings in [Rings { rx: 2_048, tx: 2_048 }, Rings::DEFAULT, Rings { rx: 65_535, tx: 65_535 }] {
        let mut config = config();
        config.rings = rings;
        let mut lab = Lab::with(config, App::Echo, nic::Faults::default(), 7);
        let handle = lab.peer.connect(30_000);
        for size in [1, 2, 535, 1_460, 1_461, 2_920, 4_096, 8_192, 8_193, 100_000] {
            let data: Vec<u8> = (0..size).map(pattern).collect();
            assert_eq!(exchange(&mut lab, handle, &data, size), data, "{size} bytes, {rings:?}");
        }
        close(&mut lab, handle);
        lab.finish();
    }
}

#[test]
fn the_ack_rides_on_the_answer_and_answers_fill_segments() {
    let mut lab = Lab::new(App::Echo);
    let handle = lab.peer.connect(16_000);
    lab.settle();
    // Open the congestion window, so that the segments' sizes show what is sent and not what may be.
    exchange(&mut lab, handle, &vec![1; 60_000], 60_000);
    let before = lab.server.poll.ports()[0].queue().stats().tx_frames;
    assert_eq!(exchange(&mut lab, handle, b"request", 7), b"request");
    let after = lab.server.poll.ports()[0].queue().stats().tx_frames;
    assert_eq!(after - before, 1, "one frame out for one in");
    let before = after;
    exchange(&mut lab, handle, &vec![2; 2_920], 2_920);
    // Two full segments in, two full segments out.
    assert_eq!(lab.server.poll.ports()[0].queue().stats().tx_frames - before, 2);
    close(&mut lab, handle);
    lab.finish();
}

#[test]
fn the_peer_may_close_its_half_and_still_be_answered() {
    let mut lab = Lab::new(App::Echo);
    let handle = lab.peer.connect(30_000);
    lab.settle();
    let data: Vec<u8> = (0..20_000).map(pattern).collect();
    lab.peer.socket(handle).send_slice(&data).expect("there is room");
    lab.peer.socket(handle).close();
    assert_eq!(exchange(&mut lab, handle, b"", data.len()), data);
    lab.finish();
}

#[test]
fn we_may_close_our_half_and_still_hear() {
    let mut lab = Lab::new(App::HalfClose);
    let handle = lab.peer.connect(30_000);
    assert_eq!(exchange(&mut lab, handle, b"", 8), b"greeting");
    lab.settle();
    assert_eq!(lab.peer.socket(handle).state(), State::CloseWait);
    let data: Vec<u8> = (0..20_000).map(pattern).collect();
    exchange(&mut lab, handle, &data, 0);
    lab.run_until(SECONDS(30), |lab| lab.server.received.len() == data.len());
    assert_eq!(lab.server.received, data);
    lab.peer.socket(handle).close();
    lab.run_until(SECONDS(30), |lab| lab.peer.socket(handle).state() == State::Closed);
    assert_eq!(lab.server.poll.stack().stats().time_waits, 1, "who closes first waits");
    lab.finish();
}

#[test]
fn both_may_close_at_once() {
    let mut lab = Lab::new(App::Blast(5));
    let handle = lab.peer.connect(4_096);
    // The SYN, the SYN-ACK; then the peer's ACK and FIN leave together, as the server's data and FIN do.
    for _ in 0..2 {
        let now = lab.now();
        lab.peer.poll(now);
        lab.server.turn(now);
    }
    lab.peer.socket(handle).close();
    let now = lab.now();
    lab.peer.poll(now);
    lab.run_until(SECONDS(60), |lab| lab.peer.socket(handle).state() == State::Closed);
    assert_eq!(lab.server.poll.stack().stats().finished, 1);
    lab.finish();
}

#[test]
fn a_blast_arrives_whole_and_in_order() {
    let mut lab = Lab::new(App::Blast(300_000));
    let handle = lab.peer.connect(10_000);
    let got = exchange(&mut lab, handle, b"", 300_000);
    assert!(got.iter().enumerate().all(|(i, &byte)| byte == pattern(i)));
    lab.run_until(SECONDS(60), |lab| !lab.peer.socket(handle).may_recv());
    lab.peer.socket(handle).close();
    lab.finish();
}

#[test]
fn a_deaf_application_closes_the_window_and_the_peer_probes() {
    let mut lab = Lab::new(App::Deaf);
    let handle = lab.peer.connect(20_000);
    lab.settle();
    lab.peer.socket(handle).send_slice(&[7; 20_000]).expect("there is room");
    lab.run_for(SECONDS(600));
    let &id = lab.server.flows.keys().next().expect("the flow is open");
    let mut flow = lab.server.poll.flow(id).expect("probes keep it alive");
    assert_eq!(flow.recv_queue(), flow.recv_capacity());
    assert_eq!(flow.peek(&mut [0; 10]), 10);
    // Once it listens, the rest arrives.
    lab.server.app = App::Echo;
    lab.server.poll.wake(id);
    assert_eq!(exchange(&mut lab, handle, b"", 20_000), vec![7; 20_000]);
    close(&mut lab, handle);
    lab.finish();
}

#[test]
fn a_peer_that_takes_nothing_is_probed_and_not_given_up() {
    let mut lab = Lab::new(App::Blast(60_000));
    let handle = lab.peer.connect(2_000);
    lab.run_until(SECONDS(60), |lab| lab.peer.socket(handle).recv_queue() == 2_000);
    // Longer than the time-out of a peer that says nothing, shorter than the time a closing flow may linger: the
    // application is still writing.
    lab.run_for(SECONDS(200));
    assert_eq!(lab.server.poll.stack().stats().timed_out, 0);
    let got = exchange(&mut lab, handle, b"", 60_000);
    assert!(got.iter().enumerate().all(|(i, &byte)| byte == pattern(i)));
    lab.peer.socket(handle).close();
    lab.finish();
}

#[test]
fn a_reset_by_the_peer_is_reported_once() {
    let mut lab = Lab::new(App::Deaf);
    let handle = lab.peer.connect(4_096);
    lab.settle();
    lab.peer.socket(handle).abort();
    lab.settle();
    assert_eq!(lab.server.closed.len(), 1);
    assert_eq!(lab.server.closed[0].1, CloseReason::Reset);
    lab.finish();
}

#[test]
fn an_abort_resets_the_peer() {
    let mut lab = Lab::new(App::Abort);
    let handle = lab.peer.connect(4_096);
    lab.settle();
    lab.peer.socket(handle).send_slice(b"x").expect("there is room");
    lab.settle();
    assert_eq!(lab.peer.socket(handle).state(), State::Closed);
    assert!(lab.server.closed.is_empty(), "who aborts is not told");
    assert_eq!(lab.server.poll.stack().stats().aborted, 1);
    lab.finish();
}

#[test]
fn a_port_without_listener_answers_rst() {
    let mut lab = Lab::new(App::Echo);
    let handle = lab.peer.connect_to(80, 4_096);
    lab.settle();
    assert_eq!(lab.peer.socket(handle).state(), State::Closed);
    assert_eq!(lab.server.poll.stack().stats().rsts_sent, 1);
    lab.finish();
}

#[test]
fn a_tagged_peer_is_answered_with_its_tag() {
    let mut lab = Lab::new(App::Echo);
    lab.peer.tag(0x6005);
    let handle = lab.peer.connect(4_096);
    assert_eq!(exchange(&mut lab, handle, b"tagged", 6), b"tagged");
    close(&mut lab, handle);
    lab.finish();
}

#[test]
fn one_core_serves_several_queues() {
    let mut lab = Lab::with_queues(config(), App::Echo, nic::Faults::default(), 3, 4);
    let handles: Vec<_> = (0..40).map(|_| lab.peer.connect(4_096)).collect();
    for &handle in &handles {
        assert_eq!(exchange(&mut lab, handle, b"request", 7), b"request");
    }
    let used = lab.server.poll.ports().iter().filter(|port| port.queue().stats().tx_frames > 0).count();
    assert_eq!(used, 4, "answers leave by the queue on which the request came");
    for handle in handles {
        close(&mut lab, handle);
    }
    lab.finish();
}

#[test]
fn a_peer_that_vanishes_is_given_up() {
    let mut lab = Lab::new(App::Blast(50_000));
    lab.peer.connect(4_096);
    lab.settle();
    let hole = nic::Faults { loss: 1.0, ..nic::Faults::default() };
    lab.wire.set_inbound_faults(0, hole).expect("a good fault");
    lab.run_until(SECONDS(200), |lab| lab.server.poll.flows() == 0);
    assert_eq!(lab.server.closed.iter().map(|c| c.1).collect::<Vec<_>>(), [CloseReason::TimedOut]);
    lab.server.assert_nothing_left();
}

#[test]
fn idle_flows_are_ended_only_when_that_is_asked_for() {
    for idle in [None, Some(SECONDS(30))] {
        let mut config = config();
        config.idle_timeout = idle;
        let mut lab = Lab::with(config, App::Echo, nic::Faults::default(), 3);
        let handle = lab.peer.connect(4_096);
        assert_eq!(exchange(&mut lab, handle, b"x", 1), b"x");
        lab.run_for(SECONDS(3_600));
        assert_eq!(lab.server.poll.flows(), usize::from(idle.is_none()));
        assert_eq!(lab.server.poll.stack().stats().timed_out, u64::from(idle.is_some()));
        lab.peer.socket(handle).close();
        lab.finish();
    }
}

#[test]
fn keep_alive_finds_a_dead_peer_and_spares_a_living_one() {
    let mut config = config();
    config.keep_alive = Some(SECONDS(10));
    let mut lab = Lab::with(config, App::Deaf, nic::Faults::default(), 3);
    lab.peer.connect(4_096);
    lab.run_for(SECONDS(600));
    assert_eq!(lab.server.poll.flows(), 1);
    let hole = nic::Faults { loss: 1.0, ..nic::Faults::default() };
    lab.wire.set_inbound_faults(0, hole).expect("a good fault");
    lab.run_for(SECONDS(60));
    assert_eq!(lab.server.closed.iter().map(|c| c.1).collect::<Vec<_>>(), [CloseReason::TimedOut]);
    lab.server.assert_nothing_left();
}
