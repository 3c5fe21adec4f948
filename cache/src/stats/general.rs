//! `stats`: memcached 1.6.18's general list, in its order; and `stats sidestep`, what only this server has.
//!
//! A name without a meaning here is 0.

use super::{Ledger, StatText};
use crate::clock::Now;
use std::sync::atomic::Ordering;

use crate::proto::reply::VERSION;

/// Where a line's value comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A count, reduced by what it was at the last `stats reset`.
    Count(fn(&Ledger) -> u64),
    /// A value that a reset leaves alone.
    Gauge(fn(&Ledger, Now) -> u64),
    /// Microseconds, shown as seconds with six places.
    Micros(fn(&Ledger) -> u64),
    /// The version.
    Version,
    /// There is none.
    Absent,
    /// Nothing here moves it.
    Zero,
}

use Source::{Absent, Count, Gauge, Micros, Version, Zero};

/// Every line of `stats`.
pub(super) const GENERAL: &[(&str, Source)] = &[
    ("pid", Gauge(|ledger, _| u64::from(ledger.config.server.pid))),
    // memcached's clock begins two seconds before its first request, as ours does, so that 0 and 1 are never now.
    ("uptime", Gauge(|_, now| u64::from(now.secs.saturating_sub(2)))),
    ("time", Gauge(|_, now| now.unix_epoch + u64::from(now.secs))),
    ("version", Version),
    ("libevent", Absent),
    ("pointer_size", Gauge(|_, _| u64::from(usize::BITS))),
    ("rusage_user", Micros(|ledger| ledger.sum(|core| &core.rusage_user_us))),
    ("rusage_system", Micros(|ledger| ledger.sum(|core| &core.rusage_system_us))),
    ("max_connections", Gauge(|ledger, _| ledger.config.server.max_connections as u64)),
    ("curr_connections", Gauge(|ledger, _| ledger.sum(|core| &core.curr_connections))),
    ("total_connections", Count(|ledger| ledger.sum(|core| &core.total_connections))),
    ("rejected_connections", Count(|ledger| ledger.sum(|core| &core.rejected_connections))),
    ("connection_structures", Gauge(|ledger, _| (ledger.config.connections_per_core * ledger.config.cores) as u64)),
    ("response_obj_oom", Count(|ledger| ledger.sum(|core| &core.replies_refused))),
    ("response_obj_count", Zero),
    ("response_obj_bytes", Zero),
    ("read_buf_count", Zero),
    ("read_buf_bytes", Zero),
    ("read_buf_bytes_free", Zero),
    ("read_buf_oom", Zero),
    ("reserved_fds", Zero),
    ("cmd_get", Count(|ledger| ledger.sum_shards(|shard| &shard.cmd_get))),
    ("cmd_set", Count(|ledger| ledger.sum_shards(|shard| &shard.cmd_set))),
    ("cmd_flush", Count(|ledger| ledger.sum(|core| &core.cmd_flush))),
    ("cmd_touch", Count(|ledger| ledger.sum_shards(|shard| &shard.cmd_touch))),
    ("cmd_meta", Count(|ledger| ledger.sum(|core| &core.cmd_meta))),
    ("get_hits", Count(|ledger| ledger.sum_shards(|shard| &shard.get_hits))),
    ("get_misses", Count(|ledger| ledger.sum_shards(|shard| &shard.get_misses))),
    ("get_expired", Count(|ledger| ledger.sum_shards(|shard| &shard.get_expired))),
    ("get_flushed", Count(|ledger| ledger.sum_shards(|shard| &shard.get_flushed))),
    ("delete_misses", Count(|ledger| ledger.sum_shards(|shard| &shard.delete_misses))),
    ("delete_hits", Count(|ledger| ledger.sum_shards(|shard| &shard.delete_hits))),
    ("incr_misses", Count(|ledger| ledger.sum_shards(|shard| &shard.incr_misses))),
    ("incr_hits", Count(|ledger| ledger.sum_shards(|shard| &shard.incr_hits))),
    ("decr_misses", Count(|ledger| ledger.sum_shards(|shard| &shard.decr_misses))),
    ("decr_hits", Count(|ledger| ledger.sum_shards(|shard| &shard.decr_hits))),
    ("cas_misses", Count(|ledger| ledger.sum_shards(|shard| &shard.cas_misses))),
    ("cas_hits", Count(|ledger| ledger.sum_shards(|shard| &shard.cas_hits))),
    ("cas_badval", Count(|ledger| ledger.sum_shards(|shard| &shard.cas_badval))),
    ("touch_hits", Count(|ledger| ledger.sum_shards(|shard| &shard.touch_hits))),
    ("touch_misses", Count(|ledger| ledger.sum_shards(|shard| &shard.touch_misses))),
    ("store_too_large", Count(|ledger| ledger.sum_shards(|shard| &shard.store_too_large))),
    ("store_no_memory", Count(|ledger| ledger.sum_shards(|shard| &shard.store_no_memory))),
    ("auth_cmds", Count(|ledger| ledger.sum(|core| &core.auth_cmds))),
    ("auth_errors", Count(|ledger| ledger.sum(|core| &core.auth_errors))),
    ("idle_kicks", Count(|ledger| ledger.sum(|core| &core.idle_kicks))),
    ("bytes_read", Count(|ledger| ledger.sum(|core| &core.bytes_read))),
    ("bytes_written", Count(|ledger| ledger.sum(|core| &core.bytes_written))),
    ("limit_maxbytes", Gauge(|ledger, _| ledger.limit_bytes())),
    ("accepting_conns", Gauge(|ledger, _| u64::from(ledger.sum(|core| &core.not_accepting) == 0))),
    ("listen_disabled_num", Count(|ledger| ledger.sum(|core| &core.listen_disabled))),
    ("time_in_listen_disabled_us", Count(|ledger| ledger.sum(|core| &core.listen_disabled_us))),
    ("threads", Gauge(|ledger, _| ledger.config.cores as u64)),
    ("conn_yields", Count(|ledger| ledger.sum(|core| &core.conn_yields))),
    ("hash_power_level", Zero),
    ("hash_bytes", Gauge(|ledger, _| ledger.sum_shards(|shard| &shard.hash_bytes))),
    ("hash_is_expanding", Zero),
    ("slab_reassign_rescues", Zero),
    ("slab_reassign_chunk_rescues", Zero),
    ("slab_reassign_evictions_nomem", Zero),
    ("slab_reassign_inline_reclaim", Zero),
    ("slab_reassign_busy_items", Zero),
    ("slab_reassign_busy_deletes", Zero),
    ("slab_reassign_running", Zero),
    ("slabs_moved", Zero),
    ("lru_crawler_running", Gauge(|ledger, _| u64::from(ledger.dumping.is_taken()))),
    ("lru_crawler_starts", Zero),
    ("lru_maintainer_juggles", Zero),
    ("malloc_fails", Zero),
    ("log_worker_dropped", Zero),
    ("log_worker_written", Count(|ledger| ledger.watchers.written.load(Ordering::Relaxed))),
    ("log_watcher_skipped", Count(|ledger| ledger.watchers.skipped.load(Ordering::Relaxed))),
    ("log_watcher_sent", Count(|ledger| ledger.watchers.sent.load(Ordering::Relaxed))),
    ("log_watchers", Gauge(|ledger, _| ledger.watchers.count())),
    ("unexpected_napi_ids", Zero),
    ("round_robin_fallback", Zero),
    ("bytes", Gauge(|ledger, _| ledger.sum_shards(|shard| &shard.bytes))),
    ("curr_items", Gauge(|ledger, _| ledger.sum_shards(|shard| &shard.curr_items))),
    ("total_items", Count(|ledger| ledger.sum_shards(|shard| &shard.total_items))),
    ("slab_global_page_pool", Zero),
    ("expired_unfetched", Count(|ledger| ledger.sum_shards(|shard| &shard.expired_unfetched))),
    ("evicted_unfetched", Count(|ledger| ledger.sum_shards(|shard| &shard.evicted_unfetched))),
    ("evicted_active", Zero),
    ("evictions", Count(|ledger| ledger.sum_shards(|shard| &shard.evictions))),
    ("reclaimed", Count(|ledger| ledger.sum_shards(|shard| &shard.reclaimed))),
    ("crawler_reclaimed", Zero),
    ("crawler_items_checked", Zero),
    ("lrutail_reflocked", Zero),
    ("moves_to_cold", Zero),
    ("moves_to_warm", Zero),
    ("moves_within_lru", Zero),
    ("direct_reclaims", Zero),
    ("lru_bumps_dropped", Zero),
];

/// Whether memcached shows a line under these settings.
fn is_shown(ledger: &Ledger, name: &str) -> bool {
    let server = &ledger.config.server;
    match name {
        "idle_kicks" => server.idle_timeout_secs > 0,
        "rejected_connections" => server.maxconns_fast,
        "lru_crawler_running" | "lru_crawler_starts" => ledger.lru_crawler(),
        "lru_maintainer_juggles"
        | "evicted_active"
        | "moves_to_cold"
        | "moves_to_warm"
        | "moves_within_lru"
        | "direct_reclaims"
        | "lru_bumps_dropped" => server.lru_maintainer,
        _ => true,
    }
}

/// `stats`.
pub(crate) fn general(ledger: &Ledger, now: Now) -> Box<[u8]> {
    let mut text = StatText::default();
    for (index, &(name, source)) in GENERAL.iter().enumerate().filter(|(_, (name, _))| is_shown(ledger, name)) {
        match source {
            Count(of) => text.stat(name, of(ledger).wrapping_sub(ledger.baseline(index))),
            Gauge(of) => text.stat(name, of(ledger, now)),
            Micros(of) => {
                let us = of(ledger);
                text.stat(name, format_args!("{}.{:06}", us / 1_000_000, us % 1_000_000));
            }
            Version => text.stat(name, VERSION),
            Absent => text.stat(name, "none"),
            Zero => text.stat(name, 0),
        }
    }
    text.end()
}

/// `stats sidestep`: how requests crossed cores, what was refused on the way, and what the application counts.
/// docs/metrics.md has a sentence for each name.
pub(crate) fn sidestep(ledger: &Ledger) -> Box<[u8]> {
    let mut text = StatText::default();
    text.stat("cores", ledger.cores());
    text.stat("requests", ledger.sum(|core| &core.requests));
    text.stat("cross_core_requests", ledger.sum(|core| &core.cross_core_requests));
    text.stat("messages_sent", ledger.sum(|core| &core.messages_sent));
    text.stat("messages_served", ledger.sum(|core| &core.messages_served));
    text.stat("streams", ledger.sum(|core| &core.streams));
    text.stat("uploads", ledger.sum(|core| &core.uploads));
    text.stat("waits", ledger.sum(|core| &core.waits));
    text.stat("entries_short", ledger.sum(|core| &core.entries_short));
    text.stat("slots_short", ledger.sum(|core| &core.slots_short));
    text.stat("copies", ledger.sum(|core| &core.copies));
    text.stat("pins_short", ledger.sum(|core| &core.pins_short));
    text.stat("pins_taken", ledger.sum(|core| &core.pins_taken));
    text.stat("slow_readers_closed", ledger.sum(|core| &core.slow_readers_closed));
    text.stat("uploads_short", ledger.sum(|core| &core.uploads_short));
    text.stat("uploads_dropped", ledger.sum(|core| &core.uploads_dropped));
    text.stat("detail_prefixes", ledger.prefixes.most());
    text.stat("detail_uncounted", ledger.sum(|core| &core.detail_uncounted));
    text.stat("udp_datagrams_in", ledger.sum(|core| &core.udp_datagrams_in));
    text.stat("udp_datagrams_out", ledger.sum(|core| &core.udp_datagrams_out));
    text.stat("udp_bad_frames", ledger.sum(|core| &core.udp_bad_frames));
    text.stat("udp_incomplete", ledger.sum(|core| &core.udp_incomplete));
    text.stat("udp_budget_drops", ledger.sum(|core| &core.udp_budget_drops));
    text.stat("udp_table_full", ledger.sum(|core| &core.udp_table_full));
    text.stat("udp_overdue", ledger.sum(|core| &core.udp_overdue));
    text.stat("udp_too_long", ledger.sum(|core| &core.udp_too_long));
    text.stat("pins_refused", ledger.sum_shards(|shard| &shard.pins_refused));
    text.stat("merged", ledger.sum_shards(|shard| &shard.merged));
    text.stat("segment_bytes", ledger.sum_shards(|shard| &shard.segment_bytes));
    if let Some(outside) = ledger.outside.get() {
        outside.each(&mut |name, value| text.stat(name, value));
    }
    for core in 0..ledger.cores() {
        let counters = ledger.core(core);
        text.stat(format_args!("core:{core}:requests"), counters.requests.value());
        text.stat(format_args!("core:{core}:cross_core_requests"), counters.cross_core_requests.value());
        text.stat(format_args!("core:{core}:messages_served"), counters.messages_served.value());
        text.stat(format_args!("core:{core}:curr_items"), ledger.shard(core).curr_items.value());
    }
    text.end()
}
