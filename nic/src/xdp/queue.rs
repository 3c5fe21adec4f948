//! `XdpQueue`: one bound AF_XDP socket with its frames, behind the trait [`Queue`].
//!
//! Invariant: the census is exact after every call. The fill ring is refilled before frames are received, so that a
//! burst cannot drain it while the burst is worked on. Read first: `sys/rings.rs`.

use std::os::fd::RawFd;

use super::fill_level::FillLevel;
use super::segmenter::Segmenter;
use super::train::{Train, TrainSender, may_have_trains, next_train};
use crate::burst::{BURST, RxBurst, TxBurst};
use crate::frame::Frame;
use crate::link::Link;
use crate::napi;
use crate::queue::{FrameCensus, Queue, QueueDrops, QueueError, QueueId, QueueStats};
use crate::sys::rings::{Rings, XskStatistics};
use crate::sys::sockopt;
use crate::sys::stock::FrameStock;

/// Frames that one wake-up sends at least, if there are as many, in copy mode (`TX_BATCH_SIZE` in kernel
/// `net/xdp/xsk.c`).
const TX_BATCH: u32 = 32;

/// How long a system call polls the driver at most, and for how many frames, as in `af_xdp.rst`.
const BUSY_POLL_USECS: u32 = 20;
const BUSY_POLL_BUDGET: u32 = 64;

/// What happened on an AF_XDP queue besides its [`QueueStats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdpQueueStats {
    /// The kernel's counters of the socket.
    pub kernel: XskStatistics,
    /// Frames that `tx_burst` did not send, since they were shorter than an Ethernet header; freed.
    pub refused: u64,
    /// Addresses that the kernel handed back without having them. Not zero means a fault of the kernel or of ours.
    pub stray_addresses: u64,
    /// Frames that were moved within their chunk before they were sent, since the driver of the queue that received them had
    /// put them beside the usual place, or they were cut out of a longer one. 0: no byte of any was copied here.
    pub shifted: u64,
}

/// One AF_XDP queue. Owned by one core; it is `Send`.
#[derive(Debug)]
pub struct XdpQueue {
    // Before the stock: the socket closes before its memory goes.
    rings: Rings,
    stock: FrameStock,
    fill_level: FillLevel,
    zero_copy: bool,
    segmenter: Segmenter,
    trains: Option<TrainSender>,
    /// Whether the driver is asked for frames where none has come.
    polls_driver: bool,
    id: QueueId,
    max_frame_bytes: usize,
    stats: QueueStats,
    refused: u64,
}

impl XdpQueue {
    /// Wraps a bound socket. `link_frame_bytes` is the longest frame that the link sends.
    pub(super) fn new(id: QueueId, rings: Rings, stock: FrameStock, zero_copy: bool, link_frame_bytes: usize) -> Self {
        let max_frame_bytes = link_frame_bytes.min(stock.max_frame_bytes());
        Self {
            fill_level: FillLevel::new(stock.fillable(), zero_copy),
            rings,
            stock,
            zero_copy,
            segmenter: Segmenter::new(),
            trains: None,
            polls_driver: false,
            id,
            max_frame_bytes,
            stats: QueueStats::default(),
            refused: 0,
        }
    }

    /// Has segments that follow each other leave together, by `trains`.
    pub(super) fn with_trains(mut self, trains: Option<TrainSender>) -> Self {
        self.trains = trains;
        self
    }

    /// Has system calls on the queue poll its driver, and each [`rx_burst`](Queue::rx_burst) that finds no frame make one.
    /// `link` is the queue's.
    ///
    /// A poll is of the NAPI instance by which the queue receives. A socket that *prefers* it has its interrupts kept off more
    /// strictly, but with zero copy the kernel then leaves sending to it too, and wakes nobody (`xsk_no_wakeup` in kernel
    /// `net/xdp/xsk.c`): where a driver sends by another instance, as igb and virtio_net do with an interrupt for each
    /// direction, nothing would ever be sent. So it is preferred only where the kernel says that both are one instance.
    ///
    /// Whoever polls ends a turn ([`flush`](Queue::flush)) again and again, as a core that never sleeps does: beside a poll a
    /// wake-up may send nothing, as on an emulated igb now and then, and then the next turn's does.
    ///
    /// # Errors
    /// The kernel cannot (before Linux 5.11), or the process may not (`CAP_NET_ADMIN`).
    pub fn poll_driver(&mut self, link: &Link) -> std::io::Result<()> {
        let prefer = napi::is_of_both_directions(link.index, self.id.0).unwrap_or(false);
        sockopt::set_busy_poll(self.rings.fd(), prefer, BUSY_POLL_USECS, BUSY_POLL_BUDGET)?;
        self.polls_driver = true;
        Ok(())
    }

    /// Which queue of the link this is.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// The socket's descriptor.
    pub(super) fn socket_fd(&self) -> RawFd {
        self.rings.fd()
    }

    /// Whether its frames lie on huge pages.
    pub fn on_huge_pages(&self) -> bool {
        self.rings.on_huge_pages()
    }

    /// Counters of this back-end. Costs a system call.
    pub fn xdp_stats(&self) -> XdpQueueStats {
        XdpQueueStats {
            // Fails only for a closed socket, and this one is open.
            kernel: self.rings.statistics().unwrap_or_default(),
            refused: self.refused,
            stray_addresses: self.rings.stray_addresses(),
            shifted: self.rings.shifted_frames(),
        }
    }

    /// Puts free frames for receiving into the fill ring, up to the level and as far as there is room.
    pub(super) fn refill(&mut self) {
        // Each round moves at least one frame, so there are no more rounds than frames.
        loop {
            let room = self.fill_level.room(self.stock.lent_to_fill());
            if self.rings.fill(&mut self.stock, room) == 0 {
                break;
            }
        }
    }

    /// Wakes the kernel after the first fill, which some drivers need to start receiving.
    pub(super) fn start(&mut self) -> std::io::Result<()> {
        self.refill();
        self.rings.wake_fill()
    }

    fn reap(&mut self) {
        // Each round completes at least one frame, so there are no more rounds than frames.
        while self.rings.complete(&mut self.stock) > 0 {}
    }

    /// Wakes the kernel until it has taken all that is in the transmit ring, or stops taking any: in copy mode one
    /// system call sends a bounded number of frames.
    fn push_out(&mut self) -> std::io::Result<()> {
        let mut backlog = self.rings.tx_backlog();
        for _ in 0..=backlog.div_ceil(TX_BATCH) {
            if backlog == 0 || !self.rings.tx_needs_wakeup() {
                break;
            }
            self.rings.wake_tx()?;
            self.stats.wakeups += 1;
            // Room in the completion ring is what the kernel may be waiting for.
            self.reap();
            let left = self.rings.tx_backlog();
            if left >= backlog {
                break;
            }
            backlog = left;
        }
        Ok(())
    }

    /// Moves the first `most` frames to the transmit ring, or as many as have room there. Returns how many.
    fn send_by_ring(&mut self, frames: &mut TxBurst, most: usize) -> usize {
        let until = frames.len().saturating_sub(most);
        let mut sent = 0;
        loop {
            let (refused, foreign) = (&mut self.refused, &mut self.stats.foreign_frames);
            let before = frames.len();
            let refuse = |stock: &mut FrameStock, frame| match stock.free(frame) {
                Ok(()) => *refused += 1,
                Err(_lost_to_its_own_queue) => *foreign += 1,
            };
            let completes = self.trains.is_some();
            let moved = self.rings.send(&mut self.stock, frames, before - until, completes, refuse);
            sent += moved.frames;
            self.stats.tx_frames += moved.frames as u64;
            self.stats.tx_bytes += moved.bytes;
            // Each further round has taken at least one frame off the burst.
            if frames.len() <= until || frames.len() == before {
                return sent;
            }
        }
    }

    /// Sends the trains among `frames`, and what comes before the last of them. Returns how many frames that were.
    #[cold]
    fn send_trains(&mut self, frames: &mut TxBurst) -> usize {
        let (mut sent, mut plain) = (0, 0);
        while plain < frames.len() {
            match next_train(frames, plain) {
                Err(few) => plain += few,
                Ok(train) => {
                    sent += self.send_by_ring(frames, plain);
                    // What is in the ring must not be overtaken.
                    let in_order = self.push_out().is_ok() && self.rings.tx_backlog() == 0;
                    let at_front = plain == 0 || next_train(frames, 0) == Ok(train);
                    if !in_order || !at_front || !self.send_train(frames, train) {
                        return sent;
                    }
                    sent += train.frames;
                    plain = 0;
                }
            }
        }
        sent
    }

    /// Sends the train at the front of `frames`, whose frames are free then; false when the kernel has not taken it.
    fn send_train(&mut self, frames: &mut TxBurst, train: Train) -> bool {
        let taken = self.trains.as_mut().is_some_and(|trains| trains.send(frames, train));
        for _ in 0..if taken { train.frames } else { 0 } {
            let Some(frame) = frames.pop() else { break };
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += frame.len() as u64;
            self.free(frame);
        }
        self.stats.tx_trains += u64::from(taken);
        taken
    }

    fn wake_error(&self, source: std::io::Error) -> QueueError {
        QueueError::Wakeup { queue: self.id, source }
    }
}

impl Queue for XdpQueue {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        self.refill();
        let mut moved = self.rings.receive(&mut self.stock, &mut self.segmenter, out);
        if moved.frames == 0 && self.polls_driver {
            sockopt::poll_driver(self.rings.fd());
            moved = self.rings.receive(&mut self.stock, &mut self.segmenter, out);
        }
        self.stats.rx_frames += moved.frames as u64;
        self.stats.rx_bytes += moved.bytes;
        if moved.frames == BURST {
            self.fill_level.note_backlog(self.rings.rx_backlog());
        }
        moved.frames
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        if let Some(frame) = self.stock.alloc() {
            return Some(frame);
        }
        self.reap();
        let frame = self.stock.alloc();
        self.stats.tx_exhausted += u64::from(frame.is_none());
        frame
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        let by_train = if self.trains.is_some() && may_have_trains(frames) { self.send_trains(frames) } else { 0 };
        by_train + self.send_by_ring(frames, usize::MAX)
    }

    fn free(&mut self, frame: Frame) {
        if let Err(_lost_to_its_own_queue) = self.stock.free(frame) {
            self.stats.foreign_frames += 1;
        }
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        self.reap();
        self.push_out().map_err(|source| self.wake_error(source))?;
        self.refill();
        if self.rings.fill_needs_wakeup() {
            self.rings.wake_fill().map_err(|source| self.wake_error(source))?;
            self.stats.wakeups += 1;
        }
        Ok(())
    }

    fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.rings.fd())
    }

    fn completes_checksums(&self) -> bool {
        self.trains.is_some()
    }

    fn takes_trains(&self) -> bool {
        self.trains.is_some()
    }

    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        // What is in the ring must not be overtaken.
        if self.trains.is_none() || self.push_out().is_err() || self.rings.tx_backlog() > 0 {
            return false;
        }
        let sent = self.trains.as_mut().and_then(|trains| trains.send_packet(packet, cut));
        if let Some(sent) = sent {
            self.stats.tx_frames += sent.frames;
            self.stats.tx_bytes += sent.bytes;
            self.stats.tx_trains += 1;
        }
        sent.is_some()
    }

    fn census(&self) -> FrameCensus {
        self.stock.census()
    }

    fn stats(&self) -> QueueStats {
        let kernel = self.rings.statistics().unwrap_or_default();
        let (tx_refused, rx_uncut) = (self.refused, self.segmenter.refused());
        let drops = QueueDrops { tx_refused, rx_uncut, ..drops_of(&kernel, self.zero_copy) };
        let rx_dropped = drops.rx_too_long + drops.rx_uncut + drops.rx_ring_full + drops.rx_fill_ring_empty;
        QueueStats { rx_dropped, drops, ..self.stats }
    }
}

/// Each lost frame once. In copy mode the kernel counts a frame for which the fill ring had no chunk under both
/// `rx_fill_ring_empty` and `rx_dropped` (`__xsk_rcv` and `xp_alloc` in kernel `net/xdp`); with zero copy the driver takes
/// the chunks, and under the first alone.
fn drops_of(kernel: &XskStatistics, zero_copy: bool) -> QueueDrops {
    let twice = if zero_copy { 0 } else { kernel.rx_fill_ring_empty };
    QueueDrops {
        rx_too_long: kernel.rx_dropped.saturating_sub(twice),
        rx_ring_full: kernel.rx_ring_full,
        rx_fill_ring_empty: kernel.rx_fill_ring_empty,
        rx_invalid_descriptors: kernel.rx_invalid_descriptors,
        tx_invalid_descriptors: kernel.tx_invalid_descriptors,
        ..QueueDrops::default()
    }
}

impl Drop for XdpQueue {
    fn drop(&mut self) {
        if self.stock.census().held > 0 {
            self.rings.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_finds_the_fill_ring_empty_is_counted_once_though_the_kernel_counts_it_twice() {
        let kernel =
            XskStatistics { rx_dropped: 10, rx_fill_ring_empty: 7, rx_ring_full: 2, ..XskStatistics::default() };
        let copy = drops_of(&kernel, false);
        assert_eq!((copy.rx_too_long, copy.rx_fill_ring_empty, copy.rx_ring_full), (3, 7, 2));
        assert_eq!(drops_of(&kernel, true).rx_too_long, 10);
    }
}
