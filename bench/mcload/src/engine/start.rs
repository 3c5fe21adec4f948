//! How a phase begins, and what it does next on its own: opening, asking, probing.

use std::ops::Range;

use rand_xoshiro::Xoshiro256PlusPlus;

use super::phase::{Churn, Pace, Phase, Steady, Walk};
use super::{ConnState, Engine, EngineError};
use crate::transport::{Close, Nanos, Slot, Transport};
use crate::workload::{Operation, Request, Workload};

/// Connections that are being opened, or probed, at the same time.
const AT_A_TIME: u64 = 64;

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
            let conn = &mut self.conns[slot as usize];
            if conn.state != ConnState::Open {
                continue;
            }
            conn.moved = transport.now();
            self.busy += 1;
            self.out.clear();
            let request = Request { operation: Operation::Get, key: u64::from(slot) % keys };
            conn.connection.push(request, conn.moved, &self.codec, &mut self.out);
            conn.connection.send(&self.out, &self.codec, |bytes| transport.send(slot, bytes));
        }
    }

    /// Closes connections `slots` in order.
    pub fn close<T: Transport>(&mut self, slots: Range<Slot>, transport: &mut T) {
        for slot in slots {
            transport.close(slot, Close::InOrder);
            let conn = &mut self.conns[slot as usize];
            conn.connection.reset();
            conn.state = ConnState::Closed;
        }
    }
}
