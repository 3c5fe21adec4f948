//! Meta gets and deletes against the map.

use std::collections::HashSet;

use sidestep_cache::operation::{Delete, Get, Step, Steps};
use sidestep_cache::{Expiry, Operation, Outcome};

use super::{Entry, Model};

impl Model {
    /// mg with T, N and R in any order, and t somewhere among them.
    pub(super) fn meta_get(&mut self, key: Vec<u8>) {
        let known = self.known(&key);
        let mut kinds: Vec<u64> = (0..4).map(|_| self.below(5)).collect();
        let mut seen_kinds = HashSet::new();
        kinds.retain(|&kind| kind != 4 && seen_kinds.insert(kind));
        let mut steps = Steps::NONE;
        for kind in kinds {
            let expiry = Expiry::from_exptime(self.exptime(), self.now);
            steps
                .push([Step::Touch(expiry), Step::Vivify(expiry), Step::Recache(expiry), Step::ShowTtl][kind as usize]);
        }
        let (created, mut entry) = match &known {
            Some(entry) => (false, entry.clone()),
            None => (true, Entry { stored_secs: self.now.secs, ..Entry::default() }),
        };
        let named = self.named();
        let (outcome, _) = self.execute(&key, &Operation::Get(Get { steps, named, classic: false, ..Get::CLASSIC }));
        if created && !steps.vivify() {
            assert_eq!(outcome, Outcome::Missed);
            return;
        }
        let Outcome::Hit(seen) = outcome else {
            assert!(created && self.shape.tight, "{key:?} is there and was not found");
            self.refused += 1;
            return;
        };
        let (mut won, mut ttl) = (entry.stale && !entry.token_sent, None);
        for step in steps.iter() {
            match step {
                Step::Touch(new) => entry.expiry = new.secs(),
                Step::Vivify(new) if created => (entry.expiry, won) = (new.secs(), true),
                Step::Recache(before) if !created && entry.expiry != 0 && entry.expiry < before.secs() => {
                    won |= !entry.token_sent;
                }
                Step::ShowTtl if entry.expiry != 0 => ttl = Some(entry.expiry.wrapping_sub(self.now.secs)),
                _ => {}
            }
        }
        assert_eq!((seen.won, seen.stale, seen.token_sent), (won, entry.stale, entry.token_sent), "{steps:?}");
        assert_eq!(seen.ttl, ttl, "{steps:?}");
        assert_eq!((seen.len as usize, seen.flags), (entry.value.len(), entry.flags));
        entry.token_sent |= won;
        if created {
            entry.cas = self.new_cas(seen.cas, named);
        }
        assert_eq!(seen.cas, entry.cas);
        if self.shape.tight
            && let Some(at) = self.shard.peek(self.hasher.key(&key), self.now)
        {
            // Without room for the field the old expiry stays.
            entry.expiry = self.shard.item(at).expiry.secs();
        }
        self.map.insert(key.clone(), entry);
        self.check_item(&key);
    }

    /// md with C and I.
    pub(super) fn meta_delete(&mut self, key: Vec<u8>) {
        let known = self.known(&key);
        let cas = match self.below(3) {
            0 => known.as_ref().map(|entry| entry.cas),
            1 => Some(self.below(self.largest_cas + 2)),
            _ => None,
        };
        let stale = self.below(3) > 0;
        let ttl = (self.below(2) == 0).then(|| Expiry::from_exptime(self.exptime(), self.now));
        let delete = Delete { cas, stale, expiry: ttl, named: self.named(), classic: false, ..Delete::CLASSIC };
        let (outcome, _) = self.execute(&key, &Operation::Delete(delete));
        let Some(mut entry) = known else {
            assert_eq!(outcome, Outcome::Missed);
            return;
        };
        if cas.is_some_and(|cas| cas != entry.cas) {
            assert_eq!(outcome, Outcome::Exists);
            return;
        }
        assert_eq!(outcome, Outcome::Deleted);
        self.map.remove(&key);
        if stale {
            entry.expiry = ttl.map_or(entry.expiry, Expiry::secs);
            (entry.stale, entry.token_sent, entry.stored_secs) = (true, false, self.now.secs);
            // Under a new unique, which peek shows; gone if there was no room for a copy, or at once if it has expired.
            if let Some(at) = self.shard.peek(self.hasher.key(&key), self.now) {
                entry.cas = self.new_cas(self.shard.item(at).cas, delete.named);
                self.map.insert(key.clone(), entry);
            } else {
                let expired = entry.expiry != 0 && entry.expiry <= self.now.secs;
                assert!(expired || self.shape.tight, "{key:?} is gone");
            }
        }
        self.check_item(&key);
    }
}
