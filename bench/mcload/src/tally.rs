//! What a worker counts while it runs; tallies of several workers add up.

use hdrhistogram::Histogram;

use crate::mismatch::Mismatch;
use crate::transport::Nanos;

/// Longest time told apart, in nanoseconds; longer ones are recorded as this.
const LONGEST_NS: u64 = 600_000_000_000;

/// Counts, times and the first wrong reply.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Get commands answered, multi-gets included.
    pub gets: u64,
    /// Keys answered with their value.
    pub hits: u64,
    /// Keys that were asked for and not there.
    pub misses: u64,
    /// Sets answered with `STORED`.
    pub sets: u64,
    /// Connections ended by a wrong reply.
    pub wrong: u64,
    /// The first wrong reply seen.
    pub first_wrong: Option<Box<Mismatch>>,
    /// Requests whose reply had not come whole when the time limit passed.
    pub timed_out: u64,
    /// Requests that were in flight behind one that timed out or had a wrong reply, and went down with its connection.
    pub abandoned: u64,
    /// Open loop: arrivals, whether they could be sent or not.
    pub offered: u64,
    /// Open loop: arrivals for which the backlog had no room; never sent.
    pub overflowed: u64,
    /// Connections opened.
    pub connects: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that were not open when the time limit passed.
    pub connect_timed_out: u64,
    /// Connections that the server ended while a request was in flight on them.
    pub cut: u64,
    /// Nanoseconds from the start of a request to the last byte of its reply. The start: closed loop, when it was
    /// handed to the connection; open loop, its intended time; a connection a request, when it began to be opened.
    pub latency_ns: Histogram<u64>,
    /// Open loop: nanoseconds from the intended time of an arrival until the generator attended to it.
    pub lateness_ns: Histogram<u64>,
    /// Nanoseconds from the start of opening a connection until it was open.
    pub connect_ns: Histogram<u64>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are constants that fit")
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self {
            gets: 0,
            hits: 0,
            misses: 0,
            sets: 0,
            wrong: 0,
            first_wrong: None,
            timed_out: 0,
            abandoned: 0,
            offered: 0,
            overflowed: 0,
            connects: 0,
            refused: 0,
            connect_timed_out: 0,
            cut: 0,
            latency_ns: histogram(),
            lateness_ns: histogram(),
            connect_ns: histogram(),
        }
    }

    /// Requests answered rightly.
    #[inline]
    pub fn requests(&self) -> u64 {
        self.gets + self.sets
    }

    /// Requests that have come to an end, well or not.
    pub fn ended(&self) -> u64 {
        self.requests()
            + self.wrong
            + self.timed_out
            + self.abandoned
            + self.overflowed
            + self.refused
            + self.connect_timed_out
            + self.cut
    }

    /// Records a wrong reply; only the first is kept whole.
    pub fn record_wrong(&mut self, mismatch: Box<Mismatch>) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(mismatch);
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: Tally) {
        self.gets += other.gets;
        self.hits += other.hits;
        self.misses += other.misses;
        self.sets += other.sets;
        self.wrong += other.wrong;
        self.timed_out += other.timed_out;
        self.abandoned += other.abandoned;
        self.offered += other.offered;
        self.overflowed += other.overflowed;
        self.connects += other.connects;
        self.refused += other.refused;
        self.connect_timed_out += other.connect_timed_out;
        self.cut += other.cut;
        if self.first_wrong.is_none() {
            self.first_wrong = other.first_wrong;
        }
        self.latency_ns += other.latency_ns;
        self.lateness_ns += other.lateness_ns;
        self.connect_ns += other.connect_ns;
    }
}

/// Records the time from `start` to `end` in a histogram of a tally.
#[inline]
pub fn record(histogram: &mut Histogram<u64>, start: Nanos, end: Nanos) {
    histogram.saturating_record(end.saturating_sub(start).max(1));
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let (mut a, mut b) = (Tally::new(), Tally::new());
        a.gets = 1;
        record(&mut a.latency_ns, 10, 10_000);
        b.sets = 2;
        record(&mut b.latency_ns, 0, 30_000);
        record(&mut b.latency_ns, 0, u64::MAX);
        a.add(b);
        assert_eq!((a.requests(), a.latency_ns.len()), (3, 3));
    }
}
