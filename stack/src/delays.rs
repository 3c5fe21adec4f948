//! `Delays`: how long the answers of a host take at present, whichever of its flows has measured it (RFC 9040 §7: what is
//! learned of a path is shared by those that use it).
//!
//! A flow that was quiet has measured how long an answer takes where nothing waits. Behind the megabytes that other flows of
//! the same host have under way it takes as long as these do, and nothing of it is lost before something is answered that was
//! sent later, by whomever (RFC 8985 §6 says so of one flow). Noted and asked for when a flow's timer has run out, never for a
//! segment. A fixed number of places, made at the start; one is its host's for as long as what stands there holds, and of
//! another host that would have it nothing is known: nobody waits for what a stranger says.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clock::Time;

/// Places: hosts that have much under way at once.
const PLACES: usize = 256;

/// For how many times as long as an answer takes what was noted of it holds, and how long at the least.
const TIMES: u32 = 8;
const LEAST: Duration = Duration::from_millis(50);

/// For how long others that were heard are waited for, who may have something under way before what is waited for.
const LATELY: Duration = Duration::from_millis(20);

/// What a flow says of itself when it was heard lately.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// Which it is.
    pub(crate) by: u32,
    /// How long an answer takes at most, in microseconds, if something waits on the way; else 0.
    pub(crate) micros: u32,
    /// When the last of what was timed and answered had been sent, or earlier.
    pub(crate) sent: Time,
}

/// What a flow is told of the others of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Others {
    /// How long their answers take, in microseconds; 0: nobody has waited lately.
    pub(crate) delay: u32,
    /// When the last of theirs that was answered had been sent, or earlier; [`Time::NEVER`]: none was heard lately.
    pub(crate) answered: Time,
}

impl Others {
    /// There are none.
    pub(crate) const NONE: Self = Self { delay: 0, answered: Time::NEVER };
}

/// What was noted in a place.
#[derive(Debug, Clone, Copy)]
struct Delay {
    host: Ipv4Addr,
    micros: u32,
    at: Time,
    answered: Time,
    /// Who was heard last, and when; and when another was.
    by: u32,
    heard: Time,
    other_heard: Time,
}

const NOTHING: Delay = Delay {
    host: Ipv4Addr::UNSPECIFIED,
    micros: 0,
    at: Time::ZERO,
    answered: Time::ZERO,
    by: u32::MAX,
    heard: Time::ZERO,
    other_heard: Time::ZERO,
};

/// The delays of a core's hosts.
#[derive(Debug)]
pub(crate) struct Delays(Box<[Delay; PLACES]>);

impl Delays {
    pub(crate) fn new() -> Self {
        Self(Box::new([NOTHING; PLACES]))
    }

    /// Notes at `now` that a flow of the host was heard lately.
    pub(crate) fn note(&mut self, now: Time, host: Ipv4Addr, heard: Heard) {
        let place = &mut self.0[place_of(host)];
        let delay = place.delay(now);
        if delay == 0 {
            if heard.micros == 0 {
                return;
            }
            *place = Delay { host, ..NOTHING };
        } else if place.host != host {
            return;
        }
        if heard.micros >= delay {
            (place.micros, place.at) = (heard.micros, now);
        }
        place.answered = place.answered.max(heard.sent);
        if place.by != heard.by {
            (place.by, place.other_heard) = (heard.by, place.heard);
        }
        place.heard = now;
    }

    /// What the flow `of` the host is to know of its others.
    pub(crate) fn others(&self, now: Time, host: Ipv4Addr, of: u32) -> Others {
        let place = &self.0[place_of(host)];
        if place.host != host {
            return Others::NONE;
        }
        let delay = place.delay(now);
        let heard = if place.by == of { place.other_heard } else { place.heard };
        let answered = if delay > 0 && now.since(heard) < LATELY { place.answered } else { Time::NEVER };
        Others { delay, answered }
    }
}

impl Delay {
    fn delay(&self, now: Time) -> u32 {
        let holds = LEAST.max(Duration::from_micros(u64::from(self.micros)) * TIMES);
        if now.since(self.at) < holds { self.micros } else { 0 }
    }
}

/// Neighbours differ in the last bits, and names of IPv6 addresses in all.
fn place_of(host: Ipv4Addr) -> usize {
    let bits = host.to_bits();
    (bits ^ bits >> 8) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    fn ms(ms: u64) -> Time {
        Time::from_micros(1_000 * ms)
    }

    fn heard(by: u32, micros: u32, sent: u64) -> Heard {
        Heard { by, micros, sent: ms(sent) }
    }

    #[test]
    fn the_longest_of_late_holds_and_is_forgotten() {
        let mut delays = Delays::new();
        let delay = |delays: &Delays, at: u64, host| delays.others(ms(at), host, 9).delay;
        assert_eq!(delays.others(ms(0), HOST, 9), Others::NONE);
        delays.note(ms(1_000), HOST, heard(1, 20_000, 0));
        delays.note(ms(1_001), HOST, heard(2, 5_000, 0));
        assert_eq!(delay(&delays, 1_100, HOST), 20_000, "the longer");
        assert_eq!(delay(&delays, 1_100, Ipv4Addr::new(10, 77, 0, 2)), 0, "another host");
        delays.note(ms(1_150), HOST, heard(1, 20_000, 0));
        assert_eq!(delay(&delays, 1_300, HOST), 20_000, "noted again");
        assert_eq!(delay(&delays, 1_310, HOST), 0);
        delays.note(ms(1_310), HOST, heard(1, 5_000, 0));
        assert_eq!((delay(&delays, 1_359, HOST), delay(&delays, 1_360, HOST)), (5_000, 0));
    }

    #[test]
    fn another_host_finds_nothing_in_a_place_and_takes_it_when_that_no_longer_holds() {
        let stranger = Ipv4Addr::new(10, 77, 1, 0);
        assert_eq!(place_of(stranger), place_of(HOST), "of the same place");
        let mut delays = Delays::new();
        delays.note(ms(1_000), HOST, heard(1, 20_000, 980));
        delays.note(ms(1_001), stranger, heard(2, 100_000, 900));
        let told = Others { delay: 20_000, answered: ms(980) };
        assert_eq!((delays.others(ms(1_002), stranger, 3), delays.others(ms(1_002), HOST, 3)), (Others::NONE, told));
        delays.note(ms(1_160), stranger, heard(2, 100_000, 1_060));
        let told = Others { delay: 100_000, answered: ms(1_060) };
        assert_eq!((delays.others(ms(1_161), stranger, 3), delays.others(ms(1_161), HOST, 3)), (told, Others::NONE));
    }

    #[test]
    fn others_are_waited_for_while_they_are_heard_and_nobody_waits_for_itself() {
        let mut delays = Delays::new();
        delays.note(ms(1_000), HOST, heard(1, 0, 990));
        assert_eq!(delays.others(ms(1_000), HOST, 2), Others::NONE, "nothing waits");
        delays.note(ms(1_001), HOST, heard(1, 9_000, 992));
        assert_eq!(delays.others(ms(1_002), HOST, 1), Others { delay: 9_000, answered: Time::NEVER });
        assert_eq!(delays.others(ms(1_002), HOST, 2), Others { delay: 9_000, answered: ms(992) });
        assert_eq!(delays.others(ms(1_021), HOST, 2), Others { delay: 9_000, answered: Time::NEVER });
        delays.note(ms(1_022), HOST, heard(2, 0, 991));
        assert_eq!(delays.others(ms(1_022), HOST, 2).answered, Time::NEVER, "long ago");
        delays.note(ms(1_023), HOST, heard(1, 0, 1_010));
        assert_eq!(delays.others(ms(1_023), HOST, 1).answered, ms(1_010), "by the other, a moment ago");
    }
}
