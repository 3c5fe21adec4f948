//! Rings of slots over the in-memory wire: against a model, and that forwarding copies nothing.

use std::collections::VecDeque;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_nic::ring::{OtherMemory, Ring, RingPort, forward, swap_buffers};
use sidestep_nic::{PortConfig, Queue, QueueId, Wire, WireQueue};

/// Slots of each ring.
const SLOTS: usize = 16;

fn wire() -> (Wire, RingPort<WireQueue>, RingPort<WireQueue>) {
    let config = PortConfig { rx_ring: 64, tx_ring: 8, frames: 128, ..PortConfig::default() };
    let (wire, a, b) = Wire::pair(config.clone(), config, 1).expect("a good configuration");
    let [a, b] = [a, b].map(|port| RingPort::new(port.take_queue(QueueId(0)).expect("first time"), SLOTS));
    (wire, a, b)
}

/// Writes a frame with this number into the first slot, and gives that to be sent.
fn send(port: &mut RingPort<WireQueue>, number: u64) {
    let (_, sent) = port.rings();
    let head = sent.head();
    let slot = sent.slot_mut(head).expect("a free slot");
    slot.set_len(60).expect("room");
    slot.bytes_mut().fill(0);
    slot.bytes_mut()[20..28].copy_from_slice(&number.to_be_bytes());
    sent.set_head(sent.next(head)).expect("it was ours");
}

/// The number in the first slot received, which is given back; `None` without any.
fn receive(port: &mut RingPort<WireQueue>) -> Option<u64> {
    let (received, _) = port.rings();
    let head = received.head();
    let bytes = received.slot(head)?.bytes();
    let number = u64::from_be_bytes(bytes[20..28].try_into().expect("eight bytes"));
    received.set_head(received.next(head)).expect("it was ours");
    Some(number)
}

fn assert_sound(ring: &Ring) {
    let ours: Vec<usize> = (0..ring.slots()).filter(|&slot| ring.slot(slot).is_some()).collect();
    assert_eq!(ours.len(), ring.space());
    assert!(ring.space() < ring.slots(), "one slot stays with the link");
    let mut buffers: Vec<_> = ours.iter().map(|&slot| ring.slot(slot).and_then(|slot| slot.buffer())).collect();
    assert!(buffers.iter().all(Option::is_some), "each slot of the program's has a buffer");
    buffers.sort_unstable();
    buffers.dedup();
    assert_eq!(buffers.len(), ours.len(), "a buffer is in one slot");
}

/// Whatever the order of calls: what one end sends, the other receives once and in order, and no buffer is lost.
#[test]
fn rings_behave_as_a_queue_whatever_the_order_of_calls() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (_wire, mut a, mut b) = wire();
        let (mut model, mut next) = (VecDeque::new(), 0);
        let total = a.queue().census().total;
        for _ in 0..4000 {
            match random.next_u64() % 6 {
                // So many that the wire drops none.
                0 | 1 if model.len() < 40 && a.rings().1.space() > 0 => {
                    send(&mut a, next);
                    model.push_back(next);
                    next += 1;
                }
                2 => a.txsync().expect("the link is there"),
                3 => b.rxsync().expect("the link is there"),
                4 => {
                    if let Some(number) = receive(&mut b) {
                        assert_eq!(Some(number), model.pop_front());
                    }
                }
                _ => a.rxsync().expect("the link is there"),
            }
            for port in [&mut a, &mut b] {
                let (received, sent) = port.rings();
                assert_sound(received);
                assert_sound(sent);
            }
            let census = a.queue().census();
            assert_eq!(census.free + census.fill + census.tx + census.held, total);
        }
        for _ in 0..40 {
            a.txsync().expect("the link is there");
            b.rxsync().expect("the link is there");
            while let Some(number) = receive(&mut b) {
                assert_eq!(Some(number), model.pop_front());
            }
        }
        assert!(model.is_empty(), "{} frames never came", model.len());
        assert!(next > 500, "{next} frames were sent");
    }
}

/// A frame that is forwarded leaves from the very buffer that it was received in.
#[test]
fn what_is_forwarded_leaves_from_the_buffer_that_it_came_in() {
    let (_wire, mut host, mut middle) = wire();
    for number in 0..1000 {
        send(&mut host, number);
        host.txsync().expect("the link is there");
        middle.rxsync().expect("the link is there");
        let (received, sent) = middle.rings();
        let (from, to) = (received.head(), sent.head());
        let buffer = received.slot(from).expect("it has arrived").buffer();
        assert_eq!(forward(received, sent, 1), Ok(1));
        assert!(sent.slot(to).is_none() && sent.space() < SLOTS - 1, "it is given to the link");
        assert_ne!(received.slot(from).and_then(|slot| slot.buffer()), buffer);
        middle.txsync().expect("the link is there");
        middle.rxsync().expect("the link is there");
        host.rxsync().expect("the link is there");
        assert_eq!(receive(&mut host), Some(number));
    }
    let census = middle.queue().census();
    assert_eq!(census.held, SLOTS - 1, "the buffers of the transmit ring alone are out: {census:?}");
}

#[test]
fn buffers_of_two_queues_do_not_change_places_and_are_copied_by_name() {
    let (_wire, mut a, mut b) = wire();
    send(&mut a, 7);
    a.txsync().expect("the link is there");
    b.rxsync().expect("the link is there");
    let (received, (_, sent)) = (b.rings().0, a.rings());
    assert_eq!(forward(received, sent, 1), Err(OtherMemory));
    let (from, to) = (received.head(), sent.head());
    let (from, to) = (received.slot_mut(from).expect("ours"), sent.slot_mut(to).expect("ours"));
    assert_eq!(swap_buffers(from, to), Err(OtherMemory));
    assert!(!from.is_swapped() && !to.is_swapped());
    to.copy_from(from).expect("room");
    assert_eq!(from.bytes(), to.bytes());
}

#[test]
fn a_slot_that_is_not_the_programs_cannot_be_had_or_given() {
    let (_wire, mut a, _b) = wire();
    let (received, sent) = a.rings();
    assert!(received.slot(0).is_none() && received.set_head(1).is_err() && !received.is_ready());
    assert_eq!((sent.head(), sent.tail(), sent.space()), (0, SLOTS - 1, SLOTS - 1));
    assert!(sent.slot(SLOTS - 1).is_none() && sent.slot(SLOTS).is_none());
    sent.set_cur(5).expect("ours");
    sent.set_head(3).expect("ours");
    assert_eq!((sent.head(), sent.cur()), (3, 5), "cur stays where it is");
    let error = sent.set_head(2).expect_err("it was given already").to_string();
    assert_eq!(error, "slot 2 is not the program's, which has 12 slots from 3 on");
    assert!(sent.set_cur(2).is_err() && sent.set_head(SLOTS).is_err());
    sent.set_head(SLOTS - 1).expect("the tail: all are given");
    assert!(sent.space() == 0 && !sent.is_ready());
}
