//! What is only late is not sent again: connections of one host that move much by turns, over a link with a long queue.

use std::collections::HashMap;
use std::time::Duration;

use nic::{Faults, RateLimit};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{Event, FlowId, Time};
use smoltcp::iface::SocketHandle;

use crate::lab::{App, Lab, Server, config, pattern, send_pattern};

const CONNECTIONS: usize = 16;
/// What is asked for, and by which byte.
const VALUES: [(u8, usize); 2] = [(b'k', 100 << 10), (b'm', 1_000_000)];

/// A link of so many bytes a second, with a queue in which all that the connections have in flight finds room.
fn link(bytes_per_second: u64) -> Faults {
    let rate = RateLimit { bits_per_second: 8 * bytes_per_second, queue_bytes: 64 << 20 };
    Faults { rate: Some(rate), delay: Duration::from_micros(25), ..Faults::default() }
}

/// Answers each byte of each flow. `flows`: how much of the pattern each was asked for, and was sent.
fn answer(server: &mut Server, flows: &mut HashMap<FlowId, (usize, usize)>) {
    for id in std::mem::take(&mut server.events).iter().map(Event::flow) {
        let Some(mut flow) = server.poll.flow(id) else { continue };
        let (asked, done) = flows.entry(id).or_default();
        while flow.recv_queue() > 0 {
            *asked += flow.recv(|bytes| {
                let of = |byte: &u8| VALUES.iter().find(|(name, _)| name == byte).map_or(0, |&(_, size)| size);
                (bytes.len(), bytes.iter().map(of).sum::<usize>())
            });
        }
        while let Some(mut flow) = server.poll.flow(id) {
            send_pattern(&mut flow, done, *asked);
            if done == asked || !server.poll.enlarge(id) {
                break;
            }
        }
    }
}

/// A connection: what it has asked for and got, and before when it asks for nothing.
struct Client {
    handle: SocketHandle,
    asked: usize,
    got: usize,
    idle_until: Time,
    left: usize,
}

impl Client {
    /// Reads what has come.
    fn read(&mut self, lab: &mut Lab) {
        let socket = lab.peer.socket(self.handle);
        while socket.can_recv() {
            let from = self.got;
            let read = socket.recv(|bytes| {
                assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(from + at)), "from byte {from} on");
                (bytes.len(), bytes.len())
            });
            self.got += read.expect("it can receive");
        }
    }

    /// Asks for the next, if it has all, and it is time. Now and then it is idle before.
    fn ask(&mut self, lab: &mut Lab, random: &mut Xoshiro256PlusPlus) {
        if self.got != self.asked || self.left == 0 || lab.now() < self.idle_until {
            return;
        }
        if self.asked > 0 && self.idle_until == Time::ZERO && random.next_u32().is_multiple_of(4) {
            self.idle_until = lab.now().after(Duration::from_micros(u64::from(random.next_u32() % 50_000)));
            return;
        }
        self.idle_until = Time::ZERO;
        let (name, size) = VALUES[(random.next_u32() % 2) as usize];
        assert_eq!(lab.peer.socket(self.handle).send_slice(&[name]), Ok(1));
        self.asked += size;
        self.left -= 1;
    }
}

/// Segments sent again, and segments sent, while each connection is answered so many times.
fn again(bytes_per_second: u64, ack_delay: Option<Duration>, seed: u64) -> (u64, u64) {
    let mut config = config();
    config.conn_memory = 256 << 20;
    let mut lab = Lab::between(config, App::Record, [link(bytes_per_second), link(10 * bytes_per_second)], seed);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| Client { handle: lab.peer.connect(1 << 20), asked: 0, got: 0, idle_until: Time::ZERO, left: 6 })
        .collect();
    for client in &clients {
        lab.peer.socket(client.handle).set_ack_delay(ack_delay.map(Into::into));
    }
    let mut flows = HashMap::new();
    lab.run_until(Duration::from_secs(60), |lab| {
        clients.iter().all(|client| lab.peer.socket(client.handle).may_send())
    });
    // They are served one by one at first, by a path that is their own.
    let mut alone = 0;
    while clients.iter().any(|client| client.left > 0 || client.got < client.asked) {
        for (number, client) in clients.iter_mut().enumerate() {
            client.read(&mut lab);
            if alone == CONNECTIONS || number == alone && client.asked == 0 {
                client.ask(&mut lab, &mut random);
            }
        }
        if alone < CONNECTIONS && clients[alone].asked > 0 && clients[alone].got == clients[alone].asked {
            alone += 1;
            continue;
        }
        lab.settle();
        answer(&mut lab.server, &mut flows);
        lab.settle();
        let now = lab.now();
        if clients.iter().any(|client| client.got < client.asked) {
            // To the next event.
            let mut steps = 0;
            lab.run_until(Duration::from_secs(60), |_| std::mem::replace(&mut steps, 1) == 1);
        } else if let Some(until) = clients.iter().map(|client| client.idle_until).filter(|&until| until > now).min() {
            lab.wire.clock().advance(until.since(now));
        }
    }
    let stats = lab.server.poll.stack().stats();
    let (repeated, sent) = lab.peer.device.repeated;
    println!(
        "{} MB/s: {repeated} of {sent} in {:?}; sent again {}, probes {}, needless {}, time-outs {}",
        bytes_per_second / 1_000_000,
        lab.wire.clock().now(),
        stats.sent_again,
        stats.tail_probes,
        stats.probes_needless,
        stats.retransmission_timeouts
    );
    assert_eq!((stats.contained, stats.retransmission_timeouts), (0, 0), "nothing is lost");
    assert_eq!(repeated, stats.sent_again, "a segment for each probe");
    (repeated, sent)
}

#[test]
fn who_waits_behind_the_megabytes_of_others_is_taken_for_no_loss() {
    for rate in [100_000_000, 1_400_000_000] {
        for ack_delay in [None, Some(Duration::from_millis(10))] {
            let (repeated, sent) = again(rate, ack_delay, 1);
            // What a peer that delays its ACKs acknowledges late is probed for once, one segment each time.
            assert!(repeated * 1_000 <= sent, "{repeated} of {sent}");
        }
    }
}
