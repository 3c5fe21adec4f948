//! `Walk`: a text that is too long to be held, told part by part: a dump of the whole store, the list of connections.
//!
//! ```text
//!  session ──Owed::Walk──► give: what has been told so far leaves; then the next step,
//!                          here, or by Request::Walk on the core whose turn it is ──Answer::Walked──► told
//! ```
//!
//! A core takes at most one step a turn, whichever core asks for it; a walk holds the text of one step. Only one dump
//! is under way at a time, as in memcached; a dump that its client does not read loses that right after some seconds.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::conns::{ConnId, Conns};
use super::given::GivenText;
use crate::clock::Now;
use crate::counters::Counters;
use crate::dump::{Dump, Told};
use crate::settings::CacheConfig;
use crate::shard::{STEP_BYTES, Shard};
use crate::store::index::Cursor;

/// Connections told in one step.
const CONNECTIONS_PER_STEP: usize = 128;

/// What is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Items.
    Items(Told),
    /// Connections.
    Connections,
    /// What `stats detail` has counted, which any core can tell of all.
    Prefixes,
}

/// Where a core has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Nothing has been told.
    Begin,
    /// Items from here on.
    Item(Cursor),
    /// Connections from this index on.
    Connection(u32),
    /// Prefixes from this place on.
    Prefix(u32),
    /// All has been told.
    End,
}

/// A walk on its way to a connection.
#[derive(Debug)]
pub(crate) struct Walk {
    over: Over,
    /// The core whose part is told, and where it has got to.
    core: usize,
    place: Reached,
    /// What was told and has not been given.
    text: GivenText,
    /// The core has been asked.
    asked: bool,
    /// Lines still to be given, for `stats cachedump`.
    lines_left: usize,
    /// Of `stats conns`: those told, in order of their numbers once all are there; and how many have been given.
    connections: Vec<Connection>,
    shown: usize,
    ended: bool,
    /// The ticket of the right to dump.
    right: Option<u32>,
}

/// A connection, as `stats conns` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    number: u32,
    /// Of its client, an IPv4 one as IPv6 maps it, and its port.
    address: Ipv6Addr,
    port: u16,
    /// The place of its own end among the server's.
    local: u8,
    watches: bool,
    idle_secs: u32,
}

const CONNECTION_BYTES: usize = 28;

impl Connection {
    fn write(self, bytes: &mut Vec<u8>) {
        let [port_low, port_high] = self.port.to_le_bytes();
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.idle_secs.to_le_bytes());
        bytes.extend([port_low, port_high, self.local, self.watches.into()]);
        bytes.extend(self.address.octets());
    }

    fn read(bytes: &[u8; CONNECTION_BYTES]) -> Connection {
        let (words, _) = bytes.as_chunks::<4>();
        let [number, idle_secs, rest] = std::array::from_fn(|at| u32::from_le_bytes(words[at]));
        let [port_low, port_high, local, watches] = rest.to_le_bytes();
        let port = u16::from_le_bytes([port_low, port_high]);
        let address = bytes.last_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets: &[u8; 16]| Ipv6Addr::from(*octets));
        Connection { number, address, port, local, watches: watches != 0, idle_secs }
    }

    fn show(self, config: &CacheConfig, text: &mut Vec<u8>) {
        let Connection { number, address, port, local, watches, idle_secs } = self;
        let peer = shown(SocketAddr::new(address.to_canonical(), port));
        let state = if watches { "conn_watch" } else { "conn_read" };
        let local = config.server.locals.get(usize::from(local)).map_or(String::new(), |&local| shown(local));
        let lines = format!(
            "STAT {number}:addr {peer}\r\nSTAT {number}:listen_addr {local}\r\n\
             STAT {number}:state {state}\r\nSTAT {number}:secs_since_last_cmd {idle_secs}\r\n"
        );
        text.extend_from_slice(lines.as_bytes());
    }
}

/// An end of a connection as memcached shows it (memcached.c, `conn_to_str`).
fn shown(end: SocketAddr) -> String {
    match end {
        SocketAddr::V4(end) => format!("tcp:{end}"),
        SocketAddr::V6(end) => format!("tcp6:[{}]:{}", end.ip(), end.port()),
    }
}

impl Walk {
    /// A walk over everything, of at most `lines` lines.
    pub(crate) fn new(over: Over, lines: usize) -> Walk {
        Walk {
            over,
            core: 0,
            place: Reached::Begin,
            text: GivenText::with_capacity(STEP_BYTES),
            asked: false,
            lines_left: lines,
            connections: Vec::new(),
            shown: 0,
            ended: false,
            right: None,
        }
    }

    /// The same, with the right to dump, which the client is told first.
    pub(crate) fn with_right(mut self, ticket: u32) -> Walk {
        self.text.text.extend_from_slice(b"OK\r\n");
        Walk { right: Some(ticket), ..self }
    }

    /// Takes what a core has told: `text`, and where it goes on.
    pub(crate) fn land(&mut self, text: &[u8], place: Reached) {
        self.asked = false;
        let told = &mut self.text.text;
        match self.over {
            Over::Items(_) if self.lines_left < usize::MAX => {
                for line in text.split_inclusive(|&byte| byte == b'\n').take(self.lines_left) {
                    told.extend_from_slice(line);
                    self.lines_left -= 1;
                }
            }
            Over::Items(_) | Over::Prefixes => told.extend_from_slice(text),
            Over::Connections => {
                let (told, _) = text.as_chunks::<CONNECTION_BYTES>();
                self.connections.extend(told.iter().map(Connection::read));
            }
        }
        self.place = place;
        if place == Reached::End || self.lines_left == 0 {
            let next = if self.over == Over::Prefixes { usize::MAX } else { self.core + 1 };
            (self.core, self.place) = (next, Reached::Begin);
        }
    }

    /// The ticket of the right to dump, if it has it.
    pub(crate) fn right(&self) -> Option<u32> {
        self.right
    }

    /// Writes what has been told and not been given into `out`. Returns the bytes written.
    pub(crate) fn write(&mut self, out: &mut [u8]) -> usize {
        self.text.write(out)
    }

    /// What is to be done for the walk to go on, in a cache of `cores` cores.
    pub(crate) fn next(&self, cores: usize) -> Next {
        let (over, place) = (self.over, self.place);
        match self {
            walk if !walk.text.is_empty() => Next::Write,
            walk if walk.ended => Next::Nothing,
            walk if walk.asked => Next::Wait,
            walk if walk.core >= cores || walk.lines_left == 0 => Next::Conclude,
            walk => Next::Step { core: (over != Over::Prefixes).then_some(walk.core), over, place },
        }
    }

    /// Another core has been asked for its next part: [`land`](Self::land) follows.
    pub(crate) fn note_asked(&mut self) {
        self.asked = true;
    }

    /// Refills the text once all is told: with connections, in order of their numbers, or with the end.
    pub(crate) fn conclude(&mut self, config: &CacheConfig, now: Now) {
        let text = &mut self.text.text;
        if self.over == Over::Connections && self.shown < self.connections.len() {
            if self.shown == 0 {
                self.connections.sort_unstable();
                show_listeners(config, now, text);
            }
            while self.shown < self.connections.len() && text.len() < STEP_BYTES / 2 {
                self.connections[self.shown].show(config, text);
                self.shown += 1;
            }
            return;
        }
        self.ended = true;
        text.extend_from_slice(match self.over {
            Over::Items(Told { dump: Dump::Mg, .. }) => b"EN\r\n",
            _ => b"END\r\n",
        });
    }
}

/// What is to be done for a walk to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its text is to be written.
    Write,
    /// All cores have told all: [`Walk::conclude`].
    Conclude,
    /// The next part from `place` on is to be told: by `core`, or by any where that is `None`.
    Step { core: Option<usize>, over: Over, place: Reached },
    /// A core that has been asked has not answered yet.
    Wait,
    /// Nothing: it has been given to its end.
    Nothing,
}

/// What a core needs to take steps of walks, at most one a turn.
#[derive(Debug)]
pub(crate) struct Walks {
    /// This turn's step has been taken.
    stepped: bool,
    /// Connections whose walks go on in one of the next turns.
    waiting: VecDeque<ConnId>,
    /// What a step tells, before it leaves.
    text: Vec<u8>,
}

/// What a step goes through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepInput<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) conns: &'a Conns,
    pub(crate) counters: &'a Counters,
    pub(crate) now: Now,
}

impl Walks {
    /// Nobody walks.
    pub(crate) fn new() -> Walks {
        Walks { stepped: false, waiting: VecDeque::new(), text: Vec::with_capacity(STEP_BYTES) }
    }

    /// Begins a turn, in which the next connection that waits for a step can go on.
    pub(crate) fn begin_turn(&mut self, conns: &mut Conns) {
        self.stepped = false;
        if let Some(conn) = self.waiting.pop_front() {
            conns[conn].set_walks(false);
            conns.make_ready(conn);
        }
    }

    /// Lets `conn` try again in one of the next turns. Whether it is in the queue is known here and not by its walk: in
    /// its turn the step may have been taken by another core's request, and then it must queue anew.
    pub(crate) fn wait(&mut self, conns: &mut Conns, conn: ConnId) {
        if !conns[conn].set_walks(true) {
            self.waiting.push_back(conn);
        }
    }

    /// Whether any walk goes on in the next turn.
    pub(crate) fn has_any(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells the next part of what this core has, of at most `room` bytes, and where to go on; unless the turn's step
    /// has been taken: then nothing is told and the place stays.
    pub(crate) fn step(&mut self, over: Over, place: Reached, room: usize, from: &StepInput<'_>) -> (&[u8], Reached) {
        self.text.clear();
        if std::mem::replace(&mut self.stepped, true) {
            return (&self.text, place);
        }
        let text = &mut self.text;
        let next = match (over, place) {
            (_, Reached::End) => Reached::End,
            (Over::Items(told), place) => {
                let cursor = if let Reached::Item(cursor) = place { Some(cursor) } else { None };
                let now = from.now;
                let next = from.shard.walk(cursor, now, room, text, |walked, text| told.append(walked, now, text));
                next.map_or(Reached::End, Reached::Item)
            }
            (Over::Prefixes, place) => {
                let at = if let Reached::Prefix(at) = place { at } else { 0 };
                from.counters.prefixes.tell(at, room, text).map_or(Reached::End, Reached::Prefix)
            }
            (Over::Connections, place) => {
                let at = if let Reached::Connection(at) = place { at as usize } else { 0 };
                tell_connections(from.conns, at, room, from.now, text)
            }
        };
        (&self.text, next)
    }
}

/// Tells the connections of a core from index `from` on.
fn tell_connections(conns: &Conns, from: usize, room: usize, now: Now, text: &mut Vec<u8>) -> Reached {
    let most = CONNECTIONS_PER_STEP.min(room / CONNECTION_BYTES);
    let rest = conns.from(from);
    let left = rest.len();
    for conn in rest.take(most).filter(|&conn| conns[conn].number != 0) {
        let (state, peer) = (&conns[conn], conns.peer(conn));
        let connection = Connection {
            number: state.number,
            address: match peer.ip() {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            },
            port: peer.port(),
            local: state.local,
            watches: state.watches.is_some(),
            idle_secs: now.secs.saturating_sub(state.last_secs),
        };
        connection.write(text);
    }
    if most < left && most > 0 { Reached::Connection((from + most) as u32) } else { Reached::End }
}

fn show_listeners(config: &CacheConfig, now: Now, text: &mut Vec<u8>) {
    let uptime = now.secs.saturating_sub(2);
    let server = &config.server;
    for (index, listener) in server.listeners.iter().enumerate() {
        let number = index + 1;
        let lines = format!(
            "STAT {number}:addr {listener}\r\nSTAT {number}:state conn_listening\r\n\
             STAT {number}:secs_since_last_cmd {uptime}\r\n"
        );
        text.extend_from_slice(lines.as_bytes());
    }
    // A socket for datagrams is always being read; it has taken one when any core has.
    let first = server.listeners.len() + 1;
    for (index, listener) in server.udp_listeners.iter().enumerate() {
        let number = first + index;
        let lines = format!(
            "STAT {number}:UDP UDP\r\nSTAT {number}:addr {listener}\r\nSTAT {number}:state conn_read\r\n\
             STAT {number}:secs_since_last_cmd {uptime}\r\n"
        );
        text.extend_from_slice(lines.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_told_with_both_ends_as_memcached_shows_them() {
        let end = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
        let mut config = CacheConfig::default();
        config.server.locals = vec![end("10.77.0.2:11211"), end("[2001:db8::2]:11211")];
        let mut conns = Conns::new(3, true);
        for (index, peer) in ["10.77.0.1:40000", "[2001:db8::1]:40001", "10.77.0.9:1"].into_iter().enumerate() {
            let conn = ConnId(index as u32);
            conns.set_peer(conn, end(peer));
            assert_eq!(conns.peer(conn), end(peer));
            (conns[conn].number, conns[conn].local) = (7 + conn.0, u8::from(peer.contains("db8")));
        }
        conns.forget(ConnId(2));
        assert_eq!(conns.peer(ConnId(2)), end("0.0.0.0:0"));
        let now = Now { secs: 9, unix_epoch: 0 };
        let mut bytes = Vec::new();
        assert_eq!(tell_connections(&conns, 0, 1_000, now, &mut bytes), Reached::End);
        let mut text = Vec::new();
        for told in bytes.as_chunks::<CONNECTION_BYTES>().0 {
            Connection::read(told).show(&config, &mut text);
        }
        let shown = |number, peer, local| {
            format!(
                "STAT {number}:addr {peer}\r\nSTAT {number}:listen_addr {local}\r\n\
                 STAT {number}:state conn_read\r\nSTAT {number}:secs_since_last_cmd 9\r\n"
            )
        };
        let wanted = shown(7, "tcp:10.77.0.1:40000", "tcp:10.77.0.2:11211")
            + &shown(8, "tcp6:[2001:db8::1]:40001", "tcp6:[2001:db8::2]:11211");
        assert_eq!(String::from_utf8(text).expect("text"), wanted);
    }

    /// One that is gone may still wait for its step, and whoever has its number next is not put there beside it.
    #[test]
    fn a_connection_that_is_gone_waits_for_a_step_no_more_than_once() {
        let (mut walks, mut conns) = (Walks::new(), Conns::new(4, false));
        let conn = ConnId(0);
        for _ in 0..100 {
            walks.wait(&mut conns, conn);
            conns.forget(conn);
        }
        assert_eq!(walks.waiting.len(), 1);
        walks.begin_turn(&mut conns);
        assert_eq!((conns.next_ready(), walks.has_any()), (None, false), "nobody has its number now");
    }
}
