//! AF_XDP over veth pairs in namespaces of their own. Needs root; without it each test says so and passes.

#[path = "xdp_veth/holder.rs"]
mod holder;
#[path = "xdp_veth/lab.rs"]
mod lab;
#[path = "xdp_veth/packet.rs"]
mod packet;
#[path = "conformance/suite.rs"]
#[allow(dead_code)] // Its checks are run by `run_all`, besides.
mod suite;
#[path = "xdp_veth/trains.rs"]
mod trains;

use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use holder::Holder;
use lab::{CLIENT, KERNEL, Lab, OURS, Side, eventually};
use packet::{Place, UDP_BYTES, answer_arp, is_arp_request_for, read_udp, write_udp};
use sidestep_nic::guard::Guard;
use sidestep_nic::link::{Link, LinkError};
use sidestep_nic::preflight::OpenError;
use sidestep_nic::udp_spread::spread_udp;
use sidestep_nic::xdp::{Attach, AttachMode, Copy, CopyMode, MTU_MAX, XdpConfig, XdpDevice, XdpQueue};
use sidestep_nic::{Burst, Doorbell, IpFamily, Queue, QueueId, Sleeper, Woken};

fn open(lab: &Lab, side: Side, address: Ipv4Addr) -> XdpDevice {
    open_as(lab, side, &XdpConfig::new(side.link(), address)).expect("the device opens")
}

fn open_as(lab: &Lab, side: Side, config: &XdpConfig) -> Result<XdpDevice, OpenError> {
    lab.inside(side, || XdpDevice::open(config))
}

fn take_all(device: &mut XdpDevice) -> Vec<XdpQueue> {
    let ids = device.queue_ids();
    ids.into_iter().map(|id| device.take_queue(id).expect("not taken yet")).collect()
}

/// Receives until `wanted` picks a frame; answers ARP for our address meanwhile, as a stack would.
fn receive<T>(queue: &mut XdpQueue, mac: [u8; 6], mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let (mut burst, mut replies) = (Burst::default(), Burst::default());
    queue.rx_burst(&mut burst);
    let mut picked = None;
    while let Some(mut frame) = burst.pop() {
        picked = picked.or_else(|| wanted(frame.bytes()));
        if is_arp_request_for(frame.bytes(), OURS) {
            answer_arp(frame.bytes_mut(), mac);
            replies.push(frame).expect("as much room as in the other");
        } else {
            queue.free(frame);
        }
    }
    queue.tx_burst(&mut replies);
    queue.flush().expect("the link is there");
    picked
}

/// A datagram from the client's kernel to the server's and back: what ssh would need.
fn assert_kernel_reachable(lab: &Lab, when: &str) {
    let server = lab.inside(Side::Server, || UdpSocket::bind((KERNEL, 0))).expect("the kernel has the address");
    let client = lab.inside(Side::Client, || UdpSocket::bind((CLIENT, 0))).expect("the kernel has the address");
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    }
    client.send_to(b"knock", server.local_addr().expect("bound")).expect("sent");
    let mut bytes = [0; 16];
    let (len, from) = server.recv_from(&mut bytes).unwrap_or_else(|error| panic!("{when}: {error}"));
    server.send_to(&bytes[..len], from).expect("sent");
    let (len, _) = client.recv_from(&mut bytes).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(&bytes[..len], b"knock");
}

#[test]
fn two_queues_are_native_and_a_frame_arrives_on_the_queue_it_was_sent_on() {
    let Some(lab) = Lab::up(2) else { return };
    let mut server = open(&lab, Side::Server, OURS);
    let mut client = open(&lab, Side::Client, Ipv4Addr::new(10, 77, 0, 9));
    assert_eq!((server.obtained().attach, server.obtained().copy), (Attach::Native, Copy::Copy));
    assert!(server.obtained().why.contains("no zero copy"), "{}", server.obtained());
    let from = Place { mac: client.link().mac.0, address: CLIENT, port: 7 };
    let to = Place { mac: server.link().mac.0, address: OURS, port: 9 };
    let (mut servers, mut clients) = (take_all(&mut server), take_all(&mut client));
    assert!(server.take_queue(QueueId(0)).is_none(), "a queue is handed out once");
    for number in 0..50u8 {
        let sender = &mut clients[usize::from(number % 2)];
        let mut frame = sender.tx_alloc().expect("a free frame");
        frame.resize(UDP_BYTES + 1).expect("room");
        frame.bytes_mut()[UDP_BYTES] = number;
        write_udp(frame.bytes_mut(), from, to);
        let mut burst = Burst::default();
        burst.push(frame).expect("room");
        assert_eq!(sender.tx_burst(&mut burst), 1);
        sender.flush().expect("the link is there");
        let at = eventually("the frame", || {
            (0..2).find_map(|at| receive(&mut servers[at], to.mac, |bytes| read_udp(bytes).map(|udp| (at, udp.2[0]))))
        });
        assert_eq!(at, (usize::from(number % 2), number));
    }
    let counters = server.steering().counters().expect("counters");
    assert_eq!((counters.redirected, counters.no_socket), (50, 0));
}

#[test]
fn kernel_flows_reach_both_queues_and_each_stays_on_one() {
    let Some(lab) = Lab::up(2) else { return };
    let mut server = open(&lab, Side::Server, OURS);
    let mac = server.link().mac.0;
    let mut queues = take_all(&mut server);
    let sockets: Vec<UdpSocket> =
        lab.inside(Side::Client, || (0..32).map(|_| UdpSocket::bind((CLIENT, 0)).expect("a port")).collect());
    let mut queue_of: HashMap<u16, usize> = HashMap::new();
    for round in 0..3u8 {
        for socket in &sockets {
            let port = socket.local_addr().expect("bound").port();
            socket.send_to(&[round], (OURS, 9)).expect("sent");
            // The first one asks who has the address; the answer is given by `receive`.
            let at = eventually("the datagram", || {
                (0..2).find(|&at| {
                    receive(&mut queues[at], mac, |bytes| {
                        read_udp(bytes)
                            .filter(|(from, to, body)| (from.port, to.address, *body) == (port, OURS, &[round][..]))
                            .map(drop)
                    })
                    .is_some()
                })
            });
            assert_eq!(*queue_of.entry(port).or_insert(at), at, "the flow changed its queue");
        }
    }
    assert!((0..2).all(|at| queue_of.values().any(|queue| *queue == at)), "{queue_of:?}");
    assert!(server.steering().counters().expect("counters").arp > 0);
}

/// On a veth, which has no driver to ask, the kernel takes what is asked for, and frames come as without it.
#[test]
fn a_queue_that_asks_its_driver_wakes_a_sleeper_that_polls() {
    let Some(lab) = Lab::up(1) else { return };
    let mut server = open(&lab, Side::Server, OURS);
    let mac = server.link().mac.0;
    let mut queue = take_all(&mut server).remove(0);
    let link = server.link().clone();
    lab.inside(Side::Server, || queue.poll_driver(&link)).expect("root may, since Linux 5.11");
    let doorbell = Arc::new(Doorbell::new().expect("a descriptor"));
    let mut sleeper = match Sleeper::polling(doorbell, queue.raw_fd()) {
        Ok(sleeper) => sleeper,
        // Before Linux 6.9.
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let socket = lab.inside(Side::Client, || UdpSocket::bind((CLIENT, 0))).expect("a port");
    for round in 0..20u8 {
        socket.send_to(&[round], (OURS, 9)).expect("sent");
        let body = eventually("the datagram", || {
            // The first time it is the question who has the address.
            assert!(matches!(sleeper.sleep(Some(Duration::from_secs(5)), || false), Ok(Woken::Frames)));
            receive(&mut queue, mac, |bytes| read_udp(bytes).map(|udp| udp.2.to_vec()))
        });
        assert_eq!(body, [round]);
    }
}

#[test]
fn a_veth_has_no_hash_to_set_and_one_queue_needs_none() {
    for (queues, wanted) in [(2, "the driver (veth) has no hash to set"), (1, "one queue takes all datagrams")] {
        let Some(lab) = Lab::up(queues) else { return };
        let said = lab.inside(Side::Server, || {
            let link = Link::by_name(Side::Server.link()).expect("it is there");
            let mut guard = Guard::of_server(&link, &std::env::temp_dir()).expect("the kernel tells");
            spread_udp(&link, IpFamily::V4, &mut guard).to_string()
        });
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn the_kernel_on_the_same_link_is_reachable_before_while_and_after() {
    let Some(lab) = Lab::up(2) else { return };
    assert_kernel_reachable(&lab, "before");
    let mut device = open(&lab, Side::Server, OURS);
    assert_kernel_reachable(&lab, "while");
    let queues = take_all(&mut device);
    drop(device);
    assert_kernel_reachable(&lab, "after the program is gone");
    drop(queues);
    assert_kernel_reachable(&lab, "after");
}

#[test]
fn a_core_asleep_on_a_queue_is_woken_by_a_frame() {
    let Some(lab) = Lab::up(2) else { return };
    let mut device = open(&lab, Side::Server, OURS);
    let mac = device.link().mac.0;
    let mut queues = take_all(&mut device);
    let fds = queues.iter().filter_map(Queue::raw_fd).collect::<Vec<_>>();
    let mut sleeper = Sleeper::new(Arc::new(Doorbell::new().expect("a descriptor")), fds);
    assert_eq!(sleeper.sleep(Some(Duration::ZERO), || false).expect("it sleeps"), Woken::Idle);
    let socket = lab.inside(Side::Client, || UdpSocket::bind((CLIENT, 0))).expect("a port");
    socket.send_to(b"wake", (OURS, 9)).expect("sent"); // An ARP request first.
    assert_eq!(sleeper.sleep(None, || false).expect("it sleeps"), Woken::Frames);
    let arp = |bytes: &[u8]| is_arp_request_for(bytes, OURS).then_some(());
    assert!(queues.iter_mut().any(|queue| receive(queue, mac, arp).is_some()));
}

#[test]
fn a_frame_too_short_to_be_one_is_refused_and_freed() {
    let Some(lab) = Lab::up(1) else { return };
    let mut device = open(&lab, Side::Server, OURS);
    let mut queue = take_all(&mut device).pop().expect("one queue");
    let before = queue.census();
    let mut burst = Burst::default();
    for len in [0, 13] {
        let mut frame = queue.tx_alloc().expect("a free frame");
        frame.resize(len).expect("room");
        burst.push(frame).expect("room");
    }
    assert_eq!((queue.tx_burst(&mut burst), burst.len()), (0, 0));
    queue.flush().expect("the link is there");
    assert_eq!((queue.xdp_stats().refused, queue.census()), (2, before));
    assert_eq!(queue.xdp_stats().kernel.tx_invalid_descriptors, 0);
}

#[test]
fn a_link_that_goes_away_is_reported_by_the_next_flush_that_sends() {
    let Some(lab) = Lab::up(2) else { return };
    let mut device = open(&lab, Side::Server, OURS);
    let mut queues = take_all(&mut device);
    lab.ip(Side::Client, &["link", "delete", "c0"]);
    let mut frame = queues[0].tx_alloc().expect("a free frame");
    frame.resize(60).expect("room");
    let mut burst = Burst::default();
    burst.push(frame).expect("room");
    assert_eq!(queues[0].tx_burst(&mut burst), 1);
    let error = queues[0].flush().expect_err("there is no link");
    assert!(error.to_string().contains("is the link still there?"), "{error}");
}

/// The role that the test below plays in a process of its own.
const HOLD: &str = "SIDESTEP_NIC_TEST_HOLD";

#[test]
fn a_killed_process_gives_the_link_back() {
    if let Ok(name) = std::env::var(HOLD) {
        let device = open(&Lab::of_name(&name), Side::Server, OURS);
        println!("\nholding {}", device.obtained());
        std::io::stdout().flush().expect("a pipe");
        loop {
            std::thread::park(); // Until killed.
        }
    }
    let Some(lab) = Lab::up(2) else { return };
    let mut holder = Holder::start(&lab, HOLD, "a_killed_process_gives_the_link_back");
    let program = attached_program(&lab).expect("attached");
    assert!(aya::programs::loaded_programs().flatten().any(|info| info.id() == program));
    let maps = maps_of(program);
    assert_eq!(maps.len(), 8, "addresses, ports, settings, station, allowed, fragmented, sockets, counters");
    assert_kernel_reachable(&lab, "while it is held");
    let busy = open_as(&lab, Side::Server, &XdpConfig::new("s0", OURS)).expect_err("another process holds it");
    assert!(matches!(busy, OpenError::QueueBusy { queue: QueueId(0), .. }), "{busy}");

    holder.0.kill().expect("it runs"); // SIGKILL.
    holder.0.wait().expect("it ends");
    let again = open(&lab, Side::Server, OURS);
    assert_ne!(attached_program(&lab), Some(program));
    assert_kernel_reachable(&lab, "with the second process");
    eventually("the program is gone", || {
        let gone = !aya::programs::loaded_programs().flatten().any(|info| info.id() == program);
        gone.then_some(())
    });
    eventually("its maps are gone", || {
        let gone = !aya::maps::loaded_maps().flatten().any(|info| maps.contains(&info.id()));
        gone.then_some(())
    });
    drop(again);
    until_detached(&lab);
    assert_kernel_reachable(&lab, "after both");
}

/// Waits until no program is on the server's link. A child that another test forks has the descriptors of this process too until
/// it executes its program, so that a link that was closed may be there a moment longer.
fn until_detached(lab: &Lab) {
    eventually("the program is detached", || attached_program(lab).is_none().then_some(()));
}

/// Id of the XDP program on the server's link.
fn attached_program(lab: &Lab) -> Option<u32> {
    let said = lab.ip(Side::Server, &["link", "show", "dev", "s0"]);
    let after = said.split_once("prog/xdp")?.1;
    after.split_once("id ")?.1.split_whitespace().next()?.parse().ok()
}

fn maps_of(program: u32) -> Vec<u32> {
    let info = aya::programs::loaded_programs().flatten().find(|info| info.id() == program).expect("it is loaded");
    info.map_ids().expect("the kernel tells").expect("the kernel knows").to_vec()
}

#[test]
fn a_queue_is_bound_again_at_once_even_with_a_frame_still_held() {
    let Some(lab) = Lab::up(2) else { return };
    let mut kept = Vec::new();
    for round in 0..3u8 {
        let mut device = open(&lab, Side::Server, OURS);
        let mut queues = take_all(&mut device);
        let mut frame = queues[0].tx_alloc().expect("a free frame");
        frame.resize(64).expect("room");
        frame.bytes_mut().fill(round);
        kept.push(frame);
        let census = queues[0].census();
        assert_eq!((census.held, census.free + census.fill + census.tx + census.held), (1, census.total));
        let leaked = sidestep_nic::leaked_regions();
        drop((device, queues));
        assert!(sidestep_nic::leaked_regions() > leaked, "the memory stays since a frame is held");
    }
    for (round, frame) in kept.iter().enumerate() {
        assert!(frame.bytes().iter().all(|byte| usize::from(*byte) == round));
    }
}

#[test]
fn one_queue_is_generic_unless_native_is_asked_for() {
    let Some(lab) = Lab::up(1) else { return };
    for (attach, expected) in [(AttachMode::Auto, Attach::Generic), (AttachMode::Native, Attach::Native)] {
        let config = XdpConfig { attach, ..XdpConfig::new("s0", OURS) };
        let mut device = open_as(&lab, Side::Server, &config).expect("the device opens");
        assert_eq!((device.obtained().attach, device.obtained().copy), (expected, Copy::Copy), "{}", device.obtained());
        let mac = device.link().mac.0;
        let mut queues = take_all(&mut device);
        let socket = lab.inside(Side::Client, || UdpSocket::bind((CLIENT, 0))).expect("a port");
        socket.send_to(b"hello", (OURS, 9)).expect("sent");
        let body = eventually("the datagram", || {
            receive(&mut queues[0], mac, |bytes| read_udp(bytes).map(|udp| udp.2.to_vec()))
        });
        assert_eq!(body, b"hello");
        assert_kernel_reachable(&lab, "while");
    }
}

#[test]
fn wrong_uses_are_refused_in_one_line_and_leave_nothing_behind() {
    let Some(lab) = Lab::up(2) else { return };
    let line = |config: &XdpConfig| {
        let line = open_as(&lab, Side::Server, config).expect_err("it must be refused").to_string();
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(attached_program(&lab), None, "{line}");
        line
    };
    let good = XdpConfig::new("s0", OURS);
    assert_eq!(line(&XdpConfig::new("nope0", OURS)), "there is no interface nope0; there are: lo, s0");
    assert!(line(&XdpConfig::new("s0", KERNEL)).starts_with("the kernel already has 10.77.0.3, on s0"));
    let queues = Some(vec![QueueId(2)]);
    assert!(line(&XdpConfig { queues, ..good.clone() }).contains("has no queue 2: its queues are 0 to 1"));
    assert!(line(&XdpConfig { attach: AttachMode::Generic, ..good.clone() }).contains("is a veth with 2 queues"));

    // The other end may send longer packets: they are not this end's, and its kernel drops them.
    lab.ip(Side::Client, &["link", "set", "c0", "mtu", "9000"]);
    drop(open_as(&lab, Side::Server, &good).expect("it opens"));
    until_detached(&lab);
    lab.ip(Side::Server, &["link", "set", "s0", "mtu", "9000"]);
    let zero_copy = XdpConfig { copy: CopyMode::ZeroCopy, ..good.clone() };
    assert!(
        line(&zero_copy).contains("has an MTU of 9000 bytes, and in zero copy veth loses frames of one above 3822")
    );
    let jumbo = open_as(&lab, Side::Server, &good).expect("it opens, in copy mode");
    assert_eq!(jumbo.link().mtu, MTU_MAX);
    assert!(jumbo.obtained().why.contains("at most 3822 bytes are sent and asked for"), "{}", jumbo.obtained());
    drop(jumbo);
    until_detached(&lab);
    for side in [Side::Client, Side::Server] {
        lab.ip(side, &["link", "set", side.link(), "mtu", "1500"]);
    }

    // A program that takes frames of one buffer alone, as before Linux 5.18, on a link whose other end sends longer ones.
    let index = lab.inside(Side::Server, || Link::by_name("s0")).expect("the link").index;
    lab.ip(Side::Client, &["link", "set", "c0", "mtu", "9000"]);
    let mut whole = sidestep_nic::xdp::SteeringProgram::load(2, false).expect("it loads");
    let fault =
        lab.inside(Side::Server, || whole.attach(index, Attach::Native)).expect_err("the frames may be too long");
    assert_eq!(fault.raw_os_error(), Some(libc::ERANGE), "what preflight tells as MtuRefused: {fault}");
    lab.ip(Side::Client, &["link", "set", "c0", "mtu", "1500"]);

    // Another program, without sockets, so that it is the program that is in the way.
    let mut other = sidestep_nic::xdp::SteeringProgram::load(2, false).expect("it loads");
    lab.inside(Side::Server, || other.attach(index, Attach::Native)).expect("it attaches");
    let attached = open_as(&lab, Side::Server, &good).expect_err("it must be refused");
    assert!(matches!(attached, OpenError::ProgramAttached { .. }), "{attached}");
    other.detach();
    drop(open_as(&lab, Side::Server, &good).expect("now it opens"));
}

/// Two AF_XDP devices, one on each end of a veth pair, joined by queue `queue`.
struct OverVeth {
    lab: Lab,
    attach: AttachMode,
    queue: QueueId,
    devices: Option<[XdpDevice; 2]>,
    sleeper: Option<Sleeper>,
}

const RING: u32 = 64;
const PLACE_A: Place = Place { mac: [2, 0, 0, 0, 0, 0xa], address: Ipv4Addr::new(10, 78, 0, 1), port: 1 };
const PLACE_B: Place = Place { mac: [2, 0, 0, 0, 0, 0xb], address: Ipv4Addr::new(10, 78, 0, 2), port: 2 };

impl OverVeth {
    fn new(lab: Lab, attach: AttachMode, queue: u16) -> Self {
        Self { lab, attach, queue: QueueId(queue), devices: None, sleeper: None }
    }
}

impl suite::Backend for OverVeth {
    fn open(&mut self) -> suite::Ends {
        self.devices = None;
        let mut devices = [(Side::Client, PLACE_A), (Side::Server, PLACE_B)].map(|(side, place)| {
            let queues = Some(vec![self.queue]);
            let new = XdpConfig::new(side.link(), place.address);
            let config = XdpConfig { attach: self.attach, queues, rx_ring: RING, tx_ring: RING, ..new };
            open_as(&self.lab, side, &config).expect("the device opens")
        });
        let [a, b] = devices.each_mut().map(|device| device.take_queue(self.queue).expect("not taken yet"));
        let fds = [&a, &b].into_iter().filter_map(|queue| queue.raw_fd()).collect::<Vec<_>>();
        self.sleeper = Some(Sleeper::new(Arc::new(Doorbell::new().expect("a descriptor")), fds));
        self.devices = Some(devices);
        suite::Ends { a: Box::new(a), b: Box::new(b) }
    }

    fn settle(&mut self, _ends: &mut suite::Ends) {
        let sleeper = self.sleeper.as_mut().expect("opened");
        sleeper.sleep(Some(Duration::from_millis(2)), || false).expect("it sleeps");
    }

    fn dress(&self, from: suite::End, bytes: &mut [u8]) {
        match from {
            suite::End::A => write_udp(bytes, PLACE_A, PLACE_B),
            suite::End::B => write_udp(bytes, PLACE_B, PLACE_A),
        }
    }

    fn is_ours(&self, bytes: &[u8]) -> bool {
        read_udp(bytes).is_some_and(|(from, _, _)| [PLACE_A, PLACE_B].contains(&from))
    }

    fn min_frame_bytes(&self) -> usize {
        UDP_BYTES + 8
    }

    fn safe_in_transit(&self) -> usize {
        RING as usize
    }

    fn tx_ring_frames(&self) -> Option<usize> {
        Some(RING as usize)
    }

    // More than the receive ring, fewer than the veth's own queue of 256, whose drops no socket counts.
    fn overflow_frames(&self) -> Option<usize> {
        Some(RING as usize + 50)
    }
}

#[test]
fn native_mode_conforms_on_either_of_two_queues() {
    for queue in 0..2 {
        let Some(lab) = Lab::up(2) else { return };
        suite::run_all(&mut OverVeth::new(lab, AttachMode::Native, queue));
    }
}

#[test]
fn generic_mode_conforms_on_one_queue() {
    let Some(lab) = Lab::up(1) else { return };
    suite::run_all(&mut OverVeth::new(lab, AttachMode::Generic, 0));
}

/// An interface is its index: `ip link property add` gives it names that no ioctl takes, `ip link set name` another.
#[test]
fn a_link_is_found_by_any_of_its_names_and_by_its_index_under_another_name() {
    let Some(lab) = Lab::up(1) else { return };
    let long = "enp193s0f0np0d1-storage-of-the-second-rack";
    lab.ip(Side::Server, &["link", "property", "add", "dev", "s0", "altname", long, "altname", "short"]);
    let by_name = |name: &str| lab.inside(Side::Server, || Link::by_name(name)).expect("it has that name");
    let link = by_name("s0");
    assert_eq!((by_name(long), by_name("short")), (link.clone(), link.clone()));
    let config = XdpConfig::new(long, OURS);
    assert_eq!(open_as(&lab, Side::Server, &config).expect("the device opens").link().name, "s0");
    lab.ip(Side::Server, &["link", "set", "s0", "down"]);
    lab.ip(Side::Server, &["link", "set", "s0", "name", "renamed"]);
    let renamed = lab.inside(Side::Server, || Link::by_index(link.index)).expect("it is the same");
    assert_eq!((renamed.name.as_str(), renamed.mac), ("renamed", link.mac));
    lab.ip(Side::Server, &["link", "del", "renamed"]);
    let gone = lab.inside(Side::Server, || Link::by_index(link.index)).unwrap_err();
    assert!(matches!(gone, LinkError::Gone { index } if index == link.index), "{gone}");
}
