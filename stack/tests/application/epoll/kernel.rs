//! Scripts on the kernel's epoll, over TCP sockets of the loopback.
//!
//! After each step the kernel is asked until it says that all which comes of the step has happened, so that a step may
//! take as long as it likes.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, sockopt};
use sidestep_stack::Interest;

use super::script::{LISTENER, Op, Told, words};

/// How long the kernel may take for what it must do at once; only so that a test that fails does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of the buffers, small so that they are soon full, and fixed, so that they do not grow.
const BUFFER_BYTES: usize = 16 << 10;

/// States of a connection in `/proc/net/tcp` (`include/net/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const FIN_WAIT_1: u8 = 4;
const FIN_WAIT_2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

/// The timer of a peer whose window is closed (`tcp_diag`: "zero window probe timer").
const PROBE_TIMER: u8 = 4;

pub struct Kernel {
    epoll: OwnedFd,
    listener: TcpListener,
    listens: bool,
    /// Connections that wait to be accepted.
    waiting: VecDeque<usize>,
    connections: BTreeMap<usize, Connection>,
}

struct Connection {
    /// `None` once it has reset the connection.
    peer: Option<TcpStream>,
    peer_address: SocketAddr,
    server: Option<TcpStream>,
    registered: bool,
    /// Bytes that the server, and that the peer has yet to read.
    to_server: usize,
    to_peer: usize,
}

/// What `/proc/net/tcp` tells of a socket.
#[derive(Debug, Clone, Copy)]
struct Row {
    state: u8,
    unacknowledged: usize,
    unread: usize,
    timer: u8,
}

impl Connection {
    fn peer(&mut self) -> &mut TcpStream {
        self.peer.as_mut().expect("it has not reset the connection")
    }
}

impl Kernel {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a flag");
        // Accepted sockets have the same.
        sockopt::set_socket_send_buffer_size(&listener, BUFFER_BYTES).expect("a size");
        sockopt::set_socket_recv_buffer_size(&listener, BUFFER_BYTES).expect("a size");
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor");
        Self { epoll, listener, listens: false, waiting: VecDeque::new(), connections: BTreeMap::new() }
    }

    /// Does a step that is no poll, and waits until everything that comes of it has happened.
    pub fn act(&mut self, op: Op) {
        match op {
            Op::Poll => unreachable!("a poll is compared with ours"),
            Op::Listen(interest) => {
                let data = EventData::new_u64(LISTENER as u64);
                let act = if self.listens { epoll::modify } else { epoll::add };
                act(&self.epoll, &self.listener, data, flags(interest)).expect("registered");
                self.listens = true;
            }
            Op::Connect(number) => self.connect(number),
            Op::Accept(number) => {
                let (server, address) = self.listener.accept().expect("it waits");
                server.set_nonblocking(true).expect("a flag");
                assert_eq!(self.waiting.pop_front(), Some(number));
                let connection = self.at(number);
                assert_eq!(connection.peer_address, address, "the oldest is accepted");
                connection.server = Some(server);
            }
            Op::Register(number, interest) => {
                let act = if self.at(number).registered { epoll::modify } else { epoll::add };
                let data = EventData::new_u64(number as u64);
                act(&self.epoll, self.server(number), data, flags(interest)).expect("registered");
                self.at(number).registered = true;
            }
            Op::Deregister(number) => {
                epoll::delete(&self.epoll, self.server(number)).expect("it is registered");
                self.at(number).registered = false;
            }
            Op::Closes(number) => drop(self.connections.remove(&number)),
            Op::PeerWrites(..) | Op::PeerReads(_) | Op::PeerShuts(_) | Op::PeerResets(_) => self.peer_acts(op),
            _ => self.server_acts(op),
        }
    }

    /// Reads, writes or closes at the server's end.
    fn server_acts(&mut self, op: Op) {
        match op {
            Op::Reads(number, bytes) => {
                let mut server = self.server(number);
                server.read_exact(&mut vec![0; bytes]).expect("they are there");
                self.at(number).to_server -= bytes;
            }
            Op::Writes(number, bytes) => {
                let mut server = self.server(number);
                server.write_all(&vec![9; bytes]).expect("there is room");
                self.at(number).to_peer += bytes;
                self.until(number, |row, _| row.unacknowledged == 0);
            }
            Op::Fill(number) => self.fill(number),
            Op::Shuts(number) => {
                self.server(number).shutdown(Shutdown::Write).expect("it is open");
                let before = [ESTABLISHED, FIN_WAIT_1, CLOSING, LAST_ACK, CLOSE_WAIT];
                self.until(number, |row, _| !before.contains(&row.state));
            }
            _ => unreachable!("it is the peer's, or the listener's"),
        }
    }

    /// Reads, writes or closes at the peer's end.
    fn peer_acts(&mut self, op: Op) {
        match op {
            Op::PeerWrites(number, bytes) => {
                let connection = self.at(number);
                connection.peer().write_all(&vec![7; bytes]).expect("sent");
                connection.to_server += bytes;
                self.until(number, |row, connection| row.unread == connection.to_server);
            }
            Op::PeerReads(number) => {
                let connection = self.at(number);
                let bytes = std::mem::take(&mut connection.to_peer);
                connection.peer().read_exact(&mut vec![0; bytes]).expect("they come");
                self.until(number, |row, _| row.unacknowledged == 0);
            }
            Op::PeerShuts(number) => {
                let connection = self.at(number);
                connection.peer().shutdown(Shutdown::Write).expect("it is open");
                let before = [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2];
                self.until(number, |row, _| !before.contains(&row.state));
            }
            Op::PeerResets(number) => {
                let connection = self.at(number);
                let peer = connection.peer.take().expect("it is open");
                sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("an option");
                drop(peer);
                self.until(number, |row, _| row.state == CLOSE);
            }
            _ => unreachable!("it is the server's"),
        }
    }

    /// What `epoll_wait` tells. Ours is known before: what is missing is waited for, and then there must be no more.
    pub fn poll(&mut self, expected: &Told) -> Told {
        let begin = Instant::now();
        let mut told = Told::new();
        loop {
            let complete = told == *expected;
            let wait = if complete { Duration::ZERO } else { Duration::from_millis(100) };
            let wait = Timespec::try_from(wait).expect("a short time");
            let mut events = Vec::with_capacity(64);
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)).expect("it waits");
            for event in &events {
                let flags = event.flags;
                let holds = [EventFlags::IN, EventFlags::OUT, EventFlags::RDHUP, EventFlags::ERR, EventFlags::HUP]
                    .map(|flag| flags.contains(flag));
                told.insert(event.data.u64() as usize, words(holds));
            }
            let more = told.keys().any(|number| !expected.contains_key(number));
            if complete || more || begin.elapsed() > PATIENCE {
                return told;
            }
        }
    }

    fn connect(&mut self, number: usize) {
        let peer = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_recv_buffer_size(&peer, BUFFER_BYTES / 4).expect("a size");
        sockopt::set_tcp_nodelay(&peer, true).expect("an option");
        rustix::net::connect(&peer, &self.address()).expect("it listens");
        let peer = TcpStream::from(peer);
        peer.set_read_timeout(Some(PATIENCE)).expect("an option");
        let peer_address = peer.local_addr().expect("it is bound");
        self.waiting.push_back(number);
        let waiting = self.waiting.len();
        let listener = (self.address().port(), 0);
        wait_until("a connection waits", || row(listener).is_some_and(|row| row.unread == waiting));
        let (server, registered) = (None, false);
        let connection = Connection { peer: Some(peer), peer_address, server, registered, to_server: 0, to_peer: 0 };
        self.connections.insert(number, connection);
    }

    /// Writes until nothing fits and, since the peer's window is closed, nothing will before the peer reads.
    fn fill(&mut self, number: usize) {
        loop {
            let mut server = self.server(number);
            let mut written = 0;
            loop {
                match server.write(&[9; 1_000]) {
                    Ok(bytes) => written += bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            self.at(number).to_peer += written;
            // Until then some of what is under way may be taken, and make room.
            self.until(number, |row, _| row.timer == PROBE_TIMER || row.unacknowledged == 0);
            let mut room = [PollFd::new(self.server(number), PollFlags::OUT)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if written == 0 && poll(&mut room, Some(&now)).expect("it answers") == 0 {
                return;
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    fn at(&mut self, number: usize) -> &mut Connection {
        self.connections.get_mut(&number).expect("it is open")
    }

    fn server(&self, number: usize) -> &TcpStream {
        self.connections[&number].server.as_ref().expect("it was accepted")
    }

    /// Waits until `done` says so of the server's socket; of one that the kernel no longer shows, as of a closed one.
    fn until(&self, number: usize, done: impl Fn(Row, &Connection) -> bool) {
        let connection = &self.connections[&number];
        let ports = (self.address().port(), connection.peer_address.port());
        let gone = Row { state: CLOSE, unacknowledged: 0, unread: connection.to_server, timer: 0 };
        wait_until("a step is done", || done(row(ports).unwrap_or(gone), connection));
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN | EventFlags::RDHUP, interest.contains(Interest::READABLE));
    flags.set(EventFlags::OUT, interest.contains(Interest::WRITABLE));
    flags.set(EventFlags::ET, !interest.contains(Interest::LEVEL));
    flags.set(EventFlags::ONESHOT, interest.contains(Interest::ONESHOT));
    flags
}

/// The row of the socket of these ports, its own and its peer's.
fn row((local, remote): (u16, u16)) -> Option<Row> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux shows it");
    let wanted = (format!("0100007F:{local:04X}"), format!(":{remote:04X}"));
    let line = table.lines().find(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(&*wanted.0) && columns.next().is_some_and(|column| column.ends_with(&*wanted.1))
    })?;
    let columns: Vec<&str> = line.split_whitespace().collect();
    let number = |digits: &str| u32::from_str_radix(digits, 16).expect("a number");
    let (unacknowledged, unread) = columns[4].split_once(':').expect("two numbers");
    let (timer, _) = columns[5].split_once(':').expect("two numbers");
    Some(Row {
        state: number(columns[3]) as u8,
        unacknowledged: number(unacknowledged) as usize,
        unread: number(unread) as usize,
        timer: number(timer) as u8,
    })
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        // The kernel is about to; nobody depends on how long that takes.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
