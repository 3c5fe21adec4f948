//! The replies that connections are owed, in one pool per core.
//!
//! An entry is taken when a command is executed or sent on, and given back when its last byte is in the transmit ring.
//! A session keeps its entries as a list, in the order of its commands; the answer of another core lands in the entry
//! by its index, which is the message's token. An entry whose connection died stays until the answers it expects have
//! come (an orphan), so a token never means two things.

use super::ConnId;
use super::share::Share;
use super::walk::Walk;
use super::watch::WatchText;
use crate::operation::Outcome;
use crate::proto::reply::Line;
use crate::route::message::Token;

/// The end of a list.
pub(crate) const NO_ENTRY: u32 = u32::MAX;

/// What a connection is owed.
#[derive(Debug)]
pub(crate) enum Owed {
    /// Nothing, but it keeps its place until its turn comes: a miss inside a multi-get, a quiet command.
    Nothing,
    /// A fixed line.
    Line(Line),
    /// A number and a line end.
    Number(u64),
    /// A text made for this connection: stats.
    Text(Box<[u8]>),
    /// An item of this core's shard, by the number under which it is held; `end`: followed by END.
    Value { hold: u32, cas: bool, end: bool },
    /// The answer to a command on another core; `quiet`: the client does not want to see it.
    Answer { quiet: bool },
    /// The answers of other cores to commands of which the client wants to see none (`noreply`). They keep their place so
    /// that whatever is answered after them tells that they are done; one entry is enough for all that follow each other.
    Unheard,
    /// A get on another core.
    Fetch { slot: u32, cas: bool, end: bool },
    /// An item of another core, as far as it has landed.
    Landed { slot: u32, cas: bool, end: bool },
    /// A framed reply that is ready; its bytes are in [`Frames`](super::frames::Frames).
    Framed,
    /// The same, followed by the value of an item of this core's shard.
    FramedValue { hold: u32 },
    /// A value on its way to another core.
    Upload(Upload),
    /// An order to all other cores; `line` is the answer unless one of them refuses.
    Barrier { line: Line, quiet: bool },
    /// A dump, or the list of connections, told part by part.
    Walk(Box<Walk>),
    /// What a watcher is told, without end.
    Watch(Box<WatchText>),
    /// The connection is gone. `slot`: a landing slot to be given back; `upload`: a reservation to be aborted as soon
    /// as its number is known.
    Orphan { slot: Option<u32>, upload: bool },
}

/// How far a value on its way to another core has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// Room has been asked for.
    Asked,
    /// There is room at this core under this number.
    Open { owner: u16, upload: u32 },
    /// There is no room; the value is swallowed, then this is the answer.
    Refused(Outcome),
}

/// One reply owed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) owed: Owed,
    /// The next entry of the same connection, or of the free list.
    pub(crate) next: u32,
    pub(crate) conn: ConnId,
    /// Answers from other cores that are still to come.
    pub(crate) expected: u16,
    /// The reply is framed: [`Frames`](super::frames::Frames) has what its request gave it.
    pub(crate) framed: bool,
}

/// The pool. Memory for those that all share is there from the start; that of the others, one for each connection, comes
/// when so many are taken at a time.
#[derive(Debug)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    capacity: usize,
    free: u32,
    in_use: usize,
    /// How the connections share them.
    pub(crate) share: Share,
}

impl Entries {
    /// One entry for each of `connections` connections, and `extra` that they share.
    pub(crate) fn new(connections: usize, extra: usize) -> Entries {
        let capacity = connections + extra;
        let mut entries = Vec::with_capacity(capacity);
        entries.extend((0..extra).map(|index| Entry {
            owed: Owed::Nothing,
            next: if index + 1 < extra { index as u32 + 1 } else { NO_ENTRY },
            conn: ConnId(0),
            expected: 0,
            framed: false,
        }));
        let free = if extra > 0 { 0 } else { NO_ENTRY };
        Entries { entries, capacity, free, in_use: 0, share: Share::new(extra) }
    }

    /// Entries to be had.
    pub(crate) fn available(&self) -> usize {
        self.capacity - self.in_use
    }

    /// Entries taken.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Takes an entry for `conn`, which has `held` of them.
    pub(crate) fn take(&mut self, conn: ConnId, held: usize, owed: Owed) -> Option<Token> {
        let taken = Entry { owed, next: NO_ENTRY, conn, expected: 0, framed: false };
        let index = self.free;
        let touched = self.entries.len();
        let index = match self.entries.get_mut(index as usize) {
            Some(entry) => {
                self.free = entry.next;
                *entry = taken;
                index
            }
            None if touched < self.capacity => {
                self.entries.push(taken);
                touched as u32
            }
            None => return None,
        };
        self.in_use += 1;
        self.share.take(held);
        Some(index)
    }

    /// Gives an entry back. What it held must have been given back before.
    pub(crate) fn put_back(&mut self, index: Token) {
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.expected == 0, "an entry is given back too early");
        entry.owed = Owed::Nothing;
        entry.next = self.free;
        self.free = index;
        self.in_use -= 1;
    }

    /// Entry `index`, if there is one.
    pub(crate) fn get(&self, index: Token) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    /// An entry that is taken.
    pub(crate) fn entry(&self, index: Token) -> &Entry {
        &self.entries[index as usize]
    }

    /// An entry that is taken.
    pub(crate) fn entry_mut(&mut self, index: Token) -> &mut Entry {
        &mut self.entries[index as usize]
    }
}
