//! `PathMtus`: the ways on which packets must be shorter than the link's, by destination.
//!
//! A flow learns of its own way from the message (`net_stack/path_mtu.rs`); here it is kept for the flows that come after it
//! (`by_address.rs`). A way is tried again in full length after [`LIFE`]: it may have become wider. One that is only suspected is
//! tried much sooner, and later each time that it proves true: a link that was down for a second looks the same.
//! Read first: RFC 1191 §6.3, RFC 5927 §7, RFC 8899 §4.4.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::by_address::ByAddress;
use crate::clock::Time;
use crate::ipv6::LEAST_MTU;

/// The shortest MTU that is believed. Linux's `min_pmtu`: who says less wants us to send many tiny packets
/// (RFC 5927 §7.2), since every IPv4 host can take 576 bytes.
pub(crate) const FLOOR: u16 = 552;

/// MTUs of links in use, to choose from where a router names none (RFC 1191 §7.1, table 7-1), down to the floor.
const PLATEAUS: [u16; 8] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, FLOOR];

/// How long a way is remembered (RFC 1191 §6.3 recommends ten minutes).
const LIFE: Duration = Duration::from_secs(600);

/// The MTU that every way is taken to have (RFC 791 §3.1, RFC 1122 §3.3.3).
pub(crate) const SAFE: u16 = 576;

/// After what time a suspicion is put to the test for the first time.
const FIRST_TEST: Duration = Duration::from_secs(2);

/// The MTU that follows from the message that a packet of `len` bytes was too long for a way of `named` bytes, 0 where a
/// router of old names none. `None`: the message cannot be true.
pub(crate) fn believable(named: u16, len: u16) -> Option<u16> {
    if named == 0 {
        return PLATEAUS.into_iter().find(|&plateau| plateau < len);
    }
    (named < len).then_some(named.max(FLOOR))
}

/// The same of an IPv6 way. A router names its MTU always, and one below the least of any link is not believed
/// (RFC 8201 §4; Linux takes it for that least).
pub(crate) fn believable_ipv6(named: u16, len: u16) -> Option<u16> {
    (named >= LEAST_MTU && named < len).then_some(named)
}

/// What is known of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing, or no longer.
    Nothing,
    /// Packets may be so long.
    Mtu(u16),
    /// What was known is too old to go by.
    Past,
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    mtu: u16,
    /// How often it was suspected, if nobody has told its MTU.
    suspected: u8,
}

/// The ways of a core that are narrower than its link.
#[derive(Debug)]
pub(crate) struct PathMtus(ByAddress<Way>);

impl PathMtus {
    /// No way known. `secret`: see [`ByAddress::new`].
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        Self(ByAddress::new(secret))
    }

    /// Whether any way was ever narrower than the link.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.0.has_any()
    }

    /// What is known at `now` of the way to `address`.
    pub(crate) fn find(&self, now: Time, address: Ipv4Addr) -> Known {
        match self.0.find(address) {
            None => Known::Nothing,
            Some((_, until)) if until <= now => Known::Past,
            Some((way, _)) => Known::Mtu(way.mtu),
        }
    }

    /// Notes that packets to `address` may be `mtu` bytes long, no more.
    pub(crate) fn learn(&mut self, now: Time, address: Ipv4Addr, mtu: u16) {
        self.0.note(address, Way { mtu, suspected: 0 }, now.after(LIFE));
    }

    /// Notes that longer packets to `address` than `safe` seem to be swallowed.
    pub(crate) fn suspect(&mut self, now: Time, address: Ipv4Addr, safe: u16) {
        let known = self.0.find(address).filter(|(_, until)| now < until.after(LIFE));
        let before = known.map_or(0, |(way, _)| way.suspected);
        let test = FIRST_TEST.saturating_mul(1 << before.min(16)).min(LIFE);
        self.0.note(address, Way { mtu: safe, suspected: before.saturating_add(1) }, now.after(test));
    }

    /// Forgets the way to `address`: it is another's from now on.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) {
        self.0.forget(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0001 + number)
    }

    #[test]
    fn what_a_message_names_is_believed_down_to_the_floor_if_the_packet_was_longer() {
        for (named, len, wanted) in [
            (1_400, 1_500, Some(1_400)),
            (1_500, 1_500, None),
            (9_000, 1_500, None),
            (576, 577, Some(576)),
            (100, 1_500, Some(FLOOR)),
            (68, 69, Some(FLOOR)),
            (1, 0, None),
        ] {
            assert_eq!(believable(named, len), wanted, "{named} {len}");
        }
    }

    #[test]
    fn no_ipv6_way_is_narrower_than_any_link() {
        for (named, len, wanted) in [
            (1_400, 1_500, Some(1_400)),
            (1_280, 1_500, Some(1_280)),
            (1_279, 1_500, None),
            (0, 1_500, None),
            (1_500, 1_500, None),
            (u16::MAX, 1_500, None),
        ] {
            assert_eq!(believable_ipv6(named, len), wanted, "{named} {len}");
        }
    }

    #[test]
    fn without_a_name_the_next_plateau_below_the_packet_is_taken() {
        for (len, wanted) in [
            (9_000, Some(8_166)),
            (1_500, Some(1_492)),
            (1_492, Some(1_006)),
            (1_006, Some(FLOOR)),
            (553, Some(FLOOR)),
            (FLOOR, None),
            (0, None),
        ] {
            assert_eq!(believable(0, len), wanted, "{len}");
        }
    }

    #[test]
    fn a_way_is_remembered_for_ten_minutes() {
        let mut ways = PathMtus::new([1, 2]);
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        assert!(!ways.has_any());
        ways.learn(at(5), address(1), 1_400);
        assert!(ways.has_any());
        assert_eq!(ways.find(at(604), address(1)), Known::Mtu(1_400));
        assert_eq!(ways.find(at(605), address(1)), Known::Past);
        assert_eq!(ways.find(at(5), address(2)), Known::Nothing);
        ways.learn(at(700), address(1), 1_300);
        assert_eq!(ways.find(at(1_299), address(1)), Known::Mtu(1_300));
    }

    #[test]
    fn a_suspicion_is_tested_soon_and_later_each_time_that_it_proves_true() {
        let mut ways = PathMtus::new([1, 2]);
        let mut now = Time::from_millis(1_000);
        for seconds in [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            ways.suspect(now, address(1), SAFE);
            assert_eq!(ways.find(now.after(Duration::from_millis(seconds * 1_000 - 1)), address(1)), Known::Mtu(SAFE));
            now = now.after(Duration::from_secs(seconds));
            assert_eq!(ways.find(now, address(1)), Known::Past, "{seconds}");
        }
        // It did not: the next is as the first.
        now = now.after(LIFE);
        ways.suspect(now, address(1), SAFE);
        assert_eq!(ways.find(now.after(FIRST_TEST), address(1)), Known::Past);
    }
}
