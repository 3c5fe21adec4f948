//! Gets: what is shown of an item, and what is done to it on the way.
//!
//! Read first: `process_mget_cmd` in memcached 1.6.45's `proto_parser.c`, whose order of steps is kept: it decides
//! which expiry is shown, and who wins the right to renew an item.

use crate::clock::{Expiry, Now};
use crate::key::Key;
use crate::operation::{Get, Outcome, Step, Steps, View};
use crate::store::header::{self, Fields, Marks};
use crate::store::item::{Hit, ItemRef, idle_secs};

use super::{Known, Shard};

/// What the steps of an operation come to.
pub(super) struct Followed {
    /// The expiry after all of them.
    pub(super) expiry: Expiry,
    /// The seconds left where they were to be shown, which wrap below 0; `None`: never, or not asked for.
    pub(super) ttl: Option<u32>,
    /// The item will be gone so soon that it is to be renewed.
    soon: bool,
}

/// Follows `steps` on an item that expires at `there`, or, where that is `None`, on one that is made for them.
pub(super) fn follow(steps: &Steps, there: Option<Expiry>, now: Now) -> Followed {
    let mut followed = Followed { expiry: there.unwrap_or(Expiry::NEVER), ttl: None, soon: false };
    for step in steps.iter() {
        let expiry = followed.expiry;
        match step {
            Step::Touch(new) => followed.expiry = new,
            Step::Vivify(new) if there.is_none() => followed.expiry = new,
            Step::Vivify(_) => {}
            Step::Recache(before) => followed.soon |= !expiry.is_never() && expiry.secs() < before.secs(),
            Step::ShowTtl => followed.ttl = (!expiry.is_never()).then(|| expiry.secs().wrapping_sub(now.secs)),
        }
    }
    followed
}

impl Shard {
    /// Finds the item, and does and shows what `get` asks for.
    #[inline]
    pub(super) fn get(&mut self, key: Key<'_>, get: &Get, now: Now) -> (Outcome, Option<ItemRef>) {
        // Most gets: of the classic protocols, which show no more than this and do nothing to the item.
        if let &Get { steps, update: true, classic: true, .. } = get
            && steps.is_empty()
        {
            let Some(known) = self.get_known(key, now, |_| true).flatten() else { return (Outcome::Missed, None) };
            let Known { found, layout, facts, .. } = known;
            let (cas, flags, len) = (self.shown(facts.cas), facts.flags, layout.value_len);
            return (Outcome::Hit(View { cas, flags, len, ..View::default() }), Some(found.at));
        }
        self.get_with_steps(key, get, now)
    }

    fn get_with_steps(&mut self, key: Key<'_>, get: &Get, now: Now) -> (Outcome, Option<ItemRef>) {
        let (touches, vivifies) = (get.steps.touch(), get.steps.vivify());
        if touches || vivifies {
            self.prepare_link(now);
        }
        let hit = match self.lookup(key, now) {
            Some(known) => Some(self.meet(key, &known, get, now)),
            None if vivifies => self.vivify(key, get, now),
            None => None,
        };
        let stats = &self.stats;
        let (tried, counted) = match (touches && (hit.is_some() || get.classic), hit.is_some()) {
            (true, true) => (&stats.cmd_touch, &stats.touch_hits),
            (true, false) => (&stats.cmd_touch, &stats.touch_misses),
            (false, true) => (&stats.cmd_get, &stats.get_hits),
            (false, false) => (&stats.cmd_get, &stats.get_misses),
        };
        tried.add(1);
        counted.add(1);
        match hit {
            Some((view, _)) if get.known == Some(view.cas) => (Outcome::Hit(View { withheld: true, ..view }), None),
            Some((view, at)) => (Outcome::Hit(view), Some(at)),
            None => (Outcome::Missed, None),
        }
    }

    /// [`Operation::GET`](crate::Operation::GET) for a caller who needs no more than flags, cas unique and value, at
    /// once. `None`, with nothing counted or marked, when there is an item and `fits` refuses its value's length.
    #[inline]
    pub(crate) fn get_if(
        &mut self,
        key: Key<'_>,
        now: Now,
        fits: impl FnOnce(usize) -> bool,
    ) -> Option<Option<Hit<'_>>> {
        let Some(Known { address, layout, facts, .. }) = self.get_known(key, now, fits)? else { return Some(None) };
        Some(Some(Hit {
            flags: facts.flags,
            cas: self.shown(facts.cas),
            value: self.memory.bytes(address + layout.value_at(), layout.value_len as usize),
        }))
    }

    /// Finds an item, counts the get and marks the item as asked for. `None`, with nothing counted or marked, when
    /// there is an item and `fits` refuses its value's length.
    #[inline]
    fn get_known(&mut self, key: Key<'_>, now: Now, fits: impl FnOnce(usize) -> bool) -> Option<Option<Known>> {
        let known = self.lookup_inlined(key, now);
        if known.is_some_and(|known| !fits(known.layout.value_len as usize)) {
            return None;
        }
        self.stats.cmd_get.add(1);
        match known {
            Some(known) => {
                self.stats.get_hits.add(1);
                self.mark_fetched(known.found.at, known.address, now);
            }
            None => self.stats.get_misses.add(1),
        }
        Some(known)
    }

    /// Does to an item that is there what `get` asks for. Returns what is shown of it, and its place afterwards.
    fn meet(&mut self, key: Key<'_>, known: &Known, get: &Get, now: Now) -> (View, ItemRef) {
        let &Known { found, address, layout, facts } = known;
        let marks = header::marks(&self.memory, address);
        let Followed { expiry, ttl, soon } = follow(&get.steps, Some(facts.expiry), now);
        let view = View {
            cas: self.shown(facts.cas),
            flags: facts.flags,
            len: layout.value_len,
            ttl,
            idle: idle_secs(header::access(&self.memory, address), now),
            fetched: marks.fetched,
            base64: marks.base64,
            stale: marks.stale,
            token_sent: marks.token_sent,
            won: !marks.token_sent && (soon || marks.stale && !get.classic),
            withheld: false,
        };
        if view.won {
            header::set_marks(&mut self.memory, address, Marks { token_sent: true, ..marks });
        }
        if get.update {
            self.mark_fetched(found.at, address, now);
        }
        // Without room for the expiry the item stays as it was: it may go sooner than asked, as any item may.
        let moved = if get.steps.touch() { self.move_expiry(key, found, expiry, now) } else { None };
        (view, moved.unwrap_or(found.at))
    }

    /// Makes an empty item, which this client is to fill. `None` when there is no room.
    fn vivify(&mut self, key: Key<'_>, get: &Get, now: Now) -> Option<(View, ItemRef)> {
        let Followed { expiry, ttl, .. } = follow(&get.steps, None, now);
        let fields = Fields { expiry, named: get.named, ..Fields::NONE };
        let (at, cas) = self.create(key, b"", fields, now)?;
        let address = self.memory.at(at);
        header::set_marks(&mut self.memory, address, Marks { token_sent: true, ..Marks::default() });
        if get.update {
            self.mark_fetched(at, address, now);
        }
        Some((View { cas, ttl, won: true, ..View::default() }, at))
    }
}
