//! Counts: incr, decr and their kin. Read first: memcached 1.6.45's `do_add_delta`.

use crate::clock::Now;
use crate::key::Key;
use crate::number;
use crate::operation::{Count, Number, Outcome, Purpose};
use crate::store::header::{self, Fields, Marks};
use crate::store::segment::SegmentState;

use super::get::{Followed, follow};
use super::{Known, Shard};

/// Above this size memcached keeps an item in chunks, and no chunked item is a number.
const NUMBER_ITEM_MAX_BYTES: usize = 512 << 10;

impl Shard {
    /// Counts the number that the item is, or makes one where that is asked for.
    pub(super) fn count(&mut self, key: Key<'_>, count: &Count, now: Now) -> Outcome {
        self.prepare_link(now);
        let Some(known) = self.lookup(key, now) else { return self.count_nothing(key, count, now) };
        let old_len = known.layout.value_len as usize;
        let changed = self.change_number(key, &known, count, now);
        if matches!(changed, Ok(_) | Err(Outcome::NoMemory(_))) {
            // As in memcached, which counts before it looks for room.
            if count.up { &self.stats.incr_hits } else { &self.stats.decr_hits }.add(1);
        }
        let (value, cas) = match changed {
            Ok(changed) => changed,
            Err(outcome) => return outcome,
        };
        let Followed { expiry, ttl, .. } = follow(&count.steps, Some(known.facts.expiry), now);
        // A number that has grown lies in a new item, and memcached gives the new expiry to the old one.
        if count.steps.touch()
            && number::digits(value) <= old_len
            && let Some(Known { found, .. }) = self.lookup(key, now)
        {
            // Without room for it the expiry stays as it was.
            self.move_expiry(key, found, expiry, now);
        }
        Outcome::Number(Number { value, cas, ttl })
    }

    /// Makes the number where that is asked for; else there is nothing to count.
    fn count_nothing(&mut self, key: Key<'_>, count: &Count, now: Now) -> Outcome {
        if !count.steps.vivify() {
            if count.up { &self.stats.incr_misses } else { &self.stats.decr_misses }.add(1);
            return Outcome::Missed;
        }
        let mut digits = [0; number::DIGITS_MAX];
        let len = number::write(&mut digits, count.initial);
        let Followed { expiry, ttl, .. } = follow(&count.steps, None, now);
        let fields = Fields { expiry, named: count.named, ..Fields::NONE };
        match self.create(key, &digits[..len], fields, now) {
            Some((_, cas)) => Outcome::Number(Number { value: count.initial, cas, ttl }),
            None => Outcome::NoMemory(Purpose::Create),
        }
    }

    /// Replaces the number in the item found, if it has the version asked for: in place when the new one fits and
    /// nobody holds the bytes. A longer number makes a new item, without the marks of the old one, and, as in memcached,
    /// with the next cas unique, even where the client has named one and is shown that. Returns the new number and the
    /// cas unique that is shown, or why the number is as before.
    fn change_number(&mut self, key: Key<'_>, known: &Known, count: &Count, now: Now) -> Result<(u64, u64), Outcome> {
        let epoch = self.epoch;
        let &Known { found, address, layout: old, facts } = known;
        let (flags, expiry, old_len) = (facts.flags, facts.expiry, old.value_len as usize);
        if self.slabs.item_bytes(key.bytes.len(), old_len, flags != 0) > NUMBER_ITEM_MAX_BYTES {
            return Err(Outcome::NotANumber);
        }
        if old_len > 0 && count.cas != 0 && self.shown(facts.cas) != count.cas {
            return Err(Outcome::Exists);
        }
        let text = self.memory.bytes(address + old.value_at(), old_len);
        let number = number::of_value(text).ok_or(Outcome::NotANumber)?;
        let value = if count.up { number.wrapping_add(count.delta) } else { number.saturating_sub(count.delta) };
        let mut digits = [0; number::DIGITS_MAX];
        let digits_len = number::write(&mut digits, value);
        let digits = &digits[..digits_len];

        let segment = self.segments.at(found.at.segment);
        debug_assert!(matches!(segment.state, SegmentState::Open | SegmentState::Sealed));
        let (named, grows) = (self.may_name(count.named), digits_len > old_len);
        if !grows && segment.holders == 0 && (named.is_none() || old.has_named_field()) {
            let cas = self.new_cas();
            header::renew_cas(&mut self.memory, address, cas, named, now.secs);
            self.segments.at_mut(found.at.segment).largest_cas = cas;
            write_padded(self.memory.bytes_mut(address + old.value_at(), old_len), digits);
            return Ok((value, self.shown(named.unwrap_or(cas))));
        }
        let no_memory = Outcome::NoMemory(Purpose::Change);
        let fields = Fields { flags, expiry, named: named.filter(|_| !grows), ..Fields::NONE };
        let new = self.check(key, digits_len.max(old_len), fields).map_err(|_| no_memory)?;
        let at = self.write_new(&new, Some(found), now).ok_or(no_memory)?;
        let (address, layout) = (self.memory.at(at), new.layout);
        write_padded(self.memory.bytes_mut(address + layout.value_at(), layout.value_len as usize), digits);
        if !grows {
            // It was not done in place only because the bytes are held, or had no place for a unique that the client
            // names; the item keeps its marks all the same.
            let is_there = self.segments.is_current(found.at);
            let old = self.memory.at(found.at);
            let marks = if is_there { header::marks(&self.memory, old) } else { Marks::default() };
            header::set_marks(&mut self.memory, address, marks);
        }
        match self.link_held(key, at, (Some(found), epoch), now) {
            Outcome::Stored { cas, .. } => Ok((value, named.unwrap_or(cas))),
            _ => Err(no_memory),
        }
    }
}

/// Writes `digits` and then spaces.
fn write_padded(value: &mut [u8], digits: &[u8]) {
    let (head, tail) = value.split_at_mut(digits.len());
    head.copy_from_slice(digits);
    tail.fill(b' ');
}
