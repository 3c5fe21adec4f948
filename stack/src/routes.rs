//! `Routes`: to which host on the link packets for an address are handed.
//!
//! A flow answers the station of its handshake, so that the table is asked only when a flow is opened from here, is in
//! doubt, or the table changes: a walk through all routes, the longest prefix first. Read first: RFC 1122 §3.3.1.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nic::Route;

use crate::own_addresses::OwnAddress;

/// Routes of a host, the longest prefixes first. A copy costs nothing: many cores may have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes(Arc<[Route]>);

impl Routes {
    /// Of a host that has the addresses `own`, whose networks are on the link, and for whom `routes` leads further. Of routes
    /// to one network the first counts, and those of the addresses come before the others; of more than [`Route::MOST`] of a
    /// family the longest prefixes do not.
    pub fn new(own: impl IntoIterator<Item = OwnAddress>, routes: impl IntoIterator<Item = Route>) -> Self {
        let all = own.into_iter().filter_map(network_of).chain(routes);
        let (mut ipv4, mut ipv6): (Vec<_>, Vec<_>) = all.partition(|route| route.network.is_ipv4());
        for routes in [&mut ipv4, &mut ipv6] {
            // Stable: of one network the first stays the first.
            routes.sort_by_key(|route| route.prefix_len);
            routes.truncate(Route::MOST);
            routes.sort_by_key(|route| Reverse(route.prefix_len));
        }
        ipv4.append(&mut ipv6);
        Self(ipv4.into())
    }

    /// The host to which packets for `remote` are handed; `None` when there is no way.
    pub(crate) fn hop(&self, remote: IpAddr) -> Option<IpAddr> {
        let route = self.0.iter().find(|route| route.covers(remote))?;
        Some(route.gateway.unwrap_or(remote))
    }

    /// The routers of IPv6, each as often as it is named.
    pub(crate) fn ipv6_gateways(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.0.iter().filter_map(|route| match route.gateway {
            Some(IpAddr::V6(gateway)) => Some(gateway),
            _ => None,
        })
    }
}

/// The network of one of our addresses; of none, none.
fn network_of(OwnAddress { address, prefix_len }: OwnAddress) -> Option<Route> {
    let network = match address {
        IpAddr::V4(address) if address.is_unspecified() => return None,
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    };
    Some(Route { network, prefix_len, gateway: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn router(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, last).into()
    }

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_subnet_is_on_the_link_and_all_else_goes_by_the_gateway_if_there_is_one() {
        let near = at("10.77.0.99");
        let alone = Routes::new([OwnAddress::new(OWN, 24)], None);
        assert_eq!((alone.hop(near), alone.hop(FAR)), (Some(near), None));
        let routed = Routes::new([OwnAddress::new(OWN, 24)], Some(Route::default_by(router(1))));
        assert_eq!((routed.hop(near), routed.hop(FAR)), (Some(near), Some(router(1))));
    }

    #[test]
    fn the_network_of_each_address_is_on_the_link() {
        let own = [OwnAddress::new(OWN, 24), OwnAddress::new(at("192.0.2.9"), 28)];
        let routes = Routes::new(own, [Route::default_by(router(1))]);
        assert_eq!((routes.hop(FAR), routes.hop(at("192.0.2.16"))), (Some(FAR), Some(router(1))));
    }

    #[test]
    fn the_longest_prefix_decides_and_of_one_network_the_first_route() {
        let by = |network, prefix_len, last| Route { network, prefix_len, gateway: Some(router(last)) };
        let net = at("192.0.2.0");
        let given = [Route::default_by(router(1)), by(net, 24, 2), by(net, 24, 3), by(FAR, 32, 4)];
        let routes = Routes::new([OwnAddress::new(OWN, 24)], given);
        let hops = [FAR, at("192.0.2.7"), at("198.51.100.1")].map(|to| routes.hop(to));
        assert_eq!(hops, [Some(router(4)), Some(router(2)), Some(router(1))]);
    }

    #[test]
    fn too_many_routes_leave_those_of_each_family_that_lead_furthest() {
        let ipv4 = |n| Route { network: Ipv4Addr::from_bits(n).into(), prefix_len: 32, gateway: None };
        let ipv6 = |n| Route { network: Ipv6Addr::from_bits(n).into(), prefix_len: 128, gateway: None };
        let hosts = (0..5_000).map(ipv4).chain((0..5_000).map(ipv6));
        let defaults = [router(1), at("fe80::1")].map(Route::default_by);
        let routes = Routes::new([OwnAddress::new(OWN, 24)], hosts.chain(defaults));
        let hops = (routes.hop(FAR), routes.hop(at("2001:db8::1")));
        assert_eq!((routes.0.len(), hops), (2 * Route::MOST, (Some(router(1)), Some(at("fe80::1")))));
    }

    #[test]
    fn each_family_has_its_own_ways() {
        let own = [OwnAddress::new(OWN, 24), OwnAddress::new(at("fd77::2"), 64)];
        let routes = Routes::new(own, [at("fe80::1"), at("10.77.0.1")].map(Route::default_by));
        let hops = ["fd77::9", "2001:db8::1", "10.77.0.9", "192.0.2.1"].map(|to| routes.hop(at(to)));
        assert_eq!(hops, [Some(at("fd77::9")), Some(at("fe80::1")), Some(at("10.77.0.9")), Some(router(1))]);
        assert_eq!(routes.ipv6_gateways().count(), 1);
        assert_eq!(Routes::new(own[..1].iter().copied(), None).hop(at("fd77::9")), None);
    }
}
