//! One connection's conversation: bytes in, replies out, in order. No clock and no socket inside.
//!
//! [`Session::take`] parses and executes what it can of the bytes at hand and says how many it is done with; it keeps
//! none of them. Replies that are known at once it writes to the output that it is given, as far as that goes.
//! [`Session::give`] writes the other replies owed, as far as the room goes. Both may be called with any piece:
//!
//! ```text
//!  loop {
//!      let taken = session.take(core, receive_ring.contiguous(), transmit_ring.room(), now);
//!      receive_ring.advance(taken.consumed);                             transmit_ring.advance(taken.written);
//!      let given = session.give(core, transmit_ring.room());             transmit_ring.advance(given.written);
//!      if taken.consumed == 0 && given.written == 0 { break }            // or taken.stop says more
//!  }
//! ```
//!
//! Run this when bytes arrived, when the transmit ring has room again, and when [`Core::next_resumable`] names the
//! connection; nothing else can make it move. When the client has closed its direction and `take` still needs input,
//! say so with [`Session::end_input`]. Where a line or a small value may straddle the end of a ring, give
//! `take` the bytes copied to one piece of at least [`WHOLE_MAX_BYTES`] (or all there are), and not a part of them
//! first: a connection that was named because its turn has come has one try.
//!
//! Invariant S1: commands are executed in the order of the input. On one shard that is the order of the calls or of the
//! messages; a reply keeps its place in the list of entries from the moment its command is executed or sent.
//! Invariant S2: what is answered depends on the bytes alone, not on how they were cut.
//! Invariant S3: a reply leaves after everything that was asked for before it is done, on whichever core and whether
//! that is answered or not (`noreply`): a client that has the reply may tell others.
//! Read first: memcached `protocol.txt`, then [`crate::core`].

use crate::clock::{Expiry, Now};
use crate::core::clients::Clients;
use crate::core::here::Here;
use crate::core::{ConnId, Core};
use crate::key::{Key, KeyHash};
use crate::mesh::message::Token;
use crate::proto::binary::MAGIC_REQUEST;
use crate::proto::sink::Writer;
use crate::proto::text::LINE_MAX_BYTES;
use crate::replies::{Owed, Upload, Waiting};
use crate::settings::Protocol;

/// Packets of the binary protocol.
mod binary;
/// Keys of a fetch, one by one.
mod fetch;
/// What is read ahead of its turn.
mod foresight;
/// Who a client is.
mod greet;
/// What a connection may ask for at once.
mod limit;
/// Commands of those who run the server.
mod operate;
/// What the connection is owed, in order.
mod owed;
/// Operations, here or on another core.
mod perform;
/// One reply, cut wherever the room ends.
mod render;
/// The stats command.
mod stats;
/// Command lines.
mod text;
/// Values: in one piece, or piece by piece.
mod value;

/// Bytes that [`Session::take`] must be able to see in one piece: the longest line with its end, or a small storage
/// command with its value. A receive ring is to hold at least as many.
pub const WHOLE_MAX_BYTES: usize = LINE_MAX_BYTES + 1;

pub(crate) use fetch::get_at_once;
use foresight::Foreseen;
use owed::OwedList;
pub(crate) use owed::{FirstReply, Gathered};

/// Why [`Session::take`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The rest is the beginning of something: more bytes are needed.
    NeedInput,
    /// Replies must leave first: call again after [`Session::give`] has written some.
    NeedRoom,
    /// An answer or a place is waited for: [`Core::next_resumable`] will name the connection.
    Waiting,
    /// It has had its share of this turn: call again in the next, or after other connections.
    Yield,
    /// No more will be taken. Close when [`Session::finished`]: after quit, an HTTP request, or a line without end.
    Close,
}

/// What [`Session::take`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes of replies written to the front of the output.
    pub written: usize,
    /// Why it stopped.
    pub stop: Stop,
}

/// What [`Session::give`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Bytes written.
    pub written: usize,
    /// More is ready and did not fit.
    pub more: bool,
}

/// What the next bytes of the input are.
#[derive(Debug)]
enum State {
    /// A line.
    Line,
    /// Keys of a fetch. `any`: one was seen.
    Keys { cas: bool, expiry: Option<Expiry>, any: bool },
    /// The rest of a line that was answered.
    SkipLine,
    /// The `remaining` bytes of a value, and its line end. The entry says where they go.
    Value { token: Token, remaining: u32 },
    /// A value that was refused, and its line end; then the answer that waits in the entry.
    Swallow { token: Token, remaining: u64 },
    /// A line, but not before all cores have answered.
    Barrier,
    /// A line, but not before what is owed has been given: a dump.
    Telling,
    /// Whatever comes is passed over: a watcher.
    Deaf,
    /// Nothing.
    Closed,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// Lines: classic and meta commands.
    Text,
    /// Packets.
    Binary,
}

/// What [`Session::take`] is done with before it looks at the rest.
enum Done {
    /// So many bytes.
    Bytes(usize),
    /// So many bytes, with which a command was executed.
    Command(usize),
}

/// Why [`Session::take`] cannot go on after the next `consumed` bytes.
struct Halt {
    consumed: usize,
    stop: Stop,
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Halt {
        Halt { consumed: 0, stop }
    }
}

/// One connection's state. Small; what it is owed lies in its core's pool. End it with [`Session::end`]: dropping it
/// alone leaks what it holds.
#[derive(Debug)]
pub struct Session {
    conn: ConnId,
    state: State,
    /// Not known before the first byte.
    speaks: Option<Speaks>,
    pub(crate) owed: OwedList,
    /// The client has said who it is, or does not have to.
    trusted: bool,
    /// It was closed because what it said was no protocol.
    broken: bool,
    /// All of its input is one datagram: what is not whole in it never will be.
    datagram: bool,
    /// It was closed by a quit that is not answered.
    quit: bool,
    /// Between [`Session::foresee`] and the end of the next [`Session::take`].
    foreseen: Option<Foreseen>,
}

/// What is left of a session between commands: what it speaks, and whether its client is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    speaks: Option<Speaks>,
    trusted: bool,
}

impl Resting {
    /// How many there are.
    pub const KINDS: u32 = 6;

    /// What is left of a session that has seen nothing.
    pub const NEW: Resting = Resting { speaks: None, trusted: false };

    /// Its number, below [`KINDS`](Self::KINDS).
    pub fn number(self) -> u32 {
        let speaks = match self.speaks {
            None => 0,
            Some(Speaks::Text) => 1,
            Some(Speaks::Binary) => 2,
        };
        2 * speaks + u32::from(self.trusted)
    }

    /// The one of that number.
    pub fn of_number(number: u32) -> Resting {
        let speaks = match number / 2 {
            0 => None,
            1 => Some(Speaks::Text),
            _ => Some(Speaks::Binary),
        };
        Resting { speaks, trusted: number % 2 == 1 }
    }
}

/// One call of [`Session::take`]: whose it is, the two sides of the core that it is on, and where replies go that are
/// known at once.
struct Taking<'a> {
    session: &'a mut Session,
    /// For keys of this core.
    here: &'a mut Here,
    /// For what is owed, and keys of other cores.
    clients: &'a mut Clients,
    out: Writer<'a>,
}

impl Session {
    /// A new conversation for connection `conn`, which no other session of the core uses.
    pub fn new(conn: ConnId) -> Session {
        Session {
            conn,
            state: State::Line,
            speaks: None,
            owed: OwedList::new(conn),
            trusted: false,
            broken: false,
            datagram: false,
            quit: false,
            foreseen: None,
        }
    }

    /// A conversation of one datagram, for connection `conn`. What it speaks shows in its first byte, whatever `-B`
    /// says, as in memcached (`try_read_command_udp`).
    pub(crate) fn of_datagram(conn: ConnId, request: &[u8]) -> Session {
        let binary = request.first() == Some(&MAGIC_REQUEST);
        let speaks = Some(if binary { Speaks::Binary } else { Speaks::Text });
        Session { datagram: true, speaks, ..Session::new(conn) }
    }

    /// What is left of the conversation if it is between commands and owes nothing: it may be forgotten then, and made
    /// again by [`of_resting`](Self::of_resting). What it has not taken of its input is no part of it.
    pub fn rest(&self) -> Option<Resting> {
        let rests = self.is_idle() && !(self.broken || self.datagram || self.quit || self.foreseen.is_some());
        rests.then_some(Resting { speaks: self.speaks, trusted: self.trusted })
    }

    /// The conversation for connection `conn` of which `resting` was left.
    pub fn of_resting(conn: ConnId, resting: Resting) -> Session {
        Session { speaks: resting.speaks, trusted: resting.trusted, ..Session::new(conn) }
    }

    /// The connection it is for.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Parses and executes what it can of `input`; see the module's documentation.
    ///
    /// Replies that are known at once, and that nothing owed comes before, are written to the front of `out`; the
    /// caller must send them before anything that is given. With an empty `out` every reply waits for
    /// [`give`](Self::give). A session of a datagram takes one command or key at most.
    pub fn take(&mut self, core: &mut Core, input: &[u8], out: &mut [u8], now: Now) -> Taken {
        let Core { here, clients } = core;
        here.begin_try(clients.conns.begin_try(self.conn, now.secs), now);
        let mut taking = Taking { session: self, here, clients, out: Writer::new(out) };
        let (consumed, stop) = taking.run(input);
        let Taking { session, clients, out, .. } = taking;
        session.foreseen = None;
        clients.end_try(session.conn, stop == Stop::Waiting, consumed, out.len());
        Taken { consumed, written: out.len(), stop }
    }

    /// The hash of the key that the next [`take`](Self::take) of `input` will look up first on this core, as far as a
    /// glance can tell; a wrong guess costs a prefetch. Asks for its line of the index; give the hash to
    /// [`Shard::prefetch_item`](crate::Shard::prefetch_item) when that has had time to come.
    ///
    /// The bytes of `input` must stay as they are until the next `take`, which may be given them at another place.
    pub fn foresee(&mut self, core: &Core, input: &[u8]) -> Option<KeyHash> {
        if !matches!(self.state, State::Line) {
            return None;
        }
        let foreseen = Foreseen::read(&core.here.hasher, input)?;
        self.foreseen = Some(foreseen);
        core.here.prefetch(foreseen.hash)
    }

    /// Writes the replies owed, in order, as far as `out` goes. Any size will do.
    pub fn give(&mut self, core: &mut Core, out: &mut [u8]) -> Given {
        let Core { here, clients } = core;
        let (written, more) = self.owed.give(here, clients, out);
        clients.counters.bytes_written.add(written as u64);
        Given { written, more }
    }

    /// Ends the conversation: gives back everything it holds here and on other cores. The number of the connection may
    /// be used again at once.
    pub fn end(mut self, core: &mut Core) {
        let Core { here, clients } = core;
        self.owed.drop_all(here, clients);
        clients.forget(self.conn);
    }

    /// Says that no more bytes will come. Call it when [`Session::take`] has asked for more input than the client,
    /// which has closed its direction, will ever send: what was begun is given up and never answered, what is owed for
    /// whole commands is still given, and then the session is [finished](Session::finished).
    pub fn end_input(&mut self, core: &mut Core) {
        let Core { here, clients } = core;
        let unanswered = match std::mem::replace(&mut self.state, State::Closed) {
            State::Value { token, remaining } => match clients.replies.entry(token).owed {
                Owed::Waiting(Waiting::Upload(Upload::Open { owner, upload })) => {
                    clients.abort_upload(here, owner, token, upload);
                    Some(token)
                }
                // It gave way.
                Owed::Waiting(Waiting::Refused { .. }) => Some(token),
                _ => {
                    // Not known yet where the bytes go: take waits for that and asks for none.
                    self.state = State::Value { token, remaining };
                    return;
                }
            },
            State::Swallow { token, .. } => Some(token),
            State::Deaf => {
                // Nobody is there to be told: the watch alone is owed, and it has no end of its own.
                self.owed.end_watch(clients);
                None
            }
            _ => None,
        };
        if let Some(token) = unanswered {
            clients.replies.entry_mut(token).owed = Owed::Nothing;
        }
    }

    /// Whether it is closed and has given everything: the connection is to be closed now.
    pub fn finished(&self) -> bool {
        matches!(self.state, State::Closed) && self.owed.is_empty()
    }

    /// Whether it was closed because what came was nonsense: an HTTP request, or a line without end.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether it is between commands and owes nothing.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Line) && self.owed.is_empty()
    }

    /// Replies owed.
    pub fn pending(&self) -> usize {
        self.owed.len()
    }

    /// Whether it is between commands.
    pub(crate) fn is_between_commands(&self) -> bool {
        matches!(self.state, State::Line | State::Barrier | State::Telling)
    }

    /// Whether it was closed by a quit that is not answered.
    pub(crate) fn has_quit(&self) -> bool {
        self.quit
    }
}

impl Taking<'_> {
    /// Goes on with `input` until it is used up or must stop. Returns the bytes that are done with, and why it stopped.
    fn run(&mut self, input: &[u8]) -> (usize, Stop) {
        let mut consumed = 0;
        // A datagram is served one command at a time; that is not counted as a yield.
        let most = if self.session.datagram { 1 } else { self.clients.config.requests_per_take };
        let mut left = most;
        // A connection that is served one request at a time has no more than one reply on its way.
        let limit = self.clients.config.reply_limit.filter(|_| most > 1);
        let before = self.clients.replies.in_use();
        loop {
            if let Some(limit) = limit {
                let rest = input.get(consumed..).unwrap_or_default();
                if let Some(stop) = self.stop_at_limit(rest, limit, before, most - left) {
                    return (consumed, stop);
                }
            }
            match self.step(input.get(consumed..).unwrap_or_default()) {
                Ok(Done::Bytes(bytes)) => consumed += bytes,
                Ok(Done::Command(bytes)) => {
                    consumed += bytes;
                    left -= 1;
                    // What was foreseen belongs to the first request alone.
                    self.session.foreseen = None;
                    if left == 0 {
                        self.clients.counters.conn_yields.add(u64::from(!self.session.datagram));
                        return (consumed, Stop::Yield);
                    }
                    // Most clients send one request at a time: do not look for another line.
                    if consumed == input.len() && matches!(self.session.state, State::Line) {
                        return (consumed, Stop::NeedInput);
                    }
                }
                Err(halt) => return (consumed + halt.consumed, halt.stop),
            }
        }
    }

    /// `key` with its hash, from what was foreseen or anew, and the core that owns it.
    #[inline]
    fn locate<'k>(&self, key: &'k [u8]) -> (Key<'k>, usize) {
        match self.session.foreseen.and_then(|foreseen| foreseen.hash_of(key)) {
            Some(hash) => {
                debug_assert_eq!(hash, self.here.hasher.hash(key), "the input has changed since it was foreseen");
                (Key { hash, bytes: key }, self.here.owner_of(hash))
            }
            None => self.here.locate(key),
        }
    }

    /// Does what the next bytes of `input` ask for.
    fn step(&mut self, input: &[u8]) -> Result<Done, Halt> {
        match self.session.state {
            State::Line if !self.session.trusted => self.greet(input),
            State::Line => match self.session.speaks {
                Some(Speaks::Text) => self.line(input),
                Some(Speaks::Binary) => self.packet(input),
                None => self.negotiate(input),
            },
            State::Keys { .. } => self.next_key(input),
            State::SkipLine => self.skip_line(input),
            State::Value { token, remaining } => self.send_value(input, token, remaining),
            State::Swallow { token, remaining } => self.swallow(input, token, remaining),
            State::Barrier if self.clients.conns[self.session.conn].in_flight > 0 => Err(Stop::Waiting.into()),
            State::Telling if !self.session.owed.is_empty() => Err(Stop::NeedRoom.into()),
            State::Barrier | State::Telling => {
                self.session.state = State::Line;
                Ok(Done::Bytes(0))
            }
            State::Deaf => Err(Halt { consumed: input.len(), stop: Stop::NeedInput }),
            State::Closed => Err(Halt { consumed: input.len(), stop: Stop::Close }),
        }
    }

    /// The first byte of a connection decides what it speaks, unless the server speaks one protocol alone.
    fn negotiate(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let &first = input.first().ok_or(Stop::NeedInput)?;
        let binary = match self.clients.config.protocol {
            Protocol::Auto => first == MAGIC_REQUEST,
            Protocol::Ascii => false,
            Protocol::Binary => true,
        };
        self.session.speaks = Some(if binary { Speaks::Binary } else { Speaks::Text });
        Ok(Done::Bytes(0))
    }

    /// A command of `bytes` bytes was executed, and is counted.
    fn executed(&mut self, bytes: usize) -> Done {
        self.clients.counters.requests.add(1);
        Done::Command(bytes)
    }

    /// Takes no more; what is owed is still given.
    fn close(&mut self) {
        self.session.state = State::Closed;
    }

    /// The same, because what came was nonsense.
    fn close_broken(&mut self) {
        self.session.broken = true;
        self.close();
    }
}
