//! Replies one by one: over UDP each is a message of its own, whose length must be known before its first byte leaves.
//!
//! A session of a datagram is given all of its input at once and takes it command by command; what is not whole in it
//! never will be, and has no effect. What it answers leaves by [`Session::give_first`] instead of
//! [`Session::give`](super::Session::give).

use super::render::{Rendered, render};
use super::{Session, Speaks, State};
use crate::core::{ConnId, Core};
use crate::mesh::message::NO_STREAM;
use crate::operation::Outcome;
use crate::proto::binary::MAGIC_REQUEST;
use crate::replies::{NO_ENTRY, Owed, Source, Waiting};

/// What is known of the first reply that a session owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstReply {
    /// Nothing is owed.
    Nothing,
    /// Not its length.
    Unknown,
    /// Its length. `whole`: all of its bytes can be had at once.
    Known { len: usize, whole: bool },
    /// It is a list that is told part by part, whose length shows at its end.
    Told,
}

/// How far a list that is told part by part has been gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// To its end.
    All,
    /// There is more.
    More,
    /// What comes next is not here yet.
    NoneYet,
}

/// Bytes by which a list is gathered.
const GATHERED_BYTES: usize = 8 << 10;

impl Session {
    /// A conversation of one datagram, for connection `conn`. What it speaks shows in its first byte, whatever `-B`
    /// says, as in memcached (`try_read_command_udp`).
    pub(crate) fn of_datagram(conn: ConnId, request: &[u8]) -> Session {
        let binary = request.first() == Some(&MAGIC_REQUEST);
        let speaks = Some(if binary { Speaks::Binary } else { Speaks::Text });
        Session { datagram: true, speaks, ..Session::new(conn) }
    }

    /// Whether it is between commands.
    pub(crate) fn is_between_commands(&self) -> bool {
        matches!(self.state, State::Line | State::Barrier | State::Telling)
    }

    /// Whether it was closed by a quit that is not answered.
    pub(crate) fn has_quit(&self) -> bool {
        self.quit
    }

    /// Whether nothing that it owes will be sent: at most it waits for commands that are not answered (`noreply`).
    pub(crate) fn owes_no_bytes(&self, core: &Core) -> bool {
        let is_unheard = || matches!(core.replies.entry(self.head).owed, Owed::Waiting(Waiting::Unheard));
        self.pending == 0 || (self.pending == 1 && is_unheard())
    }

    /// What is known of the first reply owed.
    pub(crate) fn first_reply(&self, core: &Core) -> FirstReply {
        if self.head == NO_ENTRY {
            return FirstReply::Nothing;
        }
        let known = |len: usize| FirstReply::Known { len, whole: true };
        let form = core.replies.form(self.head);
        match &core.replies.entry(self.head).owed {
            Owed::Walk(_) => FirstReply::Told,
            Owed::Nothing | Owed::Orphan { .. } => known(0),
            Owed::Ready(said) => known(form.measure(said)),
            Owed::Text(text) => known(text.len()),
            &Owed::Body { view, source: Source::Held(hold) } => match core.held(hold) {
                Some(item) => known(form.of_item(item.key).measure(&Outcome::Hit(view).into())),
                // The bytes are gone, and with them the length: the next visit gives the request up.
                None => FirstReply::Unknown,
            },
            &Owed::Body { view, source: Source::Landed(slot) } => {
                let landed = core.landing.slot(slot);
                let whole = landed.from == 0 && u32::from(landed.filled) == view.len && landed.stream == NO_STREAM;
                let form = form.of_item(core.landing.key(slot));
                FirstReply::Known { len: form.measure(&Outcome::Hit(view).into()), whole }
            }
            Owed::Waiting(_) | Owed::Watch(_) => FirstReply::Unknown,
        }
    }

    /// Writes what comes next of the first reply owed into `out`, and nothing of the one after it. Returns the bytes;
    /// 0 when they are not here yet.
    pub(crate) fn give_first(&mut self, core: &mut Core, out: &mut [u8]) -> usize {
        if self.head == NO_ENTRY {
            return 0;
        }
        match render(core, self.head, self.sent, out) {
            Rendered::Whole(bytes) => {
                self.drop_first(core);
                bytes
            }
            Rendered::Part(bytes) | Rendered::Starved(bytes) => {
                self.sent = self.sent.wrapping_add(bytes as u32);
                bytes
            }
            Rendered::Lost => {
                core.lose(self.conn);
                0
            }
        }
    }

    /// Appends to `told` what comes next of the first reply owed, a list that is told part by part. When it is whole,
    /// the list is a text that is owed in its place, and `told` is empty.
    pub(crate) fn gather_first(&mut self, core: &mut Core, told: &mut Vec<u8>) -> Gathered {
        let len = told.len();
        told.resize(len + GATHERED_BYTES, 0);
        let rendered = render(core, self.head, self.sent, &mut told[len..]);
        let (Rendered::Whole(bytes) | Rendered::Part(bytes) | Rendered::Starved(bytes)) = rendered else {
            return Gathered::NoneYet;
        };
        told.truncate(len + bytes);
        if !matches!(rendered, Rendered::Whole(_)) {
            return if bytes > 0 { Gathered::More } else { Gathered::NoneYet };
        }
        let text = Owed::Text(std::mem::take(told).into_boxed_slice());
        if let Owed::Walk(walk) = std::mem::replace(&mut core.replies.entry_mut(self.head).owed, text) {
            core.end_walk(&walk);
        }
        self.sent = 0;
        Gathered::All
    }

    /// Whether the first reply owed will never be whole: others needed the room of its rest.
    pub(crate) fn is_lost(&self, core: &Core) -> bool {
        match core.replies.get(self.head).map(|entry| &entry.owed) {
            Some(&Owed::Body { source: Source::Held(hold), .. }) => core.held(hold).is_none(),
            _ => false,
        }
    }
}
