//! The block in which up to 32 requests go to another core and their answers come back.
//!
//! Built once, then only moved: neither filling nor answering allocates. Requests and answers have bytes of their own,
//! so that answering never overwrites a key that is still to be read.

use arrayvec::ArrayVec;

use super::message::{AnswerFor, Envelope, Span};

/// Messages a batch carries (contracts: one push per pair and turn, up to 32 messages).
pub(crate) const MESSAGES_MAX: usize = 32;

/// Bytes of keys and values that requests of one batch carry together.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Bytes of values that answers of one batch carry together.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 << 10;

/// One direction's messages and the bytes they name. Never longer than its capacity, so it never allocates.
#[derive(Debug)]
pub(crate) struct Half<T> {
    messages: ArrayVec<T, MESSAGES_MAX>,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl<T: Copy> Half<T> {
    fn new(bytes_max: usize) -> Half<T> {
        Half { messages: ArrayVec::new(), bytes: Vec::with_capacity(bytes_max), bytes_max }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.bytes.clear();
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages added.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Message `index`.
    pub(crate) fn message(&self, index: usize) -> Option<&T> {
        self.messages.get(index)
    }

    /// Whether a message with `bytes` more bytes fits.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        !self.messages.is_full() && self.bytes.len() + bytes <= self.bytes_max
    }

    /// Bytes that can still be added.
    pub(crate) fn room(&self) -> usize {
        self.bytes_max - self.bytes.len()
    }

    /// Adds as many of `bytes` as fit.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        let len = bytes.len().min(self.bytes_max - start);
        self.bytes.extend_from_slice(&bytes[..len]);
        Span { start: start as u16, len: len as u16 }
    }

    /// Adds a message; the caller knows that there is room.
    pub(crate) fn push(&mut self, message: T) {
        let added = self.messages.try_push(message);
        debug_assert!(added.is_ok(), "more than {MESSAGES_MAX} messages in a batch");
    }

    /// The bytes that `span` names.
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let start = usize::from(span.start);
        self.bytes.get(start..start + usize::from(span.len)).unwrap_or_default()
    }
}

/// Requests on the way out, answers on the way back.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) requests: Half<Envelope>,
    pub(crate) answers: Half<AnswerFor>,
}

impl Batch {
    /// An empty block. Allocates; at start only.
    pub(crate) fn new() -> Box<Batch> {
        Box::new(Batch { requests: Half::new(REQUEST_BYTES_MAX), answers: Half::new(ANSWER_BYTES_MAX) })
    }

    /// Forgets what it carried.
    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.answers.clear();
    }
}
