//! Deletes: an item goes, or stays as a stale one that some client is to renew.

use crate::clock::{Expiry, Now};
use crate::key::Key;
use crate::operation::{Delete, Outcome};
use crate::store::header::{self, Marks};
use crate::store::index::Found;

use super::{Known, Shard};

impl Shard {
    /// Takes the item out, or marks it as stale.
    pub(super) fn delete(&mut self, key: Key<'_>, delete: &Delete, now: Now) -> Outcome {
        if delete.stale {
            self.prepare_link(now);
        }
        let Some(Known { found, facts, .. }) = self.lookup(key, now) else {
            self.stats.delete_misses.add(1);
            return Outcome::Missed;
        };
        if delete.cas.is_some_and(|cas| cas != self.shown(facts.cas)) {
            if !delete.classic {
                self.stats.delete_misses.add(1);
            }
            return Outcome::Exists;
        }
        if delete.stale {
            let expiry = delete.expiry.unwrap_or(facts.expiry);
            self.make_stale(key, found, expiry, now);
        } else {
            self.stats.delete_hits.add(1);
            self.unlink(found);
        }
        Outcome::Deleted
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
