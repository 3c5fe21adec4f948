//! What replies that are on their way hold: landing slots, and the bytes of items.
//!
//! A value that does not leave at once is held: by a pin, and where no pin can be had, by a copy, as long as few bytes
//! are copied. Beyond that whoever reads slowest gives way: its pin becomes a [`Held::Loose`], which keeps nothing. It
//! goes on reading for as long as the bytes are there; its connection is reset only when the store has come to need
//! their room. So a value can always be held, nobody waits for who reads slowly, and the store goes on.
//!
//! A stream is the same for a connection of another core: its number is that of what is held.

use super::{ConnId, Core};
use crate::store::{Item, ItemRef, Loose, Pin};

/// In place of the number of something held: there is nothing.
const NOTHING_HELD: u32 = u32::MAX;

/// Pins that are taken from others for one.
const PINS_TAKEN_MAX: usize = 16;

/// The bytes of an item that somebody is reading.
#[derive(Debug)]
pub(crate) enum Held {
    /// The item's own bytes, which stay as they are.
    Pin(Pin),
    /// A copy, made because no more pins could be had.
    Copy(Box<Copied>),
    /// The item's own bytes, for as long as they are there.
    Loose(Loose),
}

/// A counted copy of an item.
#[derive(Debug)]
pub(crate) struct Copied {
    key: Box<[u8]>,
    value: Box<[u8]>,
}

/// What is read of an item that is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldItem<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> HeldItem<'a> {
    fn of(item: Item<'a>) -> HeldItem<'a> {
        HeldItem { key: item.key, value: item.value }
    }
}

impl Core {
    /// Whether `conn` may hold one more landing slot beside those it has.
    pub(crate) fn allows_slot(&self, conn: ConnId) -> bool {
        self.slots.allows(self.slots_of(conn))
    }

    /// Takes a landing slot for `conn`.
    pub(crate) fn take_slot(&mut self, conn: ConnId, key: &[u8], owner: usize) -> Option<(u32, u16)> {
        let taken = self.landing.take(key, owner)?;
        let held = &mut self.conns[conn.index()].slots;
        self.slots.take(*held as usize);
        *held += 1;
        Some(taken)
    }

    /// Gives a landing slot of `conn` back.
    pub(crate) fn return_slot(&mut self, conn: ConnId, slot: u32) {
        let held = &mut self.conns[conn.index()].slots;
        *held -= 1;
        self.slots.give_back(*held as usize);
        self.landing.put_back(slot);
    }

    /// A landing slot of `conn` waits without it for what still comes.
    pub(super) fn leave_slot(&mut self, conn: ConnId) {
        let held = &mut self.conns[conn.index()].slots;
        *held -= 1;
        self.slots.leave(*held as usize);
    }

    /// Gives a landing slot back that was left.
    pub(super) fn return_left_slot(&mut self, slot: u32) {
        self.slots.give_back_left();
        self.landing.put_back(slot);
    }

    /// Landing slots that `conn` holds.
    pub(crate) fn slots_of(&self, conn: ConnId) -> usize {
        self.conns[conn.index()].slots as usize
    }

    /// Holds the item at `at`. Returns the number by which it is [read](Self::held) and [let go of](Self::let_go).
    pub(crate) fn hold(&mut self, at: ItemRef) -> u32 {
        let held = self.pin(at).or_else(|| self.copy(at)).unwrap_or_else(|| self.take_pin_of_slowest(at));
        let gives_way = matches!(held, Held::Pin(_));
        match self.holds.insert(held, gives_way, self.now.secs) {
            Ok(hold) => hold,
            Err(held) => {
                debug_assert!(false, "more values on their way than entries and streams");
                self.give_back(held);
                NOTHING_HELD
            }
        }
    }

    fn pin(&mut self, at: ItemRef) -> Option<Held> {
        let pin = self.shard.pin(at)?;
        self.pins_out += 1;
        Some(Held::Pin(pin))
    }

    fn copy(&mut self, at: ItemRef) -> Option<Held> {
        let item = self.shard.item(at);
        let bytes = item.key.len() + item.value.len();
        // With nothing held there is nobody whose pin could be taken: a single copy may exceed the bound.
        let idle = self.pins_out == 0 && self.copied_bytes == 0;
        if !idle && self.copied_bytes + bytes > self.config.copied_bytes_max {
            return None;
        }
        let copied = Copied { key: item.key.into(), value: item.value.into() };
        self.copied_bytes += bytes;
        self.counters().copies.add(1);
        Some(Held::Copy(Box::new(copied)))
    }

    /// A pin, for which others lose theirs. Where even that does not help, because values that are being sent hold the
    /// rest, the bytes are not held.
    fn take_pin_of_slowest(&mut self, at: ItemRef) -> Held {
        self.counters().pins_short.add(1);
        for _ in 0..PINS_TAKEN_MAX {
            if !self.loosen_slowest() {
                break;
            }
            if let Some(held) = self.pin(at) {
                return held;
            }
        }
        Held::Loose(self.shard.glance(at))
    }

    /// Takes the pin of whoever reads slowest; `false` when nobody has one.
    fn loosen_slowest(&mut self) -> bool {
        let slowest = self.holds.slowest(self.now.secs, self.config.grace_secs);
        slowest.is_some_and(|(hold, _)| self.loosen(hold))
    }

    /// Takes the pin that is held under the number `hold`; `false` when there is none.
    pub(super) fn loosen(&mut self, hold: u32) -> bool {
        let Some(Held::Pin(pin)) = self.holds.get(hold) else { return false };
        let loose = Held::Loose(self.shard.glance(pin.at()));
        if let Some(Held::Pin(pin)) = self.holds.give_way(hold, loose) {
            self.counters().pins_taken.add(1);
            self.unpin(pin);
        }
        true
    }

    /// The item that is held under the number `hold`; `None` when its bytes are gone.
    pub(crate) fn held(&self, hold: u32) -> Option<HeldItem<'_>> {
        match self.holds.get(hold)? {
            Held::Pin(pin) => Some(HeldItem::of(self.shard.pinned(pin))),
            Held::Copy(copied) => Some(HeldItem { key: &copied.key, value: &copied.value }),
            Held::Loose(loose) => self.shard.loose(loose).map(HeldItem::of),
        }
    }

    /// Of what is held under the number `hold`, `bytes` more bytes have been read.
    pub(crate) fn note_read(&mut self, hold: u32, bytes: usize) {
        self.holds.note_moved(hold, bytes);
    }

    /// Gives an item back.
    pub(crate) fn let_go(&mut self, hold: u32) {
        if let Some(held) = self.holds.remove(hold) {
            self.give_back(held);
        }
    }

    fn give_back(&mut self, held: Held) {
        match held {
            Held::Pin(pin) => self.unpin(pin),
            Held::Copy(copied) => self.copied_bytes -= copied.key.len() + copied.value.len(),
            Held::Loose(_) => {}
        }
    }

    fn unpin(&mut self, pin: Pin) {
        self.pins_out -= 1;
        self.shard.unpin(pin);
    }
}
