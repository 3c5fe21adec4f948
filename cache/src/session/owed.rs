//! `OwedList`: what a connection is owed, in the order in which it asked; given whole or as far as there is room, or,
//! over UDP, reply by reply.
//!
//! The entries lie in the core's pool ([`crate::replies`]); the list knows the first, the last, and how much of the
//! first has been given. A datagram's replies are messages of their own, whose length must be known before their first
//! byte leaves: [`OwedList::first_reply`] and [`OwedList::give_first`] instead of [`OwedList::give`].

use super::render::{Made, render};
use crate::core::ConnId;
use crate::core::clients::Clients;
use crate::core::here::Here;
use crate::mesh::message::{NOBODY, Token};
use crate::proto::form::Form;
use crate::replies::{NO_ENTRY, Owed, Rendered, Replies, ValueAt, Waiting};

/// What is known of the first reply that a session owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstReply {
    /// Nothing is owed.
    Nothing,
    /// Not its length.
    Unknown,
    /// Its length.
    Known(usize),
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

/// What one connection is owed.
#[derive(Debug)]
pub(crate) struct OwedList {
    pub(super) conn: ConnId,
    first: Token,
    last: Token,
    len: u32,
    /// Bytes of the first reply that have been given. Of a dump and a watch this may wrap: they keep account of what
    /// they have given, and do not read it.
    sent: u32,
}

impl OwedList {
    /// Nothing is owed to `conn`.
    pub(super) fn new(conn: ConnId) -> OwedList {
        OwedList { conn, first: NO_ENTRY, last: NO_ENTRY, len: 0, sent: 0 }
    }

    /// Whether nothing is owed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NO_ENTRY
    }

    /// Replies owed.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Owes another reply; the caller knows that there is an entry.
    pub(super) fn push(&mut self, replies: &mut Replies, form: &Form<'_>, owed: Owed) -> Token {
        let Some(token) = replies.take(self.conn, self.len(), form, owed) else {
            debug_assert!(false, "reply_room was not asked");
            return NOBODY;
        };
        match self.last {
            NO_ENTRY => self.first = token,
            last => replies.entry_mut(last).next = token,
        }
        self.last = token;
        self.len += 1;
        token
    }

    /// The last entry, if more answers that nobody wants to see may be expected there.
    pub(super) fn unheard(&self, replies: &Replies) -> Option<Token> {
        let entry = replies.get(self.last)?;
        let joins = matches!(entry.owed, Owed::Waiting(Waiting::Unheard)) && entry.expected < u16::MAX;
        joins.then_some(self.last)
    }

    /// Writes the replies owed, in order, as far as `out` goes. Returns the bytes written, and whether more is ready
    /// that did not fit.
    pub(super) fn give(&mut self, here: &mut Here, clients: &mut Clients, out: &mut [u8]) -> (usize, bool) {
        let (mut written, mut dropped, mut more) = (0, false, false);
        while !self.is_empty() {
            let (bytes, stop) = match self.give_next(here, clients, &mut out[written..]) {
                Rendered::Whole(bytes) => (bytes, false),
                Rendered::Part(bytes) => {
                    more = true;
                    (bytes, true)
                }
                Rendered::Starved(bytes) => (bytes, true),
                Rendered::Lost => (0, true),
            };
            written += bytes;
            if stop {
                break;
            }
            dropped = true;
        }
        // A miss inside a multi-get makes room for another reply without a byte, so that no room in the ring will name
        // the connection.
        if dropped && written == 0 {
            clients.conns.make_ready(self.conn);
        }
        (written, more)
    }

    /// Writes what comes next of the first reply owed into `out`, and nothing of the one after it. Returns the bytes;
    /// 0 when they are not here yet.
    pub(crate) fn give_first(&mut self, here: &mut Here, clients: &mut Clients, out: &mut [u8]) -> usize {
        if self.is_empty() {
            return 0;
        }
        match self.give_next(here, clients, out) {
            Rendered::Whole(bytes) | Rendered::Part(bytes) | Rendered::Starved(bytes) => bytes,
            Rendered::Lost => 0,
        }
    }

    /// Writes what comes next of the first reply owed, which leaves the list with its last byte.
    fn give_next(&mut self, here: &mut Here, clients: &mut Clients, out: &mut [u8]) -> Rendered {
        let rendered = render(here, clients, self.first, self.sent, out);
        match rendered {
            Rendered::Whole(_) => self.drop_first(here, clients),
            Rendered::Part(bytes) | Rendered::Starved(bytes) => self.sent = self.sent.wrapping_add(bytes as u32),
            Rendered::Lost => clients.lose(self.conn),
        }
        rendered
    }

    /// Gives up the first reply owed.
    pub(crate) fn skip_first(&mut self, here: &mut Here, clients: &mut Clients) {
        let token = self.first;
        if token != NO_ENTRY {
            self.unlink_first(&clients.replies);
            clients.orphan(here, token, self.len());
        }
    }

    /// Gives back what is owed, which will not be given.
    pub(super) fn drop_all(&mut self, here: &mut Here, clients: &mut Clients) {
        while !self.is_empty() {
            self.skip_first(here, clients);
        }
    }

    /// Takes the first entry out of the list.
    fn unlink_first(&mut self, replies: &Replies) {
        self.first = replies.entry(self.first).next;
        if self.first == NO_ENTRY {
            self.last = NO_ENTRY;
        }
        self.len -= 1;
        self.sent = 0;
    }

    /// Gives back the first entry and what it holds.
    fn drop_first(&mut self, here: &mut Here, clients: &mut Clients) {
        let token = self.first;
        self.unlink_first(&clients.replies);
        let entry = clients.replies.entry_mut(token);
        let expected = entry.expected;
        match std::mem::replace(&mut entry.owed, Owed::Nothing) {
            Owed::Body { value: ValueAt::Held(hold), .. } => here.let_go(hold),
            Owed::Body { value: ValueAt::Landed(slot), .. } => clients.return_slot(self.conn, slot),
            Owed::Walk(walk) => clients.end_walk(&walk),
            _ => {}
        }
        // The entry may still expect answers that change nothing, such as the receipt of a piece of a bad data chunk.
        if expected > 0 {
            clients.orphan(here, token, self.len());
        } else {
            clients.replies.share.give_back(self.len());
            clients.replies.put_back(token);
        }
    }

    /// The watch that is owed is given no more: nobody is there to be told.
    pub(super) fn end_watch(&mut self, clients: &mut Clients) {
        if self.is_empty() {
            return;
        }
        let owed = &mut clients.replies.entry_mut(self.first).owed;
        if let Owed::Watch(watch) = std::mem::replace(owed, Owed::Nothing) {
            clients.end_watch(self.conn, watch.place);
        }
    }

    /// Whether nothing that it owes will be sent: at most it waits for commands that are not answered (`noreply`).
    pub(crate) fn owes_no_bytes(&self, clients: &Clients) -> bool {
        let is_unheard =
            || matches!(clients.replies.entry(self.first).owed, Owed::Nothing | Owed::Waiting(Waiting::Unheard));
        self.len == 0 || (self.len == 1 && is_unheard())
    }

    /// What is known of the first reply owed.
    pub(crate) fn first_reply(&self, here: &Here, clients: &Clients) -> FirstReply {
        if self.is_empty() {
            return FirstReply::Nothing;
        }
        match Made::of(here, clients, self.first) {
            Made::Nothing => FirstReply::Known(0),
            Made::Text(text) => FirstReply::Known(text.len()),
            Made::Said { form, said, .. } => FirstReply::Known(form.measure(&said)),
            Made::Walk => FirstReply::Told,
            // Where the bytes are gone, the next visit gives the request up.
            Made::Watch | Made::Waiting | Made::Lost => FirstReply::Unknown,
        }
    }

    /// Appends to `told` what comes next of the first reply owed, a list that is told part by part. When it is whole,
    /// the list is a text that is owed in its place, and `told` is empty.
    pub(crate) fn gather_first(&mut self, here: &mut Here, clients: &mut Clients, told: &mut Vec<u8>) -> Gathered {
        let len = told.len();
        told.resize(len + GATHERED_BYTES, 0);
        let rendered = render(here, clients, self.first, self.sent, &mut told[len..]);
        let (Rendered::Whole(bytes) | Rendered::Part(bytes) | Rendered::Starved(bytes)) = rendered else {
            return Gathered::NoneYet;
        };
        told.truncate(len + bytes);
        if !matches!(rendered, Rendered::Whole(_)) {
            return if bytes > 0 { Gathered::More } else { Gathered::NoneYet };
        }
        let text = Owed::Text(std::mem::take(told).into_boxed_slice());
        if let Owed::Walk(walk) = std::mem::replace(&mut clients.replies.entry_mut(self.first).owed, text) {
            clients.end_walk(&walk);
        }
        self.sent = 0;
        Gathered::All
    }

    /// Whether the first reply owed will never be whole: others needed the room of its rest.
    pub(crate) fn is_lost(&self, here: &Here, clients: &Clients) -> bool {
        !self.is_empty() && matches!(Made::of(here, clients, self.first), Made::Lost)
    }
}
