//! Connections over kernel sockets: non-blocking, level-triggered epoll, one thread.
//!
//! Bounded in space: one read buffer a transport, and nothing but the socket a connection. Bounded in time: no call
//! blocks but `epoll_pwait`, which sleeps only while the engine's next moment is more than two milliseconds away.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;

use super::{Close, End, Nanos, News, Slot, Transport, TransportError};

const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 256;
/// Descriptors that are not connections, generously.
const OTHER_DESCRIPTORS: u64 = 64;
/// `epoll_pwait` counts milliseconds: with less than this to go it would be late.
const SHORTEST_SLEEP: Duration = Duration::from_millis(2);
/// Longest sleep; the engine's moments are seldom further away.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketState {
    /// connect() is under way.
    Opening,
    Open,
    /// Open, and a send found no room.
    Full,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    generation: u32,
    state: SocketState,
}

/// Kernel sockets to one server.
pub struct KernelSockets {
    server: SocketAddr,
    origin: Instant,
    poller: OwnedFd,
    sockets: Vec<Option<Socket>>,
    /// Sockets opened so far: tells an event of a socket from one of its predecessor in the slot.
    opened: u32,
    events: Vec<Event>,
    /// How many of `events` have been told.
    told: usize,
    /// Ends seen by a call other than `epoll_pwait`.
    ends: VecDeque<(Slot, End)>,
    buffer: Vec<u8>,
}

impl fmt::Debug for KernelSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSockets")
            .field("server", &self.server)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

fn failed(act: &'static str) -> impl Fn(Errno) -> TransportError {
    move |source| TransportError::Io { act, source: source.into() }
}

/// Raises the soft limit of descriptors as far as `connections` sockets need.
///
/// # Errors
/// The hard limit is too low.
pub fn reserve_descriptors(connections: u64) -> Result<(), TransportError> {
    let needed = connections + OTHER_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = maximum.unwrap_or(u64::MAX);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if needed > limit {
        return Err(TransportError::Descriptors { needed, limit });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).map_err(failed("setrlimit(RLIMIT_NOFILE)"))
}

/// The end that an error of a call on a connection means; `None` when it means none.
fn end_of(error: Errno, opening: bool) -> Option<End> {
    match error {
        Errno::WOULDBLOCK | Errno::INTR => None,
        Errno::CONNREFUSED => Some(End::Refused),
        Errno::CONNRESET | Errno::PIPE if opening => Some(End::Refused),
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => Some(End::TimedOut),
        _ => Some(End::Reset),
    }
}

impl KernelSockets {
    /// A transport for slots below `slots`. `origin` is time zero; give all workers of a run the same.
    ///
    /// # Errors
    /// epoll cannot be had.
    pub fn new(server: SocketAddr, slots: usize, origin: Instant) -> Result<Self, TransportError> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("epoll_create"))?;
        Ok(Self {
            server,
            origin,
            poller,
            sockets: (0..slots).map(|_| None).collect(),
            opened: 0,
            events: Vec::with_capacity(EVENTS),
            told: 0,
            ends: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn socket(&mut self, slot: Slot) -> Option<&mut Socket> {
        self.sockets.get_mut(slot as usize)?.as_mut()
    }

    /// Forgets the socket and remembers to tell of its end.
    fn end(&mut self, slot: Slot, end: End) {
        if self.sockets[slot as usize].take().is_some() {
            self.ends.push_back((slot, end));
        }
    }

    fn expect(&mut self, slot: Slot, room: bool) {
        let Some(socket) = self.sockets[slot as usize].as_mut() else { return };
        socket.state = if room { SocketState::Full } else { SocketState::Open };
        let flags = if room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        // A registered descriptor can be modified; if not, the engine's time limit ends the connection.
        let _ = epoll::modify(&self.poller, &socket.fd, data(slot, socket.generation), flags);
    }

    /// What one event means; `None` when its socket is gone or it says nothing new.
    fn read_event(&mut self, event: Event) -> Option<(Slot, News)> {
        let (slot, generation) = (event.data.u64() as u32, (event.data.u64() >> 32) as u32);
        let socket = self.sockets.get(slot as usize)?.as_ref().filter(|socket| socket.generation == generation)?;
        let flags = event.flags;
        match socket.state {
            SocketState::Opening => {
                let error = match sockopt::socket_error(&socket.fd) {
                    Ok(Ok(())) if flags.contains(EventFlags::OUT) => {
                        self.expect(slot, false);
                        return Some((slot, News::Opened));
                    }
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) | Err(error) => error,
                };
                self.sockets[slot as usize] = None;
                end_of(error, true).map(|end| (slot, News::Ended(end)))
            }
            SocketState::Full if flags.contains(EventFlags::OUT) => {
                // What may be readable too is reported again by the next wait.
                self.expect(slot, false);
                Some((slot, News::Writable))
            }
            // HUP and ERR show themselves to recv.
            SocketState::Open | SocketState::Full => Some((slot, News::Readable)),
        }
    }
}

fn data(slot: Slot, generation: u32) -> EventData {
    EventData::new_u64(u64::from(generation) << 32 | u64::from(slot))
}

impl Transport for KernelSockets {
    fn now(&mut self) -> Nanos {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wait(&mut self, until: Nanos) -> Result<(), TransportError> {
        if self.told < self.events.len() || !self.ends.is_empty() {
            return Ok(());
        }
        let left = Duration::from_nanos(until.saturating_sub(self.now()));
        let sleep = if left < SHORTEST_SLEEP { Duration::ZERO } else { (left - SHORTEST_SLEEP / 2).min(LONGEST_SLEEP) };
        let sleep = Timespec { tv_sec: 0, tv_nsec: (sleep.as_millis() * 1_000_000) as _ };
        self.events.clear();
        self.told = 0;
        match epoll::wait(&self.poller, spare_capacity(&mut self.events), Some(&sleep)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(failed("epoll_pwait")(error)),
        }
    }

    fn news(&mut self) -> Option<(Slot, News)> {
        if let Some((slot, end)) = self.ends.pop_front() {
            return Some((slot, News::Ended(end)));
        }
        while let Some(&event) = self.events.get(self.told) {
            self.told += 1;
            if let Some(news) = self.read_event(event) {
                return Some(news);
            }
        }
        None
    }

    fn open(&mut self, slot: Slot) -> Result<(), TransportError> {
        let family = if self.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(failed("socket"))?;
        sockopt::set_tcp_nodelay(&fd, true).map_err(failed("TCP_NODELAY"))?;
        self.opened = self.opened.wrapping_add(1);
        let generation = self.opened;
        match rustix::net::connect(&fd, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {
                epoll::add(&self.poller, &fd, data(slot, generation), EventFlags::OUT).map_err(failed("epoll_ctl"))?;
                self.sockets[slot as usize] = Some(Socket { fd, generation, state: SocketState::Opening });
            }
            Err(Errno::ADDRNOTAVAIL) => return Err(TransportError::NoPort { server: self.server, slot }),
            Err(error @ (Errno::CONNREFUSED | Errno::CONNRESET | Errno::TIMEDOUT | Errno::HOSTUNREACH)) => {
                let end = end_of(error, true).unwrap_or(End::Refused);
                self.ends.push_back((slot, end));
            }
            Err(error) => return Err(failed("connect")(error)),
        }
        Ok(())
    }

    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos)) {
        let Self { sockets, buffer, origin, .. } = self;
        let Some(socket) = sockets.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let end = match rustix::net::recv(&socket.fd, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, 0)) => Some(End::Finished),
            Ok((_, length)) => {
                let now = u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                take(&buffer[..length], now);
                None
            }
            Err(error) => end_of(error, false),
        };
        if let Some(end) = end {
            self.end(slot, end);
        }
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let Some(socket) = self.socket(slot).filter(|socket| socket.state != SocketState::Opening) else { break };
            match rustix::net::send(&socket.fd, &bytes[sent..], SendFlags::NOSIGNAL) {
                Ok(length) => sent += length,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    if socket.state == SocketState::Open {
                        self.expect(slot, true);
                    }
                    break;
                }
                // Bytes that came before the end are still to be read: recv will find the end after them.
                Err(_) => break,
            }
        }
        sent
    }

    fn close(&mut self, slot: Slot, how: Close) {
        self.ends.retain(|&(ended, _)| ended != slot);
        let Some(socket) = self.sockets.get_mut(slot as usize).and_then(Option::take) else { return };
        if how == Close::Reset {
            // Best effort: without it the close is one in order.
            let _ = sockopt::set_socket_linger(&socket.fd, Some(Duration::ZERO));
        }
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}
