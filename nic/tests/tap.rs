//! TAP interfaces in a namespace of their own. Needs root; without it each test says so and passes.

#[path = "xdp_veth/lab.rs"]
#[allow(dead_code)] // Of the lab only one namespace is used.
mod lab;
#[path = "conformance/suite.rs"]
#[allow(dead_code)] // Its checks are run by `run_all`.
mod suite;

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use lab::{Lab, Side, eventually};
use sidestep_nic::link::{Link, LinkError};
use sidestep_nic::ring::{OtherMemory, RingPort, forward, swap_buffers};
use sidestep_nic::tap::{TapConfig, TapDevice, TapError, TapQueue};
use sidestep_nic::{Burst, FramePool, PoolConfig, PoolError, Queue, QueueError, QueueId};
use suite::{Backend, End, Ends};

/// The EtherType kept for experiments (IEEE Std 802, "Local Experimental EtherType 1").
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// Bytes of an Ethernet header, and the address that a bridge floods.
const HEADER: usize = 14;
const EVERYBODY: [u8; 6] = [0xff; 6];

fn open(lab: &Lab, config: &TapConfig) -> Result<TapDevice, TapError> {
    lab.inside(Side::Server, || TapDevice::open(config))
}

fn take(device: &mut TapDevice) -> Vec<TapQueue> {
    device.queue_ids().into_iter().map(|id| device.take_queue(id).expect("not taken yet")).collect()
}

/// Sends one frame to everybody.
fn send(queue: &mut TapQueue, number: u8) {
    let mut frame = queue.tx_alloc().expect("a free frame");
    frame.resize(60).expect("room");
    frame.bytes_mut().fill(number);
    frame.bytes_mut()[..6].copy_from_slice(&EVERYBODY);
    frame.bytes_mut()[6..12].copy_from_slice(&[2, 0, 0, 0, 0, number]);
    frame.bytes_mut()[12..HEADER].copy_from_slice(&ETHERTYPE);
    let mut burst = Burst::default();
    burst.push(frame).expect("room");
    assert_eq!(queue.tx_burst(&mut burst), 1);
    queue.flush().expect("the interface is there");
}

/// Receives all there is; what is `wanted` of each.
fn receive<T>(queue: &mut TapQueue, wanted: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let (mut burst, mut all) = (Burst::default(), Vec::new());
    while queue.rx_burst(&mut burst) > 0 {
        while let Some(frame) = burst.pop() {
            all.extend(wanted(frame.bytes()));
            queue.free(frame);
        }
    }
    all
}

/// Whether a frame is of this test, not of the kernel's own accord.
fn is_ours(bytes: &[u8]) -> bool {
    bytes.get(12..HEADER) == Some(&ETHERTYPE[..])
}

/// Two TAPs, joined by a bridge.
fn bridged(lab: &Lab, config: impl Fn(&str) -> TapConfig) -> [TapQueue; 2] {
    ["ta", "tb"].map(|name| {
        let mut device = open(lab, &config(name)).expect("a TAP");
        lab.ip(Side::Server, &["link", "set", name, "master", "b0"]);
        eventually("the bridge's port", || {
            lab.ip(Side::Server, &["-d", "link", "show", "dev", name]).contains("state forwarding").then_some(())
        });
        device.take_queue(QueueId(0)).expect("not taken yet")
    })
}

fn with_bridge() -> Option<Lab> {
    let lab = Lab::up(1)?;
    lab.ip(Side::Server, &["link", "add", "b0", "type", "bridge", "mcast_snooping", "0"]);
    lab.ip(Side::Server, &["link", "set", "b0", "up"]);
    Some(lab)
}

struct OverBridge(Lab);

impl Backend for OverBridge {
    fn open(&mut self) -> Ends {
        let [a, b] = bridged(&self.0, |name| TapConfig { frames: 512, tx_ring: 64, ..TapConfig::new(name, 1) });
        Ends { a: Box::new(a), b: Box::new(b) }
    }

    fn settle(&mut self, _ends: &mut Ends) {
        std::thread::sleep(Duration::from_micros(50));
    }

    fn dress(&self, from: End, bytes: &mut [u8]) {
        bytes[..6].copy_from_slice(&EVERYBODY);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 1, from as u8]);
        bytes[12..HEADER].copy_from_slice(&ETHERTYPE);
    }

    fn is_ours(&self, bytes: &[u8]) -> bool {
        is_ours(bytes)
    }

    fn min_frame_bytes(&self) -> usize {
        HEADER + 8
    }

    fn tx_ring_frames(&self) -> Option<usize> {
        Some(64)
    }

    /// What is lost on the way in is the interface's to count; a test of its own looks at it.
    fn overflow_frames(&self) -> Option<usize> {
        None
    }
}

#[test]
fn two_taps_in_a_bridge_conform() {
    let Some(lab) = with_bridge() else { return };
    suite::run_all(&mut OverBridge(lab));
}

#[test]
fn what_finds_the_kernels_queue_full_is_counted_by_the_interface() {
    let Some(lab) = with_bridge() else { return };
    let [mut a, mut b] = bridged(&lab, |name| TapConfig::new(name, 1));
    receive(&mut b, |_| Some(()));
    let index = lab.inside(Side::Server, || Link::by_name("tb")).expect("it is there").index;
    let dropped = || lab.inside(Side::Server, || Link::counts(index)).expect("it is there").tx_dropped;
    let before = dropped();
    const SENT: u64 = 3000;
    for number in 0..SENT {
        send(&mut a, number as u8);
    }
    let lost = dropped() - before;
    let arrived = receive(&mut b, |bytes| is_ours(bytes).then_some(())).len() as u64;
    assert!(lost > 0 && arrived > 0, "{arrived} arrived, {lost} lost");
    assert_eq!(arrived + lost, SENT);
    send(&mut a, 7);
    assert_eq!(receive(&mut b, |bytes| is_ours(bytes).then_some(bytes[20])), [7], "and it goes on");
}

#[test]
fn flows_of_the_kernel_come_over_all_queues_and_each_stays_where_it_is_answered() {
    let Some(lab) = Lab::up(1) else { return };
    let mut device = open(&lab, &TapConfig::new("tm", 2)).expect("a TAP of two queues");
    assert!(device.was_made());
    assert_eq!((device.queue_ids().len(), device.link().driver.as_str()), (2, "tun"));
    let station = device.station();
    assert_ne!(station, device.link().mac);
    lab.ip(Side::Server, &["address", "add", "10.78.0.1/24", "dev", "tm"]);
    let mac = station.0.map(|byte| format!("{byte:02x}")).join(":");
    lab.ip(Side::Server, &["neighbour", "replace", "10.78.0.2", "lladdr", &mac, "dev", "tm"]);
    let sockets: Vec<UdpSocket> =
        lab.inside(Side::Server, || (0..32).map(|_| UdpSocket::bind(("10.78.0.1", 0)).expect("a port")).collect());
    let mut queues = take(&mut device);
    let mut queue_of: HashMap<u16, usize> = HashMap::new();
    for round in 0..4u8 {
        for socket in &sockets {
            let port = socket.local_addr().expect("bound").port();
            socket.send_to(&[round; 4], (Ipv4Addr::new(10, 78, 0, 2), 9)).expect("sent");
            let at = eventually("the datagram", || (0..2).find(|&at| echo(&mut queues[at], port)));
            assert_eq!(*queue_of.entry(port).or_insert(at), at, "the flow changed its queue");
            let mut bytes = [0; 16];
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            assert_eq!(socket.recv(&mut bytes).expect("the answer"), 4);
        }
    }
    assert!((0..2).all(|at| queue_of.values().any(|queue| *queue == at)), "{queue_of:?}");
}

/// Sends a datagram from `port` back to where it came from, checksum off; whether there was one.
fn echo(queue: &mut TapQueue, port: u16) -> bool {
    let (mut burst, mut replies, mut found) = (Burst::default(), Burst::default(), false);
    queue.rx_burst(&mut burst);
    while let Some(mut frame) = burst.pop() {
        let bytes = frame.bytes_mut();
        let ours =
            bytes.len() >= 42 && bytes[12..14] == [8, 0] && bytes[23] == 17 && bytes[34..36] == port.to_be_bytes();
        if !ours {
            queue.free(frame);
            continue;
        }
        found = true;
        for (one, other, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
            for at in 0..len {
                bytes.swap(one + at, other + at);
            }
        }
        bytes[40..42].fill(0);
        replies.push(frame).expect("as much room as in the other");
    }
    queue.tx_burst(&mut replies);
    queue.flush().expect("the interface is there");
    found
}

#[test]
fn an_interface_that_is_down_loses_what_is_sent_and_one_that_is_removed_ends_the_queue() {
    let Some(lab) = Lab::up(1) else { return };
    let mut device = open(&lab, &TapConfig::new("td", 1)).expect("a TAP");
    let mut queue = take(&mut device).remove(0);
    lab.ip(Side::Server, &["link", "set", "td", "down"]);
    send(&mut queue, 1);
    assert_eq!(queue.stats().drops.tx_refused, 1);
    lab.ip(Side::Server, &["link", "set", "td", "up"]);
    send(&mut queue, 2);
    assert_eq!(queue.stats().drops.tx_refused, 1);
    lab.ip(Side::Server, &["link", "delete", "td"]);
    assert_eq!(receive(&mut queue, |_| Some(())).len(), 0);
    assert!(matches!(queue.flush(), Err(QueueError::Gone { .. })));
    let census = queue.census();
    assert_eq!(census.free, census.total);
}

#[test]
fn an_interface_that_was_there_is_joined_and_stays_one_that_was_made_goes() {
    let Some(lab) = Lab::up(1) else { return };
    let exists =
        |name: &str| lab.inside(Side::Server, || !matches!(Link::by_name(name), Err(LinkError::NotFound { .. })));
    lab.ip(Side::Server, &["tuntap", "add", "dev", "tp", "mode", "tap", "multi_queue"]);
    lab.ip(Side::Server, &["tuntap", "add", "dev", "ts", "mode", "tap"]);
    for (name, queues, stays) in [("tp", 2, true), ("ts", 1, true), ("tn", 2, false)] {
        let config = TapConfig { mtu: Some(1400), ..TapConfig::new(name, queues) };
        let mut device = open(&lab, &config).expect("a TAP");
        assert_eq!((device.was_made(), device.link().mtu, device.link().up), (!stays, 1400, true), "{name}");
        let taken = take(&mut device);
        assert!(taken.iter().all(|queue| queue.max_frame_bytes() == 1414));
        drop(device);
        assert!(exists(name), "{name} has queues");
        drop(taken);
        if stays {
            assert!(exists(name), "{name} was there before");
        } else {
            // A child that another test forks has the descriptors too until it executes its program.
            eventually("the interface goes with its last queue", || (!exists(name)).then_some(()));
        }
    }
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let Some(lab) = Lab::up(1) else { return };
    let error = |config: &TapConfig| open(&lab, config).expect_err("it cannot be opened").to_string();
    let said = error(&TapConfig::new(Side::Server.link(), 1));
    assert!(said.contains("is no TAP that takes 1 queues; pick another name"), "{said}");
    lab.ip(Side::Server, &["tuntap", "add", "dev", "ts", "mode", "tap"]);
    let said = error(&TapConfig::new("ts", 2));
    assert!(said.contains("ip tuntap add dev ts mode tap multi_queue"), "{said}");
    let first = open(&lab, &TapConfig::new("ts", 1)).expect("a TAP of one queue");
    let said = error(&TapConfig::new("ts", 1));
    assert!(said.contains("another process has it open"), "{said}");
    drop(first);
    // As above, a forked child may have the queue a moment longer.
    let said = eventually("the queue can be had again", || {
        let said = error(&TapConfig { mtu: Some(40_000), ..TapConfig::new("ts", 1) });
        (!said.contains("another process has it open")).then_some(said)
    });
    assert!(said.contains("ip link set ts mtu 1500"), "{said}");
    let mtu = lab.inside(Side::Server, || Link::by_name("ts")).expect("it is there").mtu;
    assert_eq!(mtu, 1500, "what is refused changes nothing");
    lab.ip(Side::Server, &["link", "set", "ts", "mtu", "40000"]);
    let said = error(&TapConfig::new("ts", 1));
    assert!(said.contains("ip link set ts mtu 1500"), "{said}");
}

/// Rings of slots over TAPs, as over any queue: what one sends the other receives, in order, and each has its own memory.
#[test]
fn rings_of_slots_go_over_a_tap_as_over_any_queue() {
    let Some(lab) = with_bridge() else { return };
    let [mut a, mut b] = bridged(&lab, |name| TapConfig::new(name, 1)).map(|queue| RingPort::new(queue, 32));
    for number in 0..200_u8 {
        let (_, sent) = a.rings();
        let head = sent.head();
        let slot = sent.slot_mut(head).expect("a free slot");
        slot.set_len(60).expect("room");
        slot.bytes_mut().fill(number);
        slot.bytes_mut()[..6].copy_from_slice(&EVERYBODY);
        slot.bytes_mut()[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
        slot.bytes_mut()[12..HEADER].copy_from_slice(&ETHERTYPE);
        sent.set_head(sent.next(head)).expect("it was ours");
        a.txsync().expect("the interface is there");
        let got = eventually("the frame", || {
            b.rxsync().expect("the interface is there");
            let (received, _) = b.rings();
            let bytes = received.slot(received.head())?.bytes();
            let got = is_ours(bytes).then(|| bytes[20]);
            received.set_head(received.next(received.head())).expect("it was ours");
            got
        });
        assert_eq!(got, number);
    }
    // One frame more, for a try to pass it on.
    let (_, sent) = a.rings();
    let head = sent.head();
    sent.slot_mut(head).expect("a free slot").set_len(60).expect("room");
    sent.slot_mut(head).expect("the same").bytes_mut()[..6].copy_from_slice(&EVERYBODY);
    sent.set_head(sent.next(head)).expect("it was ours");
    a.txsync().expect("the interface is there");
    eventually("the frame", || {
        b.rxsync().expect("the interface is there");
        (b.rings().0.space() > 0).then_some(())
    });
    assert_eq!(forward(b.rings().0, a.rings().1, 1), Err(OtherMemory));
}

/// Two TAPs of one memory: what comes by the one leaves by the other in the buffer that the kernel wrote it to.
#[test]
fn frames_go_from_one_tap_to_another_of_one_memory_without_being_copied() {
    let Some(lab) = with_bridge() else { return };
    lab.ip(Side::Server, &["link", "add", "b1", "type", "bridge", "mcast_snooping", "0"]);
    lab.ip(Side::Server, &["link", "set", "b1", "up"]);
    let config = |name: &str| TapConfig { frames: 128, tx_ring: 32, ..TapConfig::new(name, 1) };
    let mut pools = FramePool::over_one_memory(config("").pool(1500), 2).expect("memory for 256 frames");
    let join = |name: &str, bridge: &str, pool: Option<FramePool>| {
        let mut device = open(&lab, &config(name)).expect("a TAP");
        lab.ip(Side::Server, &["link", "set", name, "master", bridge]);
        eventually("the bridge's port", || {
            lab.ip(Side::Server, &["-d", "link", "show", "dev", name]).contains("state forwarding").then_some(())
        });
        match pool {
            Some(pool) => device.take_queue_with(QueueId(0), pool).expect("frames fit").expect("not taken yet"),
            None => device.take_queue(QueueId(0)).expect("not taken yet"),
        }
    };
    let mut sender = join("ts", "b0", None);
    let mut receiver = join("td", "b1", None);
    let [mut near, mut far] =
        [("ta", "b0"), ("tb", "b1")].map(|(name, bridge)| RingPort::new(join(name, bridge, pools.pop()), 16));
    let before = [near.queue().census().total, far.queue().census().total];
    for number in 0..200_u8 {
        send(&mut sender, number);
        // The kernel's own frames are passed on too.
        let got = eventually("the frame at the other end", || {
            near.rxsync().expect("the interface is there");
            let (received, sent) = (near.rings().0, far.rings().1);
            let (from, to) = (received.head(), sent.head());
            if let (Some(came), Some(leaves)) = (received.slot_mut(from), sent.slot_mut(to)) {
                let buffers = (came.buffer(), leaves.buffer());
                swap_buffers(came, leaves).expect("one memory");
                assert_eq!((leaves.buffer(), came.buffer()), buffers);
                received.set_head(received.next(from)).expect("it was ours");
                sent.set_head(sent.next(to)).expect("it was ours");
            }
            far.txsync().expect("the interface is there");
            receive(&mut receiver, |bytes| is_ours(bytes).then_some(bytes[20])).into_iter().next()
        });
        assert_eq!(got, number);
    }
    assert_eq!([near.queue().census().total, far.queue().census().total], before);
}

#[test]
fn a_pool_whose_frames_are_shorter_than_the_links_is_refused_and_the_queue_can_still_be_taken() {
    let Some(lab) = Lab::up(1) else { return };
    let mut device = open(&lab, &TapConfig { mtu: Some(4000), ..TapConfig::new("tl", 1) }).expect("a TAP");
    let pool = FramePool::new(PoolConfig::default()).expect("memory");
    let refused = device.take_queue_with(QueueId(0), pool);
    assert!(matches!(refused, Err(PoolError::TooShort { room: 1792, needed: 4019 })), "{refused:?}");
    assert!(device.take_queue(QueueId(0)).is_some());
}
