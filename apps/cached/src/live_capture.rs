//! A capture that `sidestep ctl` turns on and off while the server runs: every frame of every queue, into one file.
//!
//! ```text
//!  core: LiveTap ──full blocks──► writer thread ──► the file, whose descriptor came over the control channel
//!                ◄──free blocks──
//! ```
//! Invariant: a core never waits for the file: a frame that finds no block is counted and passed on unrecorded. A block
//! holds whole records, so that blocks of several cores make one good file, in which records of two cores may be out of order
//! by a quarter of a second. Until a capture is turned on for the first time no queue is wrapped.

/// The thread that writes.
mod writer;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use nic::{Frame, FrameCensus, Queue, QueueError, QueueStats, RxBurst, TxBurst};

use crate::sharing::AnyQueue;
pub use writer::{CaptureWriter, Outcome};

/// Bytes of a block.
const BLOCK_BYTES: usize = 256 << 10;

/// Blocks for each core: some milliseconds of a fast link, while the file is written.
const BLOCKS_PER_CORE: usize = 8;

/// Bytes before a frame's own (draft-ietf-opsawg-pcap §4).
const HEAD_BYTES: usize = 16;

/// How long a frame may wait in a block that is not full.
const HAND_OVER_INTERVAL: Duration = Duration::from_millis(250);

/// What cores and writer share of a capture.
#[derive(Debug)]
pub struct Capture {
    free: ArrayQueue<Vec<u8>>,
    full: ArrayQueue<Vec<u8>>,
    recorded: AtomicU64,
    unrecorded: AtomicU64,
    /// The file takes nothing more.
    failed: AtomicBool,
    writer: Thread,
}

impl Capture {
    /// Of `cores` cores, whose blocks `writer` writes.
    fn new(cores: usize, writer: Thread) -> Capture {
        let blocks = cores * BLOCKS_PER_CORE;
        let free = ArrayQueue::new(blocks);
        for _ in 0..blocks {
            // There is room for as many.
            let _ = free.push(Vec::with_capacity(BLOCK_BYTES));
        }
        Capture {
            free,
            full: ArrayQueue::new(blocks),
            recorded: AtomicU64::new(0),
            unrecorded: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            writer,
        }
    }
}

/// A core's part of a capture: its block.
#[derive(Debug)]
struct Recording {
    capture: Arc<Capture>,
    block: Vec<u8>,
    frames: u64,
}

impl Recording {
    /// Whether there was room for it.
    fn record(&mut self, now: Duration, frame: &[u8]) -> bool {
        if self.block.capacity() - self.block.len() < HEAD_BYTES + frame.len() {
            self.hand_over();
            let free = if self.capture.failed.load(Ordering::Relaxed) { None } else { self.capture.free.pop() };
            let Some(block) = free else {
                self.capture.unrecorded.fetch_add(1, Ordering::Relaxed);
                return false;
            };
            self.block = block;
        }
        let length = frame.len() as u32;
        for word in [now.as_secs() as u32, now.subsec_nanos(), length, length] {
            self.block.extend_from_slice(&word.to_le_bytes());
        }
        self.block.extend_from_slice(frame);
        self.frames += 1;
        true
    }

    /// Gives the writer what there is.
    fn hand_over(&mut self) {
        if self.block.is_empty() {
            return;
        }
        self.capture.recorded.fetch_add(std::mem::take(&mut self.frames), Ordering::Relaxed);
        // There is room for every block.
        let _ = self.capture.full.push(std::mem::take(&mut self.block));
        self.capture.writer.unpark();
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// The taps of one core, to be turned on and off. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct LiveTaps(Arc<Mutex<Live>>);

#[derive(Debug, Default)]
struct Live {
    now: Duration,
    /// When what there is is handed over.
    due: Duration,
    recording: Option<Recording>,
}

impl LiveTaps {
    /// Records what goes through from now on, if a capture is given, else nothing any more: the rest is handed over.
    pub fn set(&self, capture: Option<Arc<Capture>>) {
        self.lock().recording = capture.map(|capture| Recording { capture, block: Vec::new(), frames: 0 });
    }

    /// The time of the frames of the turn that begins.
    pub fn set_time(&self, now: Duration) {
        let mut live = self.lock();
        live.now = now;
        if now >= live.due {
            live.due = now + HAND_OVER_INTERVAL;
            if let Some(recording) = &mut live.recording {
                recording.hand_over();
            }
        }
    }

    /// Records a frame, if a capture is on.
    #[cfg(test)]
    fn record(&self, frame: &[u8]) {
        if let Live { now, recording: Some(recording), .. } = &mut *self.lock() {
            let _ = recording.record(*now, frame);
        }
    }

    /// A queue whose frames go through this.
    pub fn tap(&self, queue: AnyQueue) -> AnyQueue {
        Box::new(LiveTap { queue, taps: self.clone(), seen: 0, unrecorded: 0 })
    }

    /// Of one core, so that it is never waited for.
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue with a tap. What it does is what the queue does.
struct LiveTap {
    queue: AnyQueue,
    taps: LiveTaps,
    /// Frames at the front of what is to be sent that were recorded when the queue did not take them.
    seen: usize,
    /// In all captures.
    unrecorded: u64,
}

impl LiveTap {
    /// Records those `frames`, if a capture is on.
    fn record<'a>(&mut self, frames: impl Iterator<Item = &'a Frame>) {
        if let Live { now, recording: Some(recording), .. } = &mut *self.taps.lock() {
            let lost = frames.filter(|frame| !recording.record(*now, frame.bytes())).count();
            self.unrecorded += lost as u64;
        }
    }
}

impl Queue for LiveTap {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let before = out.len();
        let taken = self.queue.rx_burst(out);
        if taken > 0 {
            self.record(out.iter().skip(before));
        }
        taken
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        self.queue.tx_alloc()
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        self.record(frames.iter().skip(self.seen));
        let taken = self.queue.tx_burst(frames);
        self.seen = frames.len();
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

    fn completes_checksums(&self) -> bool {
        self.queue.completes_checksums()
    }

    fn has_pending(&self) -> bool {
        self.queue.has_pending()
    }

    fn census(&self) -> FrameCensus {
        self.queue.census()
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.queue.stats();
        stats.drops.unrecorded += self.unrecorded;
        stats
    }
}

/// Stands where a queue is, for the moment in which that is wrapped.
pub(crate) struct NoQueue;

impl Queue for NoQueue {
    fn rx_burst(&mut self, _out: &mut RxBurst) -> usize {
        0
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        None
    }

    fn tx_burst(&mut self, _frames: &mut TxBurst) -> usize {
        0
    }

    fn free(&mut self, _frame: Frame) {}

    fn flush(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        0
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn census(&self) -> FrameCensus {
        FrameCensus::default()
    }

    fn stats(&self) -> QueueStats {
        QueueStats::default()
    }
}
