//! `TapQueue`: one queue of a TAP, behind the trait [`Queue`].
//!
//! Frames are read by the kernel straight into a frame of the pool, and written straight from one; `flush` writes what
//! `tx_burst` took. Invariants: frames kept for sending are never used for receiving, so that a
//! flood cannot keep its own answers from being written; a frame that the kernel did not take is counted.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;
use crate::memory_rings::MemoryRings;
use crate::pool::{FramePool, PoolConfig, PoolError};
use crate::queue::{FrameCensus, Queue, QueueDrops, QueueError, QueueId, QueueStats};

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;

/// Bytes of an Ethernet header with one 802.1Q tag.
pub(super) const TAGGED_BYTES: usize = 18;

/// One queue of a [`TapDevice`](super::TapDevice). Closes when dropped.
#[derive(Debug)]
pub struct TapQueue {
    id: QueueId,
    file: OwnedFd,
    rings: MemoryRings,
    /// Frames that stay for sending.
    kept: usize,
    mtu: usize,
    drops: QueueDrops,
    /// What the kernel said when the interface was found to be gone.
    gone: Option<Errno>,
}

impl TapQueue {
    pub(super) fn new(
        id: QueueId,
        file: OwnedFd,
        pool: PoolConfig,
        tx_ring: usize,
        mtu: usize,
    ) -> Result<Self, PoolError> {
        let rings = MemoryRings::new(FramePool::new(pool)?, tx_ring);
        let kept = tx_ring.min(pool.frames / 2);
        Ok(Self { id, file, rings, kept, mtu, drops: QueueDrops::default(), gone: None })
    }

    /// The same queue, before its first frame, with frames of `pool` in place of its own.
    pub(super) fn with_pool(mut self, pool: FramePool) -> Self {
        self.kept = self.kept.min(pool.total_frames() / 2);
        self.rings.set_pool(pool);
        self
    }

    /// Which queue of the TAP this is.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Reads the next frame; `None` when none waits, or no frame is free for receiving.
    fn receive(&mut self) -> Option<Frame> {
        let longest = self.mtu + TAGGED_BYTES;
        while self.rings.pool.free_frames() > self.kept {
            let mut frame = self.rings.pool.alloc()?;
            // One byte more than the longest: a frame that fills it was longer, and is cut.
            let room = (longest + 1).min(frame.capacity());
            let read = match frame.resize(room) {
                Ok(()) => rustix::io::read(&self.file, frame.bytes_mut()),
                Err(_) => Err(Errno::AGAIN),
            };
            match read {
                Ok(bytes) if (ETHERNET_BYTES..=longest).contains(&bytes) && frame.resize(bytes).is_ok() => {
                    return Some(frame);
                }
                Ok(_) => {
                    self.drops.rx_too_long += 1;
                    self.rings.free(frame);
                }
                Err(error) => {
                    self.rings.free(frame);
                    if is_gone(error) {
                        self.gone = Some(error);
                    }
                    return None;
                }
            }
        }
        None
    }

    /// Writes the frames of the transmit ring, until the kernel has no room.
    fn write_all(&mut self) {
        while let Some(frame) = self.rings.tx.pop_front() {
            let written = match (ETHERNET_BYTES..=self.max_frame_bytes()).contains(&frame.len()) {
                true => rustix::io::write(&self.file, frame.bytes()),
                false => Err(Errno::INVAL),
            };
            match written {
                Err(Errno::AGAIN | Errno::INTR) => return self.rings.tx.push_front(frame),
                // The interface is down (EIO), or there is no memory: lost, as on a cable that is out.
                Err(error) => {
                    self.drops.tx_refused += 1;
                    if is_gone(error) {
                        self.gone = Some(error);
                    }
                }
                Ok(_) => {}
            }
            self.rings.free(frame);
        }
    }
}

/// Whether the interface was removed.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::BADFD | Errno::NODEV)
}

impl Queue for TapQueue {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let mut taken = 0;
        while out.room() > 0 {
            let Some(frame) = self.receive() else { break };
            self.rings.stats.rx_frames += 1;
            self.rings.stats.rx_bytes += frame.len() as u64;
            match out.push(frame) {
                Ok(()) => taken += 1,
                // Cannot be: there was room.
                Err(frame) => self.rings.free(frame),
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
        self.write_all();
        match self.gone {
            Some(error) => Err(QueueError::Gone { queue: self.id, source: error.into() }),
            None => Ok(()),
        }
    }

    fn max_frame_bytes(&self) -> usize {
        self.mtu + ETHERNET_BYTES
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    fn has_pending(&self) -> bool {
        // What the kernel had no room for is written at the next turn.
        !self.rings.tx.is_empty()
    }

    fn census(&self) -> FrameCensus {
        let (total, free, tx) = (self.rings.pool.total_frames(), self.rings.pool.free_frames(), self.rings.tx.len());
        FrameCensus { total, free, fill: 0, tx, held: total - free - tx }
    }

    fn stats(&self) -> QueueStats {
        QueueStats { rx_dropped: self.drops.rx_too_long, drops: self.drops, ..self.rings.stats }
    }
}

impl Drop for TapQueue {
    fn drop(&mut self) {
        for frame in self.rings.tx.drain(..) {
            // Its own frames: the pool takes them, so that their memory goes.
            let _ = self.rings.pool.free(frame);
        }
    }
}
