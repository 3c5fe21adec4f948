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

/// What is shown of an expiry: seconds left, wrapping below 0.
pub(super) fn shown_ttl(expiry: Expiry, now: Now) -> Option<u32> {
    (!expiry.is_never()).then(|| expiry.secs().wrapping_sub(now.secs))
}

/// Follows the steps on an item that is to be made. Returns its expiry after all of them, and what is shown of it.
pub(super) fn steps_on_new(steps: &Steps, now: Now) -> (Expiry, Option<u32>) {
    let (mut expiry, mut shown) = (Expiry::NEVER, None);
    for step in steps.iter() {
        match step {
            Step::Touch(new) | Step::Vivify(new) => expiry = new,
            Step::ShowTtl => shown = shown_ttl(expiry, now),
            Step::Recache(_) => {}
        }
    }
    (expiry, shown)
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
        let mut expiry = facts.expiry;
        let mut view = View {
            cas: self.shown(facts.cas),
            flags: facts.flags,
            len: layout.value_len,
            ttl: None,
            idle: idle_secs(header::access(&self.memory, address), now),
            fetched: marks.fetched,
            base64: marks.base64,
            stale: marks.stale,
            token_sent: marks.token_sent,
            won: false,
            withheld: false,
        };
        let mut touched = None;
        for step in get.steps.iter() {
            match step {
                Step::Touch(new) => (expiry, touched) = (new, Some(new)),
                Step::Recache(before) => {
                    let soon = expiry.secs() < before.secs();
                    view.won |= soon && !expiry.is_never() && !marks.token_sent;
                }
                Step::ShowTtl => view.ttl = shown_ttl(expiry, now),
                Step::Vivify(_) => {}
            }
        }
        view.won |= marks.stale && !marks.token_sent && !get.classic;
        if view.won {
            header::set_marks(&mut self.memory, address, Marks { token_sent: true, ..marks });
        }
        if get.update {
            self.mark_fetched(found.at, address, now);
        }
        // Without room for the expiry the item stays as it was: it may go sooner than asked, as any item may.
        let moved = touched.and_then(|expiry| self.move_expiry(key, found, expiry, now));
        (view, moved.unwrap_or(found.at))
    }

    /// Makes an empty item, which this client is to fill. `None` when there is no room.
    fn vivify(&mut self, key: Key<'_>, get: &Get, now: Now) -> Option<(View, ItemRef)> {
        let (expiry, ttl) = steps_on_new(&get.steps, now);
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
