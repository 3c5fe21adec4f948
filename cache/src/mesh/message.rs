//! What one core asks of another, and what it answers.
//!
//! Keys and values lie in the batch's bytes; a message names them by [`Span`]. Every request has exactly one answer.

use crate::core::walk::{Over, Reached};
use crate::key::KeyHash;
use crate::operation::{Operation, Outcome, Store, View};

/// Which of the requester's entries an answer is for.
pub(crate) type Token = u32;

/// In place of an entry's number: there is none.
pub(crate) const NOBODY: Token = u32::MAX;

/// In place of an owner's stream number: all bytes came with the answer.
pub(crate) const NO_STREAM: u32 = u32::MAX;

/// A part of a batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) len: u16,
}

impl Span {
    /// No bytes.
    pub(crate) const EMPTY: Span = Span { start: 0, len: 0 };
}

/// What is asked of another core.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    /// An operation on the item of a key. Where `room` is given, that much of the value of a hit comes with the answer.
    Operate { key: Span, hash: KeyHash, operation: Operation, value: Span, room: Option<u16> },
    /// The next step of a value that is sent piece by piece, and the bytes that go with it.
    Upload { step: UploadStep, bytes: Span },
    /// More bytes of a value that did not fit its landing slot.
    Pull { stream: u32, offset: u32, room: u16 },
    /// Nobody wants the rest of the value.
    Cancel { stream: u32 },
    /// What every core is to do.
    Order(OrderToAll),
    /// The next part of a dump, or of the list of connections.
    Walk { over: Over, place: Reached },
}

/// What an administrator orders every core to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OrderToAll {
    /// flush_all.
    Flush { exptime: i64 },
    /// cache_memlimit: each shard's part.
    MemoryLimit { bytes: u64 },
}

/// One step of a value that is sent piece by piece into the shard that owns its key, on this core or another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UploadStep {
    /// A store whose value follows; its key goes with this.
    Begin { hash: KeyHash, store: Store, value_len: u32 },
    /// The next bytes of the value go with this.
    Data { upload: u32 },
    /// The value is whole: store it.
    Commit { upload: u32 },
    /// Forget the value.
    Abort { upload: u32 },
}

/// What the owner answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// How an operation ended, when no value goes with that.
    Outcome(Outcome),
    /// An item and its value: the first bytes, and the stream that holds the rest, if any.
    Hit { view: View, bytes: Span, stream: u32 },
    /// More bytes of a stream. With the last of them the stream is gone.
    Bytes { bytes: Span },
    /// There are no more bytes: the room of the rest was needed. The stream is gone.
    Gone,
    /// Room is reserved.
    Begun { upload: u32 },
    /// No room, or no more: the value is to be swallowed, then this answered.
    Refused(Outcome),
    /// The order cannot be obeyed.
    Unable,
    /// A part of a dump, and where it goes on.
    Walked { text: Span, place: Reached },
    /// Done; nothing to say.
    Done,
}

/// A request and who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) token: Token,
    /// The number of the connection that asks, for watchers.
    pub(crate) speaker: u32,
    pub(crate) request: Request,
}

/// An answer and whom it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerFor {
    pub(crate) token: Token,
    pub(crate) answer: Answer,
}
