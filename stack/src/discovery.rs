//! `Discovery`: the routers of the link, and the networks on it, as the routers themselves say (RFC 4861 §6.3), where none
//! is configured.
//!
//! Anybody on the link can say it. So there are few places, and who has one keeps it for as long as it said: a flood of
//! made-up routers finds the places taken, and takes away none. Of several routers the first that was heard is used.

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

/// Routers of IPv6 that routes may lead by; those beyond lead nowhere.
const MOST_HELD: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Router {
    name: Ipv4Addr,
    until: Time,
}

#[derive(Debug, Clone, Copy)]
struct Network {
    prefix: Ipv6Addr,
    prefix_len: u8,
    until: Time,
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
        Self { held: ArrayVec::new(), wanted, routers: ArrayVec::new(), networks: ArrayVec::new(), mtu: u16::MAX }
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
        self.mtu = u16::MAX;
        self.routers.drain(..).map(|router| router.name).collect()
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
        // One whose time was over is forgotten, and new: who calls holds it anew.
        let known = self.routers.iter_mut().find(|router| router.name == name);
        let is_kept = match known {
            Some(router) if says.lifetime > 0 => {
                router.until = until;
                true
            }
            Some(_) => {
                self.routers.retain(|router| router.name != name);
                forgotten.push(name);
                false
            }
            None => says.lifetime > 0 && self.routers.try_push(Router { name, until }).is_ok(),
        };
        if let Some((prefix, prefix_len, secs)) = says.on_link {
            self.heed_network(now, prefix, prefix_len, secs);
        }
        if let Some(mtu) = says.mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|&mtu| mtu >= LEAST_MTU) {
            self.mtu = mtu;
        }
        Heeded { is_kept, forgotten }
    }

    fn heed_network(&mut self, now: Time, prefix: Ipv6Addr, prefix_len: u8, secs: u32) {
        self.networks.retain(|network| network.until > now);
        let until = now.after(Duration::from_secs(secs.into()));
        let same = |network: &&mut Network| network.prefix_len == prefix_len && network.prefix == prefix;
        match self.networks.iter_mut().find(same) {
            Some(known) => known.until = until,
            // Where there is no room, packets go by the router.
            None if secs > 0 => {
                let _ = self.networks.try_push(Network { prefix, prefix_len, until });
            }
            None => {}
        }
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
        assert_eq!(discovery.set_wanted(false).len(), 1);
        assert_eq!((discovery.router(at(0)), discovery.mtu()), (None, u16::MAX));
    }
}
