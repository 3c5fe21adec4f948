//! Values that are being sent piece by piece into this shard, by connections of this core and of others.
//!
//! Each has room reserved in a segment from its first byte on, which is what may run short: there is a place for every
//! connection. A new one that finds no room takes that of the slowest, once that one has had some time and is slow by
//! any measure. Whoever gave way keeps its connection: the rest of its value is passed over and answered as memcached
//! answers when it has no memory for it.

use arrayvec::ArrayVec;

use super::Core;
use super::table::Pace;
use crate::key::{KEY_MAX_BYTES, Key};
use crate::operation::{Outcome, Purpose, Store};
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
    /// It gave way; so many bytes of it were still to come.
    GaveWay { missing_bytes: u32 },
}

/// How far a value has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes were taken; `whole`: they were the last.
    Open { taken: usize, whole: bool },
    /// It gave way; so many bytes of it were still to come.
    GaveWay { missing_bytes: u32 },
}

impl Core {
    /// Makes room for a value that follows. Returns its number, or why there is no room.
    pub(crate) fn begin_upload(&mut self, key: Key<'_>, store: &Store, value_len: u32) -> Result<u32, Outcome> {
        self.observer.begin_store(&mut self.shard, key, store);
        let reservation = self.reserve(key, store, value_len).inspect_err(|_| {
            // memcached drops what a set would have replaced (`process_update_command`).
            if store.drops_old {
                self.shard.forget_key(key, self.now);
            }
        })?;
        self.incoming.insert(Incoming::Open(reservation), true, self.now.secs).map_err(|incoming| {
            // More than there are connections: those of connections that are gone, of which nothing has been heard yet.
            if let Incoming::Open(reservation) = incoming {
                self.shard.abandon(reservation);
            }
            Outcome::NoMemory(Purpose::Store)
        })
    }

    /// Room in the shard, for which others give way where there is none.
    fn reserve(&mut self, key: Key<'_>, store: &Store, value_len: u32) -> Result<Reservation, Outcome> {
        let mut reserved = self.shard.reserve(key, store, value_len, self.now);
        for attempt in 0..GIVE_WAY_MAX {
            if !matches!(reserved, Err(Outcome::NoMemory(_))) {
                break;
            }
            self.counters().uploads_short.add(u64::from(attempt == 0));
            if !self.make_way() {
                break;
            }
            // That one is no failure of the command's: it is tried again.
            self.shard.stats().store_no_memory.sub(1);
            reserved = self.shard.reserve(key, store, value_len, self.now);
        }
        reserved
    }

    /// Lets the slowest value that is being sent give way, or whoever reads slowest; `false` when nobody is slow.
    fn make_way(&mut self) -> bool {
        let (now, grace) = (self.now.secs, self.config.grace_secs);
        let is_slow = |(_, pace): &(u32, Pace)| pace.is_slow(grace);
        let search = |_| self.incoming.slowest(now, grace).filter(is_slow);
        if let Some((upload, _)) = (0..SEARCHES_MAX).find_map(search) {
            self.drop_upload(upload);
            return true;
        }
        let search = |_| self.holds.slowest(now, grace).filter(is_slow);
        (0..SEARCHES_MAX).find_map(search).is_some_and(|(hold, _)| self.loosen(hold))
    }

    /// Takes the room of a value that is being sent.
    fn drop_upload(&mut self, upload: u32) {
        let Some(Incoming::Open(reservation)) = self.incoming.get(upload) else { return };
        let missing_bytes = reservation.missing_bytes();
        let gave_way = self.incoming.give_way(upload, Incoming::GaveWay { missing_bytes });
        let Some(Incoming::Open(reservation)) = gave_way else { return };
        self.counters().uploads_dropped.add(1);
        if reservation.store().drops_old {
            let bytes: ArrayVec<u8, KEY_MAX_BYTES> =
                ArrayVec::try_from(self.shard.item(reservation.at()).key).unwrap_or_default();
            self.shard.forget_key(Key { hash: reservation.hash(), bytes: &bytes }, self.now);
        }
        self.shard.abandon(reservation);
    }

    /// The next bytes of a value.
    pub(crate) fn fill_upload(&mut self, upload: u32, bytes: &[u8]) -> Filled {
        match self.incoming.get_mut(upload) {
            Some(Incoming::Open(reservation)) => {
                let taken = self.shard.fill(reservation, bytes);
                let whole = reservation.missing_bytes() == 0;
                self.incoming.note_moved(upload, taken);
                Filled::Open { taken, whole }
            }
            Some(&mut Incoming::GaveWay { missing_bytes }) => Filled::GaveWay { missing_bytes },
            None => Filled::GaveWay { missing_bytes: 0 },
        }
    }

    /// Stores a value that is whole, unless it gave way.
    pub(crate) fn commit_upload(&mut self, upload: u32) -> Outcome {
        match self.incoming.remove(upload) {
            Some(Incoming::Open(reservation)) => self.observer.commit(&mut self.shard, reservation, self.now),
            Some(Incoming::GaveWay { .. }) | None => Outcome::NoMemory(Purpose::Store),
        }
    }

    /// Gives up a value that is being sent.
    pub(crate) fn abandon_upload(&mut self, upload: u32) {
        if let Some(Incoming::Open(reservation)) = self.incoming.remove(upload) {
            self.shard.abandon(reservation);
        }
    }
}
