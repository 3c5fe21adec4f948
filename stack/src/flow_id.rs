//! How a flow is named: [`Ends`] on the wire, [`FlowKey`] and [`FlowId`] within the stack.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The first of the numbers that name IPv6 addresses (`names.rs`).
pub(crate) const FIRST_NAME: u32 = 0xf000_0000;

/// Whether `address` is the name of an IPv6 address.
#[inline]
pub(crate) fn is_name(address: Ipv4Addr) -> bool {
    address.to_bits() >= FIRST_NAME
}

/// Which connection: the addresses and ports of both ends, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The peer's address.
    pub remote: IpAddr,
    /// Our address.
    pub local: IpAddr,
    /// The peer's port.
    pub remote_port: u16,
    /// Our port.
    pub local_port: u16,
}

impl Ends {
    /// Of a client of a cache, for tests.
    #[cfg(test)]
    pub(crate) const OF_TESTS: Self = Self {
        remote: IpAddr::V4(FlowKey::OF_TESTS.remote),
        local: IpAddr::V4(FlowKey::OF_TESTS.local),
        remote_port: FlowKey::OF_TESTS.remote_port,
        local_port: FlowKey::OF_TESTS.local_port,
    };

    /// The peer's address and port, as where frames of the flow come from.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }

    /// Our address and port, as where frames of the flow go to.
    pub fn own(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    /// Feeds `hasher`: 12 bytes of IPv4, 36 of IPv6.
    #[inline]
    pub(crate) fn feed(&self, hasher: &mut impl Hasher) {
        match (self.remote, self.local) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                hasher.write_u64(u64::from(remote.to_bits()) << 32 | u64::from(local.to_bits()));
            }
            (remote, local) => {
                for address in [remote, local] {
                    let bits = match address {
                        IpAddr::V4(address) => address.to_bits().into(),
                        IpAddr::V6(address) => address.to_bits(),
                    };
                    hasher.write_u128(bits);
                }
            }
        }
        hasher.write_u32(u32::from(self.remote_port) << 16 | u32::from(self.local_port));
    }
}

/// The same in twelve bytes: an IPv6 address is there by its name (`names.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    /// The peer's address.
    pub(crate) remote: Ipv4Addr,
    /// Our address.
    pub(crate) local: Ipv4Addr,
    /// The peer's port.
    pub(crate) remote_port: u16,
    /// Our port.
    pub(crate) local_port: u16,
}

impl FlowKey {
    /// A flow for tests: of a client to a cache.
    #[cfg(test)]
    pub(crate) const OF_TESTS: FlowKey = FlowKey {
        remote: Ipv4Addr::new(10, 0, 0, 1),
        local: Ipv4Addr::new(10, 0, 0, 2),
        remote_port: 40_000,
        local_port: 11_211,
    };

    /// Whether the addresses are names of IPv6 ones.
    #[inline]
    pub(crate) fn is_ipv6(&self) -> bool {
        is_name(self.remote)
    }

    /// The key of no flow.
    pub(crate) const NONE: Self =
        Self { remote: Ipv4Addr::UNSPECIFIED, local: Ipv4Addr::UNSPECIFIED, remote_port: 0, local_port: 0 };
}

/// Names a flow of one stack for as long as it lives; never names a later flow that reuses its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl FlowId {
    /// No flow: no stack has so many.
    pub(crate) const NONE: Self = Self { index: u32::MAX, generation: 0 };

    /// A number below [`StackConfig::max_flows`](crate::StackConfig::max_flows), to index the application's own table
    /// with. A later flow may have the same index; keep the whole id beside and compare.
    #[inline]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The whole id in 64 bits, to be sent to another core and back.
    #[inline]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The id that [`to_bits`](Self::to_bits) was made of.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_bits() {
        let id = FlowId { index: 0xdead_beef, generation: 0x1234_5679 };
        assert_eq!(FlowId::from_bits(id.to_bits()), id);
    }
}
