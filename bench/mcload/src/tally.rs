//! What a worker counts while it runs; tallies of several workers add up.

use hdrhistogram::Histogram;

use crate::mismatch::Mismatch;
use crate::transport::Nanos;

/// Longest time told apart, in nanoseconds; longer ones are recorded as this.
const LONGEST_NS: u64 = 600_000_000_000;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are constants that fit")
}

/// Declares [`Tally`] of its counts and its times.
macro_rules! tally {
    ($($(#[$count_doc:meta])* $count:ident),+; $($(#[$times_doc:meta])* $times:ident),+) => {
        /// Counts, times and the first wrong reply.
        #[derive(Debug, Clone)]
        pub struct Tally {
            $($(#[$count_doc])* pub $count: u64,)+
            /// The first wrong reply seen.
            pub first_wrong: Option<Box<Mismatch>>,
            $($(#[$times_doc])* pub $times: Histogram<u64>,)+
        }

        impl Tally {
            /// Nothing counted yet.
            pub fn new() -> Self {
                Self { $($count: 0,)+ first_wrong: None, $($times: histogram(),)+ }
            }

            /// Adds what another worker counted.
            pub fn add(&mut self, other: Tally) {
                $(self.$count += other.$count;)+
                self.first_wrong = self.first_wrong.take().or(other.first_wrong);
                $(self.$times += other.$times;)+
            }
        }
    };
}

tally! {
    /// Get commands answered, multi-gets included.
    gets,
    /// Keys answered with their value.
    hits,
    /// Keys that were asked for and not there.
    misses,
    /// Sets answered with `STORED`.
    sets,
    /// Connections ended by a wrong reply.
    wrong,
    /// Requests whose reply had not come whole when the time limit passed.
    timed_out,
    /// Requests that were in flight behind one that timed out or had a wrong reply, and went down with its connection.
    abandoned,
    /// Open loop: arrivals, whether they could be sent or not.
    offered,
    /// Open loop: arrivals for which the backlog had no room; never sent.
    overflowed,
    /// Connections opened.
    connects,
    /// Connections that were refused.
    refused,
    /// Connections that were not open when the time limit passed.
    connect_timed_out,
    /// Connections that the server ended while a request was in flight on them.
    cut;
    /// Nanoseconds from the start of a request to the last byte of its reply. The start: closed loop, when it was
    /// handed to the connection; open loop, its intended time; a connection a request, when it began to be opened.
    latency_ns,
    /// Open loop: nanoseconds from the intended time of an arrival until the generator attended to it.
    lateness_ns,
    /// Nanoseconds from the start of opening a connection until it was open.
    connect_ns
}

impl Tally {
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
