//! `PcapReplay`: a capture as a queue: its frames are received in order, what is sent is recorded.
//!
//! Invariant: nothing of the capture is lost for want of frames: what cannot be received now is received later.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::RawFd;
use std::time::Duration;

use super::{Capture, PcapRecorder};
use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;
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
    pool: FramePool,
    tx: VecDeque<Frame>,
    tx_ring: usize,
    sent: PcapRecorder<W>,
    stats: QueueStats,
}

impl<W: Write + Send> PcapReplay<W> {
    /// Replays `capture`, all of it as fast as it is received, and records what is sent to `sent`.
    ///
    /// # Errors
    /// [`PoolError`]: the shape of the pool is out of range, or there is no memory for it.
    pub fn new(capture: Capture, sent: PcapRecorder<W>, config: ReplayConfig) -> Result<Self, PoolError> {
        Ok(Self {
            capture,
            next: 0,
            until: Duration::MAX,
            pool: FramePool::new(config.pool)?,
            tx: VecDeque::with_capacity(config.tx_ring),
            tx_ring: config.tx_ring,
            sent,
            stats: QueueStats::default(),
        })
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
        while let Some(frame) = self.tx.pop_front() {
            // Its own frame, so the pool takes it.
            let _ = self.pool.free(frame);
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
            let Some(mut frame) = self.pool.alloc() else { break };
            self.next += 1;
            if frame.resize(bytes.len()).is_err() {
                self.stats.rx_dropped += 1;
                // Its own frame, so the pool takes it.
                let _ = self.pool.free(frame);
                continue;
            }
            frame.bytes_mut().copy_from_slice(bytes);
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += bytes.len() as u64;
            taken += 1;
            if let Err(frame) = out.push(frame) {
                let _ = self.pool.free(frame);
            }
        }
        taken
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        let frame = self.pool.alloc();
        self.stats.tx_exhausted += u64::from(frame.is_none());
        frame
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        let mut taken = 0;
        while self.tx.len() < self.tx_ring {
            let Some(frame) = frames.pop() else { break };
            if !self.pool.owns(&frame) {
                self.stats.foreign_frames += 1;
                continue;
            }
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += frame.len() as u64;
            self.tx.push_back(frame);
            taken += 1;
        }
        taken
    }

    fn free(&mut self, frame: Frame) {
        if self.pool.free(frame).is_err() {
            self.stats.foreign_frames += 1;
        }
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        while let Some(frame) = self.tx.pop_front() {
            self.sent.record(frame.bytes());
            // Its own frame, so the pool takes it.
            let _ = self.pool.free(frame);
        }
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        self.pool.max_frame_bytes()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn census(&self) -> FrameCensus {
        let (total, free, tx) = (self.pool.total_frames(), self.pool.free_frames(), self.tx.len());
        FrameCensus { total, free, fill: 0, tx, held: total - free - tx }
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}
