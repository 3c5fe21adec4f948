//! Cores that stop: none leaves while another needs it, and none stays because frames keep coming.

use std::sync::Arc;

use cache::{CacheConfig, Core, Now};
use etherparse::PacketBuilder;
use nic::{Doorbell, PortConfig, Queue, QueueId, QueueWrapper, RxBurst, TxBurst, Wire, WireQueue};
use sidestep_cached::{Admission, Connections, CoreReport, Losses, StrayRing, Worker};
use stack::{Mac, NetStack, Secrets, StackConfig, Time};

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const US: [u8; 4] = [10, 77, 0, 2];

/// Longer than a stopping core may take: the promise is a second.
const TOO_LONG_MS: u64 = 1_000;

/// A wire's queue, on which a frame that nobody wants arrives at each look, if it is to be so.
struct Noisy {
    queue: WireQueue,
    noisy: bool,
}

impl QueueWrapper for Noisy {
    type Wrapped = WireQueue;

    fn wrapped(&self) -> &WireQueue {
        &self.queue
    }

    fn wrapped_mut(&mut self) -> &mut WireQueue {
        &mut self.queue
    }

    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let taken = self.queue.rx_burst(out);
        if !self.noisy {
            return taken;
        }
        let mut frame = self.queue.tx_alloc().expect("each is given back");
        frame.resize(60).expect("it fits");
        frame.bytes_mut().fill(0);
        out.push(frame).expect("the burst is never full");
        taken + 1
    }
}

/// A core for each end of a wire, and the other ends.
fn cores(count: usize) -> Vec<(Worker<Noisy>, WireQueue)> {
    cores_with(count, usize::MAX)
}

/// The same, of whose flows so many may be awake.
fn cores_with(count: usize, awake_flows: usize) -> Vec<(Worker<Noisy>, WireQueue)> {
    let config = CacheConfig { cores: count, connections_per_core: 16, ..CacheConfig::default() };
    let doorbells: Vec<_> = (0..count).map(|_| Arc::new(Doorbell::new().expect("a descriptor"))).collect();
    let admission = Arc::new(Admission::new(16));
    let rings = StrayRing::of(&doorbells, 2048).expect("memory");
    let losses = Arc::new(Losses::new(count));
    let caches = Core::mesh(&config, [7; 16]).expect("a good configuration");
    let core = |(cache, strays)| {
        let (_wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let queue = |port: nic::WirePort| port.take_queue(QueueId(0)).expect("opened once");
        let mut config = StackConfig::new(US, 24, OWN);
        config.ports = vec![11_211];
        (config.max_flows, config.awake_flows) = (16, awake_flows);
        let queues = vec![Noisy { queue: queue(ours), noisy: false }];
        let stack = NetStack::new(config, Secrets::from_bytes([3; 32])).expect("a good configuration");
        let connections = Connections::new(16, admission.clone());
        (Worker::new(queues, stack, cache, connections, strays, &doorbells, &losses), queue(theirs))
    };
    caches.into_iter().zip(rings).map(core).collect()
}

/// A stopping core's turn, so long after it was told to stop. Returns whether it leaves.
fn drain(worker: &mut Worker<Noisy>, millis: u64) -> bool {
    let now = Now { secs: 2, unix_epoch: 0 };
    worker.drain_turn(Time::ZERO, Time::from_millis(millis), now).expect("a wire is never gone")
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Sends an empty segment from a port.
fn say(peer: &mut WireQueue, port: u16, flags: u8, seq: u32, ack: u32) {
    let (mut bytes, mut tx) = (Vec::new(), TxBurst::default());
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], OWN.0).ipv4([10, 77, 0, 1], US, 64);
    let mut builder = builder.tcp(port, 11_211, seq, 60_000);
    builder = if flags & SYN != 0 { builder.syn() } else { builder };
    builder = if flags & ACK != 0 { builder.ack(ack) } else { builder };
    builder.write(&mut bytes, &[]).expect("written to memory");
    let mut frame = peer.tx_alloc().expect("a frame is free");
    frame.resize(bytes.len()).expect("it fits");
    frame.bytes_mut().copy_from_slice(&bytes);
    tx.push(frame).expect("room for one");
    assert_eq!(peer.tx_burst(&mut tx), 1);
    peer.flush().expect("a wire is never gone");
}

/// What was sent to the peer: port, flags, sequence number, ACK number.
fn heard(peer: &mut WireQueue) -> Vec<(u16, u8, u32, u32)> {
    let (mut heard, mut rx) = (Vec::new(), RxBurst::default());
    peer.flush().expect("a wire is never gone");
    while peer.rx_burst(&mut rx) > 0 {
        while let Some(frame) = rx.pop() {
            let tcp = &frame.bytes()[34..54];
            let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
            heard.push((u16::from_be_bytes([tcp[2], tcp[3]]), tcp[13], number(4), number(8)));
            peer.free(frame);
        }
        peer.flush().expect("a wire is never gone");
    }
    heard
}

/// Opens connections from so many ports, all of which sleep then. Returns the server's next number for each.
fn open_and_sleep((worker, peer): &mut (Worker<Noisy>, WireQueue), count: u16) -> Vec<u32> {
    let now = Now { secs: 2, unix_epoch: 0 };
    let turn = |worker: &mut Worker<Noisy>| worker.turn(Time::ZERO, now).map(drop).expect("a wire is never gone");
    let mut nexts = Vec::new();
    for port in 5_000..5_000 + count {
        say(peer, port, SYN, 1, 0);
        turn(worker);
        let syn_ack = heard(peer);
        assert_eq!((syn_ack.len(), syn_ack[0].1), (1, SYN | ACK));
        nexts.push(syn_ack[0].2.wrapping_add(1));
        say(peer, port, ACK, 2, nexts[nexts.len() - 1]);
        turn(worker);
        turn(worker);
        worker.connections.lay_all_to_rest(&mut worker.poll);
    }
    assert_eq!((worker.poll.stack().sleepers().0, heard(peer).len()), (usize::from(count), 0));
    nexts
}

/// Nobody acknowledges the FINs, so that their blocks are never free again.
#[test]
fn connections_that_sleep_and_find_no_block_are_reset_without_being_woken() {
    const COUNT: u16 = 14;
    const BLOCKS: usize = 4;
    let mut core = cores_with(1, BLOCKS).remove(0);
    let nexts = open_and_sleep(&mut core, COUNT);
    let (mut fins, mut resets) = (Vec::new(), Vec::new());
    for millis in 0..300 {
        drain(&mut core.0, millis);
        for (port, flags, seq, ack) in heard(&mut core.1) {
            assert_eq!((seq, ack), (nexts[usize::from(port) - 5_000], 2), "after {millis} ms");
            let told = if flags & FIN != 0 { &mut fins } else { &mut resets };
            assert!(flags & (FIN | RST) != 0 && (flags & RST == 0 || millis > 250), "{flags} after {millis} ms");
            if !told.contains(&port) {
                told.push(port);
            }
        }
    }
    assert_eq!((fins.len(), resets.len()), (BLOCKS, usize::from(COUNT) - BLOCKS));
    assert_eq!(core.0.poll.stack().stats().woke, BLOCKS as u64);
    assert_eq!((CoreReport::of(&core.0, 0).untold, core.0.poll.stack().sleepers().0), (0, 0));
}

/// A core that is stopped before it comes to those that sleep says so.
#[test]
fn who_is_told_nothing_is_counted() {
    let mut core = cores_with(1, 4).remove(0);
    open_and_sleep(&mut core, 14);
    for millis in 0..200 {
        drain(&mut core.0, millis);
    }
    assert_eq!(CoreReport::of(&core.0, 0).untold, 10, "no time was left for those that found no block");
}

#[test]
fn a_core_without_connections_leaves_though_frames_keep_coming() {
    let mut cores = cores(1);
    let worker = &mut cores[0].0;
    worker.poll.ports_mut()[0].queue_mut().noisy = true;
    let left = (0..TOO_LONG_MS).find(|&millis| drain(worker, millis));
    assert!(left.is_some(), "still there after {TOO_LONG_MS} ms of frames");
}

#[test]
fn a_core_stays_as_long_as_another_has_flows_to_close() {
    let mut cores = cores(2);
    say(&mut cores[1].1, 5_000, SYN, 1, 0);

    let leave = |cores: &mut Vec<(Worker<Noisy>, WireQueue)>, millis| {
        [drain(&mut cores[1].0, millis), drain(&mut cores[0].0, millis)]
    };
    assert_eq!(leave(&mut cores, 0), [false, false]);
    assert_eq!((cores[0].0.poll.stack().flows(), cores[1].0.poll.stack().flows()), (0, 1));
    for millis in 1..500 {
        assert_eq!(leave(&mut cores, millis), [false, false], "after {millis} ms");
    }
    let left = (500..TOO_LONG_MS).find(|&millis| leave(&mut cores, millis) == [true, true]);
    assert!(left.is_some(), "still there after {TOO_LONG_MS} ms");
}
