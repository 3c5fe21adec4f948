//! `TimerWheel`: one timer a flow, armed, moved, cancelled and fired in constant time.
//!
//! A hierarchy of wheels of 64 slots, a tick of 1.024 ms in the lowest. A timer lies at the level of the highest digit
//! (base 64) in which its tick differs from the present one, so its place follows from its tick and need not be stored;
//! when time reaches the start of its slot it moves to a lower level. Looking for the next due slot is one bit scan a
//! level. An idle timer costs nothing until then. Read first: Varghese and Lauck, "Hashed and hierarchical timing
//! wheels", scheme 7.

use crate::clock::Time;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Enough for any 64-bit tick.
const LEVELS: usize = 11;
/// log2 of the microseconds of a tick.
const TICK_BITS: u32 = 10;

/// Bits of a tick that an entry keeps: the rest follows from the present, since no timer lies in the past, and none so far
/// ahead (25 days).
const KEPT: u64 = (1 << 31) - 1;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// 0: not armed; else the kept bits of the tick, + 1.
    tick_plus_1: u32,
    /// Neighbours in the slot's list: 0 none, else number + 1.
    prev: u32,
    next: u32,
}

/// Timers numbered from 0, each armed at most once.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    entries: Vec<Entry>,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    now: u64,
    armed: usize,
}

impl TimerWheel {
    /// A wheel of `count` timers, none armed, at `now`.
    pub(crate) fn new(count: usize, now: Time) -> Self {
        Self {
            entries: vec![Entry::default(); count],
            heads: [[0; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            now: now.as_micros() >> TICK_BITS,
            armed: 0,
        }
    }

    /// Timers armed.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// When timer `number` is armed for, rounded up to a tick.
    pub(crate) fn armed_for(&self, number: u32) -> Option<Time> {
        let armed = self.entries[number as usize].tick_plus_1;
        (armed != 0).then(|| Time::from_micros((self.now + self.ahead(armed)) << TICK_BITS))
    }

    /// How many ticks from now a timer is due whose entry has this tick, + 1.
    #[inline]
    fn ahead(&self, tick_plus_1: u32) -> u64 {
        u64::from(tick_plus_1).wrapping_sub(1).wrapping_sub(self.now) & KEPT
    }

    /// Arms timer `number` for `at`, or for as far ahead as a timer may lie, unless it is armed for then or earlier. Returns
    /// whether anything was done.
    #[inline(always)]
    pub(crate) fn arm_no_later(&mut self, number: u32, at: Time) -> bool {
        // Mostly it is armed for earlier, which shows without a call.
        let ahead = (at.as_micros() >> TICK_BITS).saturating_sub(self.now);
        match self.entries.get(number as usize) {
            Some(entry) if entry.tick_plus_1 != 0 && self.ahead(entry.tick_plus_1) <= ahead => false,
            _ => self.arm_earlier(number, at),
        }
    }

    #[inline(never)]
    fn arm_earlier(&mut self, number: u32, at: Time) -> bool {
        let tick = at.as_micros().saturating_add((1 << TICK_BITS) - 1) >> TICK_BITS;
        let ahead = tick.saturating_sub(self.now).min(KEPT);
        let armed = self.entries[number as usize].tick_plus_1;
        if armed != 0 {
            if self.ahead(armed) <= ahead {
                return false;
            }
            self.unlink(number);
        }
        self.link(number, self.now + ahead);
        true
    }

    /// Cancels timer `number`. Returns whether it was armed.
    pub(crate) fn cancel(&mut self, number: u32) -> bool {
        let armed = self.entries[number as usize].tick_plus_1 != 0;
        if armed {
            self.unlink(number);
        }
        armed
    }

    /// Moves on to `now` and takes a timer that is due, if any.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<u32> {
        let now = (now.as_micros() >> TICK_BITS).max(self.now);
        loop {
            let Some((level, slot, start)) = self.next_slot().filter(|&(_, _, start)| start <= now) else {
                self.now = now;
                return None;
            };
            self.now = start;
            if level == 0 {
                let number = self.heads[0][slot] - 1;
                self.unlink(number);
                return Some(number);
            }
            // Time has reached this slot: its timers differ from it only in lower digits now.
            let mut next = std::mem::take(&mut self.heads[level][slot]);
            self.occupied[level] &= !(1 << slot);
            while next != 0 {
                let number = next - 1;
                let entry = self.entries[number as usize];
                next = entry.next;
                self.armed -= 1;
                self.link(number, self.now + self.ahead(entry.tick_plus_1));
            }
        }
    }

    /// No timer is due before this moment; `None` when none is armed. May be earlier than the first timer.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.next_slot().map(|(_, _, start)| Time::from_micros(start << TICK_BITS))
    }

    /// The earliest slot that holds a timer, and the tick at which it begins. Lower levels always come first.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = SLOT_BITS * level as u32;
        let above = u64::MAX.checked_shl(shift + SLOT_BITS).unwrap_or(0);
        Some((level, slot, self.now & above | (slot as u64) << shift))
    }

    /// Where a timer for `tick` lies just now.
    fn place(&self, tick: u64) -> (usize, usize) {
        let differ = (tick ^ self.now) | (SLOTS as u64 - 1);
        let level = ((u64::BITS - 1 - differ.leading_zeros()) / SLOT_BITS) as usize;
        (level, (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1))
    }

    fn link(&mut self, number: u32, tick: u64) {
        let (level, slot) = self.place(tick);
        let head = std::mem::replace(&mut self.heads[level][slot], number + 1);
        self.occupied[level] |= 1 << slot;
        self.entries[number as usize] = Entry { tick_plus_1: (tick & KEPT) as u32 + 1, prev: 0, next: head };
        if head != 0 {
            self.entries[head as usize - 1].prev = number + 1;
        }
        self.armed += 1;
    }

    fn unlink(&mut self, number: u32) {
        let entry = std::mem::take(&mut self.entries[number as usize]);
        if entry.next != 0 {
            self.entries[entry.next as usize - 1].prev = entry.prev;
        }
        if entry.prev != 0 {
            self.entries[entry.prev as usize - 1].next = entry.next;
        } else {
            let (level, slot) = self.place(self.now + self.ahead(entry.tick_plus_1));
            self.heads[level][slot] = entry.next;
            if entry.next == 0 {
                self.occupied[level] &= !(1 << slot);
            }
        }
        self.armed -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ceil_tick(at: u64) -> u64 {
        at.div_ceil(1 << TICK_BITS)
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(
            start in prop_oneof![Just(0u64), 0u64..1 << 40],
            steps in prop::collection::vec((0u8..4, 0u32..8, 0u32..40, any::<u32>()), 1..200),
        ) {
            let mut now = start;
            let mut wheel = TimerWheel::new(8, Time::from_micros(now));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (act, number, magnitude, bits) in steps {
                let span = u64::from(bits) >> (32 - magnitude.min(32)).min(31) << magnitude.saturating_sub(32);
                match act {
                    0 | 1 => {
                        let tick = ceil_tick(now + span).max(now >> TICK_BITS);
                        let earlier = model.get(&number).is_none_or(|&armed| tick < armed);
                        prop_assert_eq!(wheel.arm_no_later(number, Time::from_micros(now + span)), earlier);
                        if earlier {
                            model.insert(number, tick);
                        }
                    }
                    2 => prop_assert_eq!(wheel.cancel(number), model.remove(&number).is_some()),
                    _ => {
                        now += span;
                        let mut last = 0;
                        while let Some(fired) = wheel.pop_due(Time::from_micros(now)) {
                            let tick = model.remove(&fired).expect("fired only if armed");
                            prop_assert!(tick <= now >> TICK_BITS && tick >= last);
                            last = tick;
                        }
                        prop_assert!(model.values().all(|&tick| tick > now >> TICK_BITS));
                    }
                }
                prop_assert_eq!(wheel.armed(), model.len());
                let first = model.values().min().map(|tick| tick << TICK_BITS);
                let told = wheel.next_deadline().map(Time::as_micros);
                prop_assert_eq!(told.is_some(), first.is_some());
                prop_assert!(told <= first);
            }
        }
    }

    #[test]
    fn one_that_is_too_far_ahead_fires_after_25_days_and_takes_12_bytes_meanwhile() {
        assert_eq!(size_of::<Entry>(), 12);
        let start = 1 << 50;
        let mut wheel = TimerWheel::new(1, Time::from_micros(start));
        assert!(wheel.arm_no_later(0, Time::from_micros(start + (1 << 45))));
        let due = start + (KEPT << TICK_BITS);
        assert_eq!(wheel.armed_for(0), Some(Time::from_micros(due)));
        assert_eq!((wheel.pop_due(Time::from_micros(due - 1)), wheel.armed()), (None, 1));
        assert_eq!(wheel.pop_due(Time::from_micros(due)), Some(0));
    }

    #[test]
    fn a_timer_fires_at_its_tick_and_not_before() {
        let mut wheel = TimerWheel::new(1, Time::ZERO);
        assert!(wheel.arm_no_later(0, Time::from_millis(300_000)));
        assert_eq!(wheel.pop_due(Time::from_millis(299_998)), None);
        assert_eq!(wheel.armed_for(0).map(|at| at.as_micros() / 1_000_000), Some(300));
        assert_eq!(wheel.pop_due(Time::from_millis(300_001)), Some(0));
        assert_eq!(wheel.next_deadline(), None);
    }
}
