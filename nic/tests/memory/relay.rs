//! The relay between a worker and a polling core; how they wake each other is in `loom.rs`.

use sidestep_nic::{Burst, PoolConfig, PortConfig, Queue, QueueId, RelayConfig, Wire, relay_pair};

fn small() -> RelayConfig {
    RelayConfig { pool: PoolConfig { frames: 16, ..PoolConfig::default() }, rx_ring: 8, max_frame_bytes: 1514 }
}

fn send(queue: &mut impl Queue, bytes: &[u8]) {
    let mut frame = queue.tx_alloc().unwrap();
    frame.resize(bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    let mut burst = Burst::with_capacity(1);
    burst.push(frame).unwrap();
    assert_eq!(queue.tx_burst(&mut burst), 1);
    queue.flush().unwrap();
}

#[test]
fn what_the_worker_has_no_frame_for_is_dropped_and_counted_on_both_sides() {
    let (mut queue, mut port) = relay_pair(small()).unwrap();
    let taken = (0..10u8).filter(|&number| port.forward(&[number; 60])).count();
    assert_eq!(taken, 8);
    assert_eq!((port.stats().forwarded, port.stats().dropped, queue.stats().rx_dropped), (8, 2, 2));
    assert!(!port.forward(&[0; 4096]), "too long for a frame");
    let mut burst = Burst::default();
    assert_eq!(queue.rx_burst(&mut burst), 8);
    for number in 0..8 {
        let frame = burst.pop().unwrap();
        assert_eq!(frame.bytes(), [number; 60]);
        queue.free(frame);
    }
    queue.flush().unwrap();
    assert!(!port.forward(&[0; 4096]), "too long for a frame");
    assert!(port.forward(&[1; 60]), "the frame that was too short was posted again");
    assert_eq!((queue.stats().rx_dropped, queue.stats().drops.relay_full), (4, 4));
}

#[test]
fn a_frame_that_cannot_be_sent_on_is_offered_again_first() {
    let (mut queue, mut port) = relay_pair(small()).unwrap();
    for number in 0..4 {
        send(&mut queue, &[number; 60]);
    }
    assert!(port.has_frames());
    let mut seen = Vec::new();
    let mut room = 2;
    let mut take = |bytes: &[u8]| {
        if room == 0 {
            room = 9;
            return false;
        }
        room -= 1;
        seen.push(bytes[0]);
        true
    };
    assert_eq!(port.collect(64, &mut take), 2);
    assert_eq!(port.collect(64, &mut take), 2);
    assert_eq!(seen, [0, 1, 2, 3]);
    assert!(!port.has_frames());
    queue.flush().unwrap();
    assert_eq!(queue.census().tx, 0);
}

#[test]
fn the_workers_frames_leave_on_the_nic_queue() {
    let config = PortConfig { rx_ring: 4, tx_ring: 4, frames: 8, ..PortConfig::default() };
    let (_wire, a, b) = Wire::pair(config, PortConfig::default(), 1).unwrap();
    let (mut nic, mut far) = (a.take_queue(QueueId(0)).unwrap(), b.take_queue(QueueId(0)).unwrap());
    let (mut worker, mut port) = relay_pair(small()).unwrap();
    for number in 0..8 {
        send(&mut worker, &[number; 60]);
    }
    let mut burst = Burst::default();
    let mut turns = 0;
    while port.has_frames() || !burst.is_empty() {
        // What the NIC queue had no room for is offered first.
        nic.tx_burst(&mut burst);
        if burst.is_empty() {
            port.transmit(&mut nic, &mut burst);
        }
        nic.flush().unwrap();
        turns += 1;
        assert!(turns < 100, "the relay does not come to rest");
    }
    worker.flush().unwrap();
    assert_eq!((worker.census().tx, nic.census().held), (0, 0));
    let mut received = Burst::default();
    assert_eq!(far.rx_burst(&mut received), 8);
    let first_bytes: Vec<u8> = received.iter().map(|frame| frame.bytes()[0]).collect();
    assert_eq!(first_bytes, (0..8).collect::<Vec<_>>());
}

#[test]
fn either_side_may_go_first() {
    let (queue, mut port) = relay_pair(small()).unwrap();
    assert!(port.forward(&[1; 60]));
    drop(queue);
    assert!(!port.forward(&[2; 60]));
    assert_eq!(port.collect(8, |_| true), 0);

    let (mut queue, mut port) = relay_pair(small()).unwrap();
    send(&mut queue, &[1; 60]);
    assert_eq!(port.collect(8, |_| false), 0);
    drop(port);
    queue.flush().unwrap();
    assert_eq!(queue.census().tx, 0);
    send(&mut queue, &[2; 60]);
    drop(queue);
}

#[test]
fn frames_cross_threads_whole_and_in_order() {
    const FRAMES: u32 = 50_000;
    let (mut queue, mut port) = relay_pair(small()).unwrap();
    let bytes_of = |number: u32| {
        let mut bytes = [number as u8; 200];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    std::thread::scope(|scope| {
        // The worker sends back what it receives.
        scope.spawn(move || {
            let mut burst = Burst::default();
            let mut echoed = 0;
            while echoed < FRAMES {
                queue.rx_burst(&mut burst);
                echoed += queue.tx_burst(&mut burst) as u32;
                queue.flush().unwrap();
                std::thread::yield_now();
            }
            while queue.census().tx > 0 {
                queue.flush().unwrap();
                std::thread::yield_now();
            }
            let census = queue.census();
            assert_eq!((census.held, census.free + census.fill), (0, census.total));
        });
        let (mut sent, mut back) = (0, 0);
        while back < FRAMES {
            if sent < FRAMES && port.forward(&bytes_of(sent)) {
                sent += 1;
            } else {
                std::thread::yield_now();
            }
            port.collect(64, |bytes| {
                assert_eq!(bytes, bytes_of(back));
                back += 1;
                true
            });
        }
        assert_eq!((sent, back), (FRAMES, FRAMES));
    });
}

#[test]
fn a_relay_out_of_range_is_refused() {
    let refused = |config| relay_pair(config).unwrap_err().to_string();
    assert_eq!(
        refused(RelayConfig { rx_ring: 13, ..small() }),
        "relay rx_ring: 13 is out of range; it must be from 1 to 12"
    );
    assert!(refused(RelayConfig { max_frame_bytes: 5000, ..small() }).contains("5000"));
    let pool = PoolConfig { chunk_bytes: 1000, ..small().pool };
    assert!(refused(RelayConfig { pool, ..small() }).contains("power of two"));
}

#[test]
fn a_frame_that_no_link_could_carry_is_refused_and_counted_not_lost() {
    let (mut queue, mut port) = relay_pair(small()).unwrap();
    send(&mut queue, &[]);
    assert_eq!(port.collect(64, &mut |_: &[u8]| true), 0);
    assert_eq!(queue.stats().drops.tx_refused, 1);
    let census = queue.census();
    assert_eq!((census.tx, census.held), (0, 0), "{census:?}");
}
