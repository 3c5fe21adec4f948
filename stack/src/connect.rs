//! What an application asks for when it opens a connection, and why that may fail at once.

use std::net::{IpAddr, SocketAddr};

use crate::event::Token;
use crate::link::Mac;
use crate::ready::Interest;

/// A connection to be opened by [`NetStack::connect`](crate::NetStack::connect). Make one by [`Connect::to`], then
/// change fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connect {
    /// The peer.
    pub remote: SocketAddr,
    /// Our address; `None`: those in a row of the stack's own, in turn; of IPv6 the one nearest to the peer (RFC 6724 §5).
    pub source: Option<IpAddr>,
    /// Our port; `None`: the next free one of [`ephemeral_ports`](crate::StackConfig::ephemeral_ports).
    pub source_port: Option<u16>,
    /// The peer's Ethernet address, or the gateway's; `None`: as the stack knows it, else by ARP or NDP.
    pub mac: Option<Mac>,
    /// Which of the ports given to [`flush`](crate::NetStack::flush) the SYN leaves by.
    pub port: u16,
    /// The number that is told with every [`Event`](crate::Event) of the flow.
    pub token: Token,
    /// What is told of the flow; that it is open, or why it is not, of whatever interest, unless that is empty.
    pub interest: Interest,
}

impl Connect {
    /// A connection to `remote` by the first port, everything else being the stack's choice; all is told of it as it
    /// happens ([`Interest::EDGE`]), with the number 0.
    pub fn to(remote: impl Into<SocketAddr>) -> Self {
        let (token, interest) = (Token(0), Interest::EDGE);
        Self { remote: remote.into(), source: None, source_port: None, mac: None, port: 0, token, interest }
    }
}

/// Why a connection cannot even be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody can be reached there.
    #[error("{remote} is not the address and port of another host; give a unicast address and a port from 1 to 65535")]
    Remote {
        /// What was asked for.
        remote: SocketAddr,
    },
    /// Not one of the stack's addresses.
    #[error("{address} is not an address of this stack that can reach the peer; choose another of its own, or none")]
    Source {
        /// What was asked for.
        address: IpAddr,
    },
    /// The port asked for is listened on, in use, or was used too recently for this peer.
    #[error("source port {port} is in use towards {remote}, or was until just now; choose another, or none")]
    PortInUse {
        /// What was asked for.
        port: u16,
        /// The peer.
        remote: SocketAddr,
    },
    /// Every source port tried is in use, was until just now, or leads to another core.
    #[error(
        "none of {tried} source ports tried towards {remote} is free; give the stack more addresses or a wider range \
         of source ports, or close fewer connections a second"
    )]
    NoFreePort {
        /// Addresses and ports that were tried.
        tried: u32,
        /// The peer.
        remote: SocketAddr,
    },
    /// The peer is beyond the subnet, and there is no gateway.
    #[error("{remote} is not on the subnet and there is no gateway; set one")]
    NoRoute {
        /// The peer.
        remote: SocketAddr,
    },
    /// The stack holds as many flows as it may.
    #[error("all {max_flows} flows are in use; raise max_flows, or close connections")]
    NoFreeFlow {
        /// The limit.
        max_flows: usize,
    },
    /// The stack may hold more flows, but has not made their blocks yet.
    #[error("no flow block has been made ahead; try again in the next turn, or raise flows_at_start")]
    NoBlockYet,
    /// As many IPv6 hosts have connections as may have any.
    #[error("all places for hosts of IPv6 are taken; raise stations, or close connections")]
    TooManyHosts,
    /// The Ethernet addresses of too many hosts are being asked for.
    #[error("too many hosts are asked for their Ethernet address at once; try again when some have answered")]
    TooManyNeighbors,
}
