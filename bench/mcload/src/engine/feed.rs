//! Which connection is given which request: in closed loop the one that has room, in open loop the one that an arrival
//! is assigned to, at random, as if each connection were a client of its own.

use super::phase::{Pace, Phase};
use super::{ConnState, Engine, EngineError, OUT_BYTES};
use crate::popularity::below;
use crate::tally::record;
use crate::transport::{Nanos, Slot, Transport};

/// Arrivals attended to before news are looked at again.
const ARRIVALS_AT_A_TIME: usize = 16;

impl Engine {
    /// Gives `slot` as many requests as it may have in flight, and sends them. Does nothing while something unsent is
    /// left: the transport reports when there is room.
    #[inline]
    pub(super) fn feed<T: Transport>(&mut self, slot: Slot, now: Nanos, transport: &mut T) {
        let Self { phase: Phase::Steady(steady), conns, codec, out, busy, .. } = self else { return };
        let conn = &mut conns[slot as usize];
        if slot >= steady.slots || conn.state != ConnState::Open {
            return;
        }
        while conn.connection.is_flushed() && conn.connection.in_flight() < steady.depth {
            out.clear();
            while conn.connection.in_flight() < steady.depth && out.len() < OUT_BYTES {
                let since = match &mut steady.pace {
                    Pace::Closed { end } => {
                        if steady.exhausted || end.is_some_and(|end| now >= end) {
                            steady.exhausted = true;
                            break;
                        }
                        now
                    }
                    Pace::Open { backlog, .. } => match backlog.pop(slot) {
                        Some(intended) => intended,
                        None => break,
                    },
                };
                let Some(request) = steady.workload.next() else {
                    steady.exhausted = true;
                    break;
                };
                if conn.connection.in_flight() == 0 {
                    conn.moved = now;
                }
                *busy += 1;
                if conn.connection.push(request, since, codec, out) {
                    break;
                }
            }
            if out.is_empty() {
                return;
            }
            conn.connection.send(out, codec, |bytes| transport.send(slot, bytes));
        }
    }

    /// Attends to what is due by the clock: the end of a closed loop, arrivals of an open one.
    #[inline]
    pub(super) fn begin_due<T: Transport>(&mut self, transport: &mut T) -> Result<(), EngineError> {
        match &mut self.phase {
            Phase::Steady(steady) => match &mut steady.pace {
                Pace::Closed { end: Some(end) } if !steady.exhausted => {
                    steady.exhausted = transport.now() >= *end;
                }
                Pace::Closed { .. } => {}
                Pace::Open { .. } => self.assign_arrivals(transport),
            },
            Phase::Churn(_) => return self.begin_churn(transport),
            _ => {}
        }
        Ok(())
    }

    fn assign_arrivals<T: Transport>(&mut self, transport: &mut T) {
        for _ in 0..ARRIVALS_AT_A_TIME {
            let now = transport.now();
            let Phase::Steady(steady) = &mut self.phase else { return };
            let Pace::Open { arrivals, backlog } = &mut steady.pace else { return };
            let Some(intended) = arrivals.take_due(now) else { return };
            self.tally.offered += 1;
            record(&mut self.tally.lateness_ns, intended, now);
            let drawn = below(&mut steady.assign, steady.slots.into()) as Slot;
            let Some(slot) = live_from(drawn, steady.slots, |slot| self.conns[slot as usize].state) else {
                self.tally.abandoned += 1;
                continue;
            };
            if backlog.push(slot, intended) {
                self.feed(slot, now, transport);
            } else {
                self.tally.overflowed += 1;
            }
        }
    }

    /// A connection is used no more: what waits for it goes to another.
    pub(super) fn retire(&mut self, slot: Slot) {
        let Self { phase: Phase::Steady(steady), conns, tally, .. } = self else { return };
        steady.live = steady.live.saturating_sub(1);
        let Pace::Open { backlog, .. } = &mut steady.pace else { return };
        while let Some(intended) = backlog.pop(slot) {
            match live_from(slot, steady.slots, |slot| conns[slot as usize].state) {
                // One was taken out, so there is room.
                Some(other) => drop(backlog.push(other, intended)),
                None => tally.abandoned += 1,
            }
        }
    }
}

/// The first slot from `slot` on, round the end, that is not retired.
#[inline]
fn live_from(slot: Slot, slots: Slot, state: impl Fn(Slot) -> ConnState) -> Option<Slot> {
    (slot..slots).chain(0..slot).find(|&slot| state(slot) != ConnState::Retired)
}
