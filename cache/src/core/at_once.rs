//! A get of a key of this core, written straight to where its reply leaves.

use super::Core;
use crate::clock::Now;
use crate::counters::Counted;
use crate::key::KeyHash;
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
    pub(crate) fn get_at_once(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        cas: bool,
        last: bool,
        out: &mut Writer<'_>,
    ) -> AtOnce {
        if self.watches_fetches() {
            return AtOnce::No;
        }
        let room = out.room();
        let fits = |value_len: usize| text::HEADER_MAX_BYTES + value_len + TAIL_MAX_BYTES <= room;
        let hit = match self.shard.get_if(hash, key, self.now, fits) {
            Some(Some(item)) => {
                text::value_header(key, item.flags, item.value.len() as u32, cas.then_some(item.cas), out);
                out.put(item.value);
                out.put(text::value_tail(last));
                true
            }
            Some(None) => false,
            None => return AtOnce::No,
        };
        self.shared.counters.count_prefix(self.id, key, Counted::Get { hit });
        if hit { AtOnce::Hit } else { AtOnce::Missed }
    }

    /// get of one key, all of its answer written to the front of `out`. Returns the bytes, or `None` when there is not
    /// room for them or somebody watches fetches: then nothing was counted or written.
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
        let mut out = Writer::new(out);
        match self.get_at_once(hash, key, cas, true, &mut out) {
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
