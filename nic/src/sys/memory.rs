//! The one place where a frame's bytes become a slice.
//!
//! A [`Region`] is a stretch of memory cut into equal chunks. Each [`Chunk`] is handed out once, is move-only, and is
//! the only right to its bytes. The memory is given back only when every chunk has come home; else it stays mapped for
//! the life of the process, so that a stray chunk can never point at memory that is gone (invariant F2).

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pool::PoolError;

/// Smallest chunk, in bytes: what AF_XDP takes (kernel `af_xdp.rst`, "UMEM").
pub(crate) const CHUNK_BYTES_MIN: usize = 2048;

/// Largest chunk, in bytes: a frame keeps its start and length in 16 bits each.
pub(crate) const CHUNK_BYTES_MAX: usize = 32_768;

/// Alignment of a region, in bytes: a page of x86-64.
const REGION_ALIGN_BYTES: usize = 4096;

/// Regions that stay mapped since chunks were missing when they were dropped.
static LEAKED_REGIONS: AtomicUsize = AtomicUsize::new(0);

/// How many regions of this process stay mapped since chunks were missing at their end (invariant F2). Any thread.
pub fn leaked_regions() -> usize {
    LEAKED_REGIONS.load(Ordering::Relaxed)
}

/// The move-only right to the bytes of one chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    base: NonNull<u8>,
    len: u32,
    index: u32,
}

// SAFETY: F1 — a chunk is the only right to its bytes, so moving it to another thread moves that right whole.
unsafe impl Send for Chunk {}

impl Chunk {
    /// Length in bytes, the same for every chunk of a region.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Which chunk of its region, from 0.
    #[inline]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The chunk's bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: F1, F2 — this chunk is the only right to these bytes and its region stays mapped while it exists.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len as usize) }
    }

    /// The chunk's bytes, to be written.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: F1, F2 — as in `bytes`, and the chunk is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len as usize) }
    }
}

/// What keeps a region's memory mapped.
enum Backing {
    /// Heap memory of this layout, freed at the end.
    Heap(Layout),
    /// Memory of somebody else's, mapped for as long as this object is not dropped.
    Lent(Option<Box<dyn Send>>),
}

/// Memory cut into equal chunks, each handed out once. Belongs to one core.
///
/// Dropping it gives the memory back if every chunk handed out has come home by [`put_home`](Self::put_home), else
/// leaves it mapped for good and counts that in [`leaked_regions`].
pub(crate) struct Region {
    base: NonNull<u8>,
    chunk_bytes: u32,
    chunks: u32,
    /// Chunks handed out so far; the next one to hand out.
    taken: u32,
    /// Chunks handed out and not yet home.
    out: u32,
    backing: Backing,
}

// SAFETY: F1, F3 — a region owns its memory (or the owner object, which is Send) and shares it with its chunks only,
// each of which is the only right to its part.
unsafe impl Send for Region {}

impl Region {
    /// Page-aligned, zeroed heap memory of `chunks` chunks of `chunk_bytes` each.
    ///
    /// # Errors
    /// A chunk size that is no power of two within 2048 to 32,768, no chunk at all, or no memory.
    pub(crate) fn heap(chunk_bytes: usize, chunks: usize) -> Result<Self, PoolError> {
        let (chunk_bytes_u32, chunks_u32) = check_shape(chunk_bytes, chunks)?;
        let out_of_memory = PoolError::OutOfMemory { frames: chunks, chunk_bytes };
        let layout = chunk_bytes
            .checked_mul(chunks)
            .and_then(|bytes| Layout::from_size_align(bytes, REGION_ALIGN_BYTES).ok())
            .ok_or(out_of_memory)?;
        // SAFETY: F3 — the layout is not empty: `check_shape` refuses zero chunks and chunks below 2048 bytes.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(start).ok_or(out_of_memory)?;
        let backing = Backing::Heap(layout);
        Ok(Self { base, chunk_bytes: chunk_bytes_u32, chunks: chunks_u32, taken: 0, out: 0, backing })
    }

    /// Chunks over memory that `owner` keeps mapped, such as a UMEM. `owner` is dropped when the region is, if every
    /// chunk has come home; else it is forgotten, and the memory stays mapped.
    ///
    /// # Errors
    /// As for [`heap`](Self::heap), except for want of memory.
    ///
    /// # Safety
    /// From `base` on, `chunk_bytes * chunks` bytes must be mapped, initialised, readable and writable until `owner`
    /// is dropped, and nobody in this process may read or write them but through the chunks of this region: neither
    /// `owner` nor any other region. The kernel may write to a chunk only while no `Chunk` for it is in reach of
    /// code that reads or writes it (invariant F1; SAFETY.md).
    // The AF_XDP back-end is what calls it.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) unsafe fn lent(
        base: NonNull<u8>,
        chunk_bytes: usize,
        chunks: usize,
        owner: Box<dyn Send>,
    ) -> Result<Self, PoolError> {
        let (chunk_bytes, chunks) = check_shape(chunk_bytes, chunks)?;
        Ok(Self { base, chunk_bytes, chunks, taken: 0, out: 0, backing: Backing::Lent(Some(owner)) })
    }

    /// Hands out the next chunk, in order of index; `None` when all have been handed out. A chunk that came home is
    /// not handed out again: whoever wants it again keeps it.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        if self.taken == self.chunks {
            return None;
        }
        let index = self.taken;
        let base = self.chunk_base(index);
        self.taken += 1;
        self.out += 1;
        Some(Chunk { base, len: self.chunk_bytes, index })
    }

    /// Takes a chunk back for good.
    ///
    /// # Errors
    /// Gives the chunk back when it belongs to another region.
    pub(crate) fn put_home(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        if !self.owns(&chunk) {
            return Err(chunk);
        }
        // A chunk is move-only and was counted when it was handed out, so `out` cannot run below zero.
        self.out -= 1;
        Ok(())
    }

    /// Whether the chunk is one of this region's. A live chunk's memory stays mapped (F2), so that no other region can
    /// have the same addresses meanwhile.
    #[inline]
    pub(crate) fn owns(&self, chunk: &Chunk) -> bool {
        chunk.index < self.taken && chunk.len == self.chunk_bytes && chunk.base == self.chunk_base(chunk.index)
    }

    /// Chunks there are in all.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks as usize
    }

    /// Bytes in a chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes as usize
    }

    /// Where a chunk starts; an index past the end is taken for that of the first chunk.
    #[inline]
    fn chunk_base(&self, index: u32) -> NonNull<u8> {
        let index = if index < self.chunks { index as usize } else { 0 };
        // SAFETY: F3 — `index` is below `chunks`, so the chunk lies within the region.
        unsafe { self.base.add(index * self.chunk_bytes as usize) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.out != 0 {
            LEAKED_REGIONS.fetch_add(1, Ordering::Relaxed);
            if let Backing::Lent(owner) = &mut self.backing {
                std::mem::forget(owner.take());
            }
            return;
        }
        match &mut self.backing {
            // SAFETY: F2, F3 — `heap` allocated this memory with this layout, and no chunk is out.
            Backing::Heap(layout) => unsafe { std::alloc::dealloc(self.base.as_ptr(), *layout) },
            Backing::Lent(owner) => drop(owner.take()),
        }
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("chunk_bytes", &self.chunk_bytes)
            .field("chunks", &self.chunks)
            .field("taken", &self.taken)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

/// Checks the shape of a region.
fn check_shape(chunk_bytes: usize, chunks: usize) -> Result<(u32, u32), PoolError> {
    if !chunk_bytes.is_power_of_two() || !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes) {
        return Err(PoolError::ChunkBytes { chunk_bytes });
    }
    match u32::try_from(chunks) {
        Ok(count) if count > 0 => Ok((chunk_bytes as u32, count)),
        _ => Err(PoolError::Frames { frames: chunks }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Memory of a test's own, which notes when it is dropped. The bytes are only reached by raw pointer.
    struct Owner {
        region: Option<Region>,
        dropped: Arc<AtomicBool>,
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.dropped.store(true, Ordering::SeqCst);
            drop(self.region.take());
        }
    }

    fn lent(chunks: usize) -> (Region, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let region = Region::heap(2048, chunks).unwrap();
        let base = region.base;
        let owner = Box::new(Owner { region: Some(region), dropped: Arc::clone(&dropped) });
        // SAFETY: F3 — the inner region keeps the memory until `owner` drops it and hands out no chunk itself.
        let region = unsafe { Region::lent(base, 2048, chunks, owner) }.unwrap();
        (region, dropped)
    }

    #[test]
    fn each_chunk_is_handed_out_once_and_has_bytes_of_its_own() {
        let mut region = Region::heap(4096, 5).unwrap();
        let mut chunks: Vec<Chunk> = std::iter::from_fn(|| region.take()).collect();
        assert_eq!(chunks.iter().map(Chunk::index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(chunks[0].bytes().as_ptr() as usize % 4096, 0, "the region is page aligned");
        for chunk in &mut chunks {
            let mark = chunk.index() as u8 + 1;
            assert!(chunk.bytes().iter().all(|&b| b == 0));
            chunk.bytes_mut().fill(mark);
        }
        for chunk in chunks {
            let mark = chunk.index() as u8 + 1;
            assert_eq!(chunk.len(), 4096);
            assert!(chunk.bytes().iter().all(|&b| b == mark));
            region.put_home(chunk).unwrap();
        }
        assert!(region.take().is_none(), "a chunk that came home is not handed out again");
    }

    #[test]
    fn memory_goes_when_every_chunk_is_home_and_stays_when_one_is_missing() {
        let (mut region, dropped) = lent(2);
        let (first, second) = (region.take().unwrap(), region.take().unwrap());
        region.put_home(second).unwrap();
        region.put_home(first).unwrap();
        drop(region);
        assert!(dropped.load(Ordering::SeqCst));

        let (mut region, dropped) = lent(2);
        let mut stray = region.take().unwrap();
        let before = leaked_regions();
        drop(region);
        assert!(!dropped.load(Ordering::SeqCst));
        assert!(leaked_regions() > before);
        stray.bytes_mut().fill(7);
        assert!(stray.bytes().iter().all(|&b| b == 7));
    }

    #[test]
    fn a_chunk_of_another_region_is_given_back() {
        let mut ours = Region::heap(2048, 2).unwrap();
        let mut theirs = Region::heap(2048, 2).unwrap();
        let kept = ours.take().unwrap();
        let foreign = ours.put_home(theirs.take().unwrap()).unwrap_err();
        theirs.put_home(foreign).unwrap();
        ours.put_home(kept).unwrap();
    }

    #[test]
    fn a_bad_shape_is_refused() {
        for chunk_bytes in [0, 1024, 2047, 3000, 65_536] {
            assert_eq!(Region::heap(chunk_bytes, 4).unwrap_err(), PoolError::ChunkBytes { chunk_bytes });
        }
        assert_eq!(Region::heap(2048, 0).unwrap_err(), PoolError::Frames { frames: 0 });
        let frames = u32::MAX as usize + 1;
        assert_eq!(Region::heap(2048, frames).unwrap_err(), PoolError::Frames { frames });
    }
}
