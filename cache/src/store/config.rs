//! What a shard is built with, and why it may be refused.

/// How large a shard is and what it may do. [`Default`] is memcached's.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardConfig {
    /// Bytes for segments, index and what is in flight together: this shard's part of `-m`.
    pub memory_bytes: usize,
    /// Bytes up to which [`crate::Shard::set_memory_limit`] may go later. Only address space until then.
    pub memory_ceiling_bytes: usize,
    /// Whether `memory_bytes` lie on huge pages that the machine keeps aside (`vm.nr_hugepages`), if enough are free.
    pub huge_pages: bool,
    /// Bytes of a segment, a power of two from 4 KiB to 1 MiB; 0 takes 1/256 of the memory, from 64 KiB to 1 MiB.
    pub segment_bytes: usize,
    /// The largest item, in bytes as memcached counts them (`-I`).
    pub item_size_max: u32,
    /// Whether the oldest items make room for new ones (`false`: `-M`).
    pub evict: bool,
    /// The first cas unique, and by how much each is above the one before: so that no two items of a cache have the
    /// same.
    pub cas_first: u64,
    /// See `cas_first`.
    pub cas_step: u64,
    /// Whether items have a cas unique to show (`false`: `-C`). Only changes the sizes that are reported.
    pub use_cas: bool,
    /// Growth factor of memcached's slab classes, as which sizes are reported (`-f`).
    pub slab_factor: f64,
    /// Smallest space for key, value and flags in memcached's slab classes, in bytes (`-n`).
    pub slab_chunk_min: u32,
    /// Largest chunk of memcached's slab classes, in bytes (`-o slab_chunk_max`).
    pub slab_chunk_max: u32,
}

impl Default for ShardConfig {
    fn default() -> ShardConfig {
        ShardConfig {
            memory_bytes: 64 << 20,
            memory_ceiling_bytes: 0,
            huge_pages: false,
            segment_bytes: 0,
            item_size_max: 1 << 20,
            evict: true,
            cas_first: 1,
            cas_step: 1,
            use_cas: true,
            slab_factor: 1.25,
            slab_chunk_min: 48,
            slab_chunk_max: 512 << 10,
        }
    }
}

/// Why a shard cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too little memory for the least number of segments.
    #[error("{given} bytes of memory a shard is below the least, {least} bytes; raise -m or lower -t")]
    MemoryTooSmall {
        /// What was asked for, in bytes.
        given: usize,
        /// The least possible, in bytes.
        least: usize,
    },
    /// More memory than a slot of the index can address.
    #[error("{given} bytes of memory a shard is above the most, {most} bytes; lower -m or raise -t")]
    MemoryTooLarge {
        /// What was asked for, in bytes.
        given: usize,
        /// The most possible, in bytes.
        most: usize,
    },
    /// The largest item would not leave room for others.
    #[error(
        "an item of {given} bytes is more than half of a shard's {memory} bytes; lower -I to at most {most}, raise -m or lower -t"
    )]
    ItemSizeMaxTooLarge {
        /// What was asked for, in bytes.
        given: u32,
        /// The shard's memory, in bytes.
        memory: usize,
        /// The most possible, in bytes.
        most: usize,
    },
    /// The largest item is smaller than memcached allows.
    #[error("an item of at most {given} bytes is below the least limit, 1024 bytes; raise -I")]
    ItemSizeMaxTooSmall {
        /// What was asked for, in bytes.
        given: u32,
    },
    /// The slab classes do not grow.
    #[error("slab factor {given} must be above 1.0 and finite; set -f to 1.25, say")]
    SlabFactor {
        /// What was asked for.
        given: f64,
    },
    /// The system refused the memory map.
    #[error("cannot map {bytes} bytes of memory; lower -m or free memory")]
    Map {
        /// What was asked for, in bytes.
        bytes: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a memory limit cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryLimitError {
    /// Below what the largest item, the index, or what is in flight needs.
    #[error("{given} bytes a shard is below the least possible now, {least} bytes; choose a larger limit")]
    TooSmall {
        /// What was asked for, in bytes.
        given: usize,
        /// The least possible now, in bytes.
        least: usize,
    },
    /// Above the address space reserved at start.
    #[error("{given} bytes a shard is above the {most} bytes reserved at start; restart with a larger -m")]
    TooLarge {
        /// What was asked for, in bytes.
        given: usize,
        /// The most possible, in bytes.
        most: usize,
    },
}
