//! Operations that change an item: store, reserve and commit, delete, incr and decr, touch.
//!
//! The order is always the same: let the index grow, find the item, decide, get room (which may evict, even the item
//! found), find again if anything moved, write, link. Read first: `protocol.txt`; the finer rules are those of
//! memcached 1.6.18's `do_store_item` and `do_add_delta`.

use crate::clock::{Expiry, Now};
use crate::key::{KEY_MAX_BYTES, KeyHash};
use crate::number;
use crate::store::header::{self, Header, Layout, Marks};
use crate::store::index::Found;
use crate::store::item::{ItemRef, Reservation};
use crate::store::outcome::{Arith, StoreError, StoreMode, StoreOutcome, Stored, Touched};
use crate::store::segment::State;

use super::{HOLDERS_MAX, Shard, note_latest};

/// Above this size memcached keeps an item in chunks, and no chunked item is a number.
const NUMBER_ITEM_MAX_BYTES: usize = 512 << 10;

/// What a store does to an item that is there, or not.
enum Decision {
    /// The new item takes its place, or is the first.
    Replace,
    /// The new value is joined to that of the item found.
    Join(Found),
    /// The new item takes the place of the newer one found, with its expiry, as a stale one.
    ReplaceStale(Found),
}

impl Shard {
    /// Stores a value that is in one piece.
    #[expect(clippy::too_many_arguments, reason = "a storage command has that many parts")]
    pub fn store(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        flags: u32,
        expiry: Expiry,
        mode: StoreMode,
        now: Now,
    ) -> Stored {
        let layout = match self.check(key, value.len(), flags, expiry) {
            Ok(layout) => layout,
            Err(error) => return Stored::failed(error.into()),
        };
        self.stats.cmd_set.add(1);
        self.prepare_link(now);
        let found = self.lookup_to_store(hash, key, value.len(), now);
        let epoch = self.epoch;
        let new = Header { layout, key, flags, expiry };
        match self.decide(mode, found, now) {
            Err(outcome) => Stored::failed(outcome),
            Ok(Decision::Join(old)) => {
                let Some((at, gap)) = self.join(hash, old, value.len(), mode.appends(), now) else {
                    return Stored::failed(StoreOutcome::NotStored);
                };
                self.memory.bytes_mut(gap, value.len()).copy_from_slice(value);
                self.link_held(hash, key, at, (found, epoch), now)
            }
            Ok(Decision::ReplaceStale(old)) => {
                let Some((at, gap)) = self.write_stale(hash, old, &new, false, now) else {
                    return Stored::failed(StoreOutcome::OutOfMemory);
                };
                self.memory.bytes_mut(gap, value.len()).copy_from_slice(value);
                self.link_held(hash, key, at, (found, epoch), now)
            }
            Ok(Decision::Replace) => {
                if let Some(found) = found
                    && self.may_overwrite(found, &new, now)
                {
                    return self.overwrite(found, &new, value, now);
                }
                let mut at = self.write_new(hash, &new, found, now);
                if at.is_none() && self.evict && found.is_some() {
                    // The old value is in the way of the new one.
                    self.stats.store_no_memory.sub(1);
                    self.forget_key(hash, key, now);
                    self.epoch += 1;
                    at = self.write_new(hash, &new, None, now);
                }
                let Some(at) = at else { return Stored::failed(StoreOutcome::OutOfMemory) };
                let address = self.memory.address(at.segment, at.offset) + layout.value_at();
                self.memory.bytes_mut(address, value.len()).copy_from_slice(value);
                self.link_held(hash, key, at, (found, epoch), now)
            }
        }
    }

    /// Takes room for an item whose value will be filled piece by piece.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the item is above `item_size_max`, [`StoreError::OutOfMemory`] when there is no
    /// room, or when reservations and pins hold three quarters of the segments, or 65,536 reservations are out.
    pub fn reserve(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value_len: u32,
        flags: u32,
        expiry: Expiry,
        now: Now,
    ) -> Result<Reservation, StoreError> {
        let layout = self.check(key, value_len as usize, flags, expiry)?;
        self.advance(now);
        if self.reservations == HOLDERS_MAX || self.held >= self.allowed / 4 * 3 {
            self.stats.store_no_memory.add(1);
            return Err(StoreError::OutOfMemory);
        }
        let new = Header { layout, key, flags, expiry };
        let at = self.write_new(hash, &new, None, now).ok_or(StoreError::OutOfMemory)?;
        if self.held > self.allowed / 4 * 3 {
            self.drop_unlinked(at, layout.total());
            self.stats.store_no_memory.add(1);
            return Err(StoreError::OutOfMemory);
        }
        self.reservations += 1;
        Ok(Reservation { at, value_at: layout.value_at() as u32, value_len, filled: 0, hash })
    }

    /// Appends `bytes` to the reserved value. Returns how many were taken: all, or as many as were missing.
    pub fn fill(&mut self, reservation: &mut Reservation, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(reservation.missing_bytes() as usize);
        let start = self.memory.address(reservation.at.segment, reservation.at.offset);
        let address = start + (reservation.value_at + reservation.filled) as usize;
        self.memory.bytes_mut(address, taken).copy_from_slice(&bytes[..taken]);
        reservation.filled += taken as u32;
        taken
    }

    /// Stores the reserved item under `mode`, as if it had come whole now. A value not filled to its end is abandoned
    /// and [`StoreOutcome::NotStored`] answered.
    pub fn commit(&mut self, reservation: Reservation, mode: StoreMode, now: Now) -> Stored {
        self.reservations -= 1;
        let Reservation { at, hash, value_at, value_len, .. } = reservation;
        let total = (value_at + value_len) as usize;
        if reservation.missing_bytes() != 0 {
            self.drop_unlinked(at, total);
            return Stored::failed(StoreOutcome::NotStored);
        }
        self.stats.cmd_set.add(1);
        let mut key = [0; KEY_MAX_BYTES];
        let key = {
            let written = self.item(at).key;
            let copy = &mut key[..written.len()];
            copy.copy_from_slice(written);
            &*copy
        };
        self.prepare_link(now);
        let found = self.lookup_to_store(hash, key, value_len as usize, now);
        let epoch = self.epoch;
        let stored = match self.decide(mode, found, now) {
            Err(outcome) => Stored::failed(outcome),
            Ok(Decision::Replace) => return self.link_held(hash, key, at, (found, epoch), now),
            Ok(Decision::ReplaceStale(old)) => {
                let written = self.memory.address(at.segment, at.offset);
                let (flags, base64) = (self.item(at).flags, header::marks(&self.memory, written).base64);
                let layout = Layout::new(key.len() as u8, value_len, flags, Expiry::NEVER, false);
                let new = Header { layout, key, flags, expiry: Expiry::NEVER };
                match self.write_stale(hash, old, &new, base64, now) {
                    Some((stale, gap)) => {
                        self.memory.copy(written + value_at as usize, gap, value_len as usize);
                        self.drop_unlinked(at, total);
                        return self.link_held(hash, key, stale, (found, epoch), now);
                    }
                    None => Stored::failed(StoreOutcome::OutOfMemory),
                }
            }
            Ok(Decision::Join(old)) => match self.join(hash, old, value_len as usize, mode.appends(), now) {
                Some((joined, gap)) => {
                    let added = self.memory.address(at.segment, at.offset) + value_at as usize;
                    self.memory.copy(added, gap, value_len as usize);
                    self.link_held(hash, key, joined, (found, epoch), now)
                }
                None => Stored::failed(StoreOutcome::NotStored),
            },
        };
        self.drop_unlinked(at, total);
        stored
    }

    /// Gives a reservation's room back; the key is as before.
    pub fn abandon(&mut self, reservation: Reservation) {
        self.reservations -= 1;
        self.drop_unlinked(reservation.at, (reservation.value_at + reservation.value_len) as usize);
    }

    /// Removes the item of `key`; `false` when there is none.
    pub fn delete(&mut self, hash: KeyHash, key: &[u8], now: Now) -> bool {
        let deleted = self.forget_key(hash, key, now);
        if deleted {
            self.stats.delete_hits.add(1)
        } else {
            self.stats.delete_misses.add(1)
        }
        deleted
    }

    /// Removes the item of `key` without counting a delete: memcached drops the old value when a set of a new one was
    /// refused (too large, or out of memory). `false` when there is none.
    pub fn forget_key(&mut self, hash: KeyHash, key: &[u8], now: Now) -> bool {
        let found = self.lookup(hash, key, now);
        found.inspect(|&found| self.unlink(found)).is_some()
    }

    /// Adds `delta` to the number stored; wraps at 2^64.
    pub fn incr(&mut self, hash: KeyHash, key: &[u8], delta: u64, now: Now) -> Arith {
        let answer = self.change_number(hash, key, 0, now, |value| value.wrapping_add(delta));
        match answer {
            Arith::NotFound => self.stats.incr_misses.add(1),
            Arith::NonNumeric | Arith::Exists => {}
            Arith::Value { .. } | Arith::OutOfMemory => self.stats.incr_hits.add(1),
        }
        answer
    }

    /// Takes `delta` from the number stored; stops at 0. The value keeps its length, padded with spaces.
    pub fn decr(&mut self, hash: KeyHash, key: &[u8], delta: u64, now: Now) -> Arith {
        let answer = self.change_number(hash, key, 0, now, |value| value.saturating_sub(delta));
        match answer {
            Arith::NotFound => self.stats.decr_misses.add(1),
            Arith::NonNumeric | Arith::Exists => {}
            Arith::Value { .. } | Arith::OutOfMemory => self.stats.decr_hits.add(1),
        }
        answer
    }

    /// Gives the item of `key` a new expiry; its cas unique stays. Counts a touch, and marks the item as asked for.
    pub fn touch(&mut self, hash: KeyHash, key: &[u8], expiry: Expiry, now: Now) -> Touched {
        self.stats.cmd_touch.add(1);
        self.prepare_link(now);
        let Some(found) = self.lookup(hash, key, now) else {
            self.stats.touch_misses.add(1);
            return Touched::NotFound;
        };
        self.stats.touch_hits.add(1);
        self.mark_fetched(found.at, now);
        self.move_expiry(hash, key, found, expiry, now)
    }

    /// Gives the item found a new expiry, in place or in a copy; its cas unique and its marks stay.
    pub(super) fn move_expiry(&mut self, hash: KeyHash, key: &[u8], found: Found, expiry: Expiry, now: Now) -> Touched {
        let address = self.memory.address(found.at.segment, found.at.offset);
        let Some(old) = Layout::read(self.memory.bytes_from(address)) else { return Touched::NotFound };
        if !old.has_expiry_field() && expiry.is_never() {
            return Touched::Done(found.at);
        }
        let class = crate::store::expiry::class_of(expiry, now, self.ttl_classes);
        let stays = class == usize::from(self.segments.at(found.at.segment).class) || !self.evict;
        if old.has_expiry_field() && stays {
            return self.touch_in_place(found.at, old, expiry);
        }
        match self.copy_item(hash, key, found, expiry, now) {
            Some(at) => Touched::Done(at),
            None if self.segments.is_current(found.at) && old.has_expiry_field() => {
                self.touch_in_place(found.at, old, expiry)
            }
            None => Touched::OutOfMemory,
        }
    }

    /// Puts a copy of the item found, with this expiry, in its place; cas unique, last access and marks stay. `None`,
    /// and all as it was, when there is no room.
    pub(super) fn copy_item(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        found: Found,
        expiry: Expiry,
        now: Now,
    ) -> Option<ItemRef> {
        let item = self.stored_item(found.at);
        let (flags, cas, access) = (item.flags, item.cas, item.last_access_secs);
        let address = self.memory.address(found.at.segment, found.at.offset);
        let marks = header::marks(&self.memory, address);
        let old = Layout::read(self.memory.bytes_from(address))?;
        let layout = Layout::new(old.key_len, old.value_len, flags, expiry, self.wants_expiry_field());
        let at = self.write_new(hash, &Header { layout, key, flags, expiry }, Some(found), now)?;
        let to = self.memory.address(at.segment, at.offset);
        self.memory.copy(address + old.value_at(), to + layout.value_at(), old.value_len as usize);
        header::set_marks(&mut self.memory, to, marks);
        let found = self.index.find(&self.memory, &self.segments, hash, key);
        if !self.link(hash, at, found, cas, now) {
            self.drop_unlinked(at, layout.total());
            return None;
        }
        header::set_access(&mut self.memory, to, access);
        self.unhold(at.segment);
        Some(at)
    }

    /// Gives the item of `key` a new expiry and finds it. Counts a touch and no get, as memcached's gat does.
    pub fn gat(&mut self, hash: KeyHash, key: &[u8], expiry: Expiry, now: Now) -> Touched {
        self.touch(hash, key, expiry, now)
    }

    /// Whether such an item may be stored at all, and how it would be laid out.
    pub(super) fn check(&self, key: &[u8], value_len: usize, flags: u32, expiry: Expiry) -> Result<Layout, StoreError> {
        let bytes = self.slabs.item_bytes(key.len(), value_len, flags != 0);
        if bytes > self.item_size_max as usize || key.is_empty() || key.len() > KEY_MAX_BYTES {
            self.stats.store_too_large.add(1);
            return Err(StoreError::TooLarge);
        }
        Ok(Layout::new(key.len() as u8, value_len as u32, flags, expiry, self.wants_expiry_field()))
    }

    /// What `mode` makes of the item found (memcached's `do_store_item`).
    fn decide(&mut self, mode: StoreMode, found: Option<Found>, now: Now) -> Result<Decision, StoreOutcome> {
        match (mode, found) {
            (StoreMode::Set, _) | (StoreMode::Add, None) | (StoreMode::Replace, Some(_)) => Ok(Decision::Replace),
            (StoreMode::Add, Some(found)) => {
                let address = self.memory.address(found.at.segment, found.at.offset);
                header::set_access(&mut self.memory, address, now.secs);
                Err(StoreOutcome::NotStored)
            }
            (StoreMode::Append | StoreMode::Prepend, Some(found)) => Ok(Decision::Join(found)),
            (StoreMode::AppendIf(cas) | StoreMode::PrependIf(cas), Some(found)) => {
                // Without uniques memcached forgets which one was asked for.
                if self.item(found.at).cas == cas || !self.slabs.uses_cas() {
                    Ok(Decision::Join(found))
                } else {
                    Err(StoreOutcome::Exists)
                }
            }
            (StoreMode::Cas(_) | StoreMode::CasOrStale(_), None) => {
                self.stats.cas_misses.add(1);
                Err(StoreOutcome::NotFound)
            }
            (_, None) => Err(StoreOutcome::NotStored),
            (StoreMode::Cas(cas) | StoreMode::CasOrStale(cas), Some(found))
                if cas != 0 && self.item(found.at).cas == cas =>
            {
                self.stats.cas_hits.add(1);
                Ok(Decision::Replace)
            }
            (StoreMode::CasOrStale(cas), Some(found)) if cas != 0 && cas < self.item(found.at).cas => {
                self.stats.cas_hits.add(1);
                Ok(Decision::ReplaceStale(found))
            }
            (StoreMode::Cas(_) | StoreMode::CasOrStale(_), Some(_)) => {
                self.stats.cas_badval.add(1);
                Err(StoreOutcome::Exists)
            }
        }
    }

    /// Whether the item found can be overwritten where it is: nobody holds its bytes, the new one has the same layout
    /// and class, and it sits in the younger half of the segments. An item that is set again and again then leaves
    /// neither dead space nor an early grave.
    fn may_overwrite(&self, found: Found, new: &Header<'_>, now: Now) -> bool {
        let segment = self.segments.at(found.at.segment);
        let address = self.memory.address(found.at.segment, found.at.offset);
        let age = self.segments.sequence() - segment.sequence;
        let young = !self.evict || age < (self.allowed as u64) / 2;
        let class = crate::store::expiry::class_of(new.expiry, now, self.ttl_classes);
        segment.holders == 0
            && young
            && !self.is_being_merged(found.at)
            && (class == usize::from(segment.class) || !self.evict)
            && Layout::read(self.memory.bytes_from(address)) == Some(new.layout)
    }

    /// Overwrites the item found with one of the same layout.
    fn overwrite(&mut self, found: Found, new: &Header<'_>, value: &[u8], now: Now) -> Stored {
        let address = self.memory.address(found.at.segment, found.at.offset);
        let was_fetched = self.item(found.at).fetched;
        let heat = header::heat(&self.memory, address);
        new.write(&mut self.memory, address);
        header::set_heat(&mut self.memory, address, heat);
        self.memory.bytes_mut(address + new.layout.value_at(), value.len()).copy_from_slice(value);
        let cas = self.new_cas();
        header::set_cas(&mut self.memory, address, cas, now.secs);
        let segment = self.segments.at_mut(found.at.segment);
        segment.live_unfetched += u32::from(was_fetched);
        segment.largest_cas = cas;
        note_latest(&mut segment.latest_expiry, new.expiry);
        self.stats.total_items.add(1);
        Stored { outcome: StoreOutcome::Stored, cas: self.shown(cas) }
    }

    /// Gets room for a new item, writes its header and key there, and holds its segment. The bytes of `keep`, if given,
    /// are not evicted for it, and the new item goes to the queue of that one.
    pub(super) fn write_new(
        &mut self,
        hash: KeyHash,
        new: &Header<'_>,
        keep: Option<Found>,
        now: Now,
    ) -> Option<ItemRef> {
        // A hold beyond the bound on pins and reservations: it ends with this operation.
        let kept = keep.filter(|keep| self.hold(keep.at.segment, usize::MAX));
        let (queue, heat) = match keep {
            Some(keep) => (self.segments.at(keep.at.segment).queue, 0),
            None => self.admit(hash),
        };
        let bytes = new.layout.total();
        if !self.evict {
            self.merge_ahead(0, now);
        }
        let at = self.room(bytes, new.expiry, queue, now);
        if let Some(at) = at {
            self.hold(at.segment, usize::MAX);
            let address = self.memory.address(at.segment, at.offset);
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

    /// Writes an item with the flags and expiry of the one found and room for `more` bytes beside its value, which is
    /// copied. Returns the item, held, and the address of the bytes to be filled.
    fn join(&mut self, hash: KeyHash, found: Found, more: usize, append: bool, now: Now) -> Option<(ItemRef, usize)> {
        let item = self.item(found.at);
        let (flags, expiry) = (item.flags, item.expiry);
        let (key_len, old_len) = (item.key.len(), item.value.len());
        let mut key = [0; KEY_MAX_BYTES];
        key[..key_len].copy_from_slice(item.key);
        let key = &key[..key_len];
        let old_at = self.memory.address(found.at.segment, found.at.offset);
        let old_value = old_at + Layout::read(self.memory.bytes_from(old_at))?.value_at();
        let layout = self.check(key, old_len + more, flags, expiry).ok()?;
        let at = self.write_new(hash, &Header { layout, key, flags, expiry }, Some(found), now)?;
        let value = self.memory.address(at.segment, at.offset) + layout.value_at();
        let (old_to, gap) = if append { (value, value + old_len) } else { (value + more, value) };
        self.memory.copy(old_value, old_to, old_len);
        Some((at, gap))
    }

    /// Writes `new` with the expiry of the newer item found, marked as stale. Returns the item, held, and the address of
    /// its value, to be filled.
    fn write_stale(
        &mut self,
        hash: KeyHash,
        found: Found,
        new: &Header<'_>,
        base64: bool,
        now: Now,
    ) -> Option<(ItemRef, usize)> {
        let expiry = self.item(found.at).expiry;
        let token_sent = header::marks(&self.memory, self.memory.address(found.at.segment, found.at.offset)).token_sent;
        let old = new.layout;
        let layout = Layout::new(old.key_len, old.value_len, new.flags, expiry, self.wants_expiry_field());
        let at = self.write_new(hash, &Header { layout, expiry, ..*new }, Some(found), now)?;
        let address = self.memory.address(at.segment, at.offset);
        header::set_marks(&mut self.memory, address, Marks { fetched: false, base64, stale: true, token_sent });
        Some((at, address + layout.value_at()))
    }

    /// Links the item written and held at `at` in place of the one found at that epoch, and lets its segment go.
    pub(super) fn link_held(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        at: ItemRef,
        (mut found, epoch): (Option<Found>, u64),
        now: Now,
    ) -> Stored {
        if found.is_some() && self.epoch != epoch {
            // Getting room has evicted what was found, or moved its slot.
            found = self.index.find(&self.memory, &self.segments, hash, key);
        }
        let cas = self.new_cas();
        if !self.link(hash, at, found, cas, now) {
            let bytes = Layout::read(self.memory.bytes_from(self.memory.address(at.segment, at.offset)));
            self.drop_unlinked(at, bytes.map_or(0, |layout| layout.total()));
            self.stats.store_no_memory.add(1);
            return Stored::failed(StoreOutcome::OutOfMemory);
        }
        self.stats.total_items.add(1);
        self.unhold(at.segment);
        Stored { outcome: StoreOutcome::Stored, cas: self.shown(cas) }
    }

    /// Gives up the `bytes` bytes of an item that was written and held but not linked.
    fn drop_unlinked(&mut self, at: ItemRef, bytes: usize) {
        self.give_back(at, bytes);
        self.unhold(at.segment);
    }

    fn touch_in_place(&mut self, at: ItemRef, layout: Layout, expiry: Expiry) -> Touched {
        let address = self.memory.address(at.segment, at.offset);
        header::set_expiry(&mut self.memory, address, layout, expiry);
        note_latest(&mut self.segments.at_mut(at.segment).latest_expiry, expiry);
        Touched::Done(at)
    }

    /// Replaces the number stored (memcached's `do_add_delta`), if the item has the unique `cas` or that is 0: in place
    /// when it fits and nobody holds the bytes. A longer number makes a new item, without the marks of the old one.
    pub(super) fn change_number(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        cas: u64,
        now: Now,
        change: impl FnOnce(u64) -> u64,
    ) -> Arith {
        self.prepare_link(now);
        let Some(found) = self.lookup(hash, key, now) else { return Arith::NotFound };
        let epoch = self.epoch;
        let item = self.item(found.at);
        let (flags, expiry, old_len) = (item.flags, item.expiry, item.value.len());
        if self.slabs.item_bytes(key.len(), old_len, flags != 0) > NUMBER_ITEM_MAX_BYTES {
            return Arith::NonNumeric;
        }
        if old_len > 0 && cas != 0 && item.cas != cas {
            return Arith::Exists;
        }
        let Some(value) = number::of_value(item.value) else { return Arith::NonNumeric };
        let value = change(value);
        let mut digits = [0; number::DIGITS_MAX];
        let digits_len = number::write(&mut digits, value);
        let digits = &digits[..digits_len];

        let segment = self.segments.at(found.at.segment);
        debug_assert!(matches!(segment.state, State::Open | State::Sealed));
        if digits_len <= old_len && segment.holders == 0 {
            let address = self.memory.address(found.at.segment, found.at.offset);
            let Some(layout) = Layout::read(self.memory.bytes_from(address)) else { return Arith::NotFound };
            let cas = self.new_cas();
            header::set_cas(&mut self.memory, address, cas, now.secs);
            self.segments.at_mut(found.at.segment).largest_cas = cas;
            write_padded(self.memory.bytes_mut(address + layout.value_at(), old_len), digits);
            return Arith::Value { value, cas: self.shown(cas) };
        }
        let Ok(layout) = self.check(key, digits_len.max(old_len), flags, expiry) else { return Arith::OutOfMemory };
        let new = Header { layout, key, flags, expiry };
        let Some(at) = self.write_new(hash, &new, Some(found), now) else { return Arith::OutOfMemory };
        let address = self.memory.address(at.segment, at.offset) + layout.value_at();
        write_padded(self.memory.bytes_mut(address, layout.value_len as usize), digits);
        if digits_len <= old_len {
            // As if it had been done in place: only because its bytes are held was it not.
            let old = self.memory.address(found.at.segment, found.at.offset);
            let marks =
                if self.segments.is_current(found.at) { header::marks(&self.memory, old) } else { Marks::default() };
            let new = self.memory.address(at.segment, at.offset);
            header::set_marks(&mut self.memory, new, marks);
        }
        let stored = self.link_held(hash, key, at, (Some(found), epoch), now);
        if stored.outcome == StoreOutcome::Stored {
            Arith::Value { value, cas: stored.cas }
        } else {
            Arith::OutOfMemory
        }
    }
}

/// Writes `digits` and then spaces.
fn write_padded(value: &mut [u8], digits: &[u8]) {
    let (head, tail) = value.split_at_mut(digits.len());
    head.copy_from_slice(digits);
    tail.fill(b' ');
}
