//! What is counted, by whom, and how it is shown under memcached's names.
//!
//! Every core owns a block of counters that it alone writes, on cache lines of its own, and its shard another
//! ([`crate::ShardStats`]). Whoever is asked for `stats` sums them: no message, no lock. `stats reset` cannot write
//! another core's counters, so it keeps the sums of that moment, which later sums are reduced by.
//! Read first: memcached `protocol.txt`, "Statistics".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cpu::{CachePadded, Counter};

use crate::settings::CacheConfig;
use crate::store::ShardStats;

/// `stats`: the general list.
mod general;
/// `stats detail`: counts by key prefix.
mod prefix;
/// `stats settings`.
mod settings;
/// `stats items`, `stats slabs`.
mod slabs;
/// The text of a `STAT` list.
mod text;

pub(crate) use general::{general, sidestep};
pub(crate) use settings::settings;
pub(crate) use slabs::{dump_line, items, sizes, slabs};
use text::StatText;

pub(crate) use prefix::Counted;
use prefix::PrefixTable;

/// What one core counts. Written by the owning core, readable by any. Gauges say so.
#[derive(Debug, Default)]
pub struct CoreCounters {
    /// Commands executed or sent on, each key of a fetch once.
    pub requests: Counter,
    /// Of those, keys of other cores.
    pub cross_core_requests: Counter,
    /// flush_all commands.
    pub cmd_flush: Counter,
    /// `me` commands: the only meta command that memcached 1.6.18 counts.
    pub cmd_meta: Counter,
    /// Messages sent to other cores.
    pub messages_sent: Counter,
    /// Messages of other cores served.
    pub messages_served: Counter,
    /// Values that were sent to another core in more than one piece.
    pub streams: Counter,
    /// Values that were received in more than one piece.
    pub uploads: Counter,
    /// Times that a connection had to wait for a place, a block or a credit.
    pub waits: Counter,
    /// Values copied because no pin could be had.
    pub copies: Counter,
    /// Gets of other cores answered as misses because nothing could be held.
    pub gets_dropped: Counter,
    /// Connections named because they did not read and others waited.
    pub slow_readers_closed: Counter,
    /// Connections named because they did not finish a value and others waited.
    pub stalled_uploads_closed: Counter,
    /// 1 while pins of this shard are waited for, or were missed lately (gauge): every core closes slow readers then.
    pub pins_starved: Counter,
    /// Connections now open (gauge). The application's.
    pub curr_connections: Counter,
    /// Connections ever opened. The application's.
    pub total_connections: Counter,
    /// Connections refused for want of room. The application's.
    pub rejected_connections: Counter,
    /// Bytes of requests taken. The session's.
    pub bytes_read: Counter,
    /// Bytes of replies given. The session's.
    pub bytes_written: Counter,
    /// Times that a connection had to let others go first.
    pub conn_yields: Counter,
    /// Processor time in user mode, in microseconds (gauge). The application's; the first core's for the process.
    pub rusage_user_us: Counter,
    /// Processor time in the kernel, in microseconds (gauge). The application's; the first core's for the process.
    pub rusage_system_us: Counter,
}

/// The counters of all cores, and what the administrator changed while the cache runs.
#[derive(Debug)]
pub struct Ledger {
    cores: Box<[CachePadded<CoreCounters>]>,
    shards: Box<[Arc<ShardStats>]>,
    prefixes: Box<[PrefixTable]>,
    detail: AtomicBool,
    verbosity: AtomicU32,
    /// What the lines of [`general::GENERAL`] were when `stats reset` was last obeyed.
    baseline: [AtomicU64; general::GENERAL.len()],
    /// How often `stats reset` was obeyed: prefixes counted before count no more.
    resets: AtomicU32,
    config: CacheConfig,
}

impl Ledger {
    pub(crate) fn new(config: &CacheConfig, shards: Vec<Arc<ShardStats>>) -> Ledger {
        Ledger {
            cores: (0..shards.len()).map(|_| CachePadded(CoreCounters::default())).collect(),
            prefixes: (0..shards.len()).map(|_| PrefixTable::new()).collect(),
            shards: shards.into_boxed_slice(),
            detail: AtomicBool::new(false),
            verbosity: AtomicU32::new(0),
            baseline: std::array::from_fn(|_| AtomicU64::new(0)),
            resets: AtomicU32::new(0),
            config: config.clone(),
        }
    }

    /// Cores of the cache.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// The counters of one core. Its thread alone writes them.
    pub fn core(&self, core: usize) -> &CoreCounters {
        &self.cores[core]
    }

    /// The counters of one shard.
    pub fn shard(&self, core: usize) -> &ShardStats {
        &self.shards[core]
    }

    /// The sum over all cores.
    pub fn sum(&self, of: impl Fn(&CoreCounters) -> &Counter) -> u64 {
        self.cores.iter().map(|core| of(core).value()).fold(0, u64::wrapping_add)
    }

    /// The sum over all shards.
    pub fn sum_shards(&self, of: impl Fn(&ShardStats) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| of(shard).value()).fold(0, u64::wrapping_add)
    }

    /// Whether prefixes are counted (`stats detail on`).
    pub fn detail(&self) -> bool {
        self.detail.load(Ordering::Relaxed)
    }

    pub(crate) fn set_detail(&self, on: bool) {
        self.detail.store(on, Ordering::Relaxed);
    }

    /// The verbosity last set, 0 to 2.
    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Ordering::Relaxed)
    }

    pub(crate) fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level.min(2), Ordering::Relaxed);
    }

    /// `stats reset`.
    pub(crate) fn reset(&self) {
        for (base, (_, source)) in self.baseline.iter().zip(general::GENERAL) {
            if let general::Source::Count(of) = source {
                base.store(of(self), Ordering::Relaxed);
            }
        }
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    /// What a line of the general list was at the last reset.
    fn baseline(&self, line: usize) -> u64 {
        self.baseline[line].load(Ordering::Relaxed)
    }

    /// Bytes that the shards may use together.
    fn limit_bytes(&self) -> u64 {
        match self.sum_shards(|shard| &shard.limit_maxbytes) {
            0 => self.config.shard.memory_bytes as u64,
            limit => limit,
        }
    }

    /// Counts for the prefix of `key` on `core`, if `stats detail` is on. The core's thread only.
    #[inline]
    pub(crate) fn count_prefix(&self, core: usize, key: &[u8], counted: Counted) {
        if self.detail() {
            self.prefixes[core].count(key, counted, self.resets.load(Ordering::Relaxed));
        }
    }

    /// `stats detail dump`.
    pub(crate) fn dump_prefixes(&self) -> Box<[u8]> {
        prefix::dump(&self.prefixes, self.resets.load(Ordering::Relaxed))
    }
}
