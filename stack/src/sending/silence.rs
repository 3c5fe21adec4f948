//! After what silence what a flow has in flight is looked after, and what for (RFC 6298, RFC 8985 §7).
//!
//! After a silence of two round trips and 5 ms the earliest segment is sent once more: it may be the last, whose loss no
//! later one tells. That is once a flight; from then on everything is sent again at each time-out, of which each is twice
//! as long as the one before. This is for peers that tell by SACK what they get twice: a peer that delays its ACKs gives
//! itself away by the first such probe, and is given 50 ms from then on. Others are left to smoltcp's time-out of 200 ms.
//!
//! What waits in a queue is not lost. Where the last round trip shows one, the silence is that of RFC 6298 if it is longer,
//! since the mean follows a queue that grows too late. A flow that was quiet knows nothing of the queue that others of its
//! host have filled: it waits as long as their answers take, and longer while nothing was answered that was sent after it
//! (`delays.rs`), up to 200 ms.
//!
//! The answer to a probe of the earliest segment may be that of its first sending. If more is acknowledged directly
//! afterwards, it is, and nothing was lost (as RFC 5682 finds out after a time-out); the round trip took so long.

use super::doing::Doing;
use super::{DUPLICATES, LEFT_MICROS, MOST_BYTES, MOST_OVERTAKING, Sending, micros};
use crate::clock::{Span, Time};
use crate::delays::Others;

/// The silence, beyond two round trips, after which what is in flight is looked after; and the same for a peer that was
/// seen to delay its ACKs (40 ms is the most that Linux does).
const LEAST_MICROS: u32 = 5_000;
const PATIENT_MICROS: u32 = 50_000;
/// The longest silence.
const MOST_MICROS: u32 = 10_000_000;
/// The silence after which what a peer lacks of the end of a flight is lost, beside a quarter of a round trip (RFC 8985 §6.2).
const REORDER_MICROS: u32 = 1_000;

/// What a silence calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing until that moment, which is to come: something was heard.
    Wait(Time),
    /// The same, though nothing was: it waits behind what was sent before.
    Behind(Time),
    /// What is missing before something that has arrived is lost.
    Hole,
    /// The earliest segment is to be sent again, since it may be the last.
    Probe,
    /// Everything is to be sent again.
    TimeOut,
    /// The probe has arrived, and nothing else.
    Lost,
    /// Nothing: it is left to smoltcp.
    Leave,
}

impl Sending {
    /// After what silence what is in flight is to be looked after, from the moment it was sent.
    #[inline]
    pub(crate) fn patience(&self) -> Span {
        Span::from_micros(self.patience)
    }

    pub(super) fn set_patience(&mut self) {
        let smoothed = self.round_trip.smoothed();
        let least = if self.doing.contains(Doing::PATIENT) { PATIENT_MICROS } else { LEAST_MICROS };
        // The mean follows a queue that grows too late.
        let queued = self.longest_in_queue();
        self.patience = if smoothed == 0 || !self.doing.contains(Doing::TELLS) {
            LEFT_MICROS
        } else if self.doing.contains(Doing::UNSURE) {
            REORDER_MICROS + smoothed / 4
        } else if self.tries == 0 && self.is_behind_hole() {
            // What comes later has arrived: out of order, if this comes soon.
            let reorders = self.overtaking > DUPLICATES;
            REORDER_MICROS + if reorders { smoothed } else { smoothed / 4 }
        } else if self.tries == 0 {
            (2 * smoothed + least).max(queued)
        } else {
            let longest = u64::from(self.round_trip.longest(2 * least)) << (self.tries - 1).min(20);
            longest.min(u64::from(MOST_MICROS)) as u32
        };
    }

    /// What was taken for lost because nothing was heard was only late: the window is what it was.
    fn take_back(&mut self) {
        self.doing.remove(Doing::GUESSED);
        self.doing |= Doing::PATIENT;
        self.set_patience();
        self.threshold = MOST_BYTES;
        self.share.halve();
        self.set_window(self.window / 7 * 10);
    }

    /// Whether the peer has something of what is in flight behind a hole, and nothing was taken for lost.
    fn is_behind_hole(&self) -> bool {
        self.doing.contains(Doing::MENDING) && !self.doing.contains(Doing::RECOVERING)
    }

    /// Since when, at the earliest, the last of what was timed and answered had been under way; [`Time::ZERO`]: not known.
    /// What is timed now has been since that was answered.
    pub(crate) fn answered(&self, now: Time) -> Time {
        if !self.doing.contains(Doing::TIMING) {
            return Time::ZERO;
        }
        let ago = u64::from(micros(now).wrapping_sub(self.since)) + u64::from(self.round_trip.longest(0));
        Time::from_micros(now.as_micros().saturating_sub(ago))
    }

    /// How long an answer takes at most, in microseconds, if something waits on the way; else 0.
    pub(crate) fn longest_in_queue(&self) -> u32 {
        if self.doing.contains(Doing::QUEUE) { self.round_trip.longest(0) } else { 0 }
    }

    /// Says what is to be done for what is in flight, up to `snd_nxt`, nothing having been heard since `heard`. Where
    /// something is to be done, the silence begins anew. `others`: those of the same host, behind whose data it may wait.
    pub(crate) fn tend(&mut self, now: Time, heard: Time, snd_nxt: u32, others: Others) -> Tail {
        if self.round_trip.smoothed() == 0 || !self.doing.contains(Doing::TELLS) {
            return Tail::Leave;
        }
        let mut silence = u32::try_from(now.since(heard).as_micros()).unwrap_or(u32::MAX);
        let (tended, unsure) = (self.doing.contains(Doing::TENDED), self.doing.contains(Doing::UNSURE));
        if unsure {
            silence = micros(now).wrapping_sub(self.since);
        } else if tended {
            silence = silence.min(micros(now).wrapping_sub(self.since));
        }
        let hole = !tended && !unsure && self.is_behind_hole();
        if silence < self.patience {
            return Tail::Wait(now.plus(Span::from_micros(self.patience - silence)));
        }
        if !unsure && !hole && silence < LEFT_MICROS {
            let delay = others.delay.min(LEFT_MICROS);
            if silence < delay {
                return Tail::Behind(now.plus(Span::from_micros(delay - silence)));
            }
            // What was sent last was when it was heard last, or later.
            if others.answered.plus(Span::from_micros(silence)) <= now {
                return Tail::Behind(now.plus(Span::from_micros(LEAST_MICROS)));
            }
        }
        if unsure {
            self.doing.remove(Doing::UNSURE);
            self.set_patience();
            return Tail::Lost;
        }
        if hole {
            return Tail::Hole;
        }
        self.since = micros(now);
        if !tended {
            // While it is tended, nothing is timed.
            self.timed = silence;
        }
        self.doing.remove(Doing::TIMING | Doing::LATE);
        self.doing |= Doing::TENDED;
        self.tries = self.tries.saturating_add(1);
        self.set_patience();
        if tended {
            return Tail::TimeOut;
        }
        if !self.doing.intersects(Doing::RECOVERING | Doing::REWOUND) {
            self.recover = snd_nxt;
        }
        Tail::Probe
    }

    /// The peer has got twice what begins at `left`; `moves`: it acknowledges something new. Returns whether that was a probe.
    pub(crate) fn told_of_duplicate(&mut self, left: u32, moves: bool) -> bool {
        if self.doing.contains(Doing::UNSURE) {
            self.doing.remove(Doing::UNSURE);
            self.was_late(0);
        }
        if self.doing.contains(Doing::LATE) {
            self.doing.remove(Doing::LATE);
            return true;
        }
        let needless = self.doing.contains(Doing::TENDED);
        if !needless {
            // Of what was in flight at the last loss.
            let of_that = self.recover.wrapping_sub(left).wrapping_sub(1) < 2 * self.threshold.min(MOST_BYTES);
            // Once for each loss, whatever is told twice of it (RFC 8985 §6.2.2: once a round trip).
            if of_that && self.doing.contains(Doing::GUESSED) {
                self.take_back();
            } else if of_that && !self.doing.contains(Doing::ALLOWED) {
                self.doing |= Doing::ALLOWED;
                self.overtaking = self.overtaking.saturating_mul(2).min(MOST_OVERTAKING);
            }
        } else {
            self.doing |= Doing::PATIENT;
            // Until something new is acknowledged, time-outs go on to double.
            if moves {
                self.doing.remove(Doing::TENDED);
                self.tries = 0;
            }
            self.set_patience();
        }
        needless
    }

    /// After a probe or a time-out something new was acknowledged.
    pub(super) fn was_tended(&mut self, bytes: u32, in_flight: u32, ack: u32, now: Time) {
        let since = micros(now).wrapping_sub(self.since);
        self.doing.remove(Doing::TENDED);
        self.tries = 0;
        let again = self.doing.intersects(Doing::RECOVERING | Doing::REWOUND);
        // It answers the first sending, which took at least so long.
        let too_soon = since < self.round_trip.smoothed() / 2;
        let all = (ack.wrapping_sub(self.recover) as i32) >= 0;
        // More than the probe, so that what was sent first has arrived, late, and the rest is on its way (RFC 5682).
        if too_soon || !again && !all && bytes > u32::from(self.mss) {
            return self.was_late(since);
        }
        self.doing.remove(Doing::PATIENT);
        if all && !again {
            // The probe was the loss's only sign (RFC 8985 §7.4.2).
            self.share.note(1, true);
            if !self.has_room() {
                self.cut(in_flight);
                self.doing |= Doing::GUESSED;
            }
        } else if !again {
            // Either of the two has arrived. If it was the first, what follows it arrives directly behind.
            self.doing |= Doing::UNSURE;
            self.since = micros(now);
            self.timed = self.timed.saturating_add(since);
        }
        self.set_patience();
    }

    /// After [`was_tended`](Self::was_tended) could not tell, something more was acknowledged: all was late.
    pub(super) fn was_unsure(&mut self, now: Time) {
        self.doing.remove(Doing::UNSURE);
        self.was_late(micros(now).wrapping_sub(self.since));
    }

    /// What was sent again was only late, by the silence before and what has passed `since`: that is how long it took.
    fn was_late(&mut self, since: u32) {
        self.doing |= Doing::LATE | Doing::QUEUE;
        self.round_trip.at_least(self.timed.saturating_add(since));
        self.set_patience();
    }

    /// The probe has arrived, and what followed it is lost: `in_flight` bytes.
    pub(crate) fn lose_after_probe(&mut self, in_flight: u32) {
        self.lose(in_flight + u32::from(self.mss), self.recover);
        self.doing.set(Doing::GUESSED, !self.doing.contains(Doing::NOISE));
    }
}
