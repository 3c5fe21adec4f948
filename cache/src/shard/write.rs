//! Items are written, copied and linked: what all operations that change an item share.
//!
//! The order is always the same: let the index grow, find the item, decide, get room (which may evict, even the item
//! found), find again if anything moved, write, link.

use crate::clock::{Expiry, Now};
use crate::key::{KEY_MAX_BYTES, Key};
use crate::operation::{Outcome, Purpose};
use crate::store::header::{self, Facts, Fields, Header, Layout};
use crate::store::index::Found;
use crate::store::item::ItemRef;

use super::state::Epoch;
use super::{Shard, note_latest};

impl Shard {
    /// What a client may call an item: nothing where items have no cas uniques.
    pub(super) fn may_name(&self, named: Option<u64>) -> Option<u64> {
        named.filter(|_| self.slabs.uses_cas())
    }

    /// Whether such an item may be stored at all, and what would be written of it but its value.
    #[inline]
    pub(super) fn check<'a>(&self, key: Key<'a>, value_len: usize, fields: Fields) -> Result<Header<'a>, Outcome> {
        let fields = Fields { named: self.may_name(fields.named), ..fields };
        let bytes = self.slabs.item_bytes(key.bytes.len(), value_len, fields.flags != 0);
        if bytes > self.item_size_max as usize || key.bytes.is_empty() || key.bytes.len() > KEY_MAX_BYTES {
            self.stats.store_too_large.add(1);
            return Err(Outcome::TooLarge);
        }
        let layout = Layout::new(key.bytes.len() as u8, value_len as u32, &fields, self.wants_expiry_field());
        Ok(Header { layout, key, fields })
    }

    /// Gets room for a new item, writes its header and key there, and holds its segment. The bytes of `keep`, if given,
    /// are not evicted for it, and the new item goes to the queue of that one.
    pub(super) fn write_new(&mut self, new: &Header<'_>, keep: Option<Found>, now: Now) -> Option<ItemRef> {
        // A hold beyond the bound on pins and reservations: it ends with this operation.
        let kept = keep.filter(|keep| self.hold(keep.at.segment, usize::MAX));
        let (queue, heat) = match keep {
            Some(keep) => (self.segments.at(keep.at.segment).queue, 0),
            None => self.admit(new.key.hash),
        };
        let bytes = new.layout.total();
        if !self.evict {
            self.merge_ahead(0, now);
        }
        let at = self.room(bytes, new.fields.expiry, queue, now);
        if let Some(at) = at {
            self.hold(at.segment, usize::MAX);
            let address = self.memory.at(at);
            new.write(&mut self.memory, address);
            header::set_heat(&mut self.memory, address, heat);
        } else {
            self.stats.store_no_memory.add(1);
        }
        if self.evict {
            // Only now, so that whoever has filled the shard makes room in the same operation.
            self.merge_ahead(bytes, now);
        }
        if let Some(kept) = kept {
            self.unhold(kept.at.segment);
        }
        at
    }

    /// Links the item written and held at `at` in place of the one found at that epoch, and lets its segment go.
    pub(super) fn link_held(
        &mut self,
        key: Key<'_>,
        at: ItemRef,
        (mut found, epoch): (Option<Found>, Epoch),
        now: Now,
    ) -> Outcome {
        if found.is_some() && self.epoch != epoch {
            // Getting room has evicted what was found, or moved its slot.
            found = self.index.find(&self.memory, &self.segments, key);
        }
        let cas = self.new_cas();
        if !self.link(key.hash, at, found, cas, now) {
            self.drop_unlinked(at);
            self.stats.store_no_memory.add(1);
            return Outcome::NoMemory(Purpose::Store);
        }
        self.stats.total_items.add(1);
        let bytes = self.memory.bytes_from(self.memory.at(at));
        let outcome = Layout::read(bytes).map(|layout| {
            let cas = header::named(bytes, layout).unwrap_or(cas);
            Outcome::Stored { cas: self.shown(cas), len: layout.value_len }
        });
        self.unhold(at.segment);
        outcome.unwrap_or(Outcome::NoMemory(Purpose::Store))
    }

    /// Gives up an item that was written and held but not linked.
    pub(super) fn drop_unlinked(&mut self, at: ItemRef) {
        let layout = Layout::read(self.memory.bytes_from(self.memory.at(at)));
        self.give_back(at, layout.map_or(0, |layout| layout.total()));
        self.unhold(at.segment);
    }

    /// Makes an item where there is none. Returns its place and its cas unique.
    pub(super) fn create(&mut self, key: Key<'_>, value: &[u8], fields: Fields, now: Now) -> Option<(ItemRef, u64)> {
        let new = self.check(key, value.len(), fields).ok()?;
        let at = self.write_new(&new, None, now)?;
        let address = self.memory.at(at) + new.layout.value_at();
        self.memory.bytes_mut(address, value.len()).copy_from_slice(value);
        match self.link_held(key, at, (None, self.epoch), now) {
            Outcome::Stored { cas, .. } => Some((at, cas)),
            _ => None,
        }
    }

    /// Puts a copy of the item found, with this expiry, in its place; last access and marks stay, and the cas unique
    /// where the client has not `named` another. `None`, and all as it was, when there is no room.
    pub(super) fn copy_item(
        &mut self,
        key: Key<'_>,
        found: Found,
        expiry: Expiry,
        named: Option<u64>,
        now: Now,
    ) -> Option<ItemRef> {
        let address = self.memory.at(found.at);
        let (access, marks) = (header::access(&self.memory, address), header::marks(&self.memory, address));
        let bytes = self.memory.bytes_from(address);
        let old = Layout::read(bytes)?;
        let facts = Facts::read(bytes, old);
        let named = named.or_else(|| header::named(bytes, old));
        let fields = Fields { flags: facts.flags, expiry, named, base64: marks.base64 };
        let layout = Layout::new(old.key_len, old.value_len, &fields, self.wants_expiry_field());
        let at = self.write_new(&Header { layout, key, fields }, Some(found), now)?;
        let to = self.memory.at(at);
        self.memory.copy(address + old.value_at(), to + layout.value_at(), old.value_len as usize);
        header::set_marks(&mut self.memory, to, marks);
        self.link_again(key, at, facts.unique, now)?;
        header::set_access(&mut self.memory, to, access);
        Some(at)
    }

    /// Links the item written and held at `at` in place of that of its key, whose `unique` it has, and lets its segment go.
    /// `None`, and the item given up, when the index has no place for it.
    pub(super) fn link_again(&mut self, key: Key<'_>, at: ItemRef, unique: u64, now: Now) -> Option<()> {
        let found = self.index.find(&self.memory, &self.segments, key);
        if !self.link(key.hash, at, found, unique, now) {
            self.drop_unlinked(at);
            return None;
        }
        self.unhold(at.segment);
        Some(())
    }

    /// Gives the item found a new expiry, in place or in a copy; its cas unique and its marks stay. Returns its place;
    /// `None`, and all as it was, when it has no field for an expiry and there is no room for a copy that has.
    pub(super) fn move_expiry(&mut self, key: Key<'_>, found: Found, expiry: Expiry, now: Now) -> Option<ItemRef> {
        let old = Layout::read(self.memory.bytes_from(self.memory.at(found.at)))?;
        if !old.has_expiry_field() && expiry.is_never() {
            return Some(found.at);
        }
        let class = crate::store::expiry::class_of(expiry, now, self.ttl_classes);
        let stays = class == usize::from(self.segments.at(found.at.segment).class) || !self.evict;
        if old.has_expiry_field() && stays {
            return Some(self.touch_in_place(found.at, old, expiry));
        }
        let copy = self.copy_item(key, found, expiry, None, now);
        if copy.is_none() && self.segments.is_current(found.at) && old.has_expiry_field() {
            return Some(self.touch_in_place(found.at, old, expiry));
        }
        copy
    }

    fn touch_in_place(&mut self, at: ItemRef, layout: Layout, expiry: Expiry) -> ItemRef {
        let address = self.memory.at(at);
        header::set_expiry(&mut self.memory, address, layout, expiry);
        note_latest(&mut self.segments.at_mut(at.segment).latest_expiry, expiry);
        at
    }
}
