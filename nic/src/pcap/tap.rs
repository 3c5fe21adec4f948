//! `PcapTap`: any queue, with every frame in and out recorded.
//!
//! For finding faults, not for speed: frames are handed to the queue one at a time, so as to record exactly those that
//! it takes, each call locks the recorder, and a full buffer is written where it fills up. Invariant: the tap never
//! changes what the queue does.

use std::io::Write;

use super::SharedRecorder;
use crate::burst::{RxBurst, TxBurst};
use crate::queue::Queue;
use crate::wrapper::QueueWrapper;

/// A queue whose frames are recorded, those of both directions in one file, in the order of the calls: received ones
/// at `rx_burst`, sent ones at `tx_burst`.
#[derive(Debug)]
pub struct PcapTap<Q: Queue, W: Write + Send> {
    queue: Q,
    recorder: SharedRecorder<W>,
    /// The one frame on its way to the queue, and a copy of its bytes.
    one: TxBurst,
    copy: Vec<u8>,
}

impl<Q: Queue, W: Write + Send> PcapTap<Q, W> {
    /// Records what goes through `queue`, until the recorder is [finished](SharedRecorder::finish) by whoever keeps it.
    pub fn new(queue: Q, recorder: SharedRecorder<W>) -> Self {
        let copy = Vec::with_capacity(queue.max_frame_bytes());
        Self { queue, recorder, one: TxBurst::with_capacity(1), copy }
    }

    /// Ends the tap, and gives the queue.
    pub fn into_queue(self) -> Q {
        self.queue
    }
}

impl<Q: Queue, W: Write + Send> QueueWrapper for PcapTap<Q, W> {
    type Wrapped = Q;

    fn wrapped(&self) -> &Q {
        &self.queue
    }

    fn wrapped_mut(&mut self) -> &mut Q {
        &mut self.queue
    }

    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let before = out.len();
        let taken = self.queue.rx_burst(out);
        out.iter().skip(before).for_each(|frame| self.recorder.record(frame.bytes()));
        taken
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
                self.recorder.record(&self.copy);
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

    /// What is recorded is whole, so that it can be replayed.
    fn completes_checksums(&self) -> bool {
        false
    }

    /// What is recorded are segments, not what they were before they were cut.
    fn send_train(&mut self, _packet: &[u8], _cut: u16) -> bool {
        false
    }
}
