//! `PcapReplay`: a capture as a queue: its frames are received in order, what is sent is recorded.
//!
//! Invariant: nothing of the capture is lost for want of frames: what cannot be received now is received later.

use std::io::Write;
use std::os::fd::RawFd;
use std::time::Duration;

use super::{Capture, PcapRecorder};
use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;
use crate::memory_rings::MemoryRings;
use crate::pool::{FramePool, PoolConfig, PoolError};
use crate::queue::{FrameCensus, Queue, QueueError, QueueStats};

/// Shape of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayConfig {
    /// Frames.
    pub pool: PoolConfig,
    /// Frames of the transmit ring.
    pub tx_ring: usize,
}

impl Default for ReplayConfig {
    /// The pool's default and a transmit ring of 512 frames.
    fn default() -> Self {
        Self { pool: PoolConfig::default(), tx_ring: 512 }
    }
}

/// A capture, replayed as a queue. Frames that are sent go to the recorder at the next `flush`.
#[derive(Debug)]
pub struct PcapReplay<W: Write + Send> {
    capture: Capture,
    next: usize,
    until: Duration,
    rings: MemoryRings,
    sent: PcapRecorder<W>,
}

impl<W: Write + Send> PcapReplay<W> {
    /// Replays `capture`, all of it as fast as it is received, and records what is sent to `sent`.
    ///
    /// # Errors
    /// [`PoolError`]: the shape of the pool is out of range, or there is no memory for it.
    pub fn new(capture: Capture, sent: PcapRecorder<W>, config: ReplayConfig) -> Result<Self, PoolError> {
        Ok(Self::over(capture, sent, FramePool::new(config.pool)?, config.tx_ring))
    }

    /// The same with frames of `pool`, one of several over one memory ([`FramePool::over_one_memory`]), and a transmit ring of
    /// `tx_ring` frames.
    pub fn over(capture: Capture, sent: PcapRecorder<W>, pool: FramePool, tx_ring: usize) -> Self {
        Self { capture, next: 0, until: Duration::MAX, rings: MemoryRings::new(pool, tx_ring), sent }
    }

    /// Receives from now on only frames recorded at `until` or before; frames that are sent are recorded at this time.
    pub fn set_time(&mut self, until: Duration) {
        self.until = until;
        self.sent.set_time(until);
    }

    /// When the next frame was recorded; `None` after the last.
    pub fn next_at(&self) -> Option<Duration> {
        self.capture.frame(self.next).map(|(at, _)| at)
    }

    /// Ends the replay and gives the recorder of what was sent. Frames not flushed are not recorded.
    pub fn into_sent(mut self) -> PcapRecorder<W> {
        while let Some(frame) = self.rings.tx.pop_front() {
            // Its own frame, so the pool takes it.
            let _ = self.rings.pool.free(frame);
        }
        self.sent
    }
}

impl<W: Write + Send> Queue for PcapReplay<W> {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let mut taken = 0;
        while out.room() > 0 {
            let Some((at, bytes)) = self.capture.frame(self.next) else { break };
            if at > self.until {
                break;
            }
            let Some(mut frame) = self.rings.pool.alloc() else { break };
            self.next += 1;
            if frame.resize(bytes.len()).is_err() {
                self.rings.stats.rx_dropped += 1;
                // Its own frame, so the pool takes it.
                let _ = self.rings.pool.free(frame);
                continue;
            }
            frame.bytes_mut().copy_from_slice(bytes);
            self.rings.stats.rx_frames += 1;
            self.rings.stats.rx_bytes += bytes.len() as u64;
            taken += 1;
            if let Err(frame) = out.push(frame) {
                let _ = self.rings.pool.free(frame);
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
        while let Some(frame) = self.rings.tx.pop_front() {
            self.sent.record(frame.bytes());
            // Its own frame, so the pool takes it.
            let _ = self.rings.pool.free(frame);
        }
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        self.rings.pool.max_frame_bytes()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn census(&self) -> FrameCensus {
        let (total, free, tx) = (self.rings.pool.total_frames(), self.rings.pool.free_frames(), self.rings.tx.len());
        FrameCensus { total, free, fill: 0, tx, held: total - free - tx }
    }

    fn stats(&self) -> QueueStats {
        self.rings.stats
    }
}
