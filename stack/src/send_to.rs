//! `SendTo`: a datagram that answers none: to whom, from where, and why it may not leave.

use std::net::{IpAddr, SocketAddr};

use crate::connect::ConnectError;
use crate::datagram::NoFrame;
use crate::link::Mac;

/// Where a datagram goes that answers none ([`NetStack::send_to`](crate::NetStack::send_to)). Make one by [`SendTo::new`], then
/// change fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendTo {
    /// The peer.
    pub remote: SocketAddr,
    /// Our port, not 0. Answers to it are handed over if it is one of [`udp_ports`](crate::StackConfig::udp_ports), and the peer's
    /// is none that only [`udp_services`](crate::StackConfig::udp_services) lets in.
    pub source_port: u16,
    /// Our address; `None`: the one nearest to the peer.
    pub source: Option<IpAddr>,
    /// The peer's Ethernet address, or the gateway's; `None`: as the stack knows it, else by ARP or NDP.
    pub mac: Option<Mac>,
    /// Which of the core's ports it leaves by.
    pub port: u16,
}

impl SendTo {
    /// To `remote`, from the port `source_port` of ours, by the core's first port.
    pub fn new(remote: impl Into<SocketAddr>, source_port: u16) -> Self {
        Self { remote: remote.into(), source_port, source: None, mac: None, port: 0 }
    }
}

/// Why a datagram has not left. Nobody keeps it: the caller sends it again, or counts the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendToError {
    /// There is no way there, for a connection either.
    #[error(transparent)]
    NoWay(#[from] ConnectError),
    /// It is not known at which station the next hop is. It is asked for from now on, three times a second apart; once it has
    /// answered, datagrams leave. Where it never does, this is what every call says: nobody tells that a host is not there.
    #[error("the Ethernet address of {hop} is being asked for; try again in a later turn")]
    Asking {
        /// The peer, or the router by which it is reached.
        hop: IpAddr,
    },
    /// A datagram from port 0 cannot be answered (RFC 768).
    #[error("0 is no source port; give one of the stack's udp_ports, to which answers are handed over")]
    SourcePort,
    /// It would be longer than the link's packets are.
    #[error("{len} bytes are more than the {most} that a datagram to this peer holds; send less at a time")]
    TooLong {
        /// What was asked for, in bytes.
        len: usize,
        /// What the link's MTU leaves.
        most: usize,
    },
    /// Every TX frame is in flight.
    #[error(transparent)]
    NoFrame(#[from] NoFrame),
}
