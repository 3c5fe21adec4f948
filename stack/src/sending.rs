//! `Sending`: how much of a flow may be under way, as its own congestion window says (RFC 5681, RFC 6928, RFC 6582).
//!
//! smoltcp sends up to the end of the window that its peer last told, and to no other limit: the window field of each
//! segment that it reads is first cut to what is said here. Duplicate ACKs are counted here and not shown to it, unless
//! they move the window.

use std::time::Duration;

/// Segments under way at the start (RFC 6928).
const FIRST_SEGMENTS: u32 = 10;
/// Most bytes that those may be, and least that they are (RFC 6928 §2).
const FIRST_BYTES: u32 = 14_600;
/// Duplicate ACKs after which a segment is taken for lost (RFC 5681 §3.2).
const DUPLICATES: u8 = 3;
/// Largest window: beyond any ring.
const MOST_BYTES: u32 = 1 << 24;

/// A flow's congestion window, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sending {
    window: u32,
    /// Where slow start ends.
    threshold: u32,
    /// Bytes acknowledged since the window last grew, beyond slow start.
    gathered: u32,
    /// Everything before this must be acknowledged for a loss to be over.
    recover: u32,
    /// Largest segment.
    mss: u16,
    /// The peer's shift of windows.
    shift: u8,
    duplicates: u8,
    recovering: bool,
    /// Everything up to `recover` is being sent again: duplicates say nothing.
    rewound: bool,
    /// The round-trip time of the handshake, in microseconds.
    round_trip: u32,
    /// What the window is in the peer's units, at most 65,535.
    field: u16,
}

impl Sending {
    /// A window for segments of `mss` bytes to a peer that shifts its windows by `shift`.
    pub(crate) fn new(mss: u16, shift: u8) -> Self {
        let mss_bytes = u32::from(mss.max(1));
        let first = (FIRST_SEGMENTS * mss_bytes).min(FIRST_BYTES.max(2 * mss_bytes));
        let mut sending = Self {
            window: first,
            threshold: MOST_BYTES,
            gathered: 0,
            recover: 0,
            mss: mss.max(1),
            // RFC 7323 §2.3.
            shift: shift.min(14),
            duplicates: 0,
            recovering: false,
            rewound: false,
            round_trip: 0,
            field: 0,
        };
        sending.set_window(first);
        sending
    }

    /// The window, as a field of a segment of the peer.
    #[inline]
    pub(crate) fn field(&self) -> u16 {
        self.field
    }

    /// Notes the round-trip time that the handshake took.
    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
    }

    /// The round-trip time of the handshake.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_micros(u64::from(self.round_trip))
    }

    /// The peer's shift of windows.
    #[cfg(test)]
    fn shift(&self) -> u8 {
        self.shift
    }

    /// The largest segment.
    pub(crate) fn mss(&self) -> u16 {
        self.mss
    }

    /// The window in bytes.
    #[cfg(test)]
    fn window(&self) -> u32 {
        self.window
    }

    fn set_window(&mut self, bytes: u32) {
        self.window = bytes.clamp(u32::from(self.mss), MOST_BYTES);
        self.field = u16::try_from(self.window.div_ceil(1 << self.shift)).unwrap_or(u16::MAX);
    }

    /// The peer has acknowledged `bytes` more, up to `ack`, of `in_flight`. Returns whether the earliest segment is to be
    /// sent again, since it was lost too.
    #[inline]
    pub(crate) fn acknowledged(&mut self, bytes: u32, in_flight: u32, ack: u32) -> bool {
        self.duplicates = 0;
        // A window that was not used says nothing of the path (RFC 7661 §4.2).
        if !self.recovering && in_flight < self.window / 2 {
            return false;
        }
        self.grow(bytes, in_flight, ack)
    }

    fn grow(&mut self, bytes: u32, in_flight: u32, ack: u32) -> bool {
        let mss = u32::from(self.mss);
        if self.recovering {
            if (ack.wrapping_sub(self.recover) as i32) >= 0 {
                self.recovering = false;
                self.set_window(self.threshold.min((in_flight.saturating_sub(bytes)).max(mss) + mss));
                return false;
            }
            // A partial ACK: the next segment was lost too (RFC 6582 §3.2).
            self.set_window(self.window.saturating_sub(bytes) + mss);
            return true;
        }
        if self.window < self.threshold {
            self.set_window(self.window + bytes);
            return false;
        }
        self.gathered += bytes;
        if self.gathered >= self.window {
            self.gathered -= self.window;
            self.set_window(self.window + mss);
        }
        false
    }

    /// An ACK of nothing new has come while `in_flight` bytes, up to `snd_nxt`, are under way. Returns whether the earliest
    /// segment is to be sent again.
    pub(crate) fn duplicate(&mut self, in_flight: u32, snd_nxt: u32) -> bool {
        let acknowledged = snd_nxt.wrapping_sub(in_flight);
        if self.rewound && (acknowledged.wrapping_sub(self.recover) as i32) < 0 {
            return false;
        }
        self.rewound = false;
        let mss = u32::from(self.mss);
        if self.recovering {
            // A segment has left the path.
            self.set_window(self.window + mss);
            return false;
        }
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates != DUPLICATES {
            return false;
        }
        self.lose(in_flight, snd_nxt);
        self.set_window(self.threshold + u32::from(DUPLICATES) * mss);
        true
    }

    /// Notes a loss, with `in_flight` bytes up to `snd_nxt` under way.
    fn lose(&mut self, in_flight: u32, snd_nxt: u32) {
        self.threshold = (in_flight / 2).max(2 * u32::from(self.mss));
        self.recover = snd_nxt;
        self.recovering = true;
        self.gathered = 0;
    }

    /// Nothing has come for long, and everything is sent again from the first segment on (RFC 5681 §3.1).
    pub(crate) fn timed_out(&mut self, in_flight: u32, snd_nxt: u32) {
        self.recover = snd_nxt;
        self.rewound = true;
        self.threshold = (in_flight / 2).max(2 * u32::from(self.mss));
        self.recovering = false;
        self.duplicates = 0;
        self.gathered = 0;
        self.set_window(u32::from(self.mss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_segments_are_under_way_at_first() {
        for (mss, bytes) in [(1_460, 14_600), (536, 5_360), (9_000, 18_000), (2_000, 14_600)] {
            assert_eq!(Sending::new(mss, 0).window(), bytes, "{mss}");
        }
        assert_eq!(Sending::new(1_460, 7).field(), 115, "rounded up");
        assert_eq!(Sending::new(1_460, 255).shift(), 14);
    }

    #[test]
    fn a_window_in_use_doubles_in_a_round_trip_and_then_grows_by_a_segment() {
        let mut sending = Sending::new(1_000, 0);
        for _ in 0..10 {
            assert!(!sending.acknowledged(1_000, 10_000, 0));
        }
        assert_eq!(sending.window(), 20_000);
        sending.threshold = 20_000;
        for _ in 0..20 {
            assert!(!sending.acknowledged(1_000, 20_000, 0));
        }
        assert_eq!(sending.window(), 21_000);
    }

    #[test]
    fn a_window_that_is_not_used_stays() {
        let mut sending = Sending::new(1_000, 0);
        for _ in 0..100 {
            assert!(!sending.acknowledged(1_000, 1_000, 0));
        }
        assert_eq!(sending.window(), 10_000);
    }

    #[test]
    fn a_loss_halves_the_window_once_and_each_partial_ack_asks_for_the_next_segment() {
        let mut sending = Sending::new(1_000, 0);
        assert!(!sending.duplicate(10_000, 10_000));
        assert!(!sending.duplicate(10_000, 10_000));
        assert!(sending.duplicate(10_000, 10_000), "the third");
        assert_eq!(sending.window(), 8_000);
        assert!(!sending.duplicate(10_000, 10_000));
        assert_eq!(sending.window(), 9_000);
        assert!(sending.acknowledged(2_000, 10_000, 2_000), "not all");
        assert!(!sending.acknowledged(8_000, 8_000, 10_000));
        assert!(sending.window() <= 5_000 && !sending.recovering);
    }

    #[test]
    fn after_a_time_out_one_segment_goes() {
        let mut sending = Sending::new(1_000, 3);
        sending.timed_out(10_000, 10_000);
        assert_eq!((sending.window(), sending.field()), (1_000, 125));
        assert!(!sending.acknowledged(1_000, 1_000, 1_000));
        assert_eq!(sending.window(), 2_000);
        for _ in 0..9 {
            assert!(!sending.duplicate(9_000, 10_000), "what was sent again was there");
        }
    }
}
