//! `ReplayError`: why nothing could be replayed, in one line for the user.

use std::net::{IpAddr, SocketAddr};

use cache::MeshError;
use nic::{PcapError, PoolError, QueueError, WireError};

/// Why nothing could be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file cannot be opened.
    #[error(transparent)]
    Open(PcapError),
    /// A file is no capture that can be used.
    #[error("{path}: {source}")]
    Capture {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: PcapError,
    },
    /// The address cannot be replayed to.
    #[error(
        "{address} is not an address on a link; captures of loopback cannot be replayed, record on a veth pair or a NIC"
    )]
    Address {
        /// What was typed.
        address: IpAddr,
    },
    /// No frame is for the server.
    #[error("no TCP frame to {server} among {frames} frames; {hint}")]
    NoTraffic {
        /// Where it should go.
        server: SocketAddr,
        /// Frames there are.
        frames: usize,
        /// What to do.
        hint: String,
    },
    /// No connection begins in the capture.
    #[error(
        "none of {connections} connections to {server} has its SYN and SYN-ACK in the capture; start recording before the client connects, and record both directions"
    )]
    NoBeginning {
        /// Where they go.
        server: SocketAddr,
        /// How many there are.
        connections: usize,
    },
    /// The cache cannot be built as asked.
    #[error(transparent)]
    Cache(#[from] MeshError),
    /// The stack cannot be built as asked.
    #[error(transparent)]
    Stack(#[from] stack::ConfigError),
    /// No wire could be made.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// No memory for frames.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The worker could not go on.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}
