//! `HeldItems`: the bytes of items of which replies that are on their way are made.
//!
//! A value that does not leave at once is held: by a pin, and where no pin can be had, by a copy, as long as few bytes
//! are copied. Beyond that the reply that is read slowest gives way: its pin becomes a [`Held::Loose`], which keeps
//! nothing. It is read on for as long as the bytes are there; its connection is reset only when the store has come to
//! need their room. So a value can always be held, nobody waits for a client that reads slowly, and the store goes on.
//!
//! A stream is a value that is held for a connection of another core: its number is that of what is held.

use super::census::CoreCensus;
use super::table::{Pace, Table};
use crate::counters::CoreCounters;
use crate::settings::CacheConfig;
use crate::shard::Shard;
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

/// What is held of the items of one shard.
#[derive(Debug)]
pub(crate) struct HeldItems {
    held: Table<Held>,
    /// Of what is held, streams.
    streams: usize,
    pins: usize,
    copied_bytes: usize,
    /// [`CacheConfig::copied_bytes_max`].
    copied_bytes_max: usize,
    /// [`CacheConfig::grace_secs`].
    grace_secs: u32,
}

impl HeldItems {
    /// Nothing held, and places for `capacity` values.
    pub(crate) fn new(capacity: usize, config: &CacheConfig) -> HeldItems {
        let (copied_bytes_max, grace_secs) = (config.copied_bytes_max, config.grace_secs);
        HeldItems { held: Table::new(capacity), streams: 0, pins: 0, copied_bytes: 0, copied_bytes_max, grace_secs }
    }

    /// HeldItems the item at `at` from second `now_secs` on. Returns the number by which it is [read](Self::item) and
    /// [let go of](Self::let_go).
    pub(crate) fn hold(&mut self, shard: &mut Shard, counters: &CoreCounters, at: ItemRef, now_secs: u32) -> u32 {
        let held = self.pin(shard, at).or_else(|| self.copy(shard, counters, at));
        let held = held.unwrap_or_else(|| self.take_pin_of_slowest(shard, counters, at, now_secs));
        let gives_way = matches!(held, Held::Pin(_));
        match self.held.insert(held, gives_way, now_secs) {
            Ok(hold) => hold,
            Err(held) => {
                debug_assert!(false, "more values on their way than entries and streams");
                self.give_back(shard, held);
                NOTHING_HELD
            }
        }
    }

    fn pin(&mut self, shard: &mut Shard, at: ItemRef) -> Option<Held> {
        let pin = shard.pin(at)?;
        self.pins += 1;
        Some(Held::Pin(pin))
    }

    fn copy(&mut self, shard: &Shard, counters: &CoreCounters, at: ItemRef) -> Option<Held> {
        let item = shard.item(at);
        let bytes = item.key.len() + item.value.len();
        // When nothing is held no pin could be taken from anybody: a single copy may exceed the bound.
        let idle = self.pins == 0 && self.copied_bytes == 0;
        if !idle && self.copied_bytes + bytes > self.copied_bytes_max {
            return None;
        }
        let copied = Copied { key: item.key.into(), value: item.value.into() };
        self.copied_bytes += bytes;
        counters.copies.add(1);
        Some(Held::Copy(Box::new(copied)))
    }

    /// Takes pins from the slowest readers until one can be had. Where even that does not help, because values that are
    /// being sent hold the other segments, the bytes are read without being held.
    fn take_pin_of_slowest(&mut self, shard: &mut Shard, counters: &CoreCounters, at: ItemRef, now_secs: u32) -> Held {
        counters.pins_short.add(1);
        for _ in 0..PINS_TAKEN_MAX {
            let slowest = self.slowest(now_secs);
            if !slowest.is_some_and(|(hold, _)| self.loosen(shard, counters, hold)) {
                break;
            }
            if let Some(held) = self.pin(shard, at) {
                return held;
            }
        }
        Held::Loose(shard.glance(at))
    }

    /// The pin that gives way first, and its pace.
    pub(crate) fn slowest(&mut self, now_secs: u32) -> Option<(u32, Pace)> {
        self.held.slowest(now_secs, self.grace_secs)
    }

    /// Takes the pin that is held under the number `hold`; `false` when there is none.
    pub(crate) fn loosen(&mut self, shard: &mut Shard, counters: &CoreCounters, hold: u32) -> bool {
        let Some(Held::Pin(pin)) = self.held.get(hold) else { return false };
        let loose = Held::Loose(shard.glance(pin.at()));
        if let Some(held @ Held::Pin(_)) = self.held.give_way(hold, loose) {
            counters.pins_taken.add(1);
            self.give_back(shard, held);
        }
        true
    }

    /// The item that is held under the number `hold`; `None` when its bytes are gone.
    pub(crate) fn item<'a>(&'a self, shard: &'a Shard, hold: u32) -> Option<HeldItem<'a>> {
        match self.held.get(hold)? {
            Held::Pin(pin) => Some(HeldItem::of(shard.pinned(pin))),
            Held::Copy(copied) => Some(HeldItem { key: &copied.key, value: &copied.value }),
            Held::Loose(loose) => shard.loose(loose).map(HeldItem::of),
        }
    }

    /// Of what is held under the number `hold`, `bytes` more bytes have been read.
    pub(crate) fn note_read(&mut self, hold: u32, bytes: usize) {
        self.held.note_moved(hold, bytes);
    }

    /// Gives an item back.
    pub(crate) fn let_go(&mut self, shard: &mut Shard, hold: u32) {
        if let Some(held) = self.held.remove(hold) {
            self.give_back(shard, held);
        }
    }

    /// What was held has become a stream.
    pub(crate) fn begin_stream(&mut self) {
        self.streams += 1;
    }

    /// Gives a stream back.
    pub(crate) fn end_stream(&mut self, shard: &mut Shard, stream: u32) {
        self.streams -= 1;
        self.let_go(shard, stream);
    }

    fn give_back(&mut self, shard: &mut Shard, held: Held) {
        match held {
            Held::Pin(pin) => {
                self.pins -= 1;
                shard.unpin(pin);
            }
            Held::Copy(copied) => self.copied_bytes -= copied.key.len() + copied.value.len(),
            Held::Loose(_) => {}
        }
    }

    /// Counts what is held.
    pub(crate) fn count_into(&self, census: &mut CoreCensus) {
        census.held = self.held.len() - self.streams;
        census.streams = self.streams;
        census.pins = self.pins;
        census.copied_bytes = self.copied_bytes;
    }
}
