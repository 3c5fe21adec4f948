//! `StraySender`, `StrayReceiver`: frames that missed in one core's table, offered to another core.
//!
//! One way, from one core to one other, bounded: a frame is copied into a frame of the sender's relay pool, pushed
//! with its header, read by the other core in place and given back through a return ring. Nothing locks; nothing
//! allocates after the start; what finds no frame is dropped and counted. Invariant: both rings hold all frames of the
//! pool. Read first: `relay.rs`.

use std::sync::Arc;

use crate::frame::Frame;
use crate::pool::{FramePool, PoolConfig, PoolError};
use crate::queue::QueueId;
use crate::sync::ArrayQueue;

/// What goes along with a stray frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrayHeader {
    /// Cores that have looked at it, the one on which it arrived included. The last core round answers it.
    pub hops: u8,
    /// The queue on which it arrived.
    pub origin: QueueId,
}

/// What the two sides share.
#[derive(Debug)]
struct Rings {
    offered: ArrayQueue<(StrayHeader, Frame)>,
    returned: ArrayQueue<Frame>,
}

/// Makes a relay for strays from one core to another, of as many frames as the pool has.
///
/// # Errors
/// [`PoolError`]: a shape out of range, or no memory for the frames.
pub fn stray_pair(pool: PoolConfig) -> Result<(StraySender, StrayReceiver), PoolError> {
    let frames = pool.frames;
    let pool = FramePool::new(pool)?;
    let rings = Arc::new(Rings { offered: ArrayQueue::new(frames), returned: ArrayQueue::new(frames) });
    let sender = StraySender { rings: Arc::clone(&rings), pool, offered: 0, dropped: 0 };
    Ok((sender, StrayReceiver { rings }))
}

/// The offering side; belongs to one core.
#[derive(Debug)]
pub struct StraySender {
    rings: Arc<Rings>,
    pool: FramePool,
    offered: u64,
    dropped: u64,
}

impl StraySender {
    /// Offers a frame to the other core: its bytes are copied. False, and counted, when no frame is free or the bytes
    /// do not fit one.
    pub fn offer(&mut self, header: StrayHeader, bytes: &[u8]) -> bool {
        self.reap();
        let Some(mut frame) = self.pool.alloc() else {
            self.dropped += 1;
            return false;
        };
        let refused = match frame.resize(bytes.len()) {
            Ok(()) => {
                frame.bytes_mut().copy_from_slice(bytes);
                self.rings.offered.push((header, frame)).err().map(|(_, frame)| frame)
            }
            Err(_) => Some(frame),
        };
        let Some(frame) = refused else {
            self.offered += 1;
            return true;
        };
        self.dropped += 1;
        // Its own frame, so the pool takes it.
        let _ = self.pool.free(frame);
        false
    }

    /// Frames offered since the start.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// Frames dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Frames that are free just now; those not yet given back by the other core are not.
    pub fn free_frames(&mut self) -> usize {
        self.reap();
        self.pool.free_frames()
    }

    fn reap(&mut self) {
        while let Some(frame) = self.rings.returned.pop() {
            // Its own frame, so the pool takes it.
            let _ = self.pool.free(frame);
        }
    }
}

impl Drop for StraySender {
    fn drop(&mut self) {
        self.reap();
        while let Some((_, frame)) = self.rings.offered.pop() {
            let _ = self.pool.free(frame);
        }
    }
}

/// The receiving side; belongs to one core.
#[derive(Debug)]
pub struct StrayReceiver {
    rings: Arc<Rings>,
}

impl StrayReceiver {
    /// Gives at most `max` frames to `look`, which may change them, oldest first, and the frames back to their core.
    /// Returns how many.
    pub fn receive(&mut self, max: usize, mut look: impl FnMut(StrayHeader, &mut [u8])) -> usize {
        let mut seen = 0;
        while seen < max {
            let Some((header, mut frame)) = self.rings.offered.pop() else { break };
            look(header, frame.bytes_mut());
            // The ring holds all frames of the pool, so there is room.
            let _ = self.rings.returned.push(frame);
            seen += 1;
        }
        seen
    }

    /// Whether frames wait.
    pub fn has_frames(&self) -> bool {
        !self.rings.offered.is_empty()
    }
}
