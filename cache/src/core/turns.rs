//! `Turns`: queues for what is scarce, first come first served.
//!
//! A connection that finds something scarce gone stands in the queue for it. As soon as some of it can be had,
//! [`Turns::grant`] takes a connection from the head and promises it one until that connection has tried; a connection
//! that comes anew sees only what is left. What can be had is asked anew each time, so no wake-up depends on an event
//! that might be missed.

use super::conns::ConnId;
use crate::lists::{Lists, NONE};

/// What a command may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// An entry of the pool.
    Entry,
    /// A landing slot.
    Slot,
    /// A block of messages to this core.
    Block(usize),
}

impl Need {
    fn queue(self) -> usize {
        match self {
            Need::Entry => 0,
            Need::Slot => 1,
            Need::Block(owner) => 2 + owner,
        }
    }

    /// What the connections in queue `queue` wait for.
    fn of_queue(queue: usize) -> Need {
        match queue {
            0 => Need::Entry,
            1 => Need::Slot,
            block => Need::Block(block - 2),
        }
    }
}

/// The queues of one core.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Connections in queues. Noted of each: the queue from whose head it was taken, while it has not tried again.
    queues: Lists,
    /// By queue, the connections taken from its head that have not tried again.
    granted: Box<[u32]>,
}

impl Turns {
    /// Empty queues of a core of `cores`, for connections below `connections`.
    pub(crate) fn new(cores: usize, connections: usize) -> Turns {
        let queues = Need::Block(cores).queue();
        Turns { queues: Lists::new(queues, connections), granted: vec![0; queues].into_boxed_slice() }
    }

    /// Asks for where `conn` stands.
    #[inline]
    pub(crate) fn prefetch(&self, conn: ConnId) {
        self.queues.prefetch(conn.0);
    }

    /// Whether `conn` may take one of `need` now, of which `available` can be had: it is its turn, and there is one
    /// that is promised to nobody else.
    pub(crate) fn admits(&self, conn: ConnId, need: Need, available: usize) -> bool {
        let queue = need.queue();
        let granted = self.queues.note(conn.0) == queue as u32;
        let in_turn = granted || self.queues.first(queue).is_none_or(|first| first == conn.0);
        let promised = if granted { 0 } else { self.granted[queue] as usize };
        in_turn && available > promised
    }

    /// Puts `conn` in the queue for `need`: at its head if it had come to the head already.
    pub(crate) fn wait_for(&mut self, conn: ConnId, need: Need) {
        let queue = need.queue();
        if self.queues.note(conn.0) == queue as u32 {
            self.queues.push_front(queue, conn.0);
        } else if self.queues.list_of(conn.0) != Some(queue) {
            self.queues.push_back(queue, conn.0);
        }
    }

    /// Ends a connection's try: it waits only if it says so.
    #[inline]
    pub(crate) fn end_try(&mut self, conn: ConnId, waiting: bool) {
        let granted = self.queues.note(conn.0);
        if granted != NONE {
            self.queues.set_note(conn.0, NONE);
            self.granted[granted as usize] -= 1;
        }
        if !waiting {
            self.queues.remove(conn.0);
        }
    }

    /// The first queue whose head can be given what it waits for. `available`: how much of it can be had.
    fn next(&self, available: impl Fn(Need) -> usize) -> Option<usize> {
        (0..self.granted.len()).find(|&queue| {
            !self.queues.is_empty(queue) && available(Need::of_queue(queue)) > self.granted[queue] as usize
        })
    }

    /// Whether [`grant`](Self::grant) would name a connection.
    pub(crate) fn can_grant(&self, available: impl Fn(Need) -> usize) -> bool {
        self.next(available).is_some()
    }

    /// Takes the next connection from the head of a queue, to which one of what it waits for is promised until it has
    /// tried.
    pub(crate) fn grant(&mut self, available: impl Fn(Need) -> usize) -> Option<ConnId> {
        let queue = self.next(available)?;
        let conn = self.queues.pop_front(queue)?;
        self.granted[queue] += 1;
        self.queues.set_note(conn, queue as u32);
        Some(ConnId(conn))
    }

    /// Connections that wait.
    pub(crate) fn waiting(&self) -> usize {
        (0..self.granted.len()).map(|queue| self.queues.len(queue)).sum()
    }

    /// Connections to which something is promised.
    pub(crate) fn granted(&self) -> usize {
        self.granted.iter().map(|&granted| granted as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_left_to_the_one_that_came_first() {
        let mut turns = Turns::new(1, 3);
        let [first, second, new] = [0, 1, 2].map(ConnId);
        turns.wait_for(first, Need::Slot);
        turns.wait_for(second, Need::Slot);
        assert!(!turns.admits(new, Need::Slot, 1), "it is not its turn");
        assert_eq!(turns.grant(|_| 1), Some(first));
        assert_eq!(turns.grant(|_| 1), None, "the one there is is promised");
        assert!(turns.admits(first, Need::Slot, 1) && !turns.admits(second, Need::Slot, 1));
        // It finds that it needs more than there is, and keeps its place at the head.
        turns.wait_for(first, Need::Slot);
        turns.end_try(first, true);
        assert_eq!(turns.grant(|_| 1), Some(first));
        turns.end_try(first, false);
        assert_eq!((turns.waiting(), turns.granted()), (1, 0));
    }
}
