//! The replies that connections are owed, in one pool per core.
//!
//! An entry is taken when a command is executed or sent on, and given back when its last byte is in the transmit ring.
//! A session keeps its entries as a list, in the order of its commands; the answer of another core lands in the entry
//! by its index, which is the message's token. An entry whose connection died stays until the answers it expects have
//! come (an orphan), so a token never means two things.
//!
//! Most replies of most connections need no entry: what is known as soon as its command is executed, while nothing is
//! owed before it, is written straight to the caller's output (`session/perform.rs`, `say`).

use crate::core::conns::ConnId;
use crate::core::share::Share;
use crate::core::walk::Walk;
use crate::core::watching::WatchText;
use crate::mesh::message::Token;
use crate::operation::View;
use crate::pool::Pool;
use crate::proto::form::{Form, FormHead, Said};

/// The end of a list.
pub(crate) const NO_ENTRY: u32 = u32::MAX;

/// What a connection is owed.
#[derive(Debug)]
pub(crate) enum Owed {
    /// Nothing, but it keeps its place until its turn comes: a miss inside a multi-get, a quiet command.
    Nothing,
    /// A reply that is known and has no value, or an empty one.
    Ready(Said),
    /// A reply with a value that lies elsewhere.
    Body { view: View, value: ValueAt },
    /// A text made for this connection: stats.
    Text(Box<[u8]>),
    /// Answers of other cores come first.
    Waiting(Waiting),
    /// A dump, or the list of connections, told part by part.
    Walk(Box<Walk>),
    /// What a watcher is told, without end.
    Watch(Box<WatchText>),
    /// The connection is gone. `slot`: a landing slot to be given back; `upload`: a reservation to be aborted as soon
    /// as its number is known.
    Orphan { slot: Option<u32>, upload: bool },
}

/// Where the value of a reply lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueAt {
    /// An item of this core's shard, by the number under which it is held.
    Held(u32),
    /// A landing slot, where an item of another core has begun to land.
    Landed(u32),
}

/// How far a reply has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rendered {
    /// To its end, with so many bytes.
    Whole(usize),
    /// As far as the room goes.
    Part(usize),
    /// As far as it is known; the rest comes from another core, or in another turn.
    Starved(usize),
    /// The rest will never come: others needed its room.
    Lost,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// How an operation ended.
    Outcome,
    /// How operations ended that are not answered (`noreply`). They keep their place so that whatever is answered after
    /// them tells that they are done; one entry is enough for all that follow each other.
    Unheard,
    /// An item, whose value will land in this slot.
    Value { slot: u32 },
    /// Room for a value that is sent piece by piece, or the rest of it.
    Upload(Upload),
    /// A value that is not wanted is passed over first; then `said` is the answer.
    Refused { said: Said },
    /// All other cores obey an order; then `said` is the answer.
    Order { said: Said },
}

/// How far a value that is sent piece by piece has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// Room has been asked for.
    Asked,
    /// There is room on this core, which may be the connection's own, under this number.
    Open { owner: u16, upload: u32 },
}

/// One reply owed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) owed: Owed,
    /// How it is to look; its bytes are beside the pool.
    form: FormHead,
    /// The next entry of the same connection.
    pub(crate) next: u32,
    pub(crate) conn: ConnId,
    /// Answers from other cores that are still to come.
    pub(crate) expected: u16,
}

/// The pool. Memory for those that all share is there from the start; that of the others, one for each connection,
/// comes when so many are taken at a time.
#[derive(Debug)]
pub(crate) struct Replies {
    entries: Pool<Entry>,
    /// The bytes of forms: part i belongs to entry i. Their memory is touched when an entry is first used for a reply
    /// that has some, so that a server of classic clients alone never makes it resident.
    forms: Vec<u8>,
    /// How the connections share them.
    pub(crate) share: Share,
}

impl Replies {
    /// One entry for each of `connections` connections, and `extra` that they share.
    pub(crate) fn new(connections: usize, extra: usize) -> Replies {
        let capacity = connections + extra;
        let forms = vec![0; capacity * FormHead::BYTES_MAX];
        Replies { entries: Pool::new(capacity, extra), forms, share: Share::new(extra) }
    }

    /// Entries to be had.
    pub(crate) fn available(&self) -> usize {
        self.entries.available()
    }

    /// Entries taken.
    pub(crate) fn in_use(&self) -> usize {
        self.entries.in_use()
    }

    /// Takes an entry for `conn`, which has `held` of them.
    pub(crate) fn take(&mut self, conn: ConnId, held: usize, form: &Form<'_>, owed: Owed) -> Option<Token> {
        let entry = Entry { owed, form: FormHead::SILENT, next: NO_ENTRY, conn, expected: 0 };
        let index = self.entries.take(entry).ok()?;
        let start = index as usize * FormHead::BYTES_MAX;
        self.entries[index].form = FormHead::of(form, &mut self.forms[start..start + FormHead::BYTES_MAX]);
        self.share.take(held);
        Some(index)
    }

    /// Gives an entry back. What it held must have been given back before.
    pub(crate) fn put_back(&mut self, index: Token) {
        let entry = self.entries.give_back(index);
        debug_assert!(entry.is_none_or(|entry| entry.expected == 0), "an entry is given back too early");
    }

    /// Entry `index`, if there is one.
    pub(crate) fn get(&self, index: Token) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// An entry that is taken.
    pub(crate) fn entry(&self, index: Token) -> &Entry {
        &self.entries[index]
    }

    /// An entry that is taken.
    pub(crate) fn entry_mut(&mut self, index: Token) -> &mut Entry {
        &mut self.entries[index]
    }

    /// How the reply of an entry is to look.
    pub(crate) fn form(&self, index: Token) -> Form<'_> {
        let start = index as usize * FormHead::BYTES_MAX;
        self.entries[index].form.with(&self.forms[start..start + FormHead::BYTES_MAX])
    }

    /// An entry that was taken is answered so, or with nothing where its form hides that. Nothing happens where there
    /// is no such entry.
    pub(crate) fn settle(&mut self, index: Token, said: impl Into<Said>) {
        if self.entries.get(index).is_some() {
            let said = said.into();
            let hidden = self.form(index).hides(&said);
            self.entries[index].owed = if hidden { Owed::Nothing } else { Owed::Ready(said) };
        }
    }
}
