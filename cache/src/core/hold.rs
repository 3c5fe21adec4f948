//! What connections hold: landing slots, pins or copies of items, upload credits.

use super::entries::{self, Held};
use super::{ConnId, Core};
use crate::store::{ItemRef, Pin};

impl Core {
    /// Takes a landing slot for `conn`.
    pub(crate) fn take_slot(&mut self, conn: ConnId, key: &[u8], owner: usize) -> Option<(u32, u16)> {
        let taken = self.landing.take(key, owner)?;
        self.conns[conn.index()].slots += 1;
        Some(taken)
    }

    /// Gives a landing slot of `conn` back.
    pub(crate) fn return_slot(&mut self, conn: ConnId, slot: u32) {
        self.conns[conn.index()].slots -= 1;
        self.landing.put_back(slot);
    }

    /// Landing slots that `conn` holds.
    pub(crate) fn slots_of(&self, conn: ConnId) -> u32 {
        self.conns[conn.index()].slots
    }

    /// Holds the item at `at`: by a pin, else by a copy, as long as few bytes are copied; `None` when it must be
    /// waited for.
    pub(crate) fn hold(&mut self, at: ItemRef) -> Option<Held> {
        if let Some(pin) = self.shard.pin(at) {
            self.pins_out += 1;
            return Some(Held::Pin(pin));
        }
        let item = self.shard.item(at);
        let bytes = item.key.len() + item.value.len();
        // With nothing held there is nobody to wait for: a single copy may exceed the bound.
        let idle = self.pins_out == 0 && self.copied_bytes == 0;
        if !idle && self.copied_bytes + bytes > self.config.copied_bytes_max {
            self.pins_returned = 0;
            return None;
        }
        let copied =
            entries::Copied { key: item.key.into(), value: item.value.into(), flags: item.flags, cas: item.cas };
        self.copied_bytes += bytes;
        self.counters().copies.add(1);
        Some(Held::Copy(Box::new(copied)))
    }

    /// [`Core::hold`] for a reply to `conn`.
    pub(crate) fn hold_for(&mut self, conn: ConnId, at: ItemRef) -> Option<Held> {
        let held = self.hold(at)?;
        self.conns[conn.index()].held += 1;
        Some(held)
    }

    /// Gives an item of a reply to `conn` back.
    pub(crate) fn let_go_of(&mut self, conn: ConnId, held: Held) {
        self.conns[conn.index()].held -= 1;
        self.let_go(held);
    }

    /// Gives an item back.
    pub(crate) fn let_go(&mut self, held: Held) {
        self.pins_returned += 1;
        match held {
            Held::Pin(pin) => self.unpin(pin),
            Held::Copy(copied) => self.copied_bytes -= copied.key.len() + copied.value.len(),
        }
    }

    pub(super) fn unpin(&mut self, pin: Pin) {
        self.pins_out -= 1;
        self.shard.unpin(pin);
    }

    /// Takes one of `owner`'s upload credits for `conn`, after [`Core::admits`].
    pub(crate) fn take_upload_credit(&mut self, conn: ConnId, owner: usize) {
        self.upload_credits[owner] -= 1;
        self.conns[conn.index()].upload_since = self.now.secs;
        self.uploading.push_back(owner, conn);
        self.counters().uploads.add(1);
    }

    /// The connection has sent a piece of its value to `owner`: the one that has sent nothing for longest is first.
    pub(crate) fn note_upload_moved(&mut self, conn: ConnId, owner: usize) {
        self.conns[conn.index()].upload_since = self.now.secs;
        self.uploading.push_back(owner, conn);
    }

    /// The connection has sent its value to the end, or is gone.
    pub(crate) fn end_upload(&mut self, conn: ConnId) {
        self.uploading.remove(conn);
    }

    /// The owner has no more to do with the value.
    pub(crate) fn return_upload_credit(&mut self, owner: usize) {
        self.upload_credits[owner] += 1;
    }
}
