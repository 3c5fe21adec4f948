//! `PortConfig`, `WireError`: how a port of the wire is made, and why it cannot be.

use crate::fault::{FaultError, Faults};
use crate::pool::{HEADROOM_BYTES, PoolError};
use crate::queue::QueueId;
use crate::rss::Rss;

/// Shape of one port. The default has one queue with rings of 512 frames and a perfect cable.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Queues, at least 1.
    pub queues: u16,
    /// Frames of the fill ring, thus the most that wait to be received, for each queue.
    pub rx_ring: usize,
    /// Frames of the transmit ring of each queue.
    pub tx_ring: usize,
    /// Frames of each queue's pool, at least `rx_ring + tx_ring`.
    pub frames: usize,
    /// Bytes of a chunk: a power of two, 2048 to 32,768.
    pub chunk_bytes: usize,
    /// Longest frame that can be sent, Ethernet header included: 14 to `chunk_bytes` less 256.
    pub max_frame_bytes: usize,
    /// Most frames under way to the port at once; those beyond are dropped.
    pub in_flight_frames: usize,
    /// Whether queues take trains ([`Queue::send_train`](crate::Queue::send_train)), as a veth does; each is cut at once, if
    /// there is room and a frame for all its segments.
    pub trains: bool,
    /// How received frames are steered; `None` is the default key and an even table.
    pub rss: Option<Rss>,
    /// What goes wrong with frames on their way *to* this port.
    pub inbound: Faults,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            queues: 1,
            rx_ring: 512,
            tx_ring: 512,
            frames: 2048,
            chunk_bytes: 2048,
            max_frame_bytes: 1518,
            in_flight_frames: 65_536,
            trains: false,
            rss: None,
            inbound: Faults::default(),
        }
    }
}

impl PortConfig {
    /// A default port with so many queues.
    pub fn with_queues(queues: u16) -> Self {
        Self { queues, ..Self::default() }
    }

    /// Checks what the pool does not check itself.
    pub(crate) fn check(&self) -> Result<(), WireError> {
        let range = |what, value: usize, min: usize, max: usize| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(WireError::Range { what, value, min, max }),
        };
        range("queues", usize::from(self.queues), 1, usize::from(u16::MAX))?;
        range("rx_ring", self.rx_ring, 1, 1 << 20)?;
        range("tx_ring", self.tx_ring, 1, 1 << 20)?;
        range("frames", self.frames, self.rx_ring + self.tx_ring, u32::MAX as usize)?;
        range("chunk_bytes", self.chunk_bytes, 2048, 32_768)?;
        range("max_frame_bytes", self.max_frame_bytes, 14, self.chunk_bytes - HEADROOM_BYTES)?;
        range("in_flight_frames", self.in_flight_frames, 1, 1 << 24)?;
        self.inbound.check()?;
        Ok(())
    }
}

/// Why a wire or one of its queues could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The number of ports is out of range.
    #[error("a wire with {ports} ports: it must have 2 to 64")]
    Ports {
        /// Ports asked for.
        ports: usize,
    },
    /// A number is out of range.
    #[error("{what}: {value} is out of range; it must be from {min} to {max}")]
    Range {
        /// Which field of [`PortConfig`].
        what: &'static str,
        /// What was given.
        value: usize,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// A fault is out of range.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The port has no such queue.
    #[error("queue {} of a port with {queues} queues; they are numbered from 0", queue.0)]
    NoSuchQueue {
        /// The queue asked for.
        queue: QueueId,
        /// Queues there are.
        queues: usize,
    },
    /// The queue is open.
    #[error("queue {} is open; drop it before opening it again", queue.0)]
    QueueTaken {
        /// The queue asked for.
        queue: QueueId,
    },
    /// The queue's frames could not be had.
    #[error("queue {}: {source}", queue.0)]
    Pool {
        /// The queue asked for.
        queue: QueueId,
        /// Why not.
        #[source]
        source: PoolError,
    },
}
