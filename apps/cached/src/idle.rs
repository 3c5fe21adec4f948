//! `-o idle_timeout`: connections that have not said anything for long are closed.
//!
//! Each connection has one place in a queue, with the second at which it is looked at next. No packet moves it, and a
//! turn looks at a bounded number of connections. So a connection is closed at most half the timeout late.

use std::collections::VecDeque;

use stack::FlowId;

/// Connections looked at in one turn.
const LOOKS_PER_TURN: usize = 64;

/// The connections of one core, by when each is looked at next.
#[derive(Debug)]
pub struct Idle {
    timeout_secs: u32,
    queue: VecDeque<(u32, FlowId)>,
    /// Connections that were open before, from this index on, have no place yet.
    unseen: usize,
    max_flows: usize,
}

impl Idle {
    /// Connections idle for `timeout_secs` seconds are closed; there are at most `max_flows`.
    pub fn new(timeout_secs: u32, max_flows: usize) -> Idle {
        // A connection that ends keeps its place until it is looked at, so one more may come for each.
        Idle { timeout_secs, queue: VecDeque::with_capacity(2 * max_flows), unseen: max_flows, max_flows }
    }

    /// The same for connections that are open already too, which [`take_in`](Self::take_in) finds.
    pub fn among(timeout_secs: u32, max_flows: usize) -> Idle {
        Idle { unseen: 0, ..Idle::new(timeout_secs, max_flows) }
    }

    /// Gives places to connections that were open before, a bounded number a turn: `open` says which there is at an index.
    pub fn take_in(&mut self, now_secs: u32, open: impl Fn(usize) -> Option<FlowId>) {
        let end = self.max_flows.min(self.unseen + LOOKS_PER_TURN);
        for id in (self.unseen..end).filter_map(open) {
            self.queue_up(id, now_secs);
        }
        self.unseen = end;
    }

    /// Whether there are connections that have no place yet: a core is not to sleep meanwhile.
    pub fn takes_in(&self) -> bool {
        self.unseen < self.max_flows
    }

    /// A connection was opened.
    pub fn add(&mut self, id: FlowId, now_secs: u32) {
        // One beyond is found with those that were open before.
        if id.index() < self.unseen {
            self.queue_up(id, now_secs);
        }
    }

    /// Gives a connection a place. When ended connections fill the queue, the first of them makes room.
    fn queue_up(&mut self, id: FlowId, now_secs: u32) {
        if self.queue.len() == self.queue.capacity() {
            self.queue.pop_front();
        }
        self.queue.push_back((now_secs.saturating_add(self.step_secs()), id));
    }

    /// Looks at the connections whose time has come: `idle_secs` says for how long a connection has been idle, `None`
    /// when it has ended. Returns the next one that is to be closed.
    pub fn next_overdue(&mut self, now_secs: u32, idle_secs: impl Fn(FlowId) -> Option<u32>) -> Option<FlowId> {
        for _ in 0..LOOKS_PER_TURN {
            let &(due, id) = self.queue.front()?;
            if due > now_secs {
                return None;
            }
            self.queue.pop_front();
            match idle_secs(id) {
                None => {}
                Some(idle) if idle > self.timeout_secs => return Some(id),
                Some(_) => self.queue_up(id, now_secs),
            }
        }
        None
    }

    fn step_secs(&self) -> u32 {
        (self.timeout_secs / 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_were_open_before_are_found_and_named() {
        let mut idle = Idle::among(3, 200);
        let (silent, later) = (FlowId::from_bits(150), FlowId::from_bits(7));
        // Opened while they are looked for, before and behind where that is.
        let (before, behind) = (FlowId::from_bits(3), FlowId::from_bits(160));
        idle.take_in(100, |_| None);
        for opened in [before, behind] {
            idle.add(opened, 100);
        }
        while idle.takes_in() {
            let there = |index| [silent, behind].into_iter().find(|id| id.index() == index);
            idle.take_in(100, there);
        }
        idle.add(later, 100);
        let mut named = Vec::new();
        while let Some(id) = idle.next_overdue(110, |_| Some(10)) {
            named.push(id);
        }
        assert_eq!(named, [before, silent, behind, later], "each once");
    }

    #[test]
    fn a_silent_connection_is_named_once_and_a_busy_one_never() {
        let mut idle = Idle::new(3, 4);
        let (silent, busy, ended) = (FlowId::from_bits(1), FlowId::from_bits(2), FlowId::from_bits(3));
        for id in [silent, busy, ended] {
            idle.add(id, 100);
        }
        let mut named = Vec::new();
        for now in 100..120 {
            let idle_secs = |id| match id {
                id if id == ended => None,
                id if id == busy => Some(now % 2),
                _ => Some(now - 100),
            };
            while let Some(id) = idle.next_overdue(now, idle_secs) {
                named.push((now, id));
            }
        }
        assert_eq!(named, [(104, silent)]);
    }
}
