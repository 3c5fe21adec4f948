//! `Mesh`: what a core sends to the others and gets from them.

use std::collections::VecDeque;

use super::batch::Batch;
use super::link::Link;
use super::message::{Envelope, Span};
use crate::counters::CoreCounters;
use crate::peers::PeerSet;

/// One core's ends of the queues to and from all others, and the messages that found no block yet.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// By core; `None` is this one.
    links: Box<[Option<Link>]>,
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
        let mut links: Vec<Vec<Option<Link>>> = (0..cores).map(|_| (0..cores).map(|_| None).collect()).collect();
        let mut rows = &mut links[..];
        let mut a = 0;
        while let Some((row, others)) = rows.split_first_mut() {
            for (offset, other) in others.iter_mut().enumerate() {
                let (of_a, of_b) = Link::pair(blocks);
                row[a + 1 + offset] = Some(of_a);
                other[a] = Some(of_b);
            }
            rows = others;
            a += 1;
        }
        let mesh = |links: Vec<_>| Mesh { links: links.into(), debts: VecDeque::with_capacity(debts) };
        links.into_iter().map(mesh).collect()
    }

    /// Cores, this one included.
    #[inline]
    pub(crate) fn cores(&self) -> usize {
        self.links.len()
    }

    /// Messages to `peer` that can be added, as far as their number goes.
    pub(crate) fn places_free(&self, peer: usize) -> usize {
        self.links[peer].as_ref().map_or(0, Link::places_free)
    }

    /// Makes room for a message to `peer` with `bytes` bytes of key and value; `false` when every block is on its way.
    pub(crate) fn make_room(&mut self, peer: usize, bytes: usize) -> bool {
        self.links[peer].as_mut().is_some_and(|link| link.make_room(bytes))
    }

    /// Adds a message for `peer` after [`make_room`](Self::make_room). `parts` are the key and the value it names. `false`
    /// when there is no such core.
    pub(crate) fn send(
        &mut self,
        peer: usize,
        parts: [&[u8]; 2],
        build: impl FnOnce([Span; 2]) -> Envelope,
        counters: &CoreCounters,
    ) -> bool {
        let Some(requests) = self.links[peer].as_mut().and_then(Link::requests) else { return false };
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
            if !sent && self.links[debt.peer].is_some() {
                self.debts.push_back(debt);
            }
        }
    }

    /// The next block of answers that `peer` has sent back.
    pub(crate) fn next_replies(&mut self, peer: usize) -> Option<Box<Batch>> {
        self.links[peer].as_mut().and_then(Link::next_replies)
    }

    /// Takes a landed block back.
    pub(crate) fn recycle(&mut self, peer: usize, batch: Box<Batch>) {
        if let Some(link) = &mut self.links[peer] {
            link.recycle(batch);
        }
    }

    /// The next block of requests that `peer` has sent.
    pub(crate) fn next_requests(&mut self, peer: usize) -> Option<Box<Batch>> {
        self.links[peer].as_mut().and_then(Link::next_requests)
    }

    /// Sends the answers to a block of requests of `peer`.
    pub(crate) fn push_replies(&mut self, peer: usize, batch: Box<Batch>) {
        if let Some(link) = &mut self.links[peer] {
            link.push_replies(batch);
        }
    }

    /// Ends a turn: sends what was collected for other cores. Adds the cores that have been given something to `posted`.
    pub(crate) fn post(&mut self, counters: &CoreCounters, posted: &mut PeerSet) {
        self.pay_debts(counters);
        for (peer, link) in self.links.iter_mut().enumerate() {
            if link.as_mut().is_some_and(Link::post) {
                posted.insert(peer);
            }
        }
    }

    /// Whether another core has sent something.
    pub(crate) fn has_mail(&self) -> bool {
        self.links.iter().flatten().any(Link::has_mail)
    }

    /// Blocks of this core's loops that are not with it, and messages that found no block.
    pub(crate) fn out(&self) -> (usize, usize) {
        (self.links.iter().flatten().map(Link::blocks_out).sum(), self.debts.len())
    }
}
