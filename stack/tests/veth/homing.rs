//! Active opens over a veth of two queues against a real kernel, which spreads its connections at random: a core of ours on each
//! queue, one of which asks. Needs root; without it the test says so and passes.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use nic::{Doorbell, Sleeper};
use sidestep_stack::{Connect, FlowId, Mac, NetStack, Poll, Secrets, StackConfig, StackStats, StrayRing, Time, Token};

use crate::lab::{KERNEL, Lab, OURS, Side};

const CONNECTIONS: usize = 1_000;
/// Connections that are asked for at a time.
const AT_ONCE: usize = 32;
/// How long a core sleeps at most, so that it sees that it is to stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// A core on a queue.
struct Core {
    poll: Poll<XdpQueue>,
    sleeper: Sleeper,
    start: Instant,
}

impl Core {
    fn new(number: u8, queue: XdpQueue, mac: [u8; 6], strays: StrayRing, bell: Arc<Doorbell>, start: Instant) -> Self {
        let mut config = StackConfig::new(OURS, 24, Mac(mac));
        config.peers = 1;
        config.source_port_share = (number, 2);
        let stack = NetStack::new(config, Secrets::from_bytes([9; 32])).expect("a good configuration");
        let poll = Poll::new(stack, [queue]).with_strays(strays);
        let sleeper = poll.sleeper(bell);
        Self { poll, sleeper, start }
    }

    fn now(&self) -> Time {
        Time::from_duration(self.start.elapsed())
    }

    /// One turn, and a sleep if there was nothing to do.
    fn turn(&mut self) {
        let now = self.now();
        if !self.poll.poll(now).expect("the link is there") {
            let limit = self.poll.idle(self.now()).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
            self.sleeper.sleep(Some(limit), || self.poll.has_work()).expect("it sleeps");
        }
    }
}

/// Asks over every connection, and closes it when the answer is there.
fn ask(core: &mut Core, port: u16) {
    let mut connect = Connect::to(SocketAddrV4::new(KERNEL, port));
    connect.token = Token(7);
    let mut open: Vec<FlowId> = Vec::new();
    let (mut begun, mut answered) = (0, 0);
    while answered < CONNECTIONS {
        if begun < CONNECTIONS && open.len() < AT_ONCE {
            let now = core.now();
            open.push(core.poll.connect(now, &connect, |_| true).expect("it can be tried"));
            begun += 1;
        }
        core.turn();
        while let Some(event) = core.poll.next_event() {
            assert_eq!((event.token(), event.closed()), (Token(7), None), "it opens, and is answered");
            let Some(mut flow) = core.poll.flow(event.flow()) else { panic!("it was told of and is dead") };
            let mut answer = [0; 16];
            let taken = flow.recv_slice(&mut answer);
            if taken > 0 {
                assert_eq!(&answer[..taken], b"come in");
                flow.close();
                open.retain(|id| *id != event.flow());
                answered += 1;
            } else if event.is_writable() && flow.send_queue() == 0 {
                flow.send_slice(b"knock");
            }
        }
    }
    while core.poll.stack().flows() > 0 {
        core.turn();
    }
}

#[test]
fn every_answer_of_a_thousand_opens_arrives_at_the_core_that_asked() {
    let Some(lab) = Lab::up(2) else { return };
    let listener = lab.inside(Side::Server, || {
        // A kernel that gets no answer in time sends again by another queue, unless told not to: this is no test of how fast
        // this machine is.
        let _ = std::fs::write("/proc/sys/net/core/txrehash", "0");
        TcpListener::bind((KERNEL, 0)).expect("a port")
    });
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 5];
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(b"come in").expect("sent");
            assert_eq!(stream.read(&mut request).expect("no reset"), 0);
        }
    });
    let mut device = lab.inside(Side::Client, || {
        XdpDevice::open(&XdpConfig::new(Side::Client.link(), OURS)).expect("the device opens")
    });
    let mac = device.link().mac.0;
    let bells: Vec<_> = (0..2).map(|_| Arc::new(Doorbell::new().expect("a descriptor"))).collect();
    let rings = StrayRing::of(&bells, 4_096).expect("memory");
    let start = Instant::now();
    let ids = device.queue_ids();
    let queues = ids.into_iter().map(|id| device.take_queue(id).expect("not taken yet"));
    let parts = (0..).zip(queues.zip(rings).zip(bells));
    let core = |(number, ((queue, strays), bell))| Core::new(number, queue, mac, strays, bell, start);
    let mut cores = parts.map(core);
    let (mut asking, mut other) = (cores.next().expect("two queues"), cores.next().expect("two queues"));
    let stop = AtomicBool::new(false);
    let stats: [StackStats; 2] = std::thread::scope(|scope| {
        let helper = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                other.turn();
            }
            *other.poll.stack().stats()
        });
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(&mut asking, port)));
        stop.store(true, Ordering::Relaxed);
        let other = helper.join().expect("a core does not panic");
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        [*asking.poll.stack().stats(), other]
    });
    server.join().expect("the server saw nothing wrong");
    let [core, other] = &stats;
    println!("{} attempts were answered at the other core", core.connects_elsewhere);
    assert_eq!((core.connects, core.connected, core.connects_kept_away), (1_000, 1_000, 0));
    // By chance about a thousand.
    assert!((500..2_000).contains(&core.connects_elsewhere), "{}", core.connects_elsewhere);
    assert_eq!(core.segments_astray, core.connects_elsewhere, "SYN-ACKs alone came elsewhere: {core:?} {other:?}");
}
