//! Whose turn it is: queues for what is scarce.
//!
//! Whoever finds something scarce gone stands in its queue. As soon as some of it can be had, [`Core::next_resumable`]
//! takes as many from the head as there is for them and promises it to them until they have tried; whoever comes anew
//! sees only what is left. What can be had is looked at anew each time, so no wake-up depends on an event that might be
//! missed.

use super::{Conn, ConnId, Core, Need};

impl Core {
    /// Units of a list's resource that can be had now.
    pub(super) fn available(&self, list: usize) -> usize {
        match list {
            0 => self.replies.available(),
            1 => self.landing.available(),
            _ => self.links[list - Need::FIXED].as_ref().map_or(0, |link| link.places_free()),
        }
    }

    pub(super) fn can_grant(&self, list: usize) -> bool {
        !self.waits.is_empty(list) && self.available(list) > self.grants[list] as usize
    }

    /// Whether `conn` may take one of `need` now: it is its turn, and there is one that is promised to nobody else. Of
    /// a block it may try.
    pub(crate) fn admits(&self, conn: ConnId, need: Need) -> bool {
        let list = need.list();
        let granted = self.conns[conn.index()].grant == Some(list as u16);
        let in_turn = granted || self.waits.first(list).is_none_or(|first| first == conn);
        let promised = if granted { 0 } else { self.grants[list] as usize };
        in_turn && self.available(list) > promised
    }

    /// Puts `conn` in the queue for `need`: at its head if it had come to the head already.
    pub(crate) fn wait_for(&mut self, conn: ConnId, need: Need) {
        let list = need.list();
        self.counters().waits.add(1);
        if self.conns[conn.index()].grant == Some(list as u16) {
            self.waits.push_front(list, conn);
        } else if self.waits.list_of(conn) != Some(list) {
            self.waits.push_back(list, conn);
        }
    }

    /// Ends a connection's try: it waits only if it says so.
    pub(crate) fn end_try(&mut self, conn: ConnId, waiting: bool) {
        if let Some(list) = self.conns[conn.index()].grant.take() {
            self.grants[usize::from(list)] -= 1;
        }
        if !waiting {
            self.waits.remove(conn);
        }
    }

    /// Names `conn` in this or the next turn.
    pub(crate) fn make_ready(&mut self, conn: ConnId) {
        if !std::mem::replace(&mut self.conns[conn.index()].ready, true) {
            self.ready.push_back(conn);
        }
    }

    /// Answers still to come to `conn`.
    pub(crate) fn in_flight(&self, conn: ConnId) -> u32 {
        self.conns[conn.index()].in_flight
    }

    /// Forgets what is known of a connection that is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.end_try(conn, false);
        if self.conns[conn.index()].lost {
            self.lost.retain(|&other| other != conn);
        }
        // It may still be in the ready ring, or among the walkers; next_resumable passes over it.
        let Conn { ready, walks, .. } = self.conns[conn.index()];
        self.conns[conn.index()] = Conn { ready, walks, ..Conn::default() };
    }

    /// What is owed to `conn` will never come, since others needed the room: it is to be closed.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        if !std::mem::replace(&mut self.conns[conn.index()].lost, true) {
            self.counters().slow_readers_closed.add(1);
            self.lost.push_back(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheConfig;

    /// The queues of those who go on have room for each connection once: one that is gone may still be in them, and
    /// whoever has its number next is not put there beside it, however often that happens.
    #[test]
    fn a_connection_that_is_gone_stands_in_no_queue_twice() {
        let config = CacheConfig { cores: 1, connections_per_core: 4, ..CacheConfig::default() };
        let mut core = Core::mesh(&config, [7; 16]).expect("a small cache").remove(0);
        let conn = ConnId(0);
        for _ in 0..100 {
            core.make_ready(conn);
            core.wait_for_step(conn);
            core.forget(conn);
        }
        assert_eq!((core.ready.len(), core.walkers.len()), (1, 1));
        assert_eq!(core.next_resumable(), None, "nobody has its number now");
    }
}
