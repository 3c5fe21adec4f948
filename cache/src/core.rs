//! One core's cache: its shard, its ends of the queues to the other cores, and what its connections are owed.
//!
//! A [`Core`] is owned by one thread; nothing in it is shared but counters and queues. The turn of a worker:
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

use std::net::SocketAddrV4;
use std::sync::Arc;

use cpu::CachePadded;

use crate::clock::Now;
use crate::counters::CoreCounters;
use crate::key::{Key, KeyHash, KeyHasher};
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

/// Gets that are answered at once.
pub(crate) mod at_once;
/// A count of everything held, for tests of leaks.
mod census;
/// What is known of each connection.
pub(crate) mod conns;
/// Items that replies on their way are made of.
pub(crate) mod held;
/// Requests to other cores, and their answers, put where they belong.
mod land;
/// Other cores' requests, executed on this shard.
mod serve;
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
pub use conns::ConnId;
use conns::Conns;
use held::HeldItems;
pub(crate) use told::WalkGiven;
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

/// One core's cache. See the module's documentation for its turn.
#[derive(Debug)]
pub struct Core {
    pub(crate) id: usize,
    pub(crate) config: Arc<CacheConfig>,
    pub(crate) shard: Shard,
    pub(crate) shared: Arc<Shared>,
    /// What this core counts.
    own: Arc<CachePadded<CoreCounters>>,
    hasher: KeyHasher,
    pub(crate) now: Now,
    pub(crate) mesh: Mesh,
    pub(crate) replies: Replies,
    pub(crate) landing: Landing,
    pub(crate) conns: Conns,
    turns: Turns,
    /// Items that replies are made of, on this core and, as streams, on others.
    pub(crate) holds: HeldItems,
    /// Values that are being sent to this shard.
    pub(crate) uploads: Uploads,
    /// Tells watchers and counts prefixes.
    pub(crate) observer: Observer,
    watching: Watching,
    walks: Walks,
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
            Ok(Core {
                id,
                shard,
                shared: shared.clone(),
                own: shared.counters.of_core(id),
                hasher: hasher.clone(),
                now: Now { secs: 2, unix_epoch: 0 },
                mesh,
                replies: Replies::new(config.conns(), config.pending_per_core),
                landing,
                conns: Conns::new(config.conns()),
                turns: Turns::new(cores, config.conns()),
                holds: HeldItems::new(replies + (cores - 1) * config.slots(), &config),
                uploads: Uploads::new(cores * (config.conns() + config.uploads_per_owner), &config),
                observer: Observer::new(id, shared.clone()),
                watching: Watching::default(),
                walks: Walks::new(),
                config: config.clone(),
            })
        };
        shards.into_iter().enumerate().zip(meshes).map(core).collect()
    }

    /// Which of the cache's cores this is.
    pub fn id(&self) -> usize {
        self.id
    }

    /// This core's counters; the application feeds those about connections and bytes.
    #[inline]
    pub fn counters(&self) -> &CoreCounters {
        &self.own
    }

    /// What all cores share, such as the counters of them all; clone the `Arc` to read it from any thread.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks for what is known of connection `conn`, which a session of its will read soon.
    #[inline]
    pub fn prefetch_connection(&self, conn: ConnId) {
        self.conns.prefetch(conn);
        self.turns.prefetch(conn);
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The shard; for what the application does to it directly, such as maintenance.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Begins a turn, at least once a second: lands the answers of other cores and executes their requests. Takes what was
    /// there when it began; needs nothing from anybody.
    pub fn collect(&mut self, now: Now) {
        self.now = now;
        self.walks.begin_turn(&mut self.conns);
        for peer in 0..self.mesh.cores() {
            // At most one round of the loop's blocks: a peer that answers as fast as we ask cannot keep us here.
            for _ in 0..self.config.blocks_per_pair {
                let Some(batch) = self.mesh.next_replies(peer) else { break };
                for index in 0..batch.replies.len() {
                    self.land(peer, &batch.replies, index);
                }
                self.mesh.recycle(peer, batch);
            }
        }
        self.mesh.pay_debts(&self.own);
        for peer in 0..self.mesh.cores() {
            for _ in 0..self.config.blocks_per_pair {
                let Some(mut batch) = self.mesh.next_requests(peer) else { break };
                self.serve(&mut batch);
                self.mesh.push_replies(peer, batch);
            }
        }
        self.watching.wake(&self.shared.watchers, &mut self.conns);
    }

    /// Ends a turn: sends what was collected for other cores. Returns the cores that have been given something, whose
    /// doorbells are to be rung if they sleep.
    pub fn post(&mut self) -> PeerSet {
        self.observer.tell_evictions(&mut self.shard, self.now);
        let mut posted = self.observer.take_woken();
        self.mesh.post(&self.own, &mut posted);
        posted
    }

    /// Whether another core has sent something that [`Core::collect`] would take, or a connection can go on. A worker
    /// asks before it sleeps, after it has said that it will.
    pub fn has_work(&self) -> bool {
        self.conns.has_any()
            || self.mesh.has_mail()
            || self.turns.can_grant(|need| self.available(need))
            || self.walks.has_any()
            || self.watching.has_any(&self.shared.watchers, &self.conns)
    }

    /// The next connection that can go on: an answer has come for it, or what it waited for can be had. Each is to be
    /// given a [`crate::Session::take`] and a [`crate::Session::give`] in this turn.
    pub fn next_resumable(&mut self) -> Option<ConnId> {
        let Core { conns, turns, replies, landing, mesh, .. } = self;
        conns.next_ready().or_else(|| turns.grant(|need| available(need, replies, landing, mesh)))
    }

    /// A connection that is to be closed, and why. The application calls [`crate::Session::end`] and resets the
    /// connection.
    pub fn next_overdue(&mut self) -> Option<(ConnId, Overdue)> {
        self.conns.next_lost().map(|conn| (conn, Overdue::SlowReader))
    }

    /// The turn's time, as [`Core::collect`] or the last take had it.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// A session of `conn` begins a try at `now`.
    pub(crate) fn begin_try(&mut self, conn: ConnId, now: Now) {
        self.now = now;
        self.observer.speaker = self.conns.begin_try(conn, now.secs);
    }

    /// Ends a connection's try: it waits only if it says so.
    #[inline]
    pub(crate) fn end_try(&mut self, conn: ConnId, waiting: bool) {
        self.turns.end_try(conn, waiting);
    }

    /// How keys are hashed; another's hash of anything must not be told to clients.
    pub(crate) fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// `key` with its hash, and the core that owns it.
    pub(crate) fn locate<'a>(&self, key: &'a [u8]) -> (Key<'a>, usize) {
        let key = self.hasher.key(key);
        (key, self.owner_of(key.hash))
    }

    /// The core that owns keys of this hash.
    #[inline]
    pub(crate) fn owner_of(&self, hash: KeyHash) -> usize {
        hash.shard_of(self.mesh.cores())
    }

    /// Units of `need` that can be had now.
    fn available(&self, need: Need) -> usize {
        available(need, &self.replies, &self.landing, &self.mesh)
    }

    /// Whether `conn` may take one of `need` now: it is its turn, and there is one that is promised to nobody else. Of
    /// a block it may try.
    pub(crate) fn admits(&self, conn: ConnId, need: Need) -> bool {
        self.turns.admits(conn, need, self.available(need))
    }

    /// Puts `conn` in the queue for `need`: at its head if it had come to the head already.
    pub(crate) fn wait_for(&mut self, conn: ConnId, need: Need) {
        self.counters().waits.add(1);
        self.turns.wait_for(conn, need);
    }

    /// Registers a connection, so that `stats conns` and the lines of watchers name it, and tells those who watch
    /// connections. Called before its session's first `take`; without it the connection has no number.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddrV4) {
        let number = self.shared.counters.next_connection();
        let state = &mut self.conns[conn];
        (state.number, state.peer, state.last_secs) = (number, peer, self.now.secs);
        if self.shared.watchers.want(CONNEVENTS) {
            self.observer.tell(CONNEVENTS, b"", What::Open { peer, cfd: number }, self.now);
        }
    }

    /// Says why a connection will end; its session is ended next.
    pub fn note_close(&mut self, conn: ConnId, reason: CloseReason) {
        let state = self.conns[conn];
        if state.number != 0 && self.shared.watchers.want(CONNEVENTS) {
            let what = What::Close { peer: state.peer, cfd: state.number, reason };
            self.observer.tell(CONNEVENTS, b"", what, self.now);
        }
    }

    /// Seconds since the connection's last command, as far as one has come.
    pub fn idle_secs(&self, conn: ConnId) -> u32 {
        self.now.secs.saturating_sub(self.conns[conn].last_secs)
    }

    /// Answers still to come to `conn`.
    pub(crate) fn in_flight(&self, conn: ConnId) -> u32 {
        self.conns[conn].in_flight
    }

    /// Names `conn` in this or the next turn.
    pub(crate) fn make_ready(&mut self, conn: ConnId) {
        self.conns.make_ready(conn);
    }

    /// What is owed to `conn` will never come, since others needed the room: it is to be closed.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        if self.conns.lose(conn) {
            self.counters().slow_readers_closed.add(1);
        }
    }

    /// Forgets what is known of a connection that is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.turns.end_try(conn, false);
        self.conns.forget(conn);
    }

    /// Counts everything held or given out. Walks the shard's segment table: not for the packet path.
    pub fn census(&self) -> CoreCensus {
        let (blocks_out, debts) = self.mesh.out();
        let mut census = CoreCensus {
            entries: self.replies.in_use(),
            landing_slots: self.landing.in_use(),
            blocks_out,
            waiting: self.turns.waiting(),
            granted: self.turns.granted(),
            incoming: self.uploads.len(),
            debts,
            shard: self.shard.census(),
            ..CoreCensus::default()
        };
        self.holds.count_into(&mut census);
        census
    }
}

/// Units of `need` that can be had now.
fn available(need: Need, replies: &Replies, landing: &Landing, mesh: &Mesh) -> usize {
    match need {
        Need::Entry => replies.available(),
        Need::Slot => landing.available(),
        Need::Block(owner) => mesh.places_free(owner),
    }
}
