//! `Tally`: what one queue's mode counts. Owned by its thread, added up after the end.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Why a frame was freed instead of used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Too short for the headers that it announces.
    Truncated,
    /// Neither of our address's family nor ARP; also what is behind a VLAN tag.
    OtherFamily,
    /// Sent to, or from, a group's Ethernet address: it cannot be reflected.
    Group,
    /// For another address.
    OtherAddress,
    /// A fragment: only the first has ports.
    Fragment,
    /// A packet for us that is neither TCP nor UDP; over IPv6 also one with an extension header, none of which is passed over.
    OtherProtocol,
    /// For us, at a port that we do not use.
    OtherPort,
    /// ARP or neighbour discovery that asks nothing of us.
    OtherNeighbor,
    /// A wrong IPv4 header or UDP checksum (looked at by ping only).
    BadChecksum,
    /// UDP at our port that is no answer to a ping of ours: wrong length, or bytes that are not those sent.
    BadPayload,
    /// An answer to a frame that was answered already, given up as lost, or sent by another queue.
    Unexpected,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Truncated, "truncated"),
        (Self::OtherFamily, "other_family"),
        (Self::Group, "group"),
        (Self::OtherAddress, "other_address"),
        (Self::Fragment, "fragment"),
        (Self::OtherProtocol, "other_protocol"),
        (Self::OtherPort, "other_port"),
        (Self::OtherNeighbor, "other_neighbor"),
        (Self::BadChecksum, "bad_checksum"),
        (Self::BadPayload, "bad_payload"),
        (Self::Unexpected, "unexpected"),
    ];
}

/// Frames freed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Frames freed for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Frames freed for any reason.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

/// Frames and their bytes, without frame check sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Counts a frame of so many bytes.
    pub fn count(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// How many frames a call moved, in buckets 1, 2-3, 4-7, ... 64. Calls that moved none are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batches {
    /// Calls, by the binary logarithm of the frames they moved.
    pub calls: [u64; 7],
    /// Frames in all.
    pub frames: u64,
}

impl Batches {
    /// Counts a call that moved so many frames.
    pub fn count(&mut self, frames: usize) {
        if let Some(bucket) = frames.checked_ilog2() {
            self.calls[(bucket as usize).min(6)] += 1;
            self.frames += frames as u64;
        }
    }

    /// Frames a call, 0 without any.
    pub fn mean(&self) -> f64 {
        match self.calls.iter().sum::<u64>() {
            0 => 0.0,
            calls => self.frames as f64 / calls as f64,
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls.iter_mut().zip(other.calls).for_each(|(sum, more)| *sum += more);
        self.frames += other.frames;
    }
}

/// What only ping counts. `sent = answered + lost` once it has ended.
#[derive(Debug, Clone)]
pub struct Trips {
    /// Frames sent.
    pub sent: u64,
    /// Answers that came in time and whole.
    pub answered: u64,
    /// Frames that no right answer came to before the time-out.
    pub lost: u64,
    /// Answers to a frame sent before one already answered (RFC 4737 §3.3, by the sender's sequence).
    pub reordered: u64,
    /// Round-trip times in nanoseconds: from the intended time of sending to the turn that saw the answer.
    pub rtt: Histogram<u64>,
    /// How late frames were sent, in nanoseconds; empty without a rate.
    pub lateness: Histogram<u64>,
}

/// Longest time that is told apart, in nanoseconds; longer ones count as this.
const HISTOGRAM_NANOS_MAX: u64 = 60_000_000_000;

impl Default for Trips {
    fn default() -> Self {
        let histogram = || {
            // Fails for bounds out of order or more than 5 digits only.
            let mut histogram = Histogram::new_with_max(HISTOGRAM_NANOS_MAX, 3).expect("the bounds are in order");
            histogram.clear();
            histogram
        };
        Self { sent: 0, answered: 0, lost: 0, reordered: 0, rtt: histogram(), lateness: histogram() }
    }
}

impl Trips {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.lost += other.lost;
        self.reordered += other.reordered;
        // Both have the same bounds.
        self.rtt.add(&other.rtt).expect("equal bounds");
        self.lateness.add(&other.lateness).expect("equal bounds");
    }
}

/// What one queue's mode has counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Frames received.
    pub rx: Traffic,
    /// Frames sent.
    pub tx: Traffic,
    /// Frames received and freed, by reason.
    pub drops: Drops,
    /// ARP requests and neighbour solicitations answered; these are in `rx` and `tx` too.
    pub neighbors_answered: u64,
    /// Frames a receiving call.
    pub rx_batches: Batches,
    /// Frames a sending call.
    pub tx_batches: Batches,
    /// Turns, also those in which nothing moved.
    pub turns: u64,
    /// Times the thread went to sleep for want of frames.
    pub sleeps: u64,
    /// Ping's.
    pub trips: Option<Trips>,
    /// When the first frame moved, and the last.
    pub active: Option<(Duration, Duration)>,
}

impl Tally {
    /// Notes that frames moved at this time.
    pub fn note_activity(&mut self, now: Duration) {
        let first = self.active.map_or(now, |(first, _)| first);
        self.active = Some((first, now));
    }

    /// From the first frame to the last; zero when fewer than two turns moved any.
    pub fn active_time(&self) -> Duration {
        self.active.map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first))
    }

    /// Adds another queue's counts; the active time becomes that of both together.
    pub fn add(&mut self, other: &Self) {
        self.rx.add(&other.rx);
        self.tx.add(&other.tx);
        self.drops.add(&other.drops);
        self.neighbors_answered += other.neighbors_answered;
        self.rx_batches.add(&other.rx_batches);
        self.tx_batches.add(&other.tx_batches);
        self.turns += other.turns;
        self.sleeps += other.sleeps;
        if let Some(trips) = &other.trips {
            self.trips.get_or_insert_default().add(trips);
        }
        self.active = match (self.active, other.active) {
            (Some((first, last)), Some((other_first, other_last))) => {
                Some((first.min(other_first), last.max(other_last)))
            }
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_counts_where_it_says() {
        let mut drops = Drops::default();
        for (at, (reason, _)) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            drops.count(reason);
            assert_eq!(drops.of(reason), 1);
        }
        assert_eq!(drops.all(), 11);
    }

    #[test]
    fn batches_fall_into_powers_of_two() {
        let mut batches = Batches::default();
        [0, 1, 2, 3, 63, 64].into_iter().for_each(|frames| batches.count(frames));
        assert_eq!(batches.calls, [1, 2, 0, 0, 0, 1, 1]);
        assert!((batches.mean() - 133.0 / 5.0).abs() < 1e-9);
        assert_eq!(Batches::default().mean(), 0.0);
    }

    #[test]
    fn tallies_add_up_and_span_the_time_of_both() {
        let mut sum = Tally { active: Some((Duration::from_secs(2), Duration::from_secs(3))), ..Tally::default() };
        let trips = Trips { sent: 3, answered: 2, lost: 1, ..Trips::default() };
        let active = Some((Duration::from_secs(1), Duration::from_secs(2)));
        sum.add(&Tally { trips: Some(trips), active, turns: 4, ..Tally::default() });
        assert_eq!(sum.active_time(), Duration::from_secs(2));
        assert_eq!((sum.turns, sum.trips.map(|trips| (trips.sent, trips.answered, trips.lost))), (4, Some((3, 2, 1))));
    }
}
