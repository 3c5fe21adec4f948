//! `stats items` and `stats slabs`: the items now stored, sorted into memcached's slab classes.
//!
//! The store has no slabs; the classes are a view, so that existing tools make sense of sizes. What has no meaning
//! here is 0.

use super::text::StatText;
use cpu::Counter;

use crate::counters::Counters;
use crate::store::ClassStats;

/// Bytes of a slab page (memcached's default).
const PAGE_BYTES: u64 = 1 << 20;

/// The slab classes that hold items: number from 1, chunk size in bytes, items.
fn classes(counters: &Counters) -> impl Iterator<Item = (usize, u64, u64)> {
    counters.shard(0).classes.iter().enumerate().filter_map(|(index, class)| {
        let items = counters.sum_shards(|shard| &shard.classes[index].items);
        (items > 0).then_some((index + 1, u64::from(class.chunk_bytes), items))
    })
}

/// `stats items`.
pub(super) fn items(counters: &Counters) -> Box<[u8]> {
    let mut text = StatText::default();
    for (class, _, items) in classes(counters) {
        let mut stat = |name: &str, value: u64| text.stat(format_args!("items:{class}:{name}"), value);
        stat("number", items);
        for name in ["number_hot", "number_warm"] {
            stat(name, 0);
        }
        stat("number_cold", items);
        for name in ["age_hot", "age_warm", "age"] {
            stat(name, 0);
        }
        stat("mem_requested", counters.sum_shards(|shard| &shard.classes[class - 1].bytes));
        let gone = |of: fn(&ClassStats) -> &Counter| counters.shards_since_reset(|shard| of(&shard.classes[class - 1]));
        stat("evicted", gone(|class| &class.evictions));
        stat("evicted_nonzero", gone(|class| &class.evicted_nonzero));
        for name in ["evicted_time", "outofmemory", "tailrepairs"] {
            stat(name, 0);
        }
        stat("reclaimed", gone(|class| &class.reclaimed));
        for name in [
            "expired_unfetched",
            "evicted_unfetched",
            "evicted_active",
            "crawler_reclaimed",
            "crawler_items_checked",
            "lrutail_reflocked",
            "moves_to_cold",
            "moves_to_warm",
            "moves_within_lru",
            "direct_reclaims",
            "hits_to_hot",
            "hits_to_warm",
            "hits_to_cold",
            "hits_to_temp",
        ] {
            stat(name, 0);
        }
    }
    text.end()
}

/// `stats slabs`.
pub(super) fn slabs(counters: &Counters) -> Box<[u8]> {
    let mut text = StatText::default();
    let mut active = 0;
    for (class, chunk_bytes, items) in classes(counters) {
        active += 1;
        let per_page = (PAGE_BYTES / chunk_bytes.max(1)).max(1);
        let pages = items.div_ceil(per_page);
        let mut stat = |name: &str, value: u64| text.stat(format_args!("{class}:{name}"), value);
        stat("chunk_size", chunk_bytes);
        stat("chunks_per_page", per_page);
        stat("total_pages", pages);
        stat("total_chunks", pages * per_page);
        stat("used_chunks", items);
        stat("free_chunks", pages * per_page - items);
        for name in [
            "free_chunks_end",
            "get_hits",
            "cmd_set",
            "delete_hits",
            "incr_hits",
            "decr_hits",
            "cas_hits",
            "cas_badval",
            "touch_hits",
        ] {
            stat(name, 0);
        }
    }
    text.stat("active_slabs", active);
    text.stat("total_malloced", counters.sum_shards(|shard| &shard.segment_bytes));
    text.end()
}

/// `stats sizes`: the histogram is off, as it is in memcached until it is asked for.
pub(super) fn sizes() -> Box<[u8]> {
    let mut text = StatText::default();
    text.stat("sizes_status", "disabled");
    text.end()
}
