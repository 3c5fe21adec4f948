//! What administrators set while the cache runs, which every core reads.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::Now;
use crate::cluster::Cluster;
use crate::settings::{CacheConfig, User};

/// Which connection may dump.
mod dump_right;

use dump_right::DumpRight;

/// How `shutdown` asked the server to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stopping {
    /// `shutdown graceful`.
    Graceful = 1,
    /// `shutdown`.
    Now = 2,
}

/// The highest verbosity (memcached's `-vv`); larger numbers mean the same.
const VERBOSITY_MAX: u32 = 2;

/// What administrators have set. Any core sets it, for all.
#[derive(Debug)]
pub struct Control {
    verbosity: AtomicU32,
    lru_crawler: AtomicBool,
    /// What `-m` or the last `cache_memlimit` asked for, in bytes.
    limit: AtomicU64,
    /// The connections that may be open at a time, over all cores.
    connections: AtomicU32,
    /// The seconds after which a silent connection is closed; 0: never.
    idle_timeout: AtomicU32,
    /// The right to dump.
    pub(crate) dumping: DumpRight,
    /// Who may speak, if not everybody.
    users: RwLock<Vec<User>>,
    /// The nodes of which clients are told, if they are.
    cluster: RwLock<Option<Arc<Cluster>>>,
    stopping: AtomicU8,
    /// Seconds that debugtime has added to the clock.
    clock_ahead: AtomicU32,
    /// The second at which debugtime has stopped the clock; 0: it runs.
    clock_paused: AtomicU32,
}

impl Control {
    /// As `config` has it.
    pub(crate) fn new(config: &CacheConfig) -> Control {
        Control {
            verbosity: AtomicU32::new(config.server.verbosity.min(VERBOSITY_MAX)),
            lru_crawler: AtomicBool::new(config.commands.lru_crawler),
            limit: AtomicU64::new(config.shard.memory_bytes as u64),
            connections: AtomicU32::new(config.server.max_connections as u32),
            idle_timeout: AtomicU32::new(config.server.idle_timeout_secs),
            dumping: DumpRight::default(),
            users: RwLock::new(config.users.clone()),
            cluster: RwLock::new(config.cluster.clone().map(Arc::new)),
            stopping: AtomicU8::new(0),
            clock_ahead: AtomicU32::new(0),
            clock_paused: AtomicU32::new(0),
        }
    }

    /// The verbosity last set, 0 to 2.
    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Ordering::Relaxed)
    }

    /// Sets the verbosity that is shown; larger numbers than 2 mean 2. Any thread.
    pub fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level.min(VERBOSITY_MAX), Ordering::Relaxed);
    }

    /// Whether the commands of lru_crawler are obeyed.
    pub fn lru_crawler(&self) -> bool {
        self.lru_crawler.load(Ordering::Relaxed)
    }

    /// Sets whether the commands of lru_crawler are obeyed. Any thread.
    pub fn set_lru_crawler(&self, on: bool) {
        self.lru_crawler.store(on, Ordering::Relaxed);
    }

    /// Bytes that the shards may use together, as asked for: they use whole segments of it.
    pub fn limit_bytes(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit that is shown, once every shard keeps its part of it. Any thread.
    pub fn set_limit_bytes(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// The connections that may be open at a time, as shown; the application keeps to it.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Sets the number of connections that is shown. Any thread.
    pub fn set_connections(&self, most: u32) {
        self.connections.store(most, Ordering::Relaxed);
    }

    /// The seconds after which a silent connection is closed, as shown; 0 is never. The application keeps to it.
    pub fn idle_timeout(&self) -> u32 {
        self.idle_timeout.load(Ordering::Relaxed)
    }

    /// Sets the seconds that are shown. Any thread.
    pub fn set_idle_timeout(&self, seconds: u32) {
        self.idle_timeout.store(seconds, Ordering::Relaxed);
    }

    /// Whether a user has that name and password. Takes a lock that only [`Control::set_users`] takes for long.
    pub(crate) fn knows(&self, name: &[u8], password: &[u8]) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let same = |a: &[u8], b: &[u8]| {
            // In time that does not depend on where they differ.
            a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
        };
        users.iter().fold(false, |known, user| known | (same(&user.name, name) & same(&user.password, password)))
    }

    /// Replaces those who may speak (SIGHUP in memcached). Any thread but a core's. With an empty list everybody who
    /// connects from then on is refused: a server that was started with users goes on asking for a name.
    pub fn set_users(&self, users: Vec<User>) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
    }

    /// The nodes of which clients are told, if they are. Takes a lock that only [`Control::set_cluster`] takes for long.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on clients are told of these nodes, by every core. Any thread but a core's. Unless the
    /// nodes are the same, the version must have grown, since clients take no other list over.
    pub fn set_cluster(&self, cluster: Cluster) {
        *self.cluster.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(cluster));
    }

    /// Asks the server to end, as the command shutdown does. Any thread; whoever waits has to be woken besides.
    pub fn stop(&self, how: Stopping) {
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
        // Fails while the clock goes, when there is nothing more to move.
        let _ = self.clock_paused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paused);
    }
}
