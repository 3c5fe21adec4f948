//! What is counted, by whom, and how it is shown under memcached's names.
//!
//! Every core owns a block of counters that it alone writes, on cache lines of its own, and its shard another
//! ([`crate::ShardStats`]). Whoever is asked for `stats` sums them: no message, no lock. `stats reset` cannot write
//! another core's counters, so it keeps the sums of that moment, which later sums are reduced by.
//! Read first: memcached `protocol.txt`, "Statistics".

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use cpu::{CachePadded, Counter};

use crate::core::dump_right::DumpRight;

use crate::clock::Now;
use crate::key::KeyHasher;
use crate::settings::{CacheConfig, User};
use crate::store::ShardStats;
use crate::watch::Watchers;

/// `stats`: the general list.
mod general;
/// What the application counts.
mod outside;
/// `stats detail`: counts by key prefix.
mod prefix;
/// `stats settings`.
mod settings;
/// `stats items`, `stats slabs`.
mod slabs;
/// The text of a `STAT` list.
mod text;

pub(crate) use general::{general, sidestep};
pub use outside::OutsideCounts;
pub(crate) use settings::settings;
pub(crate) use slabs::{dump_line, items, sizes, slabs};
use text::StatText;

pub(crate) use prefix::Counted;
use prefix::Prefixes;

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
    /// Times that a connection had to wait for others: for a block of messages, or for answers to those that are gone.
    pub waits: Counter,
    /// Times that a connection could be owed no more replies before some of its own had left, because all share what
    /// there is.
    pub entries_short: Counter,
    /// The same, of places for values of other cores.
    pub slots_short: Counter,
    /// Values copied because no pin could be had.
    pub copies: Counter,
    /// Times that neither a pin nor a copy could be had, so that whoever read slowest lost its pin.
    pub pins_short: Counter,
    /// Pins taken from those who read slowest.
    pub pins_taken: Counter,
    /// Of those, connections closed because the store then needed the room of what they were reading.
    pub slow_readers_closed: Counter,
    /// Times that a value that was to follow found no room, so that slow ones had to give way.
    pub uploads_short: Counter,
    /// Values that were being sent slowly and gave way to others.
    pub uploads_dropped: Counter,
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
    /// Credentials offered (`-Y`).
    pub auth_cmds: Counter,
    /// Of those, refused ones.
    pub auth_errors: Counter,
    /// Fetches and connections refused because they asked for more replies than `-o read_buf_mem_limit` has room for.
    pub replies_refused: Counter,
    /// Connections closed because they had not said anything for long (`-o idle_timeout`). The application's.
    pub idle_kicks: Counter,
    /// Times that no more connections were accepted (`-o no_maxconns_fast`). The application's; the first core's.
    pub listen_disabled: Counter,
    /// Microseconds for which none were. The application's; the first core's.
    pub listen_disabled_us: Counter,
    /// 1 while none are (gauge). The application's; the first core's.
    pub not_accepting: Counter,
    /// Requests not counted for `stats detail`, whose prefix found no room.
    pub detail_uncounted: Counter,
    /// Datagrams that came in.
    pub udp_datagrams_in: Counter,
    /// Datagrams that went out.
    pub udp_datagrams_out: Counter,
    /// Datagrams dropped because they hold no request of one datagram: at most 8 bytes, or a total that is not 1.
    pub udp_bad_frames: Counter,
    /// Requests whose last command was not whole, and was dropped.
    pub udp_incomplete: Counter,
    /// Replies dropped because their client may not be sent so much: it is not trusted, and has sent too little.
    pub udp_budget_drops: Counter,
    /// Requests dropped because as many as may be were unanswered.
    pub udp_table_full: Counter,
    /// Requests given up because they could not be answered in time.
    pub udp_overdue: Counter,
    /// Replies dropped because they need more than 65,535 datagrams, or are a list longer than is gathered.
    pub udp_too_long: Counter,
    /// Processor time in user mode, in microseconds (gauge). The application's; the first core's for the process.
    pub rusage_user_us: Counter,
    /// Processor time in the kernel, in microseconds (gauge). The application's; the first core's for the process.
    pub rusage_system_us: Counter,
}

/// How `shutdown` asked the server to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stopping {
    /// `shutdown graceful`.
    Graceful = 1,
    /// `shutdown`.
    Now = 2,
}

/// The number of the first connection: those below are listeners.
const FIRST_CONNECTION: u32 = 16;

/// The counters of all cores, and what the administrator changed while the cache runs.
#[derive(Debug)]
pub struct Ledger {
    cores: Box<[CachePadded<CoreCounters>]>,
    shards: Box<[Arc<ShardStats>]>,
    /// What `stats detail` counts.
    prefixes: Prefixes,
    verbosity: AtomicU32,
    /// Whether the commands of lru_crawler are obeyed.
    lru_crawler: AtomicBool,
    /// One dump is under way.
    pub(crate) dumping: DumpRight,
    /// Who watches.
    pub watchers: Watchers,
    /// Connections ever opened, as far as they have numbers.
    connections: AtomicU32,
    /// Who may speak, if not everybody.
    users: RwLock<Vec<User>>,
    /// What `shutdown` asked for.
    stopping: AtomicU8,
    /// What debugtime has added to the clock, in seconds, and the second at which it stands still if it does.
    clock_ahead: AtomicU32,
    clock_paused: AtomicU32,
    /// What the lines of [`general::GENERAL`] were when `stats reset` was last obeyed.
    baseline: [AtomicU64; general::GENERAL.len()],
    /// By slab class, what [`slabs::gone`] was then.
    class_baseline: Box<[[AtomicU64; 3]]>,
    /// What `-m` or the last `cache_memlimit` asked for, in bytes.
    limit: AtomicU64,
    /// What the application counts, if it has said so.
    outside: OnceLock<Arc<dyn OutsideCounts>>,
    config: CacheConfig,
}

impl Ledger {
    pub(crate) fn new(config: &CacheConfig, shards: Vec<Arc<ShardStats>>, hasher: &KeyHasher) -> Ledger {
        let classes = shards.first().map_or(0, |shard| shard.class_items.len());
        Ledger {
            cores: (0..shards.len()).map(|_| CachePadded(CoreCounters::default())).collect(),
            prefixes: Prefixes::new(shards.len(), config.prefix_delimiter, config.detail, hasher.clone()),
            shards: shards.into_boxed_slice(),
            verbosity: AtomicU32::new(config.server.verbosity.min(2)),
            lru_crawler: AtomicBool::new(config.commands.lru_crawler),
            dumping: DumpRight::default(),
            watchers: Watchers::new(config.cores, config.watch_lines),
            connections: AtomicU32::new(0),
            users: RwLock::new(config.users.clone()),
            stopping: AtomicU8::new(0),
            clock_ahead: AtomicU32::new(0),
            clock_paused: AtomicU32::new(0),
            class_baseline: (0..classes).map(|_| Default::default()).collect(),
            limit: AtomicU64::new(config.shard.memory_bytes as u64),
            baseline: std::array::from_fn(|_| AtomicU64::new(0)),
            outside: OnceLock::new(),
            config: config.clone(),
        }
    }

    /// Has `stats sidestep` show what the application counts too. Once, at the start; later calls change nothing.
    pub fn show_outside(&self, counts: Arc<dyn OutsideCounts>) {
        let _ = self.outside.set(counts);
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
        self.prefixes.is_on()
    }

    pub(crate) fn set_detail(&self, on: bool) {
        self.prefixes.set_on(on);
    }

    /// The verbosity last set, 0 to 2.
    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Ordering::Relaxed)
    }

    pub(crate) fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level.min(2), Ordering::Relaxed);
    }

    /// Whether the commands of lru_crawler are obeyed.
    pub fn lru_crawler(&self) -> bool {
        self.lru_crawler.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lru_crawler(&self, on: bool) {
        self.lru_crawler.store(on, Ordering::Relaxed);
    }

    /// The number of a new connection, above those of the listeners.
    pub(crate) fn next_connection(&self) -> u32 {
        let opened = self.connections.fetch_add(1, Ordering::Relaxed);
        let numbers = u32::MAX - FIRST_CONNECTION;
        FIRST_CONNECTION + opened % numbers
    }

    /// Whether a user has that name and password. Takes a lock that only [`Ledger::set_users`] takes for long.
    pub(crate) fn knows(&self, name: &[u8], password: &[u8]) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let same = |a: &[u8], b: &[u8]| {
            // In time that does not depend on where they differ.
            a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
        };
        users.iter().fold(false, |known, user| known | (same(&user.name, name) & same(&user.password, password)))
    }

    /// Replaces those who may speak (SIGHUP in memcached). Any thread but a core's. With none, everybody who connects
    /// from then on is refused: a server that asked for names does not stop to.
    pub fn set_users(&self, users: Vec<User>) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
    }

    pub(crate) fn stop(&self, how: Stopping) {
        self.stopping.fetch_max(how as u8, Ordering::Relaxed);
    }

    /// Whether and how `shutdown` has asked the server to end.
    pub fn stopping(&self) -> Option<Stopping> {
        match self.stopping.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stopping::Graceful),
            _ => Some(Stopping::Now),
        }
    }

    /// The time as debugtime has set it. A core asks once a turn.
    pub fn shown(&self, now: Now) -> Now {
        let secs = match self.clock_paused.load(Ordering::Relaxed) {
            0 => now.secs.saturating_add(self.clock_ahead.load(Ordering::Relaxed)),
            paused => paused,
        };
        Now { secs, ..now }
    }

    pub(crate) fn pause_clock(&self, secs: u32) {
        self.clock_paused.store(secs, Ordering::Relaxed);
    }

    pub(crate) fn resume_clock(&self) {
        self.clock_paused.store(0, Ordering::Relaxed);
    }

    /// Moves the clock on.
    pub(crate) fn move_clock(&self, secs: u32) {
        self.clock_ahead.fetch_add(secs, Ordering::Relaxed);
        let paused = |paused: u32| (paused != 0).then(|| paused.saturating_add(secs));
        // It stands still or it does not: either is fine.
        let _ = self.clock_paused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paused);
    }

    /// `stats reset`.
    pub(crate) fn reset(&self) {
        for (base, (_, source)) in self.baseline.iter().zip(general::GENERAL) {
            if let general::Source::Count(of) = source {
                base.store(of(self), Ordering::Relaxed);
            }
        }
        for (index, base) in self.class_baseline.iter().enumerate() {
            for (base, now) in base.iter().zip(slabs::gone(self, index + 1)) {
                base.store(now, Ordering::Relaxed);
            }
        }
        self.prefixes.reset();
    }

    /// What a line of the general list was at the last reset.
    fn baseline(&self, line: usize) -> u64 {
        self.baseline[line].load(Ordering::Relaxed)
    }

    /// What left slab class `class`, from 1, since the last reset, as [`slabs::gone`] has it.
    fn gone_since_reset(&self, class: usize) -> [u64; 3] {
        let mut gone = slabs::gone(self, class);
        if let Some(base) = self.class_baseline.get(class - 1) {
            for (count, base) in gone.iter_mut().zip(base) {
                *count = count.wrapping_sub(base.load(Ordering::Relaxed));
            }
        }
        gone
    }

    pub(crate) fn set_limit_bytes(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that the shards may use together, as asked for: they use whole segments of it.
    fn limit_bytes(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Counts for the prefix of `key` on `core`, if `stats detail` is on. The core's thread only.
    #[inline]
    pub(crate) fn count_prefix(&self, core: usize, key: &[u8], counted: Counted) {
        if self.detail() && !self.prefixes.count(core, key, counted) {
            self.core(core).detail_uncounted.add(1);
        }
    }

    /// What `stats detail` has counted.
    pub(crate) fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }
}
