//! What a rig is made of.

use std::time::Duration;

use cache::CacheConfig;
use nic::Faults;

/// What a rig is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    pub queues: u16,
    pub cores: usize,
    pub max_flows: usize,
    pub memory_bytes: usize,
    pub connection_limit: usize,
    /// Places of a core for values of other cores.
    pub landing_slots: usize,
    /// Seconds for which a connection may hold what others wait for.
    pub grace_secs: u32,
    pub faults: Faults,
    pub seed: u64,
    pub rings: stack::Rings,
    pub idle_timeout: Option<Duration>,
    /// Cores without work sleep until they are woken, rather than take turns for nothing.
    pub sleeps: bool,
    /// Flows of a core that are awake at most.
    pub awake_flows: usize,
    /// After what silence a client is asked whether it is there.
    pub keep_alive: Option<Duration>,
    /// After every turn of a core all flows and sessions are laid to rest that may.
    pub drowsy: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            queues: 2,
            cores: 2,
            max_flows: 256,
            memory_bytes: 64 << 20,
            connection_limit: 1 << 20,
            landing_slots: 512,
            grace_secs: CacheConfig::default().grace_secs,
            faults: Faults::default(),
            seed: 1,
            rings: stack::Rings::DEFAULT,
            idle_timeout: None,
            sleeps: true,
            awake_flows: usize::MAX,
            // The peers of a hundred thousand idle connections would not answer.
            keep_alive: None,
            drowsy: false,
        }
    }
}
