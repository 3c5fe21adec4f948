//! A get of a key of this core, written straight to where its reply leaves.

use super::Core;
use crate::clock::Now;
use crate::key::Key;
use crate::proto::sink::{Sink as _, Writer};
use crate::proto::text;

impl Core {
    /// Looks `key` up and writes the answer to `out`, which has room for a line: the item if there is one, and END if it
    /// is the `last` of its fetch. `false` when the item is larger than the room, or somebody watches fetches: nothing
    /// was counted or written.
    #[inline]
    pub(crate) fn get_at_once(&mut self, key: Key<'_>, cas: bool, last: bool, out: &mut Writer<'_>) -> bool {
        let room = out.room();
        let fits = |value_len: usize| text::ITEM_MAX_BYTES + value_len <= room;
        match self.observer.get_if(&mut self.shard, key, self.now, fits) {
            Some(Some(item)) => {
                text::value_header(key.bytes, item.flags, item.value.len() as u32, cas.then_some(item.cas), out);
                out.put(item.value);
                // The compiler knows the length of each, so that it is one or two stores.
                if last { out.put(b"\r\nEND\r\n") } else { out.put(b"\r\n") }
            }
            Some(None) if last => out.put(text::END),
            Some(None) => {}
            None => return false,
        }
        true
    }

    /// [`get_at_once`](Self::get_at_once) at `now` of the only key of a fetch, to the front of `out`. Returns the bytes.
    #[inline]
    pub(crate) fn get_whole(&mut self, key: Key<'_>, cas: bool, now: Now, out: &mut [u8]) -> Option<usize> {
        self.now = now;
        let mut out = Writer::new(out);
        let answered = out.room() >= text::ITEM_MAX_BYTES && self.get_at_once(key, cas, true, &mut out);
        answered.then(|| out.len())
    }
}
