//! `stats settings`: every name of memcached 1.6.45's list, in its order, and those of TLS, which not every build has.
//!
//! A value that is in force here is shown. What this server does not have (an LRU and its crawler, a slab mover, extstore,
//! TLS) is shown as off where memcached has a word for that, and else with memcached's default: tools look settings up by
//! name and stop at one that is not there. Read first: `process_stat_settings` in memcached's `memcached.c`.

use super::text::StatText;
use crate::settings::Protocol;
use crate::shared::Shared;

/// memcached's own second buffer of a watcher; here a watcher has the one of `worker_logbuf_size`.
const WATCHER_LOGBUF_BYTES: u32 = 256 << 10;

/// Of the mover of slab pages, which is not here.
const SLAB_MOVER: &[(&str, &str)] = &[("slab_automove_ratio", "0.80"), ("slab_automove_window", "10")];

/// Of the crawler's thread, which is not here.
const CRAWLER: &[(&str, &str)] =
    &[("lru_crawler_sleep", "100"), ("lru_crawler_tocrawl", "0"), ("tail_repair_time", "0")];

/// Of the segmented LRU, which is not here.
const LRU: &[(&str, &str)] = &[
    ("hot_lru_pct", "20"),
    ("warm_lru_pct", "40"),
    ("hot_max_factor", "0.20"),
    ("warm_max_factor", "2.00"),
    ("temp_lru", "no"),
    ("temporary_ttl", "61"),
];

/// Of the store on disk and of TLS, which are not here.
const EXTSTORE_AND_TLS: &[(&str, &str)] = &[
    ("ext_item_size", "512"),
    ("ext_item_age", "4294967295"),
    ("ext_low_ttl", "0"),
    ("ext_recache_rate", "2000"),
    ("ext_wbuf_size", "4194304"),
    ("ext_compact_under", "0"),
    ("ext_drop_under", "0"),
    ("ext_max_sleep", "1000000"),
    ("ext_max_frag", "0.80"),
    ("slab_automove_freeratio", "0.010"),
    ("ext_drop_unread", "no"),
    ("ssl_enabled", "no"),
    ("ssl_chain_cert", "(null)"),
    ("ssl_key", "(null)"),
    ("ssl_verify_mode", "0"),
    ("ssl_keyformat", "1"),
    ("ssl_ciphers", "NULL"),
    ("ssl_ca_cert", "NULL"),
    ("ssl_wbuf_size", "16384"),
    ("ssl_session_cache", "no"),
    ("ssl_kernel_tls", "no"),
    ("ssl_min_version", "tlsv1.2"),
    ("num_napi_ids", "0"),
    ("memory_file", "(null)"),
    ("client_flags_size", "4"),
];

/// `stats settings`.
pub(super) fn settings(shared: &Shared) -> Box<[u8]> {
    let (config, control) = (&shared.config, &shared.control);
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = StatText::default();
    text.stat("maxbytes", control.limit_bytes());
    text.stat("maxconns", control.connections());
    text.stat("tcpport", config.server.tcp_port);
    text.stat("udpport", config.server.udp_port);
    text.stat("inter", config.server.interface.as_deref().unwrap_or("NULL"));
    text.stat("verbosity", control.verbosity());
    text.stat("oldest", 0);
    text.stat("evictions", if config.shard.evict { "on" } else { "off" });
    text.stat("domain_socket", "NULL");
    text.stat("umask", 700);
    text.stat("shutdown_command", yes(config.commands.shutdown));
    text.stat("growth_factor", format_args!("{:.2}", config.shard.slab_factor));
    text.stat("chunk_size", config.shard.slab_chunk_min);
    text.stat("num_threads", config.cores);
    text.stat("num_threads_per_udp", config.cores);
    text.stat("stat_key_prefix", char::from(config.prefix_delimiter));
    text.stat("detail_enabled", yes(shared.counters.prefixes.is_on()));
    text.stat("reqs_per_event", config.requests_per_take);
    text.stat("cas_enabled", yes(config.shard.use_cas));
    text.stat("tcp_backlog", config.server.backlog);
    let protocol = match config.protocol {
        Protocol::Auto => "auto-negotiate",
        Protocol::Ascii => "ascii",
        Protocol::Binary => "binary",
    };
    text.stat("binding_protocol", protocol);
    text.stat("auth_enabled_sasl", "no");
    text.stat("auth_enabled_ascii", config.server.auth_file.as_deref().unwrap_or("no"));
    text.stat("item_size_max", config.shard.item_size_max);
    text.stat("maxconns_fast", yes(config.server.maxconns_fast));
    text.stat("hashpower_init", config.server.hashpower);
    text.stat("slab_reassign", "no");
    text.stat("slab_automove", 0);
    text.stats(SLAB_MOVER);
    text.stat("slab_chunk_max", config.shard.slab_chunk_max);
    text.stat("lru_crawler", yes(control.lru_crawler()));
    text.stats(CRAWLER);
    text.stat("flush_enabled", yes(config.commands.flush));
    text.stat("dump_enabled", yes(config.commands.dump));
    text.stat("hash_algorithm", "siphash13");
    text.stat("lru_maintainer_thread", "no");
    text.stat("lru_segmented", "no");
    text.stats(LRU);
    text.stat("idle_timeout", control.idle_timeout());
    text.stat("watcher_logbuf_size", WATCHER_LOGBUF_BYTES);
    text.stat("worker_logbuf_size", config.server.worker_logbuf_bytes);
    text.stat("read_buf_mem_limit", config.server.read_buf_mem_limit_bytes);
    text.stat("track_sizes", "no");
    text.stat("inline_ascii_response", "no");
    text.stats(EXTSTORE_AND_TLS);
    text.end()
}
