//! A shard's counters, under memcached's names. Written by the owning core, readable by any.

use cpu::Counter;

/// A struct of counters, which can all be gone through, and of other fields.
macro_rules! counter_block {
    (
        $(#[$doc:meta])* pub struct $block:ident { $($(#[$counts:meta])* $name:ident,)* }
        $($(#[$is:meta])* $other:ident: $type:ty,)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $block {
            $($(#[$counts])* pub $name: cpu::Counter,)*
            $($(#[$is])* pub $other: $type,)*
        }

        impl $block {
            /// Every counter, always in the same order.
            pub(crate) fn counters(&self) -> impl Iterator<Item = &cpu::Counter> {
                [$(&self.$name),*].into_iter()
            }
        }
    };
}
pub(crate) use counter_block;

counter_block! {
    /// What a shard counts. Gauges say so.
    pub struct ShardStats {
        /// Items now stored, those expired or flushed but not yet met included, as in memcached (gauge).
        curr_items,
        /// Items ever stored.
        total_items,
        /// Bytes of the items now stored, counted as memcached counts them: key, value and its header (gauge).
        bytes,
        /// Bytes the shard may use for segments, index and what is in flight (gauge).
        limit_maxbytes,
        /// Bytes of segments that hold items or parts of the index (gauge).
        segment_bytes,
        /// Bytes of the index (gauge).
        hash_bytes,
        /// Lookups by get, once a key.
        cmd_get,
        /// Stores tried, whatever came of them.
        cmd_set,
        /// Items given a new expiry by touch or gat, or not found for it.
        cmd_touch,
        /// flush_all orders.
        cmd_flush,
        /// Gets that found an item.
        get_hits,
        /// Gets that found none, for whatever reason.
        get_misses,
        /// Lookups that found an expired item, which then was removed.
        get_expired,
        /// Lookups that found a flushed item, which then was removed.
        get_flushed,
        /// Deletes that found an item.
        delete_hits,
        /// Deletes that found none.
        delete_misses,
        /// Incrs that found a number.
        incr_hits,
        /// Incrs that found no item.
        incr_misses,
        /// Decrs that found a number.
        decr_hits,
        /// Decrs that found no item.
        decr_misses,
        /// Cas stores whose cas unique was the item's.
        cas_hits,
        /// Cas stores that found no item.
        cas_misses,
        /// Cas stores whose cas unique was another.
        cas_badval,
        /// Touches and gats that found an item.
        touch_hits,
        /// Touches and gats that found none.
        touch_misses,
        /// Items removed to make room although they were live.
        evictions,
        /// Of those, items never asked for.
        evicted_unfetched,
        /// Of the evicted items, those with an expiry.
        evicted_nonzero,
        /// Items copied to be kept when their segment was given up, or merged because much of it was dead.
        merged,
        /// Items removed because they had expired and never asked for.
        expired_unfetched,
        /// Stores that took memory which expired items had held, or the place of an expired or flushed item of their
        /// key.
        reclaimed,
        /// Stores refused because the item was too large.
        store_too_large,
        /// Stores refused for want of memory.
        store_no_memory,
        /// Pins refused because their number or their segments are bounded.
        pins_refused,
    }
    /// What it counts for each of memcached's slab classes, smallest first.
    classes: Box<[ClassStats]>,
}

counter_block! {
    /// What a shard counts for one of memcached's slab classes.
    pub struct ClassStats {
        /// Items now stored (gauge).
        items,
        /// Their bytes, as memcached counts them (gauge).
        bytes,
        /// Items removed to make room although they were live.
        evictions,
        /// Of those, items with an expiry.
        evicted_nonzero,
        /// Stores that took the place of an expired or flushed item of their key.
        reclaimed,
    }
    /// Bytes of a chunk.
    chunk_bytes: u32,
}

impl ShardStats {
    /// Nothing counted yet, of slab classes whose chunks have so many bytes.
    pub(crate) fn new(chunk_bytes: &[u32]) -> ShardStats {
        let class = |&chunk_bytes| ClassStats { chunk_bytes, ..ClassStats::default() };
        ShardStats { classes: chunk_bytes.iter().map(class).collect(), ..ShardStats::default() }
    }

    /// Every counter, those of the classes included, always in the same order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Counter> {
        self.counters().chain(self.classes.iter().flat_map(ClassStats::counters))
    }
}
