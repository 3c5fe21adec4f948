//! A new connection for each request: open, ask, take the reply, close.

use super::phase::{Churn, Pace, Phase};
use super::{ConnState, Engine, EngineError};
use crate::tally::record;
use crate::transport::{Nanos, Slot, Transport};
use crate::workload::Request;

/// Connections begun before news are looked at again.
const BEGUN_AT_A_TIME: usize = 16;
/// All arrivals wait in one queue.
const QUEUE: Slot = 0;

impl Churn {
    /// The next request and when it begins or began; `None` when there is none now.
    fn next_request(&mut self, now: Nanos) -> Option<(Request, Nanos)> {
        let intended = match &mut self.pace {
            Pace::Open { backlog, .. } => backlog.pop(QUEUE)?,
            Pace::Closed { end } => {
                self.exhausted |= end.is_some_and(|end| now >= end);
                now
            }
        };
        if self.exhausted {
            return None;
        }
        let request = self.workload.next();
        self.exhausted = request.is_none();
        Some((request?, intended))
    }
}

impl Engine {
    /// Takes arrivals that are due, and begins requests while there are idle slots.
    pub(super) fn begin_churn<T: Transport>(&mut self, transport: &mut T) -> Result<(), EngineError> {
        for _ in 0..BEGUN_AT_A_TIME {
            let now = transport.now();
            let Phase::Churn(churn) = &mut self.phase else { return Ok(()) };
            let mut arrived = false;
            if let Pace::Open { arrivals, backlog } = &mut churn.pace
                && let Some(intended) = arrivals.take_due(now)
            {
                arrived = true;
                self.tally.offered += 1;
                record(&mut self.tally.lateness_ns, intended, now);
                self.tally.overflowed += u64::from(!backlog.push(QUEUE, intended));
            }
            let next = if churn.idle.is_empty() { None } else { churn.next_request(now) };
            if let (Some((request, intended)), Some(slot)) = (next, churn.idle.last().copied()) {
                churn.idle.pop();
                let conn = &mut self.conns[slot as usize];
                (conn.asked, conn.intended) = (request, intended);
                self.busy += 1;
                self.open(slot, transport)?;
            } else if !arrived {
                break;
            }
        }
        Ok(())
    }

    /// The connection is open: send its request.
    pub(super) fn ask<T: Transport>(&mut self, slot: Slot, transport: &mut T) {
        let conn = &mut self.conns[slot as usize];
        self.out.clear();
        conn.connection.push(conn.asked, conn.intended, &self.codec, &mut self.out);
        conn.connection.send(&self.out, &self.codec, |bytes| transport.send(slot, bytes));
    }

    /// The reply is whole: close.
    pub(super) fn served<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        transport.close(slot, self.settings.close);
        self.free(slot, transport)
    }

    /// A slot's connection is closed, however that came: the slot may serve the next request.
    pub(super) fn free<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        let conn = &mut self.conns[slot as usize];
        conn.connection.reset();
        conn.state = ConnState::Closed;
        self.busy -= 1;
        if let Phase::Churn(churn) = &mut self.phase {
            churn.idle.push(slot);
        }
        self.begin_churn(transport)
    }
}
