//! What the engine asks of whatever carries its bytes: kernel sockets, our own stack over AF_XDP, or a test in memory.
//!
//! A transport holds connections under numbers ([`Slot`]) that the engine chose, from 0 up to the count it was made
//! for. One thread drives it, in turns:
//!
//! ```text
//! wait ─► news ─► recv, send, open, close of the slots that have news ─► flush ─► wait ...
//! ```
//!
//! Invariant: of a slot that is closed nothing is reported; of a slot that is open, [`News::Opened`] comes first and
//! [`News::Ended`] last, after every byte that arrived before the end has been shown. No call blocks but
//! [`wait`](Transport::wait), and in steady state none allocates.

// Kernel sockets and epoll.
pub mod kernel;
// Our own stack over any queue.
pub mod own_stack;
// Our own stack over AF_XDP: what is opened, and for whom.
pub mod xsk;

use std::io;
use std::net::SocketAddr;

/// Number of a connection, chosen by the engine; small numbers, so that a table can be indexed with it.
pub type Slot = u32;

/// A moment: nanoseconds since a start that the transport chose. Never runs backwards.
pub type Nanos = u64;

/// How a connection ended, or why it never began, when the engine did not close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed in order (FIN) and everything it sent has been shown.
    Finished,
    /// The peer reset it, after it had been opened.
    Reset,
    /// The peer refused to open it (an RST to our SYN: `ECONNREFUSED`).
    Refused,
    /// No answer, to the SYN or to bytes sent (`ETIMEDOUT`), or no way there (`EHOSTUNREACH`).
    TimedOut,
}

/// What has happened to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The handshake has been completed; bytes can be sent.
    Opened,
    /// Bytes have arrived: call [`Transport::recv`] once. Reported again while some are left.
    Readable,
    /// There is room again after a [`Transport::send`] that took less than it was given.
    Writable,
    /// The connection is no more; the slot is closed and may be opened again.
    Ended(End),
}

/// How the engine ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Close {
    /// What was sent still arrives, then FIN; what comes back is thrown away.
    #[value(name = "fin")]
    InOrder,
    /// At once, by RST; nothing of it stays behind, TIME-WAIT included.
    Reset,
}

/// A failure of the transport itself, not of one connection: the run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A system call failed.
    #[error("{act}: {source}")]
    Io {
        /// Which call.
        act: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More descriptors are needed than the process may have.
    #[error(
        "{needed} descriptors are needed, the limit (ulimit -n, hard) is {limit}; raise it, or use fewer connections"
    )]
    Descriptors {
        /// Descriptors needed, about.
        needed: u64,
        /// The hard limit of the process.
        limit: u64,
    },
    /// No source port is free for one more connection to this server.
    #[error(
        "no free port for connection {slot} to {server}: each source address has about 28,000 ports \
         (net.ipv4.ip_local_port_range), and one closed in order is held in TIME-WAIT for 60 s; \
         use fewer connections, or --close reset"
    )]
    NoPort {
        /// The server.
        server: SocketAddr,
        /// The connection that found none.
        slot: Slot,
    },
    /// What another implementation reports.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// Carries the bytes of many connections to one server. Belongs to one thread at a time.
pub trait Transport {
    /// The time, as fresh as is cheap: called several times a turn.
    fn now(&mut self) -> Nanos;

    /// Returns when there is news, or at `until`, or earlier for no reason. Takes what has arrived from below.
    ///
    /// An implementation may sleep while `until` is so far away that it cannot be missed, and must spin otherwise.
    ///
    /// # Errors
    /// The transport cannot go on.
    fn wait(&mut self, until: Nanos) -> Result<(), TransportError>;

    /// The next thing that has happened, of any slot; `None` when everything known has been told.
    fn news(&mut self) -> Option<(Slot, News)>;

    /// Starts to open the connection `slot`, which is closed. How it goes comes as news ([`News::Opened`] or
    /// [`News::Ended`]); the engine keeps a time limit of its own and may [`close`](Self::close) before.
    ///
    /// # Errors
    /// The transport cannot go on: no port, no descriptor, no memory for one more.
    fn open(&mut self, slot: Slot) -> Result<(), TransportError>;

    /// Shows bytes that have arrived on `slot` to `take`, in order, in as many pieces as they lie in, with the time at
    /// which they were taken, and takes them away. Bounded: what is too much for one visit is reported again. Calls
    /// `take` not at all when nothing has arrived or the slot is closed.
    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos));

    /// Copies as much of `bytes` as has room towards the peer and returns how much; 0 when the slot is not open. When
    /// that is less than all, [`News::Writable`] follows once there is room. May wait for [`flush`](Self::flush).
    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize;

    /// Ends `slot`, open or still opening; nothing more is reported of it and it may be opened again at once. Does
    /// nothing when it is closed.
    fn close(&mut self, slot: Slot, how: Close);

    /// Lets everything that was sent leave. Once a turn, after the slots with news have been visited.
    ///
    /// # Errors
    /// The transport cannot go on.
    fn flush(&mut self) -> Result<(), TransportError>;
}
