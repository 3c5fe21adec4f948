//! The relay for strays; how a core is woken for them is in `loom.rs`.

use sidestep_nic::{PoolConfig, QueueId, StrayHeader, stray_pair};

const SMALL: PoolConfig = PoolConfig { frames: 4, chunk_bytes: 2048, headroom_bytes: 0 };

fn header(hops: u8) -> StrayHeader {
    StrayHeader { hops, origin: QueueId(3) }
}

#[test]
fn strays_arrive_whole_in_order_and_bounded() {
    let (mut sender, mut receiver) = stray_pair(SMALL).unwrap();
    let taken = (0..6u8).filter(|&number| sender.offer(header(number), &[number; 90])).count();
    assert_eq!((taken, sender.offered(), sender.dropped(), sender.free_frames()), (4, 4, 2, 0));
    let mut seen = Vec::new();
    assert_eq!(receiver.receive(3, |header, bytes| seen.push((header, bytes.to_vec()))), 3);
    assert!(receiver.has_frames());
    assert_eq!(receiver.receive(9, |header, bytes| seen.push((header, bytes.to_vec()))), 1);
    let expected: Vec<_> = (0..4).map(|number| (header(number), vec![number; 90])).collect();
    assert_eq!(seen, expected);
    assert_eq!(sender.free_frames(), 4);
    assert!(!sender.offer(header(0), &[0; 2049]), "too long");
    assert_eq!((sender.dropped(), sender.free_frames()), (3, 4));
}

#[test]
fn either_side_may_go_first() {
    let (mut sender, receiver) = stray_pair(SMALL).unwrap();
    assert!(sender.offer(header(1), &[1; 60]));
    drop(receiver);
    assert!(sender.offer(header(1), &[1; 60]));
    drop(sender);
    let (mut sender, mut receiver) = stray_pair(SMALL).unwrap();
    assert!(sender.offer(header(1), &[1; 60]));
    drop(sender);
    assert_eq!(receiver.receive(9, |_, _| ()), 0);
}
