//! Cores that stop: none leaves while another needs it, and none stays because frames keep coming.

use std::sync::Arc;

use cache::{CacheConfig, Core, Now};
use etherparse::PacketBuilder;
use nic::{Doorbell, PortConfig, Queue, QueueId, QueueWrapper, RxBurst, TxBurst, Wire, WireQueue};
use sidestep_cached::{Admission, Connections, Losses, StrayRing, Worker};
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
        config.max_flows = 16;
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

#[test]
fn a_core_without_connections_leaves_though_frames_keep_coming() {
    let mut cores = cores(1);
    let worker = &mut cores[0].0;
    worker.ports[0].queue_mut().noisy = true;
    let left = (0..TOO_LONG_MS).find(|&millis| drain(worker, millis));
    assert!(left.is_some(), "still there after {TOO_LONG_MS} ms of frames");
}

#[test]
fn a_core_stays_as_long_as_another_has_flows_to_close() {
    let mut cores = cores(2);
    let (peer, mut tx) = (&mut cores[1].1, TxBurst::default());
    let mut frame = peer.tx_alloc().expect("a frame is free");
    let mut syn = Vec::new();
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], OWN.0).ipv4([10, 77, 0, 1], US, 64);
    builder.tcp(5_000, 11_211, 1, 60_000).syn().write(&mut syn, &[]).expect("written to memory");
    frame.resize(syn.len()).expect("it fits");
    frame.bytes_mut().copy_from_slice(&syn);
    tx.push(frame).expect("room for one");
    assert_eq!(peer.tx_burst(&mut tx), 1);
    peer.flush().expect("a wire is never gone");

    let leave = |cores: &mut Vec<(Worker<Noisy>, WireQueue)>, millis| {
        [drain(&mut cores[1].0, millis), drain(&mut cores[0].0, millis)]
    };
    assert_eq!(leave(&mut cores, 0), [false, false]);
    assert_eq!((cores[0].0.stack.flows(), cores[1].0.stack.flows()), (0, 1));
    for millis in 1..500 {
        assert_eq!(leave(&mut cores, millis), [false, false], "after {millis} ms");
    }
    let left = (500..TOO_LONG_MS).find(|&millis| leave(&mut cores, millis) == [true, true]);
    assert!(left.is_some(), "still there after {TOO_LONG_MS} ms");
}
