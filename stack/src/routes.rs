//! `Routes`: to which host on the link packets for an address are handed.
//!
//! A flow answers the station of its handshake, so that the table is asked only when a flow is opened from here, is in
//! doubt, or the table changes: a walk through all routes, the longest prefix first. Read first: RFC 1122 §3.3.1.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nic::Route;

/// Routes of a host, the longest prefixes first. A copy costs nothing: many cores may have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes(Arc<[Route]>);

impl Routes {
    /// Of a host that has `own`/`prefix_len`, whose subnet is on the link, and for whom `routes` leads further. Of routes to
    /// one network the first counts, and the subnet is one; of more than [`Route::MOST`] the longest prefixes do not.
    pub fn new(own: Ipv4Addr, prefix_len: u8, routes: impl IntoIterator<Item = Route>) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
        let network = Ipv4Addr::from_bits(own.to_bits() & mask).into();
        let subnet = Route { network, prefix_len, gateway: None };
        let mut routes: Vec<_> = [subnet].into_iter().chain(routes).collect();
        // Stable: of one network the first stays the first.
        routes.sort_by_key(|route| route.prefix_len);
        routes.truncate(Route::MOST);
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix_len));
        Self(routes.into())
    }

    /// The host to which packets for `remote` are handed; `None` when there is no way.
    pub(crate) fn hop(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.0.iter().find(|route| route.covers(remote))?.gateway {
            Some(IpAddr::V4(gateway)) => Some(gateway),
            // A route has a gateway of its own family.
            Some(IpAddr::V6(_)) | None => Some(remote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn router(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, last)
    }

    #[test]
    fn the_subnet_is_on_the_link_and_all_else_goes_by_the_gateway_if_there_is_one() {
        let near = Ipv4Addr::new(10, 77, 0, 99);
        let alone = Routes::new(OWN, 24, None);
        assert_eq!((alone.hop(near), alone.hop(FAR)), (Some(near), None));
        let routed = Routes::new(OWN, 24, Some(Route::default_by(router(1))));
        assert_eq!((routed.hop(near), routed.hop(FAR)), (Some(near), Some(router(1))));
    }

    #[test]
    fn the_longest_prefix_decides_and_of_one_network_the_first_route() {
        let by = |network: Ipv4Addr, prefix_len, last| Route {
            network: network.into(),
            prefix_len,
            gateway: Some(router(last).into()),
        };
        let net = Ipv4Addr::new(192, 0, 2, 0);
        let given = [Route::default_by(router(1)), by(net, 24, 2), by(net, 24, 3), by(FAR, 32, 4)];
        let routes = Routes::new(OWN, 24, given);
        let hops = [FAR, Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(198, 51, 100, 1)].map(|to| routes.hop(to));
        assert_eq!(hops, [Some(router(4)), Some(router(2)), Some(router(1))]);
    }

    #[test]
    fn too_many_routes_leave_those_that_lead_furthest() {
        let host = |n| Route { network: Ipv4Addr::from_bits(n).into(), prefix_len: 32, gateway: None };
        let hosts = (0..5_000).map(host);
        let routes = Routes::new(OWN, 24, hosts.chain([Route::default_by(router(1))]));
        assert_eq!((routes.0.len(), routes.hop(FAR)), (Route::MOST, Some(router(1))));
    }
}
