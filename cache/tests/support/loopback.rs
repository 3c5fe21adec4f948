//! All cores of a cache in one thread, with clients that send and receive bytes: no network, no threads, no clock.
//!
//! It keeps to the contract between worker and session: a connection is run when bytes arrived, when its transmit ring
//! has room again, or when its core names it, and at no other time; so a lost wake-up shows as a reply that never
//! comes. With [`Pace::Seeded`] a seed decides which core has its turn, how many bytes arrive and leave, and how large
//! the rings are.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_cache::{
    CacheConfig, ConnId, Core, CoreCensus, CoreCounters, DatagramOutlet, Datagrams, KeyHasher, Network, Now, Overdue,
    Session, Stop, WHOLE_MAX_BYTES,
};

/// The secret of every loopback's hash.
const SECRET: [u8; 16] = [0x5a; 16];

/// The first `count` of the keys `key0`, `key1`, ... that core `owner` of `cores` owns.
pub fn keys_of(owner: usize, cores: usize, count: usize) -> Vec<String> {
    let hasher = KeyHasher::new(SECRET);
    let mine = |key: &String| hasher.hash(key.as_bytes()).shard_of(cores) == owner;
    (0..).map(|number| format!("key{number}")).filter(mine).take(count).collect()
}

/// How bytes move and turns alternate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All that was sent is there at once, rings are large, cores take turns in order.
    Even,
    /// Decided by the seed.
    Seeded,
    /// Every byte arrives alone, and leaves alone.
    ByteByByte,
}

/// A client, as [`Loopback::connect`] numbered it. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(pub usize);

struct Conn {
    core: usize,
    id: ConnId,
    session: Option<Session>,
    /// Sent; those before `taken` are done with.
    input: Vec<u8>,
    taken: usize,
    /// Of those, bytes that have arrived in the receive ring.
    arrived: usize,
    receive_ring: usize,
    transmit: Vec<u8>,
    transmit_ring: usize,
    received: Vec<u8>,
    reads: bool,
    /// The client has closed its direction.
    shut: bool,
    ready: bool,
    closed: bool,
    overdue: Option<Overdue>,
}

/// Where the replies to datagrams go: each with the number of who sent the request.
#[derive(Debug, Default)]
pub struct Mailbox {
    pub sent: Vec<(u32, Vec<u8>)>,
    /// Datagrams that may still leave, if that is bounded.
    pub frames: Option<usize>,
    buffer: Vec<u8>,
}

impl DatagramOutlet<u32> for Mailbox {
    fn send(&mut self, to: &u32, len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.frames == Some(0) {
            return false;
        }
        self.buffer.clear();
        self.buffer.resize(len, 0xee);
        let written = write(&mut self.buffer);
        if written > 0 {
            self.sent.push((*to, self.buffer[..written].to_vec()));
            self.frames = self.frames.map(|frames| frames - 1);
        }
        true
    }
}

/// The address of all who send datagrams, unless a test says otherwise.
pub const SENDER: [u8; 4] = [10, 0, 0, 1];

/// Bytes that a datagram may have: those of Ethernet.
pub const PAYLOAD_MAX: usize = 1472;

/// All cores of a cache and their clients.
pub struct Loopback {
    pub cores: Vec<Core>,
    /// By core.
    pub udp: Vec<Datagrams<u32>>,
    pub mailbox: Mailbox,
    conns: Vec<Conn>,
    /// Numbers of the connections that have a session, rising.
    live: Vec<usize>,
    /// Where a session writes before its bytes go to the transmit ring.
    written: Vec<u8>,
    free_ids: Vec<Vec<u32>>,
    pace: Pace,
    rng: Xoshiro256PlusPlus,
    pub now: Now,
    next_core: usize,
    asleep: Vec<bool>,
}

impl Loopback {
    /// Builds the cache. `seed` matters for [`Pace::Seeded`] alone.
    pub fn new(config: &CacheConfig, pace: Pace, seed: u64) -> Loopback {
        let cores = Core::mesh(config, SECRET).expect("a cache that can be built");
        let free_ids = cores.iter().map(|_| (0..config.connections_per_core as u32).rev().collect()).collect();
        let now = Now { secs: 100, unix_epoch: 1_700_000_000 };
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let everybody = Network::new([0, 0, 0, 0], 0).expect("a network");
        let udp = cores.iter().map(|core| Datagrams::new(core, PAYLOAD_MAX, &[everybody])).collect();
        let mailbox = Mailbox::default();
        Loopback {
            cores,
            udp,
            mailbox,
            conns: Vec::new(),
            live: Vec::new(),
            written: Vec::new(),
            free_ids,
            pace,
            rng,
            now,
            next_core: 0,
            asleep: vec![false; config.cores],
        }
    }

    /// How bytes move.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound.max(1) as u64) as usize
    }

    /// Connects a client to `core`.
    pub fn connect(&mut self, core: usize) -> Client {
        let (receive_ring, transmit_ring) = match self.pace {
            Pace::Even => (65_535, 65_535),
            Pace::ByteByByte => (WHOLE_MAX_BYTES, 1),
            Pace::Seeded => (WHOLE_MAX_BYTES + self.below(6000), 1 + self.below(6000)),
        };
        self.connect_with(core, receive_ring, transmit_ring)
    }

    /// Connects a client to `core`, the connection's rings holding so many bytes.
    pub fn connect_with(&mut self, core: usize, receive_ring: usize, transmit_ring: usize) -> Client {
        let id = ConnId(self.free_ids[core].pop().expect("fewer connections than connections_per_core"));
        let peer = std::net::SocketAddrV4::new([10, 0, 0, 1].into(), 1000 + self.conns.len() as u16);
        self.cores[core].open(id, peer.into(), [10, 0, 0, 2].into());
        self.conns.push(Conn {
            core,
            id,
            session: Some(Session::new(id)),
            input: Vec::new(),
            taken: 0,
            arrived: 0,
            receive_ring,
            transmit: Vec::new(),
            transmit_ring,
            received: Vec::new(),
            reads: true,
            shut: false,
            ready: false,
            closed: false,
            overdue: None,
        });
        self.live.push(self.conns.len() - 1);
        Client(self.conns.len() - 1)
    }

    /// Trusts nobody who sends datagrams but these.
    pub fn trust(&mut self, trusted: &[Network]) {
        self.udp = self.cores.iter().map(|core| Datagrams::new(core, PAYLOAD_MAX, trusted)).collect();
    }

    /// A datagram arrives at `core`, from `source`, who is called `peer`.
    pub fn datagram_from(&mut self, core: usize, source: [u8; 4], peer: u32, datagram: &[u8]) {
        let overlooked = self.pace == Pace::Seeded && self.below(2) == 0;
        let foreseen = if overlooked { None } else { self.udp[core].foresee(&self.cores[core], datagram) };
        let (udp, cache) = (&mut self.udp[core], &mut self.cores[core]);
        udp.receive(cache, peer, source.into(), datagram, foreseen, self.now, &mut self.mailbox);
        self.asleep[core] = false;
    }

    /// A request arrives at `core` in a datagram that is called `id`.
    pub fn datagram(&mut self, core: usize, id: u16, request: &[u8]) {
        let [high, low] = id.to_be_bytes();
        self.datagram_from(core, SENDER, id.into(), &[&[high, low, 0, 0, 0, 1, 0, 0], request].concat());
    }

    /// Sends bytes; they arrive as the pace decides.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.conns[client.0].input.extend_from_slice(bytes);
    }

    /// Sends `request` and returns what has been received once every core sleeps.
    pub fn ask(&mut self, client: Client, request: impl AsRef<[u8]>) -> String {
        self.send(client, request.as_ref());
        self.run();
        String::from_utf8_lossy(&self.take_received(client)).into_owned()
    }

    /// The client closes its direction after what it has sent, and goes on reading.
    pub fn shut_down(&mut self, client: Client) {
        (self.conns[client.0].shut, self.conns[client.0].ready) = (true, true);
    }

    /// Whether the client reads what comes. It does from the start.
    pub fn set_reads(&mut self, client: Client, reads: bool) {
        self.conns[client.0].reads = reads;
    }

    /// What has been received so far.
    pub fn received(&self, client: Client) -> &[u8] {
        &self.conns[client.0].received
    }

    /// Takes what has been received.
    pub fn take_received(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.conns[client.0].received)
    }

    /// Bytes sent that the server has not taken.
    pub fn unread(&self, client: Client) -> usize {
        self.conns[client.0].input.len() - self.conns[client.0].taken
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self, client: Client) -> bool {
        self.conns[client.0].closed
    }

    /// Why the server was told to close it, if it was.
    pub fn overdue(&self, client: Client) -> Option<Overdue> {
        self.conns[client.0].overdue
    }

    /// The connection dies.
    pub fn close(&mut self, client: Client) {
        let conn = &mut self.conns[client.0];
        if let Some(session) = conn.session.take() {
            session.end(&mut self.cores[conn.core]);
            self.free_ids[conn.core].push(conn.id.0);
            self.live.retain(|&live| live != client.0);
        }
        conn.closed = true;
    }

    /// Closes every connection and lets all answers come home.
    pub fn close_all(&mut self) {
        for client in 0..self.conns.len() {
            self.close(Client(client));
        }
        self.run();
    }

    /// Runs turns until every core sleeps: a core is woken by bytes, by room, or by the doorbell of another.
    pub fn run(&mut self) {
        self.run_within(u64::MAX);
    }

    /// [`run`](Self::run); panics when that takes more than `most` turns.
    pub fn run_within(&mut self, most: u64) {
        self.asleep.fill(false);
        let mut left = most;
        while (0..self.cores.len()).any(|core| self.is_due(core)) {
            let core = match self.pace {
                Pace::Seeded => self.below(self.cores.len()),
                _ => self.next_core,
            };
            self.next_core = (core + 1) % self.cores.len();
            if self.is_due(core) {
                assert!(left > 0, "cores still have something to do after {most} turns: {:?}", self.census());
                left -= 1;
                self.turn(core);
            }
        }
    }

    /// Whether a worker would have a turn now.
    fn is_due(&self, core: usize) -> bool {
        let moving = |conn: &Conn| {
            conn.ready
                || (conn.input.len() - conn.taken).min(conn.receive_ring) > conn.arrived
                || (conn.reads && !conn.transmit.is_empty())
        };
        !self.asleep[core]
            || self.live.iter().map(|&live| &self.conns[live]).any(|conn| conn.core == core && moving(conn))
    }

    /// One turn of one core, as a worker has it. Returns whether anything moved.
    pub fn turn(&mut self, core: usize) -> bool {
        let mut moved = self.cores[core].has_work();
        self.cores[core].collect(self.now);
        while let Some((id, why)) = self.cores[core].next_overdue() {
            if self.udp[core].abort(&mut self.cores[core], id, self.now) {
                continue;
            }
            let client = self.client_of(core, id).expect("an overdue connection is a live one");
            self.conns[client].overdue = Some(why);
            self.close(Client(client));
        }
        let mut next = 0;
        while let Some(&client) = self.live.get(next) {
            if self.conns[client].core == core {
                moved |= self.bytes_arrive(client);
                moved |= self.bytes_leave(client);
                if self.conns[client].ready {
                    moved |= self.run_session(client);
                }
            }
            // A session that has finished is off the list.
            next += usize::from(self.live.get(next) == Some(&client));
        }
        while let Some(id) = self.cores[core].next_resumable() {
            moved = true;
            if self.udp[core].wake(id) {
                continue;
            }
            let client = self.client_of(core, id).expect("a resumable connection is a live one");
            self.run_session(client);
        }
        moved |= self.udp[core].serve(&mut self.cores[core], 256, self.now, &mut self.mailbox) > 0;
        for peer in self.cores[core].post() {
            self.asleep[peer] = false;
            moved = true;
        }
        // A worker looks once more before it sleeps.
        // Without a frame there is nothing to do for those who wait for one.
        let sends = self.udp[core].has_work() && self.mailbox.frames != Some(0);
        self.asleep[core] = !self.cores[core].has_work() && !sends && (!moved || self.mailbox.frames == Some(0));
        moved
    }

    /// Time passes; every core notices.
    pub fn tick(&mut self, secs: u32) {
        self.now.secs += secs;
        self.run();
    }

    fn client_of(&self, core: usize, id: ConnId) -> Option<usize> {
        self.live.iter().copied().find(|&live| self.conns[live].core == core && self.conns[live].id == id)
    }

    /// Some of what was sent reaches the receive ring.
    fn bytes_arrive(&mut self, client: usize) -> bool {
        let conn = &self.conns[client];
        let most = (conn.input.len() - conn.taken).min(conn.receive_ring) - conn.arrived;
        if most == 0 {
            return false;
        }
        let bytes = match self.pace {
            Pace::Even => most,
            Pace::ByteByByte => 1,
            Pace::Seeded => match self.below(4) {
                0 => most,
                _ => self.below(most.min(200) + 1),
            },
        };
        let conn = &mut self.conns[client];
        conn.arrived += bytes;
        conn.ready |= bytes > 0;
        true
    }

    /// Some of what was given reaches the client.
    fn bytes_leave(&mut self, client: usize) -> bool {
        let most = self.conns[client].transmit.len();
        if most == 0 || !self.conns[client].reads {
            return false;
        }
        let bytes = match self.pace {
            Pace::Even | Pace::ByteByByte => most,
            Pace::Seeded => self.below(most + 1),
        };
        let conn = &mut self.conns[client];
        conn.received.extend(conn.transmit.drain(..bytes));
        conn.ready |= bytes > 0;
        true
    }

    /// Takes and gives until neither moves.
    fn run_session(&mut self, client: usize) -> bool {
        let conn = &mut self.conns[client];
        let core = &mut self.cores[conn.core];
        let Some(session) = conn.session.as_mut() else { return false };
        let mut moved = std::mem::take(&mut conn.ready);
        if self.written.len() < conn.transmit_ring {
            self.written.resize(conn.transmit_ring, 0);
        }
        loop {
            let free = conn.transmit_ring - conn.transmit.len();
            let room = match self.pace {
                Pace::Even => free,
                Pace::ByteByByte => 0,
                Pace::Seeded => match self.rng.next_u64() % 4 {
                    0 => 0,
                    1 => self.rng.next_u64() as usize % (free + 1),
                    _ => free,
                },
            };
            // A worker looks ahead when it serves several connections in a turn.
            if self.pace == Pace::Seeded && self.rng.next_u64().is_multiple_of(2) {
                session.foresee(core, &conn.input[conn.taken..conn.taken + conn.arrived]);
            }
            let input = &conn.input[conn.taken..conn.taken + conn.arrived];
            let taken = session.take(core, input, &mut self.written[..room], self.now);
            assert!(taken.consumed <= conn.arrived && taken.written <= room);
            conn.transmit.extend_from_slice(&self.written[..taken.written]);
            moved |= taken.written > 0;
            conn.taken += taken.consumed;
            conn.arrived -= taken.consumed;
            if conn.shut && taken.stop == Stop::NeedInput && conn.taken + conn.arrived == conn.input.len() {
                session.end_input(core);
            }
            let free = conn.transmit_ring - conn.transmit.len();
            let given = session.give(core, &mut self.written[..free]);
            conn.transmit.extend_from_slice(&self.written[..given.written]);
            moved |= taken.consumed + given.written > 0;
            if taken.stop == Stop::Yield {
                conn.ready = true;
                break;
            }
            if taken.consumed + given.written == 0 {
                break;
            }
        }
        if session.finished() {
            conn.received.append(&mut conn.transmit);
            self.close(Client(client));
        }
        moved
    }

    /// Closes every connection; panics unless nothing is held then but items.
    pub fn end(&mut self) {
        self.close_all();
        self.assert_nothing_held();
    }

    /// What all cores have counted together.
    pub fn counted(&self, of: impl Fn(&CoreCounters) -> u64) -> u64 {
        self.cores.iter().map(|core| of(core.counters())).sum()
    }

    /// What every core holds.
    pub fn census(&self) -> Vec<CoreCensus> {
        self.cores.iter().map(Core::census).collect()
    }

    /// Panics unless nothing is held but items. Call after [`Loopback::close_all`].
    pub fn assert_nothing_held(&self) {
        for (core, udp) in self.udp.iter().enumerate() {
            assert_eq!(udp.pending(), 0, "core {core} owes replies to datagrams");
        }
        for (core, census) in self.census().into_iter().enumerate() {
            assert_eq!((census.shard.pins, census.shard.reservations), (0, 0), "core {core}: {census:?}");
            let expected = CoreCensus { shard: census.shard, ..CoreCensus::default() };
            assert_eq!(census, expected, "core {core} holds something");
        }
    }
}
