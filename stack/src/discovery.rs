//! `Discovery`: the routers of the link, and the networks on it, as the routers themselves say (RFC 4861 §6.3), where none
//! is configured.
//!
//! Anybody on the link can say it. So there are few places, and who has one keeps it for as long as it said: a flood of
//! made-up routers finds the places taken, and takes away none. Of several routers the first that was heard is used. That a
//! network is no longer on the link is believed of the router that said it was, and of no other. What a router said of the
//! MTU goes when it has no place any more: it said that it takes no more packets, or another was heard after its time.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::clock::Time;
use crate::ipv6::LEAST_MTU;
use crate::ndp::RouterSays;
use crate::own_addresses::shares_prefix;

/// Routers, and networks, that are remembered.
const MOST_ROUTERS: usize = 4;
const MOST_NETWORKS: usize = 8;

/// Of these, networks that were said to be there by who takes no packets for elsewhere, and so has no place as a router.
const MOST_OF_OTHERS: usize = MOST_NETWORKS / 2;

/// Routers of IPv6 that routes may lead by; those beyond lead nowhere.
const MOST_HELD: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Router {
    name: Ipv4Addr,
    until: Time,
    /// The link's MTU, if it has said one.
    mtu: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Network {
    prefix: Ipv6Addr,
    prefix_len: u8,
    until: Time,
    /// The router that has said so last, if it has a place.
    by: Option<Ipv4Addr>,
}

/// What routers have said.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// The names of those that are configured, which are held.
    pub(crate) held: ArrayVec<Ipv4Addr, MOST_HELD>,
    wanted: bool,
    routers: ArrayVec<Router, MOST_ROUTERS>,
    networks: ArrayVec<Network, MOST_NETWORKS>,
    mtu: u16,
    /// The first flow that has yet to hear of the MTU, since that has changed.
    pub(crate) unheard: Option<u32>,
}

/// What has become of what a router said.
#[derive(Debug)]
pub(crate) struct Heeded {
    /// Whether the router has a place now.
    pub(crate) is_kept: bool,
    /// Routers that have one no more.
    pub(crate) forgotten: ArrayVec<Ipv4Addr, MOST_ROUTERS>,
}

impl Discovery {
    /// Nothing was heard. `wanted`: whether it is to be.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            held: ArrayVec::new(),
            wanted,
            routers: ArrayVec::new(),
            networks: ArrayVec::new(),
            mtu: u16::MAX,
            unheard: None,
        }
    }

    /// Whether routers are listened to.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// From now on they are, or no more. Returns the routers that are forgotten.
    pub(crate) fn set_wanted(&mut self, wanted: bool) -> ArrayVec<Ipv4Addr, MOST_ROUTERS> {
        self.wanted = wanted;
        if wanted {
            return ArrayVec::new();
        }
        self.networks.clear();
        self.set_mtu(u16::MAX);
        self.routers.drain(..).map(|router| router.name).collect()
    }

    /// Somebody who takes no packets for elsewhere, and has no place, has said something (RFC 4861 §6.3.4: its networks are on the
    /// link all the same). Returns whether that was news.
    pub(crate) fn heed_other(&mut self, now: Time, says: RouterSays) -> bool {
        says.lifetime == 0 && says.on_link.is_some_and(|network| self.heed_network(now, None, network))
    }

    /// Whether the router `name` has a place, and its time is not over.
    pub(crate) fn knows(&self, now: Time, name: Ipv4Addr) -> bool {
        self.routers.iter().any(|router| router.name == name && router.until > now)
    }

    /// Whether a router that has none would get a place for what it says.
    pub(crate) fn has_room(&self, now: Time, says: RouterSays) -> bool {
        let live = self.routers.iter().filter(|router| router.until > now).count();
        says.lifetime > 0 && live < MOST_ROUTERS
    }

    /// The router `name` has said something.
    pub(crate) fn heed(&mut self, now: Time, name: Ipv4Addr, says: RouterSays) -> Heeded {
        let mut forgotten = ArrayVec::new();
        self.routers.retain(|router| {
            let stays = router.until > now;
            if !stays {
                forgotten.push(router.name);
            }
            stays
        });
        let until = now.after(Duration::from_secs(says.lifetime.into()));
        let mtu = says.mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|&mtu| mtu >= LEAST_MTU);
        // One whose time was over is forgotten, and new: who calls holds it anew.
        let known = self.routers.iter_mut().find(|router| router.name == name);
        let is_kept = match known {
            Some(router) if says.lifetime > 0 => {
                // What it does not mention this time it has not taken back (RFC 4861 §6.3.4).
                (router.until, router.mtu) = (until, mtu.or(router.mtu));
                true
            }
            Some(_) => {
                self.routers.retain(|router| router.name != name);
                forgotten.push(name);
                false
            }
            None => says.lifetime > 0 && self.routers.try_push(Router { name, until, mtu }).is_ok(),
        };
        // Its name may be another's from now on.
        for network in self.networks.iter_mut().filter(|network| network.by.is_some_and(|by| forgotten.contains(&by))) {
            network.by = None;
        }
        if let Some(network) = says.on_link {
            self.heed_network(now, is_kept.then_some(name), network);
        }
        self.set_mtu(self.routers.iter().filter_map(|router| router.mtu).min().unwrap_or(u16::MAX));
        Heeded { is_kept, forgotten }
    }

    /// Notes that a network is on the link for so many seconds, as `by` says. Returns whether that was news.
    fn heed_network(
        &mut self,
        now: Time,
        by: Option<Ipv4Addr>,
        (prefix, prefix_len, secs): (Ipv6Addr, u8, u32),
    ) -> bool {
        self.networks.retain(|network| network.until > now);
        let until = now.after(Duration::from_secs(secs.into()));
        let same = |network: &&mut Network| network.prefix_len == prefix_len && network.prefix == prefix;
        if let Some(known) = self.networks.iter_mut().find(same) {
            let may = until > known.until || by.is_some() && (known.by == by || known.by.is_none());
            if may {
                (known.until, known.by) = (until, known.by.or(by));
            }
            return may;
        }
        let others = || self.networks.iter().filter(|network| network.by.is_none()).count();
        if secs == 0 || by.is_none() && others() >= MOST_OF_OTHERS {
            return false;
        }
        // Where there is no room, packets go by the router.
        self.networks.try_push(Network { prefix, prefix_len, until, by }).is_ok()
    }

    /// Whether `address` is on the link.
    pub(crate) fn is_on_link(&self, now: Time, address: &Ipv6Addr) -> bool {
        self.networks
            .iter()
            .any(|network| network.until > now && shares_prefix(&network.prefix, address, network.prefix_len))
    }

    /// The router that takes packets for everywhere.
    pub(crate) fn router(&self, now: Time) -> Option<Ipv4Addr> {
        self.routers.iter().find(|router| router.until > now).map(|router| router.name)
    }

    fn set_mtu(&mut self, mtu: u16) {
        if std::mem::replace(&mut self.mtu, mtu) != mtu {
            self.unheard = Some(0);
        }
    }

    /// The MTU of the link, as far as it was said; else 65,535.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAYS: RouterSays = RouterSays { lifetime: 10, on_link: None, mtu: None };

    fn at(secs: u64) -> Time {
        Time::from_millis(1_000 * secs)
    }

    fn name(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(240, 16, 0, number)
    }

    #[test]
    fn a_flood_of_routers_takes_no_place_from_those_that_are_there() {
        let mut discovery = Discovery::new(true);
        for number in 0..200 {
            let kept = discovery.heed(at(1), name(number), SAYS);
            assert_eq!((kept.is_kept, kept.forgotten.len()), (number < 4, 0), "{number}");
        }
        assert_eq!(discovery.router(at(1)), Some(name(0)));
        // The first says that it takes no more; the second is used, and there is room for another.
        let kept = discovery.heed(at(2), name(0), RouterSays { lifetime: 0, ..SAYS });
        assert_eq!((kept.is_kept, &kept.forgotten[..]), (false, &[name(0)][..]));
        assert_eq!(discovery.router(at(2)), Some(name(1)));
        assert!(discovery.heed(at(2), name(9), SAYS).is_kept);
        // Nobody has said anything for long.
        assert_eq!(discovery.router(at(12)), None);
        let kept = discovery.heed(at(12), name(10), SAYS);
        assert_eq!((kept.is_kept, kept.forgotten.len()), (true, 4));
    }

    #[test]
    fn networks_are_on_the_link_for_as_long_as_was_said_and_the_mtu_is_that_of_a_link() {
        let mut discovery = Discovery::new(true);
        let prefix: Ipv6Addr = "2001:db8:1::".parse().expect("a prefix");
        let near: Ipv6Addr = "2001:db8:1::7".parse().expect("an address");
        let says = RouterSays { on_link: Some((prefix, 64, 5)), mtu: Some(1_400), ..SAYS };
        discovery.heed(at(0), name(0), says);
        assert!(discovery.is_on_link(at(4), &near) && !discovery.is_on_link(at(5), &near));
        assert_eq!(discovery.mtu(), 1_400);
        discovery.heed(at(0), name(0), RouterSays { mtu: Some(1_000), ..SAYS });
        discovery.heed(at(0), name(0), RouterSays { mtu: Some(1 << 20), ..SAYS });
        assert_eq!(discovery.mtu(), 1_400);
        discovery.heed(at(0), name(0), SAYS);
        assert_eq!(discovery.mtu(), 1_400, "it has not taken it back");
        // Of two the narrower; and who has gone says no more.
        discovery.heed(at(1), name(1), RouterSays { mtu: Some(1_300), lifetime: 2, ..SAYS });
        assert_eq!(discovery.mtu(), 1_300);
        discovery.heed(at(3), name(0), SAYS);
        assert_eq!(discovery.mtu(), 1_400);
        discovery.heed(at(3), name(0), RouterSays { mtu: Some(1_500), ..SAYS });
        assert_eq!(discovery.mtu(), 1_500);
        assert_eq!(discovery.set_wanted(false).len(), 1);
        assert_eq!((discovery.router(at(0)), discovery.mtu()), (None, u16::MAX));
    }

    #[test]
    fn a_network_is_taken_back_by_who_said_that_it_is_there_and_by_no_other() {
        let mut discovery = Discovery::new(true);
        let prefix: Ipv6Addr = "2001:db8:1::".parse().expect("a prefix");
        let near: Ipv6Addr = "2001:db8:1::7".parse().expect("an address");
        let says = |secs| RouterSays { on_link: Some((prefix, 64, secs)), lifetime: 100, mtu: None };
        let of_other = |secs| RouterSays { lifetime: 0, ..says(secs) };
        discovery.heed(at(0), name(0), says(50));
        discovery.heed(at(0), name(1), says(0));
        assert!(!discovery.heed_other(at(0), of_other(0)) && !discovery.heed_other(at(0), of_other(49)));
        assert!(discovery.is_on_link(at(49), &near) && !discovery.is_on_link(at(50), &near));
        assert!(discovery.heed_other(at(0), of_other(60)), "it may be longer for it");
        assert!(discovery.is_on_link(at(59), &near));
        // Whoever makes it longer does not speak for it.
        discovery.heed(at(0), name(1), says(70));
        discovery.heed(at(0), name(1), says(0));
        assert!(discovery.is_on_link(at(69), &near));
        discovery.heed(at(1), name(0), says(0));
        assert!(!discovery.is_on_link(at(1), &near));
        // When that one takes no more packets, another may speak for its network.
        discovery.heed(at(2), name(0), says(50));
        discovery.heed(at(3), name(0), of_other(50));
        discovery.heed(at(4), name(1), says(0));
        assert!(!discovery.is_on_link(at(4), &near));
    }

    #[test]
    fn networks_of_who_takes_no_packets_fill_no_more_than_half_of_the_places() {
        let mut discovery = Discovery::new(true);
        let network = |number: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 0);
        let says = |number| RouterSays { on_link: Some((network(number), 64, 100)), lifetime: 0, mtu: Some(1_280) };
        assert_eq!((0..100).filter(|&number| discovery.heed_other(at(0), says(number))).count(), 4);
        assert_eq!((discovery.mtu(), discovery.router(at(0))), (u16::MAX, None));
        for number in 200..204 {
            discovery.heed(at(0), name(0), RouterSays { lifetime: 9, ..says(number) });
        }
        assert!((0..4).chain(200..204).all(|number| discovery.is_on_link(at(1), &network(number))));
        assert!(!discovery.heed_other(at(0), RouterSays { lifetime: 9, ..says(7) }), "a flood finds no way by this");
    }
}
