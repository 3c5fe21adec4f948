//! The Linux kernel as a host: in a namespace of its own, behind a veth on which the script is the peer, or, over IPv6,
//! behind a TAP (`tap.rs`).
//!
//! Frames go in and out by a packet socket on the veth's other end. Time is real, so that only short scripts make sense.
//! An echo request behind each frame and each call is the end marker: the kernel answers in order, so its reply says that
//! it has done all that it does at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nic::link::Link;
use nic::packet::PacketSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::CpuSet;

use super::host::{Host, Outcome, Tolerance};
use super::packet::{Ends, pattern};
use super::parse::{Event, Script};
use super::play::{Failure, play};
use super::syntax::{Act, Call, Reason, State, What, When};
use super::tap::{Setup, Tap};
use super::v6::build::{is_ndp, is_said_whenever};
use super::v6::layers::{Icmp, Payload};
use super::wire::Wire;
use crate::veth::{Lab, Side};

/// The peer's first address on the veth; no kernel has it. Scripts with ICMP have one of their own each, since the kernel
/// remembers what routers say of a path.
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 77];

/// The longest script that is played in real time.
const LONGEST: Duration = Duration::from_millis(700);

/// The longest that shows neighbour discovery, whose questions are a second apart (RFC 4861 §10).
const LONGEST_OF_NEIGHBORS: Duration = Duration::from_millis(4_500);

/// How much later than it should the peer may do something for a failure to be one: the kernel's timers went on meanwhile.
const LATEST: Duration = Duration::from_millis(15);

/// The port of the host's where nobody listens.
const CLOSED_PORT: u16 = 9;

/// How often a script is played again that failed on a busy machine.
const TRIES: usize = 50;

/// What a line counts for that says nothing of its time.
const ANY_TIME: Duration = Duration::from_millis(200);

/// The silence at the end of a script that is waited for.
const LAST_SILENCE: Duration = Duration::from_millis(100);

/// The script as a kernel can play it, its last silence cut short; `None` if it makes no sense for one: it sets something
/// of our stack's own, or takes long.
pub fn for_kernel(script: &Script) -> Option<Script> {
    let mut script = script.clone();
    if let Some(Event { when: When::After(span), act: Act::Quiet, .. }) = script.events.last_mut() {
        *span = LAST_SILENCE.min(*span);
    }
    let longest = if script.settings.shows_neighbors { LONGEST_OF_NEIGHBORS } else { LONGEST };
    (script.settings.stack.is_empty() && script.span(ANY_TIME) <= longest).then_some(script)
}

/// Whether a router tells something about a path in it.
fn has_icmp(script: &Script) -> bool {
    script.events.iter().any(|event| match &event.act {
        Act::Icmp(_) => true,
        Act::Packet(packet) => matches!(packet.payload, Payload::Icmp(Icmp::Error { .. })),
        _ => false,
    })
}

/// Whether a script has a TAP of its own, where the kernel knows nobody.
fn has_own_tap(script: &Script) -> bool {
    script.settings.v6 && (script.settings.shows_neighbors || script.comes_up())
}

/// Keeps the calling thread, the one of this number, on one processor: answers in order come from one.
pub fn stay_on_one_processor(number: usize) {
    let allowed = rustix::thread::sched_getaffinity(None).expect("the thread is there");
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let mut one = CpuSet::new();
    one.set(all[number % all.len()]);
    rustix::thread::sched_setaffinity(None, &one).expect("a processor that it may run on");
}

/// Linux, in a namespace of its own.
pub struct Linux {
    lab: Lab,
    socket: PacketSocket,
    mac: [u8; 6],
    /// Scripts so far: each has ports of its own, since the kernel remembers the connections of those before.
    scripts: u16,
    /// The peer's address that was used last.
    last_peer: Ipv4Addr,
    /// The last of those that the kernel was told of.
    known_peer: Ipv4Addr,
    /// The TAP of most scripts of IPv6, and the peers on it that were used.
    tap: Tap,
    tap_peers: u16,
    /// Those of the scripts that have one each, by the script's name.
    own_taps: HashMap<String, Tap>,
}

impl Linux {
    /// `None`, said on stderr, without root. All programs that it takes are run here, and when it is dropped: a program
    /// that begins has all sockets of the process open for a moment, and one that is closed then is not closed yet.
    pub fn new(scripts: &[&Script]) -> Option<Self> {
        let lab = Lab::up(1)?;
        lab.ip(Side::Server, &["link", "set", "lo", "up"]);
        let mac = lab.inside(Side::Server, || {
            // What the kernel tells itself of a neighbour that is not there comes by the loopback.
            std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0").expect("the kernel speaks IPv6");
            // What one connection has learnt of a path is no matter of the next script.
            std::fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1").expect("the kernel has the setting");
            Link::by_name(Side::Server.link()).expect("the veth").mac.0
        });
        let socket = lab.inside(Side::Client, || {
            let link = Link::by_name(Side::Client.link()).expect("the veth");
            PacketSocket::open(&link).expect("root may")
        });
        let others = |v6| scripts.iter().filter(|script| script.settings.v6 == v6 && has_icmp(script)).count() as u32;
        let peer_mac = PEER_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let tap = Tap::new(&lab, 0, Setup::Known(1 + others(true) as u16), &peer_mac);
        let own_taps = scripts.iter().filter(|script| has_own_tap(script)).enumerate().map(|(nth, script)| {
            let setup = if script.comes_up() { Setup::Down } else { Setup::Unknown };
            (script.path.clone(), Tap::new(&lab, 1 + nth as u16, setup, &peer_mac))
        });
        let (own_taps, others) = (own_taps.collect(), others(false));
        let known_peer = Ipv4Addr::from_bits(PEER.to_bits() + others);
        let linux = Self { lab, socket, mac, scripts: 0, last_peer: PEER, known_peer, tap, tap_peers: 0, own_taps };
        (0..=others).for_each(|nth| linux.tell_of(Ipv4Addr::from_bits(PEER.to_bits() + nth)));
        Some(linux)
    }

    /// Tells the kernel where the peer's address is.
    fn tell_of(&self, peer: Ipv4Addr) {
        let (peer, mac) = (peer.to_string(), PEER_MAC.map(|byte| format!("{byte:02x}")).join(":"));
        self.lab.ip(Side::Server, &["neigh", "replace", &peer, "lladdr", &mac, "dev", Side::Server.link()]);
    }

    /// Plays a script, again if the peer could not keep its times.
    ///
    /// # Errors
    /// The first line that did not come true.
    pub fn play(&mut self, script: &Script) -> Result<Vec<String>, Box<Failure>> {
        let mut outcome = play(script, &mut self.host(script));
        for _ in 0..TRIES {
            match &outcome {
                Err(failure) if failure.lag > LATEST => outcome = play(script, &mut self.host(script)),
                _ => break,
            }
        }
        if let Some(tap) = self.own_taps.get(&script.path) {
            tap.end(&self.lab);
        }
        outcome
    }

    /// The peer of a script, at an address that the kernel has learnt nothing of where it matters.
    fn peer_of(&mut self, script: &Script) -> IpAddr {
        if let Some(peer) = script.settings.peer {
            return peer.into();
        }
        if let Some(tap) = self.own_taps.get(&script.path) {
            // One that is played again has another.
            return tap.peer(self.scripts).into();
        }
        if script.settings.v6 {
            self.tap_peers += u16::from(has_icmp(script));
            let Setup::Known(peers) = self.tap.setup() else { panic!("the kernel knows some peers") };
            // As many times as there are scripts; those of one that is played again are used again.
            return self.tap.peer(if has_icmp(script) { 1 + (self.tap_peers - 1) % (peers - 1) } else { 0 }).into();
        }
        if has_icmp(script) {
            let peer = Ipv4Addr::from_bits(self.last_peer.to_bits() + 1);
            if peer > self.known_peer {
                self.tell_of(peer);
                self.known_peer = peer;
            }
            self.last_peer = peer;
            return peer.into();
        }
        PEER.into()
    }

    /// The kernel, with a socket for `script`.
    fn host(&mut self, script: &Script) -> LinuxHost<'_> {
        self.scripts += 1;
        let peer = self.peer_of(script);
        let Self { lab, socket, mac, tap, own_taps, scripts, .. } = self;
        let wire = match own_taps.get_mut(&script.path) {
            Some(tap) => Wire::Tap(tap),
            None if script.settings.v6 => Wire::Tap(tap),
            None => Wire::Veth(socket, *mac),
        };
        let host = wire.host();
        let (mut listener, mut connecting) = (None, None);
        let host_port = if script.connects() {
            let (socket, port) = lab.inside(Side::Server, || bound(host));
            connecting = Some(socket);
            port
        } else if script.listens() {
            let made = lab.inside(Side::Server, || TcpListener::bind((host, 0)).expect("a port"));
            let port = made.local_addr().expect("bound").port();
            made.set_nonblocking(true).expect("a listener");
            listener = Some(made);
            port
        } else {
            CLOSED_PORT
        };
        LinuxHost {
            lab,
            wire,
            shows_neighbors: script.settings.shows_neighbors || script.comes_up(),
            first_peer_port: 10_000 + 10 * *scripts,
            peer,
            host,
            host_port,
            listener,
            connecting,
            connections: HashMap::new(),
            closed: HashSet::new(),
            sent: VecDeque::new(),
            marker: 0,
            began: Instant::now(),
        }
    }
}

/// A socket that is bound and will connect.
fn bound(host: IpAddr) -> (OwnedFd, u16) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::new(host, 0)).expect("a port");
    let address = rustix::net::getsockname(&socket).expect("bound");
    (socket, SocketAddr::try_from(address).expect("an address").port())
}

/// A connection of the kernel's.
struct Connection {
    stream: TcpStream,
    sent: usize,
    received: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        // Our stack never holds small segments back.
        stream.set_nodelay(true).expect("a socket");
        Self { stream, sent: 0, received: 0 }
    }
}

/// The kernel, playing one script.
pub struct LinuxHost<'a> {
    lab: &'a Lab,
    wire: Wire<'a>,
    shows_neighbors: bool,
    peer: IpAddr,
    host: IpAddr,
    first_peer_port: u16,
    host_port: u16,
    listener: Option<TcpListener>,
    connecting: Option<OwnedFd>,
    /// By the peer's port.
    connections: HashMap<u16, Connection>,
    /// Ports of the peer's whose connections the application has closed.
    closed: HashSet<u16>,
    sent: VecDeque<(Duration, Vec<u8>)>,
    marker: u16,
    began: Instant,
}

impl LinuxHost<'_> {
    /// Reads a frame if there is one by then; keeps it if it is of this script. Returns whether it is the marker's reply;
    /// `None`: there is none.
    fn receive(&mut self, patience: Duration) -> Option<bool> {
        let frame = self.wire.receive(patience)?;
        if frame.len() < 54 - 12 {
            return Some(false);
        }
        let is_of_script = |port: &[u8]| {
            let port = u16::from_be_bytes([port[0], port[1]]);
            (self.first_peer_port..self.first_peer_port + 10).contains(&port)
        };
        let is_kept = match (&frame[12..14], frame[23], self.peer) {
            ([8, 0], 1, _) if frame[..6] == PEER_MAC => {
                return Some(frame[34] == 0 && frame[40..42] == self.marker.to_be_bytes());
            }
            ([8, 0], 6, IpAddr::V4(_)) => frame[..6] == PEER_MAC && is_of_script(&frame[36..]),
            ([0x86, 0xdd], _, IpAddr::V6(_)) if frame.len() >= 62 => match frame[20] {
                6 => is_of_script(&frame[56..]),
                _ => !is_said_whenever(&frame) && (self.shows_neighbors || !is_ndp(&frame)),
            },
            _ => false,
        };
        if is_kept {
            self.sent.push_back((self.began.elapsed(), frame));
        }
        Some(false)
    }

    /// Waits until the kernel has done all that it does at once.
    fn settle(&mut self) {
        self.marker = self.marker.wrapping_add(1);
        let mut ping = Vec::new();
        let (from, to) = self.wire.marker_ends(self.peer);
        let builder = PacketBuilder::ethernet2(PEER_MAC, self.wire.mac()).ipv4(from.octets(), to.octets(), 64);
        builder.icmpv4_echo_request(77, self.marker).write(&mut ping, b"marker").expect("written to memory");
        self.wire.send(&ping);
        while let Some(is_reply) = self.receive(Duration::from_secs(30)) {
            if is_reply {
                return;
            }
        }
        panic!("the kernel does not answer an echo request");
    }

    fn connect(&mut self, port: u16) -> Outcome {
        let Some(socket) = self.connecting.take() else { return Outcome::Failed("it connects once".to_owned()) };
        match rustix::net::connect(&socket, &SocketAddr::new(self.peer, port)) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {
                self.connections.insert(port, Connection::new(TcpStream::from(socket)));
                Outcome::Done
            }
            Err(rustix::io::Errno::NETUNREACH) => {
                self.connecting = Some(socket);
                Outcome::None
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn accept(&mut self, port: u16) -> Outcome {
        let Some(listener) = &self.listener else { return Outcome::None };
        match listener.accept() {
            Ok((stream, peer)) if peer.port() == port => {
                self.connections.insert(port, Connection::new(stream));
                self.closed.remove(&port);
                Outcome::Done
            }
            Ok((_, peer)) => Outcome::Failed(format!("it is of {peer}")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Outcome::None,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Where the connection is, by the kernel's own list.
    fn state(&self, peer_port: u16) -> Outcome {
        let path = if self.host.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
        let list = self.lab.inside(Side::Server, || std::fs::read_to_string(path).expect("the kernel has the list"));
        let port_of = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap_or_default(), 16).ok();
        let state = list.lines().skip(1).find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
            let this = port_of(local) == Some(self.host_port) && port_of(remote) == Some(peer_port);
            this.then(|| u8::from_str_radix(state, 16).unwrap_or(0))
        });
        let closed = self.closed.contains(&peer_port);
        Outcome::State(match state {
            None | Some(7) => State::None,
            Some(2) => State::Connecting,
            Some(3) => State::HalfOpen,
            Some(6) => State::TimeWait,
            Some(_) if closed => State::Closing,
            Some(_) => State::Open,
        })
    }

    /// Whether the connection is ready for `what` now.
    fn is_ready(&self, port: u16, what: PollFlags) -> Outcome {
        let Some(connection) = self.connections.get(&port) else { return Outcome::None };
        let mut fds = [PollFd::new(&connection.stream, what)];
        let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("a descriptor");
        if ready > 0 && fds[0].revents().intersects(what) { Outcome::Done } else { Outcome::None }
    }

    fn ended(&self, port: u16) -> Outcome {
        let Some(connection) = self.connections.get(&port) else { return Outcome::None };
        let error = connection.stream.take_error().expect("a socket");
        match error.as_ref().map(std::io::Error::kind) {
            None => Outcome::None,
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Outcome::Ended(Reason::Reset),
            Some(ErrorKind::TimedOut) => Outcome::Ended(Reason::TimedOut),
            Some(ErrorKind::ConnectionRefused) => Outcome::Ended(Reason::Refused),
            Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => Outcome::Ended(Reason::Unreachable),
            Some(_) => Outcome::Failed(format!("{error:?}")),
        }
    }

    /// What the application does with the connection itself.
    fn act(&mut self, port: u16, what: &What) -> Outcome {
        let Some(connection) = self.connections.get_mut(&port) else {
            return Outcome::Failed("there is no such connection".to_owned());
        };
        match *what {
            What::Send(bytes, _) => connection.send(bytes),
            What::Recv(limit, _) => connection.recv(limit),
            What::Shutdown => match connection.stream.shutdown(Shutdown::Write) {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            _ => {
                if *what == What::Abort {
                    sockopt::set_socket_linger(&connection.stream, Some(Duration::ZERO)).expect("a socket");
                }
                self.connections.remove(&port);
                self.closed.insert(port);
                Outcome::Done
            }
        }
    }
}

impl Connection {
    fn send(&mut self, bytes: usize) -> Outcome {
        let data: Vec<u8> = (self.sent..self.sent + bytes).map(pattern).collect();
        match self.stream.write(&data) {
            Ok(sent) => {
                self.sent += sent;
                Outcome::Bytes(sent)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe) => Outcome::Bytes(0),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn recv(&mut self, limit: usize) -> Outcome {
        let mut data = vec![0; limit.min(1 << 20)];
        match self.stream.read(&mut data) {
            Ok(0) => Outcome::End,
            Ok(count) => {
                let from = self.received;
                self.received += count;
                let right = |(at, &byte): (usize, &u8)| byte == pattern(from + at);
                if data[..count].iter().enumerate().all(right) {
                    Outcome::Bytes(count)
                } else {
                    Outcome::Failed(format!("bytes from {from} on are not those that were sent"))
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Outcome::None,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

impl Host for LinuxHost<'_> {
    fn ends(&self) -> Ends {
        Ends { peer_mac: PEER_MAC, host_mac: self.wire.mac(), peer: self.peer, host: self.host }
    }

    fn ports(&self, peer: u8) -> (u16, u16) {
        (self.first_peer_port + u16::from(peer), self.host_port)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn take(&mut self, frame: &[u8]) {
        self.wire.send(frame);
        self.settle();
    }

    fn call(&mut self, call: &Call) -> Outcome {
        let port = self.ports(call.peer).0;
        let outcome = match &call.what {
            What::Up => {
                let Wire::Tap(tap) = &self.wire else { panic!("it comes up over IPv6") };
                tap.begin(self.lab);
                Outcome::Done
            }
            What::Listen => Outcome::Done,
            What::Connect(_) => self.connect(port),
            What::Accept(_) => self.accept(port),
            What::Opened => match self.is_ready(port, PollFlags::OUT) {
                Outcome::Done if self.ended(port) == Outcome::None => Outcome::Done,
                _ => Outcome::None,
            },
            What::Readable(_) => self.is_ready(port, PollFlags::IN),
            What::Writable(_) => self.is_ready(port, PollFlags::OUT),
            What::Closed(_) => self.ended(port),
            What::State(_) => self.state(port),
            what => self.act(port, what),
        };
        self.settle();
        outcome
    }

    fn sent(&mut self) -> Option<(Duration, Vec<u8>)> {
        self.sent.pop_front()
    }

    fn wait(&mut self, until: Duration) {
        while self.sent.is_empty() {
            let left = until.saturating_sub(self.now());
            if left.is_zero() {
                return;
            }
            self.receive(left);
        }
    }

    fn tolerance(&self) -> Tolerance {
        // Its ticks are of 1 to 10 ms, its round trips are measured, and it may have to wait for a processor.
        let seconds = Duration::from_secs;
        Tolerance { early: Duration::from_millis(60), late: seconds(3), ever: seconds(3) }
    }
}
