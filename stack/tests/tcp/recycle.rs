//! A recycled flow equals a fresh one: the same frames in, the same bytes out, whatever the flow before went through and
//! whoever opened either.

use std::net::SocketAddrV4;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::Connect;

use crate::lab::bench::{Bench, segments};
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::{App, PEER, PORT, THEM, config};

/// When the flow under test begins, in both runs.
const START: Duration = Duration::from_secs(1_000);

/// What the peer knows of a connection, and a source of segments that are mostly plausible.
struct Talker {
    port: u16,
    our_port: u16,
    /// Ours next, theirs next, as the peer sees them.
    seq: u32,
    ack: u32,
    rng: Xoshiro256PlusPlus,
}

impl Talker {
    fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32() % limit
    }

    fn syn(&mut self) -> Tcp {
        let mut syn = Tcp::new(self.port, SYN, self.seq, 0);
        syn.mss = [None, Some(536), Some(1_000), Some(1_460)][self.below(4) as usize];
        syn.window = [100, 1_000, 60_000][self.below(3) as usize];
        self.seq = self.seq.wrapping_add(1);
        syn
    }

    /// Data in order or not, ACKs new, old and repeated, windows of every size, now and then a FIN.
    fn next(&mut self, may_close: bool) -> Tcp {
        let old = if self.below(3) == 0 { self.below(1_500) } else { 0 };
        let gap = if self.below(6) == 0 { self.below(2_000) } else { 0 };
        let len = [0, 0, 1, 40, 700, 1_400][self.below(6) as usize];
        let mut segment = Tcp::new(self.port, ACK | PSH, self.seq.wrapping_add(gap), self.ack.wrapping_sub(old));
        segment.our_port = self.our_port;
        segment.data = (0..len).map(|i| i as u8).collect();
        segment.window = [0, 10, 800, 5_000, 60_000][self.below(5) as usize];
        if gap == 0 {
            self.seq = self.seq.wrapping_add(len);
        }
        if may_close && self.below(12) == 0 {
            segment.flags |= FIN;
        }
        segment
    }

    fn hear(&mut self, frames: &[Vec<u8>]) {
        for segment in segments(frames) {
            if segment.peer_port != self.port {
                continue;
            }
            let end = segment.seq.wrapping_add(segment.data.len() as u32);
            let end = end.wrapping_add(u32::from(segment.flags & (SYN | FIN) != 0));
            if end.wrapping_sub(self.ack) as i32 > 0 || segment.flags & SYN != 0 {
                self.ack = end;
            }
        }
    }
}

fn bench(keep_alive: bool) -> Bench {
    let mut config = config();
    config.max_flows = 1;
    config.flows_at_start = 1;
    config.keep_alive = keep_alive.then_some(Duration::from_secs(40));
    Bench::with(config, App::Echo)
}

/// Connects to the talker's `port` and returns what is sent.
fn connect_from(bench: &mut Bench, port: u16) -> Vec<Vec<u8>> {
    let mut connect = Connect::to(SocketAddrV4::new(THEM, port));
    connect.source_port = Some(PORT + 1);
    connect.mac = Some(PEER);
    let now = bench.now();
    let id = bench.server.poll.connect(now, &connect, |_| true).expect("the one flow is free");
    bench.server.flows.insert(id, 0);
    bench.server.connecting.insert(id);
    bench.turn()
}

/// Begins a flow, from here or from there. Returns what the talker says first.
fn begin(bench: &mut Bench, talker: &mut Talker, active: bool) -> Tcp {
    let mut first = talker.syn();
    if active {
        talker.our_port = PORT + 1;
        let syn = connect_from(bench, talker.port);
        talker.hear(&syn);
        first = Tcp { flags: SYN | ACK, our_port: talker.our_port, ack: talker.ack, ..first };
    }
    first
}

/// Puts the one flow through a life of its own and ends it.
fn live(bench: &mut Bench, seed: u64) {
    let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut talker = Talker { port: 4_000 + seed as u16, our_port: PORT, seq: seed as u32, ack: 0, rng };
    let active = talker.below(2) == 0;
    let first = begin(bench, &mut talker, active).frame();
    let answer = bench.frame(&first);
    talker.hear(&answer);
    for _ in 0..40 {
        let segment = talker.next(true);
        let answer = bench.frame(&segment.frame());
        talker.hear(&answer);
        // Repeated: three duplicate ACKs make smoltcp send again at once.
        if talker.below(4) == 0 {
            let ack = Tcp { data: Vec::new(), ..segment };
            for _ in 0..4 {
                bench.send(&ack.frame());
            }
            let answer = bench.turn();
            talker.hear(&answer);
        }
        let pause = talker.below(400);
        bench.wire.clock().advance(Duration::from_millis(u64::from(pause)));
        let answer = bench.turn();
        talker.hear(&answer);
    }
    for _ in 0..20 {
        if bench.server.poll.flows() == 0 {
            return;
        }
        // An RST in the window is challenged, and the challenge says which one is exact. With the window closed
        // nothing but the exact one is in it, so each of the last ACK numbers heard is tried as well.
        bench.wire.clock().advance(Duration::from_millis(200));
        let (port, our_port) = (talker.port, talker.our_port);
        let mut probe = Tcp::new(port, ACK, talker.seq.wrapping_add(30_000), talker.ack).with(b"?");
        probe.our_port = our_port;
        let heard: Vec<u32> = bench.tcp(&probe).iter().map(|answer| answer.ack).collect();
        for seq in heard {
            bench.tcp(&Tcp { our_port, ..Tcp::new(port, RST, seq, 0) });
        }
    }
    panic!("seed {seed}: the first flow does not end: {:?}", bench.server.poll.stack().census());
}

#[test]
fn whatever_came_before_a_recycled_flow_sends_what_a_fresh_one_sends() {
    for seed in 0..100 {
        println!("seed {seed}");
        let keep_alive = seed % 5 == 0;
        let (mut fresh, mut recycled) = (bench(keep_alive), bench(keep_alive));
        for life in 0..1 + seed % 3 {
            live(&mut recycled, seed * 7 + life);
        }
        let active = seed % 2 == 0;
        // Questions where a peer is are not the flow's; they end unanswered.
        for seconds in 1..5 {
            recycled.wire.clock().set(START - Duration::from_secs(10 - 2 * seconds));
            recycled.turn();
        }
        fresh.wire.clock().set(START);
        recycled.wire.clock().set(START);
        // Both turn once, so that both have let the same time pass.
        assert_eq!(fresh.turn(), recycled.turn());
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xabcd);
        let mut talker = Talker { port: 5_000, our_port: PORT, seq: 77, ack: 0, rng };
        let mut twin = Talker { rng: talker.rng.clone(), ..talker };
        let mut segment = begin(&mut fresh, &mut talker, active);
        assert_eq!(begin(&mut recycled, &mut twin, active), segment, "the same SYN from both");
        for step in 0..60 {
            let frame = segment.frame();
            let expected = fresh.frame(&frame);
            assert_eq!(recycled.frame(&frame), expected, "seed {seed}, step {step}");
            talker.hear(&expected);
            let pause = Duration::from_millis(u64::from(talker.below(300)));
            fresh.wire.clock().advance(pause);
            recycled.wire.clock().advance(pause);
            let expected = fresh.turn();
            assert_eq!(recycled.turn(), expected, "seed {seed}, after step {step}");
            talker.hear(&expected);
            segment = talker.next(step > 50);
        }
    }
}
