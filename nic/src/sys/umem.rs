//! A UMEM and the descriptors of its chunks.
//!
//! Invariant: the memory is reached through the [`Region`]'s chunks and by the kernel only (F1, F3). xsk-rs gives out a
//! descriptor per chunk when the UMEM is made and has no way to set a descriptor's address, so the table of them is kept
//! and read by chunk index. Read first: kernel `af_xdp.rst`, "UMEM".

use std::io;
use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::sync::Arc;

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

/// One socket's share of a UMEM that is registered with the kernel, before the socket uses it.
pub(crate) struct UmemShare {
    pub(crate) umem: Umem,
    /// The chunks of this share.
    pub(crate) region: Region,
    /// By chunk index: the descriptor whose address is `HEADROOM_BYTES` into the chunk. The same for all shares.
    pub(crate) home: Arc<[FrameDesc]>,
    /// Whether it lies on huge pages.
    pub(crate) huge: bool,
    /// Whether it is the whole UMEM.
    pub(crate) is_whole: bool,
}

/// Maps and registers a UMEM of `shape.chunks` chunks for each of `shares` sockets: on huge pages, where enough of them are
/// free, and then of as many chunks more as fill the last page, which are the last share's.
///
/// # Errors
/// A shape that xsk-rs refuses (`InvalidInput`), or the kernel's refusal: `ENOMEM`/`ENOBUFS` for want of lockable
/// memory, `EPERM` without `CAP_NET_RAW`.
pub(crate) fn create(shape: UmemShape, shares: usize) -> io::Result<Vec<UmemShare>> {
    let each = shape.chunks as usize;
    let all = u32::try_from(each.saturating_mul(shares)).map_err(invalid)?;
    let (umem, region, home, huge) = create_whole(UmemShape { chunks: all, ..shape })?;
    let is_whole = shares == 1;
    let share_of = |region| UmemShare { umem: umem.clone(), region, home: Arc::clone(&home), huge, is_whole };
    let regions = region.split(&vec![each; shares]).map_err(invalid)?;
    Ok(regions.into_iter().map(share_of).collect())
}

type Whole = (Umem, Region, Arc<[FrameDesc]>, bool);

fn create_whole(shape: UmemShape) -> io::Result<Whole> {
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(shape.chunk_bytes).map_err(invalid)?)
        .fill_queue_size(QueueSize::new(shape.fill_ring).map_err(invalid)?)
        .comp_queue_size(QueueSize::new(shape.completion_ring).map_err(invalid)?)
        .build()
        .map_err(invalid)?;
    let chunks = NonZeroU32::new(shape.chunks).ok_or_else(|| invalid("a umem of no chunk"))?;
    // Another process may take the pages first.
    let on_huge = HugePages::now().chunks(shape).and_then(|chunks| Umem::new(config, chunks, true).ok());
    let huge = on_huge.is_some();
    let (umem, descriptors) = match on_huge {
        Some(made) => made,
        None => Umem::new(config, chunks, false).map_err(|error| kernel_error(&error))?,
    };
    let home: Arc<[FrameDesc]> = descriptors.into();
    let chunk_bytes = shape.chunk_bytes as usize;
    let aligned = |(index, desc): (usize, &FrameDesc)| desc.addr() == index * chunk_bytes + HEADROOM_BYTES;
    if home.len() < shape.chunks as usize || !home.iter().enumerate().all(aligned) {
        return Err(io::Error::other("xsk-rs laid the umem out in an unknown way; a version other than 0.11?"));
    }
    let base = base(&umem, &home)?;
    // SAFETY: F3 — xsk-rs mapped `chunks * chunk_bytes` zeroed bytes from `base` on and keeps them mapped until the last
    // clone of `umem` is dropped, which the owner is; nobody else of this process reads or writes them but `rings.rs`,
    // through descriptors of parked chunks.
    let region = unsafe { Region::lent(base, chunk_bytes, home.len(), Box::new(umem.clone())) };
    Ok((umem, region.map_err(invalid)?, home, huge))
}

/// Huge pages of the kernel's usual size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct HugePages {
    free: u64,
    page_bytes: u64,
}

impl HugePages {
    /// Those that are free just now; none where the kernel does not tell.
    fn now() -> Self {
        Self::read(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    /// Reads `/proc/meminfo` (proc(5)). Those that are free and reserved are somebody's already.
    fn read(meminfo: &str) -> Self {
        let value = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let reserved = value("HugePages_Rsvd").unwrap_or(0);
        let free = value("HugePages_Free").unwrap_or(0).saturating_sub(reserved);
        Self { free, page_bytes: value("Hugepagesize").unwrap_or(0) << 10 }
    }

    /// How many chunks a UMEM of this shape has on whole pages; `None` if too few are free, or they are so large that most
    /// of the last would be for nothing.
    fn chunks(self, shape: UmemShape) -> Option<NonZeroU32> {
        let bytes = u64::from(shape.chunk_bytes) * u64::from(shape.chunks);
        let pages = bytes.checked_div(self.page_bytes)? + u64::from(bytes % self.page_bytes > 0);
        let chunks = pages * self.page_bytes / u64::from(shape.chunk_bytes);
        let fits = pages <= self.free && pages * self.page_bytes <= 2 * bytes;
        fits.then(|| u32::try_from(chunks).ok().and_then(NonZeroU32::new))?
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: UmemShape = UmemShape { chunk_bytes: 2048, chunks: 6272, fill_ring: 4096, completion_ring: 2048 };

    fn free(free: u64, reserved: u64) -> HugePages {
        HugePages::read(&format!(
            "MemTotal: 1 kB\nHugePages_Total:      99\nHugePages_Free:       {free}\nHugePages_Rsvd:        {reserved}\nHugepagesize:       2048 kB\n"
        ))
    }

    #[test]
    fn a_umem_on_huge_pages_fills_the_last_one() {
        // 12.25 MiB.
        assert_eq!(free(7, 0).chunks(SHAPE).map(NonZeroU32::get), Some(7 << 10));
        assert_eq!(free(6, 0).chunks(SHAPE), None);
        assert_eq!(free(9, 3).chunks(SHAPE), None, "reserved ones are somebody's");
        let gigabyte = HugePages { free: 8, page_bytes: 1 << 30 };
        assert_eq!(gigabyte.chunks(SHAPE), None, "far more than is asked for");
        let whole = UmemShape { chunks: 1024, ..SHAPE };
        assert_eq!(free(1, 0).chunks(whole).map(NonZeroU32::get), Some(1024));
    }

    #[test]
    fn a_kernel_without_huge_pages_has_none() {
        assert_eq!(HugePages::read("MemTotal: 1 kB\n"), HugePages::default());
        assert_eq!(HugePages::default().chunks(SHAPE), None);
    }
}
