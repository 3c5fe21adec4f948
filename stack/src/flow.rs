//! A flow as the application sees it: bytes in, bytes out, and how it ended.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::socket::tcp::State;

use crate::block::{FlowBlock, NO_PROMISE};
use crate::names::Names;
use crate::phase::Marks;
use crate::ready::Interest;

/// A flow, borrowed from its stack for one visit. What is written leaves with [`NetStack::flush`](crate::NetStack::flush).
#[derive(Debug)]
pub struct Flow<'a> {
    pub(crate) block: &'a mut FlowBlock,
    pub(crate) names: &'a Names,
}

/// What there is to see of a flow from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowLook {
    /// The peer's address and port.
    pub peer: SocketAddr,
    /// The state of RFC 9293 §3.3.2, as `ss` names it.
    pub state: &'static str,
    /// Bytes received that the application has not taken.
    pub unread: usize,
    /// Bytes that are not acknowledged, sent or not.
    pub unsent: usize,
    /// The smoothed round-trip time (RFC 6298 §2); `None` while none was measured.
    pub round_trip: Option<Duration>,
}

impl FlowLook {
    pub(crate) fn of(block: &FlowBlock, names: &Names) -> Self {
        let socket = block.socket();
        let state = match socket.state() {
            State::Closed => "CLOSED",
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECV",
            State::Established => "ESTAB",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        };
        let round_trip = block.sending.round_trip();
        Self {
            peer: names.ends(&block.key).peer(),
            state,
            unread: socket.recv_queue(),
            unsent: socket.send_queue(),
            round_trip: (!round_trip.is_zero()).then_some(round_trip),
        }
    }
}

impl Flow<'_> {
    /// Shows the bytes that lie contiguous at the front of the receive ring (none, an empty slice, when nothing waits)
    /// and takes away as many as the first number that `take` returns. More may wait beyond the ring's end:
    /// call again while [`recv_queue`](Self::recv_queue) is not 0.
    ///
    /// The slice is the ring itself; it may be changed, but what is not taken away then stays changed.
    #[inline]
    pub fn recv<R>(&mut self, take: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let socket = self.block.socket_mut();
        if !socket.can_recv() {
            return take(&mut []).1;
        }
        let taken = socket.recv(|bytes| {
            let (consumed, result) = take(bytes);
            let consumed = consumed.min(bytes.len());
            (consumed, (consumed, result))
        });
        match taken {
            Ok((consumed, result)) => {
                self.block.rcv_base = self.block.rcv_base.wrapping_add(consumed as u32);
                result
            }
            Err(_) => unreachable!("a socket with bytes waiting can be received from"),
        }
    }

    /// Takes as many bytes from the front of the receive ring as `into` holds, across its end if need be. Returns how many.
    #[inline]
    pub fn recv_slice(&mut self, into: &mut [u8]) -> usize {
        let taken = self.block.socket_mut().recv_slice(into).unwrap_or(0);
        self.block.rcv_base = self.block.rcv_base.wrapping_add(taken as u32);
        taken
    }

    /// Copies bytes from the front of the receive ring, across its end if need be, and takes none away.
    /// Returns how many were copied.
    #[inline]
    pub fn peek(&mut self, into: &mut [u8]) -> usize {
        self.block.socket_mut().peek_slice(into).unwrap_or(0)
    }

    /// Bytes that wait in the receive ring.
    #[inline]
    pub fn recv_queue(&self) -> usize {
        self.block.socket().recv_queue()
    }

    /// Shows the room that lies contiguous in the transmit ring (none, an empty slice, when it is full or the flow can
    /// no longer send) and sends as many bytes as the first number that `write` returns. There may be more room beyond
    /// the ring's end: call again while [`send_room`](Self::send_room) is not 0.
    #[inline]
    pub fn send<R>(&mut self, write: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let socket = self.block.socket_mut();
        if !socket.can_send() {
            self.note_room();
            return write(&mut []).1;
        }
        let written = socket.send(|bytes| {
            let (written, result) = write(bytes);
            (written.min(bytes.len()), result)
        });
        self.note_room();
        match written {
            Ok(result) => result,
            Err(_) => unreachable!("a socket with room can be sent to"),
        }
    }

    /// Copies as much of `bytes` to the transmit ring as has room, across its end if need be. Returns how much.
    #[inline]
    pub fn send_slice(&mut self, bytes: &[u8]) -> usize {
        let sent = self.block.socket_mut().send_slice(bytes).unwrap_or(0);
        self.note_room();
        sent
    }

    /// Free bytes of the transmit ring; 0 when the flow can no longer send.
    ///
    /// When it is seen below half of the ring, the flow is reported writable once half is free again.
    #[inline]
    pub fn send_room(&mut self) -> usize {
        let socket = self.block.socket();
        let (may_send, capacity, queued) = (socket.may_send(), socket.send_capacity(), socket.send_queue());
        self.note(capacity, queued);
        if may_send { capacity - queued } else { 0 }
    }

    /// Size of the transmit ring.
    #[inline]
    pub fn send_capacity(&self) -> usize {
        self.block.socket().send_capacity()
    }

    /// Size of the receive ring.
    #[inline]
    pub fn recv_capacity(&self) -> usize {
        self.block.socket().recv_capacity()
    }

    /// Bytes written and not yet acknowledged by the peer.
    #[inline]
    pub fn send_queue(&self) -> usize {
        self.block.socket().send_queue()
    }

    /// Asks to be reported writable once `bytes` (at most the ring's size) are free in the transmit ring.
    #[inline]
    pub fn want_send_room(&mut self, bytes: usize) {
        self.block.want_room = bytes.min(self.block.socket().send_capacity()) as u32;
    }

    /// Whether the peer has closed its direction. Bytes may still wait: it is the end once `recv_queue` is 0 too.
    #[inline]
    pub fn peer_closed(&self) -> bool {
        self.block.marks.contains(Marks::FIN_RECEIVED)
    }

    /// Closes the flow: what was written is sent, then FIN; what still arrives is thrown away. The id is dead at once
    /// and nothing more is reported of the flow.
    pub fn close(self) {
        self.block.socket_mut().close();
        self.block.promise = NO_PROMISE;
        self.block.phase = self.block.phase.closed();
    }

    /// Throws the flow away: the next flush sends RST to the peer. The id is dead at once and nothing more is reported of the flow.
    pub fn abort(self) {
        self.block.phase = self.block.phase.aborted();
    }

    /// The peer's address and port.
    pub fn peer(&self) -> SocketAddr {
        self.names.ends(&self.block.key).peer()
    }

    /// Our address and port.
    pub fn local(&self) -> SocketAddr {
        self.names.ends(&self.block.key).own()
    }

    /// Number of the port by which the flow's frames leave, which is the one that its first segment came by, of those
    /// given to [`NetStack::flush`](crate::NetStack::flush).
    pub fn port(&self) -> u16 {
        self.block.port
    }

    /// Whether anything can still be written.
    pub fn may_send(&self) -> bool {
        matches!(self.block.socket().state(), State::Established | State::CloseWait)
    }

    /// Sets of what the flow is told from now on, with the number that it has. Of what is true already nothing is told anew, for
    /// which there is [`Poll::register`](crate::Poll::register): it is for who has just looked, as one that wants to hear of room
    /// when a write has found none.
    pub fn set_interest(&mut self, interest: Interest) {
        self.block.interest = interest;
    }

    /// Notes that the application saw less than half of the transmit ring free, so that it is told when half is.
    #[inline]
    fn note_room(&mut self) {
        let socket = self.block.socket();
        let (capacity, queued) = (socket.send_capacity(), socket.send_queue());
        self.note(capacity, queued);
    }

    /// The same, for a transmit ring of which `queued` of `capacity` bytes are in use.
    #[inline]
    fn note(&mut self, capacity: usize, queued: usize) {
        let half = capacity / 2;
        if capacity - queued < half && self.block.want_room == 0 {
            self.block.want_room = half as u32;
        }
    }
}
