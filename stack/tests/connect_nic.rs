//! Active opens on a NIC of several queues, a core for each: each core takes source ports whose answers come to its own queue,
//! by what the NIC says of its hash. Needs root and, in SIDESTEP_STACK_TEST_OPENS, the NIC, an address that no kernel has, who
//! listens there and that host's Ethernet address, and how many to open: `eth1 10.78.1.2 10.78.1.1:7777 52:54:00:00:00:01 1000`.
//! Without it the test says so and passes. scripts/test-nic-vm runs it over an emulated NIC.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nic::link::Link;
use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use nic::{FlowPrediction, QueueId};
use sidestep_stack::{Connect, Ends, Mac, NetStack, Poll, Secrets, StackConfig, StackStats, Time};

const OPENS: &str = "SIDESTEP_STACK_TEST_OPENS";

/// So many connections of a core are under way at once.
const AT_ONCE: usize = 32;

/// Ends the others where a core fails, which would wait for it for ever.
struct EndsOthers<'a>(&'a AtomicUsize, usize);

impl Drop for EndsOthers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_add(self.1, Ordering::Relaxed);
        }
    }
}

/// What a core shall do.
#[derive(Debug, Clone, Copy)]
struct Task {
    address: Ipv4Addr,
    to: Connect,
    mac: Mac,
    opens: usize,
}

impl Task {
    /// Opens connections until all are open and answered; returns what the stack has counted. A connection whose answers went to
    /// another core would not open: that core has none of it and resets it.
    fn run(
        self,
        queue: XdpQueue,
        mut comes_home: impl FnMut(&Ends) -> bool,
        (cores, done): (usize, &AtomicUsize),
    ) -> StackStats {
        let _others = EndsOthers(done, cores);
        let mut config = StackConfig::new(self.address, 24, self.mac);
        (config.max_flows, config.flows_at_start) = (2 * self.opens, 2 * self.opens);
        // An emulation, beside other work.
        config.connect_timeout = Duration::from_secs(60);
        let stack = NetStack::new(config, Secrets::from_bytes([9; 32])).expect("a good configuration");
        let (mut poll, start) = (Poll::new(stack, [queue]), Instant::now());
        let (mut tried, mut opened, mut answered) = (0, 0, 0);
        // Until all are done: a segment of the other's that came here would be answered by a reset only by a core that looks.
        while done.load(Ordering::Relaxed) < cores {
            let now = Time::from_duration(start.elapsed());
            while tried < self.opens && tried - answered < AT_ONCE {
                poll.connect(now, &self.to, &mut comes_home).expect("a free port that leads here");
                tried += 1;
            }
            poll.take_in(now);
            while let Some(event) = poll.next_event() {
                assert_eq!(event.closed(), None, "of {tried} tried, {opened} opened: {:?}", poll.stack().stats());
                let Some(mut flow) = poll.flow(event.flow()) else { panic!("{event:?} is of one that is dead") };
                if event.is_new() {
                    assert_eq!(flow.send_slice(b"x"), 1);
                    opened += 1;
                }
                if flow.recv_queue() > 0 {
                    flow.recv(|bytes| (bytes.len(), ()));
                    answered += 1;
                    if answered == self.opens {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            poll.send(now).expect("the link is there");
        }
        *poll.stack().stats()
    }
}

#[test]
fn every_answer_comes_to_the_core_that_asked_by_the_prediction_of_the_nics_hash() {
    let Ok(text) = std::env::var(OPENS) else {
        eprintln!("skipped: needs root and a NIC, named by {OPENS}");
        return;
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [link, address, peer, peer_mac, opens] = words[..] else { panic!("{OPENS}={text}") };
    let address: Ipv4Addr = address.parse().expect("an address");
    let peer: SocketAddrV4 = peer.parse().expect("an address and a port");
    let peer_mac: Vec<u8> = peer_mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    let opens: usize = opens.parse().expect("a number");
    let mut device = XdpDevice::open(&XdpConfig::new(link, address)).expect("the device opens");
    println!("{link}: {}", device.obtained());
    let prediction = FlowPrediction::of(&Link::by_name(link).expect("it is there")).expect("it says how it hashes");
    let ids = device.queue_ids();
    let mut to = Connect::to(peer);
    // What asks by ARP is answered at one queue only.
    to.mac = Some(Mac(peer_mac.try_into().expect("six bytes")));
    let task = Task { address, to, mac: Mac(device.link().mac.0), opens: opens / ids.len() };
    let (queues, done) = (ids.iter().map(|id| device.take_queue(*id).expect("not taken yet")), AtomicUsize::new(0));
    let queues: Vec<(QueueId, XdpQueue)> = ids.iter().copied().zip(queues).collect();
    let (cores, prediction, done) = (queues.len(), &prediction, &done);
    let counts: Vec<StackStats> = std::thread::scope(|scope| {
        let run = |(id, queue): (QueueId, XdpQueue)| {
            let home = move |key: &Ends| prediction.queue_of(key.peer(), key.own()) == id;
            scope.spawn(move || task.run(queue, home, (cores, done)))
        };
        let threads: Vec<_> = queues.into_iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("no connection failed")).collect()
    });
    for (id, counts) in ids.iter().zip(&counts) {
        println!(
            "queue {}: {} asked, {} opened, {} resets sent",
            id.0, counts.connects, counts.connected, counts.rsts_sent
        );
        // A segment that finds nothing of its connection is answered by a reset.
        assert_eq!((counts.connected, counts.rsts_sent), (task.opens as u64, 0), "{counts:?}");
    }
}
