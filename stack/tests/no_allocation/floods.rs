//! Floods of SYNs and of fragments allocate nothing, and nothing does who proves real meanwhile.

use std::time::Duration;

use sidestep_stack::DropReason;
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::bench::Bench;
use crate::lab::odd::cut;
use crate::lab::raw::{ACK, SYN, Tcp};
use crate::lab::{App, config};

/// Calls of the allocator while `work` is done.
fn calls(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations + change.deallocations
}

/// Sends each frame in a turn of its own, 100 a millisecond. Returns how many SYN-ACKs come.
fn flood(bench: &mut Bench, frames: &[Vec<u8>]) -> usize {
    let mut answers = 0;
    for (number, frame) in frames.iter().enumerate() {
        if number.is_multiple_of(100) {
            bench.wire.clock().advance(Duration::from_millis(1));
        }
        bench.send(frame);
        bench.turn_with(|frame| answers += usize::from(frame[47] == SYN | ACK));
    }
    answers
}

pub fn a_flood_allocates_nothing() {
    let mut config = config();
    config.flows_at_start = 1_024;
    let mut bench = Bench::with(config, App::Record);
    let syn = |number: u32| Tcp::new(1_024 + (number % 60_000) as u16, SYN, number, 0);
    let syns: Vec<Vec<u8>> = (0..20_000).map(|number| syn(number).frame_from([10, 200, 0, 1])).collect();
    // Of 5,000 packets of 60,000 bytes that never become whole: the first fragment, and the one before the last.
    let packet =
        |number: u16| Tcp::new(number, ACK, 1, 1).with(&[7; 60_000]).frame_from([10, 200, 1, (number % 250) as u8]);
    let fragments: Vec<Vec<u8>> = (1..5_000)
        .flat_map(|number| {
            let mut frames = cut(&packet(number), number, 1_480);
            frames.truncate(40);
            [frames.swap_remove(0), frames.swap_remove(1)]
        })
        .collect();
    // The wire keeps buffers of its own from the first frames on, and the list of what the application is told grows.
    let (first, rest) = syns.split_at(1_000);
    let mut answers = flood(&mut bench, first);
    let syn_ack = bench.one(&Tcp::new(5_000, SYN, 1, 0));
    let ack = Tcp::new(5_000, ACK, 2, syn_ack.seq.wrapping_add(1)).frame();
    bench.server.events.reserve(16);
    let by_syns = calls(|| {
        answers += flood(&mut bench, rest);
        bench.send(&ack);
        bench.turn_with(|_| {});
    });
    assert_eq!((answers, bench.server.poll.stack().stats().cookies_accepted, by_syns), (syns.len(), 1, 0));
    // The buffers that are there are all that fragments ever get.
    let (first, rest) = fragments.split_at(1_000);
    flood(&mut bench, first);
    let by_fragments = calls(|| {
        flood(&mut bench, rest);
    });
    assert!(bench.drops(DropReason::FragmentsIncomplete) > 4_900, "{:?}", bench.server.poll.stack().stats());
    assert_eq!(by_fragments, 0);
}
