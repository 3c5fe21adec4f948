//! Meta commands on this core's shard, for a connection here or for another core; and what their answers become.

use super::Core;
use super::entries::Owed;
use crate::key::KeyHash;
use crate::proto::reply::Line;
use crate::route::batch::Half;
use crate::route::message::{Answer, NO_STREAM, NOBODY, Reply, Token};
use crate::shard::meta::{Ask, Count, Removal, Seen};
use crate::stats::Counted as Prefixed;
use crate::store::{Arith, StoreOutcome, Stored};

impl Core {
    /// mg; `None` is a miss.
    pub(crate) fn meta_get(&mut self, hash: KeyHash, key: &[u8], ask: &Ask) -> (Line, Seen) {
        self.tell_lookup(hash, key);
        let seen = self.shard.meta_get(hash, key, ask, self.now);
        if ask.classic_counts {
            self.ledger.count_prefix(self.id, key, Prefixed::Get { hit: seen.is_some() });
        }
        match seen {
            Some(seen) => (Line::Stored, seen),
            None => (Line::NotFound, Seen::NOTHING),
        }
    }

    /// md. Success is told as Stored.
    pub(crate) fn meta_delete(&mut self, hash: KeyHash, key: &[u8], removal: &Removal) -> (Line, Seen) {
        if removal.classic_counts {
            self.ledger.count_prefix(self.id, key, Prefixed::Delete);
        }
        self.tell_lookup(hash, key);
        let sizes = self.about_to_delete(hash, key);
        let outcome = match self.shard.meta_delete(hash, key, removal, self.now) {
            StoreOutcome::Stored => Line::Stored,
            StoreOutcome::Exists => Line::Exists,
            _ => Line::NotFound,
        };
        if let (Line::Stored, Some(sizes)) = (outcome, sizes) {
            self.tell_delete(key, sizes);
        }
        (outcome, Seen::NOTHING)
    }

    /// ma.
    pub(crate) fn meta_arith(&mut self, hash: KeyHash, key: &[u8], count: &Count) -> (Line, Seen) {
        self.tell_lookup(hash, key);
        let counted = self.shard.meta_arith(hash, key, count, self.now);
        let outcome = match counted.arith {
            Arith::Value { .. } => Line::Stored,
            Arith::NotFound => Line::NotFound,
            Arith::Exists => Line::Exists,
            Arith::NonNumeric => Line::NonNumeric,
            Arith::OutOfMemory if counted.created => Line::NoMemoryCreating,
            Arith::OutOfMemory => Line::NoMemory,
        };
        (outcome, Seen::of_count(&counted))
    }

    /// me.
    pub(crate) fn meta_debug(&mut self, hash: KeyHash, key: &[u8]) -> (Line, Seen) {
        match self.shard.meta_debug(hash, key, self.now) {
            Some(debug) => (Line::Stored, Seen::of_debug(&debug)),
            None => (Line::NotFound, Seen::NOTHING),
        }
    }

    /// mg with the value, for another core.
    ///
    /// The value is copied or held before anything is done, which may move the item.
    pub(super) fn answer_meta_get(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        ask: &Ask,
        room: u16,
        replies: &mut Half<Reply>,
    ) -> Answer {
        let held = self.shard.peek(hash, key, self.now).map(|at| self.answer_fetch(at, room, replies));
        match held {
            Some(Answer::Gone) => Answer::Gone,
            Some(Answer::Value { bytes, stream, .. }) => {
                let (_, seen) = self.meta_get(hash, key, ask);
                Answer::SeenValue { seen, bytes, stream }
            }
            _ => {
                let (outcome, seen) = self.meta_get(hash, key, ask);
                Answer::Seen { outcome, seen }
            }
        }
    }

    /// The outcome of entry `token`, framed or not, is `line`.
    pub(crate) fn settle(&mut self, token: Token, line: Line) {
        let entry = self.entries.entry_mut(token);
        if !entry.framed {
            entry.owed = Owed::Line(line);
            return;
        }
        let head = self.frames.head_mut(token);
        head.outcome = line;
        entry.owed = if head.is_hidden() { Owed::Nothing } else { Owed::Framed };
    }

    /// The outcome of the framed entry `token`, and what was seen.
    pub(crate) fn settle_seen(&mut self, token: Token, outcome: Line, seen: Seen) {
        self.frames.head_mut(token).seen = seen;
        self.settle(token, outcome);
    }

    /// The store of entry `token`, framed or not, has ended so.
    pub(crate) fn settle_stored(&mut self, token: Token, stored: Stored) {
        if token == NOBODY {
            return;
        }
        if self.entries.entry(token).framed {
            self.frames.head_mut(token).seen = Seen { cas: stored.cas, ..Seen::NOTHING };
        }
        self.settle(token, stored.outcome.line());
    }

    /// Lands what another core has seen for `token`.
    pub(super) fn land_seen(&mut self, token: Token, outcome: Line, seen: Seen) {
        let entry = self.entries.entry(token);
        if let Owed::Fetch { slot, .. } = entry.owed {
            let conn = entry.conn;
            self.return_slot(conn, slot);
        }
        self.settle_seen(token, outcome, seen);
    }

    /// Lands the value that another core has found for `token`, or its beginning.
    pub(super) fn land_value(&mut self, token: Token, slot: u32, seen: Seen, value: &[u8], stream: u32) {
        let head = self.frames.head_mut(token);
        (head.outcome, head.seen) = (Line::Stored, seen);
        self.landing.fill(slot, 0, value);
        let landed = self.landing.slot_mut(slot);
        (landed.flags, landed.cas, landed.len, landed.stream) = (seen.flags, seen.cas, seen.len, stream);
        if seen.len == 0 {
            debug_assert_eq!(stream, NO_STREAM, "an empty value has no rest");
            self.land_seen(token, Line::Stored, seen);
        } else {
            self.entries.entry_mut(token).owed = Owed::Landed { slot, cas: false, end: false };
        }
    }
}
