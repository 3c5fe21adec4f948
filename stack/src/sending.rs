//! `Sending`: how much of a flow may be under way, as its own congestion window says (RFC 5681, RFC 6928, RFC 6582), and
//! when what is under way is looked after because nothing is heard (`sending/silence.rs`).
//!
//! smoltcp sends up to the end of the window that its peer last told, and to no other limit: the window field of each
//! segment that it reads is first cut to what is said here. Duplicate ACKs are counted here and not shown to it, unless
//! they move the window.
//!
//! A loss is no sign that the way is full where round trips are as short as ever and less than 2 % of what was sent lately
//! was lost: such a path loses at random, and the window stays and grows as if nothing had been lost (see ARCHITECTURE.md for
//! what that is compared with, and for its fairness).

use std::time::Duration;

use crate::clock::Time;
use crate::loss_share::LossShare;
use crate::phase::Marks;
use crate::round_trip::RoundTrip;
use crate::scoreboard::Ages;

mod doing;
mod silence;

use doing::Doing;
pub(crate) use silence::Tail;

/// Segments under way at the start (RFC 6928).
const FIRST_SEGMENTS: u32 = 10;
/// Most bytes that those may be, and least that they are (RFC 6928 §2).
const FIRST_BYTES: u32 = 14_600;
/// Duplicate ACKs after which a segment is taken for lost (RFC 5681 §3.2).
const DUPLICATES: u8 = 3;
/// The most of them that a path which reorders is given.
const MOST_OVERTAKING: u8 = 96;
/// Most segments under way, whatever the window: of an Ethernet's length the largest transmit ring holds fewer. Of shorter ones
/// a large window could hold thousands, and each of them costs whoever looks for what the peer lacks (`net_stack/mend.rs`).
const MOST_SEGMENTS: u32 = 1_024;
/// Largest window: beyond any ring.
const MOST_BYTES: u32 = 1 << 24;
/// The silence while that is left to smoltcp: its shortest time-out.
const LEFT_MICROS: u32 = 200_000;
/// A round trip may take so much longer than a quarter above the least, since the machines at both ends are busy.
const BUSY_MICROS: u32 = 500;

/// A flow's congestion window, in bytes, and its time-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sending {
    window: u32,
    /// Where slow start ends.
    threshold: u32,
    /// Bytes acknowledged since the window last grew, beyond slow start.
    gathered: u32,
    /// Everything before this must be acknowledged for a loss to be over.
    recover: u32,
    round_trip: RoundTrip,
    /// See [`Doing::TIMING`], [`Doing::TENDED`]: the low bits of microseconds.
    since: u32,
    timed: u32,
    /// How long a silence is waited for, in microseconds.
    patience: u32,
    /// Of what was sent lately, what was lost.
    share: LossShare,
    /// Largest segment.
    mss: u16,
    /// What the window is in the peer's units, at most 65,535.
    field: u16,
    /// The peer's shift of windows.
    shift: u8,
    duplicates: u8,
    /// So many segments that arrive before one say that it is lost.
    overtaking: u8,
    /// Probes and time-outs since something new was acknowledged.
    tries: u8,
    doing: Doing,
}

impl Sending {
    /// A window for segments of `mss` bytes to a peer that shifts its windows by `shift`. `tells`: it uses SACK.
    pub(crate) fn new(mss: u16, shift: u8, tells: bool) -> Self {
        let mss_bytes = u32::from(mss.max(1));
        let first = (FIRST_SEGMENTS * mss_bytes).min(FIRST_BYTES.max(2 * mss_bytes));
        let mut sending = Self {
            window: first,
            threshold: MOST_BYTES,
            gathered: 0,
            recover: 0,
            round_trip: RoundTrip::default(),
            since: 0,
            timed: 0,
            patience: LEFT_MICROS,
            share: LossShare::default(),
            mss: mss.max(1),
            field: 0,
            // RFC 7323 §2.3.
            shift: shift.min(14),
            duplicates: 0,
            overtaking: DUPLICATES,
            tries: 0,
            doing: if tells { Doing::TELLS } else { Doing::empty() },
        };
        sending.set_window(first);
        sending
    }

    /// The window, as a field of a segment of the peer.
    #[inline]
    pub(crate) fn field(&self) -> u16 {
        self.field
    }

    /// The smoothed round-trip time; zero: none was measured.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_micros(u64::from(self.round_trip.smoothed()))
    }

    /// The largest segment.
    pub(crate) fn mss(&self) -> u16 {
        self.mss
    }

    /// From now on the largest segment has `mss` bytes. The window stays: no segment was lost for want of room on the way
    /// (RFC 1191 §6.4).
    pub(crate) fn set_mss(&mut self, mss: u16) {
        self.mss = mss.max(1);
        self.set_window(self.window);
    }

    /// Everything up to `snd_nxt` is sent again, not since the way was full.
    pub(crate) fn rewind(&mut self, snd_nxt: u32) {
        self.recover = snd_nxt;
        self.doing.remove(Doing::RECOVERING | Doing::TIMING | Doing::GROWS | Doing::PROBED);
        self.doing |= Doing::REWOUND;
        self.duplicates = 0;
    }

    /// The window in bytes.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// Whole segments.
    fn set_window(&mut self, bytes: u32) {
        let mss = u32::from(self.mss);
        let bytes = bytes.clamp(mss, MOST_BYTES);
        self.window = bytes - bytes % mss;
        self.set_held(0);
    }

    /// Says how many bytes in flight take no room of the window, until it changes: those that the peer has, and those that
    /// are lost and were not sent again.
    pub(crate) fn set_held(&mut self, held: u32) {
        let bytes = self.window + held.min(MOST_BYTES);
        let most = (MOST_SEGMENTS * u32::from(self.mss)) >> self.shift;
        // Rounded up: the rest that this lets out is held back (`hold_rest_back`).
        let field = bytes.div_ceil(1 << self.shift).min(most.max(1));
        self.field = u16::try_from(field).unwrap_or(u16::MAX);
    }

    /// Notes whether there is a scoreboard.
    pub(crate) fn set_mending(&mut self, mending: bool) {
        if self.doing.contains(Doing::MENDING) == mending {
            return;
        }
        self.doing.set(Doing::MENDING, mending);
        self.set_patience();
        if !mending {
            self.set_held(0);
        } else if self.doing.contains(Doing::RECOVERING) {
            // Duplicates have made it larger, since they told of what had arrived: the scoreboard does that now.
            self.set_window(self.window.min(self.threshold));
        }
    }

    /// Whether everything is being sent again.
    pub(crate) fn is_rewound(&self) -> bool {
        self.doing.contains(Doing::REWOUND)
    }

    /// Whether a loss is being made good.
    pub(crate) fn is_recovering(&self) -> bool {
        self.doing.contains(Doing::RECOVERING)
    }

    /// What must be acknowledged for a loss to be over.
    pub(crate) fn recover(&self) -> u32 {
        self.recover
    }

    /// So many bytes behind something have arrived before it did: that much is no loss.
    pub(crate) fn was_overtaken(&mut self, bytes: u32) {
        let segments = bytes.div_ceil(u32::from(self.mss)) + 1;
        self.overtaking = self.overtaking.max(segments.min(u32::from(MOST_OVERTAKING)) as u8);
    }

    /// More bytes than that must have arrived behind something for it to be lost.
    pub(crate) fn much(&self) -> u32 {
        u32::from(self.overtaking - 1) * u32::from(self.mss)
    }

    /// Notes a loss, if enough has arrived behind something (`arrived`, or so many ACKs say so) and no loss is being made good.
    /// Returns whether that is so. `on_the_way`: bytes in flight that the peer has not.
    pub(crate) fn lose_if(&mut self, arrived: bool, on_the_way: u32, snd_nxt: u32) -> bool {
        if self.doing.contains(Doing::NOISE) && !self.is_noise() {
            self.cut(on_the_way);
        }
        if self.doing.intersects(Doing::RECOVERING | Doing::REWOUND) || !arrived && self.duplicates < self.overtaking {
            return false;
        }
        self.lose(on_the_way, snd_nxt);
        true
    }

    fn is_noise(&self) -> bool {
        self.doing.contains(Doing::MENDING) && self.has_room()
    }

    /// Whether what is lost is not lost because the way is full.
    fn has_room(&self) -> bool {
        !self.share.is_much() && !self.doing.contains(Doing::QUEUE)
    }

    /// Something that begins at `from` was lost and is sent again, up to `to`.
    pub(crate) fn sent_again(&mut self, from: u32, to: u32) {
        self.share.note(to.wrapping_sub(from) / u32::from(self.mss), true);
        // It could not be told which of the two was acknowledged (Karn).
        if self.timed.wrapping_sub(from) < to.wrapping_sub(from) {
            self.doing.remove(Doing::TIMING);
        }
    }

    /// The peer has what begins at `from`, up to `to`, behind something that it lacks.
    pub(crate) fn arrived(&mut self, from: u32, to: u32, now: Time) {
        if self.doing.contains(Doing::TIMING) && self.timed.wrapping_sub(from) < to.wrapping_sub(from) {
            self.end_timing(now);
        }
    }

    fn end_timing(&mut self, now: Time) {
        self.doing.remove(Doing::TIMING);
        self.take_measure(micros(now).wrapping_sub(self.since));
    }

    /// How long something that was sent again must have been under way (`Scoreboard::sort_out`).
    pub(crate) fn ages(&self) -> Ages {
        let smoothed = self.round_trip.smoothed();
        let reorders = self.overtaking > DUPLICATES;
        Ages { arrives: smoothed / 2, lost: if reorders { smoothed + smoothed / 4 } else { 0 } }
    }

    /// A window field that lets out what is in flight: to the last byte if nothing is `unsent`, else no byte of that.
    pub(crate) fn field_for(&self, in_flight: u32, unsent: bool) -> u16 {
        let unit = 1 << self.shift;
        let field = if unsent { in_flight / unit } else { in_flight.div_ceil(unit) };
        u16::try_from(field).unwrap_or(u16::MAX)
    }

    /// Up to where a window field of `told` lets out what begins at `una`.
    pub(crate) fn lets_out_to(&self, una: u32, told: u16) -> u32 {
        una.wrapping_add(u32::from(told) << self.shift)
    }

    /// Whether a window field of `told` lets out more than `in_flight` bytes.
    pub(crate) fn lets_out(&self, told: u16, in_flight: u32) -> bool {
        u32::from(told) << self.shift > in_flight
    }

    /// Notes a round-trip time.
    pub(crate) fn measured(&mut self, round_trip: Duration) {
        self.take_measure(u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX));
    }

    fn take_measure(&mut self, micros: u32) {
        let queue = self.round_trip.measured(micros, BUSY_MICROS);
        self.doing.set(Doing::QUEUE, queue);
        self.set_patience();
    }

    /// Times what is sent at `now`, which begins at `snd_nxt`, unless something else is timed or was sent again: then it could
    /// not be told which of the two was acknowledged (Karn).
    pub(crate) fn time(&mut self, now: Time, snd_nxt: u32) {
        let unclear = self.doing.contains(Doing::RECOVERING) && !self.doing.contains(Doing::MENDING);
        if !self.doing.intersects(Doing::TIMING | Doing::TENDED | Doing::REWOUND) && !unclear {
            self.doing |= Doing::TIMING;
            (self.since, self.timed) = (micros(now), snd_nxt);
        }
    }

    /// The peer has acknowledged `bytes` more, up to `ack`, of `in_flight`. Returns what is to be seen to before something is sent.
    #[inline]
    pub(crate) fn acknowledged(&mut self, bytes: u32, in_flight: u32, ack: u32, now: Time) -> Marks {
        // A window that was not used says nothing of the path (RFC 7661 §4.2).
        if !self.doing.intersects(Doing::MATTERS) && in_flight < self.window / 2 {
            return Marks::empty();
        }
        self.consider(bytes, in_flight, ack, now)
    }

    #[inline(never)]
    fn consider(&mut self, bytes: u32, in_flight: u32, ack: u32, now: Time) -> Marks {
        self.doing.remove(Doing::COUNTING);
        self.duplicates = 0;
        self.share.note(bytes / u32::from(self.mss), false);
        if self.doing.contains(Doing::TIMING) && (ack.wrapping_sub(self.timed) as i32) > 0 {
            self.end_timing(now);
        }
        if self.doing.contains(Doing::TENDED) && self.was_needed(bytes, in_flight, ack, now) {
            return Marks::ALL_LOST;
        }
        if self.doing.contains(Doing::REWOUND) && (ack.wrapping_sub(self.recover) as i32) >= 0 {
            self.doing.remove(Doing::REWOUND);
        }
        let used = self.doing.contains(Doing::RECOVERING) || in_flight >= self.window / 2;
        let call = if used { self.grow(bytes, in_flight, ack) } else { Marks::empty() };
        if self.doing.contains(Doing::MENDING) { Marks::MEND | Marks::TIME } else { call }
    }

    fn grow(&mut self, bytes: u32, in_flight: u32, ack: u32) -> Marks {
        let mss = u32::from(self.mss);
        let recovers = self.doing.contains(Doing::RECOVERING);
        let (mends, grows) = (self.doing.contains(Doing::MENDING), self.doing.intersects(Doing::GROWS));
        if recovers && (ack.wrapping_sub(self.recover) as i32) >= 0 {
            self.doing.remove(Doing::RECOVERING | Doing::GROWS);
            self.set_patience();
            if !self.doing.contains(Doing::ALLOWED) {
                self.overtaking = (self.overtaking - self.overtaking.div_ceil(8)).max(DUPLICATES);
            }
            if !mends {
                self.set_window(self.threshold.min((in_flight.saturating_sub(bytes)).max(mss) + mss));
            }
        } else if recovers && !mends {
            // A partial ACK: the next segment was lost too (RFC 6582 §3.2).
            self.set_window(self.window.saturating_sub(bytes) + mss);
            return Marks::SEND_AGAIN;
        }
        if recovers && !grows {
            return Marks::empty();
        }
        if self.window < self.threshold {
            self.gathered += bytes;
            let whole = self.gathered - self.gathered % mss;
            self.gathered -= whole;
            self.set_window(self.window + whole);
        } else if self.doing.contains(Doing::NOISY) {
            // By a quarter a round trip, as a way is tried that is not known to be full (draft-ietf-ccwg-bbr).
            self.gathered += bytes / 4;
            let whole = self.gathered - self.gathered % mss;
            self.gathered -= whole;
            self.set_window(self.window + whole);
        } else {
            self.gathered += bytes;
            // Since a loss takes less of the window than half, it grows slower than by a segment a round trip, until it is what
            // it was (RFC 9438 §4.3: by 9/17): so it takes its share beside others, as Reno does.
            let recovered = self.window >= self.threshold / 7 * 10;
            let needed = if recovered { self.window } else { self.window / 9 * 17 };
            if self.gathered >= needed {
                self.gathered -= needed;
                self.set_window(self.window + mss);
            }
        }
        Marks::TIME
    }

    /// An ACK of nothing new has come while `in_flight` bytes, up to `snd_nxt`, are under way. Returns whether the earliest
    /// segment is to be sent again.
    pub(crate) fn duplicate(&mut self, in_flight: u32, snd_nxt: u32) -> bool {
        let acknowledged = snd_nxt.wrapping_sub(in_flight);
        if self.doing.contains(Doing::REWOUND) && (acknowledged.wrapping_sub(self.recover) as i32) < 0 {
            return false;
        }
        self.doing.remove(Doing::REWOUND);
        let mss = u32::from(self.mss);
        if self.doing.contains(Doing::MENDING) {
            self.doing |= Doing::COUNTING;
            self.duplicates = self.duplicates.saturating_add(1);
            return false;
        }
        if self.doing.contains(Doing::RECOVERING) {
            // A segment has left the path.
            self.set_window(self.window + mss);
            return false;
        }
        self.doing |= Doing::COUNTING;
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates != DUPLICATES {
            return false;
        }
        self.lose(in_flight, snd_nxt);
        self.set_window(self.threshold + u32::from(DUPLICATES) * mss);
        true
    }

    /// What the window is cut to when something of `in_flight` bytes was lost (RFC 9438 §4.6). Where little is under way, there
    /// was little to send, and the path has taken half of the window before: it grows only then (RFC 7661 §4.3, pipeACK).
    fn reduced(&self, in_flight: u32) -> u32 {
        (in_flight.clamp(self.window / 2, self.window) / 10 * 7).max(2 * u32::from(self.mss))
    }

    /// The way is full: the window is cut, once for each loss.
    fn cut(&mut self, in_flight: u32) {
        self.threshold = self.reduced(in_flight);
        self.gathered = 0;
        self.doing.remove(Doing::NOISE | Doing::NOISY);
        self.share.halve();
        self.set_window(self.window.min(self.threshold));
    }

    /// Notes a loss, with `in_flight` bytes under way, which is over when `recover` is acknowledged.
    fn lose(&mut self, in_flight: u32, recover: u32) {
        self.recover = recover;
        self.doing.remove(Doing::ALLOWED | Doing::GUESSED | Doing::PROBED);
        self.doing |= Doing::RECOVERING;
        self.set_patience();
        if self.is_noise() {
            self.doing |= Doing::NOISE | Doing::NOISY;
            return;
        }
        if !self.doing.contains(Doing::MENDING) {
            self.doing.remove(Doing::TIMING);
        }
        self.cut(in_flight);
    }

    /// What the peer lacks of what is in flight, up to `snd_nxt`, is sent again, since nothing has come for long: it is known
    /// which it has.
    pub(crate) fn timed_out_mending(&mut self, in_flight: u32, snd_nxt: u32) {
        self.recover = snd_nxt;
        self.cut(in_flight);
        self.doing.remove(Doing::TIMING | Doing::PROBED);
        self.doing |= Doing::RECOVERING | Doing::REBUILDS;
        self.set_patience();
        self.set_window(u32::from(self.mss));
    }

    /// Nothing has come for long, and everything is sent again from the first segment on (RFC 5681 §3.1).
    pub(crate) fn timed_out(&mut self, in_flight: u32, snd_nxt: u32) {
        self.recover = snd_nxt;
        self.threshold = self.reduced(in_flight);
        self.doing.remove(Doing::RECOVERING | Doing::TIMING | Doing::MENDING | Doing::GROWS | Doing::PROBED);
        self.doing |= Doing::REWOUND;
        self.duplicates = 0;
        self.gathered = 0;
        self.set_window(u32::from(self.mss));
    }
}

/// The low bits of a moment's microseconds.
pub(crate) fn micros(at: Time) -> u32 {
    at.as_micros() as u32
}

#[cfg(test)]
mod tests;
