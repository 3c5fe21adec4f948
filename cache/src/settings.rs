//! What a cache is built with: sizes, limits, and the facts that `stats` reports.

use std::net::SocketAddr;

use crate::cluster::Cluster;
use crate::key::KEY_MAX_BYTES;
use crate::store::{ConfigError, ShardConfig};

/// Cores that one cache may have: a [`crate::PeerSet`] names them in one word.
pub const CORES_MAX: usize = 64;

/// Commands (or keys) executed by one [`Session::take`](crate::Session::take) unless the configuration says otherwise;
/// then others have their turn (memcached's `-R` is 20).
pub const REQUESTS_PER_TAKE: u32 = 64;

/// The smallest landing slot: a key and a fair piece of a value.
pub(crate) const SLOT_BYTES_MIN: usize = KEY_MAX_BYTES + 256;

/// The largest landing slot: what one answer can fill, and what a span of a block can name.
pub(crate) const SLOT_BYTES_MAX: usize = 32 << 10;

/// Requests over UDP that a core may have begun and not answered.
const DATAGRAM_PLACES_MAX: usize = 1 << 16;

/// How a cache of one or more cores is built. [`Default`] suits a small server; sizes are for all cores together
/// unless they say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheConfig {
    /// The store. `memory_bytes` and `memory_ceiling_bytes` are for all shards together: memcached's `-m`.
    pub shard: ShardConfig,
    /// Cores, each with one shard; memcached's `-t`.
    pub cores: usize,
    /// Connections a core may have; every [`crate::ConnId`] is below it.
    pub connections_per_core: usize,
    /// Requests over UDP that a core may have begun and not answered; each is a connection of the core's, numbered from
    /// `connections_per_core` on. 0: there is no UDP.
    pub datagram_places: usize,
    /// Replies that a connection may be owed before it is read no further, as long as there are plenty.
    pub pending_per_connection: usize,
    /// Replies that a core's connections may be owed together, beyond one each.
    pub pending_per_core: usize,
    /// Replies that a core's connections may have asked for and not yet been given before one that asks for more is
    /// refused (`-o read_buf_mem_limit`). `None`: never; it waits for those above.
    pub reply_limit: Option<u32>,
    /// Places of a core for values that come from other cores, beyond one for each connection.
    pub landing_slots: usize,
    /// Bytes of such a place: key and the first bytes of the value; longer values come through it piece by piece.
    pub landing_slot_bytes: usize,
    /// Landing slots that one connection may hold, as long as there are plenty.
    pub slots_per_connection: usize,
    /// Blocks of messages in each loop between two cores (of about 50 KiB each).
    pub blocks_per_pair: usize,
    /// Values that may be on their way from one core to one shard piece by piece, beyond one for each connection: those
    /// of connections that are gone already.
    pub uploads_per_owner: usize,
    /// Bytes of values a core may copy when no pin can be had.
    pub copied_bytes_max: usize,
    /// Seconds for which a value on its way, in or out, is not judged by how fast it gets on: as long as a few lost
    /// segments take to come again.
    pub grace_secs: u32,
    /// Commands (or keys) that a connection executes before others have their turn (`-R`).
    pub requests_per_take: u32,
    /// Which commands are obeyed beyond those on keys.
    pub commands: Commands,
    /// What ends a key's prefix in `stats detail` (`-D`).
    pub prefix_delimiter: u8,
    /// Whether prefixes are counted from the start (`-D` was given).
    pub detail: bool,
    /// Who may speak (`-Y`). Empty: everybody.
    pub users: Vec<User>,
    /// The nodes of which clients are told (`--cluster`). `None`: nobody asks, as with memcached.
    pub cluster: Option<Cluster>,
    /// Lines that a watcher may be behind each core before it loses some (`-o worker_logbuf_size`).
    pub watch_lines: usize,
    /// What connections speak (`-B`).
    pub protocol: Protocol,
    /// What `stats` and `stats settings` say about the server around the cache.
    pub server: ServerFacts,
}

/// Which commands are obeyed; those that are not answer as memcached does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commands {
    /// flush_all (`false`: `-F`).
    pub flush: bool,
    /// `stats cachedump`, `lru_crawler metadump` and `mgdump` (`false`: `-X`).
    pub dump: bool,
    /// watch (`false`: `-W`).
    pub watch: bool,
    /// shutdown (`true`: `-A`).
    pub shutdown: bool,
    /// debugtime, which moves the cache's clock. For tests alone.
    pub debug: bool,
    /// lru_crawler, until `lru_crawler enable` or `disable` changes it (`false`: `-o no_lru_crawler`).
    pub lru_crawler: bool,
}

impl Default for Commands {
    fn default() -> Commands {
        Commands { flush: true, dump: true, watch: true, shutdown: false, debug: false, lru_crawler: true }
    }
}

/// One who may speak after saying name and password (memcached's `authfile.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name; holds no blank.
    pub name: Box<[u8]>,
    /// The password; holds no blank.
    pub password: Box<[u8]>,
}

/// What connections speak: memcached's `-B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What their first byte says.
    #[default]
    Auto,
    /// Classic and meta commands, whatever the first byte is.
    Ascii,
    /// Packets; anything else closes the connection.
    Binary,
}

/// Facts about the server that only `stats` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// The process.
    pub pid: u32,
    /// `-p`.
    pub tcp_port: u16,
    /// `-U`; 0 is off.
    pub udp_port: u16,
    /// `-c`.
    pub max_connections: usize,
    /// `-l` or the interface.
    pub interface: Option<String>,
    /// `-b`.
    pub backlog: usize,
    /// Where connections are accepted, as `stats conns` shows it. Empty: nowhere.
    pub listeners: Vec<String>,
    /// Where datagrams are taken, as `stats conns` shows it; empty: nowhere.
    pub udp_listeners: Vec<String>,
    /// The server's ends of connections, of which `stats conns` shows that of each; at most 256. Where one is of IPv6, a
    /// connection's place takes 16 bytes more.
    pub locals: Vec<SocketAddr>,
    /// The file of `-Y`.
    pub auth_file: Option<String>,
    /// Whether connections above `-c` are told so and closed, rather than left to wait.
    pub maxconns_fast: bool,
    /// `-o idle_timeout`, in seconds; 0 is never.
    pub idle_timeout_secs: u32,
    /// Whether `-o no_lru_maintainer` was left out, which only `stats` shows: there is no LRU to maintain.
    pub lru_maintainer: bool,
    /// `-o hashpower`, which only this line shows: the index starts small and grows as it fills.
    pub hashpower: u32,
    /// Bytes that a watcher may be behind (`-o worker_logbuf_size`).
    pub worker_logbuf_bytes: usize,
    /// `-o read_buf_mem_limit`, in bytes; 0 is none. [`CacheConfig::reply_limit`] is what it comes to.
    pub read_buf_mem_limit_bytes: usize,
    /// What the verbosity is at the start: how often `-v` was given.
    pub verbosity: u32,
}

impl Default for ServerFacts {
    fn default() -> ServerFacts {
        let pid = std::process::id();
        ServerFacts {
            pid,
            tcp_port: 11211,
            udp_port: 0,
            max_connections: 1024,
            interface: None,
            backlog: 1024,
            listeners: Vec::new(),
            udp_listeners: Vec::new(),
            locals: Vec::new(),
            auth_file: None,
            maxconns_fast: true,
            idle_timeout_secs: 0,
            lru_maintainer: true,
            hashpower: 0,
            worker_logbuf_bytes: 64 << 10,
            read_buf_mem_limit_bytes: 0,
            verbosity: 0,
        }
    }
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        CacheConfig {
            shard: ShardConfig::default(),
            cores: 1,
            connections_per_core: 1024,
            datagram_places: 0,
            pending_per_connection: 32,
            pending_per_core: 16 << 10,
            reply_limit: None,
            landing_slots: 512,
            landing_slot_bytes: 4096,
            slots_per_connection: 16,
            blocks_per_pair: 16,
            uploads_per_owner: 16,
            copied_bytes_max: 16 << 20,
            grace_secs: 3,
            requests_per_take: REQUESTS_PER_TAKE,
            commands: Commands::default(),
            prefix_delimiter: b':',
            detail: false,
            users: Vec::new(),
            cluster: None,
            watch_lines: 256,
            protocol: Protocol::Auto,
            server: ServerFacts::default(),
        }
    }
}

/// Why a cache cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// A shard cannot be built.
    #[error(transparent)]
    Shard(#[from] ConfigError),
    /// A size is outside its range.
    #[error("{name} is {given}, but must be {least} to {most}; change it in the cache's configuration")]
    OutOfRange {
        /// The field of [`CacheConfig`].
        name: &'static str,
        /// What was asked for.
        given: usize,
        /// The least possible.
        least: usize,
        /// The most possible.
        most: usize,
    },
    /// The system refused memory for values on their way between cores.
    #[error("cannot map {bytes} bytes for values on their way between cores: {source}; lower -c or -t")]
    Landing {
        /// What was asked for on one core, in bytes.
        bytes: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl CacheConfig {
    /// Connections that a core knows of: those of the application, and requests over UDP.
    pub(crate) fn conns(&self) -> usize {
        self.connections_per_core + self.datagram_places
    }

    /// Landing slots of a core.
    pub(crate) fn slots(&self) -> usize {
        self.conns() + self.landing_slots
    }

    /// Checks every size.
    ///
    /// # Errors
    /// [`MeshError::OutOfRange`] for the first field that is wrong.
    pub fn check(&self) -> Result<(), MeshError> {
        let index = u32::MAX as usize - 1;
        for (name, given, least, most) in [
            ("cores", self.cores, 1, CORES_MAX),
            ("connections_per_core", self.connections_per_core, 1, index - DATAGRAM_PLACES_MAX),
            ("datagram_places", self.datagram_places, 0, DATAGRAM_PLACES_MAX),
            ("pending_per_connection", self.pending_per_connection, 2, 1024),
            ("pending_per_core", self.pending_per_core, 2, index),
            ("landing_slots", self.landing_slots, 1, 1 << 20),
            ("landing_slot_bytes", self.landing_slot_bytes, SLOT_BYTES_MIN, SLOT_BYTES_MAX),
            ("slots_per_connection", self.slots_per_connection, 1, 1024),
            ("blocks_per_pair", self.blocks_per_pair, 1, 4096),
            ("uploads_per_owner", self.uploads_per_owner, 1, 4096),
            ("requests_per_take", self.requests_per_take as usize, 1, index),
            ("watch_lines", self.watch_lines, 1, 1 << 20),
        ] {
            if !(least..=most).contains(&given) {
                return Err(MeshError::OutOfRange { name, given, least, most });
            }
        }
        Ok(())
    }
}
