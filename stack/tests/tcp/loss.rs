//! Hundreds of connections on a bad wire: every byte right, nothing leaked, the same seed the same run.

use std::collections::VecDeque;
use std::time::Duration;

use nic::{Corrupt, Faults, Reorder};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::lab::{App, Lab, config};

/// What the issue asks for: 5 % loss, 5 % reordering, 2 % duplicates, 1 % corruption in bursts of up to 15 bits.
fn bad() -> Faults {
    Faults {
        loss: 0.05,
        duplicate: 0.02,
        reorder: Some(Reorder { probability: 0.05, depth: 4, hold: Duration::from_millis(2) }),
        corrupt: Some(Corrupt { probability: 0.01, bits: 15 }),
        delay: Duration::from_micros(50),
        jitter: Duration::from_micros(20),
        ..Faults::default()
    }
}

/// One client: asks, waits for the whole echo, asks again.
struct Client {
    handle: SocketHandle,
    left: u32,
    waiting: VecDeque<u8>,
    to_send: Vec<u8>,
    state: u64,
    done: bool,
}

impl Client {
    fn next_request(&mut self) {
        // A multiplicative generator, so that a request's bytes are its client's and its number's alone.
        self.state = self.state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x2545);
        let len = 1 + (self.state >> 40) as usize % if self.left.is_multiple_of(16) { 5_000 } else { 120 };
        self.to_send = (0..len).map(|i| (self.state >> 32) as u8 ^ i as u8).collect();
        self.waiting.extend(&self.to_send);
        self.left -= 1;
    }

    /// Does what can be done now. Says whether the client is through.
    fn drive(&mut self, lab: &mut Lab) -> bool {
        let socket = lab.peer.socket(self.handle);
        if self.done {
            return matches!(socket.state(), State::Closed | State::TimeWait);
        }
        if !socket.may_send() {
            assert!(matches!(socket.state(), State::SynSent | State::SynReceived), "{}", socket.state());
            return false;
        }
        while socket.can_recv() {
            let got = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).expect("it can receive");
            for byte in got {
                assert_eq!(Some(byte), self.waiting.pop_front(), "the echo is wrong");
            }
        }
        if self.waiting.is_empty() {
            if self.left == 0 {
                socket.close();
                self.done = true;
                return false;
            }
            self.next_request();
        }
        if !self.to_send.is_empty() && socket.can_send() {
            let sent = socket.send_slice(&self.to_send).expect("it can send");
            self.to_send.drain(..sent);
        }
        false
    }
}

/// Runs `clients` clients of `requests` requests each. Returns the digest of all frames and the time it took.
fn run(seed: u64, clients: usize, requests: u32) -> (u64, Duration) {
    let mut config = config();
    config.max_flows = clients + 100;
    let mut lab = Lab::with(config, App::Echo, bad(), seed);
    let mut all: Vec<Client> = (0..clients)
        .map(|number| Client {
            handle: lab.peer.connect(6_000),
            left: requests,
            waiting: VecDeque::new(),
            to_send: Vec::new(),
            state: seed ^ number as u64,
            done: false,
        })
        .collect();
    lab.run_until(Duration::from_secs(3_600), |lab| {
        let through = all.iter_mut().filter_map(|client| client.drive(lab).then_some(())).count();
        let now = lab.now();
        lab.peer.poll(now);
        through == clients
    });
    let took = lab.wire.clock().now();
    let stats = *lab.server.poll.stack().stats();
    println!("{took:?} {stats:?}");
    assert_eq!(stats.opened, clients as u64);
    assert_eq!(stats.contained, 0);
    assert!(stats.drops.total() > 0, "the wire was bad");
    // The last ACKs may have been lost; what remains ends by itself.
    lab.run_until(Duration::from_secs(300), |lab| lab.server.poll.flows() == 0);
    lab.run_for(Duration::from_secs(61));
    let digest = lab.peer.device.digest.0;
    lab.finish();
    (digest, took)
}

#[test]
fn every_byte_is_right_on_a_bad_wire_and_the_same_seed_is_the_same_run() {
    let first = run(20_240_601, 300, 30);
    assert_eq!(run(20_240_601, 300, 30), first);
    assert_ne!(run(20_240_602, 300, 30).0, first.0);
}

#[test]
fn reordering_alone_costs_no_retransmission_time_out() {
    let reorder = Faults {
        reorder: Some(Reorder { probability: 0.2, depth: 3, hold: Duration::from_micros(300) }),
        delay: Duration::from_micros(50),
        ..Faults::default()
    };
    let mut lab = Lab::with(config(), App::Echo, reorder, 5);
    let began = lab.wire.clock().now();
    let handle = lab.peer.connect(6_000);
    let mut client = Client { handle, left: 300, waiting: VecDeque::new(), to_send: Vec::new(), state: 1, done: false };
    lab.run_until(Duration::from_secs(100), |lab| {
        let through = client.drive(lab);
        let now = lab.now();
        lab.peer.poll(now);
        through
    });
    // 300 exchanges: were even a few of them to wait for a time-out of 200 ms (ours) or 1 s (the peer's), this is over.
    let took = lab.wire.clock().now() - began;
    assert!(took < Duration::from_secs(3), "{took:?}");
    lab.finish();
}
