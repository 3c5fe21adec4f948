//! `QueueWrapper`: a queue around another, which does what the other does but for what it does otherwise.
//!
//! A recording tap, frames shared out among cores, a fault for a test: each changes one or two calls of a [`Queue`], and only
//! those are written. Read first: `queue.rs`.

use std::os::fd::RawFd;

use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;
use crate::queue::{FrameCensus, Queue, QueueError, QueueStats};

/// A queue around another. What a method here does not do otherwise, and all that has no method here, is as
/// [`wrapped`](Self::wrapped) does it: frames belong to its pool.
pub trait QueueWrapper: Send {
    /// The other queue.
    type Wrapped: Queue;

    /// The other queue.
    fn wrapped(&self) -> &Self::Wrapped;

    /// The other queue, to be used.
    fn wrapped_mut(&mut self) -> &mut Self::Wrapped;

    /// As [`Queue::rx_burst`].
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        self.wrapped_mut().rx_burst(out)
    }

    /// As [`Queue::tx_burst`].
    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        self.wrapped_mut().tx_burst(frames)
    }

    /// As [`Queue::flush`].
    ///
    /// # Errors
    /// As there.
    fn flush(&mut self) -> Result<(), QueueError> {
        self.wrapped_mut().flush()
    }

    /// As [`Queue::completes_checksums`].
    fn completes_checksums(&self) -> bool {
        self.wrapped().completes_checksums()
    }

    /// As [`Queue::send_train`].
    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        self.wrapped_mut().send_train(packet, cut)
    }

    /// As [`Queue::has_pending`].
    fn has_pending(&self) -> bool {
        self.wrapped().has_pending()
    }

    /// As [`Queue::stats`].
    fn stats(&self) -> QueueStats {
        self.wrapped().stats()
    }
}

impl<W: QueueWrapper> Queue for W {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        QueueWrapper::rx_burst(self, out)
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        self.wrapped_mut().tx_alloc()
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        QueueWrapper::tx_burst(self, frames)
    }

    fn free(&mut self, frame: Frame) {
        self.wrapped_mut().free(frame);
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        QueueWrapper::flush(self)
    }

    fn max_frame_bytes(&self) -> usize {
        self.wrapped().max_frame_bytes()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        self.wrapped().raw_fd()
    }

    fn completes_checksums(&self) -> bool {
        QueueWrapper::completes_checksums(self)
    }

    fn takes_trains(&self) -> bool {
        self.wrapped().takes_trains()
    }

    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        QueueWrapper::send_train(self, packet, cut)
    }

    fn has_pending(&self) -> bool {
        QueueWrapper::has_pending(self)
    }

    fn census(&self) -> FrameCensus {
        self.wrapped().census()
    }

    fn stats(&self) -> QueueStats {
        QueueWrapper::stats(self)
    }
}
