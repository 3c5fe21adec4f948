//! After what silence what a flow has in flight is looked after, and what for (RFC 6298, RFC 8985 §7).
//!
//! After a silence of two round trips and 5 ms the earliest segment is sent once more: it may be the last, whose loss no
//! later one tells. That is once a flight; from then on everything is sent again at each time-out, of which each is twice
//! as long as the one before. This is for peers that tell by SACK what they get twice: a peer that delays its ACKs gives
//! itself away by the first such probe, and is given 50 ms from then on; one whose host is known for that (`delayed_acks.rs`) is
//! given them from the start. Others are left to smoltcp's time-out of 200 ms.

use super::doing::Doing;
use super::{DUPLICATES, LEFT_MICROS, MOST_BYTES, MOST_OVERTAKING, Sending, micros};
use crate::clock::{Span, Time};

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
    /// Nothing until that moment, which is to come.
    Wait(Time),
    /// What is missing before something that has arrived is lost.
    Hole,
    /// The earliest segment is to be sent again, since it may be the last.
    Probe,
    /// Everything is to be sent again.
    TimeOut,
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
        self.patience = if smoothed == 0 || !self.doing.contains(Doing::TELLS) {
            LEFT_MICROS
        } else if self.tries == 0 && self.is_behind_hole() {
            // What comes later has arrived: out of order, if this comes soon.
            let reorders = self.overtaking > DUPLICATES;
            REORDER_MICROS + if reorders { smoothed } else { smoothed / 4 }
        } else if self.tries == 0 {
            2 * smoothed + least
        } else {
            let longest = u64::from(self.round_trip.longest(2 * least)) << (self.tries - 1).min(20);
            longest.min(u64::from(MOST_MICROS)) as u32
        };
    }

    /// Whether the peer has shown that it delays its ACKs.
    pub(crate) fn is_patient(&self) -> bool {
        self.doing.contains(Doing::PATIENT)
    }

    /// The peer has shown before the flow slept, or others of its host have shown, that it delays its ACKs.
    pub(crate) fn be_patient(&mut self) {
        self.doing |= Doing::PATIENT;
        self.set_patience();
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

    /// Says what is to be done for what is in flight, up to `snd_nxt`, nothing having been heard since `heard`. Where
    /// something is to be done, the silence begins anew. `delays`: whether the peer may have what is in flight and delay its ACK,
    /// as its host is known for.
    pub(crate) fn tend(&mut self, now: Time, heard: Time, snd_nxt: u32, delays: impl FnOnce() -> bool) -> Tail {
        if self.round_trip.smoothed() == 0 || !self.doing.contains(Doing::TELLS) {
            return Tail::Leave;
        }
        let mut silence = u32::try_from(now.since(heard).as_micros()).unwrap_or(u32::MAX);
        let tended = self.doing.contains(Doing::TENDED);
        if tended {
            silence = silence.min(micros(now).wrapping_sub(self.since));
        }
        if silence < self.patience {
            return Tail::Wait(now.plus(Span::from_micros(self.patience - silence)));
        }
        if !tended && self.is_behind_hole() {
            return Tail::Hole;
        }
        let judges = !self.doing.intersects(Doing::JUDGED | Doing::TENDED | Doing::RECOVERING | Doing::REWOUND);
        if judges && !self.is_patient() && delays() {
            self.doing |= Doing::JUDGED;
            self.be_patient();
            if silence < self.patience {
                return Tail::Wait(now.plus(Span::from_micros(self.patience - silence)));
            }
        }
        self.doing |= Doing::JUDGED;
        self.since = micros(now);
        self.doing.remove(Doing::TIMING);
        self.doing |= Doing::TENDED;
        self.tries = self.tries.saturating_add(1);
        self.set_patience();
        if tended {
            return Tail::TimeOut;
        }
        if !self.doing.intersects(Doing::RECOVERING | Doing::REWOUND) {
            self.recover = snd_nxt;
            self.doing |= Doing::PROBED;
        }
        Tail::Probe
    }

    /// The peer has got twice what begins at `left`; `moves`: it acknowledges something new. Returns whether that was a probe.
    pub(crate) fn told_of_duplicate(&mut self, left: u32, moves: bool) -> bool {
        // Of what was in flight at the last loss or probe.
        let of_that = self.recover.wrapping_sub(left).wrapping_sub(1) < 2 * self.threshold.min(MOST_BYTES);
        let of_probe = of_that && self.doing.contains(Doing::PROBED);
        if of_probe {
            self.doing.remove(Doing::PROBED);
        }
        let needless = of_probe || self.doing.contains(Doing::TENDED);
        if !self.doing.contains(Doing::TENDED) {
            // Once for each loss, whatever is told twice of it (RFC 8985 §6.2.2: once a round trip).
            if of_that && self.doing.contains(Doing::GUESSED) {
                self.take_back();
            } else if of_probe {
                // It crossed the ACK of what it brought.
                self.be_patient();
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

    /// After a probe or a time-out something new was acknowledged. Returns whether what follows that was lost too.
    pub(super) fn was_needed(&mut self, bytes: u32, in_flight: u32, ack: u32, now: Time) -> bool {
        let since = micros(now).wrapping_sub(self.since);
        self.doing.remove(Doing::TENDED);
        self.tries = 0;
        let too_soon = since < self.round_trip.smoothed() / 2;
        if too_soon {
            // It answers the first sending, which took at least so long.
            self.round_trip.at_least(2 * self.round_trip.smoothed());
        } else {
            self.doing.remove(Doing::PATIENT);
        }
        self.set_patience();
        if too_soon || self.doing.intersects(Doing::RECOVERING | Doing::REWOUND) {
            return false;
        }
        // The probe was the loss's only sign (RFC 8985 §7.4.2).
        if (ack.wrapping_sub(self.recover) as i32) >= 0 {
            self.share.note(1, true);
            if !self.has_room() {
                self.cut(in_flight);
                self.doing |= Doing::GUESSED;
            }
            return false;
        }
        if bytes > u32::from(self.mss) {
            // More than the probe, so that what was sent first has arrived, late, and the rest is on its way (RFC 5682).
            return false;
        }
        self.lose(in_flight, self.recover);
        self.doing.set(Doing::GUESSED, !self.doing.contains(Doing::NOISE));
        true
    }
}
