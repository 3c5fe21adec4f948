//! Nothing is allocated on the path of a hit, on one core or across two, nor on that of a small store.
//!
//! Alone in its binary: the counter sees every allocation of the process.

use std::alloc::System;

use sidestep_cache::{CacheConfig, ConnId, Core, Now, Session};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Now = Now { secs: 100, unix_epoch: 1_700_000_000 };

/// Sends `input` over core 0, runs both cores until all is answered, and returns the bytes of the replies. Up to `room`
/// bytes may be answered at once.
fn exchange(cores: &mut [Core], session: &mut Session, input: &[u8], room: usize, out: &mut [u8]) -> usize {
    let (mut taken, mut given) = (0, 0);
    while taken < input.len() || session.pending() > 0 {
        for index in 0..cores.len() {
            cores[index].collect(NOW);
            if index == 0 {
                while cores[0].next_resumable().is_some() {}
                taken += session.take(&mut cores[0], &input[taken..], room, NOW).consumed;
                given += cores[0].answers().len();
                given += session.give(&mut cores[0], &mut out[given..]).written;
            }
            let _ = cores[index].post();
        }
    }
    given
}

fn main() {
    hits_and_small_stores_allocate_nothing_after_start();
}

fn hits_and_small_stores_allocate_nothing_after_start() {
    let mut out = vec![0; 1 << 20];
    for count in [1, 2] {
        let config = CacheConfig { cores: count, ..CacheConfig::default() };
        let mut cores = Core::mesh(&config, [9; 16]).expect("a cache");
        let mut session = Session::new(ConnId(0));
        let (mut store, mut gets, mut streamed) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..200 {
            store.extend_from_slice(format!("set key{number} 0 0 100\r\n{}\r\n", "x".repeat(100)).as_bytes());
            gets.extend_from_slice(format!("get key{number}\r\n").as_bytes());
            gets.extend_from_slice(format!("get key{number} key{} none\r\n", number / 2).as_bytes());
        }
        for number in 0..4 {
            store.extend_from_slice(format!("set big{number} 0 0 50000\r\n{}\r\n", "y".repeat(50_000)).as_bytes());
            streamed.extend_from_slice(format!("get big{number}\r\n").as_bytes());
        }
        exchange(&mut cores, &mut session, &store, 0, &mut out);
        exchange(&mut cores, &mut session, &store, 8192, &mut out);
        let crossed = cores[0].counters().cross_core_requests.value();
        assert_eq!(crossed > 0, count > 1);
        for (what, input, replies) in [
            ("gets", &gets, 200 * 117 + 400 * 117 + 400 * 5),
            ("streamed gets", &streamed, 4 * 50_000),
            ("stores", &store, 204 * 8),
        ] {
            for room in [0, 8192] {
                let region = Region::new(ALLOCATOR);
                let bytes = exchange(&mut cores, &mut session, input, room, &mut out);
                let change = region.change();
                assert!(bytes >= replies, "{what}: {bytes} bytes of replies");
                let allocated = (change.allocations, change.reallocations);
                assert_eq!(allocated, (0, 0), "{what}, {count} cores, room {room}: {change:?}");
            }
        }
        session.end(&mut cores[0]);
    }
}
