//! A capture that `sidestep ctl` turns on and off while the server runs: every frame of every queue, into one file.
//!
//! ```text
//!  core: LiveTap ──full blocks──► writer thread ──► the file, whose descriptor came over the control channel
//!                ◄──free blocks──
//! ```
//! Invariant: a core never waits for the file: a frame that finds no block is counted and passed on unrecorded. A block
//! holds whole records, so that blocks of several cores make one good file, in which records of two cores may be out of order
//! by a quarter of a second. Until a capture is turned on for the first time no queue is wrapped, and while none is on a core
//! reads one word a burst.

/// The thread that writes.
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use nic::{Frame, Queue, QueueStats, QueueWrapper, RxBurst, TxBurst};

use crate::sharing::AnyQueue;
pub use writer::{CaptureEnd, CaptureWriter};

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
pub struct LiveTaps(Arc<Switched>);

/// What the taps of a core share. All of it is that core's: it is in an `Arc` and behind a lock because queues are `Send`.
#[derive(Debug, Default)]
struct Switched {
    /// Whether there is a recording: what is read where there is none.
    on: AtomicBool,
    live: Mutex<Live>,
    /// How often the lock was taken.
    #[cfg(test)]
    taken: AtomicU64,
}

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
        self.0.on.store(capture.is_some(), Ordering::Relaxed);
        self.lock().recording = capture.map(|capture| Recording { capture, block: Vec::new(), frames: 0 });
    }

    /// Whether anything is recorded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// The time of the frames of the turn that begins. To be told once a turn while it is on.
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
        #[cfg(test)]
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
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
        if !self.taps.is_on() {
            return;
        }
        if let Live { now, recording: Some(recording), .. } = &mut *self.taps.lock() {
            let lost = frames.filter(|frame| !recording.record(*now, frame.bytes())).count();
            self.unrecorded += lost as u64;
        }
    }
}

impl QueueWrapper for LiveTap {
    type Wrapped = AnyQueue;

    fn wrapped(&self) -> &AnyQueue {
        &self.queue
    }

    fn wrapped_mut(&mut self) -> &mut AnyQueue {
        &mut self.queue
    }

    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let before = out.len();
        let taken = self.queue.rx_burst(out);
        if taken > 0 {
            self.record(out.iter().skip(before));
        }
        taken
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        self.record(frames.iter().skip(self.seen));
        let taken = self.queue.tx_burst(frames);
        self.seen = frames.len();
        taken
    }

    /// What is recorded are segments, not what they were before they were cut.
    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        !self.taps.is_on() && self.queue.send_train(packet, cut)
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.queue.stats();
        stats.drops.unrecorded += self.unrecorded;
        stats
    }
}

#[cfg(test)]
mod tests {
    use nic::{PortConfig, QueueId, Wire};

    use super::*;

    /// Sends a frame from one end to the other.
    fn pass(from: &mut AnyQueue, to: &mut AnyQueue) {
        let (mut sent, mut received) = (TxBurst::default(), RxBurst::default());
        let mut frame = from.tx_alloc().expect("one is free");
        frame.resize(60).expect("it fits");
        sent.push(frame).expect("there is room");
        assert_eq!(from.tx_burst(&mut sent), 1);
        from.flush().expect("a wire");
        assert_eq!(to.rx_burst(&mut received), 1);
        to.free(received.pop().expect("it was received"));
    }

    #[test]
    fn while_no_capture_is_on_frames_pass_without_a_lock_and_while_one_is_each_is_recorded() {
        let (_wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let [mut queue, mut peer] =
            [ours, theirs].map(|port| Box::new(port.take_queue(QueueId(0)).expect("the first time")) as AnyQueue);
        let taps = LiveTaps::default();
        queue = taps.tap(queue);
        // How often the lock is taken for a frame in and one out.
        let mut locks = || {
            let before = taps.0.taken.load(Ordering::Relaxed);
            pass(&mut peer, &mut queue);
            pass(&mut queue, &mut peer);
            taps.0.taken.load(Ordering::Relaxed) - before
        };
        assert_eq!(locks(), 0, "none was turned on yet");
        let mut writer = CaptureWriter::start(None).expect("a thread");
        let file = std::fs::File::options().write(true).open("/dev/null").expect("Linux has it");
        taps.set(Some(writer.begin(1, file, u64::MAX).expect("none is on")));
        assert_eq!(locks(), 2, "one a burst");
        taps.set(None);
        assert_eq!(locks(), 0, "it was turned off");
        let outcome = writer.end(Duration::MAX).expect("it was on");
        assert_eq!((outcome.recorded, outcome.unrecorded), (2, 0));
    }
}
