//! `EphemeralPorts`: which source address and port a new connection of ours tries next.
//!
//! RFC 6056 §3.3.4 (double-hash port selection): the place to begin at is a keyed hash of where the connection goes, so
//! that a stranger cannot tell it, and one of a few counters, chosen by another part of the hash, moves on from there,
//! so that a port is used again as late as can be. Addresses and ports are one space: behind the last port of an
//! address comes the first of the next. Says nothing about what is in use; the caller looks.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::classify::Local;
use crate::homes::Homes;

/// Counters: destinations that share one merely see its steps.
const COUNTERS: usize = 64;

/// Source addresses and ports in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct EphemeralPorts {
    first: u16,
    /// Ports of an address.
    ports: u64,
    secret: [u64; 2],
    counters: [u64; COUNTERS],
    /// What led to another core.
    pub(crate) homes: Homes,
}

/// Where the search for one connection stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    offset: u64,
    counter: usize,
    address: u32,
    /// Addresses and ports there are.
    pub(crate) space: u64,
}

impl EphemeralPorts {
    /// The ports from `first` to `last`, which is not below it, in an order that `secret` decides, of a core beside `peers`
    /// others.
    pub(crate) fn new((first, last): (u16, u16), secret: [u64; 2], peers: u8) -> Self {
        let ports = u64::from(last - first) + 1;
        Self { first, ports, secret, counters: [0; COUNTERS], homes: Homes::new(peers) }
    }

    /// A search for a connection to `remote` from `source`, which may be a name, or from any address in the row of `local`.
    pub(crate) fn search(&self, local: &Local, source: Option<Ipv4Addr>, remote: SocketAddr) -> Search {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        let source_bits = source.map_or(0, Ipv4Addr::to_bits);
        match remote.ip() {
            IpAddr::V4(ip) => hasher.write_u64(u64::from(source_bits) << 32 | u64::from(ip.to_bits())),
            IpAddr::V6(ip) => {
                hasher.write_u32(source_bits);
                hasher.write_u128(ip.to_bits());
            }
        }
        hasher.write_u16(remote.port());
        let hash = hasher.finish();
        let (address, addresses) = match source {
            Some(source) => (source.to_bits(), 1),
            None => (local.address.to_bits(), local.addresses),
        };
        let counter = hash as usize & (COUNTERS - 1);
        Search { offset: hash >> 32, counter, address, space: self.ports * u64::from(addresses) }
    }

    /// The next address and port of the search.
    pub(crate) fn next(&mut self, search: &Search) -> (Ipv4Addr, u16) {
        let counter = &mut self.counters[search.counter];
        let place = search.offset.wrapping_add(*counter) % search.space;
        *counter = counter.wrapping_add(1);
        let address = search.address.wrapping_add((place / self.ports) as u32);
        (Ipv4Addr::from_bits(address), self.first + (place % self.ports) as u16)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::link::Mac;

    fn local(addresses: u32) -> Local {
        Local::new(Ipv4Addr::new(10, 0, 0, 254), 16, Mac([2, 0, 0, 0, 0, 1])).with_addresses(addresses)
    }

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(10, 0, 9, 9).into(), port)
    }

    #[test]
    fn every_port_of_every_address_comes_before_any_comes_again() {
        let mut ports = EphemeralPorts::new((65_000, 65_535), [1, 2], 0);
        let search = ports.search(&local(3), None, remote(80));
        assert_eq!(search.space, 3 * 536);
        let tried: HashSet<_> = (0..search.space).map(|_| ports.next(&search)).collect();
        assert_eq!(tried.len(), 3 * 536);
        assert!(tried.contains(&(Ipv4Addr::new(10, 0, 1, 0), 65_535)));
        assert!(tried.iter().all(|&(_, port)| port >= 65_000));
    }

    #[test]
    fn a_given_address_is_kept_to() {
        let mut ports = EphemeralPorts::new((1, 9), [1, 2], 0);
        let source = Ipv4Addr::new(10, 0, 0, 255);
        let search = ports.search(&local(2), Some(source), remote(80));
        assert!((0..20).all(|_| ports.next(&search).0 == source));
    }

    #[test]
    fn where_it_begins_depends_on_the_secret_and_the_destination() {
        let starts = |secret| -> Vec<u16> {
            (0..64)
                .map(|port| {
                    let mut ports = EphemeralPorts::new((49_152, 65_535), secret, 0);
                    let search = ports.search(&local(1), None, remote(port));
                    ports.next(&search).1
                })
                .collect()
        };
        assert_ne!(starts([1, 2]), starts([1, 3]));
        assert!(starts([1, 2]).into_iter().collect::<HashSet<_>>().len() > 50);
    }
}
