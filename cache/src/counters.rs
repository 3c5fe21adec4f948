//! What is counted, and by whom.
//!
//! Every core owns a block of counters that it alone writes, on cache lines of its own, and its shard another
//! ([`ShardStats`]). Whoever is asked for `stats` sums them: no message, no lock. `stats reset` cannot write another
//! core's counters, so it keeps the sums of that moment; a count since then is what is above them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use cpu::{CachePadded, Counter};

use crate::key::KeyHasher;
use crate::store::{ShardStats, counter_block};

/// What the application counts.
mod outside;
/// `stats detail`: counts by key prefix.
mod prefix;

pub use outside::OutsideCounts;
pub(crate) use prefix::Counted;
use prefix::Prefixes;

counter_block! {
    /// What one core counts. Written by the owning core, readable by any. Gauges say so.
    pub struct CoreCounters {
        /// Commands executed or sent on, each key of a fetch once.
        requests,
        /// Of those, keys of other cores.
        cross_core_requests,
        /// flush_all commands.
        cmd_flush,
        /// `me` commands: the only meta command that memcached 1.6.45 counts.
        cmd_meta,
        /// Messages sent to other cores.
        messages_sent,
        /// Messages of other cores served.
        messages_served,
        /// Values that were sent to another core in more than one piece.
        streams,
        /// Values that were received in more than one piece.
        uploads,
        /// Times that a connection had to wait for others: for a block of messages, or for answers to those that are
        /// gone.
        waits,
        /// Times that a connection could be owed no more replies before some of its own had left, because all share
        /// what there is.
        entries_short,
        /// The same, of places for values of other cores.
        slots_short,
        /// Values copied because no pin could be had.
        copies,
        /// Times that neither a pin nor a copy could be had, so that whoever read slowest lost its pin.
        pins_short,
        /// Pins taken from those who read slowest.
        pins_taken,
        /// Of those, connections closed because the store then needed the room of what they were reading.
        slow_readers_closed,
        /// Times that a value that was to follow found no room, so that slow ones had to give way.
        uploads_short,
        /// Values that were being sent slowly and gave way to others.
        uploads_dropped,
        /// Connections now open (gauge). The application's.
        curr_connections,
        /// Connections ever opened. The application's.
        total_connections,
        /// Connections refused for want of room. The application's.
        rejected_connections,
        /// Bytes of requests taken. The session's.
        bytes_read,
        /// Bytes of replies given. The session's.
        bytes_written,
        /// Times that a connection had to let others go first.
        conn_yields,
        /// Credentials offered (`-Y`).
        auth_cmds,
        /// Of those, refused ones.
        auth_errors,
        /// `lru_crawler crawl` and dumps that were begun.
        lru_crawler_starts,
        /// Fetches and connections refused because they asked for more replies than `-o read_buf_mem_limit` has room
        /// for.
        replies_refused,
        /// Connections closed because they had not said anything for long (`-o idle_timeout`). The application's.
        idle_kicks,
        /// Times that no more connections were accepted (`-o no_maxconns_fast`). The application's; the first core's.
        listen_disabled,
        /// Microseconds for which none were. The application's; the first core's.
        listen_disabled_us,
        /// 1 while none are (gauge). The application's; the first core's.
        not_accepting,
        /// Requests not counted for `stats detail`, whose prefix found no room.
        detail_uncounted,
        /// Datagrams that came in.
        udp_datagrams_in,
        /// Datagrams that went out.
        udp_datagrams_out,
        /// Datagrams dropped because they hold no request of one datagram: at most 8 bytes, or a total that is not 1.
        udp_bad_frames,
        /// Requests whose last command was not whole, and was dropped.
        udp_incomplete,
        /// Replies dropped because their client may not be sent so much: it is not trusted, and has sent too little.
        udp_budget_drops,
        /// Requests dropped because as many as may be were unanswered.
        udp_table_full,
        /// Requests given up because they could not be answered in time.
        udp_overdue,
        /// Replies dropped because they need more than 65,535 datagrams, or are a list longer than is gathered.
        udp_too_long,
        /// Processor time in user mode, in microseconds (gauge). The application's; the first core's for the process.
        rusage_user_us,
        /// Processor time in the kernel, in microseconds (gauge). The application's; the first core's for the process.
        rusage_system_us,
        /// Lines put in the queues of watchers.
        watch_lines_written,
        /// Lines that found a watcher's queue full.
        watch_lines_skipped,
        /// Bytes given to watchers.
        watch_bytes_sent,
    }
}

/// The number of the first connection: those below are listeners.
const FIRST_CONNECTION: u32 = 16;

/// The counters of all cores.
#[derive(Debug)]
pub struct Counters {
    cores: Box<[Arc<CachePadded<CoreCounters>>]>,
    shards: Box<[Arc<ShardStats>]>,
    /// What `stats detail` counts.
    pub(crate) prefixes: Prefixes,
    /// Connections ever opened, as far as they have numbers.
    connections: AtomicU32,
    /// The sums when `stats reset` was last obeyed.
    cores_at_reset: CoreCounters,
    shards_at_reset: ShardStats,
    /// What the application counts, if it has said so.
    outside: OnceLock<Arc<dyn OutsideCounts>>,
}

impl Counters {
    /// Of a cache whose shards count in `shards`; `prefixes`: the byte that ends a prefix, and whether prefixes are
    /// counted from the start.
    pub(crate) fn new(shards: Vec<Arc<ShardStats>>, prefixes: (u8, bool), hasher: &KeyHasher) -> Counters {
        let (delimiter, detail) = prefixes;
        let classes = shards.first().map(|shard| &shard.classes[..]).unwrap_or_default();
        let chunk_bytes: Vec<u32> = classes.iter().map(|class| class.chunk_bytes).collect();
        Counters {
            cores: (0..shards.len()).map(|_| Arc::new(CachePadded(CoreCounters::default()))).collect(),
            prefixes: Prefixes::new(shards.len(), delimiter, detail, hasher.clone()),
            connections: AtomicU32::new(0),
            cores_at_reset: CoreCounters::default(),
            shards_at_reset: ShardStats::new(&chunk_bytes),
            shards: shards.into_boxed_slice(),
            outside: OnceLock::new(),
        }
    }

    /// Begins or ends counting by prefix, as `stats detail` does. Any thread.
    pub fn set_detail(&self, on: bool) {
        self.prefixes.set_on(on);
    }

    /// Cores of the cache.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// The counters of one core. Its thread alone writes them.
    pub fn core(&self, core: usize) -> &CoreCounters {
        &self.cores[core]
    }

    /// The same, for the core to keep: it counts often.
    pub(crate) fn of_core(&self, core: usize) -> Arc<CachePadded<CoreCounters>> {
        self.cores[core].clone()
    }

    /// The counters of one shard.
    pub fn shard(&self, core: usize) -> &ShardStats {
        &self.shards[core]
    }

    /// The sum over all cores.
    pub fn sum(&self, of: impl Fn(&CoreCounters) -> &Counter) -> u64 {
        sum(self.cores.iter().map(|core| of(core)))
    }

    /// The sum over all shards.
    pub fn sum_shards(&self, of: impl Fn(&ShardStats) -> &Counter) -> u64 {
        sum(self.shards.iter().map(|shard| of(shard)))
    }

    /// The sum over all cores since the last `stats reset`.
    pub(crate) fn since_reset(&self, of: impl Fn(&CoreCounters) -> &Counter) -> u64 {
        self.sum(&of).wrapping_sub(of(&self.cores_at_reset).value())
    }

    /// The sum over all shards since the last `stats reset`.
    pub(crate) fn shards_since_reset(&self, of: impl Fn(&ShardStats) -> &Counter) -> u64 {
        self.sum_shards(&of).wrapping_sub(of(&self.shards_at_reset).value())
    }

    /// `stats reset`.
    pub(crate) fn reset(&self) {
        for (index, at_reset) in self.cores_at_reset.counters().enumerate() {
            at_reset.set(sum(self.cores.iter().filter_map(|core| core.counters().nth(index))));
        }
        for (index, at_reset) in self.shards_at_reset.all().enumerate() {
            at_reset.set(sum(self.shards.iter().filter_map(|shard| shard.all().nth(index))));
        }
        self.prefixes.reset();
    }

    /// The number of a new connection, above those of the listeners.
    pub(crate) fn next_connection(&self) -> u32 {
        let opened = self.connections.fetch_add(1, Ordering::Relaxed);
        let numbers = u32::MAX - FIRST_CONNECTION;
        FIRST_CONNECTION + opened % numbers
    }

    /// Counts for the prefix of `key` on `core`, if `stats detail` is on. The core's thread only.
    #[inline]
    pub(crate) fn count_prefix(&self, core: usize, key: &[u8], counted: Counted) {
        if self.prefixes.is_on() && !self.prefixes.count(core, key, counted) {
            self.core(core).detail_uncounted.add(1);
        }
    }

    /// Has `stats sidestep` show what the application counts too. Once, at the start; later calls change nothing.
    pub fn show_outside(&self, counts: Arc<dyn OutsideCounts>) {
        let _ = self.outside.set(counts);
    }

    /// What the application counts.
    pub(crate) fn outside(&self) -> Option<&dyn OutsideCounts> {
        self.outside.get().map(|outside| &**outside)
    }
}

fn sum<'a>(counters: impl Iterator<Item = &'a Counter>) -> u64 {
    counters.map(Counter::value).fold(0, u64::wrapping_add)
}
