//! Deletes: an item goes, or stays as a stale one that some client is to renew.

use crate::clock::{Expiry, Now};
use crate::key::Key;
use crate::operation::{Delete, Outcome, Purpose};
use crate::store::header::{self, Fields, Layout, Marks};
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
            let named = delete.named.or_else(|| header::named(self.memory.bytes_from(known.address), known.layout));
            let fields = Fields { flags, expiry: delete.expiry.unwrap_or(expiry), named, ..Fields::NONE };
            there = self.empty_item(key, &known, fields, now);
            if there.is_none() {
                return Outcome::NoMemory(Purpose::Change);
            }
        }
        match there {
            Some(found) if delete.stale => self.make_stale(key, found, delete, delete.expiry.unwrap_or(expiry), now),
            there => {
                self.stats.delete_hits.add(1);
                if let Some(found) = there.filter(|_| delete.empty.is_none()) {
                    self.unlink(found);
                }
            }
        }
        Outcome::Deleted
    }

    /// Puts an empty item in the place of the item known, under its cas unique unless the client has named one. `None`,
    /// and all as it was, when there is no room.
    fn empty_item(&mut self, key: Key<'_>, known: &Known, fields: Fields, now: Now) -> Option<Found> {
        let new = self.check(key, 0, fields).ok()?;
        let at = self.write_new(&new, Some(known.found), now)?;
        self.link_again(key, at, known.facts.unique, now)?;
        self.stats.total_items.add(1);
        self.index.find(&self.memory, &self.segments, key)
    }

    /// Removes the item of `key` without counting a delete: memcached drops the old value when a set of a new one was
    /// refused (too large, or out of memory). `false` when there is none.
    pub fn forget_key(&mut self, key: Key<'_>, now: Now) -> bool {
        let known = self.lookup(key, now);
        known.inspect(|known| self.unlink(known.found)).is_some()
    }

    /// Marks the item found as stale, under a new unique, so that the next client wins the right to renew it.
    fn make_stale(&mut self, key: Key<'_>, found: Found, delete: &Delete, expiry: Expiry, now: Now) {
        let named = self.may_name(delete.named);
        // The unique of an item that a reply holds does not change: a copy takes its place, as it does where there is no
        // place for one that the client names.
        let layout = Layout::read(self.memory.bytes_from(self.memory.at(found.at)));
        let has_place = named.is_none() || layout.is_some_and(|layout| layout.has_named_field());
        let copies = self.segments.at(found.at.segment).holders != 0 || !has_place;
        let changes = expiry != self.item(found.at).expiry;
        let moved = match (copies, changes) {
            (true, _) => self.copy_item(key, found, expiry, named, now),
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
        header::renew_cas(&mut self.memory, address, cas, named, access);
        let segment = self.segments.at_mut(at.segment);
        segment.largest_cas = segment.largest_cas.max(cas);
        let marks = header::marks(&self.memory, address);
        header::set_marks(&mut self.memory, address, Marks { stale: true, token_sent: false, ..marks });
    }
}
