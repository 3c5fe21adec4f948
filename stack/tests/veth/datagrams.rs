//! Datagrams over AF_XDP against a real kernel: an echo on each of two queues, asked by ordinary UDP sockets. Needs root;
//! without it each test says so and passes.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use nic::{Doorbell, Queue, Sleeper};
use sidestep_stack::{
    DatagramHandler, DatagramPeer, DatagramReplies, DropReason, Mac, NetStack, Port, Secrets, StackConfig, StackStats,
    Time,
};

use crate::lab::{CLIENT, Lab, OURS, Side};

const PORT: u16 = 11_211;

/// Sends back what it gets, or of what is too long its length; what begins with `!` in the next turn, as an answer of another core would be.
#[derive(Default)]
struct Echo {
    later: Vec<(DatagramPeer, Vec<u8>)>,
}

impl DatagramHandler for Echo {
    fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
        if payload.first() == Some(&b'!') {
            return self.later.push((*peer, payload.to_vec()));
        }
        let len = (payload.len() as u32).to_be_bytes();
        let answer = if payload.len() > replies.max_payload() { &len } else { payload };
        let sent = replies.send(answer.len(), |room| {
            room.copy_from_slice(answer);
            answer.len()
        });
        sent.expect("a queue has more frames than datagrams in a burst");
    }
}

/// One core with one queue. Returns what it has counted, and how many frames it has lost.
fn serve(queue: XdpQueue, mac: [u8; 6], bell: Arc<Doorbell>, stop: &AtomicBool) -> (StackStats, usize) {
    let mut config = StackConfig::new(OURS, 24, Mac(mac));
    config.udp_ports = vec![PORT];
    let mut stack = NetStack::new(config, Secrets::from_bytes([9; 32])).expect("a good configuration");
    let mut sleeper = Sleeper::new(bell, queue.raw_fd());
    let mut ports = [Port::new(queue)];
    let mut echo = Echo::default();
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Time::from_duration(start.elapsed());
        let received = ports[0].receive();
        for (peer, payload) in echo.later.drain(..) {
            let sent = stack.send_datagram(&mut ports, &peer, payload.len(), |room| {
                room.copy_from_slice(&payload);
                payload.len()
            });
            sent.expect("a queue has more frames than datagrams in a burst");
        }
        stack.ingest_datagrams(now, &mut ports[0], 0, Some(&mut echo));
        stack.expire(now);
        stack.flush(now, &mut ports);
        ports[0].transmit().expect("the link is there");
        if received == 0 && echo.later.is_empty() {
            sleeper.sleep(None, || stop.load(Ordering::Relaxed)).expect("it sleeps");
        }
    }
    let stats = *stack.stats();
    let [port] = ports;
    (stats, port.into_queue().census().held)
}

/// Runs `ask` in the client's namespace while a core a queue echoes, and returns what the cores have counted.
fn with_echo(lab: &Lab, ask: impl FnOnce() + Send) -> Vec<StackStats> {
    let mut device = lab.inside(Side::Server, || {
        XdpDevice::open(&XdpConfig::new(Side::Server.link(), OURS)).expect("the device opens")
    });
    let mac = device.link().mac.0;
    let stop = AtomicBool::new(false);
    let ids = device.queue_ids();
    let cores = std::thread::scope(|scope| {
        let cores = ids.into_iter().map(|id| {
            let queue = device.take_queue(id).expect("not taken yet");
            let bell = Arc::new(Doorbell::new().expect("a descriptor"));
            let (stop, own) = (&stop, bell.clone());
            (scope.spawn(move || serve(queue, mac, own, stop)), bell)
        });
        let cores: Vec<_> = cores.collect();
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lab.inside(Side::Client, ask)));
        stop.store(true, Ordering::Relaxed);
        let counted = cores.into_iter().map(|(core, bell)| {
            bell.ring();
            core.join().expect("a core does not panic")
        });
        let counted: Vec<_> = counted.collect();
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        counted
    });
    assert!(cores.iter().all(|(_, held)| *held == 0), "{cores:?}");
    cores.into_iter().map(|(stats, _)| stats).collect()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((CLIENT, 0)).expect("a port");
    socket.connect((OURS, PORT)).expect("an address");
    // Only so that a lost answer fails the test instead of stopping it.
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket
}

fn ask(socket: &UdpSocket, payload: &[u8]) {
    let mut bytes = [0; 2_000];
    assert_eq!(socket.send(payload).expect("sent"), payload.len());
    let len = socket.recv(&mut bytes).expect("an answer");
    assert_eq!(&bytes[..len], payload);
}

#[test]
fn kernel_sockets_are_answered_on_whichever_queue_they_come() {
    let Some(lab) = Lab::up(2) else { return };
    let cores = with_echo(&lab, || {
        let sockets: Vec<_> = (0..32).map(|_| socket()).collect();
        for round in 0..20usize {
            for (number, socket) in sockets.iter().enumerate() {
                let len = 1 + (round * 97 + number * 31) % 1_472;
                let mut payload = vec![(round + number) as u8; len];
                payload[0] = if number % 3 == 0 { b'!' } else { b'.' };
                ask(socket, &payload);
            }
        }
        // As many at once as there are sockets, each answered.
        for socket in &sockets {
            assert_eq!(socket.send(b"all").expect("sent"), 3);
        }
        for socket in &sockets {
            let mut bytes = [0; 16];
            assert_eq!(socket.recv(&mut bytes).expect("an answer"), 3);
        }
    });
    let answered: Vec<_> = cores.iter().map(|stats| stats.datagrams_sent).collect();
    assert_eq!(answered.iter().sum::<u64>(), 21 * 32, "{cores:?}");
    assert!(answered.iter().all(|&count| count > 0), "{answered:?}");
    assert!(cores.iter().all(|stats| stats.datagrams == stats.datagrams_sent && stats.datagrams_refused == 0));
}

#[test]
fn datagrams_in_fragments_are_answered_and_sockets_of_low_ports_are_not() {
    let Some(lab) = Lab::up(2) else { return };
    let cores = with_echo(&lab, || {
        let good = socket();
        ask(&good, b"hello");
        for long in [1_473, 4_000, 60_000u32] {
            good.send(&vec![7; long as usize]).expect("sent");
            let mut bytes = [0; 16];
            let len = good.recv(&mut bytes).expect("an answer");
            assert_eq!(bytes[..len], long.to_be_bytes());
        }
        let low = UdpSocket::bind((CLIENT, 900)).expect("root may");
        low.send_to(b"loop", (OURS, PORT)).expect("sent");
        let own = UdpSocket::bind((CLIENT, PORT)).expect("free");
        own.send_to(b"loop", (OURS, PORT)).expect("sent");
        // Enough of them for both queues, each emptied in order.
        for _ in 0..32 {
            ask(&socket(), b"barrier");
        }
        for silent in [&low, &own] {
            silent.set_nonblocking(true).expect("a flag");
            assert!(silent.recv(&mut [0; 16]).is_err(), "nobody answers it");
        }
    });
    let drops = |reason| cores.iter().map(|stats| stats.drops.of(reason)).sum::<u64>();
    assert_eq!(drops(DropReason::UdpLoopPort), 2, "{cores:?}");
    let sum = |count: fn(&StackStats) -> u64| cores.iter().map(count).sum::<u64>();
    // All fragments but the last of each: one of two, two of three, forty of forty-one.
    assert_eq!((sum(|stats| stats.datagrams_sent), sum(|stats| stats.fragments)), (36, 1 + 2 + 40));
}
