//! `Use`: what a connection does with the memory that it holds, and which gives way first where that is short.
//!
//! Judged by what its peer has taken over time, not by when it last took something: a peer that takes a byte each second
//! holds as much as one that takes nothing. Read first: `net_stack/rings.rs`.

use std::time::Duration;

/// How long a connection may take little before it can be useless.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes a second that are not little: what the cache asks of those who hold its values.
const LITTLE: u64 = 16 << 10;

/// What a connection does with what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nobody can tell yet.
    Unknown,
    Good,
    Little(Little),
}

/// How little: the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Little {
    /// The peer's window is closed and it has taken nothing: the longer that is so, the less.
    Closed(std::cmp::Reverse<Duration>),
    /// It takes so many bytes a second.
    Trickles(u64),
    /// Nothing is heard of what was sent to it. It may be the way that is bad.
    Silent(std::cmp::Reverse<Duration>),
}

impl Use {
    /// Of a connection that has more to send than it has been able to, whose peer has taken `taken` bytes in `time`, and whose
    /// window is now `closed` or not.
    pub(crate) fn of(time: Duration, taken: u32, closed: bool) -> Self {
        let micros = time.as_micros() as u64;
        if time < PATIENCE {
            return Self::Unknown;
        }
        let rate = u64::from(taken).saturating_mul(1_000_000) / micros;
        if rate >= LITTLE {
            return Self::Good;
        }
        Self::Little(match taken {
            0 if closed => Little::Closed(std::cmp::Reverse(time)),
            0 => Little::Silent(std::cmp::Reverse(time)),
            _ => Little::Trickles(rate),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_windows_come_first_then_who_takes_least_then_who_is_not_heard() {
        let of = |seconds, taken, closed| Use::of(Duration::from_secs(seconds), taken, closed);
        let Use::Little(first) = of(60, 0, true) else { panic!("it takes nothing") };
        let mut before = first;
        for (seconds, taken, closed) in [
            (59, 0, true),
            (3, 0, true),
            (60, 1, true),
            (3, 1_000, false),
            (3, 40_000, true),
            (60, 0, false),
            (3, 0, false),
        ] {
            let Use::Little(next) = of(seconds, taken, closed) else { panic!("it takes little") };
            assert!(before < next, "{before:?} {next:?}");
            before = next;
        }
    }

    #[test]
    fn nobody_is_useless_within_three_seconds_or_at_16_kib_a_second() {
        assert_eq!(Use::of(Duration::from_millis(2_999), 0, true), Use::Unknown);
        assert_eq!(Use::of(Duration::from_secs(10), 10 * (16 << 10), true), Use::Good);
        assert!(matches!(Use::of(Duration::from_secs(10), 10 * (16 << 10) - 10, true), Use::Little(_)));
    }
}
