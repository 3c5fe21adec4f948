//! Where values of other cores' items wait until their flow has room for them.
//!
//! A fixed number of slots of fixed size. A slot is taken before its request is sent and holds the key from then on;
//! the first bytes of the value land behind it. A longer value comes through the slot as through a window: when the
//! flow has sent what is there, the next bytes are pulled from the owner, whose pin holds the item meanwhile.

use cpu::Map;

use super::message::NO_STREAM;
use crate::core::share::Share;
use crate::pool::Pool;

/// What is known of the value in a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landed {
    /// The core that owns the item.
    pub(crate) owner: u16,
    /// The owner's stream with the rest of the value, or [`NO_STREAM`].
    pub(crate) stream: u32,
    /// A pull is on its way.
    pub(crate) pulling: bool,
    /// Bytes of the whole value.
    pub(crate) len: u32,
    /// The window: bytes `from..from + filled` of the value are here.
    pub(crate) from: u32,
    pub(crate) filled: u16,
    key_len: u8,
}

/// All slots of one core. The pages of those that are usually enough are there from the start; those of the others, one
/// for each connection, come when so many are taken at a time.
#[derive(Debug)]
pub(crate) struct Landing {
    slots: Pool<Landed>,
    bytes: Map,
    slot_bytes: usize,
    /// How the connections share them.
    pub(crate) share: Share,
}

impl Landing {
    /// `capacity` slots of `slot_bytes` bytes: one for each connection, and `extra` that they share; the pages of so
    /// many are there at once.
    ///
    /// # Errors
    /// The system has not so many addresses left for this process, or no memory for the first.
    pub(crate) fn new(capacity: usize, extra: usize, slot_bytes: usize) -> std::io::Result<Landing> {
        // A map cannot be empty.
        let mut bytes = Map::sparse((capacity * slot_bytes).max(1))?;
        // Zeros are pages that the kernel makes at their first use, within a turn.
        bytes[..extra.min(capacity) * slot_bytes].fill(0xff);
        Ok(Landing { slots: Pool::new(capacity, extra), bytes, slot_bytes, share: Share::new(extra) })
    }

    /// Slots to be had.
    pub(crate) fn available(&self) -> usize {
        self.slots.available()
    }

    /// Slots taken.
    pub(crate) fn in_use(&self) -> usize {
        self.slots.in_use()
    }

    /// Takes a slot for `key`, owned by core `owner`, for a connection that holds `held`. Returns the slot and the
    /// bytes of a value that it has room for.
    pub(crate) fn take(&mut self, held: &mut u16, key: &[u8], owner: usize) -> Option<(u32, u16)> {
        let taken = Landed {
            owner: owner as u16,
            stream: NO_STREAM,
            pulling: false,
            len: 0,
            from: 0,
            filled: 0,
            key_len: key.len() as u8,
        };
        let index = self.slots.take(taken).ok()?;
        let start = index as usize * self.slot_bytes;
        self.bytes[start..start + key.len()].copy_from_slice(key);
        self.share.take(usize::from(*held));
        *held += 1;
        Some((index, (self.slot_bytes - key.len()) as u16))
    }

    /// Gives a slot back of a connection that holds `held`.
    pub(crate) fn put_back(&mut self, held: &mut u16, index: u32) {
        *held -= 1;
        self.share.give_back(usize::from(*held));
        self.slots.give_back(index);
    }

    /// A connection that holds `held` slots leaves one behind, which waits without it for what still comes.
    pub(crate) fn leave(&mut self, held: &mut u16) {
        *held -= 1;
        self.share.leave(usize::from(*held));
    }

    /// Gives a slot back that was left behind.
    pub(crate) fn put_back_left(&mut self, index: u32) {
        self.share.give_back_left();
        self.slots.give_back(index);
    }

    /// What is known of the value.
    pub(crate) fn slot(&self, index: u32) -> &Landed {
        &self.slots[index]
    }

    /// What is known of the value.
    pub(crate) fn slot_mut(&mut self, index: u32) -> &mut Landed {
        &mut self.slots[index]
    }

    /// Bytes of a value that the slot has room for.
    pub(crate) fn room(&self, index: u32) -> u16 {
        (self.slot_bytes - usize::from(self.slot(index).key_len)) as u16
    }

    /// The key the slot was taken for.
    pub(crate) fn key(&self, index: u32) -> &[u8] {
        let start = index as usize * self.slot_bytes;
        &self.bytes[start..start + usize::from(self.slot(index).key_len)]
    }

    /// The bytes now in the window.
    pub(crate) fn window(&self, index: u32) -> &[u8] {
        let slot = self.slot(index);
        let start = index as usize * self.slot_bytes + usize::from(slot.key_len);
        &self.bytes[start..start + usize::from(slot.filled)]
    }

    /// Puts `bytes`, which begin at byte `from` of the value, into the window.
    pub(crate) fn fill(&mut self, index: u32, from: u32, bytes: &[u8]) {
        let room = usize::from(self.room(index));
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let slot = &mut self.slots[index];
        (slot.from, slot.filled) = (from, bytes.len() as u16);
        let start = index as usize * self.slot_bytes + usize::from(slot.key_len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KEY_MAX_BYTES;
    use crate::settings::{SLOT_BYTES_MAX, SLOT_BYTES_MIN};

    /// Half a TiB of slots: what the allocator gives must be less than the machine has, and the server ended with an
    /// abort where `-c` was large.
    #[test]
    fn slots_may_be_more_than_memory_as_long_as_few_are_used() {
        let mut landing = Landing::new(1 << 24, 1, SLOT_BYTES_MAX).expect("addresses are there");
        let (first, room) = landing.take(&mut 0, b"key", 1).expect("a slot");
        landing.fill(first, 0, &vec![b'v'; usize::from(room)]);
        assert_eq!((landing.key(first), landing.window(first).len()), (&b"key"[..], usize::from(room)));
        assert_eq!(landing.available(), (1 << 24) - 1);
    }

    /// The map ends where the last slot ends, and a slot where the next begins.
    #[test]
    fn there_are_as_many_slots_as_were_asked_for_and_none_is_written_by_another() {
        let mut landing = Landing::new(3, 1, SLOT_BYTES_MIN).expect("a small map");
        let keys: [&[u8]; 3] = [b"a", &[b'k'; KEY_MAX_BYTES], b"longer"];
        let mut held = 0;
        let taken = keys.map(|key| landing.take(&mut held, key, 1).expect("a slot"));
        assert_eq!((landing.take(&mut held, b"more", 1), landing.available(), landing.in_use()), (None, 0, 3));
        for (fill, &(slot, room)) in taken.iter().enumerate() {
            assert_eq!((landing.room(slot), usize::from(room)), (room, SLOT_BYTES_MIN - keys[fill].len()));
            landing.fill(slot, 7, &[fill as u8; SLOT_BYTES_MIN]);
        }
        for (fill, &(slot, room)) in taken.iter().enumerate() {
            assert_eq!((landing.key(slot), landing.slot(slot).from), (keys[fill], 7));
            assert_eq!(landing.window(slot), vec![fill as u8; room.into()]);
        }
        landing.put_back(&mut held, taken[1].0);
        assert_eq!((landing.available(), landing.in_use()), (1, 2));
        assert_eq!(landing.take(&mut held, b"again", 1), Some((taken[1].0, (SLOT_BYTES_MIN - 5) as u16)));
        assert_eq!(landing.take(&mut held, b"more", 1), None);
    }
}
