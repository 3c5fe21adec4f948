//! `stats settings`: memcached 1.6.18's names, as far as something here stands behind them.
//!
//! What memcached lists and this server has not (its LRU, crawler, extstore, TLS) is left out rather than invented.

use super::{Ledger, StatText};
use crate::settings::Protocol;

/// `stats settings`.
pub(crate) fn settings(ledger: &Ledger) -> Box<[u8]> {
    let config = &ledger.config;
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = StatText::default();
    text.stat("maxbytes", ledger.limit_bytes());
    text.stat("maxconns", config.server.max_connections);
    text.stat("tcpport", config.server.tcp_port);
    text.stat("udpport", config.server.udp_port);
    text.stat("inter", config.server.interface.as_deref().unwrap_or("NULL"));
    text.stat("verbosity", ledger.verbosity());
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
    text.stat("detail_enabled", yes(ledger.detail()));
    text.stat("reqs_per_event", config.requests_per_take);
    text.stat("cas_enabled", yes(config.shard.use_cas));
    text.stat("tcp_backlog", config.server.backlog);
    let protocol = match ledger.config.protocol {
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
    text.stat("slab_chunk_max", config.shard.slab_chunk_max);
    text.stat("lru_crawler", yes(ledger.lru_crawler()));
    text.stat("flush_enabled", yes(config.commands.flush));
    text.stat("dump_enabled", yes(config.commands.dump));
    text.stat("hash_algorithm", "siphash13");
    text.stat("lru_maintainer_thread", "no");
    text.stat("lru_segmented", "no");
    text.stat("temp_lru", "no");
    text.stat("idle_timeout", config.server.idle_timeout_secs);
    text.stat("worker_logbuf_size", config.server.worker_logbuf_bytes);
    text.stat("read_buf_mem_limit", config.server.read_buf_mem_limit_bytes);
    text.stat("track_sizes", "no");
    text.stat("inline_ascii_response", "no");
    text.end()
}
