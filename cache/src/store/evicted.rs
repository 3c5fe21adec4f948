//! Items that made room for others, as they are noted for watchers.

use arrayvec::ArrayVec;

use crate::clock::Expiry;
use crate::key::KEY_MAX_BYTES;

/// An item that made room.
#[derive(Debug, Clone)]
pub(crate) struct Evicted {
    pub(crate) key: ArrayVec<u8, KEY_MAX_BYTES>,
    pub(crate) fetched: bool,
    pub(crate) expiry: Expiry,
    /// As in [`crate::Item::last_access_secs`].
    pub(crate) last_access_secs: u32,
    pub(crate) class: u8,
    pub(crate) bytes: u32,
}

/// What was noted.
#[derive(Debug, Default)]
pub(crate) struct EvictedNotes {
    pub(crate) wanted: bool,
    pub(crate) items: Vec<Evicted>,
    /// Items looked at since all that was noted was taken away.
    pub(crate) looks: usize,
}
