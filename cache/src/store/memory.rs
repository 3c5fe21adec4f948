//! The shard's memory: one anonymous map, cut into segments of one power-of-two size.
//!
//! Nothing is resident until it is touched. [`Memory::touch_ahead`] touches segments in ascending order, ahead of
//! their first use, so that an operation does not wait for the kernel. Huge pages are asked for and may be refused.

use memmap2::{Advice, MmapMut, MmapOptions};

/// Bytes of one cache line, and of one bucket of the index.
pub(crate) const LINE_BYTES: usize = 64;

/// Bytes touched in one step of [`Memory::touch_ahead`].
const TOUCH_STEP_BYTES: usize = 64 << 10;

/// Bytes of the smallest page any system has.
const PAGE_BYTES: usize = 4096;

/// The map and how far it has been touched.
pub(crate) struct Memory {
    map: MmapMut,
    segment_shift: u32,
    /// Bytes from the start that are known to be resident.
    touched: usize,
}

impl Memory {
    /// Maps `segments` segments of `1 << segment_shift` bytes.
    pub(crate) fn new(segments: usize, segment_shift: u32) -> std::io::Result<Memory> {
        let map = MmapOptions::new().len(segments << segment_shift).no_reserve_swap().map_anon()?;
        // Only a wish: a kernel without transparent huge pages serves small ones.
        let _ = map.advise(Advice::HugePage);
        Ok(Memory { map, segment_shift, touched: 0 })
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
        self.map.get(address..).unwrap_or_default()
    }

    /// Copies `len` bytes from one place to another that does not overlap it.
    #[inline]
    pub(crate) fn copy(&mut self, from: usize, to: usize, len: usize) {
        self.map.copy_within(from..from + len, to);
    }

    /// The eight words of the cache line at `address`.
    #[inline]
    pub(crate) fn line(&self, address: usize) -> [u64; 8] {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(self.bytes(address, LINE_BYTES).as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
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

    /// Touches up to 64 KiB more of the first `bytes` bytes. Returns whether some are left.
    ///
    /// Only reads what it writes back, so that it may pass over bytes already in use.
    pub(crate) fn touch_ahead(&mut self, bytes: usize) -> bool {
        let end = bytes.min(self.map.len());
        let step_end = (self.touched + TOUCH_STEP_BYTES).min(end);
        while self.touched < step_end {
            if let Some(byte) = self.map.get_mut(self.touched) {
                *byte = std::hint::black_box(*byte);
            }
            self.touched += PAGE_BYTES;
        }
        self.touched < end
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("bytes", &self.map.len()).field("touched", &self.touched).finish()
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
    fn touching_ahead_ends_and_keeps_what_is_there() {
        let mut memory = Memory::new(40, 12).unwrap();
        memory.bytes_mut(8192, 1)[0] = 7;
        let mut steps = 1;
        while memory.touch_ahead(40 << 12) {
            steps += 1;
        }
        assert_eq!(steps, 3, "160 KiB in steps of 64 KiB");
        assert!(memory.bytes(8192, 1) == [7] && memory.bytes_from(1 << 40).is_empty());
    }
}
