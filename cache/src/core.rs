//! One core's cache: its shard, its ends of the queues to the other cores, and what its connections are owed.
//!
//! A [`Core`] is owned by one thread; nothing in it is shared but counters and queues. It has two sides: as the owner
//! of keys it executes what is asked of its shard (`here.rs`), as the server of its connections it owes them replies
//! and asks other cores (`clients.rs`). This file wires the two and has the turn of a worker:
//!
//! ```text
//!  core.collect(now)                 land answers, serve other cores' requests
//!  while core.next_resumable() ─┐    connections that can go on
//!  connections with bytes ──────┴─►  session.take(..), session.give(..), until none moves
//!  core.post()                       one push per peer; ring the doorbells it names
//! ```
//!
//! Invariant C1: whatever a command needs while it is in flight (entry, landing slot, block) is taken
//! before it is sent, in one step, or not at all; so nothing is held while something else is waited for.
//! Read first: `crate::mesh`, then [`crate::Session`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::clock::Now;
use crate::counters::CoreCounters;
use crate::key::KeyHasher;
use crate::mesh::Mesh;
use crate::mesh::landing::Landing;
use crate::observe::Observer;
use crate::peers::PeerSet;
use crate::replies::Replies;
use crate::settings::{CacheConfig, MeshError};
use crate::shard::Shard;
use crate::shared::Shared;
use crate::store::ShardConfig;
use crate::watch::{CONNEVENTS, CloseReason, What};

/// A count of everything held, for tests of leaks.
mod census;
/// This core as the server of its connections.
pub(crate) mod clients;
/// What is known of each connection.
pub(crate) mod conns;
/// Texts given as far as there is room.
mod given;
/// Items that replies on their way are made of.
pub(crate) mod held;
/// This core as the owner of keys.
pub(crate) mod here;
/// The first of each connection, and a part of the rest.
pub(crate) mod share;
/// Places that other cores name by number.
mod table;
/// What connections are told part by part.
mod told;
/// Queues for what is scarce.
mod turns;
/// Values that are being sent to this shard.
pub(crate) mod uploads;
/// Dumps, and the list of connections.
pub(crate) mod walk;
/// What watchers are told.
pub(crate) mod watching;

pub use census::CoreCensus;
use clients::Clients;
pub use conns::ConnId;
use conns::Conns;
use held::HeldItems;
use here::Here;
pub(crate) use turns::Need;
use turns::Turns;
use uploads::Uploads;
use walk::Walks;
use watching::Watching;

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It read so slowly that the room of what it asked for went to others before it had all of it.
    SlowReader,
}

/// One core's cache: the owner of a part of the keys, and the server of its connections. See the module's documentation
/// for its turn.
#[derive(Debug)]
pub struct Core {
    pub(crate) here: Here,
    pub(crate) clients: Clients,
}

impl Core {
    /// Builds the cores of one cache, their shards, and the queues between them. `secret` keys the hash of keys; it
    /// must be random and stay unknown to clients.
    ///
    /// # Errors
    /// [`MeshError`] names the size that is wrong and its range.
    pub fn mesh(config: &CacheConfig, secret: [u8; 16]) -> Result<Vec<Core>, MeshError> {
        config.check()?;
        let cores = config.cores;
        let mut shard_config = config.shard.clone();
        shard_config.memory_bytes /= cores;
        shard_config.memory_ceiling_bytes /= cores;
        let hasher = KeyHasher::new(secret);
        shard_config.cas_step = cores as u64;
        let shard_of = |core: usize| {
            let config = ShardConfig { cas_first: 1 + core as u64, ..shard_config.clone() };
            Shard::new(&config, hasher.clone())
        };
        let shards = (0..cores).map(shard_of).collect::<Result<Vec<_>, _>>()?;
        let config = Arc::new(config.clone());
        let stats = shards.iter().map(|shard| shard.stats().clone()).collect();
        let shared = Arc::new(Shared::new(config.clone(), stats, &hasher));
        let slots = if cores > 1 { config.slots() } else { 0 };
        let replies = config.conns() + config.pending_per_core;
        let meshes = Mesh::all(cores, config.blocks_per_pair, replies);
        let core = |((id, shard), mesh)| {
            let landing = Landing::new(slots, config.landing_slots, config.landing_slot_bytes)
                .map_err(|source| MeshError::Landing { bytes: slots * config.landing_slot_bytes, source })?;
            let here = Here {
                id,
                cores,
                now: Now { secs: 2, unix_epoch: 0 },
                shared: shared.clone(),
                counters: shared.counters.of_core(id),
                hasher: hasher.clone(),
                shard,
                observer: Observer::new(id, shared.clone()),
                held: HeldItems::new(replies + (cores - 1) * config.slots(), &config),
                uploads: Uploads::new(cores * (config.conns() + config.uploads_per_owner), &config),
                walks: Walks::new(),
            };
            let clients = Clients {
                config: config.clone(),
                shared: shared.clone(),
                counters: shared.counters.of_core(id),
                mesh,
                replies: Replies::new(config.conns(), config.pending_per_core),
                landing,
                conns: Conns::new(config.conns(), config.server.locals.iter().any(SocketAddr::is_ipv6)),
                turns: Turns::new(cores, config.conns()),
                watching: Watching::default(),
            };
            Ok(Core { here, clients })
        };
        shards.into_iter().enumerate().zip(meshes).map(core).collect()
    }

    /// Which of the cache's cores this is.
    pub fn id(&self) -> usize {
        self.here.id
    }

    /// This core's counters; the application feeds those about connections and bytes.
    #[inline]
    pub fn counters(&self) -> &CoreCounters {
        &self.clients.counters
    }

    /// What all cores share, such as the counters of them all; clone the `Arc` to read it from any thread.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.here.shared
    }

    /// Asks for what is known of connection `conn`, which a session of its will read soon.
    #[inline]
    pub fn prefetch_connection(&self, conn: ConnId) {
        self.clients.conns.prefetch(conn);
        self.clients.turns.prefetch(conn);
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.here.shard
    }

    /// The shard; for what the application does to it directly, such as maintenance.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.here.shard
    }

    /// Begins a turn, at least once a second: lands the answers of other cores and executes their requests. Takes what
    /// was there when it began; needs nothing from anybody.
    pub fn collect(&mut self, now: Now) {
        let Core { here, clients } = self;
        here.now = now;
        here.walks.begin_turn(&mut clients.conns);
        let (cores, blocks) = (here.cores, clients.config.blocks_per_pair);
        for peer in 0..cores {
            // At most one round of the loop's blocks: a peer that answers as fast as we ask cannot keep us here.
            for _ in 0..blocks {
                let Some(batch) = clients.mesh.next_answers(peer) else { break };
                for index in 0..batch.answers.len() {
                    clients.land(here, peer, &batch.answers, index);
                }
                clients.mesh.recycle(peer, batch);
            }
        }
        clients.mesh.pay_debts(&clients.counters);
        for peer in 0..cores {
            for _ in 0..blocks {
                let Some(mut batch) = clients.mesh.next_requests(peer) else { break };
                here.serve(&mut batch, &clients.conns);
                clients.mesh.push_answers(peer, batch);
            }
        }
        clients.watching.wake(&clients.shared.watchers, &mut clients.conns);
    }

    /// Ends a turn: sends what was collected for other cores. Returns the cores that have been given something, whose
    /// doorbells are to be rung if they sleep.
    pub fn post(&mut self) -> PeerSet {
        let Core { here, clients } = self;
        here.observer.tell_evictions(&mut here.shard, here.now);
        let mut posted = here.observer.take_woken();
        clients.mesh.post(&clients.counters, &mut posted);
        posted
    }

    /// Whether another core has sent something that [`Core::collect`] would take, or a connection can go on. A worker
    /// asks before it sleeps, after it has said that it will.
    pub fn has_work(&self) -> bool {
        self.clients.has_work() || self.here.walks.has_any()
    }

    /// The next connection that can go on: an answer has come for it, or what it waited for can be had. Each is to be
    /// given a [`crate::Session::take`] and a [`crate::Session::give`] in this turn.
    pub fn next_resumable(&mut self) -> Option<ConnId> {
        self.clients.next_resumable()
    }

    /// A connection that is to be closed, and why. The application calls [`crate::Session::end`] and resets the
    /// connection.
    pub fn next_overdue(&mut self) -> Option<(ConnId, Overdue)> {
        self.clients.conns.next_lost().map(|conn| (conn, Overdue::SlowReader))
    }

    /// Registers a connection, so that `stats conns` and the lines of watchers name it, and tells those who watch
    /// connections. Called before its session's first `take`; without it the connection has no number.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddr, local: IpAddr) {
        let Core { here, clients } = self;
        let number = here.shared.counters.next_connection();
        clients.conns.set_peer(conn, peer);
        let place = clients.config.server.locals.iter().position(|own| own.ip() == local).unwrap_or(0);
        let state = &mut clients.conns[conn];
        // At most 256 are kept: where there are more, one is shown for another.
        (state.number, state.local, state.last_secs) = (number, place as u8, here.now.secs);
        if here.shared.watchers.want(CONNEVENTS) {
            here.observer.tell(CONNEVENTS, b"", What::Open { peer, cfd: number }, here.now);
        }
    }

    /// Says why a connection will end; its session is ended next.
    pub fn note_close(&mut self, conn: ConnId, reason: CloseReason) {
        let Core { here, clients } = self;
        let state = clients.conns[conn];
        if state.number != 0 && here.shared.watchers.want(CONNEVENTS) {
            let what = What::Close { peer: clients.conns.peer(conn), cfd: state.number, reason };
            here.observer.tell(CONNEVENTS, b"", what, here.now);
        }
    }

    /// Seconds since the connection's last command, as far as one has come.
    pub fn idle_secs(&self, conn: ConnId) -> u32 {
        self.here.now.secs.saturating_sub(self.clients.conns[conn].last_secs)
    }

    /// Counts everything held or given out. Walks the shard's segment table: not for the packet path.
    pub fn census(&self) -> CoreCensus {
        let mut census = CoreCensus::default();
        self.here.count_into(&mut census);
        self.clients.count_into(&mut census);
        census
    }
}
