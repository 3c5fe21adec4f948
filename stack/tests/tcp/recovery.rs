//! What was lost is sent again soon, and what was not is not; and waiting for an answer costs no turns.

use std::time::Duration;

use nic::{Faults, Reorder};
use sidestep_stack::Rings;
use smoltcp::iface::SocketHandle;

use crate::lab::{App, Lab, config, pattern};

fn delay(micros: u64) -> Faults {
    Faults { delay: Duration::from_micros(micros), ..Faults::default() }
}

/// Reads what has come of the pattern, `read` bytes of which were read before.
fn read(lab: &mut Lab, handle: SocketHandle, read: &mut usize) {
    let socket = lab.peer.socket(handle);
    while socket.can_recv() {
        let from = *read;
        *read += socket
            .recv(|bytes| {
                for (i, byte) in bytes.iter().enumerate() {
                    assert_eq!(*byte, pattern(from + i), "byte {}", from + i);
                }
                (bytes.len(), bytes.len())
            })
            .expect("it can receive");
    }
}

/// How long a megabyte takes over a path of 10 ms with such faults for the server's frames, how many segments were sent again,
/// and how many were sent.
fn bulk(out: Faults, seed: u64) -> (Duration, u64, u64) {
    let mut config = config();
    config.rings = Rings { rx: 65_535, tx: 65_535 };
    let mut lab = Lab::between(config, App::Blast(1_000_000), [out, delay(5_000)], seed);
    let begun = lab.wire.clock().now();
    let handle = lab.peer.connect(60_000);
    let mut got = 0;
    let mut took = Duration::ZERO;
    lab.run_until(Duration::from_secs(60), |lab| {
        read(lab, handle, &mut got);
        took = lab.wire.clock().now() - begun;
        got == 1_000_000
    });
    let stats = lab.server.poll.stack().stats();
    let again = stats.sent_again;
    println!("{took:?}, again {again}, probes {}, time-outs {}", stats.tail_probes, stats.retransmission_timeouts);
    assert_eq!(stats.contained, 0);
    (took, again, 1_000_000 / 1_460)
}

#[test]
fn a_loss_costs_a_round_trip_and_no_time_out() {
    let lossy = Faults { loss: 0.01, ..delay(5_000) };
    let mut all: Vec<_> = (0..20).map(|seed| bulk(lossy.clone(), seed).0).collect();
    all.sort();
    println!("median {:?}, worst {:?}", all[10], all[19]);
    // With a time-out each it took 1.9 s.
    assert!(all[10] < Duration::from_millis(600), "{:?}", all[10]);
}

#[test]
fn what_was_lost_at_random_is_sent_again_and_nothing_else() {
    let lossy = Faults { loss: 0.05, ..delay(5_000) };
    let (again, sent) = (0..20).fold((0, 0), |(again, sent), seed| {
        let (_, more_again, more_sent) = bulk(lossy.clone(), seed);
        (again + more_again, sent + more_sent)
    });
    // 5 % of all were lost, of those sent again too.
    println!("{again} of {sent}");
    assert!(again * 100 < sent * 7, "{again} of {sent}");
}

#[test]
fn what_comes_out_of_order_is_not_sent_again() {
    let reordering = Faults {
        reorder: Some(Reorder { probability: 0.1, depth: 4, hold: Duration::from_millis(2) }),
        jitter: Duration::from_millis(1),
        ..delay(5_000)
    };
    let (again, sent) = (0..20).fold((0, 0), |(again, sent), seed| {
        let (_, more_again, more_sent) = bulk(reordering.clone(), seed);
        (again + more_again, sent + more_sent)
    });
    println!("{again} of {sent}");
    assert!(again * 100 <= sent, "{again} of {sent}");
}

#[test]
fn the_loss_of_an_answer_costs_ten_milliseconds() {
    let lossy = Faults { loss: 0.02, ..delay(100) };
    let mut lab = Lab::between(config(), App::Echo, [lossy, delay(100)], 7);
    let handle = lab.peer.connect(6_000);
    let mut took = Vec::new();
    let mut asked = None;
    lab.run_until(Duration::from_secs(600), |lab| {
        let now = lab.wire.clock().now();
        let socket = lab.peer.socket(handle);
        if !socket.may_send() {
            return false;
        }
        if socket.can_recv() {
            let got = socket.recv(|bytes| (bytes.len(), bytes.len())).expect("it can receive");
            assert_eq!(got, 100);
            took.extend(asked.take().map(|at| now - at));
        }
        if asked.is_none() {
            socket.send_slice(&[b'x'; 100]).expect("it can send");
            asked = Some(now);
        }
        let at = lab.now();
        lab.peer.poll(at);
        took.len() == 2_000
    });
    took.sort();
    let stats = lab.server.poll.stack().stats();
    println!("p99 {:?} worst {:?} {stats:?}", took[1_980], took[1_999]);
    assert!(stats.tail_probes >= 20, "{stats:?}");
    assert!(took[1_980] <= Duration::from_millis(10), "{:?}", took[1_980]);
}

#[test]
fn a_peer_that_is_gone_costs_few_turns() {
    let mut lab = Lab::between(config(), App::Echo, [delay(100), delay(100)], 3);
    let handle = lab.peer.connect(6_000);
    lab.run_until(Duration::from_secs(5), |lab| {
        let socket = lab.peer.socket(handle);
        if socket.can_send() {
            socket.send_slice(&[b'x'; 3_000]).expect("it can send");
            let at = lab.now();
            lab.peer.poll(at);
            return true;
        }
        false
    });
    // From here on the peer says and hears nothing.
    let mut turns = 0;
    while lab.server.poll.flows() > 0 {
        let now = lab.now();
        lab.server.turn(now);
        turns += 1;
        while lab.peer.device.take().is_some() {}
        let next = lab.server.poll.stack().next_deadline(now).expect("something is due");
        lab.wire.clock().advance(next.max(Duration::from_micros(1)));
        assert!(turns < 1_000, "{:?} {:?}", lab.now(), lab.server.poll.stack());
    }
    println!("{turns} turns {:?}", lab.server.poll.stack().stats());
    assert_eq!(lab.server.poll.stack().stats().tail_probes, 1, "once a flight");
    assert_eq!(lab.server.poll.stack().stats().retransmission_timeouts, 1, "one, which goes on");
    assert!(turns < 200, "{turns}");
}
