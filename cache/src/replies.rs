//! Replies on their way out.
//!
//! Most replies of most connections are known as soon as their command is executed, and may leave at once: nothing is
//! owed to the connection, the key is this core's, the output has room. They are written straight to [`Out`], so that
//! they need no entry, and a hit no pin. Everything else is owed by an entry (`core/entries.rs`).

use crate::clock::Now;
use crate::core::Core;
use crate::counters::Counted;
use crate::key::KeyHash;
use crate::proto::reply::{self, LINE_MAX_BYTES, Line};

/// Where replies are written that leave at once: the front of the caller's buffer.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Out<'a> {
    /// Nothing yet, and room for as many bytes as `bytes` has.
    #[inline]
    pub(crate) fn new(bytes: &'a mut [u8]) -> Out<'a> {
        Out { bytes, len: 0 }
    }

    /// Bytes written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether any fixed line and any number fit.
    #[inline]
    pub(crate) fn takes_any_line(&self) -> bool {
        self.bytes.len() - self.len >= LINE_MAX_BYTES
    }

    /// Forgets what was written: it will not leave.
    pub(crate) fn forget(&mut self) {
        self.len = 0;
    }

    /// Writes a line; `false` when it does not fit.
    #[inline]
    pub(crate) fn line(&mut self, line: Line) -> bool {
        let written = reply::write_line(self.free(), line);
        self.len += written.unwrap_or(0);
        written.is_some()
    }

    /// Writes a number and a line end; `false` when the longest would not fit.
    pub(crate) fn number(&mut self, number: u64) -> bool {
        let written = reply::write_number_line(self.free(), number);
        self.len += written.unwrap_or(0);
        written.is_some()
    }

    #[inline]
    fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }
}

/// What came of a get that was to be answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// So many bytes were written.
    Hit(usize),
    /// There is no item; nothing was written.
    Missed,
    /// The item is larger than the room, or somebody watches fetches. Nothing was counted or written: fetch it anew.
    NotAtOnce,
}

impl Core {
    /// get of a key of this core, answered at once with the item, and END if `end`.
    #[inline]
    pub(crate) fn answer_get(&mut self, hash: KeyHash, key: &[u8], cas: bool, end: bool, out: &mut Out<'_>) -> Fetched {
        let fetched = self.get_into(hash, key, cas, end, out.free());
        if let Fetched::Hit(bytes) = fetched {
            out.len += bytes;
        }
        fetched
    }

    /// get of one key of this core, all of its answer written to the front of `out`. Returns the bytes, or `None` when
    /// there is not room for them or somebody watches fetches: then nothing was counted or written.
    #[inline]
    pub(crate) fn get_whole(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        cas: bool,
        now: Now,
        out: &mut [u8],
    ) -> Option<usize> {
        self.now = now;
        match self.get_into(hash, key, cas, true, out) {
            Fetched::Hit(bytes) => Some(bytes),
            Fetched::Missed => reply::write_line(out, Line::End),
            Fetched::NotAtOnce => None,
        }
    }

    /// Looks `key` up and writes the item to the front of `out`, with END if `end`.
    #[inline]
    fn get_into(&mut self, hash: KeyHash, key: &[u8], cas: bool, end: bool, out: &mut [u8]) -> Fetched {
        if self.watches_fetches() {
            return Fetched::NotAtOnce;
        }
        let room = out.len();
        let fits = |value_len: usize| reply::HEADER_MAX_BYTES + value_len + reply::TAIL_MAX_BYTES <= room;
        let fetched = match self.shard.get_if(hash, key, self.now, fits) {
            Some(Some(item)) => {
                match reply::write_value(out, key, item.flags, cas.then_some(item.cas), item.value, end) {
                    Some(bytes) => Fetched::Hit(bytes),
                    None => return Fetched::NotAtOnce,
                }
            }
            Some(None) => Fetched::Missed,
            None => return Fetched::NotAtOnce,
        };
        self.shared.counters.count_prefix(self.id, key, Counted::Get { hit: fetched != Fetched::Missed });
        fetched
    }
}
