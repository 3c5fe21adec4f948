//! Nothing allocates on the path of a frame once the first frames have gone through.
//!
//! One test alone in its file: the counter is the process's.

use std::alloc::System;
use std::time::Duration;

use sidestep_nic::{
    Burst, Faults, PoolConfig, PortConfig, Queue, QueueId, RelayConfig, StrayHeader, Wire, relay_pair, stray_pair,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn wire_relay_and_strays_allocate_nothing_after_the_first_frames() {
    let faults = Faults { delay: Duration::from_micros(30), loss: 0.01, duplicate: 0.01, ..Faults::default() };
    let config = PortConfig { inbound: faults, ..PortConfig::with_queues(2) };
    let (wire, a, b) = Wire::pair(config.clone(), config, 1).expect("a good configuration");
    let clock = wire.clock();
    let mut client = a.take_queue(QueueId(0)).expect("closed so far");
    let mut nic = b.take_queue(QueueId(0)).expect("closed so far");
    let (mut worker, mut port) = relay_pair(RelayConfig::default()).expect("a good configuration");
    let (mut sender, mut receiver) = stray_pair(PoolConfig::default()).expect("a good configuration");
    let (mut burst, mut unsent) = (Burst::default(), Burst::default());
    let (mut echoed, mut strays) = (0u64, 0u64);

    let mut turn = |frames: usize| {
        // The client sends; the polling core hands over; the worker sends back what it got.
        while burst.len() < frames
            && let Some(mut frame) = client.tx_alloc()
        {
            frame.resize(1000).expect("a short frame");
            burst.push(frame).expect("there is room");
        }
        client.tx_burst(&mut burst);
        client.flush().expect("a wire is always there");
        clock.advance(Duration::from_micros(30));
        nic.rx_burst(&mut burst);
        while let Some(frame) = burst.pop() {
            port.forward(frame.bytes());
            sender.offer(StrayHeader { hops: 1, origin: QueueId(0) }, frame.bytes());
            nic.free(frame);
        }
        strays += receiver.receive(64, |_, bytes| assert_eq!(bytes.len(), 1000)) as u64;
        worker.rx_burst(&mut burst);
        worker.tx_burst(&mut burst);
        worker.flush().expect("a relay is always there");
        port.transmit(&mut nic, &mut unsent);
        nic.flush().expect("a wire is always there");
        clock.advance(Duration::from_micros(30));
        echoed += client.rx_burst(&mut burst) as u64;
        while let Some(frame) = burst.pop() {
            client.free(frame);
        }
        client.flush().expect("a wire is always there");
    };
    // The wire keeps as many buffers as were ever under way, so the first turns carry the most.
    for _ in 0..50 {
        turn(64);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..2000 {
        turn(56);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
    assert!(echoed > 100_000 && strays > 100_000, "{echoed} echoed, {strays} strays");
}
