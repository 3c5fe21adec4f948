//! Connections over kernel sockets: non-blocking, level-triggered epoll, one thread.
//!
//! Bounded in time: a worker that sees no byte arrive or leave for the plan's time-out gives up and says what it was
//! waiting for. Bounded in space: one read buffer a worker, one request's bytes times the depth a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;

use crate::connection::Connection;
use crate::tally::Tally;

const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 256;
/// How often a worker looks at the clock when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// Why a worker could not finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// No connection could be made.
    #[error("cannot connect to {server} (connection {number}): {source}")]
    Connect {
        /// The server.
        server: SocketAddr,
        /// How many connections were already open.
        number: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The server ended a connection that still had requests in flight.
    #[error("the server closed a connection that had {in_flight} requests in flight")]
    Closed {
        /// Requests without a whole reply.
        in_flight: usize,
    },
    /// Nothing moved for too long.
    #[error("nothing moved for {seconds} s; {in_flight} requests on {connections} connections have no whole reply")]
    Stalled {
        /// The time-out.
        seconds: u64,
        /// Requests without a whole reply.
        in_flight: usize,
        /// Connections that wait.
        connections: usize,
    },
    /// A socket or epoll call failed.
    #[error("{act}: {source}")]
    Io {
        /// Which call.
        act: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn failed(act: &'static str) -> impl Fn(io::Error) -> DriveError {
    move |source| DriveError::Io { act, source }
}

/// Opens `count` connections to `server`, one after the other.
///
/// # Errors
/// The first connection that cannot be made within `timeout`.
pub fn open(server: SocketAddr, count: usize, timeout: Duration) -> Result<Vec<TcpStream>, DriveError> {
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count {
        let socket = TcpStream::connect_timeout(&server, timeout).map_err(|source| DriveError::Connect {
            server,
            number,
            source,
        })?;
        socket.set_nodelay(true).map_err(failed("TCP_NODELAY"))?;
        socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
        sockets.push(socket);
    }
    Ok(sockets)
}

struct Peer {
    socket: TcpStream,
    connection: Connection,
    waits_to_write: bool,
}

/// Drives `connections` over `sockets` until their workloads end or `deadline` has passed and all replies are in.
///
/// A connection that receives a wrong reply is counted and closed; the others go on.
///
/// # Errors
/// [`DriveError`] when the server closes, stalls, or a system call fails.
pub fn drive(
    sockets: Vec<TcpStream>,
    connections: Vec<Connection>,
    deadline: Option<Instant>,
    timeout: Duration,
) -> Result<Tally, DriveError> {
    let start = Instant::now();
    let mut tally = Tally::new();
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| failed("epoll_create")(error.into()))?;
    let mut peers: Vec<Option<Peer>> = Vec::with_capacity(sockets.len());
    for (socket, mut connection) in sockets.into_iter().zip(connections) {
        connection.fill(start.elapsed());
        let data = epoll::EventData::new_u64(peers.len() as u64);
        epoll::add(&poller, &socket, data, epoll::EventFlags::IN).map_err(|error| failed("epoll_ctl")(error.into()))?;
        peers.push(Some(Peer { socket, connection, waits_to_write: false }));
    }
    let mut open = peers.len();
    for (number, slot) in peers.iter_mut().enumerate() {
        if let Some(peer) = slot {
            send(peer, number, &poller)?;
            if peer.connection.in_flight() == 0 {
                *slot = None;
                open -= 1;
            }
        }
    }

    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
    let mut buffer = vec![0; READ_BYTES];
    let (mut moved_at, mut stopped) = (start, false);
    let tick = Timespec::try_from(TICK).expect("a tenth of a second fits");
    while open > 0 {
        events.clear();
        match epoll::wait(&poller, spare_capacity(&mut events), Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("epoll_wait")(error.into())),
        }
        let now = Instant::now();
        if !stopped && deadline.is_some_and(|deadline| now >= deadline) {
            stopped = true;
            peers.iter_mut().flatten().for_each(|peer| peer.connection.stop());
        }
        if !events.is_empty() {
            moved_at = now;
        } else if now - moved_at > timeout {
            let in_flight = peers.iter().flatten().map(|peer| peer.connection.in_flight()).sum();
            return Err(DriveError::Stalled { seconds: timeout.as_secs(), in_flight, connections: open });
        }
        for event in &events {
            let number = event.data.u64() as usize;
            let Some(slot) = peers.get_mut(number) else { continue };
            let Some(peer) = slot else { continue };
            if !turn(peer, number, &poller, &mut buffer, start, &mut tally)? {
                *slot = None;
                open -= 1;
            }
        }
    }
    Ok(tally)
}

/// Receives, checks, makes new requests and sends; false when the connection is at its end.
fn turn(
    peer: &mut Peer,
    number: usize,
    poller: &impl std::os::fd::AsFd,
    buffer: &mut [u8],
    start: Instant,
    tally: &mut Tally,
) -> Result<bool, DriveError> {
    match peer.socket.read(buffer) {
        Ok(0) if peer.connection.in_flight() > 0 => {
            return Err(DriveError::Closed { in_flight: peer.connection.in_flight() });
        }
        Ok(0) => return Ok(false),
        Ok(length) => {
            let now = start.elapsed();
            if let Err(mismatch) = peer.connection.receive(&buffer[..length], now, tally) {
                tally.record_wrong(mismatch);
                return Ok(false);
            }
            peer.connection.fill(now);
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(error) => return Err(failed("recv")(error)),
    }
    send(peer, number, poller)?;
    Ok(peer.connection.in_flight() > 0)
}

/// Sends what the socket takes, and asks to be told when it takes more only while something is left.
fn send(peer: &mut Peer, number: usize, poller: &impl std::os::fd::AsFd) -> Result<(), DriveError> {
    while !peer.connection.unsent().is_empty() {
        match peer.socket.write(peer.connection.unsent()) {
            Ok(length) => peer.connection.advance(length),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(failed("send")(error)),
        }
    }
    let waits_to_write = !peer.connection.unsent().is_empty();
    if waits_to_write != peer.waits_to_write {
        peer.waits_to_write = waits_to_write;
        let flags = if waits_to_write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        epoll::modify(poller, &peer.socket, epoll::EventData::new_u64(number as u64), flags)
            .map_err(|error| failed("epoll_ctl")(error.into()))?;
    }
    Ok(())
}
