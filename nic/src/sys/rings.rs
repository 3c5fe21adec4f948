//! The four rings of an AF_XDP socket, as safe calls on a [`FrameStock`].
//!
//! Invariant: an address is in a ring only while its chunk is parked in the stock (F1), and an address taken from a ring
//! is checked against the stock before it becomes a frame. Each call here is one ring operation for up to [`BURST`]
//! descriptors. Read first: kernel `af_xdp.rst`, "Rings".

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::stock::FrameStock;
use super::umem::{UmemShape, UmemShare, kernel_error};
use crate::burst::{BURST, Burst};
use crate::frame::Frame;
use crate::pool::HEADROOM_BYTES;
use crate::xdp::segmenter::Segmenter;
use crate::xdp::train::complete_checksum;

/// Shortest frame that is sent, in bytes: an Ethernet header. The kernel refuses an empty one and never completes it.
const SHORTEST_FRAME_BYTES: usize = 14;

/// What to bind.
#[derive(Debug, Clone)]
pub(crate) struct SocketShape {
    /// The interface's name.
    pub(crate) link: String,
    /// The queue.
    pub(crate) queue: u16,
    /// Ask for zero copy; else for copy mode.
    pub(crate) zero_copy: bool,
    /// Ask for frames of several chunks too.
    pub(crate) merged: bool,
    /// Descriptors of the receive ring, a power of two.
    pub(crate) rx_ring: u32,
    /// Descriptors of the transmit ring, a power of two.
    pub(crate) tx_ring: u32,
    /// The UMEM, or this socket's share of one.
    pub(crate) umem: UmemShape,
    /// How many of these chunks are for receiving.
    pub(crate) rx_chunks: u32,
}

/// What a ring operation moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) frames: usize,
    pub(crate) bytes: u64,
}

/// The kernel's six counters of a socket (kernel `af_xdp.rst`, "XDP_STATISTICS getsockopt").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XskStatistics {
    /// Frames dropped for other reasons, such as one that was longer than a chunk.
    pub rx_dropped: u64,
    /// Frames dropped since the receive ring was full.
    pub rx_ring_full: u64,
    /// Frames dropped since the fill ring was empty.
    pub rx_fill_ring_empty: u64,
    /// Descriptors in the fill ring that the kernel did not accept. Not zero means a fault of ours.
    pub rx_invalid_descriptors: u64,
    /// Descriptors in the transmit ring that the kernel did not accept. Not zero means a fault of ours.
    pub tx_invalid_descriptors: u64,
    /// Times the kernel found the transmit ring empty. No error: every `poll` counts one in copy mode.
    pub tx_ring_empty: u64,
}

/// The socket's handles; dropping them unmaps the rings.
struct Sockets {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
}

/// The rings of one bound socket. Belongs to one core; `Send`.
pub(crate) struct Rings {
    sockets: ManuallyDrop<Sockets>,
    umem: Umem,
    /// By chunk index: descriptor with the frame behind the usual headroom.
    home: Arc<[FrameDesc]>,
    /// By chunk index: descriptor as last received, where the driver put the frame elsewhere. Rarely touched.
    elsewhere: Box<[FrameDesc]>,
    scratch: [FrameDesc; BURST],
    chunk_shift: u32,
    tx_ring: u32,
    /// Whether the UMEM lies on huge pages.
    huge: bool,
    /// Whether no other socket has a share of the UMEM.
    is_alone: bool,
    /// Frames that were moved within their chunk before they were sent.
    shifted: u64,
    /// Whether the chunk received last was not the last one of its frame.
    within: bool,
    /// Addresses from the kernel that no parked chunk has.
    stray: u64,
    /// Set when frames are still held at the end, and the UMEM has to stay.
    abandoned: bool,
}

impl Sockets {
    fn bind(shape: &SocketShape, umem: &Umem) -> io::Result<Self> {
        let mode = if shape.zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
        let merged = if shape.merged { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(shape.rx_ring).map_err(invalid)?)
            .tx_queue_size(QueueSize::new(shape.tx_ring).map_err(invalid)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | merged | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface: Interface =
            shape.link.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        // SAFETY: F4 — no other socket of the UMEM is for this queue, or the kernel's rings of this queue would have been
        // given to that one, and `None` come here; so the fill and completion ring are this socket's alone.
        let socket = unsafe { Socket::new(config, umem, &interface, u32::from(shape.queue)) };
        let (tx, rx, rings) = socket.map_err(|error| kernel_error(&error))?;
        let (fill, completion) = rings.ok_or_else(|| io::Error::other("the queue has a socket already"))?;
        Ok(Self { rx, tx, fill, completion })
    }
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").field("fd", &self.fd()).field("chunks", &self.home.len()).finish_non_exhaustive()
    }
}

impl Rings {
    /// Binds a socket to a share of a UMEM, which is taken when that is done; no frame is in any ring yet. The first of several
    /// sockets over one UMEM decides about copy mode and long frames for all.
    ///
    /// # Errors
    /// What the kernel said: `EBUSY` the queue is taken, `EOPNOTSUPP` or `EINVAL` no zero copy here, no frames of several
    /// chunks (before Linux 6.6), or no such queue,
    /// `EPERM` no `CAP_NET_RAW`, `ENOBUFS`/`ENOMEM` too little lockable memory, `ENODEV` no such link.
    pub(crate) fn open(shape: &SocketShape, share: &mut Option<UmemShare>) -> io::Result<(Self, FrameStock)> {
        let umem = share.as_ref().map(|share| share.umem.clone());
        let umem = umem.ok_or_else(|| io::Error::other("the share of the umem is taken"))?;
        let sockets = Sockets::bind(shape, &umem)?;
        let Some(UmemShare { region, home, huge, is_whole, .. }) = share.take() else {
            return Err(io::Error::other("the share of the umem is taken"));
        };
        let stock = FrameStock::over(region, shape.rx_chunks, HEADROOM_BYTES)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let rings = Self {
            sockets: ManuallyDrop::new(sockets),
            umem,
            elsewhere: vec![FrameDesc::default(); home.len()].into_boxed_slice(),
            home,
            huge,
            is_alone: is_whole,
            shifted: 0,
            scratch: [FrameDesc::default(); BURST],
            chunk_shift: shape.umem.chunk_bytes.trailing_zeros(),
            tx_ring: shape.tx_ring,
            within: false,
            stray: 0,
            abandoned: false,
        };
        Ok((rings, stock))
    }

    /// Whether the UMEM lies on huge pages.
    pub(crate) fn on_huge_pages(&self) -> bool {
        self.huge
    }

    /// Puts up to `most` free chunks, and up to [`BURST`], into the fill ring, in one operation; returns how many.
    #[inline]
    pub(crate) fn fill(&mut self, stock: &mut FrameStock, most: usize) -> usize {
        let wanted = stock.fillable().min(most).min(BURST);
        if wanted == 0 {
            return 0;
        }
        let room = self.sockets.fill.nb_free(wanted as u32) as usize;
        let mut count = 0;
        while count < wanted.min(room) {
            let Some(index) = stock.lend_to_fill() else { break };
            self.scratch[count] = self.home[index];
            count += 1;
        }
        // SAFETY: F1, F4 — these chunks are of this UMEM and were parked just now, as lent to be filled.
        let produced = unsafe { self.sockets.fill.produce(&self.scratch[..count]) };
        debug_assert_eq!(produced, count, "the ring had room for all, and produce is all or nothing");
        produced
    }

    /// Moves received frames into `out`, at most as many as it has room for and at most [`BURST`], in one operation.
    /// Chunks of a frame of several go through `segmenter` first.
    #[inline]
    pub(crate) fn receive(&mut self, stock: &mut FrameStock, segmenter: &mut Segmenter, out: &mut Burst) -> Moved {
        let wanted = out.room().min(BURST);
        // SAFETY: F4 — consume writes descriptors to the slice and gives the ring's slots back; the chunks stay parked.
        let count = unsafe { self.sockets.rx.consume(&mut self.scratch[..wanted]) };
        let mut moved = Moved::default();
        for position in 0..count {
            let mut desc = self.scratch[position];
            let more = desc.has_more_frames();
            let whole = !more & !std::mem::replace(&mut self.within, more);
            let (index, start) = self.split(desc.addr());
            let Some(mut frame) = stock.take_filled(index, start, desc.lengths().data()) else {
                self.stray += 1;
                if !whole {
                    segmenter.lose(more);
                }
                continue;
            };
            if start != HEADROOM_BYTES {
                desc.set_options(0);
                // `take_filled` accepted the index, so it is below the number of chunks.
                self.elsewhere[index] = desc;
            }
            if !whole {
                frame = match segmenter.chunk(frame, more) {
                    Ok(frame) => frame,
                    Err(frame) => {
                        // It is of this stock.
                        let _ = stock.free(frame);
                        continue;
                    }
                };
            }
            prefetch_head(&frame);
            moved.frames += 1;
            moved.bytes += frame.len() as u64;
            if let Err(frame) = out.push(frame) {
                // `wanted` is at most the room there was, so this is never reached; the frame would not be lost.
                let _ = stock.free(frame);
            }
        }
        moved
    }

    /// Frames that wait in the receive ring.
    #[inline]
    pub(crate) fn rx_backlog(&mut self) -> usize {
        self.sockets.rx.nb_avail_exact() as usize
    }

    /// Moves frames from the front of `frames` into the transmit ring, at most `most` and [`BURST`] in one operation. Foreign
    /// frames and those shorter than an Ethernet header go to `refuse` instead, and count as moved in neither number.
    /// With `completes`, TCP checksums that were left 0 are written.
    #[inline]
    pub(crate) fn send(
        &mut self,
        stock: &mut FrameStock,
        frames: &mut Burst,
        most: usize,
        completes: bool,
        mut refuse: impl FnMut(&mut FrameStock, Frame),
    ) -> Moved {
        let wanted = frames.len().min(most).min(BURST);
        if wanted == 0 {
            return Moved::default();
        }
        let room = wanted.min(self.sockets.tx.nb_free(wanted as u32) as usize);
        let mut moved = Moved::default();
        while moved.frames < room {
            let Some(mut frame) = frames.pop() else { break };
            if completes {
                complete_checksum(frame.bytes_mut());
            }
            let len = frame.len();
            let (Some(mut desc), true) = (self.descriptor_of(&mut frame), len >= SHORTEST_FRAME_BYTES) else {
                refuse(stock, frame);
                continue;
            };
            if let Err(frame) = stock.lend_to_send(frame) {
                refuse(stock, frame);
                continue;
            }
            // SAFETY: F1, F4 — the descriptor is of this UMEM, and its chunk was parked just now, so nobody else reads
            // or writes it; the kernel has not got it yet.
            let mut data = unsafe { self.umem.data_mut(&mut desc) };
            data.cursor().set_pos(len);
            self.scratch[moved.frames] = desc;
            moved.frames += 1;
            moved.bytes += len as u64;
        }
        // SAFETY: F1, F4 — these chunks are of this UMEM and were parked just now, as lent to be sent.
        let produced = unsafe { self.sockets.tx.produce(&self.scratch[..moved.frames]) };
        debug_assert_eq!(produced, moved.frames, "the ring had room for all, and produce is all or nothing");
        moved
    }

    /// The descriptor of a frame that is to be sent. One that lies where no descriptor of this queue says, since another
    /// queue has received it beside the usual place, or it was cut out of a longer one, is moved to the usual place; `None`
    /// where it does not fit there.
    #[inline]
    fn descriptor_of(&mut self, frame: &mut Frame) -> Option<FrameDesc> {
        let (index, start) = (frame.chunk_index() as usize, frame.start());
        if start == HEADROOM_BYTES {
            return self.home.get(index).copied();
        }
        let elsewhere = self.elsewhere.get(index).copied();
        elsewhere.filter(|desc| self.split(desc.addr()) == (index, start)).or_else(|| self.bring_home(frame))
    }

    #[cold]
    fn bring_home(&mut self, frame: &mut Frame) -> Option<FrameDesc> {
        if !frame.move_to(HEADROOM_BYTES) {
            return None;
        }
        self.shifted += 1;
        self.home.get(frame.chunk_index() as usize).copied()
    }

    /// Frames that were moved within their chunk before they were sent. 0 where nothing was copied.
    pub(crate) fn shifted_frames(&self) -> u64 {
        self.shifted
    }

    /// Takes up to [`BURST`] completions; returns how many there were.
    #[inline]
    pub(crate) fn complete(&mut self, stock: &mut FrameStock) -> usize {
        // SAFETY: F4 — consume writes descriptors to the slice and gives the ring's slots back; the chunks stay parked.
        let count = unsafe { self.sockets.completion.consume(&mut self.scratch) };
        for position in 0..count {
            let (index, _) = self.split(self.scratch[position].addr());
            if !stock.take_sent(index) {
                self.stray += 1;
            }
        }
        count
    }

    /// Descriptors in the transmit ring that the kernel has not taken yet.
    #[inline]
    pub(crate) fn tx_backlog(&mut self) -> u32 {
        self.tx_ring.saturating_sub(self.sockets.tx.nb_free_exact())
    }

    /// Whether the kernel wants a wake-up to send.
    #[inline]
    pub(crate) fn tx_needs_wakeup(&self) -> bool {
        self.sockets.tx.needs_wakeup()
    }

    /// Tells the kernel to send. One system call; a busy kernel is no error.
    ///
    /// # Errors
    /// The link is gone.
    pub(crate) fn wake_tx(&mut self) -> io::Result<()> {
        match self.sockets.tx.wakeup() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Whether the kernel wants a wake-up to go on receiving, since it had found the fill ring empty.
    #[inline]
    pub(crate) fn fill_needs_wakeup(&self) -> bool {
        self.sockets.fill.needs_wakeup()
    }

    /// Tells the kernel that the fill ring has chunks again. One system call, which does not sleep.
    ///
    /// # Errors
    /// The kernel refused to poll.
    pub(crate) fn wake_fill(&mut self) -> io::Result<()> {
        let Sockets { rx, fill, .. } = &mut *self.sockets;
        fill.wakeup(rx.fd_mut(), 0)
    }

    /// The socket's descriptor: readable when frames have arrived.
    pub(crate) fn fd(&self) -> RawFd {
        self.sockets.rx.fd().as_raw_fd()
    }

    /// The kernel's counters.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn statistics(&self) -> io::Result<XskStatistics> {
        let kernel = self.sockets.rx.fd().xdp_statistics()?;
        Ok(XskStatistics {
            rx_dropped: kernel.rx_dropped(),
            rx_ring_full: kernel.rx_ring_full(),
            rx_fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            rx_invalid_descriptors: kernel.rx_invalid_descs(),
            tx_invalid_descriptors: kernel.tx_invalid_descs(),
            tx_ring_empty: kernel.tx_ring_empty_descs(),
        })
    }

    /// Addresses that the kernel handed back without having them. Not zero means a fault of the kernel or of ours.
    pub(crate) fn stray_addresses(&self) -> u64 {
        self.stray
    }

    /// To be called before the end when frames are still held: their memory stays mapped, but the socket closes, so that
    /// the queue can be bound again. The first socket of a UMEM that others share stays open with that memory.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Chunk and place in it of an address.
    #[inline]
    fn split(&self, address: usize) -> (usize, usize) {
        (address >> self.chunk_shift, address & ((1 << self.chunk_shift) - 1))
    }
}

/// Prefetches a frame's headers and first bytes, which another processor wrote a moment ago, so that the frames of a
/// burst wait for memory together.
#[inline]
fn prefetch_head(frame: &Frame) {
    let bytes = frame.bytes();
    for at in [0, 64] {
        if let Some(byte) = bytes.get(at) {
            cpu::prefetch_read(byte);
        }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let fd = self.fd();
        // SAFETY: F5 — dropped once, here, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.sockets) };
        if self.abandoned && self.is_alone {
            // The UMEM, which is about to be forgotten, would keep its descriptor, and with it the queue, for good; so
            // the socket's number gets something harmless to stand for.
            let Ok(nothing) = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC) else { return };
            // SAFETY: F5 — `fd` is the descriptor of `self.umem`, still open, whose rings were unmapped just now.
            unsafe { libc::dup3(nothing.as_raw_fd(), fd, libc::O_CLOEXEC) };
        }
    }
}
