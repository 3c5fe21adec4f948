//! Forwarding between two ports with one memory: the example `ring_forward`, over the wire in memory, and as a cable between
//! two kernels (root; without it those tests say so and pass).

#[path = "xdp_veth/lab.rs"]
#[allow(dead_code)] // Made for other tests.
mod lab;
#[path = "../examples/ring_forward.rs"]
#[allow(dead_code)] // Its `main` is the example's.
mod ring_forward;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use lab::{CLIENT, Lab, Side, eventually};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use ring_forward::{open, turn, wires};
use sidestep_nic::ring::{OtherMemory, Ring, RingPort, swap_buffers};
use sidestep_nic::xdp::XdpQueue;
use sidestep_nic::{PortConfig, Queue, QueueId, Wire, WireQueue, leaked_regions};

/// Slots of each ring.
const SLOTS: usize = 16;

/// Steps after which what has not come is lost: about ten times as many as are needed.
const STEPS_MAX: u64 = 500_000;

/// How long a kernel's socket waits before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a frame with this number; false when there is no free slot.
fn send(port: &mut RingPort<WireQueue>, number: u64) -> bool {
    let (_, ring) = port.rings();
    let head = ring.head();
    let Some(slot) = ring.slot_mut(head) else { return false };
    // Of any length, so that a buffer's old length would show.
    slot.set_len(60 + (number % 900) as usize).expect("room");
    slot.bytes_mut()[52..60].copy_from_slice(&number.to_be_bytes());
    ring.set_head(ring.next(head)).expect("it was ours");
    true
}

fn receive(port: &mut RingPort<WireQueue>) -> Option<u64> {
    let (ring, _) = port.rings();
    let bytes = ring.slot(ring.head())?.bytes();
    let number = u64::from_be_bytes(bytes[52..60].try_into().expect("eight bytes"));
    assert_eq!(bytes.len(), 60 + (number % 900) as usize);
    ring.set_head(ring.next(ring.head())).expect("it was ours");
    Some(number)
}

/// The buffers of the program's slots.
fn buffers(ring: &Ring) -> Vec<u32> {
    (0..ring.slots()).filter_map(|slot| ring.slot(slot)?.buffer()).collect()
}

/// Every buffer is in one slot at most, and each port's frames add up, whatever has changed places.
fn assert_conserved<Q: Queue>(ports: [&mut RingPort<Q>; 2], totals: [usize; 2]) {
    let mut seen = Vec::new();
    for (port, total) in ports.into_iter().zip(totals) {
        let census = port.queue().census();
        assert_eq!((census.total, census.free + census.fill + census.tx + census.held), (total, total), "{census:?}");
        assert_eq!(port.queue().stats().foreign_frames, 0);
        let (received, sent) = port.rings();
        let here = [buffers(received), buffers(sent)].concat();
        // Slots that were given back or filled and not yet synced are held too.
        assert!(here.len() <= census.held, "{} buffers in slots, {census:?}", here.len());
        seen.extend(here);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "a buffer is in two slots");
}

/// Whatever the order of calls: what is sent at one end comes out at the other once and in order, and both ports keep
/// their frames.
#[test]
fn frames_are_forwarded_once_and_in_order_and_both_ports_keep_their_number() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let config = PortConfig { rx_ring: 64, tx_ring: 8, frames: 128, ..PortConfig::default() };
        let (middle, ends) = wires(&config).expect("a good configuration");
        let [mut one, mut other] = middle.map(|queue| RingPort::new(queue, SLOTS));
        let mut hosts = ends.map(|queue| RingPort::new(queue, SLOTS));
        let totals = [&one, &other].map(|port| port.queue().census().total);
        let (mut model, mut next) = ([VecDeque::new(), VecDeque::new()], 0);
        let mut idle = 0;
        for step in 0.. {
            if next == 3000 && idle >= 100 {
                break;
            }
            assert!(step < STEPS_MAX, "{next} were sent, and these have not come: {model:?}");
            let side = (random.next_u64() % 2) as usize;
            match random.next_u64() % 4 {
                // No more than finds room behind the forwarder, so that no wire drops any.
                0 if next < 3000 && model[side].len() < 40 => {
                    if send(&mut hosts[side], next) {
                        model[side].push_back(next);
                        next += 1;
                    }
                }
                1 => hosts[side].txsync().expect("the link is there"),
                2 => {
                    hosts[side].rxsync().expect("the link is there");
                    while let Some(number) = receive(&mut hosts[side]) {
                        assert_eq!(Some(number), model[1 - side].pop_front());
                    }
                }
                _ => drop(turn(&mut one, &mut other).expect("the links are there, and the memory is one")),
            }
            assert_conserved([&mut one, &mut other], totals);
            idle = if next == 3000 && model.iter().all(VecDeque::is_empty) { idle + 1 } else { 0 };
        }
        for port in [&one, &other] {
            let (census, stats) = (port.queue().census(), port.queue().stats());
            assert_eq!(census.held, SLOTS - 1, "the free buffers of the transmit ring alone are out: {census:?}");
            assert_eq!(stats.rx_dropped, 0);
        }
        let (a, b) = (one.queue().stats(), other.queue().stats());
        assert_eq!((a.rx_frames, b.rx_frames), (b.tx_frames, a.tx_frames));
    }
}

/// More than can be passed on: what is lost is lost at the link that brings it, counted, and no frame with it.
#[test]
fn a_port_that_is_flooded_takes_no_frames_from_the_other() {
    let config = PortConfig { rx_ring: 32, tx_ring: 4, frames: 64, ..PortConfig::default() };
    let (middle, ends) = wires(&config).expect("a good configuration");
    let [mut one, mut other] = middle.map(|queue| RingPort::new(queue, SLOTS));
    let [mut left, mut right] = ends.map(|queue| RingPort::new(queue, SLOTS));
    let totals = [&one, &other].map(|port| port.queue().census().total);
    let (mut sent, mut came, mut last) = (0_u64, 0_u64, None);
    for _ in 0..500 {
        for _ in 0..20 {
            while send(&mut left, sent) {
                sent += 1;
            }
            left.txsync().expect("the link is there");
        }
        turn(&mut one, &mut other).expect("the links are there");
        assert_conserved([&mut one, &mut other], totals);
        right.rxsync().expect("the link is there");
        while let Some(number) = receive(&mut right) {
            assert!(last < Some(number), "{number} after {last:?}");
            (came, last) = (came + 1, Some(number));
        }
        // The other way is free all the time.
        assert!(send(&mut right, 7));
        right.txsync().expect("the link is there");
        turn(&mut one, &mut other).expect("the links are there");
        left.rxsync().expect("the link is there");
        assert_eq!(receive(&mut left), Some(7));
    }
    for _ in 0..100 {
        left.txsync().expect("the link is there");
        turn(&mut one, &mut other).expect("the links are there");
        right.rxsync().expect("the link is there");
        while receive(&mut right).is_some() {
            came += 1;
        }
    }
    let dropped = one.queue().stats().rx_dropped;
    assert!(dropped > 1000, "{dropped} were dropped");
    assert_eq!(came + dropped, sent);
    assert_conserved([&mut one, &mut other], totals);
}

/// The very bytes that were received are sent: they lie where they lay.
#[test]
fn a_frame_leaves_one_port_from_the_place_where_it_came_in_by_the_other() {
    let (middle, ends) = wires(&PortConfig::default()).expect("a good configuration");
    let [mut one, mut other] = middle.map(|queue| RingPort::new(queue, SLOTS));
    let [mut left, mut right] = ends.map(|queue| RingPort::new(queue, SLOTS));
    for number in 0..500 {
        assert!(send(&mut left, number));
        left.txsync().expect("the link is there");
        one.rxsync().expect("the link is there");
        move_by_hand(one.rings().0, other.rings().1);
        other.txsync().expect("the link is there");
        right.rxsync().expect("the link is there");
        assert_eq!(receive(&mut right), Some(number));
    }
}

/// Forwards the first slot and checks that the buffer itself has gone over.
fn move_by_hand(received: &mut Ring, sent: &mut Ring) {
    let place = |slot: &sidestep_nic::ring::Slot| (slot.buffer(), slot.bytes().as_ptr(), slot.bytes().len());
    let (from, to) = (received.head(), sent.head());
    let (next_from, next_to) = (received.next(from), sent.next(to));
    let (slot, free) = (received.slot_mut(from).expect("it has come"), sent.slot_mut(to).expect("a free slot"));
    let (before, spare) = (place(slot), free.buffer());
    swap_buffers(slot, free).expect("the memory is one");
    assert_eq!(place(free), before);
    assert_eq!(slot.buffer(), spare);
    assert!(slot.is_swapped() && free.is_swapped());
    received.set_head(next_from).expect("it was ours");
    sent.set_head(next_to).expect("it was ours");
}

/// One port goes while the other has buffers that were its own: nothing is missing at the end.
#[test]
fn a_port_that_is_dropped_first_leaves_the_other_whole() {
    let before = leaked_regions();
    for first in [true, false] {
        let (middle, ends) = wires(&PortConfig::default()).expect("a good configuration");
        let [mut one, mut other] = middle.map(|queue| RingPort::new(queue, SLOTS));
        let [mut left, mut right] = ends.map(|queue| RingPort::new(queue, SLOTS));
        for number in 0..10 {
            assert!(send(&mut left, number));
        }
        left.txsync().expect("the link is there");
        turn(&mut one, &mut other).expect("the links are there");
        let mut stays = if first {
            drop(one);
            other
        } else {
            drop(other);
            one
        };
        for _ in 0..10 {
            for host in [&mut left, &mut right] {
                send(host, 1);
                host.txsync().expect("the link is there");
            }
            stays.rxsync().expect("the link is there");
            let (received, sent) = stays.rings();
            sidestep_nic::ring::forward(received, sent, SLOTS).expect("one port");
            stays.txsync().expect("the link is there");
        }
        assert_eq!(stays.queue().stats().foreign_frames, 0);
        drop(stays);
    }
    assert_eq!(leaked_regions(), before, "every buffer has come home");
}

#[test]
fn queues_with_memory_of_their_own_do_not_forward_to_each_other() {
    let (_wire, a, b) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a good configuration");
    let [mut a, mut b] = [a, b].map(|port| RingPort::new(port.take_queue(QueueId(0)).expect("free"), SLOTS));
    assert!(send(&mut a, 1));
    a.txsync().expect("the link is there");
    b.rxsync().expect("the link is there");
    assert_eq!(sidestep_nic::ring::forward(b.rings().0, a.rings().1, 1), Err(OtherMemory));
}

/// The address of the host behind the second port.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// Two hosts whose only way to each other is a third namespace with a link to each, `s0` and `s1`, and no bridge.
fn two_hosts() -> Option<(Lab, Lab)> {
    let (near, far) = (Lab::up(1)?, Lab::up(1)?);
    far.ip(Side::Server, &["link", "set", "s0", "down"]);
    far.ip(Side::Server, &["link", "set", "s0", "name", "s1"]);
    far.ip(Side::Server, &["link", "set", "s1", "netns", &near.namespace(Side::Server)]);
    near.ip(Side::Server, &["link", "set", "s1", "up"]);
    far.ip(Side::Client, &["address", "flush", "dev", "c0"]);
    far.ip(Side::Client, &["address", "add", &format!("{FAR}/24"), "dev", "c0"]);
    for (lab, side, link) in [(&near, Side::Server, "s1"), (&far, Side::Client, "c0")] {
        let namespace = lab.namespace(side);
        let done = Command::new("ip").args(["netns", "exec", &namespace, "ethtool", "-K", link, "tx", "off"]).output();
        assert!(done.is_ok_and(|done| done.status.success()), "ethtool -K {link}");
    }
    Some((near, far))
}

/// Sets a flag when dropped, so that who waits for it ends, however its owner does.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Forwards until `stop`, in the middle namespace, and says when it begins; returns what each port has done.
fn forward_until(near: &Lab, stop: &AtomicBool, begun: &Sender<()>) -> [RingPort<XdpQueue>; 2] {
    near.inside(Side::Server, || {
        let (_devices, [mut one, mut other]) = open(["s0", "s1"]).expect("both links open");
        let totals = [&one, &other].map(|port| port.queue().census().total);
        begun.send(()).expect("the test waits for it");
        let mut turns = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let moved = turn(&mut one, &mut other).expect("the links are there");
            turns += 1;
            if turns.is_multiple_of(64) {
                assert_conserved([&mut one, &mut other], totals);
            }
            if moved == (0, 0) {
                std::thread::yield_now();
            }
        }
        [one, other]
    })
}

/// A cable between two kernels: ARP, datagrams, a connection that moves some megabytes each way.
#[test]
fn two_kernels_speak_through_a_forwarder_that_copies_nothing() {
    let Some((near, far)) = two_hosts() else { return };
    let stop = AtomicBool::new(false);
    let [one, other] = std::thread::scope(|scope| {
        let (begun, begins) = channel();
        let (near, stop) = (&near, &stop);
        let forwarder = scope.spawn(move || forward_until(near, stop, &begun));
        let at_end = AtEnd(stop);
        // Fails at once if the forwarder has ended instead.
        begins.recv().expect("the forwarder begins");
        datagrams_go_both_ways(near, &far);
        a_connection_moves(near, &far, 4 << 20);
        drop(at_end);
        forwarder.join().expect("the forwarder ends well")
    });
    for port in [&one, &other] {
        let (stats, xdp) = (port.queue().stats(), port.queue().xdp_stats());
        eprintln!("{stats:?} {xdp:?} {:?}", port.queue().census());
        assert!(stats.rx_frames > 1000, "{stats:?}");
        assert_eq!((xdp.shifted, xdp.refused, xdp.stray_addresses), (0, 0, 0), "nothing was moved or refused");
        assert_eq!((stats.foreign_frames, stats.tx_trains, stats.drops.tx_refused), (0, 0, 0));
        assert_eq!((stats.drops.rx_invalid_descriptors, stats.drops.tx_invalid_descriptors), (0, 0));
    }
    let (a, b) = (one.queue().stats(), other.queue().stats());
    // All that came left by the other port, but for what was under way at the end.
    for (came, left) in [(a.rx_frames, b.tx_frames), (b.rx_frames, a.tx_frames)] {
        assert!(left <= came && came - left <= 64, "{came} came, {left} left");
    }
    let before = leaked_regions();
    drop(one);
    drop(other);
    assert_eq!(leaked_regions(), before, "every buffer has come home");
}

fn datagrams_go_both_ways(near: &Lab, far: &Lab) {
    let here = near.inside(Side::Client, || UdpSocket::bind((CLIENT, 0))).expect("the kernel has the address");
    let there = far.inside(Side::Client, || UdpSocket::bind((FAR, 0))).expect("the kernel has the address");
    let (to_here, to_there) = (here.local_addr().expect("bound"), there.local_addr().expect("bound"));
    for socket in [&here, &there] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    let mut bytes = [0; 2048];
    // Never more than a few under way: a datagram that a kernel's own queue drops would not be the forwarder's loss.
    for number in 0..2000_u32 {
        let text = vec![number as u8; 4 + (number % 1400) as usize];
        let text = [&number.to_be_bytes()[..], &text].concat();
        here.send_to(&text, to_there).expect("sent");
        there.send_to(&text, to_here).expect("sent");
        for socket in [&here, &there] {
            let (len, _) = socket.recv_from(&mut bytes).unwrap_or_else(|error| panic!("datagram {number}: {error}"));
            assert_eq!(bytes[..len], text, "datagram {number} comes once, and in its turn");
        }
    }
}

fn a_connection_moves(near: &Lab, far: &Lab, bytes: usize) {
    let patient = |stream: &TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    };
    let listener = far.inside(Side::Client, || TcpListener::bind((FAR, 0))).expect("the kernel has the address");
    let to = listener.local_addr().expect("bound");
    let text: Vec<u8> = (0..bytes).map(|at| (at as u64).wrapping_mul(0x9e37_79b9) as u8).collect();
    // The kernel has taken it when this returns, so that `accept` does not wait.
    let mut stream = near.inside(Side::Client, || TcpStream::connect_timeout(&to, PATIENCE)).expect("connected");
    let (mut server, _) = listener.accept().expect("a connection");
    patient(&stream);
    patient(&server);
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let mut got = vec![0; bytes];
            server.read_exact(&mut got).expect("all of it");
            server.write_all(&got).expect("all of it");
        });
        stream.write_all(&text).expect("all of it");
        let mut got = vec![0; bytes];
        stream.read_exact(&mut got).expect("all of it");
        assert!(got == text, "what comes back is what was sent");
        echo.join().expect("the echo ends well");
    });
}

/// A queue of two links with one memory is bound again once both are gone, and neither is attached any more.
#[test]
fn links_opened_together_are_given_back_together() {
    let Some((near, _far)) = two_hosts() else { return };
    for _ in 0..3 {
        near.inside(Side::Server, || {
            let (devices, [one, other]) = open(["s0", "s1"]).expect("both links open, also when they were open before");
            assert!(devices.iter().all(|device| device.obtained().why.contains("one memory")));
            drop(devices);
            // The first has the descriptor of the memory, and goes first.
            drop(one);
            drop(other);
        });
        for link in ["s0", "s1"] {
            // A child that another test forks has the descriptors too until it executes its program.
            eventually("no program is attached", || {
                let said = near.ip(Side::Server, &["-details", "link", "show", link]);
                (!said.contains("prog/xdp") && !said.contains("xdpgeneric")).then_some(())
            });
        }
    }
}
