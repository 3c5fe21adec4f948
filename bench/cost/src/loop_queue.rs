//! `LoopQueue`: frames in and out of memory, with as little cost of its own as a queue can have.
//!
//! Invariant: every frame is in the pool, arrived, sent, or with the worker. What the worker calls moves frames between
//! vectors and nothing else; what the client calls ([`arrive`](LoopQueue::arrive), [`take_sent`](LoopQueue::take_sent))
//! lies outside the measurement.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use nic::{Frame, FrameCensus, FramePool, PoolConfig, PoolError, Queue, QueueError, QueueStats, RxBurst, TxBurst};

/// A queue without a link.
#[derive(Debug)]
pub struct LoopQueue {
    pool: FramePool,
    arrived: VecDeque<Frame>,
    sent: Vec<Frame>,
    stats: QueueStats,
}

impl LoopQueue {
    /// A queue with a pool of the usual size.
    ///
    /// # Errors
    /// No memory for its frames.
    pub fn new() -> Result<Self, PoolError> {
        let config = PoolConfig::default();
        Ok(Self {
            pool: FramePool::new(config)?,
            arrived: VecDeque::with_capacity(config.frames),
            sent: Vec::with_capacity(config.frames),
            stats: QueueStats::default(),
        })
    }

    /// Lets a frame of `bytes` arrive. Returns false when no frame is free or it is too long for one.
    #[must_use]
    pub fn arrive(&mut self, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.pool.alloc() else { return false };
        if frame.resize(bytes.len()).is_err() {
            self.free(frame);
            return false;
        }
        frame.bytes_mut().copy_from_slice(bytes);
        self.arrived.push_back(frame);
        true
    }

    /// Shows the frames sent since the last call to `look`, in order.
    pub fn take_sent(&mut self, mut look: impl FnMut(&[u8])) {
        let mut sent = std::mem::take(&mut self.sent);
        for frame in sent.drain(..) {
            look(frame.bytes());
            self.free(frame);
        }
        self.sent = sent;
    }
}

impl Queue for LoopQueue {
    #[inline]
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let count = out.room().min(self.arrived.len());
        for frame in self.arrived.drain(..count) {
            // There is room: it was counted.
            let _ = out.push(frame);
        }
        self.stats.rx_frames += count as u64;
        count
    }

    #[inline]
    fn tx_alloc(&mut self) -> Option<Frame> {
        self.pool.alloc()
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        let count = frames.len();
        while let Some(frame) = frames.pop() {
            self.sent.push(frame);
        }
        self.stats.tx_frames += count as u64;
        count
    }

    #[inline]
    fn free(&mut self, frame: Frame) {
        // The pool counts one that is not its own.
        let _ = self.pool.free(frame);
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        self.pool.max_frame_bytes()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn census(&self) -> FrameCensus {
        let (total, free) = (self.pool.total_frames(), self.pool.free_frames());
        let (fill, tx) = (self.arrived.len(), self.sent.len());
        FrameCensus { total, free, fill, tx, held: total - free - fill - tx }
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_round_and_none_is_lost() {
        let mut queue = LoopQueue::new().unwrap();
        let (mut rx, mut tx) = (RxBurst::default(), TxBurst::default());
        let total = queue.census().total;
        for round in 0..total as u32 * 2 {
            assert!(queue.arrive(&round.to_be_bytes()));
            assert_eq!(queue.rx_burst(&mut rx), 1);
            let mut answer = queue.tx_alloc().unwrap();
            answer.resize(4).unwrap();
            let frame = rx.pop().unwrap();
            answer.bytes_mut().copy_from_slice(frame.bytes());
            assert_eq!(queue.census().held, 2);
            queue.free(frame);
            tx.push(answer).unwrap();
            assert_eq!(queue.tx_burst(&mut tx), 1);
            let mut seen = Vec::new();
            queue.take_sent(|bytes| seen.push(bytes.to_vec()));
            assert_eq!(seen, [round.to_be_bytes()]);
        }
        assert_eq!(queue.census(), FrameCensus { total, free: total, ..FrameCensus::default() });
    }

    #[test]
    fn a_frame_too_long_is_refused_and_not_lost() {
        let mut queue = LoopQueue::new().unwrap();
        assert!(!queue.arrive(&[0; 4096]));
        assert_eq!(queue.census().free, queue.census().total);
    }
}
