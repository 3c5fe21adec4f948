//! The shard's memory: one anonymous map, cut into segments of one power-of-two size.
//!
//! Nothing is resident before it is first used, which costs its user the time that the kernel takes to make a page. So
//! another thread makes pages ahead of use, by a [`Toucher`]: those of the index first, then segments in the order in
//! which they are taken. Huge pages that the machine keeps aside are taken where they are asked for and enough are free; else the kernel is
//! asked for some, which it may refuse.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpu::{Map, Pages};

use super::item::ItemRef;

/// Bytes of one cache line, and of one bucket of the index.
pub(crate) const LINE_BYTES: usize = 64;

/// Bytes made by one step of a [`Toucher`]: a huge page.
const TOUCH_STEP_BYTES: usize = 2 << 20;

/// The map and how much of it is wanted ahead of use.
pub(crate) struct Memory {
    map: Map,
    huge: bool,
    segment_shift: u32,
    /// Bytes from the start that may come into use; its [`Toucher`] reads it.
    wanted: Arc<AtomicUsize>,
}

impl Memory {
    /// Maps `segments` segments of `1 << segment_shift` bytes.
    pub(crate) fn new(segments: usize, segment_shift: u32) -> std::io::Result<Memory> {
        Ok(Memory { map: Map::new(segments << segment_shift)?, huge: false, segment_shift, wanted: Arc::default() })
    }

    /// The same, the first `first` segments on huge pages that the machine keeps aside, if enough of them are free.
    pub(crate) fn on_huge_pages(segments: usize, first: usize, segment_shift: u32) -> std::io::Result<Memory> {
        match Map::on_huge_pages(segments << segment_shift, first << segment_shift) {
            Ok(map) => Ok(Memory { map, huge: true, segment_shift, wanted: Arc::default() }),
            Err(_) => Memory::new(segments, segment_shift),
        }
    }

    /// Whether its first segments lie on huge pages that the machine keeps aside.
    pub(crate) fn is_on_huge_pages(&self) -> bool {
        self.huge
    }

    /// What makes the pages of the wanted bytes, those of the `first` segments before all others.
    pub(crate) fn toucher(&self, first: Range<u32>) -> Toucher {
        let first = self.address(first.start, 0)..self.address(first.end, 0);
        Toucher { pages: self.map.pages(), wanted: self.wanted.clone(), first, ascending: 0 }
    }

    /// Wants the first `segments` segments made ahead of use.
    pub(crate) fn want(&self, segments: usize) {
        self.wanted.store(segments << self.segment_shift, Ordering::Relaxed);
    }

    /// Bytes of a segment.
    #[inline]
    pub(crate) fn segment_bytes(&self) -> usize {
        1 << self.segment_shift
    }

    /// The byte address of `offset` in `segment`.
    #[inline]
    pub(crate) fn address(&self, segment: u32, offset: u32) -> usize {
        ((segment as usize) << self.segment_shift) + offset as usize
    }

    /// The byte address of the item at `item`.
    #[inline]
    pub(crate) fn at(&self, item: ItemRef) -> usize {
        self.address(item.segment, item.offset)
    }

    /// `len` bytes from `address` on.
    #[inline]
    pub(crate) fn bytes(&self, address: usize, len: usize) -> &[u8] {
        &self.map[address..address + len]
    }

    /// `len` bytes from `address` on, to be written.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, address: usize, len: usize) -> &mut [u8] {
        &mut self.map[address..address + len]
    }

    /// Everything from `address` to the end of the map; empty when the address is beyond it.
    #[inline]
    pub(crate) fn bytes_from(&self, address: usize) -> &[u8] {
        self.get_from(address).unwrap_or_default()
    }

    /// The same; `None` when the address is beyond the map.
    #[inline]
    pub(crate) fn get_from(&self, address: usize) -> Option<&[u8]> {
        self.map.get(address..)
    }

    /// Copies `len` bytes from one place to another that does not overlap it.
    #[inline]
    pub(crate) fn copy(&mut self, from: usize, to: usize, len: usize) {
        self.map.copy_within(from..from + len, to);
    }

    /// The eight words of the cache line at `address`.
    #[inline]
    pub(crate) fn line(&self, address: usize) -> [u64; 8] {
        self.words(address).map(u64::from_le_bytes)
    }

    /// The same, each to be read where it is needed.
    #[inline]
    pub(crate) fn words(&self, address: usize) -> &[[u8; 8]; 8] {
        self.bytes(address, LINE_BYTES).as_chunks().0.first_chunk().unwrap_or(&[[0; 8]; 8])
    }

    /// Replaces the eight words of the cache line at `address`.
    #[inline]
    pub(crate) fn set_line(&mut self, address: usize, words: &[u64; 8]) {
        for (bytes, word) in self.bytes_mut(address, LINE_BYTES).as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }

    /// Replaces one word of the cache line at `address`.
    #[inline]
    pub(crate) fn set_word(&mut self, address: usize, word: usize, value: u64) {
        self.bytes_mut(address + word * 8, 8).copy_from_slice(&value.to_le_bytes());
    }

    /// Asks for the cache line at `address`.
    #[inline]
    pub(crate) fn prefetch(&self, address: usize) {
        cpu::prefetch_index(&self.map, address);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("bytes", &self.map.len()).field("wanted", &self.wanted).finish()
    }
}

/// Makes the pages of one shard's memory ahead of use, on a thread that is none of the cores'.
#[derive(Debug)]
pub struct Toucher {
    pages: Pages,
    wanted: Arc<AtomicUsize>,
    /// Bytes to be made before all others, as far as they are not.
    first: Range<usize>,
    /// Bytes from the start that are made.
    ascending: usize,
}

impl Toucher {
    /// Makes the next pages, 2 MiB at the most, and waits for the kernel to do so. Returns how many bytes; 0: all that
    /// is wanted is there, which `cache_memlimit` may change later.
    ///
    /// # Errors
    /// The kernel has no memory, or is older than Linux 5.14.
    pub fn step(&mut self) -> std::io::Result<usize> {
        if !self.first.is_empty() {
            let bytes = self.first.len().min(TOUCH_STEP_BYTES);
            self.pages.make(self.first.start, bytes)?;
            self.first.start += bytes;
            return Ok(bytes);
        }
        let bytes = self.wanted.load(Ordering::Relaxed).saturating_sub(self.ascending).min(TOUCH_STEP_BYTES);
        self.pages.make(self.ascending, bytes)?;
        self.ascending += bytes;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_written_is_the_line_read() {
        let mut memory = Memory::new(4, 12).unwrap();
        let address = memory.address(2, 128);
        memory.set_line(address, &[1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        memory.set_word(address, 0, 9);
        assert_eq!(memory.line(address), [9, 2, 3, 4, 5, 6, 7, u64::MAX]);
    }

    #[test]
    fn what_is_needed_first_is_touched_first_and_a_higher_limit_brings_more() {
        let mut memory = Memory::new(8, 20).unwrap();
        memory.bytes_mut(8192, 1)[0] = 7;
        memory.want(5);
        let mut toucher = memory.toucher(4..5);
        let mut steps = || std::iter::from_fn(|| Some(toucher.step().unwrap()).filter(|&bytes| bytes > 0)).collect();
        let before: Vec<usize> = steps();
        assert_eq!(before, [1 << 20, 2 << 20, 2 << 20, 1 << 20], "segment 4, then 0 to 4");
        memory.want(8);
        let after: Vec<usize> = steps();
        assert_eq!(after, [2 << 20, 1 << 20]);
        assert!(memory.bytes(8192, 1) == [7] && memory.bytes_from(1 << 40).is_empty());
    }
}
