//! memcached's sizes: what it would count an item as, and the slab class it would sit in.
//!
//! Nothing is stored by slab class here. Tools and limits speak memcached's sizes, so they are computed as its source
//! does (`items.c`, `item_make_header`; `slabs.c`, `slabs_init`).

/// Bytes of memcached's item structure on a 64-bit machine, without the cas unique.
const ITEM_STRUCT_BYTES: usize = 48;
/// Bytes of the cas unique behind it.
const CAS_BYTES: usize = 8;
/// Most classes that memcached has.
const CLASSES_MAX: usize = 63;
/// Sizes below this have their class in a table, by steps of 8 bytes.
const TABLE_BYTES: usize = 4096;

/// The classes and their chunk sizes.
#[derive(Debug)]
pub(crate) struct SlabView {
    chunk_bytes: Vec<u32>,
    small: Vec<u8>,
    use_cas: bool,
}

impl SlabView {
    /// The classes for a growth `factor` above 1, a least space of `chunk_min` bytes beside the item structure, and
    /// chunks of at most `chunk_max` bytes.
    pub(crate) fn new(factor: f64, chunk_min: u32, chunk_max: u32, use_cas: bool) -> SlabView {
        let mut chunk_bytes = Vec::new();
        let mut size = ITEM_STRUCT_BYTES as u32 + chunk_min.min(chunk_max / 2);
        while chunk_bytes.len() < CLASSES_MAX - 1 && f64::from(size) < f64::from(chunk_max) / factor {
            size = size.next_multiple_of(8);
            chunk_bytes.push(size);
            size = (f64::from(size) * factor) as u32;
        }
        chunk_bytes.push(chunk_max);
        let mut view = SlabView { chunk_bytes, small: Vec::new(), use_cas };
        view.small = (0..TABLE_BYTES / 8).map(|step| view.search(step * 8) as u8).collect();
        view
    }

    /// Whether items have cas uniques.
    pub(crate) fn uses_cas(&self) -> bool {
        self.use_cas
    }

    /// Chunk sizes in bytes, smallest first.
    pub(crate) fn chunk_bytes(&self) -> &[u32] {
        &self.chunk_bytes
    }

    /// What memcached counts an item as, in bytes: structure, cas, flags unless 0, key and a zero byte, value and CRLF.
    #[inline]
    pub(crate) fn item_bytes(&self, key_len: usize, value_len: usize, has_flags: bool) -> usize {
        ITEM_STRUCT_BYTES
            + if self.use_cas { CAS_BYTES } else { 0 }
            + if has_flags { 4 } else { 0 }
            + key_len
            + 1
            + value_len
            + 2
    }

    /// The class of an item of `item_bytes`, counted from 0; memcached's own number is one more.
    #[inline]
    pub(crate) fn class_of(&self, item_bytes: usize) -> usize {
        match self.small.get(item_bytes.div_ceil(8)) {
            Some(&class) => usize::from(class),
            None => self.search(item_bytes),
        }
    }

    fn search(&self, item_bytes: usize) -> usize {
        self.chunk_bytes.partition_point(|&chunk| (chunk as usize) < item_bytes).min(self.chunk_bytes.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_classes_are_memcacheds() {
        let view = SlabView::new(1.25, 48, 512 << 10, true);
        // As `memcached -vv` of 1.6.45 prints them.
        assert_eq!(view.chunk_bytes()[..6], [96, 120, 152, 192, 240, 304]);
        assert_eq!(view.chunk_bytes()[36..], [315_872, 394_840, 524_288]);
        assert_eq!(view.chunk_bytes().len(), 39);
    }

    #[test]
    fn an_item_sits_in_the_smallest_chunk_that_holds_it() {
        let view = SlabView::new(1.25, 48, 512 << 10, true);
        for bytes in (1..10_000).chain([524_287, 524_288, 524_289, 1 << 20]) {
            let class = view.class_of(bytes);
            assert!(view.chunk_bytes()[class] as usize >= bytes || class == 38, "{bytes}");
            assert!(class == 0 || (view.chunk_bytes()[class - 1] as usize) < bytes, "{bytes}");
        }
        assert_eq!(view.item_bytes(1, 0, false), 60);
        assert_eq!(view.item_bytes(1, 0, true), 64);
    }

    #[test]
    fn any_factor_ends() {
        for factor in [1.000_001, 1.01, 1.25, 2.0, 1e9] {
            assert!(SlabView::new(factor, 48, 512 << 10, false).chunk_bytes().len() <= CLASSES_MAX);
        }
    }
}
