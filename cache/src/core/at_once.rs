//! A get of a key of this core, written straight to where its reply leaves.

use super::Core;
use crate::clock::Now;
use crate::key::Key;
use crate::proto::form::{Form, TAIL_MAX_BYTES};
use crate::proto::reply::Line;
use crate::proto::sink::{Sink as _, Writer};
use crate::proto::text;

/// What came of a get that was to be answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// The item is written.
    Hit,
    /// There is no item; nothing was written.
    Missed,
    /// The item is larger than the room, or somebody watches fetches. Nothing was counted or written: fetch it anew.
    No,
}

impl Core {
    /// Looks `key` up and writes the item to `out`, with END if it is the `last` of its fetch.
    #[inline]
    pub(crate) fn get_at_once(&mut self, key: Key<'_>, cas: bool, last: bool, out: &mut Writer<'_>) -> AtOnce {
        let room = out.room();
        let fits = |value_len: usize| text::HEADER_MAX_BYTES + value_len + TAIL_MAX_BYTES <= room;
        match self.observer.get_if(&mut self.shard, key, self.now, fits) {
            Some(Some(item)) => {
                text::value_header(key.bytes, item.flags, item.value.len() as u32, cas.then_some(item.cas), out);
                out.put(item.value);
                out.put(text::value_tail(last));
                AtOnce::Hit
            }
            Some(None) => AtOnce::Missed,
            None => AtOnce::No,
        }
    }

    /// get of one key, all of its answer written to the front of `out`. Returns the bytes, or `None` when there is not
    /// room for them or somebody watches fetches: then nothing was counted or written.
    #[inline]
    pub(crate) fn get_whole(&mut self, key: Key<'_>, cas: bool, now: Now, out: &mut [u8]) -> Option<usize> {
        self.now = now;
        let mut out = Writer::new(out);
        match self.get_at_once(key, cas, true, &mut out) {
            AtOnce::Hit => {}
            AtOnce::Missed => {
                let form = Form::classic(false);
                if !form.fits(0, &out) {
                    return None;
                }
                form.write(&Line::End.into(), b"", &mut out);
            }
            AtOnce::No => return None,
        }
        Some(out.len())
    }
}
