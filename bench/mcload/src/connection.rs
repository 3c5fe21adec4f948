//! One connection: requests on their way out, and whether what arrives is what must arrive. No I/O, no clock.

use std::collections::VecDeque;

use crate::codec::{Codec, LongValue};
use crate::keyspace::MARK_BYTES;
use crate::mismatch::Mismatch;
use crate::reply::{Desk, Reply, Wrong};
use crate::tally::record;
use crate::transport::Nanos;
use crate::workload::Request;

#[derive(Debug, Clone, Copy)]
struct Pending {
    request: Request,
    since: Nanos,
}

/// The end of a long value that has not been sent, and the line end behind it.
#[derive(Debug, Clone, Copy)]
struct Tail {
    value: LongValue,
    sent: usize,
}

/// One connection's requests and replies.
///
/// Of requests that were [`push`](Self::push)ed everything leaves in order: first what
/// [`send`](Self::send) could not get rid of, then the tail of a long value, and only then the next request.
#[derive(Debug)]
pub struct Connection {
    in_flight: VecDeque<Pending>,
    /// Bytes that had no room, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    tail: Option<Tail>,
    reply: Reply,
}

impl Connection {
    /// A connection with nothing in flight. Allocates nothing: what it needs comes with its first requests.
    pub const fn new() -> Self {
        Self { in_flight: VecDeque::new(), unsent: Vec::new(), sent: 0, tail: None, reply: Reply::new() }
    }

    /// Forgets everything but its memory, as for a new connection in the same slot. Returns how many requests were in
    /// flight.
    pub fn reset(&mut self) -> usize {
        let lost = self.in_flight.len();
        self.in_flight.clear();
        self.unsent.clear();
        self.sent = 0;
        self.tail = None;
        self.reply = Reply::new();
        lost
    }

    /// Requests sent or about to be sent whose reply is not whole.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// When the oldest request in flight began.
    pub fn oldest(&self) -> Option<Nanos> {
        self.in_flight.front().map(|pending| pending.since)
    }

    /// Whether everything pushed so far has left, so that the next request may be pushed.
    #[inline]
    pub fn is_flushed(&self) -> bool {
        self.sent == self.unsent.len() && self.tail.is_none()
    }

    /// Takes `request`, which began at `since`, and appends its bytes to `out`. True when the rest of a long value is
    /// to follow, so that nothing may be pushed until [`is_flushed`](Self::is_flushed), which must be so now.
    #[inline]
    pub fn push(&mut self, request: Request, since: Nanos, codec: &Codec, out: &mut Vec<u8>) -> bool {
        self.in_flight.push_back(Pending { request, since });
        self.tail = codec.put_request(request, out).map(|value| Tail { value, sent: 0 });
        self.tail.is_some()
    }

    /// Sends the bytes `out` of requests pushed since the last call, and what was left then, as far as `send` takes
    /// them; the rest is kept. `send` returns how many of the bytes it was given have gone.
    #[inline]
    pub fn send(&mut self, out: &[u8], codec: &Codec, mut send: impl FnMut(&[u8]) -> usize) {
        if self.sent < self.unsent.len() {
            self.sent += send(&self.unsent[self.sent..]);
            if self.sent < self.unsent.len() {
                self.unsent.extend_from_slice(out);
                return;
            }
        }
        self.unsent.clear();
        self.sent = 0;
        if !out.is_empty() {
            let sent = send(out);
            if sent < out.len() {
                self.unsent.extend_from_slice(&out[sent..]);
                return;
            }
        }
        if let Some(mut tail) = self.tail {
            let value = codec.keyspace().value(tail.value.key);
            let rest = value.len() - MARK_BYTES;
            while tail.sent < rest + 2 {
                let piece = if tail.sent < rest { &value.rest()[tail.sent..] } else { &b"\r\n"[tail.sent - rest..] };
                let sent = send(piece);
                tail.sent += sent;
                if sent < piece.len() {
                    self.tail = Some(tail);
                    return;
                }
            }
            self.tail = None;
        }
    }

    /// Checks bytes that arrived at `now` against the replies that must come, and counts those that are whole. Returns
    /// how many are.
    ///
    /// # Errors
    /// The first byte that is not the right one. The connection is out of step after that and must be closed.
    #[inline]
    pub fn receive(&mut self, mut bytes: &[u8], now: Nanos, desk: &mut Desk<'_>) -> Result<u64, Wrong> {
        let mut finished = 0;
        while !bytes.is_empty() {
            let Some(pending) = self.in_flight.front() else { return Err(Box::new(Mismatch::unasked(bytes))) };
            let (used, whole) = self.reply.take(pending.request, bytes, desk)?;
            bytes = &bytes[used..];
            if whole {
                record(&mut desk.tally.latency_ns, pending.since, now);
                self.in_flight.pop_front();
                finished += 1;
            }
        }
        Ok(finished)
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
