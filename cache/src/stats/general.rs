//! `stats`: memcached 1.6.45's general list, in its order; and `stats sidestep`, what only this server has.
//!
//! A name without a meaning here is 0.

use cpu::Counter;

use super::text::StatText;
use crate::clock::Now;
use crate::counters::{CoreCounters, Counters};
use crate::proto::line::VERSION;
use crate::shared::Shared;
use crate::store::ShardStats;

/// A name, and the counter of every `Block` that it is the sum of.
type StatOf<Block> = (&'static str, fn(&Block) -> &Counter);

/// StatLines of the list that get their values in the same way.
enum StatLines {
    /// Counts of cores, reduced by what they were at the last `stats reset`.
    Cores(&'static [StatOf<CoreCounters>]),
    /// Counts of shards, reduced likewise.
    Shards(&'static [StatOf<ShardStats>]),
    /// A value that a reset leaves alone.
    Gauge(&'static str, fn(&Shared, Now) -> u64),
    /// Microseconds, shown as seconds with six places.
    Micros(&'static str, fn(&CoreCounters) -> &Counter),
    /// A text.
    Text(&'static str, &'static str),
    /// Nothing here moves these.
    Zeros(&'static [&'static str]),
}

use StatLines::{Cores, Gauge, Micros, Shards, Text, Zeros};

/// Counters that are shown under their own names.
macro_rules! named {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |block| &block.$name)),*] };
}

/// Every line of `stats`.
const GENERAL: &[StatLines] = &[
    Gauge("pid", |shared, _| u64::from(shared.config.server.pid)),
    // memcached's clock begins two seconds before its first request, as ours does, so that 0 and 1 are never now.
    Gauge("uptime", |_, now| u64::from(now.secs.saturating_sub(2))),
    Gauge("time", |_, now| now.unix_epoch + u64::from(now.secs)),
    Text("version", VERSION),
    Text("libevent", "none"),
    Gauge("pointer_size", |_, _| u64::from(usize::BITS)),
    Micros("rusage_user", |core| &core.rusage_user_us),
    Micros("rusage_system", |core| &core.rusage_system_us),
    Gauge("max_connections", |shared, _| u64::from(shared.control.connections())),
    Gauge("curr_connections", |shared, _| shared.counters.sum(|core| &core.curr_connections)),
    Cores(named![total_connections, rejected_connections]),
    Gauge("connection_structures", |shared, _| (shared.config.connections_per_core * shared.config.cores) as u64),
    Cores(&[("response_obj_oom", |core| &core.replies_refused)]),
    Zeros(&["response_obj_count", "response_obj_bytes"]),
    Zeros(&["read_buf_count", "read_buf_bytes", "read_buf_bytes_free", "read_buf_oom", "reserved_fds"]),
    Shards(named![cmd_get, cmd_set]),
    Cores(named![cmd_flush]),
    Shards(named![cmd_touch]),
    Cores(named![cmd_meta]),
    Shards(named![get_hits, get_misses, get_expired, get_flushed, delete_misses, delete_hits]),
    Shards(named![incr_misses, incr_hits, decr_misses, decr_hits, cas_misses, cas_hits, cas_badval]),
    Shards(named![touch_hits, touch_misses, store_too_large, store_no_memory]),
    Cores(named![auth_cmds, auth_errors, idle_kicks, bytes_read, bytes_written]),
    Gauge("limit_maxbytes", |shared, _| shared.control.limit_bytes()),
    Gauge("accepting_conns", |shared, _| u64::from(shared.counters.sum(|core| &core.not_accepting) == 0)),
    Cores(&[("listen_disabled_num", |core| &core.listen_disabled)]),
    Cores(&[("time_in_listen_disabled_us", |core| &core.listen_disabled_us)]),
    Gauge("threads", |shared, _| shared.config.cores as u64),
    Cores(named![conn_yields]),
    Zeros(&["hash_power_level"]),
    Gauge("hash_bytes", |shared, _| shared.counters.sum_shards(|shard| &shard.hash_bytes)),
    Zeros(&["hash_is_expanding", "slab_reassign_rescues", "slab_reassign_chunk_rescues"]),
    Zeros(&["slab_reassign_inline_reclaim", "slab_reassign_busy_items", "slab_reassign_busy_deletes"]),
    Zeros(&["slab_reassign_busy_nomem"]),
    Text("slab_reassign_last_busy_status", "none"),
    Zeros(&["slab_reassign_running", "slabs_moved"]),
    Gauge("lru_crawler_running", |shared, _| u64::from(shared.control.dumping.is_taken())),
    Cores(named![lru_crawler_starts]),
    Zeros(&["lru_maintainer_juggles", "malloc_fails", "log_worker_dropped"]),
    Cores(&[("log_worker_written", |core| &core.watch_lines_written)]),
    Cores(&[("log_watcher_skipped", |core| &core.watch_lines_skipped)]),
    Cores(&[("log_watcher_sent", |core| &core.watch_bytes_sent)]),
    Gauge("log_watchers", |shared, _| shared.watchers.count()),
    Zeros(&["unexpected_napi_ids", "round_robin_fallback"]),
    Gauge("bytes", |shared, _| shared.counters.sum_shards(|shard| &shard.bytes)),
    Gauge("curr_items", |shared, _| shared.counters.sum_shards(|shard| &shard.curr_items)),
    Shards(named![total_items]),
    Zeros(&["slab_global_page_pool"]),
    Shards(named![expired_unfetched, evicted_unfetched]),
    Zeros(&["evicted_active"]),
    Shards(named![evictions, reclaimed]),
    Zeros(&["crawler_reclaimed", "crawler_items_checked", "lrutail_reflocked", "moves_to_cold", "moves_to_warm"]),
    Zeros(&["moves_within_lru", "direct_reclaims", "lru_bumps_dropped"]),
];

/// Whether memcached shows a line under these settings.
fn is_shown(shared: &Shared, name: &str) -> bool {
    let server = &shared.config.server;
    match name {
        "idle_kicks" => shared.control.idle_timeout() > 0,
        "rejected_connections" => server.maxconns_fast,
        "lru_crawler_running" | "lru_crawler_starts" => shared.control.lru_crawler(),
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
pub(super) fn general(shared: &Shared, now: Now) -> Box<[u8]> {
    let counters = &shared.counters;
    let mut text = StatText::default();
    let mut stat = |name: &str, value: &dyn std::fmt::Display| {
        if is_shown(shared, name) {
            text.stat(name, value);
        }
    };
    for lines in GENERAL {
        match *lines {
            Cores(counts) => counts.iter().for_each(|(name, of)| stat(name, &counters.since_reset(of))),
            Shards(counts) => counts.iter().for_each(|(name, of)| stat(name, &counters.shards_since_reset(of))),
            Gauge(name, of) => stat(name, &of(shared, now)),
            Micros(name, of) => {
                let us = counters.sum(of);
                stat(name, &format_args!("{}.{:06}", us / 1_000_000, us % 1_000_000));
            }
            Text(name, value) => stat(name, &value),
            Zeros(names) => names.iter().for_each(|name| stat(name, &0)),
        }
    }
    text.end()
}

/// What cores count that memcached does not.
const SIDESTEP_CORES: &[StatOf<CoreCounters>] = named![
    requests,
    cross_core_requests,
    messages_sent,
    messages_served,
    streams,
    uploads,
    waits,
    entries_short,
    slots_short,
    copies,
    pins_short,
    pins_taken,
    slow_readers_closed,
    uploads_short,
    uploads_dropped,
];

/// The same, behind the prefixes of `stats detail`.
const SIDESTEP_DATAGRAMS: &[StatOf<CoreCounters>] = named![
    detail_uncounted,
    udp_datagrams_in,
    udp_datagrams_out,
    udp_bad_frames,
    udp_incomplete,
    udp_budget_drops,
    udp_table_full,
    udp_overdue,
    udp_too_long,
];

/// What shards count that memcached does not.
const SIDESTEP_SHARDS: &[StatOf<ShardStats>] = named![pins_refused, merged, segment_bytes];

/// What is shown of each core by itself.
const EACH_CORE: &[StatOf<CoreCounters>] = named![requests, cross_core_requests, messages_served];

/// `stats sidestep`: how requests crossed cores, what was refused on the way, and what the application counts.
/// docs/metrics.md has a sentence for each name.
pub(super) fn sidestep(counters: &Counters) -> Box<[u8]> {
    let mut text = StatText::default();
    text.stat("cores", counters.cores());
    SIDESTEP_CORES.iter().for_each(|(name, of)| text.stat(name, counters.sum(of)));
    text.stat("detail_prefixes", counters.prefixes.most());
    SIDESTEP_DATAGRAMS.iter().for_each(|(name, of)| text.stat(name, counters.sum(of)));
    SIDESTEP_SHARDS.iter().for_each(|(name, of)| text.stat(name, counters.sum_shards(of)));
    if let Some(outside) = counters.outside() {
        outside.each(&mut |name, value| text.stat(name, value));
    }
    for core in 0..counters.cores() {
        let counted = counters.core(core);
        EACH_CORE.iter().for_each(|(name, of)| text.stat(format_args!("core:{core}:{name}"), of(counted).value()));
        text.stat(format_args!("core:{core}:curr_items"), counters.shard(core).curr_items.value());
    }
    text.end()
}
