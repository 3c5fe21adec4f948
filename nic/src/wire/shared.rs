//! `Shared`: what ports, queues and handles of a wire share: the clock, the cables and the far side of every queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cable::{Cable, EventLog, Spares, WireHappening};
use crate::queue::QueueId;
use crate::rss::Rss;

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

/// What ports, queues and handles of a wire share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: WireClock,
    inner: Mutex<Inner>,
}

/// The state of a wire.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ports: Vec<FarSide>,
    pub(super) spares: Spares,
    pub(super) log: EventLog,
}

/// The far side of a port's queues, and the cable that leads to it.
#[derive(Debug)]
pub(super) struct FarSide {
    pub(super) cable: Cable,
    pub(super) queues: Vec<Ring>,
    pub(super) rss: Arc<Rss>,
}

/// What the NIC holds of one queue.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) open: bool,
    /// Received, not yet taken by the queue.
    pub(super) received: VecDeque<Vec<u8>>,
    /// Frames of the fill ring that are not spoken for by one of `received`.
    pub(super) posted: usize,
    /// The longest frame that fits one of the queue's.
    pub(super) frame_bytes: usize,
    /// Frames dropped for want of a posted one, or since they did not fit one.
    pub(super) dropped: u64,
}

impl Shared {
    /// The state of a new wire, at time 0.
    pub(super) fn new(ports: Vec<FarSide>) -> Self {
        let inner = Inner { ports, spares: Spares::default(), log: EventLog::default() };
        Self { clock: WireClock::default(), inner: Mutex::new(inner) }
    }

    /// The state, also after a test thread has panicked.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Puts a frame on the cables to all other ports.
    pub(super) fn send(&mut self, from: usize, now: Duration, frame: &[u8]) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            if number != from {
                port.cable.send(number, now, frame, &mut self.spares, &mut self.log);
            }
        }
    }

    /// Moves frames that have arrived at a port into the rings of its queues.
    pub(super) fn deliver(&mut self, to: usize, now: Duration) {
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

    /// The far side of a queue.
    pub(super) fn ring(&mut self, port: usize, id: QueueId) -> Option<&mut Ring> {
        self.ports.get_mut(port)?.queues.get_mut(usize::from(id.0))
    }
}
