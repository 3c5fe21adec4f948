//! Texts that are too long to be held: dumps of the whole store, and the list of connections.
//!
//! ```text
//!  session ──Owed::Walk──► give: what has been told so far leaves; then the next step,
//!                          here, or by Request::Walk on the core whose turn it is ──Answer::Walked──► told
//! ```
//!
//! A core takes at most one step a turn, for whoever asks; a walk holds the text of one step. Only one dump is under way
//! at a time, as in memcached, but for one that is not read.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Core;
use crate::core::ConnId;
use crate::dump::{Dump, Told};
use crate::replies::Owed;
use crate::route::message::{Request, Token};
use crate::shard::STEP_BYTES;
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
pub(crate) enum Place {
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
    place: Place,
    /// What was told and has not been given, and how much of it has.
    text: Vec<u8>,
    given: usize,
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
    address: u32,
    port: u16,
    watches: bool,
    idle_secs: u32,
}

const CONNECTION_BYTES: usize = 15;

impl Connection {
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.address.to_le_bytes());
        bytes.extend_from_slice(&self.port.to_le_bytes());
        bytes.push(u8::from(self.watches));
        bytes.extend_from_slice(&self.idle_secs.to_le_bytes());
    }

    fn read(bytes: &[u8; CONNECTION_BYTES]) -> Connection {
        let [n0, n1, n2, n3, a0, a1, a2, a3, p0, p1, watches, s0, s1, s2, s3] = *bytes;
        Connection {
            number: u32::from_le_bytes([n0, n1, n2, n3]),
            address: u32::from_le_bytes([a0, a1, a2, a3]),
            port: u16::from_le_bytes([p0, p1]),
            watches: watches != 0,
            idle_secs: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }
}

/// How far a walk's text has got.
pub(crate) enum WalkGiven {
    /// To its end.
    Whole(usize),
    /// As far as the room goes.
    Part(usize),
    /// As far as it is known.
    Starved(usize),
}

impl Walk {
    /// A walk over everything, of at most `lines` lines.
    pub(crate) fn new(over: Over, lines: usize) -> Walk {
        Walk {
            over,
            core: 0,
            place: Place::Begin,
            text: Vec::with_capacity(STEP_BYTES),
            given: 0,
            asked: false,
            lines_left: lines,
            connections: Vec::new(),
            shown: 0,
            ended: false,
            right: None,
        }
    }

    /// The same, with the right to dump.
    pub(crate) fn with_right(self, ticket: u32) -> Walk {
        Walk { right: Some(ticket), ..self }
    }

    /// Takes what a core has told: `text`, and where it goes on.
    pub(crate) fn land(&mut self, text: &[u8], place: Place) {
        self.asked = false;
        match self.over {
            Over::Items(_) if self.lines_left < usize::MAX => {
                for line in text.split_inclusive(|&byte| byte == b'\n').take(self.lines_left) {
                    self.text.extend_from_slice(line);
                    self.lines_left -= 1;
                }
            }
            Over::Items(_) | Over::Prefixes => self.text.extend_from_slice(text),
            Over::Connections => {
                let (told, _) = text.as_chunks::<CONNECTION_BYTES>();
                self.connections.extend(told.iter().map(Connection::read));
            }
        }
        self.place = place;
        if place == Place::End || self.lines_left == 0 {
            let next = if self.over == Over::Prefixes { usize::MAX } else { self.core + 1 };
            (self.core, self.place) = (next, Place::Begin);
        }
    }

    /// Refills the text from what is known; `false` when a core must be asked.
    fn refill(&mut self, core: &Core) -> bool {
        let all_told = self.core >= core.links.len() || self.lines_left == 0;
        if !all_told {
            return false;
        }
        if self.over == Over::Connections && self.shown < self.connections.len() {
            if self.shown == 0 {
                self.connections.sort_unstable();
                core.show_listeners(&mut self.text);
            }
            while self.shown < self.connections.len() && self.text.len() < STEP_BYTES / 2 {
                core.show(self.connections[self.shown], &mut self.text);
                self.shown += 1;
            }
            return true;
        }
        self.ended = true;
        self.text.extend_from_slice(match self.over {
            Over::Items(Told { dump: Dump::Mg, .. }) => b"EN\r\n",
            _ => b"END\r\n",
        });
        true
    }

    /// Writes what has been told into `out`, and goes on telling, at most a step.
    pub(crate) fn give(&mut self, core: &mut Core, conn: ConnId, token: Token, out: &mut [u8]) -> WalkGiven {
        let mut written = 0;
        loop {
            let rest = self.text.get(self.given..).unwrap_or_default();
            let bytes = rest.len().min(out.len() - written);
            out[written..written + bytes].copy_from_slice(&rest[..bytes]);
            (written, self.given) = (written + bytes, self.given + bytes);
            if self.given < self.text.len() {
                return WalkGiven::Part(written);
            }
            self.text.clear();
            self.given = 0;
            if self.ended {
                return WalkGiven::Whole(written);
            }
            if self.asked {
                return WalkGiven::Starved(written);
            }
            if let Some(ticket) = self.right {
                core.shared.control.dumping.renew(ticket, core.now.secs);
            }
            if self.refill(core) {
                continue;
            }
            if self.core != core.id && self.over != Over::Prefixes {
                self.asked = true;
                core.owe(self.core, token, Request::Walk { over: self.over, place: self.place });
                return WalkGiven::Starved(written);
            }
            let mut told = std::mem::take(&mut core.walk_text);
            told.clear();
            let place = core.walk_step(self.over, self.place, STEP_BYTES, &mut told);
            // Nothing but a turn whose step is taken leaves the place as it is: here there is room for any bucket.
            let stepped = place != self.place;
            self.land(&told, place);
            core.walk_text = told;
            if !stepped {
                // The turn's step is taken.
                core.wait_for_step(conn);
                return WalkGiven::Starved(written);
            }
        }
    }
}

impl Core {
    /// Lets `conn` try again in one of the next turns. Whether it is in the queue is known here and not by the walk: in
    /// its turn the step may have been taken by another core's request, and then it must queue anew.
    pub(super) fn wait_for_step(&mut self, conn: ConnId) {
        if !std::mem::replace(&mut self.conns[conn.index()].walks, true) {
            self.walkers.push_back(conn);
        }
    }

    /// Whose turn it is to take a step can go on.
    pub(super) fn wake_walker(&mut self) {
        if let Some(conn) = self.walkers.pop_front() {
            self.conns[conn.index()].walks = false;
            self.make_ready(conn);
        }
    }

    /// Tells the next part of this core's items or connections, of at most `room` bytes, unless the turn's step has been
    /// taken: then the place stays.
    pub(crate) fn walk_step(&mut self, over: Over, place: Place, room: usize, text: &mut Vec<u8>) -> Place {
        if std::mem::replace(&mut self.walked, true) {
            return place;
        }
        match (over, place) {
            (_, Place::End) => Place::End,
            (Over::Items(told), place) => {
                let cursor = if let Place::Item(cursor) = place { Some(cursor) } else { None };
                let now = self.now;
                let next = self.shard.walk(cursor, now, room, text, |walked, text| told.append(walked, now, text));
                next.map_or(Place::End, Place::Item)
            }
            (Over::Prefixes, place) => {
                let from = if let Place::Prefix(from) = place { from } else { 0 };
                self.shared.counters.prefixes.tell(from, room, text).map_or(Place::End, Place::Prefix)
            }
            (Over::Connections, place) => {
                let from = if let Place::Connection(from) = place { from as usize } else { 0 };
                let most = CONNECTIONS_PER_STEP.min(room / CONNECTION_BYTES);
                for state in self.conns.iter().skip(from).take(most).filter(|state| state.number != 0) {
                    let connection = Connection {
                        number: state.number,
                        address: u32::from(*state.peer.ip()),
                        port: state.peer.port(),
                        watches: state.watches.is_some(),
                        idle_secs: self.now.secs.saturating_sub(state.last_secs),
                    };
                    connection.write(text);
                }
                match from + most {
                    next if next < self.conns.len() && most > 0 => Place::Connection(next as u32),
                    _ => Place::End,
                }
            }
        }
    }

    fn show_listeners(&self, text: &mut Vec<u8>) {
        let uptime = self.now.secs.saturating_sub(2);
        for (index, listener) in self.config.server.listeners.iter().enumerate() {
            let number = index + 1;
            let lines = format!(
                "STAT {number}:addr {listener}\r\nSTAT {number}:state conn_listening\r\n\
                 STAT {number}:secs_since_last_cmd {uptime}\r\n"
            );
            text.extend_from_slice(lines.as_bytes());
        }
        // A socket for datagrams is always being read; it has taken one when any core has.
        let first = self.config.server.listeners.len() + 1;
        for (index, listener) in self.config.server.udp_listeners.iter().enumerate() {
            let number = first + index;
            let lines = format!(
                "STAT {number}:UDP UDP\r\nSTAT {number}:addr {listener}\r\nSTAT {number}:state conn_read\r\n\
                 STAT {number}:secs_since_last_cmd {uptime}\r\n"
            );
            text.extend_from_slice(lines.as_bytes());
        }
    }

    fn show(&self, connection: Connection, text: &mut Vec<u8>) {
        let Connection { number, address, port, watches, idle_secs } = connection;
        let peer = SocketAddrV4::new(Ipv4Addr::from(address), port);
        let state = if watches { "conn_watch" } else { "conn_read" };
        let local = &self.config.server.local;
        let lines = format!(
            "STAT {number}:addr tcp:{peer}\r\nSTAT {number}:listen_addr {local}\r\n\
             STAT {number}:state {state}\r\nSTAT {number}:secs_since_last_cmd {idle_secs}\r\n"
        );
        text.extend_from_slice(lines.as_bytes());
    }

    /// Takes the right to dump; `None` when another walk has it, and is read.
    pub(crate) fn begin_dump(&self) -> Option<u32> {
        self.shared.control.dumping.take(self.now.secs, self.config.grace_secs)
    }

    /// Gives up what a walk holds.
    pub(crate) fn end_walk(&self, walk: &Walk) {
        if let Some(ticket) = walk.right {
            self.shared.control.dumping.give_up(ticket);
        }
    }

    /// Lets the walk of `token` write into `out`; the entry holds it meanwhile as nothing.
    pub(crate) fn give_walk(&mut self, token: Token, out: &mut [u8]) -> WalkGiven {
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        let Owed::Walk(mut walk) = std::mem::replace(&mut entry.owed, Owed::Nothing) else {
            return WalkGiven::Whole(0);
        };
        let given = walk.give(self, conn, token, out);
        self.replies.entry_mut(token).owed = Owed::Walk(walk);
        given
    }
}
