//! One core's ends of the queues to and from another core.
//!
//! Of a pair (A, B) there are two loops of blocks: one carries A's requests to B and B's answers back, the other the
//! reverse. See invariant R1 in [`crate::mesh`].

use std::sync::Arc;

use super::batch::{Batch, Half, MESSAGES_MAX};
use super::message::Envelope;
use crate::sync::ArrayQueue;

type Blocks = Arc<ArrayQueue<Box<Batch>>>;

/// What one core holds of both loops with one peer.
#[derive(Debug)]
pub(crate) struct Loops {
    /// Blocks to fill.
    free: Vec<Box<Batch>>,
    /// The block of this turn.
    filling: Option<Box<Batch>>,
    requests_out: Blocks,
    answers_in: Blocks,
    requests_in: Blocks,
    answers_out: Blocks,
    blocks: usize,
    /// Something was pushed since the last [`Loops::post`].
    pushed: bool,
}

impl Loops {
    /// Both ends of both loops between two cores, with `blocks` blocks a loop.
    pub(crate) fn pair(blocks: usize) -> (Loops, Loops) {
        let queue = || Arc::new(ArrayQueue::new(blocks));
        let (a_requests, a_answers, b_requests, b_answers): (Blocks, Blocks, Blocks, Blocks) =
            (queue(), queue(), queue(), queue());
        let end = |requests_out: &Blocks, answers_in: &Blocks, requests_in: &Blocks, answers_out: &Blocks| Loops {
            free: (0..blocks).map(|_| Batch::new()).collect(),
            filling: None,
            requests_out: requests_out.clone(),
            answers_in: answers_in.clone(),
            requests_in: requests_in.clone(),
            answers_out: answers_out.clone(),
            blocks,
            pushed: false,
        };
        (end(&a_requests, &a_answers, &b_requests, &b_answers), end(&b_requests, &b_answers, &a_requests, &a_answers))
    }

    /// Makes room for a request with `bytes` bytes of key and value; `false` when every block is on its way. A block
    /// that is too full for it leaves at once.
    pub(crate) fn make_room(&mut self, bytes: usize) -> bool {
        if let Some(batch) = &self.filling {
            if batch.requests.has_room(bytes) {
                return true;
            }
            self.push_requests();
        }
        self.filling = self.free.pop();
        self.filling.is_some()
    }

    /// The requests of this turn's block, after [`Loops::make_room`] said that there is room.
    pub(crate) fn requests(&mut self) -> Option<&mut Half<Envelope>> {
        self.filling.as_mut().map(|batch| &mut batch.requests)
    }

    /// Messages that can be added, as far as their number goes.
    pub(crate) fn places_free(&self) -> usize {
        self.free.len() * MESSAGES_MAX + self.filling.as_ref().map_or(0, |batch| MESSAGES_MAX - batch.requests.len())
    }

    /// The next batch of answers to this core's requests.
    pub(crate) fn next_answers(&mut self) -> Option<Box<Batch>> {
        self.answers_in.pop()
    }

    /// Takes a landed block back.
    pub(crate) fn recycle(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.free.push(batch);
    }

    /// The next batch of the peer's requests.
    pub(crate) fn next_requests(&mut self) -> Option<Box<Batch>> {
        self.requests_in.pop()
    }

    /// Sends the answers to a batch of the peer's requests.
    pub(crate) fn push_answers(&mut self, batch: Box<Batch>) {
        let pushed = self.answers_out.push(batch);
        debug_assert!(pushed.is_ok(), "R1: the answer queue has room for every block");
        self.pushed = true;
    }

    /// Sends the block of this turn, if it carries something. Returns whether the peer has been given anything since
    /// the last call.
    pub(crate) fn post(&mut self) -> bool {
        if self.filling.as_ref().is_some_and(|batch| !batch.requests.is_empty()) {
            self.push_requests();
        }
        std::mem::take(&mut self.pushed)
    }

    /// Whether something has come that [`crate::Core::collect`] would take.
    pub(crate) fn has_mail(&self) -> bool {
        !self.requests_in.is_empty() || !self.answers_in.is_empty()
    }

    /// Blocks of this core's loop that are not with it: in a queue or with the peer.
    pub(crate) fn blocks_out(&self) -> usize {
        self.blocks - self.free.len() - usize::from(self.filling.is_some())
    }

    fn push_requests(&mut self) {
        if let Some(batch) = self.filling.take() {
            let pushed = self.requests_out.push(batch);
            debug_assert!(pushed.is_ok(), "R1: the request queue has room for every block");
            self.pushed = true;
        }
    }
}
