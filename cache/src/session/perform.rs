//! Operations performed where their key lives, here or on another core, and what is answered to them.
//!
//! What a command needs (an entry, a landing slot, a place in a message) is asked for before it is executed or sent; if
//! there is none, nothing has happened and the session stops.

use cpu::Counter;

use super::{Done, Halt, Speaks, Stop, Taking};
use crate::core::Need;
use crate::core::clients::Clients;
use crate::key::Key;
use crate::mesh::message::Token;
use crate::operation::{Operation, Outcome, View};
use crate::proto::asked::Asked;
use crate::proto::form::{Form, Said};
use crate::proto::line::Line;
use crate::proto::sink::Sink as _;
use crate::proto::text::LINE_END;
use crate::replies::{Owed, ValueAt, Waiting};
use crate::store::ItemRef;

impl Taking<'_> {
    /// Whether another reply may be owed; the reason to stop if not.
    pub(super) fn reply_room(&mut self) -> Result<(), Stop> {
        let (held, most) = (self.session.owed.len(), self.clients.config.pending_per_connection);
        self.one_more(Need::Entry, (held, most), |clients| {
            (clients.replies.share.allows(held), &clients.counters.entries_short)
        })
    }

    /// Room for a text or a list. A connection is owed one at a time, and nothing before it, so that what it counts
    /// includes all that was answered.
    pub(super) fn text_room(&mut self) -> Result<(), Stop> {
        if self.session.owed.is_empty() { self.reply_room() } else { Err(Stop::NeedRoom) }
    }

    /// Whether one more value may come from another core; the reason to stop if not.
    pub(super) fn slot_room(&mut self) -> Result<(), Stop> {
        let held = usize::from(self.clients.conns[self.session.conn].slots);
        self.one_more(Need::Slot, (held, self.clients.config.slots_per_connection), |clients| {
            (clients.landing.share.allows(held), &clients.counters.slots_short)
        })
    }

    /// Whether the connection, which has `held` of `need` and may have `most`, may take one more. Its first it gets
    /// when its turn has come, others as long as its share `allows`, which is counted where it does not.
    #[inline]
    fn one_more(
        &mut self,
        need: Need,
        (held, most): (usize, usize),
        allows: impl Fn(&Clients) -> (bool, &Counter),
    ) -> Result<(), Stop> {
        if held == 0 {
            return self.admit(need);
        }
        if held < most {
            let (allowed, short) = allows(self.clients);
            if allowed {
                return Ok(());
            }
            short.add(1);
        }
        Err(Stop::NeedRoom)
    }

    /// Whether `need` can be had; if not, the connection is in its queue.
    pub(super) fn admit(&mut self, need: Need) -> Result<(), Stop> {
        if self.clients.admits(self.session.conn, need) { Ok(()) } else { Err(self.wait(need)) }
    }

    pub(super) fn wait(&mut self, need: Need) -> Stop {
        self.clients.wait_for(self.session.conn, need);
        Stop::Waiting
    }

    /// Room for a message to `owner` with `bytes` bytes, of which this core needs none; if there is none, the
    /// connection is in the queue.
    pub(super) fn message_room(&mut self, owner: usize, bytes: usize) -> Result<(), Stop> {
        if owner == self.here.id || self.clients.make_room(self.session.conn, owner, bytes) {
            Ok(())
        } else {
            Err(self.wait(Need::Block(owner)))
        }
    }

    /// Owes a reply, after [`reply_room`](Self::reply_room).
    pub(super) fn owe(&mut self, form: &Form<'_>, owed: Owed) -> Token {
        self.session.owed.push(&mut self.clients.replies, form, owed)
    }

    /// What follows a value.
    pub(super) fn value_end(&self) -> &'static [u8] {
        if self.session.speaks == Some(Speaks::Binary) { b"" } else { LINE_END }
    }

    /// Whether a reply that is known at once may leave at once: nothing is owed before it.
    #[inline]
    pub(super) fn answers_at_once(&self) -> bool {
        self.session.owed.is_empty()
    }

    /// Room for a reply that will be known at once; the reason to stop if there is none. A reply that may have a value
    /// needs an entry, in case that it is longer than what the output has room for.
    #[inline]
    pub(super) fn room_to_say(&mut self, form: &Form<'_>) -> Result<(), Stop> {
        let leaves = !form.takes_value() && self.answers_at_once() && form.fits(0, &self.out);
        let needs_none = form.is_silent() || leaves;
        if needs_none { Ok(()) } else { self.reply_room() }
    }

    /// Answers, after [`room_to_say`](Self::room_to_say): at once, or when what is owed before has been given.
    #[inline]
    pub(super) fn say(&mut self, form: &Form<'_>, said: impl Into<Said>) {
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
    pub(super) fn say_value(&mut self, form: &Form<'_>, view: View, at: ItemRef) {
        let value = self.here.value(at);
        if self.answers_at_once() && form.fits(value.len(), &self.out) {
            form.write(&Outcome::Hit(view).into(), value, &mut self.out);
        } else {
            let value = ValueAt::Held(self.here.hold(at));
            self.owe(form, Owed::Body { view, value });
        }
    }

    /// Answers what is known at once. Stops when there is no room for it.
    pub(super) fn tell(&mut self, form: &Form<'_>, said: impl Into<Said>) -> Result<(), Stop> {
        self.room_to_say(form)?;
        self.say(form, said);
        Ok(())
    }

    /// Answers with a line, in the text protocol. Stops when there is no room for it.
    pub(super) fn answer(&mut self, line: Line) -> Result<(), Stop> {
        self.tell(&Form::classic(false), line)
    }

    /// Does what a request asks for, whose line or head is the first `head_bytes` bytes of `input`.
    pub(super) fn obey(
        &mut self,
        input: &[u8],
        head_bytes: usize,
        asked: &Asked<'_>,
        form: &Form<'_>,
    ) -> Result<Done, Halt> {
        match asked {
            Asked::Operation { key, operation } => self.perform(self.locate(key), operation, b"", form)?,
            Asked::Store(storing) => return self.store(input, head_bytes, storing, form),
            &Asked::Line(line) => self.tell(form, line)?,
            &Asked::PassOver { bytes, line } => self.pass_over(bytes, form, line)?,
            Asked::Order(order) => self.operate(order, form)?,
        }
        Ok(self.executed(head_bytes))
    }

    /// Executes an operation where its key lives: here, or on the core `owner`. `value` is that of a store.
    pub(super) fn perform(
        &mut self,
        (key, owner): (Key<'_>, usize),
        operation: &Operation,
        value: &[u8],
        form: &Form<'_>,
    ) -> Result<(), Stop> {
        if owner == self.here.id {
            self.room_to_say(form)?;
            let (outcome, at) = self.here.execute(key, operation, value);
            match (outcome, at) {
                (Outcome::Hit(view), Some(at)) if form.takes_value() => self.say_value(form, view, at),
                (outcome, _) => self.say(form, outcome),
            }
        } else if form.takes_value() {
            let (token, room) = self.expect_value(owner, key.bytes, form)?;
            self.clients.ask_to_operate(owner, token, key, operation, value, Some(room));
        } else {
            let token = self.expect_outcome(owner, key.bytes.len() + value.len(), form)?;
            self.clients.ask_to_operate(owner, token, key, operation, value, None);
        }
        Ok(())
    }

    /// Room for a message with `bytes` bytes of key and value to `owner`, and the entry in which its outcome will land.
    pub(super) fn expect_outcome(&mut self, owner: usize, bytes: usize, form: &Form<'_>) -> Result<Token, Stop> {
        let shared = if form.is_silent() { self.session.owed.unheard(&self.clients.replies) } else { None };
        if shared.is_none() {
            self.reply_room()?;
        }
        self.message_room(owner, bytes)?;
        self.clients.counters.cross_core_requests.add(1);
        let waiting = if form.is_silent() { Waiting::Unheard } else { Waiting::Outcome };
        Ok(shared.unwrap_or_else(|| self.owe(form, Owed::Waiting(waiting))))
    }

    /// Room for a message with `key` to `owner`, the entry and the landing slot in which its value will land, and the
    /// bytes that this has room for.
    pub(super) fn expect_value(&mut self, owner: usize, key: &[u8], form: &Form<'_>) -> Result<(Token, u16), Stop> {
        self.reply_room()?;
        self.slot_room()?;
        self.message_room(owner, key.len())?;
        let Some((slot, room)) = self.clients.take_slot(self.session.conn, key, owner) else {
            return Err(self.wait(Need::Slot));
        };
        self.clients.counters.cross_core_requests.add(1);
        Ok((self.owe(form, Owed::Waiting(Waiting::Value { slot })), room))
    }
}
