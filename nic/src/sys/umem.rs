//! A UMEM and the descriptors of its chunks.
//!
//! Invariant: the memory is reached through the [`Region`]'s chunks and by the kernel only (F1, F3). xsk-rs gives out a
//! descriptor per chunk when the UMEM is made and has no way to set a descriptor's address, so the table of them is kept
//! and read by chunk index. Read first: kernel `af_xdp.rst`, "UMEM".

use std::io;
use std::num::NonZeroU32;
use std::ptr::NonNull;

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use super::memory::Region;
use crate::pool::HEADROOM_BYTES;

/// Shape of a UMEM and its two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UmemShape {
    /// Bytes of a chunk: 2048 or 4096.
    pub(crate) chunk_bytes: u32,
    /// Chunks.
    pub(crate) chunks: u32,
    /// Descriptors of the fill ring, a power of two.
    pub(crate) fill_ring: u32,
    /// Descriptors of the completion ring, a power of two.
    pub(crate) completion_ring: u32,
}

/// A UMEM, registered with the kernel, before a socket uses it.
pub(crate) struct UmemParts {
    pub(crate) umem: Umem,
    pub(crate) region: Region,
    /// By chunk index: the descriptor whose address is `HEADROOM_BYTES` into the chunk.
    pub(crate) home: Box<[FrameDesc]>,
}

/// Maps and registers a UMEM.
///
/// # Errors
/// A shape that xsk-rs refuses (`InvalidInput`), or the kernel's refusal: `ENOMEM`/`ENOBUFS` for want of lockable
/// memory, `EPERM` without `CAP_NET_RAW`.
pub(crate) fn create(shape: UmemShape) -> io::Result<UmemParts> {
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(shape.chunk_bytes).map_err(invalid)?)
        .fill_queue_size(QueueSize::new(shape.fill_ring).map_err(invalid)?)
        .comp_queue_size(QueueSize::new(shape.completion_ring).map_err(invalid)?)
        .build()
        .map_err(invalid)?;
    let chunks = NonZeroU32::new(shape.chunks).ok_or_else(|| invalid("a umem of no chunk"))?;
    let (umem, descriptors) = Umem::new(config, chunks, false).map_err(|error| kernel_error(&error))?;
    let home = descriptors.into_boxed_slice();
    let chunk_bytes = shape.chunk_bytes as usize;
    let aligned = |(index, desc): (usize, &FrameDesc)| desc.addr() == index * chunk_bytes + HEADROOM_BYTES;
    if home.len() != shape.chunks as usize || !home.iter().enumerate().all(aligned) {
        return Err(io::Error::other("xsk-rs laid the umem out in an unknown way; a version other than 0.11?"));
    }
    let base = base(&umem, &home)?;
    // SAFETY: F3 — xsk-rs mapped `chunks * chunk_bytes` zeroed bytes from `base` on and keeps them mapped until the last
    // clone of `umem` is dropped, which the owner is; nobody else of this process reads or writes them but `rings.rs`,
    // through descriptors of parked chunks.
    let region = unsafe { Region::lent(base, chunk_bytes, home.len(), Box::new(umem.clone())) };
    Ok(UmemParts { umem, region: region.map_err(invalid)?, home })
}

/// The address of the UMEM's first byte.
fn base(umem: &Umem, home: &[FrameDesc]) -> io::Result<NonNull<u8>> {
    let first = home.first().ok_or_else(|| invalid("a umem of no chunk"))?;
    // SAFETY: F1 — `first` is of this UMEM, and no chunk was handed out yet, to a caller or to the kernel. The slice
    // is empty (a new descriptor's length is 0); only its address is used.
    let data = unsafe { umem.data(first) };
    // The mapping begins this far before the data of its first chunk.
    let start = data.contents().as_ptr().cast_mut().wrapping_sub(first.addr());
    NonNull::new(start).ok_or_else(|| invalid("a umem at address 0"))
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// The kernel's error behind one of xsk-rs.
pub(super) fn kernel_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}
