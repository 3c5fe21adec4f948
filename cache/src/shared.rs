//! What all cores of a cache share: its configuration, what administrators have set, counters, watchers.

use std::sync::Arc;

use crate::control::Control;
use crate::counters::Counters;
use crate::key::KeyHasher;
use crate::settings::{CacheConfig, ServerFacts};
use crate::store::ShardStats;
use crate::watch::Watchers;

/// What all cores of a cache share. Nothing in it is locked on a request's path.
#[derive(Debug)]
pub struct Shared {
    /// What the cache was built with.
    pub(crate) config: Arc<CacheConfig>,
    /// What administrators have set since.
    pub control: Control,
    /// What is counted.
    pub counters: Counters,
    /// Who watches.
    pub(crate) watchers: Watchers,
}

impl Shared {
    /// The facts that `stats` reports.
    pub fn server(&self) -> &ServerFacts {
        &self.config.server
    }

    /// Of a cache whose shards count in `shards`. `hasher` decides where the prefixes of `stats detail` are looked for.
    pub(crate) fn new(config: Arc<CacheConfig>, shards: Vec<Arc<ShardStats>>, hasher: &KeyHasher) -> Shared {
        let prefixes = (config.prefix_delimiter, config.detail);
        Shared {
            control: Control::new(&config),
            counters: Counters::new(shards, prefixes, hasher),
            watchers: Watchers::new(config.cores, config.watch_lines),
            config,
        }
    }
}
