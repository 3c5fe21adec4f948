//! A shard's counters, under memcached's names. Written by the owning core, readable by any.

use cpu::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a shard counts. Gauges say so.
        #[derive(Debug, Default)]
        pub struct ShardStats {
            $($(#[$doc])* pub $name: Counter,)*
            /// Items now stored in each of memcached's slab classes, smallest first (gauge).
            pub class_items: Vec<Counter>,
            /// Their bytes, as memcached counts them (gauge).
            pub class_bytes: Vec<Counter>,
            /// Items of each slab class removed to make room although they were live.
            pub class_evictions: Vec<Counter>,
            /// Stores of each slab class that took the place of an expired or flushed item of their key.
            pub class_reclaimed: Vec<Counter>,
            /// Of those evicted, items with an expiry.
            pub class_evicted_nonzero: Vec<Counter>,
            /// The chunk size of each slab class, in bytes, smallest first.
            pub class_chunk_bytes: Vec<u32>,
        }

        impl ShardStats {
            /// Every counter's name and value, without the classes.
            pub fn visit(&self, mut each: impl FnMut(&'static str, u64)) {
                $(each(stringify!($name), self.$name.value());)*
            }
        }
    };
}

counters! {
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
    /// Stores that took memory which expired items had held, or the place of an expired or flushed item of their key.
    reclaimed,
    /// Stores refused because the item was too large.
    store_too_large,
    /// Stores refused for want of memory.
    store_no_memory,
    /// Pins refused because their number or their segments are bounded.
    pins_refused,
}
