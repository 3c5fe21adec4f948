//! Deletes: an item goes, or stays as a stale one that some client is to renew.

use crate::clock::{Expiry, Now};
use crate::key::Key;
use crate::operation::{Delete, Outcome, Purpose};
use crate::store::header::{self, Header, Marks};
use crate::store::index::Found;

use super::{Known, Shard};

impl Shard {
    /// Takes the item out, or marks it as stale.
    pub(super) fn delete(&mut self, key: Key<'_>, delete: &Delete, now: Now) -> Outcome {
        if delete.stale || delete.empty.is_some() {
            self.prepare_link(now);
        }
        let Some(known) = self.lookup(key, now) else {
            self.stats.delete_misses.add(1);
            return Outcome::Missed;
        };
        let Known { found, facts, .. } = known;
        if delete.cas.is_some_and(|cas| cas != self.shown(facts.cas)) {
            if !delete.classic {
                self.stats.delete_misses.add(1);
            }
            return Outcome::Exists;
        }
        let (mut there, mut expiry) = (Some(found), facts.expiry);
        if let Some(flags) = delete.empty {
            expiry = Expiry::NEVER;
            there = self.empty_item(key, &known, flags, delete.expiry.unwrap_or(expiry), now);
            if there.is_none() {
                return Outcome::NoMemory(Purpose::Change);
            }
        }
        match there {
            Some(found) if delete.stale => self.make_stale(key, found, delete.expiry.unwrap_or(expiry), now),
            there => {
                self.stats.delete_hits.add(1);
                if let Some(found) = there.filter(|_| delete.empty.is_none()) {
                    self.unlink(found);
                }
            }
        }
        Outcome::Deleted
    }

    /// Puts an empty item with these flags and this expiry in the place of the item known, under its cas unique.
    /// `None`, and all as it was, when there is no room.
    fn empty_item(&mut self, key: Key<'_>, known: &Known, flags: u32, expiry: Expiry, now: Now) -> Option<Found> {
        let layout = self.check(key, 0, flags, expiry).ok()?;
        let at = self.write_new(&Header { layout, key, flags, expiry }, Some(known.found), now)?;
        let found = self.index.find(&self.memory, &self.segments, key);
        if !self.link(key.hash, at, found, known.facts.cas, now) {
            self.drop_unlinked(at, layout.total());
            return None;
        }
        self.stats.total_items.add(1);
        self.unhold(at.segment);
        self.index.find(&self.memory, &self.segments, key)
    }

    /// Removes the item of `key` without counting a delete: memcached drops the old value when a set of a new one was
    /// refused (too large, or out of memory). `false` when there is none.
    pub fn forget_key(&mut self, key: Key<'_>, now: Now) -> bool {
        let known = self.lookup(key, now);
        known.inspect(|known| self.unlink(known.found)).is_some()
    }

    /// Marks the item found as stale, under a new unique, so that the next client wins the right to renew it.
    fn make_stale(&mut self, key: Key<'_>, found: Found, expiry: Expiry, now: Now) {
        // The unique of an item that a reply holds does not change: a copy takes its place.
        let copies = self.segments.at(found.at.segment).holders != 0;
        let changes = expiry != self.item(found.at).expiry;
        let moved = match (copies, changes) {
            (true, _) => self.copy_item(key, found, expiry, now),
            (false, true) => self.move_expiry(key, found, expiry, now),
            (false, false) => Some(found.at),
        };
        let Some(at) = moved else {
            // No room for a copy: an item that cannot be shown as stale is gone.
            self.forget_key(key, now);
            return;
        };
        let address = self.memory.at(at);
        let access = self.item(at).last_access_secs;
        let cas = self.new_cas();
        header::set_cas(&mut self.memory, address, cas, access);
        let segment = self.segments.at_mut(at.segment);
        segment.largest_cas = segment.largest_cas.max(cas);
        let marks = header::marks(&self.memory, address);
        header::set_marks(&mut self.memory, address, Marks { stale: true, token_sent: false, ..marks });
    }
}
