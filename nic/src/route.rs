//! `Route`: by whom packets for a network are handed on.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A network, and who takes packets for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Its first address.
    pub network: Ipv4Addr,
    /// Leading bits that its addresses have in common, 0 to 32; 0: every address, the default route.
    pub prefix_len: u8,
    /// The router; `None`: its hosts are on the link.
    pub gateway: Option<Ipv4Addr>,
}

impl Route {
    /// Most routes of one interface that anyone here keeps: they are looked through one by one, where a flow is opened or
    /// in doubt.
    pub const MOST: usize = 1_024;

    /// The default route.
    pub fn default_by(gateway: Ipv4Addr) -> Self {
        Self { network: Ipv4Addr::UNSPECIFIED, prefix_len: 0, gateway: Some(gateway) }
    }

    /// Whether `address` is one of the network's.
    pub fn covers(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0);
        (self.network.to_bits() ^ address.to_bits()) & mask == 0
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
        let route = Route { network: Ipv4Addr::new(10, 9, 0, 0), prefix_len: 16, gateway: None };
        assert!(route.covers(Ipv4Addr::new(10, 9, 255, 255)) && !route.covers(Ipv4Addr::new(10, 10, 0, 0)));
        let host = Route { network: Ipv4Addr::new(10, 9, 0, 1), prefix_len: 32, gateway: None };
        assert!(host.covers(host.network) && !host.covers(Ipv4Addr::new(10, 9, 0, 0)));
        let default = Route::default_by(Ipv4Addr::new(10, 77, 0, 1));
        assert!(default.covers(Ipv4Addr::new(192, 0, 2, 1)) && default.covers(Ipv4Addr::UNSPECIFIED));
        assert_eq!((default.to_string(), route.to_string()), ("default via 10.77.0.1".into(), "10.9.0.0/16".into()));
    }
}
