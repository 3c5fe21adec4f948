//! Arrivals that wait for their connection: a queue for each, all in one pool, so that the whole is bounded.

use crate::transport::{Nanos, Slot};

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    intended: Nanos,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

/// First-in first-out queues of intended moments, one a slot. Allocates when made and never again.
#[derive(Debug)]
pub struct Backlog {
    entries: Vec<Entry>,
    free: u32,
    queues: Vec<Ends>,
    waiting: usize,
}

impl Backlog {
    /// Queues of `slots` slots that hold at most `capacity` arrivals together.
    pub fn new(slots: usize, capacity: u32) -> Self {
        let entries =
            (1..=capacity).map(|next| Entry { intended: 0, next: if next == capacity { NONE } else { next } });
        Self {
            entries: entries.collect(),
            free: if capacity == 0 { NONE } else { 0 },
            queues: vec![Ends { first: NONE, last: NONE }; slots],
            waiting: 0,
        }
    }

    /// Arrivals that wait, all slots together.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing waits for `slot`.
    #[inline]
    pub fn is_empty(&self, slot: Slot) -> bool {
        self.queues[slot as usize].first == NONE
    }

    /// Adds an arrival to the queue of `slot`; false when the pool is full.
    #[inline]
    pub fn push(&mut self, slot: Slot, intended: Nanos) -> bool {
        let index = self.free;
        let Some(entry) = self.entries.get_mut(index as usize) else { return false };
        self.free = entry.next;
        *entry = Entry { intended, next: NONE };
        let queue = &mut self.queues[slot as usize];
        if queue.first == NONE {
            queue.first = index;
        } else {
            self.entries[queue.last as usize].next = index;
        }
        queue.last = index;
        self.waiting += 1;
        true
    }

    /// Takes the oldest arrival of `slot`.
    #[inline]
    pub fn pop(&mut self, slot: Slot) -> Option<Nanos> {
        let queue = &mut self.queues[slot as usize];
        let index = queue.first;
        let entry = self.entries.get_mut(index as usize)?;
        queue.first = entry.next;
        entry.next = self.free;
        self.free = index;
        self.waiting -= 1;
        Some(entry.intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_order_and_the_pool_its_limit() {
        let mut backlog = Backlog::new(2, 3);
        assert!(backlog.push(0, 1) && backlog.push(1, 2) && backlog.push(0, 3));
        assert!(!backlog.push(1, 4), "the pool is full");
        assert_eq!((backlog.pop(0), backlog.pop(0), backlog.pop(0)), (Some(1), Some(3), None));
        assert!(backlog.is_empty(0) && backlog.push(0, 5) && backlog.push(1, 6));
        assert_eq!((backlog.pop(1), backlog.pop(1), backlog.pop(0)), (Some(2), Some(6), Some(5)));
        assert_eq!(backlog.waiting(), 0);
        assert!(!Backlog::new(1, 0).push(0, 1));
    }
}
