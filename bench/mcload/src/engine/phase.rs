//! The phases: how each begins, and when it is done.

use std::ops::Range;

use rand_xoshiro::Xoshiro256PlusPlus;

use crate::arrivals::Arrivals;
use crate::backlog::Backlog;
use crate::transport::{Nanos, Slot};
use crate::workload::Workload;

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
    pub(super) fn is_over(&self, exhausted: bool) -> bool {
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
    pub(super) slots: Range<Slot>,
    pub(super) next: Slot,
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
