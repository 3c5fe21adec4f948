//! `Station`, `Endpoint`: who we are on the network, and how addresses are written on the command line.

use std::net::Ipv4Addr;
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
    #[error("'{0}' is no endpoint; write ADDRESS, ADDRESS:PORT or ADDRESS:FIRST-LAST, such as 10.0.0.1:7000-7063")]
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

/// An IPv4 address, and perhaps one port or a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// First and last port, in order.
    pub ports: Option<(u16, u16)>,
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Endpoint(text.to_owned());
        let (address, ports) = match text.split_once(':') {
            Some((address, ports)) => (address, Some(ports)),
            None => (text, None),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let ports = match ports.map(|ports| ports.split_once('-').unwrap_or((ports, ports))) {
            Some((first, last)) => Some((port(first)?, port(last)?)),
            None => None,
        };
        if ports.is_some_and(|(first, last)| first > last) {
            return Err(wrong());
        }
        Ok(Self { address: address.parse().map_err(|_| wrong())?, ports })
    }
}

/// Who we are: the addresses that frames for us carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Our Ethernet address.
    pub mac: Mac,
    /// Our IPv4 address.
    pub address: Ipv4Addr,
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
        for wrong in ["", "10.0.0", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:9-7", "10.0.0.1:65536", "[::1]:7"] {
            assert_eq!(endpoint(wrong), Err(AddressError::Endpoint(wrong.to_owned())));
        }
    }
}
