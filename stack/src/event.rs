//! `Event`, `Events`, `Token`: what [`Poll`](crate::Poll) tells of flows.

use crate::close_reason::CloseReason;
use crate::flow_id::FlowId;
use crate::ready::Interest;

/// The application's own number for a flow, or for its listener; told with every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub usize);

/// What is true of a flow, as far as its application has asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub(crate) flow: FlowId,
    pub(crate) token: Token,
    /// What of the interest is met.
    pub(crate) met: Interest,
    pub(crate) peer_closed: bool,
    pub(crate) closed: Option<CloseReason>,
}

impl Event {
    /// The number that the flow, or the listener, was registered with.
    #[inline]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The flow. Of the listener's event: none that there is.
    #[inline]
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// Bytes wait, or the end of them; of the listener: connections wait to be accepted.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.met.contains(Interest::READABLE)
    }

    /// Half of the transmit ring is free, or what was asked for by [`Flow::want_send_room`](crate::Flow::want_send_room). Also once our
    /// direction is closed: a write does not wait then, though it takes nothing.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.met.contains(Interest::WRITABLE)
    }

    /// The peer has closed its direction, of which who wants to read is told; bytes may still wait.
    #[inline]
    pub fn is_read_closed(&self) -> bool {
        self.peer_closed
    }

    /// Why the flow is over, if it is: this is the last event of it, and its id is dead. It is told as readable and writable too, as
    /// far as that was asked for, since neither waits any more.
    #[inline]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }
}

/// Events of one turn, in the order in which flows first had news. Made once, filled by each [`Poll::poll`](crate::Poll::poll).
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    flows: usize,
}

impl Events {
    /// Room for `flows` flows, at least one, and for the listener behind them: no more are told of in one turn, the others in
    /// the next.
    pub fn with_capacity(flows: usize) -> Self {
        let flows = flows.max(1);
        Self { list: Vec::with_capacity(flows + 1), flows }
    }

    /// The events.
    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether no other flow is to be told of.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= self.flows
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, event: Event) {
        debug_assert!(self.list.len() <= self.flows);
        self.list.push(event);
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
