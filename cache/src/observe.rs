//! What watchers and `stats detail` are told of operations: all of it here, around [`Shard::execute`] and
//! [`Shard::commit`].
//!
//! With nobody to be told an operation pays two relaxed loads for it. Read first: [`crate::watch`].

use std::sync::Arc;

use crate::clock::Now;
use crate::counters::Counted;
use crate::key::Key;
use crate::operation::{Operation, Outcome, Store, StoreMode};
use crate::peers::PeerSet;
use crate::shard::Shard;
use crate::shared::Shared;
use crate::store::evicted::Evicted;
use crate::store::item::Hit;
use crate::store::{ItemRef, Reservation};
use crate::watch::{DELETIONS, EVICTIONS, FETCHERS, MUTATIONS, What};

/// One core's side of the watchers and of the prefix counts.
#[derive(Debug)]
pub(crate) struct Observer {
    core: usize,
    shared: Arc<Shared>,
    /// The number of the connection whose command is executed.
    pub(crate) speaker: u32,
    /// Cores of the watchers that have been told something.
    woken: PeerSet,
}

/// Slab class and bytes of the value of an item.
type Sizes = (u8, u32);

impl Observer {
    /// The observer of core `core`.
    pub(crate) fn new(core: usize, shared: Arc<Shared>) -> Observer {
        Observer { core, shared, speaker: 0, woken: PeerSet::default() }
    }

    /// [`Shard::execute`], and whoever wants to know is told.
    #[inline]
    pub(crate) fn execute(
        &mut self,
        shard: &mut Shard,
        key: Key<'_>,
        operation: &Operation,
        value: &[u8],
        now: Now,
    ) -> (Outcome, Option<ItemRef>) {
        let watched = self.shared.watchers.want(FETCHERS | MUTATIONS | EVICTIONS | DELETIONS);
        let there = if watched { self.before(shard, key, operation, now) } else { None };
        let done = shard.execute(key, operation, value, now);
        self.count_prefix(key, operation, &done.0);
        if watched {
            self.after(shard, key, operation, value.len() as u32, (&done.0, there), now);
        }
        done
    }

    /// [`Shard::get_if`]; when somebody watches fetches nothing is done and `None` returned, and the get is to go
    /// through [`Observer::execute`].
    #[inline]
    pub(crate) fn get_if<'a>(
        &self,
        shard: &'a mut Shard,
        key: Key<'_>,
        now: Now,
        fits: impl FnOnce(usize) -> bool,
    ) -> Option<Option<Hit<'a>>> {
        if self.shared.watchers.want(FETCHERS) {
            return None;
        }
        let found = shard.get_if(key, now, fits)?;
        self.shared.counters.count_prefix(self.core, key.bytes, Counted::Get { hit: found.is_some() });
        Some(found)
    }

    /// A store begins whose value follows piece by piece.
    pub(crate) fn begin_store(&self, shard: &mut Shard, key: Key<'_>, store: &Store) {
        if store.classic {
            self.shared.counters.count_prefix(self.core, key.bytes, Counted::Set);
        }
        self.heed_eviction_watchers(shard);
    }

    /// [`Shard::commit`], and whoever wants to know is told.
    pub(crate) fn commit(&mut self, shard: &mut Shard, reservation: Reservation, now: Now) -> Outcome {
        if !self.shared.watchers.want(FETCHERS | MUTATIONS) {
            return shard.commit(reservation, now);
        }
        let (store, bytes) = (*reservation.store(), reservation.value_len());
        let copy = shard.key_of(reservation.at());
        let key = Key { hash: reservation.hash(), bytes: &copy };
        if self.shared.watchers.want(FETCHERS) {
            self.look_up(shard, key, now);
        }
        let outcome = shard.commit(reservation, now);
        self.tell_store(shard, key, &store, bytes, &outcome, now);
        outcome
    }

    /// Tells those who want any of `kinds` what happened.
    pub(crate) fn tell(&mut self, kinds: u32, key: &[u8], what: What, now: Now) {
        let unix_secs = now.unix_epoch + u64::from(now.secs);
        let (core, woken) = (self.core, &mut self.woken);
        let (written, skipped) = self.shared.watchers.tell(core, kinds, unix_secs, key, what, |other| {
            if other != core {
                woken.insert(other);
            }
        });
        let counters = self.shared.counters.core(core);
        counters.watch_lines_written.add(written);
        counters.watch_lines_skipped.add(skipped);
    }

    /// The cores of the watchers that have been told something since it was last asked.
    pub(crate) fn take_woken(&mut self) -> PeerSet {
        std::mem::take(&mut self.woken)
    }

    /// Tells of the items that made room since it was last asked, and has the shard note them as long as somebody wants
    /// to know.
    pub(crate) fn tell_evictions(&mut self, shard: &mut Shard, now: Now) {
        let wanted = self.shared.watchers.want(EVICTIONS);
        if !wanted && !shard.has_evicted() {
            return;
        }
        shard.note_evictions(wanted);
        while let Some(Evicted { key, fetched, expiry, last_access_secs, class, bytes }) = shard.next_evicted() {
            if expiry.has_passed(now) {
                continue;
            }
            let idle_secs = now.secs.wrapping_sub(last_access_secs) & 0xff_ffff;
            let ttl = expiry.remaining_secs(now).map_or(-1, i64::from);
            self.tell(EVICTIONS, &key, What::Evict { fetched, ttl, idle_secs, class, bytes }, now);
        }
    }

    /// Before an operation that is watched. Returns the sizes of the item that is there, if somebody wants them.
    #[cold]
    fn before(&mut self, shard: &mut Shard, key: Key<'_>, operation: &Operation, now: Now) -> Option<Sizes> {
        match operation {
            Operation::Store(_) => self.heed_eviction_watchers(shard),
            Operation::Delete(_) if !self.shared.watchers.want(FETCHERS | DELETIONS) => return None,
            Operation::Delete(_) => return self.look_up(shard, key, now),
            Operation::Debug => return None,
            _ => {}
        }
        if self.shared.watchers.want(FETCHERS) { self.look_up(shard, key, now) } else { None }
    }

    /// After an operation that is watched. `there`: what [`Observer::before`] returned.
    #[cold]
    fn after(
        &mut self,
        shard: &Shard,
        key: Key<'_>,
        operation: &Operation,
        value_len: u32,
        (outcome, there): (&Outcome, Option<Sizes>),
        now: Now,
    ) {
        match (operation, outcome, there) {
            (Operation::Store(store), ..) => self.tell_store(shard, key, store, value_len, outcome, now),
            // One that leaves a stale item is not told of.
            (Operation::Delete(delete), Outcome::Deleted, Some((class, bytes)))
                if !delete.stale && self.shared.watchers.want(DELETIONS) =>
            {
                let command = if delete.classic { "delete" } else { "md" };
                let bytes = if delete.empty.is_some() { 0 } else { bytes };
                self.tell(DELETIONS, key.bytes, What::Delete { command, class, bytes }, now);
            }
            _ => {}
        }
    }

    /// Looks a key up, as memcached does before whatever it then does to the item, and tells of it. Returns the item's
    /// sizes.
    fn look_up(&mut self, shard: &mut Shard, key: Key<'_>, now: Now) -> Option<Sizes> {
        let lost = |shard: &Shard| (shard.stats().get_expired.value(), shard.stats().get_flushed.value());
        let (expired, flushed) = lost(shard);
        let found = shard.peek(key, now).map(|at| {
            let item = shard.item(at);
            (shard.class_of(item.key.len(), item.value.len(), item.flags), item.value.len() as u32)
        });
        if self.shared.watchers.want(FETCHERS) {
            let (now_expired, now_flushed) = lost(shard);
            let status = match found {
                Some(_) => "found",
                None if now_flushed > flushed => "flushed",
                None if now_expired > expired => "expired",
                None => "not_found",
            };
            let (class, bytes) = found.unwrap_or((0, 0));
            self.tell(FETCHERS, key.bytes, What::Get { status, class, cfd: self.speaker, bytes }, now);
        }
        found
    }

    /// Tells of a store.
    fn tell_store(&mut self, shard: &Shard, key: Key<'_>, store: &Store, value_len: u32, outcome: &Outcome, now: Now) {
        if !self.shared.watchers.want(MUTATIONS) {
            return;
        }
        let status = match outcome {
            Outcome::Stored { .. } => "stored",
            Outcome::Exists => "exists",
            Outcome::Missed => "not_found",
            Outcome::TooLarge => "too_large",
            Outcome::NoMemory(_) => "no_memory",
            _ => "not_stored",
        };
        let command = match store.mode {
            StoreMode::Set => "set",
            StoreMode::Add => "add",
            StoreMode::Replace => "replace",
            StoreMode::Append | StoreMode::AppendIf(_) => "append",
            StoreMode::Prepend | StoreMode::PrependIf(_) => "prepend",
            StoreMode::Cas(_) | StoreMode::CasOrStale(_) => "cas",
        };
        // What was joined is told of as it is now.
        let bytes = if let &Outcome::Stored { len, .. } = outcome { len } else { value_len };
        let class = shard.class_of(key.bytes.len(), bytes as usize, store.flags);
        let ttl = store.expiry.remaining_secs(now).unwrap_or(0);
        let what = What::Store { status, command, ttl, class, cfd: self.speaker, bytes };
        self.tell(MUTATIONS, key.bytes, what, now);
    }

    /// Has the shard note what it evicts from now on if anybody watches that. Before each store: a watcher that has
    /// been answered sees the evictions of the very next one, also on a core that has slept until it came.
    #[inline]
    fn heed_eviction_watchers(&self, shard: &mut Shard) {
        if self.shared.watchers.want(EVICTIONS) {
            shard.note_evictions(true);
        }
    }

    #[inline]
    fn count_prefix(&self, key: Key<'_>, operation: &Operation, outcome: &Outcome) {
        let counted = match operation {
            Operation::Get(get) if get.classic => Counted::Get { hit: matches!(outcome, Outcome::Hit(_)) },
            Operation::Store(store) if store.classic => Counted::Set,
            Operation::Delete(delete) if delete.classic => Counted::Delete,
            _ => return,
        };
        self.shared.counters.count_prefix(self.core, key.bytes, counted);
    }
}
