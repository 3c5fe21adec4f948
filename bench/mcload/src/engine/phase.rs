//! The phases: how each begins, and when it is done.

use std::ops::Range;

use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Engine, EngineError, Link};
use crate::arrivals::Arrivals;
use crate::backlog::Backlog;
use crate::transport::{Close, Nanos, Slot, Transport};
use crate::workload::{Operation, Request, Workload};

/// Connections that are being opened, or probed, at the same time.
const AT_A_TIME: u64 = 64;

/// What sets the moment of a request.
#[derive(Debug)]
pub enum Pace {
    /// Closed loop: the end of an earlier one. No request begins at `end` or later.
    Closed {
        /// When to stop.
        end: Option<Nanos>,
    },
    /// Open loop: its arrival. One that cannot be sent at once waits in the backlog, which is bounded.
    Open {
        /// The intended moments.
        arrivals: Arrivals,
        /// What waits.
        backlog: Backlog,
    },
}

impl Pace {
    fn deadline(&self) -> Nanos {
        match self {
            Pace::Closed { end } => end.unwrap_or(Nanos::MAX),
            Pace::Open { arrivals, .. } => arrivals.next().unwrap_or(Nanos::MAX),
        }
    }

    /// Whether no request is to come: the workload or its time is `exhausted`, or no arrival is to come and none waits.
    fn is_over(&self, exhausted: bool) -> bool {
        match self {
            Pace::Closed { .. } => exhausted,
            Pace::Open { arrivals, backlog } => arrivals.next().is_none() && backlog.waiting() == 0,
        }
    }
}

/// Requests over connections that stay open.
#[derive(Debug)]
pub struct Steady {
    /// Slots 0 up to this one.
    pub slots: Slot,
    /// Requests in flight on each, at most.
    pub depth: usize,
    /// What is asked.
    pub workload: Workload,
    /// When.
    pub pace: Pace,
    /// Which connection is given an arrival.
    pub assign: Xoshiro256PlusPlus,
    /// A request without reply ends the run.
    pub strict: bool,
    pub(super) live: u32,
    pub(super) exhausted: bool,
}

/// A new connection for each request.
#[derive(Debug)]
pub struct Churn {
    /// Slots 0 up to this one: as many connections at a time.
    pub slots: Slot,
    /// What is asked.
    pub workload: Workload,
    /// When.
    pub pace: Pace,
    pub(super) idle: Vec<Slot>,
    pub(super) exhausted: bool,
}

/// Slots that are visited one after the other, a number of them at a time.
#[derive(Debug)]
pub(super) struct Walk {
    slots: Range<Slot>,
    next: Slot,
}

/// What the engine is doing.
#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Opening(Walk),
    Steady(Steady),
    Churn(Churn),
    Probing(Walk),
}

impl Phase {
    pub(super) fn deadline(&self) -> Nanos {
        match self {
            Phase::Steady(Steady { pace, exhausted: false, .. })
            | Phase::Churn(Churn { pace, exhausted: false, .. }) => pace.deadline(),
            _ => Nanos::MAX,
        }
    }

    /// Slots that may have something in flight.
    pub(super) fn in_use(&self) -> Range<Slot> {
        match self {
            Phase::Idle => 0..0,
            Phase::Opening(walk) | Phase::Probing(walk) => walk.slots.start..walk.next,
            Phase::Steady(steady) => 0..steady.slots,
            Phase::Churn(churn) => 0..churn.slots,
        }
    }
}

impl Engine {
    /// Whether the phase has come to its end; always true before the first.
    pub fn is_done(&self) -> bool {
        match &self.phase {
            Phase::Idle => true,
            Phase::Opening(walk) | Phase::Probing(walk) => self.busy == 0 && walk.next == walk.slots.end,
            Phase::Steady(steady) => self.busy == 0 && (steady.live == 0 || steady.pace.is_over(steady.exhausted)),
            Phase::Churn(churn) => self.busy == 0 && churn.pace.is_over(churn.exhausted),
        }
    }

    fn begin(&mut self, phase: Phase, now: Nanos) {
        self.phase = phase;
        self.busy = 0;
        self.answered_at = now;
        self.next_scan = now;
    }

    /// Begins to open connections `slots`, all closed.
    ///
    /// # Errors
    /// The transport cannot go on.
    pub fn start_opening<T: Transport>(&mut self, slots: Range<Slot>, transport: &mut T) -> Result<(), EngineError> {
        let next = slots.start;
        self.begin(Phase::Opening(Walk { slots, next }), transport.now());
        self.open_more(transport)
    }

    pub(super) fn open_more<T: Transport>(&mut self, transport: &mut T) -> Result<(), EngineError> {
        while self.busy < AT_A_TIME {
            let Phase::Opening(walk) = &mut self.phase else { return Ok(()) };
            let slot = walk.next;
            if slot == walk.slots.end {
                return Ok(());
            }
            walk.next += 1;
            self.busy += 1;
            self.open(slot, transport)?;
        }
        Ok(())
    }

    /// Begins to send `workload` over slots 0 to `slots`, which are open, with at most `depth` requests in flight on
    /// each. With `strict`, a request without reply ends the run; otherwise it is counted.
    pub fn start_steady<T: Transport>(
        &mut self,
        (slots, depth): (Slot, usize),
        workload: Workload,
        pace: Pace,
        assign: Xoshiro256PlusPlus,
        strict: bool,
        transport: &mut T,
    ) {
        let now = transport.now();
        let steady = Steady { slots, depth, workload, pace, assign, strict, live: slots, exhausted: false };
        self.begin(Phase::Steady(steady), now);
        for slot in 0..slots {
            let now = transport.now();
            self.feed(slot, now, transport);
        }
    }

    /// Begins to send `workload` over a new connection for each request, at most `slots` at a time; slots 0 to `slots`
    /// are closed.
    ///
    /// # Errors
    /// The transport cannot go on.
    pub fn start_churn<T: Transport>(
        &mut self,
        slots: Slot,
        workload: Workload,
        pace: Pace,
        transport: &mut T,
    ) -> Result<(), EngineError> {
        let idle = (0..slots).rev().collect();
        self.begin(Phase::Churn(Churn { slots, workload, pace, idle, exhausted: false }), transport.now());
        self.begin_due(transport)
    }

    /// Begins to send one get on each of `slots` that is still open.
    pub fn start_probing<T: Transport>(&mut self, slots: Range<Slot>, transport: &mut T) {
        let next = slots.start;
        self.begin(Phase::Probing(Walk { slots, next }), transport.now());
        self.probe_more(transport);
    }

    pub(super) fn probe_more<T: Transport>(&mut self, transport: &mut T) {
        let keys = self.codec.keyspace().keys();
        while self.busy < AT_A_TIME {
            let Phase::Probing(walk) = &mut self.phase else { return };
            let slot = walk.next;
            if slot == walk.slots.end {
                return;
            }
            walk.next += 1;
            let line = &mut self.lines[slot as usize];
            if line.link != Link::Open {
                continue;
            }
            line.moved = transport.now();
            self.busy += 1;
            self.out.clear();
            let request = Request { operation: Operation::Get, key: u64::from(slot) % keys };
            line.connection.push(request, line.moved, &self.codec, &mut self.out);
            line.connection.send(&self.out, &self.codec, |bytes| transport.send(slot, bytes));
        }
    }

    /// Closes connections `slots` in order.
    pub fn close<T: Transport>(&mut self, slots: Range<Slot>, transport: &mut T) {
        for slot in slots {
            transport.close(slot, Close::InOrder);
            let line = &mut self.lines[slot as usize];
            line.connection.reset();
            line.link = Link::Closed;
        }
    }
}
