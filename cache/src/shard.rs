//! One core's items: the only mutator.
//!
//! First form: a map of boxed values behind the final interface, so that sessions can be built on it while the
//! segments grow.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::{Expiry, Now};
use crate::key::KeyHash;
use crate::store::census::Census;
use crate::store::config::{ConfigError, MemoryLimitError, ShardConfig};
use crate::store::item::{Item, ItemRef, Pin, Reservation};
use crate::store::outcome::{Arith, StoreError, StoreMode, StoreOutcome, Stored, Touched};
use crate::store::stats::ShardStats;

#[derive(Debug, Default)]
struct Boxed {
    key: Box<[u8]>,
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    expiry: u32,
    fetched: bool,
    access: u32,
    holders: u32,
    linked: bool,
}

/// One core's items.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    items: Vec<Boxed>,
    free: Vec<u32>,
    map: HashMap<Box<[u8]>, u32>,
    next_cas: u64,
    flush_cas: u64,
    flush_at: Option<u32>,
    pins: usize,
    reservations: usize,
    stats: Arc<ShardStats>,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: &ShardConfig) -> Result<Shard, ConfigError> {
        if config.memory_bytes / 2 < config.item_size_max as usize {
            return Err(ConfigError::ItemSizeMaxTooLarge {
                given: config.item_size_max,
                memory: config.memory_bytes,
                most: config.memory_bytes / 2,
            });
        }
        Ok(Shard {
            config: config.clone(),
            items: Vec::new(),
            free: Vec::new(),
            map: HashMap::new(),
            next_cas: 1,
            flush_cas: 0,
            flush_at: None,
            pins: 0,
            reservations: 0,
            stats: Arc::default(),
        })
    }

    /// Asks for the index lines of `hash`, to be looked up soon.
    pub fn prefetch(&self, _hash: KeyHash) {}

    /// Finds the live item of `key` and marks it fetched. Counts a get.
    pub fn get(&mut self, hash: KeyHash, key: &[u8], now: Now) -> Option<ItemRef> {
        self.stats.cmd_get.add(1);
        let Some(found) = self.peek(hash, key, now) else {
            self.stats.get_misses.add(1);
            return None;
        };
        self.stats.get_hits.add(1);
        let item = &mut self.items[found.segment as usize];
        item.fetched = true;
        item.access = now.secs;
        Some(found)
    }

    /// Finds the live item of `key` without marking or counting a get.
    pub fn peek(&mut self, _hash: KeyHash, key: &[u8], now: Now) -> Option<ItemRef> {
        self.advance(now);
        let index = *self.map.get(key)?;
        let item = &self.items[index as usize];
        if item.cas < self.flush_cas {
            self.stats.get_flushed.add(1);
        } else if Expiry::from_secs(item.expiry).has_passed(now) {
            self.stats.get_expired.add(1);
        } else {
            return Some(ItemRef { segment: index, offset: 0, generation: 0 });
        }
        self.unlink(index);
        None
    }

    /// The item found at `at`.
    pub fn item(&self, at: ItemRef) -> Item<'_> {
        let item = &self.items[at.segment as usize];
        Item {
            key: &item.key,
            value: &item.value,
            flags: item.flags,
            cas: item.cas,
            expiry: Expiry::from_secs(item.expiry),
            last_access_secs: item.access,
            fetched: item.fetched,
        }
    }

    /// Holds the item's bytes as they are until [`Shard::unpin`]. `None` when no more may be held: copy instead.
    pub fn pin(&mut self, at: ItemRef) -> Option<Pin> {
        if self.pins >= 4096 {
            self.stats.pins_refused.add(1);
            return None;
        }
        self.pins += 1;
        self.items[at.segment as usize].holders += 1;
        Some(Pin { at })
    }

    /// The item a pin holds, as it was when it was pinned.
    pub fn pinned(&self, pin: &Pin) -> Item<'_> {
        self.item(pin.at)
    }

    /// Gives a pin back.
    pub fn unpin(&mut self, pin: Pin) {
        self.pins -= 1;
        self.release(pin.at.segment);
    }

    /// Takes room for an item whose value will be filled piece by piece.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the item is above `item_size_max`; [`StoreError::OutOfMemory`] when there is no
    /// room or too much is in flight.
    pub fn reserve(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value_len: u32,
        flags: u32,
        expiry: Expiry,
        _now: Now,
    ) -> Result<Reservation, StoreError> {
        if self.item_bytes(key.len(), value_len as usize, flags) > self.config.item_size_max as usize {
            self.stats.store_too_large.add(1);
            return Err(StoreError::TooLarge);
        }
        let boxed = Boxed {
            key: key.into(),
            value: vec![0; value_len as usize],
            flags,
            expiry: expiry.secs(),
            holders: 1,
            ..Boxed::default()
        };
        let segment = self.place(boxed);
        self.reservations += 1;
        Ok(Reservation {
            at: ItemRef { segment, offset: 0, generation: 0 },
            value_offset: 0,
            value_len,
            filled: 0,
            hash,
        })
    }

    /// Appends `bytes` to the reserved value; what goes beyond its length is ignored. Returns the bytes taken.
    pub fn fill(&mut self, reservation: &mut Reservation, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(reservation.missing_bytes() as usize);
        let from = reservation.filled as usize;
        self.items[reservation.at.segment as usize].value[from..from + taken].copy_from_slice(&bytes[..taken]);
        reservation.filled += taken as u32;
        taken
    }

    /// Stores the reserved item under `mode`. Bytes never filled are unspecified.
    pub fn commit(&mut self, reservation: Reservation, mode: StoreMode, now: Now) -> Stored {
        self.reservations -= 1;
        let new = reservation.at.segment;
        self.stats.cmd_set.add(1);
        let key = self.items[new as usize].key.clone();
        let old = self.peek(reservation.hash, &key, now).map(|at| at.segment);
        let stored = match (mode, old) {
            (StoreMode::Set, _) | (StoreMode::Add, None) | (StoreMode::Replace, Some(_)) => Ok(()),
            (StoreMode::Add, Some(_)) => Err(StoreOutcome::NotStored),
            (StoreMode::Replace | StoreMode::Append | StoreMode::Prepend, None) => Err(StoreOutcome::NotStored),
            (StoreMode::Cas(_), None) => {
                self.stats.cas_misses.add(1);
                Err(StoreOutcome::NotFound)
            }
            (StoreMode::Cas(cas), Some(old)) if cas == self.items[old as usize].cas => {
                self.stats.cas_hits.add(1);
                Ok(())
            }
            (StoreMode::Cas(_), Some(_)) => {
                self.stats.cas_badval.add(1);
                Err(StoreOutcome::Exists)
            }
            (StoreMode::Append | StoreMode::Prepend, Some(old)) => {
                let (old, added) = (&self.items[old as usize], &self.items[new as usize].value);
                let value = match mode {
                    StoreMode::Append => [&old.value[..], &added[..]].concat(),
                    _ => [&added[..], &old.value[..]].concat(),
                };
                let (flags, expiry) = (old.flags, old.expiry);
                if self.item_bytes(key.len(), value.len(), flags) > self.config.item_size_max as usize {
                    Err(StoreOutcome::NotStored)
                } else {
                    let item = &mut self.items[new as usize];
                    (item.value, item.flags, item.expiry) = (value, flags, expiry);
                    Ok(())
                }
            }
        };
        let answer = match stored {
            Ok(()) => {
                if let Some(old) = old {
                    self.unlink(old);
                }
                Stored { outcome: StoreOutcome::Stored, cas: self.link(new, now) }
            }
            Err(outcome) => Stored::failed(outcome),
        };
        self.release(new);
        answer
    }

    /// Gives a reservation's room back; the key is as before.
    pub fn abandon(&mut self, reservation: Reservation) {
        self.reservations -= 1;
        self.release(reservation.at.segment);
    }

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
        let Ok(len) = u32::try_from(value.len()) else { return Stored::failed(StoreOutcome::TooLarge) };
        match self.reserve(hash, key, len, flags, expiry, now) {
            Ok(mut reservation) => {
                self.fill(&mut reservation, value);
                self.commit(reservation, mode, now)
            }
            Err(error) => Stored::failed(error.into()),
        }
    }

    /// Removes the item of `key`; `false` when there is none.
    pub fn delete(&mut self, hash: KeyHash, key: &[u8], now: Now) -> bool {
        let Some(at) = self.peek(hash, key, now) else {
            self.stats.delete_misses.add(1);
            return false;
        };
        self.stats.delete_hits.add(1);
        self.unlink(at.segment);
        true
    }

    /// Removes the item of `key` without counting a delete: memcached drops the old value when a set of a new one
    /// was refused (too large, or out of memory).
    pub fn forget_key(&mut self, hash: KeyHash, key: &[u8], now: Now) -> bool {
        let Some(at) = self.peek(hash, key, now) else { return false };
        self.unlink(at.segment);
        true
    }

    /// Adds `delta` to the number stored; wraps at 2^64.
    pub fn incr(&mut self, hash: KeyHash, key: &[u8], delta: u64, now: Now) -> Arith {
        self.arith(hash, key, now, |value| value.wrapping_add(delta))
    }

    /// Takes `delta` from the number stored; stops at 0.
    pub fn decr(&mut self, hash: KeyHash, key: &[u8], delta: u64, now: Now) -> Arith {
        self.arith(hash, key, now, |value| value.saturating_sub(delta))
    }

    fn arith(&mut self, hash: KeyHash, key: &[u8], now: Now, change: impl Fn(u64) -> u64) -> Arith {
        let Some(at) = self.peek(hash, key, now) else { return Arith::NotFound };
        let text = self.item(at).value;
        let trimmed = text.trim_ascii_end();
        let Some(value) = std::str::from_utf8(trimmed).ok().and_then(|text| text.parse::<u64>().ok()) else {
            return Arith::NonNumeric;
        };
        let value = change(value);
        let mut digits = value.to_string().into_bytes();
        digits.resize(digits.len().max(text.len()), b' ');
        let item = self.item(at);
        let (flags, expiry) = (item.flags, item.expiry);
        let stored = self.store(hash, key, &digits, flags, expiry, StoreMode::Set, now);
        if stored.outcome == StoreOutcome::Stored {
            Arith::Value { value, cas: stored.cas }
        } else {
            Arith::OutOfMemory
        }
    }

    /// Gives the item of `key` a new expiry.
    pub fn touch(&mut self, hash: KeyHash, key: &[u8], expiry: Expiry, now: Now) -> Touched {
        self.stats.cmd_touch.add(1);
        let Some(at) = self.peek(hash, key, now) else {
            self.stats.touch_misses.add(1);
            return Touched::NotFound;
        };
        self.stats.touch_hits.add(1);
        let item = &mut self.items[at.segment as usize];
        item.expiry = expiry.secs();
        item.access = now.secs;
        item.fetched = true;
        Touched::Done(at)
    }

    /// Gives the item of `key` a new expiry and finds it. Counts a touch and a get, as memcached does.
    pub fn gat(&mut self, hash: KeyHash, key: &[u8], expiry: Expiry, now: Now) -> Touched {
        self.stats.cmd_get.add(1);
        let touched = self.touch(hash, key, expiry, now);
        match touched {
            Touched::Done(_) => self.stats.get_hits.add(1),
            _ => self.stats.get_misses.add(1),
        }
        touched
    }

    /// Makes every item stored until now a miss, or with an `exptime` above 0 every item stored before that time, from
    /// that time on (`protocol.txt`, "flush_all"; the rule for the second itself is memcached 1.6.18's).
    pub fn flush_all(&mut self, exptime: i64, now: Now) {
        self.advance(now);
        self.stats.cmd_flush.add(1);
        let at = if exptime > 0 { Expiry::from_exptime(exptime, now).secs().saturating_sub(1) } else { 0 };
        self.flush_at = (at > now.secs).then_some(at);
        if at <= now.secs {
            self.flush_cas = self.next_cas;
            self.flush_at = (at == now.secs).then_some(at);
        }
    }

    /// Sets the bytes that segments, index and what is in flight may take together.
    ///
    /// # Errors
    /// [`MemoryLimitError`] when the new limit is below what is needed or above what was reserved at start.
    pub fn set_memory_limit(&mut self, bytes: usize) -> Result<(), MemoryLimitError> {
        let least = 2 * self.config.item_size_max as usize;
        if bytes < least {
            return Err(MemoryLimitError::TooSmall { given: bytes, least });
        }
        self.config.memory_bytes = bytes;
        Ok(())
    }

    /// Does up to `budget` units of the work that keeps operations short. Returns whether there is more to do.
    pub fn maintain(&mut self, now: Now, _budget: u32) -> bool {
        self.advance(now);
        false
    }

    /// The shard's counters; clone the `Arc` to read them from another thread.
    pub fn stats(&self) -> &Arc<ShardStats> {
        &self.stats
    }

    /// Counts everything held or given out. For tests: walks the segment table.
    pub fn census(&self) -> Census {
        Census { items: self.map.len(), pins: self.pins, reservations: self.reservations, ..Census::default() }
    }

    fn advance(&mut self, now: Now) {
        if let Some(at) = self.flush_at
            && now.secs >= at
        {
            self.flush_cas = self.next_cas;
            if now.secs > at {
                self.flush_at = None;
            }
        }
    }

    /// The size of an item as memcached counts it.
    fn item_bytes(&self, key_len: usize, value_len: usize, flags: u32) -> usize {
        48 + key_len + 1 + value_len + 2 + if flags != 0 { 4 } else { 0 } + if self.config.use_cas { 8 } else { 0 }
    }

    fn place(&mut self, boxed: Boxed) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.items[index as usize] = boxed;
                index
            }
            None => {
                self.items.push(boxed);
                self.items.len() as u32 - 1
            }
        }
    }

    fn link(&mut self, index: u32, now: Now) -> u64 {
        let cas = self.next_cas;
        self.next_cas += 1;
        let item = &mut self.items[index as usize];
        (item.cas, item.access, item.linked) = (cas, now.secs, true);
        item.holders += 1;
        self.map.insert(item.key.clone(), index);
        self.stats.curr_items.add(1);
        self.stats.total_items.add(1);
        cas
    }

    fn unlink(&mut self, index: u32) {
        let item = &mut self.items[index as usize];
        item.linked = false;
        self.map.remove(&item.key);
        self.stats.curr_items.sub(1);
        self.release(index);
    }

    fn release(&mut self, index: u32) {
        let item = &mut self.items[index as usize];
        item.holders -= 1;
        if item.holders == 0 {
            *item = Boxed::default();
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyHasher;

    #[test]
    fn a_value_stored_is_found_until_its_second() {
        let mut shard = Shard::new(&ShardConfig::default()).unwrap();
        let hash = KeyHasher::new([3; 16]).hash(b"k");
        let now = Now { secs: 10, unix_epoch: 0 };
        let expiry = Expiry::from_exptime(5, now);
        assert_eq!(shard.store(hash, b"k", b"v", 7, expiry, StoreMode::Set, now).outcome, StoreOutcome::Stored);
        let found = shard.get(hash, b"k", now).unwrap();
        assert_eq!((shard.item(found).value, shard.item(found).flags), (&b"v"[..], 7));
        assert_eq!(shard.get(hash, b"k", Now { secs: 15, ..now }), None);
    }
}
