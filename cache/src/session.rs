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
//! connection; nothing else can make it move. When the client has closed its direction and `take` still needs input, say
//! so with [`Session::end_input`]. Where a line or a small value may straddle the end of a ring, give
//! `take` the bytes copied to one piece of at least [`WHOLE_MAX_BYTES`] (or all there are), and not a part of them first:
//! a connection that was named because its turn has come has one try.
//!
//! Invariant S1: commands are executed in the order of the input. On one shard that is the order of the calls or of the
//! messages; a reply keeps its place in the list of entries from the moment its command is executed or sent.
//! Invariant S2: what is answered depends on the bytes alone, not on how they were cut.
//! Invariant S3: a reply leaves after everything that was asked for before it is done, on whichever core and whether that
//! is answered or not (`noreply`): a client that has the reply may tell others.
//! Read first: memcached `protocol.txt`, then [`crate::core`].

use crate::clock::{Expiry, Now};
use crate::core::{ConnId, Core, Need};
use crate::key::{Key, KeyHash};
use crate::mesh::message::{NOBODY, Request, Token};
use crate::operation::{Operation, Outcome, View};
use crate::proto::binary::MAGIC_REQUEST;
use crate::proto::form::{Form, Said};
use crate::proto::reply::Line;
use crate::proto::sink::{Sink as _, Writer};
use crate::proto::text::LINE_MAX_BYTES;
use crate::replies::{NO_ENTRY, Owed, Source, Upload, Waiting};
use crate::settings::Protocol;
use crate::store::ItemRef;

/// Orders to every core: flush_all, cache_memlimit; and stats, verbosity.
mod admin;
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
/// One command line.
mod line;
/// Replies one by one, for datagrams.
mod message;
/// Meta commands.
mod meta;
/// Commands of those who run the server.
mod operate;
/// Replies into the transmit ring.
mod render;
/// Values: in one piece, or piece by piece.
mod value;

/// Bytes that [`Session::take`] must be able to see in one piece: the longest line with its end, or a small storage
/// command with its value. A receive ring is to hold at least as many.
pub const WHOLE_MAX_BYTES: usize = LINE_MAX_BYTES + 1;

/// What follows a value.
const LINE_END: &[u8] = b"\r\n";

use foresight::Foreseen;
pub(crate) use message::{FirstReply, Gathered};

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
    /// A value for this core's shard, and its line end; `reply`: the entry of its answer, unless `noreply`.
    Value { upload: u32, reply: Option<Token> },
    /// A value for another core, and its line end.
    Upload { token: Token, owner: usize, remaining: u32 },
    /// A value that was refused, and its line end; then the answer that waits in an entry, if the client wants one.
    Swallow { remaining: u64, reply: Option<Token> },
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

/// One step of [`Session::take`].
enum Step {
    /// So many bytes are done with; go on.
    Moved(usize),
    /// So are these, and a command was executed.
    Executed(usize),
    /// After so many bytes, stop.
    Stop(usize, Stop),
}

/// One connection's state. Small; what it is owed lies in its core's pool. End it with [`Session::end`]: dropping it
/// alone leaks what it holds.
#[derive(Debug)]
pub struct Session {
    conn: ConnId,
    state: State,
    /// Not known before the first byte.
    speaks: Option<Speaks>,
    head: Token,
    tail: Token,
    pending: u32,
    /// Bytes of the first reply that have been given.
    sent: u32,
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

/// One call of [`Session::take`]: whose it is, the core that it is on, and where replies go that are known at once.
struct Taking<'a> {
    session: &'a mut Session,
    core: &'a mut Core,
    out: Writer<'a>,
}

impl Session {
    /// A new conversation for connection `conn`, which no other session of the core uses.
    pub fn new(conn: ConnId) -> Session {
        Session {
            conn,
            state: State::Line,
            speaks: None,
            head: NO_ENTRY,
            tail: NO_ENTRY,
            pending: 0,
            sent: 0,
            trusted: false,
            broken: false,
            datagram: false,
            quit: false,
            foreseen: None,
        }
    }

    /// The connection it is for.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Parses and executes what it can of `input`; see the module's documentation.
    ///
    /// Replies that are known at once, and that nothing owed comes before, are written to the front of `out`; the caller
    /// must send them before anything that is given. With an empty `out` every reply waits for [`give`](Self::give). A
    /// session of a datagram takes one command or key at most.
    pub fn take(&mut self, core: &mut Core, input: &[u8], out: &mut [u8], now: Now) -> Taken {
        core.begin_try(self.conn, now);
        let mut taking = Taking { session: self, core, out: Writer::new(out) };
        let (consumed, stop) = taking.run(input);
        let Taking { session, core, out } = taking;
        session.foreseen = None;
        core.end_try(session.conn, stop == Stop::Waiting);
        let counters = core.counters();
        counters.bytes_read.add(consumed as u64);
        counters.bytes_written.add(out.len() as u64);
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
        let foreseen = Foreseen::read(core, input)?;
        self.foreseen = Some(foreseen);
        let hash = foreseen.hash;
        if core.owner_of(hash) != core.id() {
            return None;
        }
        core.shard.prefetch(hash);
        Some(hash)
    }

    /// Ends the conversation: gives back everything it holds here and on other cores. The number of the connection may
    /// be used again at once.
    pub fn end(mut self, core: &mut Core) {
        if let State::Value { upload, .. } = self.state {
            core.abandon_upload(upload);
        }
        self.drop_owed(core);
        core.forget(self.conn);
    }

    /// Gives back what is owed to the connection, which will not be given.
    fn drop_owed(&mut self, core: &mut Core) {
        let mut token = std::mem::replace(&mut self.head, NO_ENTRY);
        let mut left = self.pending as usize;
        while token != NO_ENTRY {
            let next = core.replies.entry(token).next;
            left -= 1;
            core.orphan(token, left);
            token = next;
        }
        (self.tail, self.pending, self.sent) = (NO_ENTRY, 0, 0);
    }

    /// Says that no more bytes will come. Call it when [`Session::take`] has asked for more input than the client, which
    /// has closed its direction, will ever send: what was begun is given up and never answered, what is owed for whole
    /// commands is still given, and then the session is [finished](Session::finished).
    pub fn end_input(&mut self, core: &mut Core) {
        let unanswered = match std::mem::replace(&mut self.state, State::Closed) {
            State::Value { upload, reply } => {
                core.abandon_upload(upload);
                reply
            }
            State::Upload { token, owner, remaining } => match core.replies.entry(token).owed {
                Owed::Waiting(Waiting::Upload(Upload::Open { upload, .. })) => {
                    core.owe(owner, token, Request::Abort { upload });
                    Some(token)
                }
                // It gave way.
                Owed::Waiting(Waiting::Refused { .. }) => Some(token),
                _ => {
                    // Not known yet where the bytes go: take waits for that and asks for none.
                    self.state = State::Upload { token, owner, remaining };
                    return;
                }
            },
            State::Swallow { reply, .. } => reply,
            State::Deaf => {
                // Nobody is there to be told: the watch alone is owed, and it has no end of its own.
                if let Owed::Watch(watch) =
                    std::mem::replace(&mut core.replies.entry_mut(self.head).owed, Owed::Nothing)
                {
                    core.end_watch(self.conn, watch.place);
                }
                None
            }
            _ => None,
        };
        if let Some(token) = unanswered {
            core.replies.entry_mut(token).owed = Owed::Nothing;
        }
    }

    /// Whether it is closed and has given everything: the connection is to be closed now.
    pub fn finished(&self) -> bool {
        matches!(self.state, State::Closed) && self.pending == 0
    }

    /// Whether it was closed because what came was nonsense: an HTTP request, or a line without end.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether it is between commands and owes nothing.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Line) && self.pending == 0
    }

    /// Replies owed.
    pub fn pending(&self) -> usize {
        self.pending as usize
    }
}

impl Taking<'_> {
    /// Goes on with `input` until it is used up or must stop. Returns the bytes that are done with, and why it stopped.
    fn run(&mut self, input: &[u8]) -> (usize, Stop) {
        let mut consumed = 0;
        // A datagram is served one command at a time; that is not counted as a yield.
        let most = if self.session.datagram { 1 } else { self.core.config.requests_per_take };
        let mut left = most;
        // A connection that is served one request at a time has no more than one reply on its way.
        let limit = self.core.config.reply_limit.filter(|_| most > 1);
        let before = self.core.replies.in_use();
        loop {
            if let Some(limit) = limit {
                let rest = input.get(consumed..).unwrap_or_default();
                if let Some(stop) = self.stop_at_limit(rest, limit, before, most - left) {
                    return (consumed, stop);
                }
            }
            match self.step(input.get(consumed..).unwrap_or_default()) {
                Step::Moved(bytes) => consumed += bytes,
                Step::Executed(bytes) => {
                    consumed += bytes;
                    left -= 1;
                    // What was foreseen belongs to the first request alone.
                    self.session.foreseen = None;
                    if left == 0 {
                        self.core.counters().conn_yields.add(u64::from(!self.session.datagram));
                        return (consumed, Stop::Yield);
                    }
                    // Most clients send one request at a time: do not look for another line.
                    if consumed == input.len() && matches!(self.session.state, State::Line) {
                        return (consumed, Stop::NeedInput);
                    }
                }
                Step::Stop(bytes, stop) => return (consumed + bytes, stop),
            }
        }
    }

    /// `key` with its hash, from what was foreseen or anew, and the core that owns it.
    #[inline]
    fn locate<'k>(&self, key: &'k [u8]) -> (Key<'k>, usize) {
        match self.session.foreseen.and_then(|foreseen| foreseen.hash_of(key)) {
            Some(hash) => {
                debug_assert_eq!(hash, self.core.hasher().hash(key), "the input has changed since it was foreseen");
                (Key { hash, bytes: key }, self.core.owner_of(hash))
            }
            None => self.core.locate(key),
        }
    }

    fn step(&mut self, input: &[u8]) -> Step {
        match self.session.state {
            State::Line if !self.session.trusted => self.greet(input),
            State::Line => match self.session.speaks {
                Some(Speaks::Text) => self.line(input),
                Some(Speaks::Binary) => self.packet(input),
                None => self.negotiate(input),
            },
            State::Keys { .. } => self.next_key(input),
            State::SkipLine => self.skip_line(input),
            State::Value { .. } => self.fill_value(input),
            State::Upload { token, owner, remaining } => self.send_value(input, token, owner, remaining),
            State::Swallow { remaining, reply } => self.swallow(input, remaining, reply),
            State::Barrier if self.core.in_flight(self.session.conn) > 0 => Step::Stop(0, Stop::Waiting),
            State::Barrier => {
                self.session.state = State::Line;
                Step::Moved(0)
            }
            State::Telling if self.session.pending > 0 => Step::Stop(0, Stop::NeedRoom),
            State::Telling => {
                self.session.state = State::Line;
                Step::Moved(0)
            }
            State::Deaf => Step::Stop(input.len(), Stop::NeedInput),
            State::Closed => Step::Stop(input.len(), Stop::Close),
        }
    }

    /// The first byte of a connection decides what it speaks, unless the server speaks one protocol alone.
    fn negotiate(&mut self, input: &[u8]) -> Step {
        let Some(&first) = input.first() else { return Step::Stop(0, Stop::NeedInput) };
        let binary = match self.core.config.protocol {
            Protocol::Auto => first == MAGIC_REQUEST,
            Protocol::Ascii => false,
            Protocol::Binary => true,
        };
        self.session.speaks = Some(if binary { Speaks::Binary } else { Speaks::Text });
        Step::Moved(0)
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

    /// Whether another reply may be owed; the reason to stop if not.
    fn reply_room(&mut self) -> Result<(), Stop> {
        match self.session.pending as usize {
            0 => self.admit(Need::Entry),
            held if held >= self.core.config.pending_per_connection => Err(Stop::NeedRoom),
            held if self.core.replies.share.allows(held) => Ok(()),
            _ => {
                self.core.counters().entries_short.add(1);
                Err(Stop::NeedRoom)
            }
        }
    }

    /// Whether one more value may come from another core; the reason to stop if not.
    fn slot_room(&mut self) -> Result<(), Stop> {
        match self.core.slots_of(self.session.conn) {
            0 => self.admit(Need::Slot),
            held if held >= self.core.config.slots_per_connection => Err(Stop::NeedRoom),
            _ if self.core.allows_slot(self.session.conn) => Ok(()),
            _ => {
                self.core.counters().slots_short.add(1);
                Err(Stop::NeedRoom)
            }
        }
    }

    /// Whether `need` can be had; if not, the connection is in its queue.
    fn admit(&mut self, need: Need) -> Result<(), Stop> {
        if self.core.admits(self.session.conn, need) { Ok(()) } else { Err(self.wait(need)) }
    }

    fn wait(&mut self, need: Need) -> Stop {
        self.core.wait_for(self.session.conn, need);
        Stop::Waiting
    }

    /// Room for a message to `owner` with `bytes` bytes; if there is none, the connection is in the queue.
    fn message_room(&mut self, owner: usize, bytes: usize) -> Result<(), Stop> {
        if self.core.make_room(self.session.conn, owner, bytes) { Ok(()) } else { Err(self.wait(Need::Block(owner))) }
    }

    /// Owes a reply, after [`reply_room`](Self::reply_room).
    fn owe(&mut self, form: &Form<'_>, owed: Owed) -> Token {
        let Some(token) = self.core.replies.take(self.session.conn, self.session.pending as usize, form, owed) else {
            debug_assert!(false, "reply_room was not asked");
            return NOBODY;
        };
        match self.session.tail {
            NO_ENTRY => self.session.head = token,
            tail => self.core.replies.entry_mut(tail).next = token,
        }
        self.session.tail = token;
        self.session.pending += 1;
        token
    }

    /// The last entry, if more answers that nobody wants to see may be expected there.
    fn unheard(&self) -> Option<Token> {
        let tail = (self.session.tail != NO_ENTRY).then_some(self.session.tail)?;
        let entry = self.core.replies.entry(tail);
        (matches!(entry.owed, Owed::Waiting(Waiting::Unheard)) && entry.expected < u16::MAX).then_some(tail)
    }

    /// What follows a value.
    fn value_end(&self) -> &'static [u8] {
        if self.session.speaks == Some(Speaks::Binary) { b"" } else { b"\r\n" }
    }

    /// Whether a reply that is known at once may leave at once: nothing is owed before it.
    fn answers_at_once(&self) -> bool {
        self.session.head == NO_ENTRY
    }

    /// Room for a reply that will be known at once; the reason to stop if there is none. A reply that may have a value
    /// needs an entry, in case that it is longer than what the output has room for.
    #[inline]
    fn room_to_say(&mut self, form: &Form<'_>) -> Result<(), Stop> {
        let leaves = !form.takes_value() && self.answers_at_once() && form.fits(0, &self.out);
        let needs_none = form.is_silent() || leaves;
        if needs_none { Ok(()) } else { self.reply_room() }
    }

    /// Answers, after [`room_to_say`](Self::room_to_say): at once, or when what is owed before has been given.
    #[inline]
    fn say(&mut self, form: &Form<'_>, said: impl Into<Said>) {
        let said = said.into();
        if form.hides(&said) {
            return;
        }
        if self.answers_at_once() && form.fits(0, &self.out) {
            form.head(&said, &mut self.out);
            if form.takes_value() {
                self.out.put(form.tail(&said));
            }
        } else {
            self.owe(form, Owed::Ready(said));
        }
    }

    /// Answers with the item at `at`, after [`room_to_say`](Self::room_to_say): it is written to the output, or held
    /// until its turn comes.
    fn say_value(&mut self, form: &Form<'_>, view: View, at: ItemRef) {
        let value = self.core.shard.item(at).value;
        if self.answers_at_once() && form.fits(value.len(), &self.out) {
            form.write(&Outcome::Hit(view).into(), value, &mut self.out);
        } else {
            let source = Source::Held(self.core.hold(at));
            self.owe(form, Owed::Body { view, source });
        }
    }

    /// Answers with a line, in the text protocol. Stops when there is no room for it.
    fn answer(&mut self, line: Line, noreply: bool) -> Result<(), Stop> {
        let form = Form::classic(noreply);
        self.room_to_say(&form)?;
        self.say(&form, line);
        Ok(())
    }

    /// Executes an operation where its key lives: here, or on the core `owner`. `value` is that of a store.
    fn perform(
        &mut self,
        (key, owner): (Key<'_>, usize),
        operation: &Operation,
        value: &[u8],
        form: &Form<'_>,
    ) -> Result<(), Stop> {
        if owner == self.core.id {
            self.room_to_say(form)?;
            let (outcome, at) = self.core.operate(key, operation, value);
            match (outcome, at) {
                (Outcome::Hit(view), Some(at)) if form.takes_value() => self.say_value(form, view, at),
                (outcome, _) => self.say(form, outcome),
            }
        } else if form.takes_value() {
            let (token, room) = self.expect_value(owner, key.bytes, form)?;
            self.core.ask_to_operate(owner, token, key, operation, value, Some(room));
        } else {
            let token = self.expect_outcome(owner, key.bytes.len() + value.len(), form)?;
            self.core.ask_to_operate(owner, token, key, operation, value, None);
        }
        Ok(())
    }

    /// Room for a message with `bytes` bytes of key and value to `owner`, and the entry in which its outcome will land.
    fn expect_outcome(&mut self, owner: usize, bytes: usize, form: &Form<'_>) -> Result<Token, Stop> {
        let shared = if form.is_silent() { self.unheard() } else { None };
        if shared.is_none() {
            self.reply_room()?;
        }
        self.message_room(owner, bytes)?;
        self.core.counters().cross_core_requests.add(1);
        let waiting = if form.is_silent() { Waiting::Unheard } else { Waiting::Outcome };
        Ok(shared.unwrap_or_else(|| self.owe(form, Owed::Waiting(waiting))))
    }

    /// Room for a message with `key` to `owner`, the entry and the landing slot in which its value will land, and the
    /// bytes that this has room for.
    fn expect_value(&mut self, owner: usize, key: &[u8], form: &Form<'_>) -> Result<(Token, u16), Stop> {
        self.reply_room()?;
        self.slot_room()?;
        self.message_room(owner, key.len())?;
        let Some((slot, room)) = self.core.take_slot(self.session.conn, key, owner) else {
            return Err(self.wait(Need::Slot));
        };
        self.core.counters().cross_core_requests.add(1);
        Ok((self.owe(form, Owed::Waiting(Waiting::Value { slot })), room))
    }
}
