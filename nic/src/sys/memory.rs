//! The one place where a frame's bytes become a slice.
//!
//! A [`Region`] is a stretch of memory cut into equal chunks. Each [`Chunk`] is handed out once, is move-only, and is
//! the only right to its bytes. The memory is given back only when every chunk has come home; else it stays mapped for
//! the life of the process, so that a stray chunk can never point at memory that is gone (invariant F2).

use std::ptr::NonNull;

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
