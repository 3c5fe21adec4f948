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

/// Bytes of a page that the machine may keep aside, on every processor with pages of 4 KiB; others have none of this size.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed memory of this process alone, readable and writable. No page of it takes memory before it is first used.
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    bytes: usize,
    /// Where `start` is in the mapping.
    skipped: usize,
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

    /// As [`Map::new`], the first `first` bytes, up to a whole page, on pages that the machine keeps aside
    /// (`vm.nr_hugepages`): they are this map's from now on, used or not.
    ///
    /// # Errors
    /// As [`Map::new`]; `ENOMEM`: too few of these pages are free, or none of [`HUGE_PAGE_BYTES`] exists; or a control group
    /// lets this process have none. The address space is left mapped then, without a page in it.
    pub fn on_huge_pages(bytes: usize, first: usize) -> io::Result<Map> {
        let first = first.checked_next_multiple_of(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        // One page more, since such a page begins at a multiple of its size.
        let whole = bytes.max(first).checked_add(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let Map { start, mapping, .. } = Map::new(whole)?;
        let skipped = start.as_ptr().align_offset(HUGE_PAGE_BYTES);
        // Inside the mapping, which is longer by a page.
        let start = NonNull::new(start.as_ptr().wrapping_add(skipped)).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = Map { start, bytes, skipped, mapping };
        // The first page is made here, to see whether it may be had.
        match replace_by_huge_pages(start, first).and_then(|()| map.pages().make(0, 1)) {
            Ok(()) => Ok(map),
            Err(error) => {
                // The kernel may have taken the old pages away before it refused the new ones. To unmap a hole could unmap what
                // another thread has been given there meanwhile.
                std::mem::forget(map);
                Err(error)
            }
        }
    }

    fn with_pages(bytes: usize, pages: Advice) -> io::Result<Map> {
        // Not reserved: a kernel that keeps account of what is promised would refuse more than the machine has.
        let mapping = MmapRaw::from(MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?);
        let _ = mapping.advise(pages);
        let start = NonNull::new(mapping.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { start, bytes, skipped: 0, mapping: Arc::new(mapping) })
    }

    /// A handle by which another thread has pages made. The memory stays mapped while there is one.
    pub fn pages(&self) -> Pages {
        Pages { skipped: self.skipped, bytes: self.bytes, mapping: Arc::clone(&self.mapping) }
    }
}

/// Puts zeroed huge pages in the place of the first `bytes` bytes from `start` on, which nobody has used yet. They are set
/// aside for this mapping, so that their first use does not fail.
fn replace_by_huge_pages(start: NonNull<u8>, bytes: usize) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    // SAFETY: M1 — the range lies within a mapping that the caller has just made and of which no reference exists.
    let mapped = unsafe { libc::mmap(start.as_ptr().cast(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Deref for Map {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: M1 — the mapping is `bytes` long from `start` on, zeroed by the kernel, and stays while `self.mapping` does.
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
    skipped: usize,
    bytes: usize,
    mapping: Arc<MmapRaw>,
}

impl Pages {
    /// Has the kernel make the pages of the `bytes` bytes from `from` on, as far as the map goes, and waits for that.
    /// No byte changes; those there already cost little.
    ///
    /// # Errors
    /// The kernel has no memory, or is older than Linux 5.14.
    pub fn make(&self, from: usize, bytes: usize) -> io::Result<()> {
        let bytes = bytes.min(self.bytes.saturating_sub(from));
        if bytes == 0 {
            return Ok(());
        }
        self.mapping.advise_range(Advice::PopulateWrite, self.skipped + from, bytes)
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

    /// The machine's setting is left alone: where it keeps pages aside, and enough are free, they are had, else none is.
    #[test]
    fn huge_pages_are_had_or_refused_and_what_is_mapped_otherwise_works() {
        let free =
            std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or_default();
        match Map::on_huge_pages(5 << 20, 3 << 20) {
            Ok(mut map) => {
                assert_eq!(map.as_ptr() as usize % HUGE_PAGE_BYTES, 0);
                assert_eq!(map.len(), 5 << 20);
                map.pages().make(0, 5 << 20).expect("they are set aside, and small ones can be had");
                (map[0], map[(4 << 20) - 1], map[(5 << 20) - 1]) = (1, 2, 3);
                assert_eq!(map.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 6);
            }
            Err(error) => {
                // Others may take them, or give them back, while this test runs.
                eprintln!("{} free before: {error}", free.trim());
                assert!(matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EINVAL | libc::EFAULT)), "{error}");
            }
        }
        assert!(Map::on_huge_pages(1 << 20, 1 << 50).is_err(), "a pebibyte of them");
        let mut map = Map::new(1 << 20).expect("1 MiB");
        map[7] = 7;
        assert_eq!(map[7], 7);
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
