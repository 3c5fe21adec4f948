//! The sole way in for operations: each is a function of its own, with a file of its own where it is long.

use crate::clock::{Expiry, Now};
use crate::key::Key;
use crate::operation::{ItemFacts, Operation, Outcome, Purpose};
use crate::store::header;
use crate::store::item::ItemRef;

use super::{Known, Shard};

impl Shard {
    /// Does what `operation` asks of the item of `key`. `value` is that of a store, and empty for the others.
    ///
    /// Returns what came of it, and where the item of a hit is until the next operation that changes the shard. A hit
    /// shows the item as it was before, but for its place.
    #[inline]
    pub fn execute(
        &mut self,
        key: Key<'_>,
        operation: &Operation,
        value: &[u8],
        now: Now,
    ) -> (Outcome, Option<ItemRef>) {
        let outcome = match operation {
            Operation::Get(get) => return self.get(key, get, now),
            Operation::Store(store) => self.store(key, store, value, now),
            Operation::Delete(delete) => self.delete(key, delete, now),
            Operation::Count(count) => self.count(key, count, now),
            &Operation::Touch(expiry) => self.touch(key, expiry, now),
            Operation::Debug => self.debug(key, now),
        };
        (outcome, None)
    }

    /// Gives the item a new expiry; its cas unique stays. Counts a touch, and marks the item as asked for.
    fn touch(&mut self, key: Key<'_>, expiry: Expiry, now: Now) -> Outcome {
        self.stats.cmd_touch.add(1);
        self.prepare_link(now);
        let Some(Known { found, address, .. }) = self.lookup(key, now) else {
            self.stats.touch_misses.add(1);
            return Outcome::Missed;
        };
        self.stats.touch_hits.add(1);
        self.mark_fetched(found.at, address, now);
        match self.move_expiry(key, found, expiry, now) {
            Some(_) => Outcome::Touched,
            None => Outcome::NoMemory(Purpose::Change),
        }
    }

    /// Shows what is known of the item. Marks and counts nothing but an expired or flushed item met.
    fn debug(&mut self, key: Key<'_>, now: Now) -> Outcome {
        let Some(Known { found, address, .. }) = self.lookup(key, now) else { return Outcome::Missed };
        let item = self.item(found.at);
        let bytes = self.slabs.item_bytes(item.key.len(), item.value.len(), item.flags != 0);
        Outcome::Debug(ItemFacts {
            expires_in: match item.expiry.is_never() {
                true => -1,
                false => item.expiry.secs().wrapping_sub(now.secs) as i32,
            },
            idle: item.idle_secs(now),
            cas: item.cas,
            fetched: item.fetched,
            class: self.slabs.class_of(bytes) as u32 + 1,
            bytes: bytes as u32,
            base64: header::marks(&self.memory, address).base64,
        })
    }
}
