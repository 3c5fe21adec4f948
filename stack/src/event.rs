//! `Event`, `Token`: what [`Poll`](crate::Poll) tells of flows.

use bitflags::bitflags;

use crate::close_reason::CloseReason;
use crate::flow_id::FlowId;

/// The application's own number for a flow, or for its listener; told with every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub usize);

bitflags! {
    /// What is told of a flow.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Told: u8 {
        // The bits of `Interest` and of `News`.
        const READABLE = 1;
        const WRITABLE = 1 << 1;
        const NEW = 1 << 2;
        const WOKEN = 1 << 3;
        const READ_CLOSED = 1 << 4;
    }
}

/// What is true of a flow, as far as its application has asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub(crate) flow: FlowId,
    pub(crate) token: Token,
    pub(crate) told: Told,
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
        self.told.contains(Told::READABLE)
    }

    /// Half of the transmit ring is free, or what was asked for by [`Flow::want_send_room`](crate::Flow::want_send_room). Also once our
    /// direction is closed: a write does not wait then, though it takes nothing.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.told.contains(Told::WRITABLE)
    }

    /// The connection has just been opened: by a peer, where [`Poll::accept_each`](crate::Poll::accept_each) was called, or by
    /// [`Poll::connect`](crate::Poll::connect). The first event of a flow, and no later one, says so; one of ours that never
    /// opened has none but its end.
    #[inline]
    pub fn is_new(&self) -> bool {
        self.told.contains(Told::NEW)
    }

    /// [`Poll::wake`](crate::Poll::wake) was called for the flow. Told whatever else is true of it.
    #[inline]
    pub fn is_woken(&self) -> bool {
        self.told.contains(Told::WOKEN)
    }

    /// The peer has closed its direction, of which who wants to read is told; bytes may still wait.
    #[inline]
    pub fn is_read_closed(&self) -> bool {
        self.told.contains(Told::READ_CLOSED)
    }

    /// Why the flow is over, if it is: this is the last event of it, and its id is dead. It is told as readable and writable too, as
    /// far as that was asked for, since neither waits any more.
    #[inline]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Whether the flow began or ended: what an application that keeps something of each flow looks for first.
    #[inline]
    pub fn begins_or_ends(&self) -> bool {
        self.is_new() || self.closed.is_some()
    }
}
