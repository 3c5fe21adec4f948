//! What the stack sees of one NIC queue, whatever is behind it: AF_XDP, the in-memory wire, a capture, another core.

use std::os::fd::RawFd;

use crate::burst::{RxBurst, TxBurst};
use crate::frame::Frame;

/// Number of a queue of a link, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u16);

/// One queue of a link: frames in, frames out.
///
/// Owned by one core at a time (it is `Send`, never shared); no call locks, allocates or blocks. A frame goes back to
/// the queue it came from.
pub trait Queue: Send {
    /// Appends frames that have arrived to `out`, at most as many as it has room for, and returns how many.
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize;

    /// Takes a free frame for sending, of length 0; `None` when all are in flight (call [`flush`](Self::flush), retry).
    fn tx_alloc(&mut self) -> Option<Frame>;

    /// Hands frames to the link from the front of `frames` and returns how many; those unsent stay, in order.
    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize;

    /// Takes back a frame that will not be sent.
    fn free(&mut self, frame: Frame);

    /// Ends a turn: wakes the kernel once if it asked for it, reaps completions, refills the fill ring.
    ///
    /// # Errors
    /// The link is gone, or the kernel refused a wake-up for a reason other than being busy.
    fn flush(&mut self) -> Result<(), QueueError>;

    /// The longest frame that can be sent, in bytes, Ethernet header included.
    fn max_frame_bytes(&self) -> usize;

    /// Readable when frames have arrived; `None` where there is nothing to sleep on (wire, capture, relay).
    fn raw_fd(&self) -> Option<RawFd>;

    /// Whether the TCP checksum of a segment over IPv4, without tag and options of IPv4, may be left 0: the queue writes it
    /// then, or the kernel does for many at once. A checksum that is 0 by right stays so.
    fn completes_checksums(&self) -> bool {
        false
    }

    /// Whether [`send_train`](Self::send_train) may take anything: it is not asked where this says no.
    fn takes_trains(&self) -> bool {
        false
    }

    /// Sends a *train*, many segments of a TCP connection in one packet, which the kernel cuts, late or never. `packet` is a
    /// frame, without tag, of TCP over IPv4 without options or over IPv6 without further headers, as long as its length
    /// field can tell. Its segments have `cut` bytes of payload each, the last what is left; FIN and PSH are the last's. In the
    /// place of the TCP checksum stands the sum of the pseudo-header of the whole packet, not negated.
    ///
    /// It leaves behind everything that [`tx_burst`](Self::tx_burst) has taken before. Returns false where it was not taken:
    /// nothing of it was sent then, and whoever has made it cuts it.
    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        let (_, _) = (packet, cut);
        false
    }

    /// Whether there is work of which [`raw_fd`](Self::raw_fd) does not tell: frames from or for another core. A core
    /// asks before it sleeps; whoever makes such work rings the core's doorbell.
    fn has_pending(&self) -> bool {
        false
    }

    /// Where every frame of the queue's pool is just now.
    fn census(&self) -> FrameCensus;

    /// What the queue has done since it was opened.
    fn stats(&self) -> QueueStats;
}

/// A queue of a kind that is chosen at the start. There is one call a burst, so that the indirection costs next to
/// nothing.
impl Queue for Box<dyn Queue> {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        (**self).rx_burst(out)
    }

    fn tx_alloc(&mut self) -> Option<Frame> {
        (**self).tx_alloc()
    }

    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        (**self).tx_burst(frames)
    }

    fn free(&mut self, frame: Frame) {
        (**self).free(frame);
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        (**self).flush()
    }

    fn max_frame_bytes(&self) -> usize {
        (**self).max_frame_bytes()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        (**self).raw_fd()
    }

    fn completes_checksums(&self) -> bool {
        (**self).completes_checksums()
    }

    fn takes_trains(&self) -> bool {
        (**self).takes_trains()
    }

    fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        (**self).send_train(packet, cut)
    }

    fn has_pending(&self) -> bool {
        (**self).has_pending()
    }

    fn census(&self) -> FrameCensus {
        (**self).census()
    }

    fn stats(&self) -> QueueStats {
        (**self).stats()
    }
}

/// Why a queue cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The kernel refused a wake-up.
    #[error("queue {queue}: the kernel refused a wake-up: {source}; is the link still there?", queue = queue.0)]
    Wakeup {
        /// The queue.
        queue: QueueId,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The link takes and gives no frames any more.
    #[error("queue {queue}: the kernel has no interface behind it any more: {source}; was it removed?", queue = queue.0)]
    Gone {
        /// The queue.
        queue: QueueId,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Where the frames of a pool are; the fields besides `total` always add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCensus {
    /// All frames of the pool.
    pub total: usize,
    /// In the pool, free.
    pub free: usize,
    /// Given to the link to be filled (the fill ring and what the link holds of it).
    pub fill: usize,
    /// Given to the link to be sent and not yet completed.
    pub tx: usize,
    /// Held by the caller, between `rx_burst` or `tx_alloc` and `tx_burst` or `free`.
    pub held: usize,
}

/// What a queue has done since it was opened. Written by its core alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames handed to the link.
    pub tx_frames: u64,
    /// Bytes handed to the link.
    pub tx_bytes: u64,
    /// Packets of several segments handed to the kernel, which cuts them, in place of as many frames.
    pub tx_trains: u64,
    /// Wake-ups: system calls made by `flush`.
    pub wakeups: u64,
    /// Calls of `tx_alloc` that found no frame.
    pub tx_exhausted: u64,
    /// Frames that the link dropped before this queue saw them, as far as it tells.
    pub rx_dropped: u64,
    /// Frames of another queue that were handed to this one: refused, and lost to their own pool.
    pub foreign_frames: u64,
    /// The same drops and those on the way out, by what caused them.
    pub drops: QueueDrops,
}

/// Frames that a queue has lost, by what caused it; a queue leaves at 0 what cannot happen to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDrops {
    /// The kernel could not put it into the socket's memory: most often it was longer than a chunk.
    pub rx_too_long: u64,
    /// A frame longer than a chunk that is not TCP right behind IPv4 or IPv6, which alone can be cut.
    pub rx_uncut: u64,
    /// The receive ring of the socket was full: its core did not come round in time.
    pub rx_ring_full: u64,
    /// The fill ring of the socket was empty: its core had not given frames back in time.
    pub rx_fill_ring_empty: u64,
    /// Descriptors of the fill ring that the kernel refused. Not zero means a fault of ours.
    pub rx_invalid_descriptors: u64,
    /// Descriptors of the transmit ring that the kernel refused. Not zero means a fault of ours.
    pub tx_invalid_descriptors: u64,
    /// Handed over by another core while this one had posted no frame, or longer than one.
    pub relay_full: u64,
    /// Handed in to be sent, but shorter than an Ethernet header or longer than the link takes; of a TAP also what the
    /// kernel did not take, since the interface was down or memory was short.
    pub tx_refused: u64,
    /// Went by a tap whose recorder took no more. Not lost: received or sent all the same.
    pub unrecorded: u64,
}
