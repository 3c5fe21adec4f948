//! Binding AF_XDP sockets to queues, with patience for a queue that was closed a moment ago.

use std::io;
use std::time::{Duration, Instant};

use super::config::{ETHERNET_BYTES, XdpConfig};
use super::queue::XdpQueue;
use super::train::TrainSender;
use crate::link::Link;
use crate::queue::QueueId;
use crate::sys::rings::{Rings, SocketShape};
use crate::sys::sockopt;
use crate::sys::stock::FrameStock;
use crate::sys::umem::{self, UmemShape, UmemShare};

/// How long a busy queue or link is tried for: a closed socket frees its queue only after 32 to 40 ms (Linux 6.18), and
/// a killed process its program about as late.
pub(super) const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// Time between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Frames that one wake-up may send in copy mode, where the kernel lets that be set.
const TX_BUDGET: u32 = 256;

/// Binds a socket to one queue and fills its fill ring; to be given frames longer than a chunk too if `merged`.
///
/// # Errors
/// What the kernel said at the last try.
pub(super) fn bind(
    config: &XdpConfig,
    link: &Link,
    queue: QueueId,
    zero_copy: bool,
    merged: bool,
) -> io::Result<XdpQueue> {
    let shape = SocketShape { merged, ..config.shape(link, queue, zero_copy) };
    let (rings, stock) = while_busy(|| Rings::open(&shape, &mut umem::create(shape.umem, 1)?.pop()), is_busy)?;
    // Frames leave by the ring alone where this is not to be had.
    let trains = if zero_copy { None } else { TrainSender::open(link).unwrap_or_default() };
    start(&shape, link, rings, stock, trains)
}

/// Binds a socket to each of these queues, in this order, all over one UMEM, and fills their fill rings. Segments do not
/// leave together: what is sent is for others to judge.
///
/// # Errors
/// What the kernel said at the last try, and of which place in `shapes`.
pub(super) fn bind_together(shapes: &[(SocketShape, &Link)]) -> Result<Vec<XdpQueue>, (usize, io::Error)> {
    let umem = common_shape(shapes.iter().map(|(shape, _)| shape.umem)).ok_or_else(|| (0, invalid("no queue")))?;
    let mut shares: Vec<Option<UmemShare>> = Vec::new();
    let mut queues = Vec::with_capacity(shapes.len());
    for (number, (shape, link)) in shapes.iter().enumerate() {
        let shape = SocketShape { umem, ..shape.clone() };
        let opened = while_busy(
            || {
                // The socket of a UMEM's own is bound at most once: a failed try wants a UMEM anew.
                if number == 0 {
                    shares = umem::create(umem, shapes.len())?.into_iter().map(Some).collect();
                }
                Rings::open(&shape, shares.get_mut(number).ok_or_else(|| invalid("no share"))?)
            },
            is_busy,
        );
        let queue = opened.and_then(|(rings, stock)| start(&shape, link, rings, stock, None));
        queues.push(queue.map_err(|error| (number, error))?);
    }
    Ok(queues)
}

/// A shape that does for all: all sockets of a UMEM have rings and chunks of one size.
fn common_shape(shapes: impl Iterator<Item = UmemShape>) -> Option<UmemShape> {
    shapes.reduce(|a, b| UmemShape {
        chunk_bytes: a.chunk_bytes.max(b.chunk_bytes),
        chunks: a.chunks.max(b.chunks),
        fill_ring: a.fill_ring.max(b.fill_ring),
        completion_ring: a.completion_ring.max(b.completion_ring),
    })
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

/// Lifts limits, and fills the fill ring.
fn start(
    shape: &SocketShape,
    link: &Link,
    rings: Rings,
    stock: FrameStock,
    trains: Option<TrainSender>,
) -> io::Result<XdpQueue> {
    // Both lift limits of copy mode. A kernel that does not know or allow them works too, with more wake-ups.
    let send_buffer = shape.tx_ring.saturating_mul(shape.umem.chunk_bytes);
    let _ = sockopt::set_send_buffer(rings.fd(), send_buffer);
    let _ = sockopt::set_tx_budget(rings.fd(), shape.tx_ring.min(TX_BUDGET));
    let link_frame_bytes = link.mtu.saturating_add(ETHERNET_BYTES) as usize;
    let id = QueueId(shape.queue);
    let mut queue = XdpQueue::new(id, rings, stock, shape.zero_copy, link_frame_bytes).with_trains(trains);
    queue.start()?;
    Ok(queue)
}

/// Tries `act` until it is done, fails otherwise than by being busy, or [`BUSY_PATIENCE`] is over.
pub(super) fn while_busy<T, E>(mut act: impl FnMut() -> Result<T, E>, is_busy: impl Fn(&E) -> bool) -> Result<T, E> {
    let start = Instant::now();
    loop {
        match act() {
            Err(error) if is_busy(&error) && start.elapsed() < BUSY_PATIENCE => std::thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
}
