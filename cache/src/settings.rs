//! What a cache is built with: sizes, limits, and the facts that `stats` reports.

use crate::route::landing::{SLOT_BYTES_MAX, SLOT_BYTES_MIN};
use crate::store::{ConfigError, ShardConfig};

/// Cores that one cache may have: a [`crate::PeerSet`] names them in one word.
pub const CORES_MAX: usize = 64;

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
    /// Replies that a connection may be owed before it is read no further.
    pub pending_per_connection: usize,
    /// Replies that a core's connections may be owed together.
    pub pending_per_core: usize,
    /// Places of a core for values that come from other cores.
    pub landing_slots: usize,
    /// Bytes of such a place: key and the first bytes of the value; longer values come through it piece by piece.
    pub landing_slot_bytes: usize,
    /// Landing slots that one connection may hold.
    pub slots_per_connection: usize,
    /// Blocks of messages in each loop between two cores (of about 50 KiB each).
    pub blocks_per_pair: usize,
    /// Values that the connections of one core may be sending to one shard piece by piece at the same time.
    pub uploads_per_owner: usize,
    /// Bytes of values a core may copy when no pin can be had.
    pub copied_bytes_max: usize,
    /// Seconds without a byte moved for which a connection may block others by not reading, or by not finishing a value:
    /// longer than TCP's retransmissions take on a bad network.
    pub grace_secs: u32,
    /// What connections speak (`-B`).
    pub protocol: Protocol,
    /// Whether flush_all is obeyed (`false`: `-F`).
    pub flush_enabled: bool,
    /// What `stats` and `stats settings` say about the server around the cache.
    pub server: ServerFacts,
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
}

impl Default for ServerFacts {
    fn default() -> ServerFacts {
        let pid = std::process::id();
        ServerFacts { pid, tcp_port: 11211, udp_port: 0, max_connections: 1024, interface: None, backlog: 1024 }
    }
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        CacheConfig {
            shard: ShardConfig::default(),
            cores: 1,
            connections_per_core: 1024,
            pending_per_connection: 32,
            pending_per_core: 16 << 10,
            landing_slots: 512,
            landing_slot_bytes: 4096,
            slots_per_connection: 16,
            blocks_per_pair: 16,
            uploads_per_owner: 16,
            copied_bytes_max: 16 << 20,
            grace_secs: 20,
            protocol: Protocol::Auto,
            flush_enabled: true,
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
}

impl CacheConfig {
    /// Checks every size.
    ///
    /// # Errors
    /// [`MeshError::OutOfRange`] for the first field that is wrong.
    pub fn check(&self) -> Result<(), MeshError> {
        let index = u32::MAX as usize - 1;
        for (name, given, least, most) in [
            ("cores", self.cores, 1, CORES_MAX),
            ("connections_per_core", self.connections_per_core, 1, index),
            ("pending_per_connection", self.pending_per_connection, 2, 1024),
            ("pending_per_core", self.pending_per_core, 2, index),
            ("landing_slots", self.landing_slots, 1, 1 << 20),
            ("landing_slot_bytes", self.landing_slot_bytes, SLOT_BYTES_MIN, SLOT_BYTES_MAX),
            ("slots_per_connection", self.slots_per_connection, 1, 1024),
            ("blocks_per_pair", self.blocks_per_pair, 1, 4096),
            ("uploads_per_owner", self.uploads_per_owner, 1, 4096),
        ] {
            if !(least..=most).contains(&given) {
                return Err(MeshError::OutOfRange { name, given, least, most });
            }
        }
        Ok(())
    }
}
