//! Time as an argument: the stack has no clock of its own.
//!
//! [`Time`] is real time as the caller tells it. [`FlowClock`] is what smoltcp is told instead: five times as fast,
//! because smoltcp's smallest retransmission time-out is one second and 200 ms serve a data centre better
//! (RFC 6298 §2.4 allows less than a second where it is known to be safe; Linux uses 200 ms too).

use std::time::Duration;

use smoltcp::time::{Duration as FlowDuration, Instant};

/// A moment, in microseconds of real time since some start that the caller chose. Never runs backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The moment at which the caller's clock started.
    pub const ZERO: Self = Self(0);

    /// The moment `micros` microseconds after the start.
    #[inline]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `millis` milliseconds after the start.
    #[inline]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// The moment `since` after the start; what is below a microsecond is cut off.
    #[inline]
    pub fn from_duration(since: Duration) -> Self {
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Microseconds since the start.
    #[inline]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` later; what is below a microsecond is cut off.
    #[inline]
    pub fn after(self, span: Duration) -> Self {
        self.plus(Span::of(span))
    }

    /// Later than every moment.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment `span` later.
    #[inline]
    pub(crate) const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time as it is added to a [`Time`]: in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(u64);

impl Span {
    /// Longer than any time.
    pub(crate) const FOREVER: Self = Self(u64::MAX);

    /// So many microseconds.
    #[inline]
    pub(crate) const fn from_micros(micros: u32) -> Self {
        Self(micros as u64)
    }

    /// The whole microseconds of `duration`.
    #[inline]
    pub(crate) const fn of(duration: Duration) -> Self {
        // `Duration::as_micros` computes in 128 bits.
        Self(duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros() as u64))
    }
}

/// How much faster than real time smoltcp's clock runs.
const SPEED: u64 = 5;

/// Latest moment that can be told to smoltcp, in real microseconds: 29,000 years. Keeps the product within an i64.
const LATEST_MICROS: u64 = i64::MAX as u64 / SPEED / 2;

/// Conversions between real time and the time that smoltcp is told.
///
/// Everything that smoltcp gets, moments and spans alike, must come through here; everything it gives back too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlowClock;

impl FlowClock {
    /// The moment to tell smoltcp.
    #[inline]
    pub(crate) fn instant(now: Time) -> Instant {
        Instant::from_micros((now.0.min(LATEST_MICROS) * SPEED) as i64)
    }

    /// The span to tell smoltcp.
    pub(crate) fn span(real: Duration) -> FlowDuration {
        let micros = u64::try_from(real.as_micros()).unwrap_or(u64::MAX).min(LATEST_MICROS);
        FlowDuration::from_micros(micros * SPEED)
    }

    /// The real moment of what smoltcp said, rounded up, so that a timer never fires before smoltcp would act.
    #[inline]
    pub(crate) fn real(at: Instant) -> Time {
        Time((at.total_micros().max(0) as u64).div_ceil(SPEED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_clock_runs_five_times_as_fast() {
        let at = Time::from_millis(200);
        assert_eq!(FlowClock::instant(at), Instant::from_millis(1_000));
        assert_eq!(FlowClock::span(Duration::from_millis(200)), FlowDuration::from_millis(1_000));
    }

    #[test]
    fn there_and_back_never_lands_early() {
        for micros in [0, 1, 4, 5, 999_999, u64::MAX / 21] {
            let at = Time::from_micros(micros);
            assert_eq!(FlowClock::real(FlowClock::instant(at)), at);
        }
        assert_eq!(FlowClock::real(Instant::from_micros(6)), Time::from_micros(2));
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        assert!(FlowClock::instant(Time::from_micros(u64::MAX)) > Instant::from_millis(0));
        assert_eq!(Time::from_micros(u64::MAX).after(Duration::MAX), Time::from_micros(u64::MAX));
    }
}
