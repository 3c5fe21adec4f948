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
/// `OneWay`: one direction of a wire, without ports.
mod one_way;
/// `PortConfig`, `WireError`: how a port is made, and why it cannot be.
mod port_config;
/// `WireQueue`: one queue of a port.
mod wire_queue;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use cable::{WireCounts, WireEvent, WireHappening};
pub use one_way::OneWay;
pub use port_config::{PortConfig, WireError};
pub use wire_queue::WireQueue;

use crate::wire::cable::{Cable, EventLog, Spares};
use crate::{FaultError, Faults, QueueId, Rss};

/// The virtual clock of a wire, from 0. Clones show the same time; any thread may read and set it.
#[derive(Debug, Clone, Default)]
pub struct WireClock(Arc<AtomicU64>);

impl WireClock {
    /// The time since the wire was made.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }

    /// Lets time pass until `time`; a time that has passed changes nothing.
    pub fn set(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_max(nanos, Ordering::AcqRel);
    }
}

/// A wire, from outside: its clock, its faults, what happened on it. Clones are the same wire.
#[derive(Debug, Clone)]
pub struct Wire {
    shared: Arc<Shared>,
}

/// What ports, queues and handles of a wire share.
#[derive(Debug)]
pub(crate) struct Shared {
    clock: WireClock,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    ports: Vec<Port>,
    spares: Spares,
    log: EventLog,
}

/// The far side of a port's queues, and the cable that leads to it.
#[derive(Debug)]
struct Port {
    cable: Cable,
    queues: Vec<Ring>,
    rss: Arc<Rss>,
}

/// What the NIC holds of one queue.
#[derive(Debug, Default)]
struct Ring {
    open: bool,
    /// Received, not yet taken by the queue.
    received: VecDeque<Vec<u8>>,
    /// Frames of the fill ring that are not spoken for by one of `received`.
    posted: usize,
    /// The longest frame that fits one of the queue's.
    frame_bytes: usize,
    /// Frames dropped for want of a posted one, or since they did not fit one.
    dropped: u64,
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
            ports.push(Port {
                cable: Cable::new(config.inbound.clone(), config.in_flight_frames, port_seed),
                queues: (0..config.queues).map(|_| Ring::default()).collect(),
                rss: Arc::new(config.rss.clone().unwrap_or_else(|| Rss::new(config.queues))),
            });
        }
        let rss: Vec<Arc<Rss>> = ports.iter().map(|port| Arc::clone(&port.rss)).collect();
        let inner = Inner { ports, spares: Spares::default(), log: EventLog::default() };
        let shared = Arc::new(Shared { clock: WireClock::default(), inner: Mutex::new(inner) });
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
        WireQueue::open(Arc::clone(&self.shared), self.number, id, &self.config)
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

impl Shared {
    /// The state, also after a test thread has panicked.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Puts a frame on the cables to all other ports.
    fn send(&mut self, from: usize, now: Duration, frame: &[u8]) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            if number != from {
                port.cable.send(number, now, frame, &mut self.spares, &mut self.log);
            }
        }
    }

    /// Moves frames that have arrived at a port into the rings of its queues.
    fn deliver(&mut self, to: usize, now: Duration) {
        let Some(port) = self.ports.get_mut(to) else { return };
        while let Some((due, frame)) = port.cable.arrived(now) {
            let queue = port.rss.queue_for(&frame);
            let taken = match port.queues.get_mut(usize::from(queue.0)) {
                Some(ring) if ring.open && ring.posted > 0 && frame.len() <= ring.frame_bytes => {
                    ring.posted -= 1;
                    ring.received.push_back(frame);
                    None
                }
                Some(ring) => {
                    ring.dropped += 1;
                    Some(frame)
                }
                None => Some(frame),
            };
            port.cable.count_arrival(taken.is_none());
            match taken {
                None => self.log.note(due, to, WireHappening::Delivered { queue }),
                Some(frame) => {
                    self.log.note(due, to, WireHappening::RxDropped { queue });
                    self.spares.keep(frame);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
