//! An item's bytes in its segment.
//!
//! ```text
//!  0        1      2                        9              12
//! | key len | bits | cas 52 b | heat 4 b  | access (3 B) | value len (2 or 4 B) | expiry 4? | flags 4? | key | value | named 8? |
//! ```
//!
//! Little-endian, unaligned, no padding: 14 bytes beside key and value for an item without expiry and flags whose value
//! is shorter than 64 KiB. A bit says which of the optional fields are there. The cas has 52 bits: at ten million
//! stores a second to one shard it repeats after 14 years. It says in which order items were stored, and clients are
//! shown it as the cas unique; but where a client has named one of its own, that one, of 64 bits, follows the value, and
//! is shown instead. The heat counts how often the item is asked for, decaying:
//! `shard/merge.rs` says how. The last access is [`crate::Now::secs`] modulo 2^24.

use crate::clock::Expiry;
use crate::key::Key;
use crate::store::item::Item;
use crate::store::memory::Memory;

const WIDE: u8 = 1;
const EXPIRY: u8 = 2;
const FLAGS: u8 = 4;
const FETCHED: u8 = 8;
const BASE64: u8 = 16;
const STALE: u8 = 32;
const TOKEN_SENT: u8 = 64;
const NAMED: u8 = 128;
const MARKS: u8 = FETCHED | BASE64 | STALE | TOKEN_SENT;

/// Bytes before the value's length.
const FIXED_BYTES: usize = 12;

/// Bytes of a cas unique that a client has named.
const NAMED_BYTES: usize = 8;

/// Where the key begins, by which of the optional fields are there ([`WIDE`], [`EXPIRY`], [`FLAGS`]).
const KEY_AT: [usize; 8] = [14, 16, 18, 20, 18, 20, 22, 24];

/// Largest cas unique that a header holds.
pub(crate) const CAS_MAX: u64 = (1 << 52) - 1;

/// Largest heat that a header holds.
pub(crate) const HEAT_MAX: u8 = 15;

/// How much hotter an item gets each time it is asked for.
pub(crate) const HEAT_PER_HIT: u8 = 4;

/// The byte whose upper half is the heat and whose lower half ends the cas.
const HEAT_AT: usize = 8;

/// Seconds of last access that a header tells apart.
const ACCESS_MASK: u32 = (1 << 24) - 1;

/// Which fields an item has and how long they are; enough to find each one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    bits: u8,
    pub(crate) key_len: u8,
    pub(crate) value_len: u32,
}

impl Layout {
    /// The layout of an item to be written. `expiry_field` asks for the field even when the item never expires.
    #[inline]
    pub(crate) fn new(key_len: u8, value_len: u32, fields: &Fields, expiry_field: bool) -> Layout {
        let &Fields { flags, expiry, named, .. } = fields;
        let mut bits = if named.is_some() { NAMED } else { 0 };
        if value_len > u32::from(u16::MAX) {
            bits |= WIDE;
        }
        if expiry_field || !expiry.is_never() {
            bits |= EXPIRY;
        }
        if flags != 0 {
            bits |= FLAGS;
        }
        Layout { bits, key_len, value_len }
    }

    /// The layout of the item at the start of `bytes`; `None` when it would reach beyond them.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Option<Layout> {
        // One check for the fields of every item.
        let &[key_len, bits, .., low, high] = bytes.first_chunk::<{ FIXED_BYTES + 2 }>()?;
        let value_len = if bits & WIDE != 0 {
            u32::from_le_bytes(*bytes.get(FIXED_BYTES..)?.first_chunk::<4>()?)
        } else {
            u32::from(u16::from_le_bytes([low, high]))
        };
        let layout = Layout { bits: bits & (WIDE | EXPIRY | FLAGS | NAMED), key_len, value_len };
        (layout.total() <= bytes.len()).then_some(layout)
    }

    #[inline]
    fn expiry_at(&self) -> usize {
        FIXED_BYTES + if self.bits & WIDE != 0 { 4 } else { 2 }
    }

    #[inline]
    fn flags_at(&self) -> usize {
        self.expiry_at() + if self.bits & EXPIRY != 0 { 4 } else { 0 }
    }

    #[inline]
    fn key_at(&self) -> usize {
        KEY_AT[usize::from(self.bits & (WIDE | EXPIRY | FLAGS))]
    }

    /// Where the value begins, from the item's first byte.
    #[inline]
    pub(crate) fn value_at(&self) -> usize {
        self.key_at() + usize::from(self.key_len)
    }

    /// Bytes of the whole item.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.named_at() + if self.has_named_field() { NAMED_BYTES } else { 0 }
    }

    #[inline]
    fn named_at(&self) -> usize {
        self.value_at() + self.value_len as usize
    }

    /// Whether the item has a place for an expiry.
    #[inline]
    pub(crate) fn has_expiry_field(&self) -> bool {
        self.bits & EXPIRY != 0
    }

    /// Whether the item has a place for a cas unique that a client has named.
    #[inline]
    pub(crate) fn has_named_field(&self) -> bool {
        self.bits & NAMED != 0
    }

    /// Whether the item has client flags other than 0.
    #[inline]
    pub(crate) fn has_flags(&self) -> bool {
        self.bits & FLAGS != 0
    }
}

/// What a client says of an item beside key and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) flags: u32,
    pub(crate) expiry: Expiry,
    /// The cas unique that it has named.
    pub(crate) named: Option<u64>,
    /// The key was sent as base64.
    pub(crate) base64: bool,
}

impl Fields {
    /// Nothing: no flags, no expiry.
    pub(crate) const NONE: Fields = Fields { flags: 0, expiry: Expiry::NEVER, named: None, base64: false };
}

/// Everything of an item to be written but its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) layout: Layout,
    pub(crate) key: Key<'a>,
    pub(crate) fields: Fields,
}

impl Header<'_> {
    /// Writes the header and the key at `address`, with no cas but a named one, not fetched, cold.
    #[inline]
    pub(crate) fn write(&self, memory: &mut Memory, address: usize) {
        let Header { layout, key, fields: Fields { flags, expiry, named, base64 } } = *self;
        if let Some(named) = named {
            memory.bytes_mut(address + layout.named_at(), NAMED_BYTES).copy_from_slice(&named.to_le_bytes());
        }
        let bytes = memory.bytes_mut(address, layout.value_at());
        let mut fixed = [0; FIXED_BYTES];
        (fixed[0], fixed[1]) = (layout.key_len, layout.bits | if base64 { BASE64 } else { 0 });
        bytes[..FIXED_BYTES].copy_from_slice(&fixed);
        // Lengths that the compiler knows, so that each is one store and no call.
        let len = layout.value_len.to_le_bytes();
        if layout.bits & WIDE != 0 {
            bytes[FIXED_BYTES..FIXED_BYTES + 4].copy_from_slice(&len);
        } else {
            bytes[FIXED_BYTES..FIXED_BYTES + 2].copy_from_slice(&len[..2]);
        }
        if layout.has_expiry_field() {
            let expiry_at = layout.expiry_at();
            bytes[expiry_at..expiry_at + 4].copy_from_slice(&expiry.secs().to_le_bytes());
        }
        if layout.has_flags() {
            let flags_at = layout.flags_at();
            bytes[flags_at..flags_at + 4].copy_from_slice(&flags.to_le_bytes());
        }
        bytes[layout.key_at()..].copy_from_slice(key.bytes);
    }
}

/// The layout of the item at `address`, if `key` is its key.
#[inline]
pub(crate) fn layout_if_key(memory: &Memory, address: usize, key: &[u8]) -> Option<Layout> {
    let bytes = memory.get_from(address)?;
    let layout = Layout::read(bytes)?;
    (bytes.get(layout.key_at()..layout.value_at()) == Some(key)).then_some(layout)
}

/// What a header says beside the lengths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) flags: u32,
    /// In which order the item was stored.
    pub(crate) unique: u64,
    /// The cas unique that clients are shown: the same, or one that a client has named.
    pub(crate) cas: u64,
    pub(crate) expiry: Expiry,
}

impl Facts {
    /// Those of the item at the start of `bytes`, whose layout is `layout`.
    #[inline]
    pub(crate) fn read(bytes: &[u8], layout: Layout) -> Facts {
        let field =
            |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |b| u32::from_le_bytes(*b));
        // The cas is in bytes 2 to 8 but for the upper half of the last; byte 1 is shifted out.
        let word = bytes.get(1..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |b| u64::from_le_bytes(*b));
        let unique = word >> 8 & CAS_MAX;
        Facts {
            unique,
            cas: named(bytes, layout).unwrap_or(unique),
            flags: if layout.has_flags() { field(layout.flags_at()) } else { 0 },
            expiry: Expiry::from_secs(if layout.has_expiry_field() { field(layout.expiry_at()) } else { 0 }),
        }
    }
}

/// The cas unique that a client has named of the item at the start of `bytes`, whose layout is `layout`.
#[inline]
pub(crate) fn named(bytes: &[u8], layout: Layout) -> Option<u64> {
    if !layout.has_named_field() {
        return None;
    }
    bytes.get(layout.named_at()..)?.first_chunk::<NAMED_BYTES>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The whole item at the start of `bytes`.
#[inline]
pub(crate) fn read_item(bytes: &[u8]) -> Option<Item<'_>> {
    let layout = Layout::read(bytes)?;
    let fixed = bytes.first_chunk::<FIXED_BYTES>()?;
    let Facts { flags, unique, cas, expiry } = Facts::read(bytes, layout);
    let mut access = [0; 4];
    access[..3].copy_from_slice(&fixed[9..12]);
    Some(Item {
        key: &bytes[layout.key_at()..layout.value_at()],
        value: &bytes[layout.value_at()..layout.named_at()],
        flags,
        cas,
        unique,
        expiry,
        last_access_secs: u32::from_le_bytes(access),
        fetched: fixed[1] & FETCHED != 0,
    })
}

/// The second of the last access to the item at `address`, modulo 2^24.
#[inline]
pub(crate) fn access(memory: &Memory, address: usize) -> u32 {
    let &[low, middle, high] = memory.bytes(address + 9, 3) else { return 0 };
    u32::from_le_bytes([low, middle, high, 0])
}

/// Whether the item at `address` was asked for since it was stored.
#[inline]
pub(crate) fn is_fetched(memory: &Memory, address: usize) -> bool {
    memory.bytes(address, FIXED_BYTES)[1] & FETCHED != 0
}

/// What is noted of an item beside its fields, for meta commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// It was asked for since it was stored.
    pub(crate) fetched: bool,
    /// Its key was sent as base64.
    pub(crate) base64: bool,
    /// It is stale: shown, but to be renewed.
    pub(crate) stale: bool,
    /// One client has been told to renew it.
    pub(crate) token_sent: bool,
}

/// The marks of the item at `address`.
pub(crate) fn marks(memory: &Memory, address: usize) -> Marks {
    let bits = memory.bytes_from(address).get(1).copied().unwrap_or(0);
    Marks {
        fetched: bits & FETCHED != 0,
        base64: bits & BASE64 != 0,
        stale: bits & STALE != 0,
        token_sent: bits & TOKEN_SENT != 0,
    }
}

/// Replaces the marks of the item at `address`.
pub(crate) fn set_marks(memory: &mut Memory, address: usize, marks: Marks) {
    let bits = &mut memory.bytes_mut(address, FIXED_BYTES)[1];
    *bits = *bits & !MARKS
        | if marks.fetched { FETCHED } else { 0 }
        | if marks.base64 { BASE64 } else { 0 }
        | if marks.stale { STALE } else { 0 }
        | if marks.token_sent { TOKEN_SENT } else { 0 };
}

/// Gives the item at `address`, which stays where it is, a new cas unique: one that a client has named where it has a
/// place for one.
pub(crate) fn renew_cas(memory: &mut Memory, address: usize, cas: u64, named: Option<u64>, secs: u32) {
    set_cas(memory, address, cas, secs);
    let Some(layout) = Layout::read(memory.bytes_from(address)).filter(Layout::has_named_field) else { return };
    let shown = named.unwrap_or(cas);
    memory.bytes_mut(address + layout.named_at(), NAMED_BYTES).copy_from_slice(&shown.to_le_bytes());
}

/// Gives the item at `address` a cas unique beside a named one, and its last access at `secs`. Its heat stays.
#[inline]
pub(crate) fn set_cas(memory: &mut Memory, address: usize, cas: u64, secs: u32) {
    let bytes = memory.bytes_mut(address, FIXED_BYTES);
    let heat = bytes[HEAT_AT] & 0xf0;
    bytes[2..9].copy_from_slice(&cas.to_le_bytes()[..7]);
    bytes[HEAT_AT] |= heat;
    bytes[9..].copy_from_slice(&secs.to_le_bytes()[..3]);
}

/// The heat of the item at `address`.
#[inline]
pub(crate) fn heat(memory: &Memory, address: usize) -> u8 {
    memory.bytes(address, FIXED_BYTES)[HEAT_AT] >> 4
}

/// Sets the heat of the item at `address`; at most [`HEAT_MAX`].
#[inline]
pub(crate) fn set_heat(memory: &mut Memory, address: usize, heat: u8) {
    let byte = &mut memory.bytes_mut(address, FIXED_BYTES)[HEAT_AT];
    *byte = *byte & 0x0f | heat.min(HEAT_MAX) << 4;
}

/// Marks the item at `address` as asked for at `secs`, and hotter. Returns whether it had not been asked for
/// before.
#[inline]
pub(crate) fn mark_fetched(memory: &mut Memory, address: usize, secs: u32) -> bool {
    let bytes = memory.bytes_mut(address, FIXED_BYTES);
    let first = bytes[1] & FETCHED == 0;
    bytes[1] |= FETCHED;
    let heat = (bytes[HEAT_AT] >> 4) + HEAT_PER_HIT;
    bytes[HEAT_AT] = bytes[HEAT_AT] & 0x0f | heat.min(HEAT_MAX) << 4;
    bytes[9..12].copy_from_slice(&(secs & ACCESS_MASK).to_le_bytes()[..3]);
    first
}

/// Puts the last access of the item at `address` at `secs`.
#[inline]
pub(crate) fn set_access(memory: &mut Memory, address: usize, secs: u32) {
    memory.bytes_mut(address + 9, 3).copy_from_slice(&secs.to_le_bytes()[..3]);
}

/// Replaces the expiry of the item at `address`, which must have the field.
#[inline]
pub(crate) fn set_expiry(memory: &mut Memory, address: usize, layout: Layout, expiry: Expiry) {
    debug_assert!(layout.has_expiry_field());
    memory.bytes_mut(address + layout.expiry_at(), 4).copy_from_slice(&expiry.secs().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyHasher;

    #[test]
    fn every_layout_reads_back_as_written() {
        let mut memory = Memory::new(16, 16).unwrap();
        for (value_len, flags, expiry, field, named, bytes) in [
            (0u32, 0u32, 0u32, false, None, 14usize),
            (5, 7, 0, false, None, 18),
            (5, 0, 9, false, None, 18),
            (5, 0, 0, true, None, 18),
            (0, 0, 0, false, Some(0), 22),
            (65_535, u32::MAX, u32::MAX, false, Some(u64::MAX), 30),
            (65_536, 0, 0, false, None, 16),
            (700_000, 1, 1, true, Some(1), 32),
        ] {
            let expiry = Expiry::from_secs(expiry);
            let fields = Fields { flags, expiry, named, base64: value_len == 5 };
            let layout = Layout::new(3, value_len, &fields, field);
            assert_eq!(layout.total(), bytes + 3 + value_len as usize);
            memory.bytes_mut(0, 64).fill(0xff);
            Header { layout, key: KeyHasher::new([0; 16]).key(b"key"), fields }.write(&mut memory, 7);
            set_cas(&mut memory, 7, CAS_MAX - 1, 0x0100_0005);
            let item = read_item(memory.bytes_from(7)).unwrap();
            assert_eq!((item.key, item.value.len()), (&b"key"[..], value_len as usize));
            let cas = named.unwrap_or(CAS_MAX - 1);
            assert_eq!((item.flags, item.expiry, item.cas, item.fetched), (flags, expiry, cas, false));
            assert_eq!((item.unique, marks(&memory, 7).base64), (CAS_MAX - 1, value_len == 5));
            assert_eq!(item.last_access_secs, 5, "modulo 2^24");
            assert_eq!(layout_if_key(&memory, 7, b"key"), Some(layout));
            assert_eq!(layout_if_key(&memory, 7, b"kez"), None);
            assert!(mark_fetched(&mut memory, 7, 6) && !mark_fetched(&mut memory, 7, 6));
            assert_eq!(heat(&memory, 7), 2 * HEAT_PER_HIT);
            (0..40).for_each(|_| assert!(!mark_fetched(&mut memory, 7, 6)));
            set_cas(&mut memory, 7, 77, 8);
            assert_eq!((heat(&memory, 7), read_item(memory.bytes_from(7)).unwrap().unique), (HEAT_MAX, 77));
            assert_eq!(read_item(memory.bytes_from(7)).unwrap().cas, named.unwrap_or(77));
            renew_cas(&mut memory, 7, 77, None, 8);
            assert_eq!(read_item(memory.bytes_from(7)).unwrap().cas, 77);
            renew_cas(&mut memory, 7, 77, named, 8);
            assert_eq!(read_item(memory.bytes_from(7)).unwrap().cas, named.unwrap_or(77));
            set_heat(&mut memory, 7, 3);
            assert_eq!((heat(&memory, 7), read_item(memory.bytes_from(7)).unwrap().unique), (3, 77));
        }
    }

    #[test]
    fn an_item_that_reaches_beyond_its_bytes_is_none() {
        assert_eq!(Layout::read(&[]), None);
        assert_eq!(Layout::read(&[250, 0, 0, 0]), None);
        let mut bytes = [0; 30];
        (bytes[0], bytes[12]) = (10, 7);
        assert!(read_item(&bytes).is_none(), "14 + 10 + 7 > 30");
        bytes[12] = 6;
        assert!(read_item(&bytes).is_some());
    }
}
