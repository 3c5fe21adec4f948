//! The one place where a frame's bytes become a slice.
//!
//! A [`Region`] is a stretch of memory cut into equal chunks, or a share of one. Each [`Chunk`] is handed out once, is
//! move-only, and is the only right to its bytes. The memory is given back only when every chunk of every share has come
//! home; else it stays mapped for the life of the process, so that a stray chunk can never point at memory that is gone
//! (invariant F2).
//!
//! A chunk counts for a share, and in it for receiving or sending. Two chunks of one memory may change places
//! ([`Chunk::exchange`]): each then has the bytes of the other and counts for what it counted for before, so that every
//! share always has as many chunks of either kind as it began with, whatever travels between them (invariant F6).

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pool::PoolError;

/// Smallest chunk, in bytes: what AF_XDP takes (kernel `af_xdp.rst`, "UMEM").
pub(crate) const CHUNK_BYTES_MIN: usize = 2048;

/// Largest chunk, in bytes: a frame keeps its start and length in 16 bits each.
pub(crate) const CHUNK_BYTES_MAX: usize = 32_768;

/// Alignment of a region, in bytes: a page of x86-64.
const REGION_ALIGN_BYTES: usize = 4096;

/// Most shares of one memory: their number has a bit less than 16.
pub(crate) const SHARES_MAX: usize = 1 << 15;

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
    index: u32,
    /// At most [`CHUNK_BYTES_MAX`].
    len: u16,
    reserve: Reserve,
}

/// What a chunk counts for: a share of the memory, and in it receiving or sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reserve(u16);

impl Reserve {
    fn of(share: u16, purpose: Purpose) -> Self {
        Self(share << 1 | u16::from(purpose == Purpose::Send))
    }

    fn share(self) -> u16 {
        self.0 >> 1
    }
}

/// What a share has a chunk for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To receive into; the only purpose where a holder does not tell the two apart.
    Receive,
    /// To send from.
    Send,
}

// SAFETY: F1 — a chunk is the only right to its bytes, so moving it to another thread moves that right whole.
unsafe impl Send for Chunk {}

impl Chunk {
    /// Length in bytes, the same for every chunk of a region.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// What its share has it for.
    #[inline]
    pub(crate) fn purpose(&self) -> Purpose {
        if self.reserve.0 & 1 == 0 { Purpose::Receive } else { Purpose::Send }
    }

    /// Where the memory begins that the chunk is a part of: the same for all its shares, and for no other memory's (F2).
    pub(crate) fn memory(&self) -> usize {
        self.base.as_ptr() as usize - self.index as usize * self.len()
    }

    /// Lets two chunks of one memory change places. What each counts for stays with it (F6). False, and nothing changed,
    /// for chunks of different memory.
    pub(crate) fn exchange(&mut self, other: &mut Self) -> bool {
        if self.memory() != other.memory() || self.len != other.len {
            return false;
        }
        std::mem::swap(&mut self.base, &mut other.base);
        std::mem::swap(&mut self.index, &mut other.index);
        true
    }

    /// Which chunk of the memory, from 0.
    #[inline]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The chunk's bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: F1, F2 — this chunk is the only right to these bytes and its region stays mapped while it exists.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len()) }
    }

    /// The chunk's bytes, to be written.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: F1, F2 — as in `bytes`, and the chunk is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len()) }
    }
}

/// What keeps a region's memory mapped: dropped with the last of its shares.
enum Backing {
    /// Heap memory of this layout, freed at the end.
    Heap(NonNull<u8>, Layout),
    /// Memory of somebody else's, mapped for as long as this object is not dropped.
    Lent(#[allow(dead_code)] Box<dyn Send>), // Held, and dropped, is all.
}

impl Drop for Backing {
    fn drop(&mut self) {
        match self {
            // SAFETY: F2, F3 — `heap` allocated this memory with this layout, and no share of it is left.
            Self::Heap(base, layout) => unsafe { std::alloc::dealloc(base.as_ptr(), *layout) },
            Self::Lent(_) => {}
        }
    }
}

/// Memory cut into equal chunks, or a share of it; each chunk is handed out once. Belongs to one core.
///
/// When the last share is dropped, the memory is given back if every chunk handed out has come home by
/// [`put_home`](Self::put_home); else it is left mapped for good, and [`leaked_regions`] counts the shares that miss some.
pub(crate) struct Region {
    base: NonNull<u8>,
    chunk_bytes: u32,
    /// Chunks of the whole memory.
    memory_chunks: u32,
    /// Chunks of this share, handed out or not.
    chunks: u32,
    /// The next to hand out, and the one behind the last.
    next: u32,
    end: u32,
    /// Which share of the memory.
    share: u16,
    /// Chunks handed out and not yet home.
    out: u32,
    backing: Arc<Backing>,
}

// SAFETY: F1, F3 — shares of a memory have it (or the owner object, which is Send) in common with each other and with
// their chunks only, each of which is the only right to its part. Nobody reaches the backing but whoever drops it last.
unsafe impl Send for Region {}

impl Region {
    /// Page-aligned, zeroed heap memory of `chunks` chunks of `chunk_bytes` each.
    ///
    /// # Errors
    /// A chunk size that is no power of two within 2048 to 32,768, no chunk at all, or no memory.
    pub(crate) fn heap(chunk_bytes: usize, chunks: usize) -> Result<Self, PoolError> {
        let shape = check_shape(chunk_bytes, chunks)?;
        let out_of_memory = PoolError::OutOfMemory { frames: chunks, chunk_bytes };
        let layout = chunk_bytes
            .checked_mul(chunks)
            .and_then(|bytes| Layout::from_size_align(bytes, REGION_ALIGN_BYTES).ok())
            .ok_or(out_of_memory)?;
        // SAFETY: F3 — the layout is not empty: `check_shape` refuses zero chunks and chunks below 2048 bytes.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(start).ok_or(out_of_memory)?;
        Ok(Self::whole(base, shape, Backing::Heap(base, layout)))
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
        Ok(Self::whole(base, check_shape(chunk_bytes, chunks)?, Backing::Lent(owner)))
    }

    fn whole(base: NonNull<u8>, (chunk_bytes, chunks): (u32, u32), backing: Backing) -> Self {
        // The backing is made to be dropped by whichever thread has the last share; it is reached by nobody before.
        #[allow(clippy::arc_with_non_send_sync)]
        let backing = Arc::new(backing);
        Self { base, chunk_bytes, memory_chunks: chunks, chunks, next: 0, end: chunks, share: 0, out: 0, backing }
    }

    /// Shares of the memory, of so many chunks each; what is left over goes to the last. To be called before a chunk is
    /// handed out.
    ///
    /// # Errors
    /// [`PoolError::Frames`]: a share without a chunk, more shares than there can be, or more chunks than there are left.
    pub(crate) fn split(self, shares: &[usize]) -> Result<Vec<Self>, PoolError> {
        let mut parts = Vec::with_capacity(shares.len());
        let (mut next, left) = (self.next, self.end);
        for (number, &frames) in shares.iter().enumerate() {
            let is_last = number + 1 == shares.len();
            let end = u32::try_from(frames).ok().filter(|count| *count > 0).and_then(|count| next.checked_add(count));
            let fits = |end: &u32| *end <= left && number < SHARES_MAX && self.out == 0;
            let end = end.filter(fits).ok_or(PoolError::Frames { frames })?;
            let end = if is_last { left } else { end };
            let backing = Arc::clone(&self.backing);
            parts.push(Self { chunks: end - next, next, end, share: number as u16, backing, ..self });
            next = end;
        }
        Ok(parts)
    }

    /// Hands out the next chunk of the share, in order of index, for `purpose`; `None` when all have been handed out. A
    /// chunk that came home is not handed out again: whoever wants it again keeps it.
    pub(crate) fn take(&mut self, purpose: Purpose) -> Option<Chunk> {
        if self.next == self.end {
            return None;
        }
        let index = self.next;
        let base = self.chunk_base(index);
        self.next += 1;
        self.out += 1;
        // At most 32,768, by `check_shape`.
        Some(Chunk { base, index, len: self.chunk_bytes as u16, reserve: Reserve::of(self.share, purpose) })
    }

    /// Takes a chunk back for good.
    ///
    /// # Errors
    /// Gives the chunk back when it counts for another share, or another memory's.
    pub(crate) fn put_home(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        if !self.owns(&chunk) {
            return Err(chunk);
        }
        // A chunk is move-only and was counted when it was handed out, so `out` cannot run below zero; one that has
        // changed places with another share's is counted there (F6).
        self.out -= 1;
        Ok(())
    }

    /// Whether the chunk counts for this share. A live chunk's memory stays mapped (F2), so that no other memory can
    /// have the same addresses meanwhile.
    #[inline]
    pub(crate) fn owns(&self, chunk: &Chunk) -> bool {
        chunk.index < self.memory_chunks
            && u32::from(chunk.len) == self.chunk_bytes
            && chunk.reserve.share() == self.share
            && chunk.base == self.chunk_base(chunk.index)
    }

    /// Chunks of this share.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks as usize
    }

    /// Chunks of the whole memory: the index of every chunk that this share can have is below it.
    pub(crate) fn memory_chunks(&self) -> usize {
        self.memory_chunks as usize
    }

    /// Bytes in a chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes as usize
    }

    /// Where a chunk starts; an index past the end is taken for that of the first chunk.
    #[inline]
    fn chunk_base(&self, index: u32) -> NonNull<u8> {
        let index = if index < self.memory_chunks { index as usize } else { 0 };
        // SAFETY: F3 — `index` is below `memory_chunks`, so the chunk lies within the memory.
        unsafe { self.base.add(index * self.chunk_bytes as usize) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.out != 0 {
            LEAKED_REGIONS.fetch_add(1, Ordering::Relaxed);
            // One handle that nobody has any more keeps the memory mapped.
            std::mem::forget(Arc::clone(&self.backing));
        }
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("share", &self.share)
            .field("chunk_bytes", &self.chunk_bytes)
            .field("chunks", &self.chunks)
            .field("next", &self.next)
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
        let mut chunks: Vec<Chunk> = std::iter::from_fn(|| region.take(Purpose::Receive)).collect();
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
        assert!(region.take(Purpose::Receive).is_none(), "a chunk that came home is not handed out again");
    }

    #[test]
    fn memory_goes_when_every_chunk_is_home_and_stays_when_one_is_missing() {
        let (mut region, dropped) = lent(2);
        let (first, second) = (region.take(Purpose::Receive).unwrap(), region.take(Purpose::Receive).unwrap());
        region.put_home(second).unwrap();
        region.put_home(first).unwrap();
        drop(region);
        assert!(dropped.load(Ordering::SeqCst));

        let (mut region, dropped) = lent(2);
        let mut stray = region.take(Purpose::Receive).unwrap();
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
        let kept = ours.take(Purpose::Send).unwrap();
        let foreign = ours.put_home(theirs.take(Purpose::Send).unwrap()).unwrap_err();
        theirs.put_home(foreign).unwrap();
        ours.put_home(kept).unwrap();
    }

    #[test]
    fn chunks_that_change_places_count_for_what_they_counted_for_before() {
        let (whole, dropped) = lent(5);
        let mut shares = whole.split(&[2, 2]).unwrap();
        assert_eq!(shares.iter().map(Region::chunks).collect::<Vec<_>>(), [2, 3], "the last has what is left over");
        let (mut b, mut a) = (shares.pop().unwrap(), shares.pop().unwrap());
        let (mut received, rest) = (a.take(Purpose::Receive).unwrap(), a.take(Purpose::Receive).unwrap());
        let mut free = b.take(Purpose::Send).unwrap();
        assert!(a.take(Purpose::Send).is_none(), "a share has no more chunks than its own");
        received.bytes_mut()[0] = 7;
        let (place, index) = (received.bytes().as_ptr(), received.index());
        assert!(received.exchange(&mut free));
        assert_eq!((free.bytes().as_ptr(), free.index(), free.bytes()[0]), (place, index, 7), "nothing is copied");
        assert_eq!((received.purpose(), free.purpose()), (Purpose::Receive, Purpose::Send));
        assert!(a.owns(&received) && b.owns(&free) && !a.owns(&free) && !b.owns(&received));
        let free = a.put_home(free).unwrap_err();
        b.put_home(free).unwrap();
        a.put_home(received).unwrap();
        a.put_home(rest).unwrap();
        drop(a);
        assert!(!dropped.load(Ordering::SeqCst), "the other share is there still");
        drop(b);
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn chunks_of_different_memory_do_not_change_places() {
        let (mut ours, mut theirs) = (Region::heap(2048, 1).unwrap(), Region::heap(2048, 1).unwrap());
        let (mut one, mut other) = (ours.take(Purpose::Receive).unwrap(), theirs.take(Purpose::Receive).unwrap());
        assert!(!one.exchange(&mut other));
        ours.put_home(one).unwrap();
        theirs.put_home(other).unwrap();
    }

    #[test]
    fn memory_stays_when_one_share_misses_a_chunk() {
        let (whole, dropped) = lent(2);
        let mut shares = whole.split(&[1, 1]).unwrap();
        let stray = shares[0].take(Purpose::Receive).unwrap();
        drop(shares);
        assert!(!dropped.load(Ordering::SeqCst));
        assert!(stray.bytes().iter().all(|&b| b == 0));
    }

    #[test]
    fn shares_that_there_is_no_memory_for_are_refused() {
        for shares in [&[1, 2][..], &[0, 1], &[3]] {
            assert!(Region::heap(2048, 2).unwrap().split(shares).is_err(), "{shares:?}");
        }
        assert!(Region::heap(2048, 2).unwrap().split(&[]).unwrap().is_empty());
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
