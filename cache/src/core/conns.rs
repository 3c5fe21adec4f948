//! `Conns`: what a core knows of each of its connections, and which of them can go on.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::ops::{Index, IndexMut};

/// A connection of one core, numbered by the application from 0 to below
/// [`CacheConfig::connections_per_core`](crate::CacheConfig::connections_per_core). May be used again as soon as
/// [`crate::Session::end`] was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl ConnId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A session uses the number of a connection.
const OPEN: u8 = 1;
/// It is in the ready ring.
const READY: u8 = 1 << 1;
/// It is in the queue of walkers.
const WALKS: u8 = 1 << 2;
/// What it is owed will never come; it is to be closed.
const LOST: u8 = 1 << 3;
/// What it is told as a watcher does not fit its ring.
const FULL: u8 = 1 << 4;
/// Its client's address is one of IPv6, and apart.
const IPV6: u8 = 1 << 5;

/// What the core knows of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conn {
    /// Answers from other cores still to come to it.
    pub(crate) in_flight: u32,
    /// Landing slots it holds.
    pub(crate) slots: u16,
    /// Those of [`OPEN`] and the following that are true of it.
    marks: u8,
    /// Its number, by which `stats conns` and watchers name it; 0 when the application has given none.
    pub(crate) number: u32,
    /// Its client, of which an IPv6 address is apart ([`Conns::peer`]).
    peer: SocketAddrV4,
    /// Its own end, by its place among [`ServerFacts::locals`](crate::ServerFacts::locals).
    pub(crate) local: u8,
    /// The second of its last command.
    pub(crate) last_secs: u32,
    /// Its place among the watchers.
    pub(crate) watches: Option<u8>,
}

const _: () = assert!(size_of::<Conn>() <= 24, "each connection costs it, idle or not");

impl Conn {
    fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Sets a mark or takes it away. Returns whether it was set.
    fn mark(&mut self, mark: u8, on: bool) -> bool {
        let before = self.has(mark);
        self.marks = if on { self.marks | mark } else { self.marks & !mark };
        before
    }

    /// Notes whether it is in the queue of walkers. Returns whether it was.
    pub(super) fn set_walks(&mut self, walks: bool) -> bool {
        self.mark(WALKS, walks)
    }

    /// Whether what it is told as a watcher does not fit its ring.
    pub(super) fn is_full(&self) -> bool {
        self.has(FULL)
    }

    /// Notes that.
    pub(super) fn set_full(&mut self, full: bool) {
        self.mark(FULL, full);
    }
}

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            in_flight: 0,
            slots: 0,
            marks: 0,
            number: 0,
            peer: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            local: 0,
            last_secs: 0,
            watches: None,
        }
    }
}

/// All connections of a core.
#[derive(Debug)]
pub(crate) struct Conns {
    conns: Box<[Conn]>,
    /// The IPv6 addresses of their clients, by the same index; empty where there are none.
    ipv6: Box<[Ipv6Addr]>,
    /// The ready ring: those that can go on.
    ready: VecDeque<ConnId>,
    /// Those that are to be closed.
    lost: VecDeque<ConnId>,
}

impl Conns {
    /// `count` connections, none of them in use, whose clients may have addresses of `ipv6`.
    pub(crate) fn new(count: usize, ipv6: bool) -> Conns {
        let addresses = if ipv6 { count } else { 0 };
        Conns {
            conns: vec![Conn::default(); count].into_boxed_slice(),
            ipv6: vec![Ipv6Addr::UNSPECIFIED; addresses].into_boxed_slice(),
            ready: VecDeque::with_capacity(count),
            lost: VecDeque::with_capacity(count),
        }
    }

    /// Asks for what is known of `conn`.
    #[inline]
    pub(crate) fn prefetch(&self, conn: ConnId) {
        cpu::prefetch_index(&self.conns, conn.index());
    }

    /// A session of `conn` begins a try in second `now_secs`. Returns the connection's number.
    #[inline]
    pub(crate) fn begin_try(&mut self, conn: ConnId, now_secs: u32) -> u32 {
        let state = &mut self[conn];
        state.marks |= OPEN;
        state.last_secs = now_secs;
        state.number
    }

    /// Notes who its client is.
    pub(crate) fn set_peer(&mut self, conn: ConnId, peer: SocketAddr) {
        let (address, is_ipv6) = match peer.ip() {
            IpAddr::V4(address) => (address, false),
            IpAddr::V6(address) => {
                if let Some(place) = self.ipv6.get_mut(conn.index()) {
                    *place = address;
                }
                (Ipv4Addr::UNSPECIFIED, true)
            }
        };
        let state = &mut self[conn];
        state.mark(IPV6, is_ipv6);
        state.peer = SocketAddrV4::new(address, peer.port());
    }

    /// Its client.
    pub(crate) fn peer(&self, conn: ConnId) -> SocketAddr {
        let state = &self[conn];
        if !state.has(IPV6) {
            return state.peer.into();
        }
        let address = self.ipv6.get(conn.index()).copied().unwrap_or(Ipv6Addr::UNSPECIFIED);
        SocketAddr::new(address.into(), state.peer.port())
    }

    /// Names `conn` in this or the next turn.
    pub(crate) fn make_ready(&mut self, conn: ConnId) {
        if !self[conn].mark(READY, true) {
            self.ready.push_back(conn);
        }
    }

    /// The next of those that can go on.
    pub(crate) fn next_ready(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.ready.pop_front() {
            let state = &mut self[conn];
            state.mark(READY, false);
            if state.has(OPEN) {
                return Some(conn);
            }
        }
        None
    }

    /// What is owed to `conn` will never come: it is to be closed. `false` when that was known.
    pub(crate) fn lose(&mut self, conn: ConnId) -> bool {
        let known = self[conn].mark(LOST, true);
        if !known {
            self.lost.push_back(conn);
        }
        !known
    }

    /// The next that is to be closed.
    pub(crate) fn next_lost(&mut self) -> Option<ConnId> {
        self.lost.pop_front()
    }

    /// Whether any can go on or is to be closed.
    pub(crate) fn has_any(&self) -> bool {
        !self.ready.is_empty() || !self.lost.is_empty()
    }

    /// Forgets what is known of a connection that is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        if self[conn].has(LOST) {
            self.lost.retain(|&other| other != conn);
        }
        // It may still be in the ready ring or among the walkers, where its number must not come to stand twice.
        let marks = self[conn].marks & (READY | WALKS);
        self[conn] = Conn { marks, ..Conn::default() };
    }

    /// The numbers of connections from index `from` on.
    pub(crate) fn from(&self, from: usize) -> impl ExactSizeIterator<Item = ConnId> + use<> {
        // Fewer than 2^32: each has a number of 32 bits.
        (from.min(self.conns.len())..self.conns.len()).map(|index| ConnId(index as u32))
    }
}

impl Index<ConnId> for Conns {
    type Output = Conn;

    #[inline]
    fn index(&self, conn: ConnId) -> &Conn {
        &self.conns[conn.index()]
    }
}

impl IndexMut<ConnId> for Conns {
    #[inline]
    fn index_mut(&mut self, conn: ConnId) -> &mut Conn {
        &mut self.conns[conn.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ring of those that can go on has room for each connection once: one that is gone may still be in it, and
    /// whoever has its number next is not put there beside it, however often that happens.
    #[test]
    fn a_connection_that_is_gone_stands_in_the_ring_no_more_than_once() {
        let mut conns = Conns::new(4, false);
        let conn = ConnId(0);
        for _ in 0..100 {
            conns.make_ready(conn);
            conns.forget(conn);
        }
        assert_eq!((conns.ready.len(), conns.next_ready()), (1, None), "nobody has its number now");
    }
}
