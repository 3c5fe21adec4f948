//! [`Map`]: a stretch of memory with one owner, whose pages another thread may have the kernel make ahead of use.
//!
//! A page costs its first user the time that the kernel needs to find and clear it: milliseconds for a huge page of a
//! virtual machine. Whoever answers requests must not wait for that, so a thread of its own asks for the pages, by
//! [`Pages`]. That handle reaches no byte of the memory (invariant M1 in SAFETY.md). Read first: `madvise(2)`,
//! MADV_POPULATE_WRITE.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// Zeroed memory of this process alone, readable and writable. No page of it takes memory before it is first used.
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    bytes: usize,
    mapping: Arc<MmapRaw>,
}

// SAFETY: M1 — a map is the only way to its bytes, so moving it to another thread moves that right whole.
unsafe impl Send for Map {}
// SAFETY: M1 — a shared map only lends shared slices of bytes.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `bytes` bytes, with a wish for huge pages, which the kernel may not have.
    ///
    /// # Errors
    /// The kernel refused, or `bytes` is 0.
    pub fn new(bytes: usize) -> io::Result<Map> {
        Map::with_pages(bytes, Advice::HugePage)
    }

    /// The same for memory of which a small part may be used at a time: with a wish for small pages.
    ///
    /// # Errors
    /// As [`Map::new`].
    pub fn sparse(bytes: usize) -> io::Result<Map> {
        Map::with_pages(bytes, Advice::NoHugePage)
    }

    fn with_pages(bytes: usize, pages: Advice) -> io::Result<Map> {
        // Not reserved: a kernel that keeps account of what is promised would refuse more than the machine has.
        let mapping = MmapRaw::from(MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?);
        let _ = mapping.advise(pages);
        let start = NonNull::new(mapping.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { start, bytes, mapping: Arc::new(mapping) })
    }

    /// A handle by which another thread has pages made. The memory stays mapped while there is one.
    pub fn pages(&self) -> Pages {
        Pages { mapping: Arc::clone(&self.mapping) }
    }
}

impl Deref for Map {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: M1 — the mapping is `bytes` long, zeroed by the kernel, and stays while `self.mapping` does.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Map {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: M1 — as in `deref`, and the map, which is the only way to the bytes, is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

/// The pages of a [`Map`], to be made ahead of use. Any thread.
#[derive(Debug, Clone)]
pub struct Pages {
    mapping: Arc<MmapRaw>,
}

impl Pages {
    /// Has the kernel make the pages of the `bytes` bytes from `from` on, as far as the map goes, and waits for that.
    /// No byte changes; those there already cost little.
    ///
    /// # Errors
    /// The kernel has no memory, or is older than Linux 5.14.
    pub fn make(&self, from: usize, bytes: usize) -> io::Result<()> {
        let bytes = bytes.min(self.mapping.len().saturating_sub(from));
        if bytes == 0 {
            return Ok(());
        }
        self.mapping.advise_range(Advice::PopulateWrite, from, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With memory that the allocator gives, a server of many connections ended with an abort (`malloc(3)`, overcommit).
    #[test]
    fn more_can_be_mapped_than_the_machine_has_as_long_as_little_of_it_is_used() {
        let mut map = Map::sparse(1 << 42).expect("4 TiB of addresses");
        let last = map.len() - 1;
        map[last] = 7;
        assert_eq!((map[0], map[last]), (0, 7));
    }

    #[test]
    fn pages_are_made_by_another_thread_while_the_owner_writes() {
        let mut map = Map::new(8 << 20).expect("8 MiB can be mapped");
        let pages = map.pages();
        let other = std::thread::spawn(move || {
            for from in (0..8 << 20).step_by(1 << 20) {
                pages.make(from, 1 << 20).expect("Linux 5.14 or later");
            }
            // Past the end there is nothing to make.
            pages.make(8 << 20, 1).expect("nothing is asked of the kernel");
            pages
        });
        for (at, byte) in map.iter_mut().enumerate() {
            *byte = at as u8;
        }
        let pages = other.join().expect("it does not panic");
        assert!(map.iter().enumerate().all(|(at, &byte)| byte == at as u8), "making a page changes no byte");
        drop(map);
        pages.make(0, 8 << 20).expect("the memory stays mapped while there is a handle");
    }
}
