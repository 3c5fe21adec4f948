//! More hosts than there is room for, each a client that knows what it has sent.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use super::{FAR, Fuzz, check, config, settled};
use crate::lab::Server;
use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::v6::{self, tcp6};

/// A client, which trusts that what it hears of its connection is so.
struct Client {
    begin: u32,
    /// What it has sent, how much of that has arrived, and how much came back.
    sent: Vec<u8>,
    acknowledged: usize,
    echoed: usize,
    /// The sequence number that it waits for; `None`: the SYN-ACK.
    next: Option<u32>,
}

impl Client {
    /// All that has not arrived.
    fn segment(&self, (peer, port): (IpAddr, u16), flags: u8) -> Vec<u8> {
        let from = self.begin.wrapping_add(1 + self.acknowledged as u32);
        let segment = match self.next {
            None => tcp6(port, SYN, self.begin, 0),
            Some(next) => tcp6(port, flags | ACK, from, next).with(&self.sent[self.acknowledged..]),
        };
        segment.from(peer).frame()
    }

    /// Hears a segment. Returns whether it was the last.
    fn hear(&mut self, segment: &Tcp, seed: u64) -> bool {
        if segment.flags & SYN != 0 {
            // Else it is an answer to who had this port before.
            if segment.ack != self.begin.wrapping_add(1) || self.next.is_some() {
                return false;
            }
            self.next = Some(segment.seq.wrapping_add(1));
            return false;
        }
        let Some(next) = self.next else { return segment.flags & RST != 0 };
        if segment.flags & RST != 0 {
            return true;
        }
        let acknowledged = segment.ack.wrapping_sub(self.begin.wrapping_add(1)) as usize;
        if acknowledged <= self.sent.len() {
            self.acknowledged = self.acknowledged.max(acknowledged);
        }
        if segment.seq == next {
            let until = self.echoed + segment.data.len();
            assert_eq!(self.sent.get(self.echoed..until), Some(&segment.data[..]), "seed {seed}");
            self.echoed = until;
            self.next = Some(next.wrapping_add(segment.data.len() as u32));
            return segment.flags & FIN != 0;
        }
        false
    }
}

/// Clients, each at ends of its own.
#[derive(Default)]
struct Crowd {
    clients: HashMap<(IpAddr, u16), Client>,
    /// Bytes that came back to those that have ended.
    echoed: usize,
}

impl Crowd {
    /// One of them, or a new one, does something.
    fn act(&mut self, fuzz: &mut Fuzz) -> Vec<u8> {
        let ends = (
            IpAddr::from(Ipv6Addr::from_bits(FAR.to_bits() + u128::from(fuzz.below(50)))),
            5_000 + fuzz.below(2) as u16,
        );
        let begin = fuzz.0.next_u32();
        let new = || Client { begin, sent: Vec::new(), acknowledged: 0, echoed: 0, next: None };
        let client = self.clients.entry(ends).or_insert_with(new);
        if fuzz.below(3) > 0 && client.next.is_some() && client.sent.len() < 200 {
            client.sent.extend(fuzz.bytes(9));
        }
        let flags = fuzz.pick(&[PSH, PSH, PSH, PSH, PSH, PSH, FIN, RST]);
        let frame = client.segment(ends, flags);
        if flags & (FIN | RST) != 0 && client.next.is_some() {
            self.clients.remove(&ends);
        }
        frame
    }

    /// The stack has its turn.
    fn hear(&mut self, bench: &mut Bench, seed: u64) {
        let mut heard = Vec::new();
        bench.turn_with(|frame| {
            check(frame, seed);
            heard.extend(v6::tcp(frame));
        });
        for segment in heard {
            let ends = (segment.peer, segment.peer_port);
            if self.clients.get_mut(&ends).is_some_and(|client| client.hear(&segment, seed)) {
                self.echoed += self.clients.remove(&ends).map_or(0, |client| client.echoed);
            }
        }
    }
}

/// Ends every connection, those that sleep now and then without waking them, and lets time pass. Returns how many of these.
fn give_all_up(bench: &mut Bench, fuzz: &mut Fuzz, seed: u64) -> u32 {
    let mut thrown = 0;
    for _ in 0..400 {
        let now = bench.now();
        let Server { poll, flows, .. } = &mut bench.server;
        // Of one that has just ended its application is told in the next turn.
        flows.retain(|&id, _| {
            if fuzz.below(2) == 0 && poll.is_asleep(id) {
                let is_thrown = poll.abort_asleep(now, id);
                thrown += u32::from(is_thrown);
                return !is_thrown;
            }
            poll.flow(id).map(|flow| flow.abort()).is_none()
        });
        bench.turn_with(|frame| check(frame, seed));
        bench.wire.clock().advance(Duration::from_secs(1));
    }
    thrown
}

/// More hosts than there is room for, whose connections are half-open, sleep, rest or end in every way.
#[test]
fn who_is_known_for_a_connection_is_forgotten_with_it_whatever_becomes_of_it() {
    let (mut echoed, mut woken, mut cookies, mut thrown) = (0, 0, 0, 0);
    for seed in 0..24 {
        let mut fuzz = Fuzz(Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut settings = config();
        (settings.max_flows, settings.awake_flows, settings.syn_queue) = (24, 8, fuzz.pick(&[4, 16, 64]));
        (settings.stations, settings.time_wait_records) = (fuzz.pick(&[20, 40]), 8);
        let mut bench = settled(settings);
        let mut crowd = Crowd::default();
        for round in 0..4_000 {
            bench.send(&crowd.act(&mut fuzz));
            if fuzz.below(3) == 0 {
                crowd.hear(&mut bench, seed);
                let millis = fuzz.pick(&[0, 1, 10, 100, 1_000]);
                bench.wire.clock().advance(Duration::from_millis(millis));
            }
            if round % 50 == 49 {
                bench.server.poll.stack_mut().lay_all_down();
            }
            let census = bench.server.poll.stack().census();
            let most = census.table + census.time_wait + census.dead;
            assert!(census.stations_held <= most, "seed {seed}: {census:?}");
        }
        let stats = bench.server.poll.stack().stats();
        (echoed, woken, cookies) = (echoed + crowd.echoed, woken + stats.woke, cookies + stats.cookies_accepted);
        thrown += give_all_up(&mut bench, &mut fuzz, seed);
        let census = bench.server.poll.stack().census();
        assert_eq!((census.table, census.time_wait, census.stations_held), (0, 0, 0), "seed {seed}: {census:?}");
    }
    println!("{echoed} bytes came back, {woken} woke, {cookies} by cookies, {thrown} thrown away asleep");
    assert!(echoed > 100 && woken > 100 && cookies > 20 && thrown > 5);
}
