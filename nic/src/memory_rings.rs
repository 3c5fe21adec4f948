//! `MemoryRings`: what a queue without a NIC has of its own: a pool of frames, a transmit ring, and counts.

use std::collections::VecDeque;

use crate::burst::TxBurst;
use crate::frame::Frame;
use crate::pool::FramePool;
use crate::queue::QueueStats;

/// A pool, a transmit ring of its frames, and counts.
#[derive(Debug)]
pub(crate) struct MemoryRings {
    pub(crate) pool: FramePool,
    /// Frames handed over to be sent, all of the pool's own.
    pub(crate) tx: VecDeque<Frame>,
    tx_ring: usize,
    pub(crate) stats: QueueStats,
}

impl MemoryRings {
    /// An empty ring for `tx_ring` frames of `pool`.
    pub(crate) fn new(pool: FramePool, tx_ring: usize) -> Self {
        Self { pool, tx: VecDeque::with_capacity(tx_ring), tx_ring, stats: QueueStats::default() }
    }

    /// Takes another pool, before the first frame.
    pub(crate) fn set_pool(&mut self, pool: FramePool) {
        *self = Self::new(pool, self.tx_ring);
    }

    /// [`Queue::tx_alloc`](crate::Queue::tx_alloc).
    pub(crate) fn alloc(&mut self) -> Option<Frame> {
        let frame = self.pool.alloc();
        self.stats.tx_exhausted += u64::from(frame.is_none());
        frame
    }

    /// [`Queue::tx_burst`](crate::Queue::tx_burst).
    pub(crate) fn burst(&mut self, frames: &mut TxBurst) -> usize {
        let mut taken = 0;
        while self.tx.len() < self.tx_ring {
            let Some(frame) = frames.pop() else { break };
            if !self.pool.owns(&frame) {
                self.stats.foreign_frames += 1;
                continue;
            }
            self.push(frame);
            taken += 1;
        }
        taken
    }

    /// Frames for which the transmit ring has room.
    pub(crate) fn room(&self) -> usize {
        self.tx_ring.saturating_sub(self.tx.len())
    }

    /// Puts a frame of the pool's own into the transmit ring, which has room.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += frame.len() as u64;
        self.tx.push_back(frame);
    }

    /// [`Queue::free`](crate::Queue::free).
    pub(crate) fn free(&mut self, frame: Frame) {
        if self.pool.free(frame).is_err() {
            self.stats.foreign_frames += 1;
        }
    }
}
