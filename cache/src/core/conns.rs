//! `Conns`: what a core knows of each of its connections, and which of them can go on.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
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

/// What the core knows of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conn {
    /// Answers from other cores still to come to it.
    pub(crate) in_flight: u32,
    /// Landing slots it holds.
    pub(crate) slots: u32,
    /// A session uses the number.
    open: bool,
    /// It is in the ready ring.
    ready: bool,
    /// It is in the queue of walkers.
    pub(super) walks: bool,
    /// Its number, by which `stats conns` and watchers name it; 0 when the application has given none.
    pub(crate) number: u32,
    /// Its client.
    pub(crate) peer: SocketAddrV4,
    /// The second of its last command.
    pub(crate) last_secs: u32,
    /// Its place among the watchers.
    pub(crate) watches: Option<u8>,
    /// What it is told as a watcher does not fit its ring.
    pub(crate) full: bool,
    /// What it is owed will never come; it is to be closed.
    lost: bool,
}

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            in_flight: 0,
            slots: 0,
            open: false,
            ready: false,
            walks: false,
            number: 0,
            peer: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            last_secs: 0,
            watches: None,
            full: false,
            lost: false,
        }
    }
}

/// All connections of a core.
#[derive(Debug)]
pub(crate) struct Conns {
    conns: Box<[Conn]>,
    /// The ready ring: those that can go on.
    ready: VecDeque<ConnId>,
    /// Those that are to be closed.
    lost: VecDeque<ConnId>,
}

impl Conns {
    /// `count` connections, none of them in use.
    pub(crate) fn new(count: usize) -> Conns {
        Conns {
            conns: vec![Conn::default(); count].into_boxed_slice(),
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
        (state.open, state.last_secs) = (true, now_secs);
        state.number
    }

    /// Names `conn` in this or the next turn.
    pub(crate) fn make_ready(&mut self, conn: ConnId) {
        if !std::mem::replace(&mut self[conn].ready, true) {
            self.ready.push_back(conn);
        }
    }

    /// The next of those that can go on.
    pub(crate) fn next_ready(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.ready.pop_front() {
            let state = &mut self[conn];
            state.ready = false;
            if state.open {
                return Some(conn);
            }
        }
        None
    }

    /// What is owed to `conn` will never come: it is to be closed. `false` when that was known.
    pub(crate) fn lose(&mut self, conn: ConnId) -> bool {
        let known = std::mem::replace(&mut self[conn].lost, true);
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
        if self[conn].lost {
            self.lost.retain(|&other| other != conn);
        }
        // It may still be in the ready ring or among the walkers, where its number must not come to stand twice.
        let Conn { ready, walks, .. } = self[conn];
        self[conn] = Conn { ready, walks, ..Conn::default() };
    }

    /// Connections from index `from` on.
    pub(crate) fn from(&self, from: usize) -> &[Conn] {
        self.conns.get(from..).unwrap_or_default()
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
        let mut conns = Conns::new(4);
        let conn = ConnId(0);
        for _ in 0..100 {
            conns.make_ready(conn);
            conns.forget(conn);
        }
        assert_eq!((conns.ready.len(), conns.next_ready()), (1, None), "nobody has its number now");
    }
}
