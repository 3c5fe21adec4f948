//! `Answers`: replies that are known as soon as their command is executed and may leave at once.
//!
//! Most commands of most connections: nothing is owed to the connection, the key is this core's, the transmit ring has
//! room. Their replies are rendered here and the caller copies them to the ring when [`Session::take`] returns, so that
//! they need no entry, and a hit no pin. Everything else is owed by an entry (`entries.rs`).
//!
//! Invariant: never holds more than the room that the caller has said there is, so that all of it can leave at once.
//!
//! [`Session::take`]: crate::Session::take

use super::Core;
use super::entries::Owed;
use crate::clock::Now;
use crate::key::KeyHash;
use crate::proto::reply::{self, LINE_MAX_BYTES, Line};
use crate::shard::Shard;
use crate::stats::Counted;

/// Most bytes of replies that leave at once; as many as a transmit ring usually holds.
const ANSWERS_MAX_BYTES: usize = 8 << 10;

/// Replies that are to leave at once.
#[derive(Debug)]
pub(crate) struct Answers {
    bytes: Box<[u8; ANSWERS_MAX_BYTES]>,
    len: usize,
    /// Of `bytes`, how many may be used.
    room: usize,
}

impl Answers {
    /// None, and no room for any.
    pub(super) fn new() -> Answers {
        Answers { bytes: Box::new([0; ANSWERS_MAX_BYTES]), len: 0, room: 0 }
    }

    /// From now on at most `room` bytes of replies may leave at once. Those of before have left.
    #[inline]
    pub(crate) fn begin(&mut self, room: usize) {
        debug_assert!(self.len == 0, "replies were not sent");
        self.len = 0;
        self.room = room.min(ANSWERS_MAX_BYTES);
    }

    /// Bytes of the replies.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The replies, which leave now.
    #[inline]
    pub(super) fn take(&mut self) -> &[u8] {
        let len = std::mem::take(&mut self.len);
        &self.bytes[..len]
    }

    /// Whether any fixed line and any number fit.
    #[inline]
    pub(crate) fn takes_any_line(&self) -> bool {
        self.room - self.len >= LINE_MAX_BYTES
    }

    /// Forgets the replies: they will not leave.
    pub(crate) fn forget(&mut self) {
        self.len = 0;
    }

    fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..self.room]
    }

    /// Appends a line or a number; gives back what is neither.
    #[inline]
    pub(crate) fn put(&mut self, owed: Owed) -> Result<(), Owed> {
        let written = match owed {
            Owed::Line(line) => reply::write_line(self.free(), line),
            Owed::Number(number) => reply::write_number_line(self.free(), number),
            owed => return Err(owed),
        };
        match written {
            Some(bytes) => {
                self.len += bytes;
                Ok(())
            }
            None => Err(owed),
        }
    }
}

/// What came of a get that was to be answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// It is answered.
    Answered,
    /// There is no item; nothing was answered.
    Missed,
    /// The item is larger than the room. Nothing was counted or answered: fetch it anew.
    TooLarge,
}

impl Core {
    /// get of a key of this core, answered at once with the item, and END if `end`.
    #[inline]
    pub(crate) fn answer_get(&mut self, hash: KeyHash, key: &[u8], cas: bool, end: bool) -> Fetched {
        if self.watches_fetches() {
            // What is watched is fetched as what does not fit at once.
            return Fetched::TooLarge;
        }
        let out = &mut self.answers.bytes[self.answers.len..self.answers.room];
        let (fetched, bytes) = fetch_into(&mut self.shard, hash, key, self.now, cas, end, out);
        if fetched == Fetched::TooLarge {
            return fetched;
        }
        self.answers.len += bytes;
        self.ledger.count_prefix(self.id, key, Counted::Get { hit: fetched == Fetched::Answered });
        fetched
    }

    /// get of a key of this core, written to the front of `out` with END behind it. Returns the bytes, or `None` when
    /// there is not room for them or somebody watches fetches: then nothing was counted or written.
    #[inline]
    pub(crate) fn get_into(&mut self, hash: KeyHash, key: &[u8], cas: bool, now: Now, out: &mut [u8]) -> Option<usize> {
        if self.watches_fetches() {
            return None;
        }
        self.now = now;
        let (fetched, bytes) = fetch_into(&mut self.shard, hash, key, now, cas, true, out);
        let bytes = match fetched {
            Fetched::Answered => bytes,
            Fetched::Missed => reply::write_line(out, Line::End)?,
            Fetched::TooLarge => return None,
        };
        self.ledger.count_prefix(self.id, key, Counted::Get { hit: fetched == Fetched::Answered });
        Some(bytes)
    }
}

/// Looks `key` up and writes the item to the front of `out`, with END if `end`. Returns what came of it, and how many
/// bytes were written.
#[inline]
fn fetch_into(
    shard: &mut Shard,
    hash: KeyHash,
    key: &[u8],
    now: Now,
    cas: bool,
    end: bool,
    out: &mut [u8],
) -> (Fetched, usize) {
    let room = out.len();
    let fits = |value_len: usize| reply::HEADER_MAX_BYTES + value_len + reply::TAIL_MAX_BYTES <= room;
    match shard.get_if(hash, key, now, fits) {
        Some(Some(item)) => match reply::write_value(out, key, item.flags, cas.then_some(item.cas), item.value, end) {
            Some(bytes) => (Fetched::Answered, bytes),
            None => (Fetched::TooLarge, 0),
        },
        Some(None) => (Fetched::Missed, 0),
        None => (Fetched::TooLarge, 0),
    }
}
