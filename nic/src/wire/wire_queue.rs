//! `WireQueue`: one queue of a port on the in-memory wire, with the four rings of AF_XDP.
//!
//! Frames handed over by `tx_burst` go on the cable at the next `flush`, which also refills the fill ring; a frame
//! that arrives while no frame is posted is dropped and counted. Invariant: the fill ring has a frame for each one
//! posted and for each one received and not yet taken.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::cut::send_cut;
use super::port_config::{PortConfig, WireError};
use super::shared::Shared;
use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;
use crate::memory_rings::MemoryRings;
use crate::pool::{FramePool, HEADROOM_BYTES, PoolConfig};
use crate::queue::{FrameCensus, Queue, QueueDrops, QueueError, QueueId, QueueStats};

/// Shortest frame that can be sent: an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;

/// The pool that a queue of such a port has.
pub(super) fn pool_of(config: &PortConfig) -> PoolConfig {
    PoolConfig { frames: config.frames, chunk_bytes: config.chunk_bytes, headroom_bytes: HEADROOM_BYTES }
}

/// One queue of a [`WirePort`](crate::WirePort). Closes when dropped.
#[derive(Debug)]
pub struct WireQueue {
    shared: Arc<Shared>,
    port: usize,
    id: QueueId,
    rings: MemoryRings,
    fill: VecDeque<Frame>,
    fill_ring: usize,
    max_frame_bytes: usize,
    trains: bool,
    unsendable: u64,
}

impl WireQueue {
    /// Opens the queue, with the frames that `pool` makes, and fills its fill ring.
    pub(super) fn open(
        shared: Arc<Shared>,
        port: usize,
        id: QueueId,
        config: &PortConfig,
        pool: impl FnOnce() -> Result<FramePool, WireError>,
    ) -> Result<Self, WireError> {
        {
            let mut inner = shared.lock();
            let queues = usize::from(config.queues);
            let ring = inner.ring(port, id).ok_or(WireError::NoSuchQueue { queue: id, queues })?;
            if ring.open {
                return Err(WireError::QueueTaken { queue: id });
            }
            ring.open = true;
            ring.dropped = 0;
        }
        let pool = pool().inspect_err(|_| {
            if let Some(ring) = shared.lock().ring(port, id) {
                ring.open = false;
            }
        })?;
        if let Some(ring) = shared.lock().ring(port, id) {
            ring.frame_bytes = pool.max_frame_bytes();
        }
        let mut queue = Self {
            shared,
            port,
            id,
            rings: MemoryRings::new(pool, config.tx_ring),
            fill: VecDeque::with_capacity(config.rx_ring),
            fill_ring: config.rx_ring,
            max_frame_bytes: config.max_frame_bytes,
            trains: config.trains,
            unsendable: 0,
        };
        queue.refill();
        Ok(queue)
    }

    /// Posts free frames until the fill ring is full.
    fn refill(&mut self) {
        let mut posted = 0;
        while self.fill.len() < self.fill_ring {
            let Some(frame) = self.rings.pool.alloc() else { break };
            self.fill.push_back(frame);
            posted += 1;
        }
        if let Some(ring) = self.shared.lock().ring(self.port, self.id) {
            ring.posted += posted;
        }
    }
}

impl Queue for WireQueue {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let now = self.shared.clock.now();
        let mut inner = self.shared.lock();
        inner.deliver(self.port, now);
        let mut taken = 0;
        while out.room() > 0 {
            let Some(bytes) = inner.ring(self.port, self.id).and_then(|ring| ring.received.pop_front()) else { break };
            let Some(mut frame) = self.fill.pop_front() else { break };
            if frame.resize(bytes.len()).is_ok() {
                frame.bytes_mut().copy_from_slice(&bytes);
            }
            self.rings.stats.rx_frames += 1;
            self.rings.stats.rx_bytes += bytes.len() as u64;
            inner.spares.keep(bytes);
            taken += 1;
            if out.push(frame).is_err() {
                break;
            }
        }
        taken
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        self.rings.alloc()
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        self.rings.burst(frames)
    }

    fn free(&mut self, frame: Frame) {
        self.rings.free(frame);
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        let now = self.shared.clock.now();
        let Self { shared, rings: MemoryRings { tx, pool, .. }, .. } = self;
        let mut inner = shared.lock();
        while let Some(frame) = tx.pop_front() {
            if (FRAME_BYTES_MIN..=self.max_frame_bytes).contains(&frame.len()) {
                inner.send(self.port, now, frame.bytes());
            } else {
                self.unsendable += 1;
            }
            // Its own frame, as `tx_burst` made sure of, so the pool takes it.
            let _ = pool.free(frame);
        }
        // What has arrived finds the fill ring as it was before this call.
        inner.deliver(self.port, now);
        drop(inner);
        self.refill();
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn takes_trains(&self) -> bool {
        self.trains
    }

    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        self.trains && send_cut(&mut self.rings, packet, cut)
    }

    fn census(&self) -> FrameCensus {
        let (total, free) = (self.rings.pool.total_frames(), self.rings.pool.free_frames());
        let (fill, tx) = (self.fill.len(), self.rings.tx.len());
        FrameCensus { total, free, fill, tx, held: total - free - fill - tx }
    }

    fn stats(&self) -> QueueStats {
        let rx_dropped = self.shared.lock().ring(self.port, self.id).map_or(0, |ring| ring.dropped);
        // The wire drops what finds its fill ring empty, as a NIC would.
        let drops = QueueDrops { rx_fill_ring_empty: rx_dropped, tx_refused: self.unsendable, ..QueueDrops::default() };
        QueueStats { rx_dropped, drops, ..self.rings.stats }
    }
}

impl Drop for WireQueue {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        if let Some(ring) = inner.ring(self.port, self.id) {
            ring.open = false;
            ring.posted = 0;
            let received = std::mem::take(&mut ring.received);
            for bytes in received {
                inner.spares.keep(bytes);
            }
        }
        drop(inner);
        for frame in self.fill.drain(..).chain(self.rings.tx.drain(..)) {
            // Its own frames: the pool takes them, so that their memory goes.
            let _ = self.rings.pool.free(frame);
        }
    }
}
