//! Stores: values in one piece, and values that are filled piece by piece into room reserved for them.
//!
//! Read first: `protocol.txt`, "Storage commands"; the finer rules are those of memcached 1.6.45's `do_store_item`.

use arrayvec::ArrayVec;

use crate::clock::Now;
use crate::key::{KEY_MAX_BYTES, Key};
use crate::operation::{Outcome, Purpose, Store, StoreMode};
use crate::store::header::{self, Fields, Header, Layout, Marks};
use crate::store::index::Found;
use crate::store::item::{ItemRef, Reservation};

use super::{HOLDERS_MAX, Known, Shard, note_latest};

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
    pub(super) fn store(&mut self, key: Key<'_>, store: &Store, value: &[u8], now: Now) -> Outcome {
        let outcome = self.try_store(key, store, value, now);
        match outcome {
            Outcome::TooLarge | Outcome::NoMemory(_) if store.drops_old => {
                self.forget_key(key, now);
            }
            _ => {}
        }
        outcome
    }

    #[inline]
    fn try_store(&mut self, key: Key<'_>, store: &Store, value: &[u8], now: Now) -> Outcome {
        let mode = store.mode;
        let new = match self.check(key, value.len(), fields_of(store)) {
            Ok(new) => new,
            Err(outcome) => return outcome,
        };
        self.stats.cmd_set.add(1);
        self.prepare_link(now);
        let known = self.lookup_to_store(key, value.len(), now);
        let found = known.map(|known| known.found);
        let epoch = self.epoch;
        // A set, which most stores are, has nothing to decide.
        let decided =
            if mode == StoreMode::Set { Ok(Decision::Replace) } else { self.decide(store, known.as_ref(), now) };
        let (at, gap) = match decided {
            Err(outcome) => return outcome,
            Ok(Decision::Join(old)) => match self.join(key, old, value.len(), store, now) {
                Some(written) => written,
                None => return Outcome::NotStored,
            },
            Ok(Decision::ReplaceStale(old)) => match self.write_stale(old, &new, now) {
                Some(written) => written,
                None => return Outcome::NoMemory(Purpose::Store),
            },
            Ok(Decision::Replace) => {
                if let Some(known) = known
                    && self.may_overwrite(&known, &new, now)
                {
                    return self.overwrite(&known, &new, value, now);
                }
                let mut at = self.write_new(&new, found, now);
                if at.is_none() && self.evict && found.is_some() {
                    // The old value is in the way of the new one.
                    self.stats.store_no_memory.sub(1);
                    self.forget_key(key, now);
                    self.epoch.end();
                    at = self.write_new(&new, None, now);
                }
                let Some(at) = at else { return Outcome::NoMemory(Purpose::Store) };
                (at, self.memory.at(at) + new.layout.value_at())
            }
        };
        self.memory.bytes_mut(gap, value.len()).copy_from_slice(value);
        self.link_held(key, at, (found, epoch), now)
    }

    /// Takes room for an item whose value will be filled piece by piece.
    ///
    /// # Errors
    /// [`Outcome::TooLarge`] when the item is above `item_size_max`, [`Outcome::NoMemory`] when there is no room, or when
    /// reservations and pins hold three quarters of the segments, or 65,536 reservations are out. The item that is there
    /// is as before, whatever `store` says of it.
    pub fn reserve(&mut self, key: Key<'_>, store: &Store, value_len: u32, now: Now) -> Result<Reservation, Outcome> {
        let no_memory = Outcome::NoMemory(Purpose::Store);
        let new = self.check(key, value_len as usize, fields_of(store))?;
        self.advance(now);
        if self.holds.reservations == HOLDERS_MAX || self.holds.segments >= self.limit.allowed / 4 * 3 {
            self.stats.store_no_memory.add(1);
            return Err(no_memory);
        }
        let at = self.write_new(&new, None, now).ok_or(no_memory)?;
        if self.holds.segments > self.limit.allowed / 4 * 3 {
            self.drop_unlinked(at);
            self.stats.store_no_memory.add(1);
            return Err(no_memory);
        }
        self.holds.reservations += 1;
        let value_at = new.layout.value_at() as u32;
        Ok(Reservation { at, value_at, value_len, filled: 0, hash: key.hash, store: *store })
    }

    /// Appends `bytes` to the reserved value. Returns how many were taken: all, or as many as were missing.
    pub fn fill(&mut self, reservation: &mut Reservation, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(reservation.missing_bytes() as usize);
        let start = self.memory.at(reservation.at);
        let address = start + (reservation.value_at + reservation.filled) as usize;
        self.memory.bytes_mut(address, taken).copy_from_slice(&bytes[..taken]);
        reservation.filled += taken as u32;
        taken
    }

    /// Stores the reserved item as it was to be when it was reserved, as if it had come whole now. A value not filled to
    /// its end is abandoned and [`Outcome::NotStored`] answered.
    pub fn commit(&mut self, reservation: Reservation, now: Now) -> Outcome {
        self.holds.reservations -= 1;
        let Reservation { at, hash, value_at, value_len, store, .. } = reservation;
        if reservation.missing_bytes() != 0 {
            self.drop_unlinked(at);
            return Outcome::NotStored;
        }
        self.stats.cmd_set.add(1);
        let bytes = self.key_of(at);
        let key = Key { hash, bytes: &bytes };
        self.prepare_link(now);
        let known = self.lookup_to_store(key, value_len as usize, now);
        let found = known.map(|known| known.found);
        let epoch = self.epoch;
        let from = self.memory.at(at);
        let written = match self.decide(&store, known.as_ref(), now) {
            Err(outcome) => Err(outcome),
            Ok(Decision::Replace) => return self.link_held(key, at, (found, epoch), now),
            Ok(Decision::ReplaceStale(old)) => {
                // What was checked once is not refused now.
                self.check(key, value_len as usize, fields_of(&store))
                    .and_then(|new| self.write_stale(old, &new, now).ok_or(Outcome::NoMemory(Purpose::Store)))
            }
            Ok(Decision::Join(old)) => self.join(key, old, value_len as usize, &store, now).ok_or(Outcome::NotStored),
        };
        let outcome = match written {
            Ok((to, gap)) => {
                self.memory.copy(from + value_at as usize, gap, value_len as usize);
                self.link_held(key, to, (found, epoch), now)
            }
            Err(outcome) => outcome,
        };
        self.drop_unlinked(at);
        outcome
    }

    /// A copy of the key of the item at `at`.
    pub(crate) fn key_of(&self, at: ItemRef) -> ArrayVec<u8, KEY_MAX_BYTES> {
        ArrayVec::try_from(self.item(at).key).unwrap_or_default()
    }

    /// Gives a reservation's room back; the key is as before.
    pub fn abandon(&mut self, reservation: Reservation) {
        self.holds.reservations -= 1;
        self.drop_unlinked(reservation.at);
    }

    /// What a store makes of the item found (memcached's `do_store_item`).
    #[inline]
    fn decide(&mut self, store: &Store, known: Option<&Known>, now: Now) -> Result<Decision, Outcome> {
        let cas_there = known.map_or(0, |known| self.shown(known.facts.cas));
        match (store.mode, known.map(|known| known.found)) {
            (StoreMode::Set, _) | (StoreMode::Add, None) | (StoreMode::Replace, Some(_)) => Ok(Decision::Replace),
            (StoreMode::Add, Some(found)) => {
                let address = self.memory.at(found.at);
                header::set_access(&mut self.memory, address, now.secs);
                Err(Outcome::NotStored)
            }
            (StoreMode::Append | StoreMode::Prepend, Some(found)) => Ok(Decision::Join(found)),
            (StoreMode::AppendIf(cas) | StoreMode::PrependIf(cas), Some(found)) => {
                // Without uniques memcached forgets which one was asked for.
                if cas_there == cas || !self.slabs.uses_cas() {
                    Ok(Decision::Join(found))
                } else {
                    Err(Outcome::Exists)
                }
            }
            (StoreMode::Cas(_) | StoreMode::CasOrStale(_), None) => {
                self.stats.cas_misses.add(1);
                Err(Outcome::Missed)
            }
            (mode, None) if store.vivify && mode.joins() => Ok(Decision::Replace),
            (_, None) => Err(Outcome::NotStored),
            (StoreMode::Cas(cas) | StoreMode::CasOrStale(cas), Some(_)) if cas != 0 && cas_there == cas => {
                self.stats.cas_hits.add(1);
                Ok(Decision::Replace)
            }
            (StoreMode::CasOrStale(cas), Some(found)) if cas != 0 && cas < cas_there => {
                self.stats.cas_hits.add(1);
                Ok(Decision::ReplaceStale(found))
            }
            (StoreMode::Cas(_) | StoreMode::CasOrStale(_), Some(_)) => {
                self.stats.cas_badval.add(1);
                Err(Outcome::Exists)
            }
        }
    }

    /// Whether the item found can be overwritten where it is: nobody holds its bytes, the new one has the same layout
    /// and class, and it sits in the younger half of the segments. An item that is set again and again then leaves
    /// neither dead space nor an early grave.
    #[inline]
    fn may_overwrite(&self, known: &Known, new: &Header<'_>, now: Now) -> bool {
        let at = known.found.at;
        let segment = self.segments.at(at.segment);
        let age = self.segments.sequence() - segment.sequence;
        let young = !self.evict || age < (self.limit.allowed as u64) / 2;
        let class = crate::store::expiry::class_of(new.fields.expiry, now, self.ttl_classes);
        segment.holders == 0
            && young
            && !self.is_being_merged(at)
            && (class == usize::from(segment.class) || !self.evict)
            && known.layout == new.layout
    }

    /// Overwrites the item found with one of the same layout.
    #[inline]
    fn overwrite(&mut self, known: &Known, new: &Header<'_>, value: &[u8], now: Now) -> Outcome {
        let &Known { found, address, .. } = known;
        let was_fetched = header::is_fetched(&self.memory, address);
        let heat = header::heat(&self.memory, address);
        new.write(&mut self.memory, address);
        header::set_heat(&mut self.memory, address, heat);
        self.memory.bytes_mut(address + new.layout.value_at(), value.len()).copy_from_slice(value);
        let cas = self.new_cas();
        header::set_cas(&mut self.memory, address, cas, now.secs);
        let segment = self.segments.at_mut(found.at.segment);
        segment.live_unfetched += u32::from(was_fetched);
        segment.largest_cas = cas;
        note_latest(&mut segment.latest_expiry, new.fields.expiry);
        self.stats.total_items.add(1);
        let cas = self.shown(new.fields.named.unwrap_or(cas));
        Outcome::Stored { cas, len: new.layout.value_len }
    }

    /// Writes an item with the flags and expiry of the one found and room for `more` bytes beside its value, which is
    /// copied. Returns the item, held, and the address of the bytes to be filled.
    fn join(&mut self, key: Key<'_>, found: Found, more: usize, store: &Store, now: Now) -> Option<(ItemRef, usize)> {
        let item = self.item(found.at);
        let fields = Fields { flags: item.flags, expiry: item.expiry, named: store.named, ..Fields::NONE };
        let old_len = item.value.len();
        let old_at = self.memory.at(found.at);
        let old_value = old_at + Layout::read(self.memory.bytes_from(old_at))?.value_at();
        let new = self.check(key, old_len + more, fields).ok()?;
        let at = self.write_new(&new, Some(found), now)?;
        let value = self.memory.at(at) + new.layout.value_at();
        let (old_to, gap) = if store.mode.appends() { (value, value + old_len) } else { (value + more, value) };
        self.memory.copy(old_value, old_to, old_len);
        Some((at, gap))
    }

    /// Writes `new` with the expiry of the newer item found, marked as stale. Returns the item, held, and the address of
    /// its value, to be filled.
    fn write_stale(&mut self, found: Found, new: &Header<'_>, now: Now) -> Option<(ItemRef, usize)> {
        let token_sent = header::marks(&self.memory, self.memory.at(found.at)).token_sent;
        let fields = Fields { expiry: self.item(found.at).expiry, ..new.fields };
        let layout = Layout::new(new.layout.key_len, new.layout.value_len, &fields, self.wants_expiry_field());
        let at = self.write_new(&Header { layout, fields, ..*new }, Some(found), now)?;
        let address = self.memory.at(at);
        let marks = Marks { fetched: false, base64: fields.base64, stale: true, token_sent };
        header::set_marks(&mut self.memory, address, marks);
        Some((at, address + layout.value_at()))
    }
}

/// What a store says of its item.
fn fields_of(store: &Store) -> Fields {
    let &Store { flags, expiry, named, base64, .. } = store;
    Fields { flags, expiry, named, base64 }
}
