//! A turn that answers datagrams allocates nothing, whatever comes.

use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::udp::{Echo, Udp, UdpBench};

pub fn datagrams_and_their_answers_allocate_nothing() {
    let mut bench = UdpBench::new();
    let good: Vec<_> = (0..32).map(|port| Udp::new(5_000 + port, &[1; 40]).frame()).collect();
    let mut broken = good[0].clone();
    broken[60] ^= 1;
    let looping = Udp::new(7, &[1; 40]).frame();
    let mut answers = 0;
    let mut round = |bench: &mut UdpBench| {
        for frame in good.iter().chain([&broken, &looping]) {
            bench.send(frame);
        }
        bench.turn_with(&mut Echo, |frame| answers += usize::from(frame.len() == 14 + 28 + 40));
    };
    // The wire keeps buffers of its own from the first frames on.
    for _ in 0..10 {
        round(&mut bench);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..1_000 {
        round(&mut bench);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
    assert_eq!(answers, 1_010 * 32);
}
