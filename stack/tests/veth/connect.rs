//! Active opens over AF_XDP against a real kernel: a listener, a port that refuses, a host that is not there, and one
//! that swallows everything. Needs root; without it each test says so and passes.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use nic::QueueId;
use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use sidestep_stack::{CloseReason, Connect, Event, FlowId, Mac, NetStack, Poll, Secrets, StackConfig, Time};

use crate::lab::{KERNEL, Lab, OURS, Side};

/// Our own stack on the client's end of the veth.
struct Client {
    poll: Poll<XdpQueue>,
    start: Instant,
    _device: XdpDevice,
}

impl Client {
    fn new(lab: &Lab, adjust: impl FnOnce(&mut StackConfig)) -> Self {
        let mut device = lab.inside(Side::Client, || {
            XdpDevice::open(&XdpConfig::new(Side::Client.link(), OURS)).expect("the device opens")
        });
        let queue = device.take_queue(QueueId(0)).expect("not taken yet");
        let mut config = StackConfig::new(OURS, 24, Mac(device.link().mac.0));
        adjust(&mut config);
        let stack = NetStack::new(config, Secrets::from_bytes([9; 32])).expect("a good configuration");
        Self { poll: Poll::new(stack, [queue]), start: Instant::now(), _device: device }
    }

    fn now(&self) -> Time {
        Time::from_duration(self.start.elapsed())
    }

    fn connect(&mut self, address: Ipv4Addr, port: u16) -> FlowId {
        let now = self.now();
        self.poll.connect(now, &Connect::to(SocketAddrV4::new(address, port)), |_| true).expect("it can be tried")
    }

    /// Turns until `each`, shown what is told, says that it is done.
    fn run(&mut self, mut each: impl FnMut(&mut Poll<XdpQueue>, Option<Event>) -> bool) {
        loop {
            let now = self.now();
            self.poll.take_in(now);
            let mut done = each(&mut self.poll, None);
            while let Some(event) = self.poll.next_event() {
                done |= each(&mut self.poll, Some(event));
            }
            self.poll.send(now).expect("the link is there");
            if done {
                return;
            }
        }
    }

    /// How a connection that cannot be made ends.
    fn outcome(&mut self, id: FlowId) -> CloseReason {
        let mut reason = None;
        self.run(|_, event| {
            reason = reason.or(event.filter(|event| event.flow() == id).and_then(|event| event.closed()));
            reason.is_some()
        });
        reason.expect("the run ends with it")
    }
}

#[test]
fn a_kernel_listener_is_connected_to_asked_and_left_in_order() {
    let Some(lab) = Lab::up(1) else { return };
    let listener = lab.inside(Side::Server, || TcpListener::bind((KERNEL, 0)).expect("a port"));
    let port = listener.local_addr().expect("bound").port();
    const CONNECTIONS: usize = 500;
    let server = std::thread::spawn(move || {
        let mut peers = HashSet::new();
        for _ in 0..CONNECTIONS {
            let (mut stream, peer) = listener.accept().expect("a connection");
            let mut request = [0; 5];
            stream.read_exact(&mut request).expect("a request");
            assert_eq!(&request, b"knock");
            stream.write_all(b"come in").expect("sent");
            // In order: the end of the stream, and no reset.
            assert_eq!(stream.read(&mut request).expect("no reset"), 0);
            peers.insert(peer);
        }
        peers
    });
    let mut client = Client::new(&lab, |_| {});
    let mut done = 0;
    for _ in 0..CONNECTIONS {
        client.connect(KERNEL, port);
        client.run(|poll, event| {
            let Some(event) = event else { return false };
            assert_eq!(event.closed(), None);
            let Some(mut flow) = poll.flow(event.flow()) else { panic!("{event:?} is of one that is dead") };
            if event.is_new() {
                assert_eq!(flow.send_slice(b"knock"), 5);
            }
            let answered = flow.recv_queue() == 7;
            if answered {
                let answer = flow.recv(|bytes| (bytes.len(), bytes.to_vec()));
                assert_eq!(answer, b"come in");
                flow.close();
                done += 1;
            }
            answered
        });
    }
    client.run(|poll, _| poll.flows() == 0);
    let peers = server.join().expect("the server saw nothing wrong");
    let stats = client.poll.stack().stats();
    assert_eq!((done, stats.finished, stats.time_waits), (CONNECTIONS, CONNECTIONS as u64, CONNECTIONS as u64));
    assert_eq!(peers.len(), CONNECTIONS);
    assert!(peers.iter().all(|peer| matches!(peer, SocketAddr::V4(v4) if *v4.ip() == OURS && v4.port() >= 49_152)));
}

#[test]
fn a_kernel_that_takes_back_an_address_and_port_in_time_wait_opens_again() {
    let Some(lab) = Lab::up(1) else { return };
    let listener = lab.inside(Side::Server, || TcpListener::bind((KERNEL, 0)).expect("a port"));
    let port = listener.local_addr().expect("bound").port();
    const CONNECTIONS: u64 = 200;
    let server = std::thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().expect("a connection");
            assert_eq!(stream.read(&mut [0; 1]).expect("no reset"), 0);
        }
    });
    let mut client = Client::new(&lab, |config| {
        config.ephemeral_ports = (50_000, 50_009);
        config.time_wait_reuse = Duration::from_millis(20);
    });
    for _ in 0..CONNECTIONS {
        let mut asked = false;
        let (start, to) = (client.start, Connect::to(SocketAddrV4::new(KERNEL, port)));
        client.run(|poll, event| {
            if !asked {
                asked = poll.connect(Time::from_duration(start.elapsed()), &to, |_| true).is_ok();
            }
            let Some(event) = event else { return false };
            assert!(event.is_new() && event.closed().is_none(), "{event:?}");
            poll.flow(event.flow()).expect("it is there").close();
            true
        });
    }
    client.run(|poll, _| poll.flows() == 0);
    server.join().expect("the server saw nothing wrong");
    assert_eq!(client.poll.stack().stats().time_waits_reused, CONNECTIONS - 10);
}

#[test]
fn a_port_that_nobody_listens_on_refuses() {
    let Some(lab) = Lab::up(1) else { return };
    let port = lab.inside(Side::Server, || {
        let listener = TcpListener::bind((KERNEL, 0)).expect("a port");
        listener.local_addr().expect("bound").port()
    });
    let mut client = Client::new(&lab, |_| {});
    let id = client.connect(KERNEL, port);
    assert_eq!(client.outcome(id), CloseReason::Refused);
    assert!(client.poll.stack().neighbor(KERNEL).is_some());
    assert_eq!(client.poll.stack().stats().arp_requests, 1);
}

#[test]
fn a_host_that_is_not_there_is_unreachable_and_one_that_swallows_everything_times_out() {
    let Some(lab) = Lab::up(1) else { return };
    let mut client = Client::new(&lab, |config| config.connect_timeout = Duration::from_secs(4));
    let nobody = client.connect(Ipv4Addr::new(10, 77, 0, 99), 80);
    assert_eq!(client.outcome(nobody), CloseReason::Unreachable);
    assert_eq!(client.poll.stack().stats().arp_requests, 3);
    // The kernel still answers ARP, but has no way back to us: its answers go nowhere.
    lab.ip(Side::Server, &["route", "add", "blackhole", &format!("{OURS}/32")]);
    let silent = client.connect(KERNEL, 80);
    assert_eq!(client.outcome(silent), CloseReason::TimedOut);
}
