//! How a flow is named: [`FlowKey`] on the wire, [`FlowId`] within the stack.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Which connection: the addresses and ports of both ends, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The peer's address.
    pub remote: Ipv4Addr,
    /// Our address.
    pub local: Ipv4Addr,
    /// The peer's port.
    pub remote_port: u16,
    /// Our port.
    pub local_port: u16,
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

    /// The peer's address and port, as where frames of the flow come from.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.remote, self.remote_port))
    }

    /// Our address and port, as where frames of the flow go to.
    pub fn own(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.local, self.local_port))
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
