//! `Doing`: what is going on with what a flow has under way.

use bitflags::bitflags;

bitflags! {
    /// What is going on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Doing: u16 {
        /// A loss is being made good, until `recover` is acknowledged.
        const RECOVERING = 1;
        /// Everything up to `recover` is being sent again: duplicates say nothing.
        const REWOUND = 1 << 1;
        /// The round trip that began at `since` ends by the first ACK beyond `timed`.
        const TIMING = 1 << 2;
        /// Something was sent again at `since`, because nothing was heard.
        const TENDED = 1 << 3;
        /// Duplicate ACKs have been counted.
        const COUNTING = 1 << 4;
        /// The peer acknowledges late what is not lost.
        const PATIENT = 1 << 5;
        /// The peer tells what it gets twice (RFC 2883).
        const TELLS = 1 << 6;
        /// It has told what it has of what is in flight (`scoreboard.rs`).
        const MENDING = 1 << 7;
        /// The loss that is being made good is none that the way's being full explains.
        const NOISE = 1 << 8;
        /// It was taken for a time-out, and the window grows from one segment.
        const REBUILDS = 1 << 9;

        /// The last round trip that was timed shows that something waits on the way.
        const QUEUE = 1 << 10;
        /// The last loss was none that the way's being full explains: the window grows fast.
        const NOISY = 1 << 11;
        /// More was overtaken than was allowed for in the loss that is being made good.
        const ALLOWED = 1 << 12;
        /// The last loss was guessed from a silence.
        const GUESSED = 1 << 13;
        /// What the host is known for is not asked any more: the flow waits as that says, or was probed for itself.
        const JUDGED = 1 << 14;
        /// Of what is before `recover` nothing was sent again but a probe, and nobody has told that it came twice.
        const PROBED = 1 << 15;

        /// Why a window grows though a loss is being made good.
        const GROWS = Self::NOISE.bits() | Self::REBUILDS.bits();
        /// For what the next ACK of something new is to be looked at.
        const MATTERS = Self::RECOVERING.bits()
            | Self::REWOUND.bits()
            | Self::TIMING.bits()
            | Self::TENDED.bits()
            | Self::COUNTING.bits()
            | Self::MENDING.bits();
    }
}
