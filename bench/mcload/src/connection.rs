//! One connection: what to send next, and whether what arrives is what must arrive. No I/O, no clock.
//!
//! The whole of a right reply is known when the request is made: a get has two (the key's value, or `END`), which
//! differ in their first byte, a set has one. So a reply is never parsed: it is rendered once its first byte is there
//! and compared as bytes come in, in any split, without being collected.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::time::Duration;

use crate::keyspace::Keyspace;
use crate::tally::Tally;
use crate::workload::{Operation, Request, Workload};

/// How much of a wrong reply is kept to be shown, in bytes.
const SHOWN_BYTES: usize = 120;

/// A reply that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The request, or `None` when a reply came that nobody asked for.
    pub request: Option<Request>,
    /// Position of the first wrong byte in the reply.
    pub offset: usize,
    /// What had to come from there on (the first bytes of it).
    pub expected: Vec<u8>,
    /// What came from there on (the first bytes of it).
    pub found: Vec<u8>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.request {
            None => write!(f, "a reply nobody asked for: \"{}\"", self.found.escape_ascii()),
            Some(Request { operation, key }) => write!(
                f,
                "{} of key {key}: from byte {} of the reply expected \"{}\", found \"{}\"",
                match operation {
                    Operation::Get => "get",
                    Operation::Set => "set",
                },
                self.offset,
                self.expected.escape_ascii(),
                self.found.escape_ascii()
            ),
        }
    }
}

#[derive(Debug)]
struct Pending {
    request: Request,
    since: Duration,
}

/// One connection's requests and replies.
///
/// The caller moves bytes: [`unsent`](Self::unsent) towards the server, [`receive`](Self::receive) from it. Times are
/// durations since any fixed moment of the caller's.
#[derive(Debug)]
pub struct Connection {
    keyspace: Keyspace,
    workload: Workload,
    depth: usize,
    in_flight: VecDeque<Pending>,
    outgoing: Vec<u8>,
    sent: usize,
    /// The reply being received, rendered, and how many of its bytes have come.
    expected: Vec<u8>,
    matched: usize,
    hit: bool,
}

impl Connection {
    /// A connection that keeps `depth` requests of `workload` in flight.
    pub fn new(keyspace: Keyspace, workload: Workload, depth: u32) -> Self {
        let depth = depth as usize;
        Self {
            keyspace,
            workload,
            depth,
            in_flight: VecDeque::with_capacity(depth),
            outgoing: Vec::new(),
            sent: 0,
            expected: Vec::new(),
            matched: 0,
            hit: false,
        }
    }

    /// Makes requests until `depth` are in flight or the workload ends; call after start and after each receive.
    pub fn fill(&mut self, now: Duration) {
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        }
        while self.in_flight.len() < self.depth {
            let Some(request) = self.workload.next() else { return };
            self.render_request(request);
            self.in_flight.push_back(Pending { request, since: now });
        }
    }

    /// Bytes to send now; tell [`advance`](Self::advance) how many went.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// `bytes` more bytes of [`unsent`](Self::unsent) have been sent.
    pub fn advance(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.outgoing.len());
    }

    /// Makes no further request; those in flight are still waited for.
    pub fn stop(&mut self) {
        self.workload.stop();
    }

    /// Requests sent or about to be sent whose reply is not whole.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Checks bytes that arrived against the replies that must come, and counts those that are whole.
    ///
    /// # Errors
    /// The first byte that is not the right one. The connection is out of step after that and must be closed.
    pub fn receive(&mut self, mut bytes: &[u8], now: Duration, tally: &mut Tally) -> Result<(), Mismatch> {
        while let Some(&first) = bytes.first() {
            let Some(request) = self.in_flight.front().map(|pending| pending.request) else {
                return Err(Mismatch { request: None, offset: 0, expected: Vec::new(), found: shown(bytes) });
            };
            if self.matched == 0 {
                self.render_reply(request, first);
            }
            let wanted = &self.expected[self.matched..];
            let length = wanted.len().min(bytes.len());
            if wanted[..length] != bytes[..length] {
                let wrong = (0..length).find(|&at| wanted[at] != bytes[at]).unwrap_or(0);
                return Err(Mismatch {
                    request: Some(request),
                    offset: self.matched + wrong,
                    expected: shown(&wanted[wrong..]),
                    found: shown(&bytes[wrong..]),
                });
            }
            self.matched += length;
            bytes = &bytes[length..];
            if self.matched == self.expected.len() {
                self.finish(request, now, tally);
            }
        }
        Ok(())
    }

    fn finish(&mut self, request: Request, now: Duration, tally: &mut Tally) {
        self.matched = 0;
        match (request.operation, self.hit) {
            (Operation::Set, _) => tally.sets += 1,
            (Operation::Get, true) => tally.hits += 1,
            (Operation::Get, false) => tally.misses += 1,
        }
        if let Some(pending) = self.in_flight.pop_front() {
            tally.record(now.saturating_sub(pending.since));
        }
    }

    fn render_request(&mut self, Request { operation, key }: Request) {
        let out = &mut self.outgoing;
        match operation {
            Operation::Get => {
                out.extend_from_slice(b"get ");
                self.keyspace.write_key(key, out);
            }
            Operation::Set => {
                out.extend_from_slice(b"set ");
                self.keyspace.write_key(key, out);
                // Writing to a vector cannot fail.
                let _ = write!(out, " {} 0 {}\r\n", self.keyspace.flags(key), self.keyspace.value_bytes());
                self.keyspace.write_value(key, out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Renders the one right reply that starts with `first`, or, if none does, the likelier one to show the mismatch.
    fn render_reply(&mut self, Request { operation, key }: Request, first: u8) {
        let out = &mut self.expected;
        out.clear();
        self.hit = false;
        match operation {
            Operation::Set => out.extend_from_slice(b"STORED\r\n"),
            Operation::Get if first == b'E' => out.extend_from_slice(b"END\r\n"),
            Operation::Get => {
                self.hit = true;
                out.extend_from_slice(b"VALUE ");
                self.keyspace.write_key(key, out);
                let _ = write!(out, " {} {}\r\n", self.keyspace.flags(key), self.keyspace.value_bytes());
                self.keyspace.write_value(key, out);
                out.extend_from_slice(b"\r\nEND\r\n");
            }
        }
    }
}

fn shown(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(SHOWN_BYTES)].to_vec()
}

#[cfg(test)]
mod tests;
