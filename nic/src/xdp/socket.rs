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
    let is_busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
    let (rings, stock) = while_busy(|| Rings::open(&shape), is_busy)?;
    // Both lift limits of copy mode. A kernel that does not know or allow them works too, with more wake-ups.
    let send_buffer = shape.tx_ring.saturating_mul(shape.umem.chunk_bytes);
    let _ = sockopt::set_send_buffer(rings.fd(), send_buffer);
    let _ = sockopt::set_tx_budget(rings.fd(), shape.tx_ring.min(TX_BUDGET));
    let link_frame_bytes = link.mtu.saturating_add(ETHERNET_BYTES) as usize;
    // Frames leave by the ring alone where this is not to be had.
    let trains = if zero_copy { None } else { TrainSender::open(link).unwrap_or_default() };
    let mut queue = XdpQueue::new(queue, rings, stock, zero_copy, link_frame_bytes).with_trains(trains);
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
