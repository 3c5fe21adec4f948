//! Meta commands on this core's shard, for a connection here or for another core; and what their answers become.

use super::Core;
use crate::counters::Counted as Prefixed;
use crate::key::KeyHash;
use crate::operation::Outcome;
use crate::route::batch::Half;
use crate::route::message::{Answer, Reply};
use crate::shard::meta::{Ask, Count, Removal};

impl Core {
    /// mg.
    pub(crate) fn meta_get(&mut self, hash: KeyHash, key: &[u8], ask: &Ask) -> Outcome {
        self.tell_lookup(hash, key);
        let outcome = self.shard.meta_get(hash, key, ask, self.now);
        if ask.classic_counts {
            let hit = matches!(outcome, Outcome::Hit(_));
            self.shared.counters.count_prefix(self.id, key, Prefixed::Get { hit });
        }
        outcome
    }

    /// md.
    pub(crate) fn meta_delete(&mut self, hash: KeyHash, key: &[u8], removal: &Removal) -> Outcome {
        if removal.classic_counts {
            self.shared.counters.count_prefix(self.id, key, Prefixed::Delete);
        }
        self.tell_lookup(hash, key);
        let sizes = self.about_to_delete(hash, key);
        let outcome = self.shard.meta_delete(hash, key, removal, self.now);
        if let (Outcome::Deleted, Some(sizes)) = (outcome, sizes) {
            self.tell_delete(key, sizes);
        }
        outcome
    }

    /// ma.
    pub(crate) fn meta_arith(&mut self, hash: KeyHash, key: &[u8], count: &Count) -> Outcome {
        self.tell_lookup(hash, key);
        self.shard.meta_arith(hash, key, count, self.now)
    }

    /// me.
    pub(crate) fn meta_debug(&mut self, hash: KeyHash, key: &[u8]) -> Outcome {
        self.shard.meta_debug(hash, key, self.now)
    }

    /// mg with the value, for another core.
    ///
    /// The value is copied or held before anything is done, which may move the item.
    pub(super) fn answer_meta_get(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        ask: &Ask,
        room: u16,
        replies: &mut Half<Reply>,
    ) -> Answer {
        let held = self.shard.peek(hash, key, self.now).map(|at| self.answer_fetch(at, room, replies));
        match held {
            Some(Answer::Gone) => Answer::Gone,
            Some(Answer::Hit { bytes, stream, .. }) => match self.meta_get(hash, key, ask) {
                Outcome::Hit(view) => Answer::Hit { view, bytes, stream },
                outcome => Answer::Outcome(outcome),
            },
            _ => Answer::Outcome(self.meta_get(hash, key, ask)),
        }
    }
}
