use super::*;
use crate::burst::Burst;
use crate::fault::{BurstLoss, Corrupt, RateLimit, Reorder};
use crate::queue::Queue;

const MS: Duration = Duration::from_millis(1);

/// Small ports, so that rings overflow early.
fn small(inbound: Faults) -> PortConfig {
    PortConfig { rx_ring: 64, tx_ring: 64, frames: 256, inbound, ..PortConfig::default() }
}

/// An IPv4 UDP frame from `source_port`, checksums left out, that carries a number.
fn numbered(source_port: u16, number: u32) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0x2b, 0xcb, 0, 26, 0x12, 0x34]);
    frame.extend(number.to_be_bytes());
    frame.extend([0xaa; 14]);
    frame
}

fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]])
}

fn send(queue: &mut WireQueue, bytes: &[u8]) {
    let mut burst = Burst::with_capacity(1);
    let mut frame = queue.tx_alloc().expect("a free frame");
    frame.resize(bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    burst.push(frame).unwrap();
    assert_eq!(queue.tx_burst(&mut burst), 1);
    queue.flush().unwrap();
}

fn receive(queue: &mut WireQueue) -> Vec<Vec<u8>> {
    let mut burst = Burst::default();
    let mut frames = Vec::new();
    while queue.rx_burst(&mut burst) > 0 {
        while let Some(frame) = burst.pop() {
            frames.push(frame.bytes().to_vec());
            queue.free(frame);
        }
        queue.flush().unwrap();
    }
    frames
}

fn assert_conserved(counts: WireCounts) {
    assert_eq!(counts.sent + counts.duplicated, counts.delivered + counts.all_lost() + counts.in_flight, "{counts:?}");
}

#[test]
fn a_frame_arrives_when_its_time_has_come_and_not_before() {
    let faults = Faults { delay: 5 * MS, ..Faults::default() };
    let (wire, a, b) = Wire::pair(small(Faults::default()), small(faults), 1).unwrap();
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let clock = wire.clock();
    assert_eq!(wire.next_due(), None);
    send(&mut a, &numbered(1, 7));
    assert_eq!(wire.next_due(), Some(5 * MS));
    clock.advance(5 * MS - Duration::from_nanos(1));
    assert!(receive(&mut b).is_empty());
    clock.set(wire.next_due().unwrap());
    assert_eq!(receive(&mut b), [numbered(1, 7)]);
    assert_eq!(wire.next_due(), None);
    clock.set(MS);
    assert_eq!(clock.now(), 5 * MS, "the clock does not go back");
    // The other direction has no delay.
    send(&mut b, &numbered(2, 8));
    assert_eq!(receive(&mut a), [numbered(2, 8)]);
}

#[test]
fn a_frame_leaves_at_the_flush() {
    let (wire, a, b) = Wire::pair(small(Faults::default()), small(Faults::default()), 1).unwrap();
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let mut burst = Burst::default();
    let mut frame = a.tx_alloc().unwrap();
    frame.resize(60).unwrap();
    burst.push(frame).unwrap();
    assert_eq!(a.tx_burst(&mut burst), 1);
    assert_eq!((a.census().tx, wire.counts(1).sent), (1, 0));
    assert!(receive(&mut b).is_empty());
    a.flush().unwrap();
    assert_eq!((a.census().tx, wire.counts(1).sent), (0, 1));
    assert_eq!(receive(&mut b).len(), 1);
}

#[test]
fn frames_are_steered_to_the_queue_that_the_hash_predicts() {
    let (wire, a, b) = Wire::pair(small(Faults::default()), PortConfig::with_queues(4), 1).unwrap();
    let mut a = a.take_queue(QueueId(0)).unwrap();
    let mut queues: Vec<WireQueue> = (0..4).map(|queue| b.take_queue(QueueId(queue)).unwrap()).collect();
    for port in 1000..1100 {
        let frame = numbered(port, 0);
        send(&mut a, &frame);
        let predicted = usize::from(b.rss().queue_for(&frame).0);
        let source = std::net::SocketAddr::from(([10, 77, 0, 1], port));
        let flow = b.rss().queue_for_flow(source, std::net::SocketAddr::from(([10, 77, 0, 2], 11_211)));
        assert_eq!(usize::from(flow.0), predicted);
        for (number, queue) in queues.iter_mut().enumerate() {
            assert_eq!(receive(queue).len(), usize::from(number == predicted));
        }
    }
    assert!(queues.iter().all(|queue| queue.stats().rx_frames > 10));
    assert_conserved(wire.counts(1));
}

#[test]
fn frames_for_a_queue_that_is_not_open_are_dropped_and_counted() {
    let (wire, a, b) = Wire::pair(small(Faults::default()), small(Faults::default()), 1).unwrap();
    let mut a = a.take_queue(QueueId(0)).unwrap();
    send(&mut a, &numbered(1, 1));
    let mut opened = b.take_queue(QueueId(0)).unwrap();
    assert!(matches!(b.take_queue(QueueId(0)).unwrap_err(), WireError::QueueTaken { queue: QueueId(0) }));
    assert!(matches!(b.take_queue(QueueId(1)).unwrap_err(), WireError::NoSuchQueue { queues: 1, .. }));
    // It was under way, and the queue opened in time.
    assert_eq!(receive(&mut opened).len(), 1);
    drop(opened);
    send(&mut a, &numbered(1, 2));
    receive(&mut a);
    wire.shared.lock().deliver(1, Duration::ZERO);
    assert_eq!(wire.counts(1).rx_dropped, 1);
    let mut again = b.take_queue(QueueId(0)).unwrap();
    send(&mut a, &numbered(1, 3));
    assert_eq!(receive(&mut again), [numbered(1, 3)]);
    assert_conserved(wire.counts(1));
}

#[test]
fn a_hub_carries_a_frame_to_every_other_port() {
    let configs = (0..3).map(|_| small(Faults::default())).collect();
    let (wire, ports) = Wire::hub(configs, 1).unwrap();
    let mut queues: Vec<WireQueue> = ports.iter().map(|port| port.take_queue(QueueId(0)).unwrap()).collect();
    send(&mut queues[1], &numbered(1, 5));
    let received: Vec<usize> = queues.iter_mut().map(|queue| receive(queue).len()).collect();
    assert_eq!(received, [1, 0, 1]);
    assert_eq!((wire.counts(0).delivered, wire.counts(1).sent), (1, 0));
}

#[test]
fn reordering_overtakes_within_its_depth_and_loses_nothing() {
    let reorder = Some(Reorder { probability: 0.1, depth: 3, hold: 2 * MS });
    let (wire, a, b) =
        Wire::pair(small(Faults::default()), small(Faults { reorder, ..Faults::default() }), 99).unwrap();
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let mut arrived = Vec::new();
    for number in 0..2000 {
        send(&mut a, &numbered(1, number));
        arrived.extend(receive(&mut b).iter().map(|frame| number_of(frame)));
    }
    // What is still held back comes when its time is up.
    wire.clock().advance(2 * MS);
    arrived.extend(receive(&mut b).iter().map(|frame| number_of(frame)));
    let held = wire.counts(1).reordered;
    assert!((150..250).contains(&held), "{held}");
    let moved = arrived.iter().enumerate().filter(|(place, number)| *place as u32 > **number).count();
    assert!(moved > 100, "{moved}");
    for (place, number) in arrived.iter().enumerate() {
        // Some of those that overtake are held back themselves, hence more than the depth.
        assert!((place as i64 - i64::from(*number)).abs() <= 9, "{number} at {place}");
    }
    arrived.sort_unstable();
    assert_eq!(arrived, (0..2000).collect::<Vec<_>>());
}

#[test]
fn jitter_keeps_the_order() {
    let faults = Faults { delay: MS, jitter: 3 * MS, ..Faults::default() };
    let (wire, a, b) = Wire::pair(small(Faults::default()), small(faults), 5).unwrap();
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let mut arrived = Vec::new();
    for number in 0..500 {
        send(&mut a, &numbered(1, number));
        wire.clock().advance(MS / 4);
        arrived.extend(receive(&mut b).iter().map(|frame| number_of(frame)));
    }
    wire.clock().advance(4 * MS);
    arrived.extend(receive(&mut b).iter().map(|frame| number_of(frame)));
    assert_eq!(arrived, (0..500).collect::<Vec<_>>());
}

#[test]
fn what_is_under_way_is_bounded() {
    let config = PortConfig { in_flight_frames: 10, ..small(Faults { delay: MS, ..Faults::default() }) };
    let (wire, a, b) = Wire::pair(small(Faults::default()), config, 5).unwrap();
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    for number in 0..25 {
        send(&mut a, &numbered(1, number));
    }
    assert_eq!((wire.counts(1).in_flight, wire.counts(1).overflowed), (10, 15));
    wire.clock().advance(MS);
    assert_eq!(receive(&mut b).len(), 10);
    assert_conserved(wire.counts(1));
}

/// Everything at once, both ways; gives what was seen.
fn stormy_run(seed: u64) -> (Vec<Vec<u8>>, Vec<WireEvent>, [WireCounts; 2]) {
    let faults = Faults {
        loss: 0.05,
        burst_loss: Some(BurstLoss { enter: 0.01, leave: 0.3, loss: 0.9 }),
        duplicate: 0.02,
        reorder: Some(Reorder { probability: 0.05, depth: 4, hold: MS }),
        corrupt: Some(Corrupt { probability: 0.05, bits: 15 }),
        delay: MS,
        jitter: MS / 2,
        rate: Some(RateLimit { bits_per_second: 8_000_000, queue_bytes: 20_000 }),
        blackholes: vec![20 * MS..25 * MS],
        ..Faults::default()
    };
    let (wire, a, b) = Wire::pair(small(faults.clone()), small(faults), seed).unwrap();
    wire.log_events(1 << 16);
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let mut seen = Vec::new();
    for number in 0..3000 {
        send(&mut a, &numbered(1, number));
        send(&mut b, &numbered(2, number));
        if number % 3 == 0 {
            wire.clock().advance(MS / 8);
            seen.extend(receive(&mut a));
            seen.extend(receive(&mut b));
        }
        assert_conserved(wire.counts(0));
        assert_conserved(wire.counts(1));
    }
    while let Some(due) = wire.next_due() {
        wire.clock().set(due);
        seen.extend(receive(&mut a));
        seen.extend(receive(&mut b));
    }
    let counts = [wire.counts(0), wire.counts(1)];
    assert_eq!(counts.map(|counts| counts.in_flight), [0, 0]);
    for queue in [&a, &b] {
        let census = queue.census();
        assert_eq!((census.tx, census.held, census.free + census.fill), (0, 0, census.total));
    }
    (seen, wire.take_events(), counts)
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let first = stormy_run(1234);
    assert!(first == stormy_run(1234), "seed 1234 gave two runs");
    let other = stormy_run(1235);
    assert!(first.1 != other.1);
    // The run met every fault.
    let counts = first.2[1];
    for (what, count) in [
        ("lost", counts.lost),
        ("burst_lost", counts.burst_lost),
        ("duplicated", counts.duplicated),
        ("reordered", counts.reordered),
        ("corrupted", counts.corrupted),
        ("rate_dropped", counts.rate_dropped),
        ("blackholed", counts.blackholed),
    ] {
        assert!(count > 0, "{what}: {counts:?}");
    }
    assert_conserved(counts);
}

#[test]
fn both_directions_have_faults_of_their_own() {
    let faults = Faults { loss: 0.5, ..Faults::default() };
    let (wire, a, b) = Wire::pair(small(faults.clone()), small(faults), 3).unwrap();
    let (mut a, mut b) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let mut arrived = [Vec::new(), Vec::new()];
    for number in 0..64 {
        send(&mut a, &numbered(1, number));
        send(&mut b, &numbered(1, number));
        arrived[0].extend(receive(&mut a));
        arrived[1].extend(receive(&mut b));
    }
    assert_ne!(arrived[0], arrived[1]);
    wire.set_inbound_faults(1, Faults::default()).unwrap();
    assert!(wire.set_inbound_faults(1, Faults { loss: -1.0, ..Faults::default() }).is_err());
    for number in 0..64 {
        send(&mut a, &numbered(1, number));
    }
    assert_eq!(receive(&mut b).len(), 64);
}

#[test]
fn a_wire_out_of_range_is_refused() {
    let refused = |change: fn(&mut PortConfig)| {
        let mut config = PortConfig::default();
        change(&mut config);
        Wire::pair(PortConfig::default(), config, 1).unwrap_err().to_string()
    };
    assert_eq!(refused(|c| c.queues = 0), "queues: 0 is out of range; it must be from 1 to 65535");
    assert_eq!(refused(|c| c.frames = 1000), "frames: 1000 is out of range; it must be from 1024 to 4294967295");
    assert!(refused(|c| c.max_frame_bytes = 1793).starts_with("max_frame_bytes: 1793"));
    assert!(refused(|c| c.inbound.loss = 2.0).starts_with("loss: 2"));
    assert!(matches!(Wire::hub(vec![PortConfig::default()], 1), Err(WireError::Ports { ports: 1 })));
    // A chunk size that is no power of two is found when the queue is opened.
    let config = PortConfig { chunk_bytes: 3000, ..PortConfig::default() };
    let (_wire, port, _) = Wire::pair(config, PortConfig::default(), 1).unwrap();
    for _ in 0..2 {
        assert!(matches!(port.take_queue(QueueId(0)).unwrap_err(), WireError::Pool { .. }));
    }
}
