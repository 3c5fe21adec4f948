//! `Wire`: NICs and the cable between them in memory, on a virtual clock, with seeded faults.
//!
//! A port is a NIC: queues with rings and frame pools of their own, received frames steered by [`Rss`]. What a port
//! sends reaches every other port of the wire (two ports make a cable, more make a hub); frames are copied across, as
//! a NIC copies by DMA. Nothing moves but by a call, and time is what the test says it is: the same seed and the same
//! calls give the same run.
//!
//! A test device: its queues share a mutex, which those of a real link never do. They are `Send` all the same, so that
//! a test may give each to a thread. After the first frames nothing is allocated. Invariants: every frame that is sent
//! is delivered, dropped by a counted cause or still under way ([`WireCounts`]); every ring and the cable are bounded.
//! Read first: `queue.rs`, `fault.rs`.

/// `Cable`: what is under way to one port.
mod cable;
/// Trains, cut.
mod cut;
/// `OneWay`: one direction of a wire, without ports.
mod one_way;
/// `PortConfig`, `WireError`: how a port is made, and why it cannot be.
mod port_config;
/// `Shared`: what ports, queues and handles of a wire share.
mod shared;
/// `WireQueue`: one queue of a port.
mod wire_queue;

use std::sync::Arc;
use std::time::Duration;

pub use cable::{WireCounts, WireEvent, WireHappening};
pub use one_way::OneWay;
pub use port_config::{PortConfig, WireError};
pub use shared::WireClock;
pub use wire_queue::WireQueue;

use cable::Cable;
use shared::{FarSide, Ring, Shared};

use crate::fault::{FaultError, Faults};
use crate::pool::FramePool;
use crate::queue::QueueId;
use crate::rss::Rss;

/// A wire, from outside: its clock, its faults, what happened on it. Clones are the same wire.
#[derive(Debug, Clone)]
pub struct Wire {
    shared: Arc<Shared>,
}

impl Wire {
    /// Two ports and the cable between them. The same seed gives the same faults.
    ///
    /// # Errors
    /// [`WireError`]: a configuration out of range.
    pub fn pair(first: PortConfig, second: PortConfig, seed: u64) -> Result<(Self, WirePort, WirePort), WireError> {
        let (wire, ports) = Self::hub(vec![first, second], seed)?;
        let mut ports = ports.into_iter();
        match (ports.next(), ports.next()) {
            (Some(first), Some(second)) => Ok((wire, first, second)),
            // `hub` makes a port of each configuration, and refuses fewer than two.
            _ => Err(WireError::Ports { ports: 2 }),
        }
    }

    /// Ports joined by a hub: what one sends, every other one receives, faults and all drawn for each on its own.
    ///
    /// # Errors
    /// [`WireError`]: fewer than 2 or more than 64 ports, or a configuration out of range.
    pub fn hub(configs: Vec<PortConfig>, seed: u64) -> Result<(Self, Vec<WirePort>), WireError> {
        if !(2..=64).contains(&configs.len()) {
            return Err(WireError::Ports { ports: configs.len() });
        }
        let mut ports = Vec::with_capacity(configs.len());
        for (number, config) in configs.iter().enumerate() {
            config.check()?;
            // Any odd constant keeps the generators of the ports apart.
            let port_seed = seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ports.push(FarSide {
                cable: Cable::new(config.inbound.clone(), config.in_flight_frames, port_seed),
                queues: (0..config.queues).map(|_| Ring::default()).collect(),
                rss: Arc::new(config.rss.clone().unwrap_or_else(|| Rss::new(config.queues))),
            });
        }
        let rss: Vec<Arc<Rss>> = ports.iter().map(|port| Arc::clone(&port.rss)).collect();
        let shared = Arc::new(Shared::new(ports));
        let ports = configs
            .into_iter()
            .zip(rss)
            .enumerate()
            .map(|(number, (config, rss))| WirePort { shared: Arc::clone(&shared), number, config, rss })
            .collect();
        Ok((Self { shared }, ports))
    }

    /// The clock.
    pub fn clock(&self) -> WireClock {
        self.shared.clock.clone()
    }

    /// When the next frame arrives: a time that has passed if one has arrived and no port has looked yet. `None` when
    /// nothing is under way. Frames that wait in a receive ring are not counted: they have arrived.
    pub fn next_due(&self) -> Option<Duration> {
        self.shared.lock().ports.iter().filter_map(|port| port.cable.next_due()).min()
    }

    /// Whether frames have arrived at a queue of a port and wait to be taken: what the descriptor of a real queue tells
    /// a core that sleeps.
    pub fn has_arrived(&self, port: usize, queue: QueueId) -> bool {
        let now = self.shared.clock.now();
        let mut inner = self.shared.lock();
        inner.deliver(port, now);
        inner.ring(port, queue).is_some_and(|ring| !ring.received.is_empty())
    }

    /// Replaces the faults of what is sent to a port from now on; what is under way stays so. A port that is not
    /// there is ignored.
    ///
    /// # Errors
    /// [`FaultError`]: a fault out of range; the old ones stay.
    pub fn set_inbound_faults(&self, port: usize, faults: Faults) -> Result<(), FaultError> {
        faults.check()?;
        if let Some(port) = self.shared.lock().ports.get_mut(port) {
            port.cable.set_faults(faults);
        }
        Ok(())
    }

    /// What became of the frames sent to a port; all zero for a port that is not there.
    pub fn counts(&self, port: usize) -> WireCounts {
        self.shared.lock().ports.get(port).map(|port| port.cable.counts()).unwrap_or_default()
    }

    /// Keeps the last `events` events from now on; 0 keeps none (so it is at first).
    pub fn log_events(&self, events: usize) {
        self.shared.lock().log.set_capacity(events);
    }

    /// Takes the events kept since the last call, oldest first.
    pub fn take_events(&self) -> Vec<WireEvent> {
        self.shared.lock().log.take()
    }
}

/// One NIC on the wire.
#[derive(Debug)]
pub struct WirePort {
    shared: Arc<Shared>,
    number: usize,
    config: PortConfig,
    rss: Arc<Rss>,
}

impl WirePort {
    /// Opens a queue; dropping the queue closes it, after which it can be opened again.
    ///
    /// # Errors
    /// [`WireError`]: no such queue, it is open, or there is no memory for its frames.
    pub fn take_queue(&self, id: QueueId) -> Result<WireQueue, WireError> {
        let shape = wire_queue::pool_of(&self.config);
        let pool = || FramePool::new(shape).map_err(|source| WireError::Pool { queue: id, source });
        WireQueue::open(Arc::clone(&self.shared), self.number, id, &self.config, pool)
    }

    /// As [`take_queue`](Self::take_queue), with frames of `pool` in place of a pool of its own: one of several over one
    /// memory ([`FramePool::over_one_memory`]), with as many frames at least as the port's rings.
    ///
    /// # Errors
    /// [`WireError`]: no such queue, it is open, or the pool has too few frames or too short ones.
    pub fn take_queue_with(&self, id: QueueId, pool: FramePool) -> Result<WireQueue, WireError> {
        let (frames, bytes) = (pool.total_frames(), pool.max_frame_bytes());
        let range = |what, value, min| match value < min {
            true => Err(WireError::Range { what, value, min, max: u32::MAX as usize }),
            false => Ok(()),
        };
        range("frames", frames, self.config.rx_ring + self.config.tx_ring)?;
        range("chunk_bytes", bytes, self.config.max_frame_bytes)?;
        WireQueue::open(Arc::clone(&self.shared), self.number, id, &self.config, || Ok(pool))
    }

    /// Which port of the wire this is, from 0; the number by which [`Wire`] knows it.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Queues there are.
    pub fn queues(&self) -> u16 {
        self.config.queues
    }

    /// How received frames are steered.
    pub fn rss(&self) -> &Rss {
        &self.rss
    }
}

#[cfg(test)]
mod tests;
