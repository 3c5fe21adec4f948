//! `Route`: by whom packets for a network are handed on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A network, and who takes packets for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Its first address, of either family.
    pub network: IpAddr,
    /// Leading bits that its addresses have in common, 0 to 32 or, of IPv6, 128; 0: every address of the family, the default
    /// route.
    pub prefix_len: u8,
    /// The router, of the same family; `None`: its hosts are on the link.
    pub gateway: Option<IpAddr>,
}

impl Route {
    /// Most routes of one interface and one family that anyone here keeps: they are looked through one by one, where a flow is opened or
    /// in doubt.
    pub const MOST: usize = 1_024;

    /// The default route of the gateway's family.
    pub fn default_by(gateway: impl Into<IpAddr>) -> Self {
        let gateway = gateway.into();
        let network = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self { network, prefix_len: 0, gateway: Some(gateway) }
    }

    /// Whether `address` is one of the network's.
    pub fn covers(&self, address: impl Into<IpAddr>) -> bool {
        match (self.network, address.into()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_len.min(128))).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Route {
    /// As `ip route` shows it, without the interface.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_len {
            0 => f.write_str("default")?,
            bits => write!(f, "{}/{bits}", self.network)?,
        }
        self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_covers_its_network_and_the_default_route_everything() {
        let route = Route { network: [10, 9, 0, 0].into(), prefix_len: 16, gateway: None };
        assert!(route.covers([10, 9, 255, 255]) && !route.covers([10, 10, 0, 0]));
        let host = Route { network: [10, 9, 0, 1].into(), prefix_len: 32, gateway: None };
        assert!(host.covers(host.network) && !host.covers([10, 9, 0, 0]));
        let default = Route::default_by([10, 77, 0, 1]);
        assert!(default.covers([192, 0, 2, 1]) && default.covers(Ipv4Addr::UNSPECIFIED));
        assert_eq!((default.to_string(), route.to_string()), ("default via 10.77.0.1".into(), "10.9.0.0/16".into()));
    }

    #[test]
    fn a_route_covers_addresses_of_its_own_family_alone() {
        let ipv6 = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
        let route = Route { network: ipv6("2001:db8:7::").into(), prefix_len: 48, gateway: None };
        assert!(route.covers(ipv6("2001:db8:7:ffff::1")) && !route.covers(ipv6("2001:db8:8::1")));
        let host = Route { network: ipv6("2001:db8::1").into(), prefix_len: 128, gateway: None };
        assert!(host.covers(ipv6("2001:db8::1")) && !host.covers(ipv6("2001:db8::")));
        let default = Route::default_by(ipv6("fe80::1"));
        assert!(default.covers(ipv6("2001:db8::1")) && !default.covers([10, 77, 0, 1]));
        assert!(!Route::default_by([10, 77, 0, 1]).covers(ipv6("2001:db8::1")));
        assert_eq!((default.to_string(), route.to_string()), ("default via fe80::1".into(), "2001:db8:7::/48".into()));
    }
}
