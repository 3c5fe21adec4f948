//! `PoolError`: why a pool, or the memory under it, could not be made.

/// Why a pool could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The chunk size is out of range.
    #[error("a umem chunk of {chunk_bytes} bytes: it must be a power of two from 2048 to 32768 bytes")]
    ChunkBytes {
        /// Bytes asked for.
        chunk_bytes: usize,
    },
    /// The number of frames is out of range.
    #[error("a pool of {frames} frames: it must have 1 to 4294967295 frames")]
    Frames {
        /// Frames asked for.
        frames: usize,
    },
    /// The headroom leaves no room for a frame.
    #[error("a headroom of {headroom_bytes} bytes leaves no room in a umem chunk of {chunk_bytes} bytes; lower it")]
    Headroom {
        /// Bytes of headroom asked for.
        headroom_bytes: usize,
        /// Bytes of a chunk.
        chunk_bytes: usize,
    },
    /// A pool for a queue whose frames do not fit it.
    #[error("frames of {needed} bytes do not fit a pool of frames of {room} bytes; give it larger chunks")]
    TooShort {
        /// Bytes of a frame of the pool.
        room: usize,
        /// Bytes that the queue needs.
        needed: usize,
    },
    /// The memory could not be had.
    #[error("no memory for {frames} frames of {chunk_bytes} bytes; lower the number of frames")]
    OutOfMemory {
        /// Frames asked for.
        frames: usize,
        /// Bytes of a chunk.
        chunk_bytes: usize,
    },
}
