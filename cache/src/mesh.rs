//! `Mesh`: the bounded queues between cores, which carry requests to the core that owns a key, and answers back.
//!
//! A request for another core's key travels in a [`batch::Batch`], a fixed block that goes round:
//!
//! ```text
//!  requester: free ──fill──► request queue ──► owner: execute, answer in the same block
//!      ▲                                                         │
//!      └──────────── land the answers ◄── answer queue ◄─────────┘
//! ```
//!
//! Invariant R1: each of a pair's blocks is in exactly one of these places, and both queues have room for all of them.
//! So a push never fails, an answer never waits, and two cores that wait for each other cannot lock up: landing an
//! answer needs nothing that somebody else must give, since the request took its place (entry, landing slot) before
//! it was sent. A requester without a free block stops reading from the flow; the block is the credit.
//! Nothing is allocated after start. Read first: [`loops`].

use std::collections::VecDeque;

use crate::counters::CoreCounters;
use crate::peers::PeerSet;

/// The block in which requests go out and answers come back.
pub(crate) mod batch;
/// Where values of other cores' items wait until their flow has room.
pub(crate) mod landing;
/// One core's ends of the queues to and from another.
pub(crate) mod loops;
/// What one core asks of another, and what it answers.
pub(crate) mod message;

use batch::Batch;
use loops::Loops;
use message::{Envelope, Span};

/// One core's ends of the queues to and from all others, and the messages that found no block yet.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// By core; `None` is this one.
    ends: Box<[Option<Loops>]>,
    debts: VecDeque<Debt>,
}

/// A message that is owed to another core and found no block yet.
#[derive(Debug, Clone, Copy)]
struct Debt {
    peer: usize,
    envelope: Envelope,
}

impl Mesh {
    /// The meshes of `cores` cores, with `blocks` blocks a loop; each may owe `debts` messages.
    pub(crate) fn all(cores: usize, blocks: usize, debts: usize) -> Vec<Mesh> {
        let mut ends: Vec<Vec<Option<Loops>>> = (0..cores).map(|_| (0..cores).map(|_| None).collect()).collect();
        let mut rows = &mut ends[..];
        let mut a = 0;
        while let Some((row, others)) = rows.split_first_mut() {
            for (offset, other) in others.iter_mut().enumerate() {
                let (of_a, of_b) = Loops::pair(blocks);
                row[a + 1 + offset] = Some(of_a);
                other[a] = Some(of_b);
            }
            rows = others;
            a += 1;
        }
        let mesh = |ends: Vec<_>| Mesh { ends: ends.into(), debts: VecDeque::with_capacity(debts) };
        ends.into_iter().map(mesh).collect()
    }

    /// Messages to `peer` that can be added, as far as their number goes.
    pub(crate) fn places_free(&self, peer: usize) -> usize {
        self.ends[peer].as_ref().map_or(0, Loops::places_free)
    }

    /// Makes room for a message to `peer` with `bytes` bytes of key and value; `false` when every block is on its way.
    pub(crate) fn make_room(&mut self, peer: usize, bytes: usize) -> bool {
        self.ends[peer].as_mut().is_some_and(|ends| ends.make_room(bytes))
    }

    /// Adds a message for `peer` after [`make_room`](Self::make_room). `parts` are the key and the value it names.
    /// `false` when there is no such core.
    pub(crate) fn send(
        &mut self,
        peer: usize,
        parts: [&[u8]; 2],
        build: impl FnOnce([Span; 2]) -> Envelope,
        counters: &CoreCounters,
    ) -> bool {
        let Some(requests) = self.ends[peer].as_mut().and_then(Loops::requests) else { return false };
        let spans = parts.map(|part| requests.put(part));
        requests.push(build(spans));
        counters.messages_sent.add(1);
        true
    }

    /// Sends a message without key or value, now or as soon as there is a block.
    pub(crate) fn owe(&mut self, peer: usize, envelope: Envelope, counters: &CoreCounters) {
        let first = self.debts.is_empty();
        self.debts.push_back(Debt { peer, envelope });
        if first {
            self.pay_debts(counters);
        }
    }

    /// Sends what is owed to other cores, as far as there are blocks. What is owed goes before new requests.
    pub(crate) fn pay_debts(&mut self, counters: &CoreCounters) {
        for _ in 0..self.debts.len() {
            let Some(debt) = self.debts.pop_front() else { break };
            let sent = self.make_room(debt.peer, 0) && self.send(debt.peer, [&[]; 2], |_| debt.envelope, counters);
            if !sent && self.ends[debt.peer].is_some() {
                self.debts.push_back(debt);
            }
        }
    }

    /// The next block of answers that `peer` has sent back.
    pub(crate) fn next_answers(&mut self, peer: usize) -> Option<Box<Batch>> {
        self.ends[peer].as_mut().and_then(Loops::next_answers)
    }

    /// Takes a landed block back.
    pub(crate) fn recycle(&mut self, peer: usize, batch: Box<Batch>) {
        if let Some(ends) = &mut self.ends[peer] {
            ends.recycle(batch);
        }
    }

    /// The next block of requests that `peer` has sent.
    pub(crate) fn next_requests(&mut self, peer: usize) -> Option<Box<Batch>> {
        self.ends[peer].as_mut().and_then(Loops::next_requests)
    }

    /// Sends the answers to a block of requests of `peer`.
    pub(crate) fn push_answers(&mut self, peer: usize, batch: Box<Batch>) {
        if let Some(ends) = &mut self.ends[peer] {
            ends.push_answers(batch);
        }
    }

    /// Ends a turn: sends what was collected for other cores. Adds the cores that have been given something to
    /// `posted`.
    pub(crate) fn post(&mut self, counters: &CoreCounters, posted: &mut PeerSet) {
        self.pay_debts(counters);
        for (peer, ends) in self.ends.iter_mut().enumerate() {
            if ends.as_mut().is_some_and(Loops::post) {
                posted.insert(peer);
            }
        }
    }

    /// Whether another core has sent something.
    pub(crate) fn has_mail(&self) -> bool {
        self.ends.iter().flatten().any(Loops::has_mail)
    }

    /// Blocks of this core's loops that are not with it, and messages that found no block.
    pub(crate) fn out(&self) -> (usize, usize) {
        (self.ends.iter().flatten().map(Loops::blocks_out).sum(), self.debts.len())
    }
}
