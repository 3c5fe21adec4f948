//! Ownership of UMEM chunks: who may touch a frame's bytes, and when.
//!
//! A frame is in exactly one place at a time (invariant F1 in SAFETY.md):
//!
//! ```text
//! FramePool ──refill──► kernel ──rx──► RxBurst ──free──► FramePool
//! FramePool ──alloc───► TxBurst ──tx──► kernel ──completion──► FramePool
//! ```
//!
//! [`Frame`] is move-only, so the compiler keeps F1 in user space; the four rings keep it across the kernel
//! boundary. Nothing here locks: a pool belongs to one core. Read first: kernel `af_xdp.rst`, "UMEM" and "Rings".

use crate::sys::memory::Chunk;

/// The move-only right to one UMEM chunk, with the bytes of one Ethernet frame in it.
///
/// Comes from [`Queue::rx_burst`](crate::Queue::rx_burst) or [`Queue::tx_alloc`](crate::Queue::tx_alloc) and goes back
/// to the *same* queue by [`Queue::tx_burst`](crate::Queue::tx_burst) or [`Queue::free`](crate::Queue::free); between
/// queues of one memory two frames may change places ([`exchange`](Self::exchange)). One that
/// is dropped instead is lost to its pool until the queue closes: its chunk is then missing from
/// [`FrameCensus`](crate::FrameCensus), which every test checks.
#[derive(Debug)]
#[must_use = "a frame that is not sent or freed is lost to its pool"]
pub struct Frame {
    chunk: Chunk,
    start: u16,
    len: u16,
}

/// A frame could not be made as long as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {asked} bytes does not fit: the chunk has room for {room} bytes")]
pub struct FrameTooShort {
    /// Bytes asked for.
    pub asked: usize,
    /// Bytes there are.
    pub room: usize,
}

impl Frame {
    /// Wraps a chunk whose frame starts `start` bytes into it and is `len` bytes long; both are cut to the chunk.
    pub(crate) fn new(chunk: Chunk, start: usize, len: usize) -> Self {
        let start = start.min(chunk.len());
        let len = len.min(chunk.len() - start);
        // A chunk is at most 32,768 bytes (checked where memory is made), so both fit.
        Self { chunk, start: start as u16, len: len as u16 }
    }

    /// Gives the chunk back, ending the frame.
    pub(crate) fn into_chunk(self) -> Chunk {
        self.chunk
    }

    /// The chunk, for its pool to tell whether it is its own.
    #[inline]
    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Which chunk of its pool this is, 0 to chunks - 1.
    pub(crate) fn chunk_index(&self) -> u32 {
        self.chunk.index()
    }

    /// Lets two frames change places, bytes and all, which copies nothing: each then is in the chunk of the other, and
    /// goes back to the queue to which it belonged before (invariant F6). For frames of one queue, or of queues that were
    /// opened over one memory. False, and nothing changed, for others.
    pub fn exchange(&mut self, other: &mut Self) -> bool {
        let done = self.chunk.exchange(&mut other.chunk);
        if done {
            std::mem::swap(&mut self.start, &mut other.start);
            std::mem::swap(&mut self.len, &mut other.len);
        }
        done
    }

    /// Moves the frame's bytes to where they begin `start` bytes into the chunk; false, and nothing changed, when they do
    /// not fit there.
    pub(crate) fn move_to(&mut self, start: usize) -> bool {
        let (from, len) = (self.start(), self.len());
        if start + len > self.chunk.len() {
            return false;
        }
        self.chunk.bytes_mut().copy_within(from..from + len, start);
        // A chunk is at most 32,768 bytes long.
        self.start = start as u16;
        true
    }

    /// Where in the chunk the frame starts, in bytes.
    pub(crate) fn start(&self) -> usize {
        usize::from(self.start)
    }

    /// The frame's bytes, from the destination MAC on, without the frame check sequence.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = usize::from(self.start);
        &self.chunk.bytes()[start..start + usize::from(self.len)]
    }

    /// The frame's bytes, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.start);
        let end = start + usize::from(self.len);
        &mut self.chunk.bytes_mut()[start..end]
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the frame holds no byte at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The longest the frame can be made by [`resize`](Self::resize), in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.chunk.len() - usize::from(self.start)
    }

    /// Begins the frame `bytes` earlier in its chunk, whose bytes there hold whatever was there before; false, and
    /// nothing changed, when there is no such room.
    pub(crate) fn grow_front(&mut self, bytes: usize) -> bool {
        let Some(start) = usize::from(self.start).checked_sub(bytes) else { return false };
        // Both fit, since the chunk holds them: it is at most 32,768 bytes.
        self.len += self.start - start as u16;
        self.start = start as u16;
        true
    }

    /// Makes the frame `len` bytes long. Bytes beyond the old length hold whatever was there before.
    ///
    /// # Errors
    /// [`FrameTooShort`] when `len` exceeds [`capacity`](Self::capacity); the frame is unchanged.
    #[inline]
    pub fn resize(&mut self, len: usize) -> Result<(), FrameTooShort> {
        if len > self.capacity() {
            return Err(FrameTooShort { asked: len, room: self.capacity() });
        }
        self.len = len as u16;
        Ok(())
    }
}
