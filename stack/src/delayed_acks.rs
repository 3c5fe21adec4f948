//! `DelayedAcks`: the hosts that delay their ACKs (RFC 1122 §4.2.3.2), as the probes of flows to them have shown.
//!
//! A flow sends its last segment once more after a few milliseconds of silence (`sending/silence.rs`). A peer that delays its ACKs gets
//! it twice and says so, and that flow waits longer from then on; but each new flow to that host would have to learn it. Here
//! what the probes to a host have come to is counted for the flows that come after them. Only where next to all were in vain a
//! flow waits from the start: where segments are lost, waiting costs more than a segment that is there already.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::by_address::ByAddress;
use crate::clock::Time;

/// Least probes in vain for a host to be known: an ACK that is lost makes one, too.
const LEAST: u16 = 4;
/// Of so many probes in vain one may have been needed.
const OF: u16 = 32;
/// From so many probes on both counts are halved: what was long ago counts ever less.
const MANY: u16 = 1_024;
/// How long a host is remembered to which no probe was sent.
const LIFE: Duration = Duration::from_secs(600);

/// What the probes to a host have come to.
#[derive(Debug, Clone, Copy, Default)]
struct Probes {
    /// Those in flight among them: they count as needed until they are told to be in vain.
    sent: u16,
    in_vain: u16,
}

/// What the probes to the hosts of a core's flows have come to.
#[derive(Debug)]
pub(crate) struct DelayedAcks(ByAddress<Probes>);

impl DelayedAcks {
    /// Nothing known. `secret`: see [`ByAddress::new`].
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        Self(ByAddress::new(secret))
    }

    /// A probe was sent to the host.
    pub(crate) fn probed(&mut self, now: Time, host: Ipv4Addr) {
        let mut probes = self.of(now, host);
        if probes.sent >= MANY {
            probes = Probes { sent: probes.sent / 2, in_vain: probes.in_vain / 2 };
        }
        probes.sent += 1;
        self.0.note(host, probes, now.after(LIFE));
    }

    /// The host has said that it had what a probe brought.
    pub(crate) fn in_vain(&mut self, now: Time, host: Ipv4Addr) {
        let mut probes = self.of(now, host);
        if probes.in_vain < probes.sent {
            probes.in_vain += 1;
            self.0.note(host, probes, now.after(LIFE));
        }
    }

    /// Whether the host is known to delay its ACKs.
    pub(crate) fn delays(&self, now: Time, host: Ipv4Addr) -> bool {
        let Probes { sent, in_vain } = self.of(now, host);
        in_vain >= LEAST && sent - in_vain <= in_vain / OF
    }

    /// Forgets the host: its address is another's from now on.
    pub(crate) fn forget(&mut self, host: Ipv4Addr) {
        self.0.forget(host);
    }

    fn of(&self, now: Time, host: Ipv4Addr) -> Probes {
        self.0.find(host).filter(|&(_, until)| now < until).map_or(Probes::default(), |(probes, _)| probes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn after(outcomes: impl IntoIterator<Item = bool>) -> DelayedAcks {
        let mut hosts = DelayedAcks::new([1, 2]);
        for in_vain in outcomes {
            hosts.probed(Time::ZERO, HOST);
            if in_vain {
                hosts.in_vain(Time::ZERO, HOST);
            }
        }
        hosts
    }

    #[test]
    fn a_host_is_known_by_its_fourth_probe_in_vain_for_ten_minutes() {
        assert!(!after([true; 3]).delays(Time::ZERO, HOST));
        let hosts = after([true; 4]);
        assert!(hosts.delays(Time::ZERO.after(LIFE - Duration::from_millis(1)), HOST));
        assert!(!hosts.delays(Time::ZERO.after(LIFE), HOST));
        assert!(!hosts.delays(Time::ZERO, Ipv4Addr::new(10, 0, 0, 2)), "another");
    }

    #[test]
    fn a_probe_that_was_needed_outweighs_32_in_vain() {
        let needed = |at: usize| (0..200).map(move |number| number != at);
        assert!(!after(needed(3).take(32)).delays(Time::ZERO, HOST));
        assert!(after(needed(3).take(33)).delays(Time::ZERO, HOST));
        // One in 20, however long.
        assert!(!after((0..100_000).map(|number| number % 20 != 0)).delays(Time::ZERO, HOST));
        assert!(after((0..100_000).map(|number| number % 100 != 0)).delays(Time::ZERO, HOST));
    }

    #[test]
    fn what_was_long_ago_counts_no_more() {
        let lost_before = (0..5_000).map(|number| number >= 1_000);
        assert!(after(lost_before).delays(Time::ZERO, HOST));
        let lost_since = (0..10_000).map(|number| number < 9_900);
        assert!(!after(lost_since).delays(Time::ZERO, HOST));
    }

    #[test]
    fn a_word_of_a_probe_that_is_forgotten_counts_for_none() {
        let mut hosts = after([true; 4]);
        (0..100_000).for_each(|_| hosts.in_vain(Time::ZERO, HOST));
        hosts.probed(Time::ZERO, HOST);
        assert!(!hosts.delays(Time::ZERO, HOST), "one is under way, and four are told of");
        hosts.forget(HOST);
        hosts.in_vain(Time::ZERO, HOST);
        assert!(!hosts.delays(Time::ZERO, HOST));
    }
}
