//! A transport in memory with a virtual clock, and the server right behind it: no network between them.
//!
//! Time stands still but in [`Transport::wait`], which moves it to the next thing that happens or to the moment the
//! engine asked for: a run of minutes takes as long as its requests take to compute, and repeats to the nanosecond.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::Ordering;

use mcload::transport::{Close, End, Nanos, News, Slot, Transport, TransportError};

use crate::server::{MICRO, Server};

/// How long a handshake takes.
pub const HANDSHAKE: Nanos = 50 * MICRO;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Opened,
    Refused,
    Reset,
    Reply(Vec<u8>),
}

#[derive(Debug, Default)]
struct Line {
    generation: u32,
    open: bool,
    request: Vec<u8>,
    inbox: VecDeque<Vec<u8>>,
    /// Replies of a connection keep their order.
    last_reply: Nanos,
}

/// When an event is due, which one it is, for which opening of which slot, and what happens.
type Due = (Nanos, u64, Slot, u32, Event);

pub struct Simulated {
    now: Nanos,
    server: Server,
    lines: Vec<Line>,
    events: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    news: VecDeque<(Slot, News)>,
    opens: u64,
}

impl Simulated {
    pub fn new(slots: usize, server: Server) -> Self {
        Self {
            now: 0,
            server,
            lines: (0..slots).map(|_| Line::default()).collect(),
            events: BinaryHeap::new(),
            scheduled: 0,
            news: VecDeque::new(),
            opens: 0,
        }
    }

    fn schedule(&mut self, at: Nanos, slot: Slot, event: Event) {
        self.scheduled += 1;
        let generation = self.lines[slot as usize].generation;
        self.events.push(Reverse((at, self.scheduled, slot, generation, event)));
    }

    /// Serves the whole requests at the front of what has come on `slot`.
    fn serve(&mut self, slot: Slot) {
        loop {
            let Line { request, last_reply, .. } = &mut self.lines[slot as usize];
            let Some(served) = self.server.serve(self.now, request, last_reply) else { return };
            if let Some((at, reply)) = served.reply {
                self.schedule(at, slot, Event::Reply(reply));
            }
            if let Some(victim) = served.kill {
                self.schedule(self.now, victim, Event::Reset);
            }
        }
    }
}

impl Transport for Simulated {
    fn now(&mut self) -> Nanos {
        self.now
    }

    fn wait(&mut self, until: Nanos) -> Result<(), TransportError> {
        if !self.news.is_empty() {
            return Ok(());
        }
        let measured = u64::from(self.server.is_measuring());
        self.server.truth.waits.fetch_add(measured, Ordering::Relaxed);
        let next = self.events.peek().map_or(Nanos::MAX, |Reverse((at, ..))| *at);
        self.now = self.now.max(next.min(until)) + self.server.faults.oversleep;
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, slot, generation, event))) = self.events.pop() else { break };
            let line = &mut self.lines[slot as usize];
            if line.generation != generation {
                continue;
            }
            let news = match event {
                Event::Opened => {
                    line.open = true;
                    News::Opened
                }
                Event::Refused => News::Ended(End::Refused),
                Event::Reset => {
                    line.generation += 1;
                    line.open = false;
                    News::Ended(End::Reset)
                }
                Event::Reply(bytes) => {
                    line.inbox.push_back(bytes);
                    News::Readable
                }
            };
            self.news.push_back((slot, news));
        }
        Ok(())
    }

    fn news(&mut self) -> Option<(Slot, News)> {
        self.news.pop_front()
    }

    fn open(&mut self, slot: Slot) -> Result<(), TransportError> {
        self.lines[slot as usize] = Line { generation: self.lines[slot as usize].generation + 1, ..Line::default() };
        self.opens += 1;
        let nth = |every: u64| every > 0 && self.opens.is_multiple_of(every);
        let measuring = self.server.is_measuring();
        if measuring && nth(self.server.faults.refuse_every) {
            self.server.truth.refused.fetch_add(1, Ordering::Relaxed);
            self.schedule(self.now + HANDSHAKE, slot, Event::Refused);
        } else if measuring && nth(self.server.faults.ignore_every) {
            self.server.truth.ignored.fetch_add(1, Ordering::Relaxed);
        } else {
            self.schedule(self.now + HANDSHAKE, slot, Event::Opened);
        }
        Ok(())
    }

    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos)) {
        // As a socket does: what has come since is one piece.
        let bytes: Vec<u8> = self.lines[slot as usize].inbox.drain(..).flatten().collect();
        if !bytes.is_empty() {
            take(&bytes, self.now);
        }
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        let line = &mut self.lines[slot as usize];
        if !line.open {
            return 0;
        }
        line.request.extend_from_slice(bytes);
        self.serve(slot);
        bytes.len()
    }

    fn close(&mut self, slot: Slot, _: Close) {
        let line = &mut self.lines[slot as usize];
        line.open = false;
        line.generation += 1;
        line.inbox.clear();
        self.news.retain(|&(told, _)| told != slot);
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}
