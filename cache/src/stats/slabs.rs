//! `stats items` and `stats slabs`: the items now stored, sorted into memcached's slab classes.
//!
//! The store has no slabs; the classes are a view, so that existing tools make sense of sizes. What has no meaning
//! here is 0.

use super::{Ledger, StatText};
use cpu::Counter;

use crate::clock::Now;
use crate::proto::word::append_word;
use crate::store::{Item, ShardStats};

/// Bytes of a slab page (memcached's default).
const PAGE_BYTES: u64 = 1 << 20;

/// A count of slab class `class`, from 1, over all shards.
fn of_class(ledger: &Ledger, class: usize, of: fn(&ShardStats) -> &Vec<Counter>) -> u64 {
    let counts = ledger.shards.iter().filter_map(|shard| of(shard).get(class - 1));
    counts.map(Counter::value).fold(0, u64::wrapping_add)
}

/// What left slab class `class`, from 1: items evicted, those of them with an expiry, and items reclaimed.
pub(super) fn gone(ledger: &Ledger, class: usize) -> [u64; 3] {
    let all = of_class(ledger, class, |shard| &shard.class_evictions);
    let nonzero = of_class(ledger, class, |shard| &shard.class_evicted_nonzero);
    [all, nonzero, of_class(ledger, class, |shard| &shard.class_reclaimed)]
}

/// The slab classes that hold items: number, chunk size in bytes, items.
fn classes(ledger: &Ledger) -> impl Iterator<Item = (usize, u64, u64)> {
    let chunks: &[u32] = ledger.shards.first().map(|shard| &shard.class_chunk_bytes[..]).unwrap_or_default();
    chunks.iter().enumerate().filter_map(|(index, &chunk_bytes)| {
        let items = of_class(ledger, index + 1, |shard| &shard.class_items);
        (items > 0).then_some((index + 1, u64::from(chunk_bytes), items))
    })
}

/// `stats items`.
pub(crate) fn items(ledger: &Ledger) -> Box<[u8]> {
    let mut text = StatText::default();
    for (class, _, items) in classes(ledger) {
        let mut stat = |name: &str, value: u64| text.stat(format_args!("items:{class}:{name}"), value);
        stat("number", items);
        for name in ["number_hot", "number_warm"] {
            stat(name, 0);
        }
        stat("number_cold", items);
        let [evicted, evicted_nonzero, reclaimed] = ledger.gone_since_reset(class);
        for name in ["age_hot", "age_warm", "age"] {
            stat(name, 0);
        }
        stat("mem_requested", of_class(ledger, class, |shard| &shard.class_bytes));
        stat("evicted", evicted);
        stat("evicted_nonzero", evicted_nonzero);
        for name in ["evicted_time", "outofmemory", "tailrepairs"] {
            stat(name, 0);
        }
        stat("reclaimed", reclaimed);
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
pub(crate) fn slabs(ledger: &Ledger) -> Box<[u8]> {
    let mut text = StatText::default();
    let mut active = 0;
    for (class, chunk_bytes, items) in classes(ledger) {
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
    text.stat("total_malloced", ledger.sum_shards(|shard| &shard.segment_bytes));
    text.end()
}

/// A line of `stats cachedump`: key as one word, bytes of the value, unix time of expiry or 0 (items.c, `item_cachedump`).
pub(crate) fn dump_line(text: &mut Vec<u8>, item: &Item<'_>, now: Now) {
    let expiry = if item.expiry.is_never() { 0 } else { now.unix_epoch + u64::from(item.expiry.secs()) };
    text.extend_from_slice(b"ITEM ");
    append_word(text, item.key);
    text.extend_from_slice(format!(" [{} b; {expiry} s]\r\n", item.value.len()).as_bytes());
}

/// `stats sizes`: the histogram is off, as it is in memcached until it is asked for.
pub(crate) fn sizes() -> Box<[u8]> {
    let mut text = StatText::default();
    text.stat("sizes_status", "disabled");
    text.end()
}
