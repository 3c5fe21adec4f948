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
//! Read first: `crate::route`, then [`crate::Session`].

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::clock::Now;
use crate::counters::CoreCounters;
use crate::key::{Key, KeyHash, KeyHasher};
use crate::observe::Observer;
use crate::peers::PeerSet;
use crate::replies::Replies;
use crate::route::landing::Landing;
use crate::route::link::Link;
use crate::route::message::{Request, Token};
use crate::route::wait::Lists;
use crate::settings::{CacheConfig, MeshError};
use crate::shard::Shard;
use crate::shared::Shared;
use crate::store::ShardConfig;
use crate::watch::WATCHERS_MAX;

/// Requests to other cores.
mod ask;
/// Gets that are answered at once.
pub(crate) mod at_once;
/// A count of everything held, for tests of leaks.
mod census;
/// Landing slots, pins, copies.
mod hold;
/// Answers of other cores, put where they belong.
mod land;
/// Other cores' requests, executed on this shard.
mod serve;
/// The first of each connection, and a part of the rest.
pub(crate) mod share;
/// Places that other cores name by number.
mod table;
/// Queues for what is scarce.
mod turns;
/// Values that are being sent to this shard.
pub(crate) mod upload;
/// Dumps, and the list of connections.
pub(crate) mod walk;
/// What watchers are told.
pub(crate) mod watch;

pub use census::CoreCensus;
use hold::Held;
use share::Share;
use table::Table;
use upload::Incoming;

/// A connection of one core, numbered by the application from 0 to below
/// [`CacheConfig::connections_per_core`]. May be used again as soon as [`crate::Session::end`] was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl ConnId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It read so slowly that the room of what it asked for went to others before it had all of it.
    SlowReader,
}

/// What a command may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// An entry of the pool.
    Entry,
    /// A landing slot.
    Slot,
    /// A block of messages to this core.
    Block(usize),
}

impl Need {
    const FIXED: usize = 2;

    fn lists(cores: usize) -> usize {
        Need::FIXED + cores
    }

    fn list(self) -> usize {
        match self {
            Need::Entry => 0,
            Need::Slot => 1,
            Need::Block(owner) => Need::FIXED + owner,
        }
    }
}

/// What the core knows of a connection.
#[derive(Debug, Clone, Copy)]
struct Conn {
    /// Answers from other cores still to come to it.
    in_flight: u32,
    /// Landing slots it holds.
    slots: u32,
    /// A session uses the number.
    open: bool,
    /// It is in the ready ring.
    ready: bool,
    /// It is in the queue of walkers.
    walks: bool,
    /// Its number, by which `stats conns` and watchers name it; 0 when the application has given none.
    number: u32,
    peer: SocketAddrV4,
    /// The second of its last command.
    last_secs: u32,
    /// Its place among the watchers.
    watches: Option<u8>,
    /// What it is told as a watcher does not fit its ring.
    full: bool,
    /// The list from whose head it was taken, while it has not tried again.
    grant: Option<u16>,
    /// What it is owed will never come; it is to be closed.
    lost: bool,
}

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            in_flight: 0,
            slots: 0,
            open: false,
            ready: false,
            walks: false,
            number: 0,
            peer: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            last_secs: 0,
            watches: None,
            full: false,
            grant: None,
            lost: false,
        }
    }
}

/// A message that is owed to another core and found no block yet.
#[derive(Debug, Clone, Copy)]
struct Debt {
    peer: usize,
    token: Token,
    speaker: u32,
    request: Request,
}

/// One core's cache. See the module's documentation for its turn.
#[derive(Debug)]
pub struct Core {
    pub(crate) id: usize,
    pub(crate) config: Arc<CacheConfig>,
    pub(crate) shard: Shard,
    pub(crate) shared: Arc<Shared>,
    hasher: KeyHasher,
    pub(crate) now: Now,
    links: Box<[Option<Link>]>,
    pub(crate) replies: Replies,
    pub(crate) landing: Landing,
    /// How the connections share landing slots.
    slots: Share,
    conns: Box<[Conn]>,
    ready: VecDeque<ConnId>,
    waits: Lists,
    grants: Box<[u32]>,
    debts: VecDeque<Debt>,
    /// Items that replies are made of, on this core and, as streams, on others.
    holds: Table<Held>,
    streams_out: usize,
    /// Values that are being sent to this shard.
    incoming: Table<Incoming>,
    pins_out: usize,
    copied_bytes: usize,
    /// Who is to be closed.
    lost: VecDeque<ConnId>,
    /// Tells watchers and counts prefixes.
    pub(crate) observer: Observer,
    /// The watchers of this core.
    watching: ArrayVec<ConnId, WATCHERS_MAX>,
    /// This turn's step of a walk has been taken.
    walked: bool,
    /// Whose walks go on in the next turn.
    walkers: VecDeque<ConnId>,
    /// What a step tells, before it leaves.
    walk_text: Vec<u8>,
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
        let mut links: Vec<Vec<Option<Link>>> = (0..cores).map(|_| (0..cores).map(|_| None).collect()).collect();
        let mut rows = &mut links[..];
        let mut a = 0;
        while let Some((row, others)) = rows.split_first_mut() {
            for (offset, other) in others.iter_mut().enumerate() {
                let (of_a, of_b) = Link::pair(config.blocks_per_pair);
                row[a + 1 + offset] = Some(of_a);
                other[a] = Some(of_b);
            }
            rows = others;
            a += 1;
        }
        let config = Arc::new(config.clone());
        let stats = shards.iter().map(|shard| shard.stats().clone()).collect();
        let shared = Arc::new(Shared::new(config.clone(), stats, &hasher));
        let lists = Need::lists(cores);
        let slots = if cores > 1 { config.slots() } else { 0 };
        let mut mesh = Vec::with_capacity(cores);
        for ((id, shard), links) in shards.into_iter().enumerate().zip(links) {
            let landing = Landing::new(slots, config.landing_slots, config.landing_slot_bytes)
                .map_err(|source| MeshError::Landing { bytes: slots * config.landing_slot_bytes, source })?;
            mesh.push(Core {
                id,
                shard,
                shared: shared.clone(),
                hasher: hasher.clone(),
                now: Now { secs: 2, unix_epoch: 0 },
                links: links.into_boxed_slice(),
                replies: Replies::new(config.conns(), config.pending_per_core),
                landing,
                slots: Share::new(config.landing_slots),
                conns: vec![Conn::default(); config.conns()].into_boxed_slice(),
                ready: VecDeque::with_capacity(config.conns()),
                waits: Lists::new(lists, config.conns()),
                grants: vec![0; lists].into_boxed_slice(),
                debts: VecDeque::with_capacity(config.conns() + config.pending_per_core),
                holds: Table::new(config.conns() + config.pending_per_core + (cores - 1) * config.slots()),
                streams_out: 0,
                incoming: Table::new(cores * (config.conns() + config.uploads_per_owner)),
                pins_out: 0,
                copied_bytes: 0,
                lost: VecDeque::with_capacity(config.conns()),
                observer: Observer::new(id, shared.clone()),
                watching: ArrayVec::new(),
                walked: false,
                walkers: VecDeque::new(),
                walk_text: Vec::with_capacity(crate::shard::STEP_BYTES),
                config: config.clone(),
            });
        }
        Ok(mesh)
    }

    /// Which of the cache's cores this is.
    pub fn id(&self) -> usize {
        self.id
    }

    /// This core's counters; the application feeds those about connections and bytes.
    pub fn counters(&self) -> &CoreCounters {
        self.shared.counters.core(self.id)
    }

    /// What all cores share, such as the counters of them all; clone the `Arc` to read it from any thread.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks for what is known of connection `conn`, which a session of its will read soon.
    #[inline]
    pub fn prefetch_connection(&self, conn: ConnId) {
        cpu::prefetch_index(&self.conns, conn.index());
        self.waits.prefetch(conn);
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The shard; for what the application does to it directly, such as maintenance.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Begins a turn, at least once a second: lands the answers of other cores and executes their requests. Takes what was there when it began; needs nothing from anybody.
    pub fn collect(&mut self, now: Now) {
        self.now = now;
        self.walked = false;
        self.wake_walker();
        for peer in 0..self.links.len() {
            // At most one round of the loop's blocks: a peer that answers as fast as we ask cannot keep us here.
            for _ in 0..self.config.blocks_per_pair {
                let Some(batch) = self.links[peer].as_mut().and_then(Link::next_replies) else { break };
                for index in 0..batch.replies.len() {
                    self.land(peer, &batch.replies, index);
                }
                if let Some(link) = &mut self.links[peer] {
                    link.recycle(batch);
                }
            }
        }
        self.pay_debts();
        for peer in 0..self.links.len() {
            for _ in 0..self.config.blocks_per_pair {
                let Some(mut batch) = self.links[peer].as_mut().and_then(Link::next_requests) else { break };
                self.serve(&mut batch);
                if let Some(link) = &mut self.links[peer] {
                    link.push_replies(batch);
                }
            }
        }
        if !self.watching.is_empty() {
            self.wake_watchers();
        }
    }

    /// Ends a turn: sends what was collected for other cores. Returns the cores that have been given something, whose
    /// doorbells are to be rung if they sleep.
    pub fn post(&mut self) -> PeerSet {
        self.observer.tell_evictions(&mut self.shard, self.now);
        self.pay_debts();
        let mut posted = self.observer.take_woken();
        for (peer, link) in self.links.iter_mut().enumerate() {
            if let Some(link) = link
                && link.post()
            {
                posted.insert(peer);
            }
        }
        posted
    }

    /// Whether another core has sent something that [`Core::collect`] would take, or a connection can go on. A worker
    /// asks before it sleeps, after it has said that it will.
    pub fn has_work(&self) -> bool {
        !self.lost.is_empty()
            || !self.ready.is_empty()
            || self.links.iter().flatten().any(Link::has_mail)
            || (0..self.grants.len()).any(|list| self.can_grant(list))
            || !self.walkers.is_empty()
            || self.watching.iter().any(|&conn| self.has_lines(conn))
    }

    /// The next connection that can go on: an answer has come for it, or what it waited for can be had. Each is to be
    /// given a [`crate::Session::take`] and a [`crate::Session::give`] in this turn.
    pub fn next_resumable(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.ready.pop_front() {
            let state = &mut self.conns[conn.index()];
            state.ready = false;
            if state.open {
                return Some(conn);
            }
        }
        for list in 0..self.grants.len() {
            if self.can_grant(list)
                && let Some(conn) = self.waits.pop_front(list)
            {
                self.grants[list] += 1;
                self.conns[conn.index()].grant = Some(list as u16);
                return Some(conn);
            }
        }
        None
    }

    /// A connection that is to be closed, and why. The application calls [`crate::Session::end`] and resets the
    /// connection.
    pub fn next_overdue(&mut self) -> Option<(ConnId, Overdue)> {
        self.lost.pop_front().map(|conn| (conn, Overdue::SlowReader))
    }

    /// The turn's time, as [`Core::collect`] or the last take had it.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// A session of `conn` begins a try at `now`.
    pub(crate) fn begin_try(&mut self, conn: ConnId, now: Now) {
        self.now = now;
        let state = &mut self.conns[conn.index()];
        (state.open, state.last_secs) = (true, now.secs);
        self.observer.speaker = state.number;
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
        hash.shard_of(self.links.len())
    }
}
