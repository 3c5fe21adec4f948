//! What meta commands do to an item, and the binary protocol's commands, which are the same with fewer flags.
//!
//! Read first: `process_mget_command` and its neighbours in memcached 1.6.18's `proto_text.c`, whose order of steps is
//! kept: it decides what t shows, and who wins the right to renew an item.

use crate::clock::{Expiry, Now};
use crate::key::KeyHash;
use crate::number;
use crate::operation::{ItemFacts, Number, Outcome, Purpose, View};
use crate::store::header::{self, Header, Marks};
use crate::store::index::Found;
use crate::store::item::{ItemRef, Reservation};
use crate::store::outcome::{Arith, StoreOutcome, Touched};

use super::Shard;

/// Flags that act in the order in which they stand: T, N, R and t; 0 fills the rest.
pub type ActsInOrder = [u8; 4];

/// What an mg or a binary get asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// T, N, R and t in the order in which they stand.
    pub acts: ActsInOrder,
    /// T, if it stands in `acts`.
    pub ttl: Expiry,
    /// N, if it stands in `acts`: make an empty item when there is none, with this expiry.
    pub vivify: Expiry,
    /// R, if it stands in `acts`: who meets an item with less time left than this is to renew it.
    pub recache: Expiry,
    /// Not u: mark the item as asked for.
    pub update: bool,
    /// Counted as the classic commands are: a miss with T as a touch, and for `stats detail`. mg is not. Nor does any but
    /// mg take the right to renew an item that is stale.
    pub classic_counts: bool,
}

/// What an md or a binary delete asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Only this version of the item.
    pub cas: Option<u64>,
    /// I: mark it as stale instead.
    pub stale: bool,
    /// With I, the new expiry.
    pub ttl: Option<Expiry>,
    /// Counted as the classic commands are: another version is no miss; and for `stats detail`. md is not.
    pub classic_counts: bool,
}

/// What an ma or a binary incr asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// By how much.
    pub delta: u64,
    /// Up rather than down.
    pub increment: bool,
    /// Only this version of the item; 0 is any.
    pub cas: u64,
    /// T, N and t in the order in which they stand.
    pub acts: ActsInOrder,
    /// T, if it stands in `acts`.
    pub ttl: Expiry,
    /// N, if it stands in `acts`: where there is no item, make one with this expiry.
    pub vivify: Expiry,
    /// The number of an item made.
    pub initial: u64,
}

/// What t shows of an expiry: seconds left, wrapping below 0.
fn shown_ttl(expiry: Expiry, now: Now) -> Option<u32> {
    (!expiry.is_never()).then(|| expiry.secs().wrapping_sub(now.secs))
}

impl Shard {
    /// mg, and binary's gets and touches.
    pub fn meta_get(&mut self, hash: KeyHash, key: &[u8], ask: &Ask, now: Now) -> Outcome {
        let (touches, vivifies) = (ask.acts.contains(&b'T'), ask.acts.contains(&b'N'));
        if touches || vivifies {
            self.prepare_link(now);
        }
        let found = self.lookup(hash, key, now);
        let seen = match found {
            Some(found) => Some(self.meet(hash, key, found, ask, now)),
            None if vivifies => self.vivify(hash, key, ask, now),
            None => None,
        };
        let touches = touches && (seen.is_some() || ask.classic_counts);
        let stats = &self.stats;
        let (tried, counted) = match (touches, seen.is_some()) {
            (true, true) => (&stats.cmd_touch, &stats.touch_hits),
            (true, false) => (&stats.cmd_touch, &stats.touch_misses),
            (false, true) => (&stats.cmd_get, &stats.get_hits),
            (false, false) => (&stats.cmd_get, &stats.get_misses),
        };
        tried.add(1);
        counted.add(1);
        seen.map_or(Outcome::Missed, Outcome::Hit)
    }

    /// An item that is there.
    fn meet(&mut self, hash: KeyHash, key: &[u8], found: Found, ask: &Ask, now: Now) -> View {
        let address = self.memory.address(found.at.segment, found.at.offset);
        let marks = header::marks(&self.memory, address);
        let item = self.item(found.at);
        let mut expiry = item.expiry;
        let mut seen = View {
            cas: item.cas,
            flags: item.flags,
            len: item.value.len() as u32,
            idle: item.idle_secs(now),
            fetched: marks.fetched,
            base64: marks.base64,
            stale: marks.stale,
            token_sent: marks.token_sent,
            ..View::default()
        };
        for act in ask.acts {
            match act {
                b'T' => expiry = ask.ttl,
                b'R' => {
                    let soon = expiry.secs() < ask.recache.secs();
                    seen.won |= soon && !expiry.is_never() && !marks.token_sent;
                }
                b't' => seen.ttl = shown_ttl(expiry, now),
                _ => {}
            }
        }
        // The right to renew is mg's alone.
        seen.won |= marks.stale && !marks.token_sent && !ask.classic_counts;
        if seen.won {
            header::set_marks(&mut self.memory, address, Marks { token_sent: true, ..marks });
        }
        if ask.update {
            self.mark_fetched(found.at, now);
        }
        if ask.acts.contains(&b'T') {
            // Without room for it the item stays as it was: it may go sooner than asked, as any item may.
            let _ = self.move_expiry(hash, key, found, expiry, now);
        }
        seen
    }

    /// N: an empty item, which this client is to fill. `None` when there is no room.
    fn vivify(&mut self, hash: KeyHash, key: &[u8], ask: &Ask, now: Now) -> Option<View> {
        let (expiry, ttl) = act_on_new(&ask.acts, ask.ttl, ask.vivify, now);
        let (at, cas) = self.create(hash, key, b"", expiry, now)?;
        let address = self.memory.address(at.segment, at.offset);
        header::set_marks(&mut self.memory, address, Marks { token_sent: true, ..Marks::default() });
        if ask.update {
            self.mark_fetched(at, now);
        }
        Some(View { cas, ttl, won: true, ..View::default() })
    }

    /// Makes an item without flags where there is none.
    fn create(&mut self, hash: KeyHash, key: &[u8], value: &[u8], expiry: Expiry, now: Now) -> Option<(ItemRef, u64)> {
        let layout = self.check(key, value.len(), 0, expiry).ok()?;
        let at = self.write_new(hash, &Header { layout, key, flags: 0, expiry }, None, now)?;
        let address = self.memory.address(at.segment, at.offset) + layout.value_at();
        self.memory.bytes_mut(address, value.len()).copy_from_slice(value);
        let stored = self.link_held(hash, key, at, (None, self.epoch), now);
        (stored.outcome == StoreOutcome::Stored).then_some((at, stored.cas))
    }

    /// md, and binary's delete.
    pub fn meta_delete(&mut self, hash: KeyHash, key: &[u8], removal: &Removal, now: Now) -> Outcome {
        if removal.stale {
            self.prepare_link(now);
        }
        let Some(found) = self.lookup(hash, key, now) else {
            self.stats.delete_misses.add(1);
            return Outcome::Missed;
        };
        let item = self.item(found.at);
        if removal.cas.is_some_and(|cas| cas != item.cas) {
            if !removal.classic_counts {
                self.stats.delete_misses.add(1);
            }
            return Outcome::Exists;
        }
        if !removal.stale {
            self.stats.delete_hits.add(1);
            self.unlink(found);
            return Outcome::Deleted;
        }
        let expiry = removal.ttl.unwrap_or(item.expiry);
        self.make_stale(hash, key, found, expiry, now);
        Outcome::Deleted
    }

    /// Marks the item found as stale, under a new unique, so that the next client wins the right to renew it.
    fn make_stale(&mut self, hash: KeyHash, key: &[u8], found: Found, expiry: Expiry, now: Now) {
        // The unique of an item that a reply holds does not change: a copy takes its place.
        let copies = self.segments.at(found.at.segment).holders != 0;
        let changes = expiry != self.item(found.at).expiry;
        let moved = match (copies, changes) {
            (true, _) => self.copy_item(hash, key, found, expiry, now),
            (false, true) => match self.move_expiry(hash, key, found, expiry, now) {
                Touched::Done(at) => Some(at),
                _ => None,
            },
            (false, false) => Some(found.at),
        };
        let Some(at) = moved else {
            // No room for a copy: an item that cannot be shown as stale is gone.
            self.forget_key(hash, key, now);
            return;
        };
        let address = self.memory.address(at.segment, at.offset);
        let access = self.item(at).last_access_secs;
        let cas = self.new_cas();
        header::set_cas(&mut self.memory, address, cas, access);
        let segment = self.segments.at_mut(at.segment);
        segment.largest_cas = segment.largest_cas.max(cas);
        let marks = header::marks(&self.memory, address);
        header::set_marks(&mut self.memory, address, Marks { stale: true, token_sent: false, ..marks });
    }

    /// ma, and binary's incr and decr.
    pub fn meta_arith(&mut self, hash: KeyHash, key: &[u8], count: &Count, now: Now) -> Outcome {
        let &Count { delta, increment, cas, ref acts, ttl, vivify, initial } = count;
        let before =
            self.lookup(hash, key, now).map(|found| (self.item(found.at).expiry, self.item(found.at).value.len()));
        let change = |value: u64| if increment { value.wrapping_add(delta) } else { value.saturating_sub(delta) };
        let arith = self.change_number(hash, key, cas, now, change);
        match (arith, before) {
            (Arith::Value { value, cas }, Some((mut expiry, old_len))) => {
                if increment { &self.stats.incr_hits } else { &self.stats.decr_hits }.add(1);
                let mut shown = None;
                for &act in acts {
                    match act {
                        b'T' => expiry = ttl,
                        b't' => shown = shown_ttl(expiry, now),
                        _ => {}
                    }
                }
                // A number that has grown lies in a new item, and memcached gives the new expiry to the old one.
                let grown = number::digits(value) > old_len;
                if acts.contains(&b'T')
                    && !grown
                    && let Some(found) = self.lookup(hash, key, now)
                {
                    let _ = self.move_expiry(hash, key, found, expiry, now);
                }
                Outcome::Number(Number { value, cas, created: false, ttl: shown })
            }
            (Arith::NotFound, _) => {
                if !acts.contains(&b'N') {
                    if increment { &self.stats.incr_misses } else { &self.stats.decr_misses }.add(1);
                    return Outcome::Missed;
                }
                let mut digits = [0; number::DIGITS_MAX];
                let len = number::write(&mut digits, initial);
                let (expiry, ttl) = act_on_new(acts, ttl, vivify, now);
                match self.create(hash, key, &digits[..len], expiry, now) {
                    Some((_, cas)) => Outcome::Number(Number { value: initial, cas, created: true, ttl }),
                    None => Outcome::NoMemory(Purpose::Create),
                }
            }
            (Arith::Exists, _) => Outcome::Exists,
            (Arith::NonNumeric, _) => Outcome::NotANumber,
            _ => {
                // As in memcached, which counts before it looks for room.
                if increment { &self.stats.incr_hits } else { &self.stats.decr_hits }.add(1);
                Outcome::NoMemory(Purpose::Change)
            }
        }
    }

    /// me: marks and counts nothing but an expired or flushed item met.
    pub fn meta_debug(&mut self, hash: KeyHash, key: &[u8], now: Now) -> Outcome {
        let Some(found) = self.lookup(hash, key, now) else { return Outcome::Missed };
        let item = self.item(found.at);
        let bytes = self.slabs.item_bytes(item.key.len(), item.value.len(), item.flags != 0);
        Outcome::Debug(ItemFacts {
            expired_for: match item.expiry.is_never() {
                true => -1,
                false => now.secs.wrapping_sub(item.expiry.secs()) as i32,
            },
            idle: item.idle_secs(now),
            cas: item.cas,
            fetched: item.fetched,
            class: self.slabs.class_of(bytes) as u32 + 1,
            bytes: bytes as u32,
            base64: header::marks(&self.memory, self.memory.address(found.at.segment, found.at.offset)).base64,
        })
    }

    /// Notes of the item of `key` that its key was sent as base64.
    pub fn note_base64(&mut self, hash: KeyHash, key: &[u8]) {
        if let Some(found) = self.index.find(&self.memory, &self.segments, hash, key) {
            self.note_base64_at(found.at);
        }
    }

    /// Notes the same of an item that is still to be filled.
    pub fn note_base64_reserved(&mut self, reservation: &Reservation) {
        self.note_base64_at(reservation.at);
    }

    fn note_base64_at(&mut self, at: ItemRef) {
        let address = self.memory.address(at.segment, at.offset);
        let marks = header::marks(&self.memory, address);
        header::set_marks(&mut self.memory, address, Marks { base64: true, ..marks });
    }
}

/// Follows T, N and t on an item that was just made; returns its expiry after all of them, and what t shows.
fn act_on_new(acts: &ActsInOrder, ttl: Expiry, vivify: Expiry, now: Now) -> (Expiry, Option<u32>) {
    let (mut expiry, mut shown) = (Expiry::NEVER, None);
    for act in acts {
        match act {
            b'T' => expiry = ttl,
            b'N' => expiry = vivify,
            b't' => shown = shown_ttl(expiry, now),
            _ => {}
        }
    }
    (expiry, shown)
}
