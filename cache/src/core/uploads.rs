//! `Uploads`: values that are being sent piece by piece into a shard, by connections of its core and of others.
//!
//! Each has room reserved in a segment from its first byte on, which is what may run short: there is a place for every
//! connection. A new one that finds no room takes that of the slowest, once that one has had some time and is slow by
//! any measure. The connection whose value gave way stays open: the rest of the value is passed over and answered as
//! memcached answers when it has no memory for it.

use super::held::HeldItems;
use super::table::{Pace, Table};
use crate::clock::Now;
use crate::counters::CoreCounters;
use crate::key::Key;
use crate::operation::{Outcome, Purpose, Store};
use crate::settings::CacheConfig;
use crate::shard::Shard;
use crate::store::Reservation;

/// Those that give way to one.
const GIVE_WAY_MAX: usize = 32;

/// Searches for one that is slow, each of the next few that hold something, before there is none.
const SEARCHES_MAX: usize = 4;

/// A value that is being sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// It has its room.
    Open(Reservation),
    /// It gave way.
    GaveWay,
}

/// The values that are being sent to one shard.
#[derive(Debug)]
pub(crate) struct Uploads {
    incoming: Table<Incoming>,
    /// [`CacheConfig::grace_secs`].
    grace_secs: u32,
}

impl Uploads {
    /// None, and places for `capacity`.
    pub(crate) fn new(capacity: usize, config: &CacheConfig) -> Uploads {
        Uploads { incoming: Table::new(capacity), grace_secs: config.grace_secs }
    }

    /// Makes room for the value of `store`, which follows; where there is none, slow ones of these and of `holds` give
    /// way. Returns its number, or why there is no room.
    pub(crate) fn begin(
        &mut self,
        shard: &mut Shard,
        holds: &mut HeldItems,
        counters: &CoreCounters,
        (key, store, value_len): (Key<'_>, &Store, u32),
        now: Now,
    ) -> Result<u32, Outcome> {
        let mut reserved = shard.reserve(key, store, value_len, now);
        for attempt in 0..GIVE_WAY_MAX {
            if !matches!(reserved, Err(Outcome::NoMemory(_))) {
                break;
            }
            counters.uploads_short.add(u64::from(attempt == 0));
            if !self.make_way(shard, holds, counters, now) {
                break;
            }
            // The shard has counted a failure, but the command has not failed yet: it is tried again.
            shard.stats().store_no_memory.sub(1);
            reserved = shard.reserve(key, store, value_len, now);
        }
        let reservation = reserved.inspect_err(|_| {
            // memcached drops what a set would have replaced (`process_update_command`).
            if store.drops_old {
                shard.forget_key(key, now);
            }
        })?;
        self.incoming.insert(Incoming::Open(reservation), true, now.secs).map_err(|incoming| {
            // All places are taken: besides those of live connections there are values of connections that are gone,
            // whose cores have not said so yet.
            if let Incoming::Open(reservation) = incoming {
                shard.abandon(reservation);
            }
            Outcome::NoMemory(Purpose::Store)
        })
    }

    /// Lets the slowest value that is being sent give way, or the one that is read slowest; `false` when none is slow.
    fn make_way(&mut self, shard: &mut Shard, holds: &mut HeldItems, counters: &CoreCounters, now: Now) -> bool {
        let grace_secs = self.grace_secs;
        let is_slow = |(_, pace): &(u32, Pace)| pace.is_slow(grace_secs);
        let search = |_| self.incoming.slowest(now.secs, grace_secs).filter(is_slow);
        if let Some((upload, _)) = (0..SEARCHES_MAX).find_map(search) {
            self.drop_slow(shard, counters, upload, now);
            return true;
        }
        let search = |_| holds.slowest(now.secs).filter(is_slow);
        (0..SEARCHES_MAX).find_map(search).is_some_and(|(hold, _)| holds.loosen(shard, counters, hold))
    }

    /// Takes the room of a value that is being sent.
    fn drop_slow(&mut self, shard: &mut Shard, counters: &CoreCounters, upload: u32, now: Now) {
        let gave_way = self.incoming.give_way(upload, Incoming::GaveWay);
        let Some(Incoming::Open(reservation)) = gave_way else { return };
        counters.uploads_dropped.add(1);
        if reservation.store().drops_old {
            let bytes = shard.key_of(reservation.at());
            shard.forget_key(Key { hash: reservation.hash(), bytes: &bytes }, now);
        }
        shard.abandon(reservation);
    }

    /// The next bytes of a value; `false` when it gave way.
    pub(crate) fn fill(&mut self, shard: &mut Shard, upload: u32, bytes: &[u8]) -> bool {
        let Some(Incoming::Open(reservation)) = self.incoming.get_mut(upload) else { return false };
        let taken = shard.fill(reservation, bytes);
        self.incoming.note_moved(upload, taken);
        true
    }

    /// Takes a value out that is whole, to be committed; `None` when it gave way.
    pub(crate) fn finish(&mut self, upload: u32) -> Option<Reservation> {
        match self.incoming.remove(upload)? {
            Incoming::Open(reservation) => Some(reservation),
            Incoming::GaveWay => None,
        }
    }

    /// Gives up a value that is being sent.
    pub(crate) fn abandon(&mut self, shard: &mut Shard, upload: u32) {
        if let Some(reservation) = self.finish(upload) {
            shard.abandon(reservation);
        }
    }

    /// Values that are being sent, those that gave way included.
    pub(crate) fn len(&self) -> usize {
        self.incoming.len()
    }
}
