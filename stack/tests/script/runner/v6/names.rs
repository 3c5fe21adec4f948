//! Addresses of IPv6 and of stations by the names that scripts give them, since each host has others.

use std::net::{IpAddr, Ipv6Addr};

use super::super::packet::Ends;
use super::super::parse::number;

/// An address, by what it is to the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    Peer,
    Host,
    /// The unspecified address.
    Any,
    AllNodes,
    AllRouters,
    /// The solicited-node group of another (RFC 4291 §2.7.1).
    Group(Box<Where>),
    Address(Ipv6Addr),
}

/// All nodes and all routers of the link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// An address of IPv6; a script that writes such headers is played over IPv6.
fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

/// The solicited-node group of an address.
pub fn group_of(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, mid, low] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(high), u16::from_be_bytes([mid, low]))
}

impl Where {
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "peer" => Self::Peer,
            "host" => Self::Host,
            "any" => Self::Any,
            "all_nodes" => Self::AllNodes,
            "all_routers" => Self::AllRouters,
            text => match text.strip_prefix("sol(").and_then(|text| text.strip_suffix(')')) {
                Some(of) => Self::Group(Box::new(Self::parse(of)?)),
                None => Self::Address(number(text)?),
            },
        })
    }

    pub fn resolve(&self, ends: &Ends) -> Ipv6Addr {
        match self {
            Self::Peer => v6(ends.peer),
            Self::Host => v6(ends.host),
            Self::Any => Ipv6Addr::UNSPECIFIED,
            Self::AllNodes => ALL_NODES,
            Self::AllRouters => ALL_ROUTERS,
            Self::Group(of) => group_of(of.resolve(ends)),
            Self::Address(address) => *address,
        }
    }

    /// How a script writes this address.
    pub fn name(address: Ipv6Addr, ends: &Ends) -> String {
        let known = [
            ("peer", v6(ends.peer)),
            ("host", v6(ends.host)),
            ("any", Ipv6Addr::UNSPECIFIED),
            ("all_nodes", ALL_NODES),
            ("all_routers", ALL_ROUTERS),
            ("sol(host)", group_of(v6(ends.host))),
            ("sol(peer)", group_of(v6(ends.peer))),
        ];
        let found = known.into_iter().find(|(_, known)| *known == address);
        found.map_or_else(|| address.to_string(), |(name, _)| name.to_owned())
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Station {
    Peer,
    Host,
    Mac([u8; 6]),
}

impl Station {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "peer_mac" => return Ok(Self::Peer),
            "host_mac" => return Ok(Self::Host),
            _ => {}
        }
        let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        mac.map(Self::Mac).ok_or_else(|| format!("`{text}` is neither peer_mac, host_mac nor an Ethernet address"))
    }

    pub fn resolve(self, ends: &Ends) -> [u8; 6] {
        match self {
            Self::Peer => ends.peer_mac,
            Self::Host => ends.host_mac,
            Self::Mac(mac) => mac,
        }
    }

    /// How a script writes this address.
    pub fn name(mac: [u8; 6], ends: &Ends) -> String {
        match mac {
            mac if mac == ends.peer_mac => "peer_mac".to_owned(),
            mac if mac == ends.host_mac => "host_mac".to_owned(),
            mac => mac.map(|byte| format!("{byte:02x}")).join(":"),
        }
    }
}
