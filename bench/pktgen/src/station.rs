//! `Station`, `Endpoint`: who we are on the network, and how addresses are written on the command line.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use nic::Mac;

/// An address that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No Ethernet address.
    #[error("'{0}' is no Ethernet address; write six hexadecimal bytes, such as 02:00:00:00:00:01")]
    Mac(String),
    /// An Ethernet address of a group.
    #[error("'{0}' is a group's address; give that of one station (an even first byte)")]
    Group(String),
    /// No endpoint.
    #[error(
        "'{0}' is no endpoint; write ADDRESS, ADDRESS:PORT or ADDRESS:FIRST-LAST, such as 10.0.0.1:7000-7063 or \
         [fd00::1]:7000-7063"
    )]
    Endpoint(String),
}

/// Reads the Ethernet address of one station.
///
/// # Errors
/// [`AddressError::Mac`] for what is no address, [`AddressError::Group`] for that of a group.
pub fn read_mac(text: &str) -> Result<Mac, AddressError> {
    let wrong = || AddressError::Mac(text.to_owned());
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = |part: &&str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let part = parts.next().filter(digits).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() {
        return Err(wrong());
    }
    let is_group = mac[0] & 1 != 0; // IEEE 802-2014 §8.2.2
    if is_group { Err(AddressError::Group(text.to_owned())) } else { Ok(Mac(mac)) }
}

/// An address, and perhaps one port or a range of ports. Where ports follow, an IPv6 address stands in brackets (RFC 5952 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// First and last port, in order.
    pub ports: Option<(u16, u16)>,
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Endpoint(text.to_owned());
        let bracketed = text.strip_prefix('[').map(|text| text.split_once(']').ok_or_else(wrong)).transpose()?;
        let (address, ports): (Option<IpAddr>, _) = match (bracketed, text.split_once(':')) {
            (Some((address, "")), _) => (address.parse::<Ipv6Addr>().ok().map(IpAddr::V6), None),
            (Some((address, ports)), _) => {
                let ports = ports.strip_prefix(':').ok_or_else(wrong)?;
                (address.parse::<Ipv6Addr>().ok().map(IpAddr::V6), Some(ports))
            }
            // Without brackets, of an address with colons all is address.
            (None, Some((_, rest))) if rest.contains(':') => (text.parse().ok(), None),
            (None, Some((address, ports))) => (address.parse().ok(), Some(ports)),
            (None, None) => (text.parse().ok(), None),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let ports = match ports.map(|ports| ports.split_once('-').unwrap_or((ports, ports))) {
            Some((first, last)) => Some((port(first)?, port(last)?)),
            None => None,
        };
        if ports.is_some_and(|(first, last)| first > last) {
            return Err(wrong());
        }
        Ok(Self { address: address.ok_or_else(wrong)?, ports })
    }
}

/// Who we are: the addresses that frames for us carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Our Ethernet address.
    pub mac: Mac,
    /// Our address.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_as_it_is_written() {
        let mac = read_mac("02:0:ab:00:00:0f").unwrap();
        assert_eq!(mac.to_string(), "02:00:ab:00:00:0f");
        for wrong in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:xx", "02:00:00:00:00:+1", "2:::::"]
        {
            assert!(matches!(read_mac(wrong), Err(AddressError::Mac(_))), "{wrong}");
        }
        assert!(matches!(read_mac("ff:ff:ff:ff:ff:ff"), Err(AddressError::Group(_))));
    }

    #[test]
    fn an_endpoint_has_no_port_one_or_a_range() {
        let endpoint = |text: &str| text.parse::<Endpoint>();
        assert_eq!(endpoint("10.0.0.1").unwrap().ports, None);
        assert_eq!(endpoint("10.0.0.1:7").unwrap().ports, Some((7, 7)));
        assert_eq!(endpoint("10.0.0.1:7-9").unwrap(), Endpoint { address: [10, 0, 0, 1].into(), ports: Some((7, 9)) });
        for text in ["fd77::2", "[fd77::2]"] {
            assert_eq!(endpoint(text).unwrap(), Endpoint { address: "fd77::2".parse().unwrap(), ports: None });
        }
        let range = Endpoint { address: "fd77::2".parse().unwrap(), ports: Some((7, 9)) };
        assert_eq!(endpoint("[fd77::2]:7-9").unwrap(), range);
        let wrong =
            ["", "10.0.0", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:9-7", "10.0.0.1:65536", "[10.0.0.1]:7", "fd77::2-3"];
        for wrong in
            wrong.into_iter().chain(["[fd77::2", "[fd77::2]7", "[fd77::2]:", "[fd77::2]:0", "[]:7", "::g", "::1:"])
        {
            assert_eq!(endpoint(wrong), Err(AddressError::Endpoint(wrong.to_owned())));
        }
    }
}
