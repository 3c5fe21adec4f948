//! Bursts: the frames of one turn, in an array that is made once and reused.
//!
//! 64 frames amortise a ring operation and a wake-up, and still fit, with their headers, in the first-level cache
//! (nic.md decision 7 of the design notes; ARCHITECTURE.md, "Bursts").

use std::collections::VecDeque;

use crate::frame::Frame;

/// Most frames that one call moves.
pub const BURST: usize = 64;

/// Frames received in one call of [`Queue::rx_burst`](crate::Queue::rx_burst), in the order in which they arrived.
pub type RxBurst = Burst;

/// Frames to be sent by [`Queue::tx_burst`](crate::Queue::tx_burst), in order.
pub type TxBurst = Burst;

/// Frames in order, up to a capacity fixed at the start. Belongs to one core; never allocates after it is made.
#[derive(Debug)]
pub struct Burst {
    frames: VecDeque<Frame>,
    capacity: usize,
}

impl Default for Burst {
    fn default() -> Self {
        Self::with_capacity(BURST)
    }
}

impl Burst {
    /// An empty burst for at most `capacity` frames.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { frames: VecDeque::with_capacity(capacity), capacity }
    }

    /// Has room from now on for `capacity` frames in all, at most for as many as it was made for.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.min(self.frames.capacity()).max(self.frames.len());
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Gives the frame back when the burst is full.
    #[inline]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.frames.len() == self.capacity {
            return Err(frame);
        }
        self.frames.push_back(frame);
        Ok(())
    }

    /// Puts a frame back where it was taken from, as the oldest.
    ///
    /// # Errors
    /// Gives the frame back when the burst is full.
    #[inline]
    pub fn push_front(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.frames.len() == self.capacity {
            return Err(frame);
        }
        self.frames.push_front(frame);
        Ok(())
    }

    /// Takes the oldest frame.
    #[inline]
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Frames there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames for which there still is room.
    #[inline]
    pub fn room(&self) -> usize {
        self.capacity - self.frames.len()
    }

    /// The frames, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// The frames, oldest first, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Frame> {
        self.frames.iter_mut()
    }
}
