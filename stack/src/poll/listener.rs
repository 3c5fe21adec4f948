//! `Listener`: connections that wait to be accepted, and who wants to hear of them.

use std::collections::VecDeque;

use crate::event::{Event, Token, Told};
use crate::flow_id::FlowId;
use crate::ready::Interest;

/// The accept queue of one core.
#[derive(Debug)]
pub(super) struct Listener {
    waiting: VecDeque<FlowId>,
    /// So many, and no more are let in for now.
    limit: usize,
    is_full: bool,
    /// The application wants no connections for now.
    pub(super) is_paused: bool,
    /// How connections are registered as they open, where none waits.
    pub(super) each: Option<(Token, Interest)>,
    token: Token,
    interest: Interest,
    /// There is news that has not been told, or what waits is told in each turn.
    listed: bool,
    /// That was told in this turn.
    told: bool,
    /// The last turn has ended before it was.
    passed_over: bool,
}

impl Listener {
    /// One on which nobody listens, for `limit` connections, and some more, `room` in all.
    pub(super) fn new(limit: usize, room: usize) -> Self {
        Self {
            waiting: VecDeque::with_capacity(room),
            limit,
            is_full: false,
            is_paused: false,
            each: None,
            token: Token(0),
            interest: Interest::empty(),
            listed: false,
            told: false,
            passed_over: false,
        }
    }

    /// Tells with `token` from now on, of what waits already too.
    pub(super) fn register(&mut self, token: Token, interest: Interest) {
        (self.token, self.interest, self.listed) = (token, interest, true);
    }

    /// A connection begins to wait.
    #[cold]
    pub(super) fn push(&mut self, id: FlowId) {
        self.waiting.push_back(id);
        self.listed = true;
    }

    /// Takes the one that has waited longest; it may have ended meanwhile.
    pub(super) fn pop(&mut self) -> Option<FlowId> {
        self.waiting.pop_front()
    }

    /// Looks whether as many wait as may, with `unfound` that no look has come to yet: it is full from the limit on, until half
    /// have been taken, or have ended. Returns whether that has changed.
    pub(super) fn measure(&mut self, unfound: usize) -> bool {
        let waiting = self.waiting.len() + unfound;
        let is_full = if self.is_full { waiting > self.limit / 2 } else { waiting >= self.limit };
        std::mem::replace(&mut self.is_full, is_full) != is_full
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// A turn begins. What was not told in the last, though it might have been, is first.
    #[inline]
    pub(super) fn begin_turn(&mut self) {
        self.passed_over = !self.told && self.has_news();
        self.told = false;
    }

    /// Whether it is first in this turn.
    #[inline]
    pub(super) fn was_passed_over(&self) -> bool {
        self.passed_over
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self) -> bool {
        self.listed && self.interest.contains(Interest::READABLE)
    }

    /// Tells of what waits, if somebody wants to hear it and there is news.
    #[inline]
    pub(super) fn next_event(&mut self) -> Option<Event> {
        if self.listed && !self.told { self.tell() } else { None }
    }

    #[cold]
    fn tell(&mut self) -> Option<Event> {
        self.passed_over = false;
        if !self.has_news() {
            return None;
        }
        let waits = !self.waiting.is_empty();
        self.listed = waits && self.interest.contains(Interest::LEVEL);
        if !waits {
            return None;
        }
        self.told = true;
        if self.interest.contains(Interest::ONESHOT) {
            self.interest = Interest::ONESHOT;
        }
        Some(Event { flow: FlowId::NONE, token: self.token, told: Told::READABLE, closed: None })
    }
}
