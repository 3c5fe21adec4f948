//! After start, nothing on the path of a GET hit allocates, from `rx_burst` to `tx_burst`, whichever core has the item.

#[path = "rig/rig.rs"]
mod rig;

use std::alloc::System;
use std::time::Duration;

use rig::raw::{ACK, PSH, Tcp};
use rig::{Rig, Shape};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls of the allocator.
fn calls(stats: Stats) -> usize {
    stats.allocations + stats.reallocations + stats.deallocations
}

/// A connection made by hand.
struct Peer {
    rig: Rig,
    source: [u8; 4],
    seq: u32,
    ack: u32,
}

impl Peer {
    /// Requests that crossed cores.
    fn crossed(&self) -> u64 {
        self.rig.workers.iter().map(|worker| worker.cache.counters().cross_core_requests.value()).sum()
    }

    /// Sends a request, has the cores answer it, and returns how many bytes of data came and what the turns of the
    /// cores called of the allocator. The frame is made, and the answer acknowledged, outside the turns.
    fn ask(&mut self, request: &[u8]) -> (Vec<u8>, usize) {
        let frame = Tcp::new(40_000, ACK | PSH, self.seq, self.ack).with(request).frame_from(self.source);
        self.seq = self.seq.wrapping_add(request.len() as u32);
        self.rig.wire.clock().advance(Duration::from_micros(300));
        self.rig.send_frame(&frame);
        let (mut total, mut data) = (0, Vec::new());
        loop {
            self.rig.turns(|turn| {
                let region = Region::new(ALLOCATOR);
                turn();
                total += calls(region.change());
            });
            let before = data.len();
            self.rig.look_at_frames(|frame| data.extend(Tcp::read(frame).data));
            if data.len() == before {
                return (data, total);
            }
            self.ack = self.ack.wrapping_add((data.len() - before) as u32);
            self.rig.send_frame(&Tcp::new(40_000, ACK, self.seq, self.ack).frame_from(self.source));
        }
    }
}

/// The only test of this binary: another's allocations would be counted.
#[test]
fn a_get_hit_allocates_nothing_on_its_own_core_or_across() {
    let source = [10, 77, 0, 1];
    let mut rig = Rig::new(Shape::default());
    let ack = rig.open(source, 40_000, 100);
    let mut peer = Peer { rig, source, seq: 101, ack };
    // Values that fit one segment, that need two, and that another core hands over piece by piece.
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for number in 0..60usize {
        let value = vec![b'a' + (number % 26) as u8; [10, 1_000, 1_800][number % 3]];
        let mut request = format!("set key-{number} {number} 0 {}\r\n", value.len()).into_bytes();
        request.extend(&value);
        request.extend(b"\r\n");
        let before = peer.crossed();
        for piece in request.chunks(1_400) {
            let (reply, _) = peer.ask(piece);
            assert!(reply.is_empty() || reply == b"STORED\r\n", "{}", rig::shown(&reply));
        }
        let mut hit = format!("VALUE key-{number} {number} {}\r\n", value.len()).into_bytes();
        hit.extend(&value);
        hit.extend(b"\r\nEND\r\n");
        let keys = if peer.crossed() == before { &mut own } else { &mut others };
        keys.push((format!("get key-{number}\r\n").into_bytes(), hit));
    }
    assert!(own.len() > 10 && others.len() > 10, "{} and {}", own.len(), others.len());

    for (name, keys) in [("its own core", &own), ("the other core", &others)] {
        let before = peer.crossed();
        let mut total = 0;
        for round in 0..30 {
            for (request, hit) in keys {
                let (reply, change) = peer.ask(request);
                assert!(reply == *hit, "{} is not {}", rig::shown(&reply), rig::shown(hit));
                // The wire keeps buffers of its own from the first rounds on.
                if round > 4 {
                    total += change;
                }
            }
        }
        let crossed = peer.crossed() - before;
        assert_eq!(crossed, if name == "its own core" { 0 } else { 30 * others.len() as u64 });
        assert_eq!(total, 0, "calls of the allocator by hits on {name}");
    }
}
