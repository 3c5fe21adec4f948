//! `Phase`: how far a flow has come. `Marks`: what else is to be remembered of it.

use bitflags::bitflags;

/// How far the flow of a block has come.
///
/// ```text
/// Free ─┬► HalfOpen ──────────────────► Open ─► Released ─► Closing ─► FinWait2 ─► Free
///       └► Connecting ────────────────►  │└───► Aborted ─────────────────────────► Free
///              └► Cancelled ─► Free      └────► Ended ───────────────────────────► Free
/// ```
///
/// A handshake that fails ends in `Free` where the application does not know of the flow, else in `Ended`; so does a
/// flow that dies while it is open. What dies after the application has let go of it is `Free` at once. The phases are
/// in an order in which those that are asked for together are neighbours, and carry nothing, so that a question is one
/// comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No flow uses the block.
    Free,
    /// The peer acknowledges our SYN-ACK, which the socket has yet to read: within a call alone (`net_stack/half_open.rs`). The
    /// application does not know of the flow.
    HalfOpen,
    /// The handshake is complete and the application has the flow, or will be told of it by the ready list.
    Open,
    /// The application has asked for the flow, and the peer has not yet answered our SYN.
    Connecting,
    /// The application has closed or aborted a flow that was `Connecting`; the next flush ends it.
    Cancelled,
    /// The application has closed the flow; no flush has seen that yet.
    Released,
    /// The application has closed the flow, and `state_since` says when, or when its peer had taken 16 KiB more.
    Closing,
    /// The same, and the peer has acknowledged our FIN at `state_since`.
    FinWait2,
    /// The application, or the peer by sending where nobody reads, has had the flow thrown away; the next flush resets
    /// it.
    Aborted,
    /// The flow is over, for the block's `close_reason`; the application has yet to hear of it.
    Ended,
}

impl Phase {
    /// Whether the application may visit the flow.
    #[inline]
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Connecting)
    }

    /// Whether the application asked for the flow and its handshake is under way.
    #[inline]
    pub(crate) fn is_connecting(self) -> bool {
        matches!(self, Self::Connecting | Self::Cancelled)
    }

    /// Whether the application has let go of the flow.
    #[inline]
    pub(crate) fn is_released(self) -> bool {
        matches!(self, Self::Cancelled | Self::Released | Self::Closing | Self::FinWait2 | Self::Aborted)
    }

    /// Whether there is a flow and it is not over.
    #[inline]
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self, Self::Free | Self::Ended)
    }

    /// Whether the peer has completed the handshake.
    #[inline]
    pub(crate) fn has_peer(self) -> bool {
        matches!(self, Self::Open | Self::Released | Self::Closing | Self::FinWait2 | Self::Aborted)
    }

    /// What the phase becomes when the application closes the flow.
    pub(crate) fn closed(self) -> Self {
        if self.is_connecting() { Self::Cancelled } else { Self::Released }
    }

    /// What the phase becomes when the application throws the flow away.
    pub(crate) fn aborted(self) -> Self {
        if self.is_connecting() { Self::Cancelled } else { Self::Aborted }
    }
}

bitflags! {
    /// What is to be remembered of a flow beside its phase.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Marks: u32 {
        /// The block is on the list of flows that the next flush looks at.
        const TOUCHED = 1;
        /// The block is on the list of flows that wait for a neighbour's Ethernet address.
        const RESOLVING = 1 << 1;
        /// We have opened the flow: the application knows of it from the first, and hears of its end even if it was
        /// told nothing before.
        const ACTIVE = 1 << 2;
        /// The peer's FIN has been accepted: one more in the receive sequence than bytes.
        const FIN_RECEIVED = 1 << 3;
        /// Something unacknowledged has been waiting since `waiting_since`.
        const WAITING = 1 << 4;
        /// The flow has sent something again and nothing new since; not yet a sign that its way is dead.
        const SENT_AGAIN = 1 << 5;
        /// It has just sent something again: the way to the peer is in doubt.
        const DOUBTED = 1 << 6;
        /// The flow's next hop is being asked for by ARP.
        const IN_DOUBT = 1 << 7;
        /// There is data in the receive ring beyond a hole, up to `island_end`.
        const ISLANDS = 1 << 8;
        /// The earliest segment was lost, and is to be sent again.
        const SEND_AGAIN = 1 << 9;
        /// A timer of smoltcp's has run out, and nothing new was sent since: what is sent was sent before.
        const REWOUND = 1 << 10;
        /// The way to the peer takes no packets as long as our link does: the flow is flushed apart.
        const NARROW = 1 << 15;
        /// smoltcp was told that the flow's peer takes segments of 64 kB, for trains (`train.rs`): the flow is flushed apart, as
        /// a narrow one.
        const LONG = 1 << 21;
        /// All that a narrow flow has in flight is to be sent again, since it was too long.
        const TOO_LONG = 1 << 16;
        /// The peer knows of little room in the receive ring, and hears of more only once it is worth it.
        const TIGHT = 1 << 17;
        /// Both ends have closed, and each has acknowledged that of the other, and the application has yet to read what came
        /// before: the flow has no timer any more, and smoltcp is not asked again, since it would throw that away.
        const OVER = 1 << 19;
        /// The flow is to be reset, since it holds what others need.
        const GIVES_WAY = 1 << 20;
        /// A time-out has passed: if nothing is heard, the way may swallow long packets.
        const SUSPECT = 1 << 18;
        /// What is sent next is to be timed.
        const TIME = 1 << 11;
        /// Everything in flight is to be sent again, since nothing was heard for long.
        const TIMED_OUT = 1 << 12;

        /// What the peer has, or lacks, has changed.
        const MEND = 1 << 13;
        /// All that was sent before a probe and that the peer has not is lost.
        const ALL_LOST = 1 << 14;

        /// What a flush sees to before the flow says what it has to say.
        const UNUSUAL = Self::IN_DOUBT.bits()
            | Self::TIME.bits()
            | Self::NARROW.bits()
            | Self::LONG.bits()
            | Self::SUSPECT.bits()
            | Self::OVER.bits()
            | Self::GIVES_WAY.bits();
        /// What is to be sent again before anything else is sent.
        const AGAIN = Self::SEND_AGAIN.bits() | Self::TIMED_OUT.bits() | Self::MEND.bits() | Self::ALL_LOST.bits();
        /// The marks of lists. They stay with the block until the list lets go of it, whatever flow uses the block by
        /// then.
        const OF_LISTS = Self::TOUCHED.bits() | Self::RESOLVING.bits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_is_let_go_during_its_handshake_is_cancelled() {
        for (phase, closed, aborted) in
            [(Phase::Connecting, Phase::Cancelled, Phase::Cancelled), (Phase::Open, Phase::Released, Phase::Aborted)]
        {
            assert_eq!((phase.closed(), phase.aborted()), (closed, aborted));
            assert!(phase.is_open() && !phase.is_released());
            assert!(closed.is_released() && aborted.is_released() && !closed.is_open() && !aborted.is_open());
        }
    }

    #[test]
    fn a_phase_takes_one_byte() {
        assert_eq!(size_of::<Phase>(), 1);
    }
}
