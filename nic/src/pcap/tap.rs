//! `PcapTap`: any queue, with every frame in and out recorded.
//!
//! For finding faults, not for speed: frames are handed to the queue one at a time, so as to record exactly those that
//! it takes, and a full buffer is written where it fills up. Invariant: the tap never changes what the queue does.

use std::io::Write;
use std::os::fd::RawFd;
use std::time::Duration;

use super::PcapRecorder;
use crate::{Frame, FrameCensus, Queue, QueueError, QueueStats, RxBurst, TxBurst};

/// A queue whose frames are recorded, those of both directions in one file, in the order of the calls: received ones
/// at `rx_burst`, sent ones at `tx_burst`.
#[derive(Debug)]
pub struct PcapTap<Q: Queue, W: Write + Send> {
    queue: Q,
    /// `None` once the tap was closed.
    recorder: Option<PcapRecorder<W>>,
    /// The one frame on its way to the queue, and a copy of its bytes.
    one: TxBurst,
    copy: Vec<u8>,
}

impl<Q: Queue, W: Write + Send> PcapTap<Q, W> {
    /// Records what goes through `queue`.
    pub fn new(queue: Q, recorder: PcapRecorder<W>) -> Self {
        let copy = Vec::with_capacity(queue.max_frame_bytes());
        Self { queue, recorder: Some(recorder), one: TxBurst::with_capacity(1), copy }
    }

    /// The recorder, for its counts; `None` once the tap was closed.
    pub fn recorder(&self) -> Option<&PcapRecorder<W>> {
        self.recorder.as_ref()
    }

    /// Ends the tap: gives the queue, and the recorder to be finished, unless it was closed.
    pub fn into_parts(self) -> (Q, Option<PcapRecorder<W>>) {
        (self.queue, self.recorder)
    }
}

impl<Q: Queue, W: Write + Send> Queue for PcapTap<Q, W> {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let before = out.len();
        let taken = self.queue.rx_burst(out);
        if let Some(recorder) = &mut self.recorder {
            out.iter().skip(before).for_each(|frame| recorder.record(frame.bytes()));
        }
        taken
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        self.queue.tx_alloc()
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        let mut taken = 0;
        while let Some(frame) = frames.pop() {
            self.copy.clear();
            self.copy.extend_from_slice(frame.bytes());
            if let Err(frame) = self.one.push(frame) {
                // Cannot be: the burst of one is empty between calls.
                self.queue.free(frame);
                continue;
            }
            if self.queue.tx_burst(&mut self.one) == 1 {
                if let Some(recorder) = &mut self.recorder {
                    recorder.record(&self.copy);
                }
                taken += 1;
            }
            // Neither taken nor refused: the queue is full.
            if let Some(frame) = self.one.pop() {
                if let Err(frame) = frames.push_front(frame) {
                    // Cannot be: the frame was just taken from there.
                    self.queue.free(frame);
                }
                break;
            }
        }
        taken
    }

    fn free(&mut self, frame: Frame) {
        self.queue.free(frame);
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        self.queue.flush()
    }

    fn max_frame_bytes(&self) -> usize {
        self.queue.max_frame_bytes()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        self.queue.raw_fd()
    }

    fn has_pending(&self) -> bool {
        self.queue.has_pending()
    }

    fn set_time(&mut self, now: Duration) {
        if let Some(recorder) = &mut self.recorder {
            recorder.set_time(now);
        }
        self.queue.set_time(now);
    }

    fn close(&mut self) -> Result<(), QueueError> {
        if let Some(recorder) = self.recorder.take() {
            recorder.finish()?;
        }
        self.queue.close()
    }

    fn census(&self) -> FrameCensus {
        self.queue.census()
    }

    fn stats(&self) -> QueueStats {
        self.queue.stats()
    }
}
