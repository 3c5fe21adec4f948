//! `RelayQueue`, `RelayPort`: a queue for a core that polls no NIC queue, fed by one that does.
//!
//! The four rings of AF_XDP in memory, lock-free, between one worker and one polling core. All frames belong to the
//! worker (a pool is touched by its own core alone), so a frame's bytes are copied once each way:
//!
//! ```text
//! worker: RelayQueue                          polling core: RelayPort
//!   pool ──fill──────────────────────────►  forward(bytes): copied in
//!   rx_burst ◄──────────────────────rx────
//!   tx_burst ──tx────────────────────────►  transmit: copied to a frame of the NIC queue
//!   pool ◄──────────────completion────────
//! ```
//!
//! Invariants: the rings hold all frames of the pool, so that pushing one never fails; what finds no frame is dropped
//! and counted. Nothing allocates after the start. Waking a worker that sleeps is the caller's business: `forward`
//! says whether there is something new. Read first: `queue.rs`; `stray.rs` for the one-way relay.

use std::os::fd::RawFd;
use std::sync::Arc;

use cpu::{CachePadded, Counter};

use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;
use crate::pool::{FramePool, PoolConfig, PoolError};
use crate::queue::{FrameCensus, Queue, QueueError, QueueStats};
use crate::sync::ArrayQueue;
use crate::wait::Doorbell;

/// Shape of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayConfig {
    /// The worker's frames; a quarter of `frames` at least stays free for sending.
    pub pool: PoolConfig,
    /// Most frames posted for receiving: 1 to three quarters of `pool.frames`.
    pub rx_ring: usize,
    /// Longest frame that can be sent, in bytes: that of the NIC queue behind the relay.
    pub max_frame_bytes: usize,
}

impl Default for RelayConfig {
    /// 2048 frames of 2048 bytes, 1024 of them posted for receiving; frames up to 1514 bytes.
    fn default() -> Self {
        let pool = PoolConfig { frames: 2048, ..PoolConfig::default() };
        Self { pool, rx_ring: 1024, max_frame_bytes: 1514 }
    }
}

/// Why a relay could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A number is out of range.
    #[error("relay {what}: {value} is out of range; it must be from {min} to {max}")]
    Range {
        /// Which field.
        what: &'static str,
        /// What was given.
        value: usize,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The frames could not be had.
    #[error("relay: {0}")]
    Pool(#[from] PoolError),
}

/// What worker and polling core share.
#[derive(Debug)]
struct Rings {
    fill: ArrayQueue<Frame>,
    rx: ArrayQueue<Frame>,
    tx: ArrayQueue<Frame>,
    completion: ArrayQueue<Frame>,
    /// Frames dropped since none was posted or they did not fit. Written by the polling core.
    dropped: CachePadded<Counter>,
}

/// Makes a relay between a worker, which gets the queue, and a polling core, which gets the port.
///
/// # Errors
/// [`RelayError`]: a shape out of range, or no memory for the frames.
pub fn relay_pair(config: RelayConfig) -> Result<(RelayQueue, RelayPort), RelayError> {
    let frames = config.pool.frames;
    let range = |what, value, min, max| match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(RelayError::Range { what, value, min, max }),
    };
    range("pool.frames", frames, 4, 1 << 20)?;
    range("rx_ring", config.rx_ring, 1, frames / 4 * 3)?;
    let pool = FramePool::new(config.pool)?;
    range("max_frame_bytes", config.max_frame_bytes, 14, pool.max_frame_bytes())?;
    let rings = Arc::new(Rings {
        fill: ArrayQueue::new(frames),
        rx: ArrayQueue::new(frames),
        tx: ArrayQueue::new(frames),
        completion: ArrayQueue::new(frames),
        dropped: CachePadded::default(),
    });
    let mut queue = RelayQueue {
        rings: Arc::clone(&rings),
        pool,
        rx_ring: config.rx_ring,
        max_frame_bytes: config.max_frame_bytes,
        posted: 0,
        in_tx: 0,
        unsendable: 0,
        stats: QueueStats::default(),
        doorbell: None,
        unannounced: false,
    };
    queue.refill();
    Ok((queue, RelayPort { rings, pending: None, stats: RelayPortStats::default() }))
}

/// The worker's side: a [`Queue`] like any other. Closes when dropped; the port then drops what it is given.
#[derive(Debug)]
pub struct RelayQueue {
    rings: Arc<Rings>,
    pool: FramePool,
    rx_ring: usize,
    max_frame_bytes: usize,
    /// Frames in the fill and rx rings, and in the polling core's hands between them.
    posted: usize,
    /// Frames in the tx and completion rings, and in the polling core's hands between them.
    in_tx: usize,
    unsendable: u64,
    stats: QueueStats,
    /// The polling core's, rung once after frames were sent.
    doorbell: Option<Arc<Doorbell>>,
    unannounced: bool,
}

impl RelayQueue {
    /// Rings `doorbell`, the polling core's, at each flush that follows a send.
    pub fn set_doorbell(&mut self, doorbell: Arc<Doorbell>) {
        self.doorbell = Some(doorbell);
    }

    /// Posts free frames until `rx_ring` of them are.
    fn refill(&mut self) {
        while self.posted < self.rx_ring {
            let Some(frame) = self.pool.alloc() else { break };
            match self.rings.fill.push(frame) {
                Ok(()) => self.posted += 1,
                // Cannot be: the ring holds all frames. The frame goes home all the same.
                Err(frame) => return self.recycle(frame),
            }
        }
    }

    /// Takes back the frames that have been sent.
    fn reap(&mut self) {
        while let Some(frame) = self.rings.completion.pop() {
            self.in_tx -= 1;
            self.recycle(frame);
        }
    }

    fn recycle(&mut self, frame: Frame) {
        if self.pool.free(frame).is_err() {
            self.stats.foreign_frames += 1;
        }
    }
}

impl Queue for RelayQueue {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let mut taken = 0;
        while out.room() > 0 {
            let Some(frame) = self.rings.rx.pop() else { break };
            self.posted -= 1;
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += frame.len() as u64;
            taken += 1;
            if let Err(frame) = out.push(frame) {
                // Cannot be: there was room.
                self.recycle(frame);
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
        while let Some(frame) = frames.pop() {
            if !self.pool.owns(&frame) {
                self.stats.foreign_frames += 1;
                continue;
            }
            taken += 1;
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += frame.len() as u64;
            if frame.is_empty() || frame.len() > self.max_frame_bytes {
                self.unsendable += 1;
                self.recycle(frame);
                continue;
            }
            match self.rings.tx.push(frame) {
                Ok(()) => {
                    self.in_tx += 1;
                    self.unannounced = true;
                }
                // Cannot be: the ring holds all frames. The frame goes home all the same.
                Err(frame) => self.recycle(frame),
            }
        }
        taken
    }

    fn free(&mut self, frame: Frame) {
        self.recycle(frame);
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        if std::mem::take(&mut self.unannounced)
            && let Some(doorbell) = &self.doorbell
        {
            doorbell.ring();
        }
        self.reap();
        self.refill();
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn has_pending(&self) -> bool {
        !self.rings.rx.is_empty()
    }

    fn census(&self) -> FrameCensus {
        let (total, free) = (self.pool.total_frames(), self.pool.free_frames());
        FrameCensus { total, free, fill: self.posted, tx: self.in_tx, held: total - free - self.posted - self.in_tx }
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.stats;
        stats.rx_dropped = self.rings.dropped.value();
        (stats.drops.relay_full, stats.drops.tx_refused) = (stats.rx_dropped, self.unsendable);
        stats
    }
}

impl Drop for RelayQueue {
    fn drop(&mut self) {
        let Rings { fill, rx, tx, completion, .. } = &*self.rings;
        for ring in [fill, rx, tx, completion] {
            while let Some(frame) = ring.pop() {
                // One that the polling core has in hand just now is missing: the memory then stays mapped (F2).
                let _ = self.pool.free(frame);
            }
        }
    }
}

/// What a port has done. Written by its core alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayPortStats {
    /// Frames handed to the worker.
    pub forwarded: u64,
    /// Frames not handed over: the worker had posted none, or they did not fit.
    pub dropped: u64,
    /// Frames taken from the worker.
    pub collected: u64,
}

/// The polling core's side.
#[derive(Debug)]
pub struct RelayPort {
    rings: Arc<Rings>,
    /// A frame of the worker's that could not be sent on yet.
    pending: Option<Frame>,
    stats: RelayPortStats,
}

impl RelayPort {
    /// Hands a frame to the worker: its bytes are copied. False, and counted, when the worker has posted no frame or
    /// the bytes do not fit one.
    pub fn forward(&mut self, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.rings.fill.pop() else { return self.count_drop() };
        if frame.resize(bytes.len()).is_err() {
            // Back to the fill ring, which holds all frames and so has room.
            let _ = self.rings.fill.push(frame);
            return self.count_drop();
        }
        frame.bytes_mut().copy_from_slice(bytes);
        if self.rings.rx.push(frame).is_err() {
            return self.count_drop();
        }
        self.stats.forwarded += 1;
        true
    }

    /// Gives the worker's frames to `send`, in order and at most `max` of them, until there is none or `send` says
    /// that it could not take one; that one is offered first the next time. Returns how many were taken.
    pub fn collect(&mut self, max: usize, mut send: impl FnMut(&[u8]) -> bool) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(frame) = self.pending.take().or_else(|| self.rings.tx.pop()) else { break };
            if !send(frame.bytes()) {
                self.pending = Some(frame);
                break;
            }
            // The ring holds all frames of the pool, so there is room.
            let _ = self.rings.completion.push(frame);
            taken += 1;
        }
        self.stats.collected += taken as u64;
        taken
    }

    /// Sends the worker's frames on `queue`, as many as it has frames and room for; `burst` is scratch and must be
    /// empty. Frames that the queue did not take are left in `burst`, to be offered by `tx_burst` again after a flush.
    /// The caller flushes the queue. Returns how many were taken from the worker.
    pub fn transmit(&mut self, queue: &mut dyn Queue, burst: &mut TxBurst) -> usize {
        let taken = self.collect(burst.room(), |bytes| {
            let Some(mut frame) = queue.tx_alloc() else { return false };
            if frame.resize(bytes.len()).is_err() {
                // Longer than the relay promised for this queue; dropped, as the queue itself would do.
                queue.free(frame);
                return true;
            }
            frame.bytes_mut().copy_from_slice(bytes);
            // There is room: `collect` is asked for no more.
            if let Err(frame) = burst.push(frame) {
                queue.free(frame);
            }
            true
        });
        queue.tx_burst(burst);
        taken
    }

    /// Whether the worker has frames to be sent.
    pub fn has_frames(&self) -> bool {
        self.pending.is_some() || !self.rings.tx.is_empty()
    }

    /// What the port has done since it was made.
    pub fn stats(&self) -> RelayPortStats {
        self.stats
    }

    fn count_drop(&mut self) -> bool {
        self.stats.dropped += 1;
        self.rings.dropped.add(1);
        false
    }
}

impl Drop for RelayPort {
    fn drop(&mut self) {
        // So that the worker gets its frame back.
        if let Some(frame) = self.pending.take() {
            let _ = self.rings.completion.push(frame);
        }
    }
}
