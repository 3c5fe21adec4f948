//! Whose turn it is: queues for what is scarce, and connections that hold it for too long.
//!
//! Whoever finds something scarce gone stands in its queue. As soon as some of it can be had, [`Core::next_resumable`]
//! takes as many from the head as there is for them and promises it to them until they have tried; whoever comes anew
//! sees only what is left. What can be had is looked at anew each time, so no wake-up depends on an event that might be
//! missed.

use super::{Conn, ConnId, Core, Need, Overdue};

/// Connections with blocked output that are looked at in one turn, when something is scarce.
const BLOCKED_LOOKED_AT: usize = 64;

impl Core {
    /// Units of a list's resource that can be had now.
    pub(super) fn available(&self, list: usize) -> usize {
        let cores = self.links.len();
        match list {
            0 => self.entries.available(),
            1 => self.landing.available(),
            2 => self.pins_returned,
            _ if list < Need::FIXED + cores => {
                self.links[list - Need::FIXED].as_ref().map_or(0, |link| link.places_free())
            }
            _ => self.upload_credits[list - Need::FIXED - cores] as usize,
        }
    }

    pub(super) fn can_grant(&self, list: usize) -> bool {
        !self.waits.is_empty(list) && self.available(list) > self.grants[list] as usize
    }

    /// Whether `conn` may take one of `need` now: it is its turn, and there is one (or, for pins and blocks, it may
    /// try).
    pub(crate) fn admits(&self, conn: ConnId, need: Need) -> bool {
        let list = need.list(self.links.len());
        let granted = self.conns[conn.index()].grant == Some(list as u16);
        let in_turn = granted || self.waits.first(list).is_none_or(|first| first == conn);
        let promised = if granted { 0 } else { self.grants[list] as usize };
        match need {
            Need::Pin | Need::Block(_) => in_turn,
            _ => in_turn && self.available(list) > promised,
        }
    }

    /// Puts `conn` in the queue for `need`: at its head if it had come to the head already.
    pub(crate) fn wait_for(&mut self, conn: ConnId, need: Need) {
        let list = need.list(self.links.len());
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

    /// The connection's output did not fit; `moved` when some of it did.
    pub(crate) fn note_blocked(&mut self, conn: ConnId, moved: bool) {
        if moved || self.blocked.list_of(conn).is_none() {
            self.conns[conn.index()].blocked_since = self.now.secs;
            self.blocked.push_back(0, conn);
        }
    }

    /// The connection's output fits.
    pub(crate) fn note_unblocked(&mut self, conn: ConnId) {
        self.blocked.remove(conn);
    }

    /// Forgets what is known of a connection that is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.end_try(conn, false);
        self.blocked.remove(conn);
        self.uploading.remove(conn);
        if self.overdue.is_some_and(|(other, _)| other == conn) {
            self.overdue = None;
        }
        // It may still be in the ready ring, or among the walkers; next_resumable passes over it.
        let Conn { ready, walks, .. } = self.conns[conn.index()];
        self.conns[conn.index()] = Conn { ready, walks, ..Conn::default() };
    }

    /// Finds the connection that holds what others wait for and has not moved for longest.
    pub(super) fn name_overdue(&mut self) {
        let cores = self.links.len();
        let starved = |need: Need| {
            let list = need.list(cores);
            !self.waits.is_empty(list) && self.available(list) == 0
        };
        // The pins of this shard may be held by streams to connections of another core: that core must know.
        let dropped = self.dropped_at.is_some_and(|at| self.now.secs.saturating_sub(at) <= self.config.grace_secs);
        let pins_starved = u64::from(dropped || starved(Need::Pin));
        if self.counters().pins_starved.value() != pins_starved {
            self.counters().pins_starved.set(pins_starved);
        }
        if self.overdue.is_some() {
            return;
        }
        let now = self.now.secs;
        let grace = self.config.grace_secs;
        let (no_entry, no_slot) = (starved(Need::Entry), starved(Need::Slot));
        let no_pin = (0..cores).any(|core| self.ledger.core(core).pins_starved.value() > 0);
        let late = |since: u32| now.saturating_sub(since) >= grace;
        let is_late = |conn: ConnId| late(self.conns[conn.index()].upload_since);
        let stalled_owner =
            (0..cores).find(|&owner| starved(Need::Upload(owner)) && self.uploading.first(owner).is_some_and(is_late));
        if no_entry || no_slot || no_pin {
            for _ in 0..self.blocked.len(0).min(BLOCKED_LOOKED_AT) {
                let Some(conn) = self.blocked.first(0) else { break };
                let state = &self.conns[conn.index()];
                let in_the_way = no_entry || (state.slots > 0 && (no_slot || no_pin)) || (state.held > 0 && no_pin);
                if in_the_way && late(state.blocked_since) {
                    self.blocked.remove(conn);
                    self.counters().slow_readers_closed.add(1);
                    self.overdue = Some((conn, Overdue::SlowReader));
                    return;
                }
                self.blocked.push_back(0, conn);
            }
        }
        if let Some(owner) = stalled_owner
            && let Some(conn) = self.uploading.pop_front(owner)
        {
            self.counters().stalled_uploads_closed.add(1);
            self.overdue = Some((conn, Overdue::StalledUpload));
        }
    }
}
