//! Waiting for any of several file descriptors, without allocating for each wait.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::EventfdFlags;

/// What one thread signals and another waits for: an eventfd. A signal stays until it is cleared.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    /// An event that nobody has signalled.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable. Any thread; never blocks.
    pub(crate) fn signal(&self) {
        // Fails only when the counter is full, and then the descriptor is readable anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again; it may be so already.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

/// An event and file descriptors to wait for, made once. A descriptor that was closed meanwhile counts as ready (`POLLNVAL`), so that
/// its user finds out; the memory of this process is never at stake.
#[derive(Debug)]
pub(crate) struct PollSet {
    // The event is at position 0, the others follow.
    fds: Vec<libc::pollfd>,
}

impl PollSet {
    /// A set of these, waiting for each to become readable.
    pub(crate) fn new(event: &Event, fds: impl IntoIterator<Item = RawFd>) -> Self {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        Self { fds: std::iter::once(event.0.as_raw_fd()).chain(fds).map(entry).collect() }
    }

    /// Sleeps until a descriptor is readable, the time is over or a signal arrives, and returns how many descriptors are
    /// ready. `None` waits without limit.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|time| libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: S1 — the array has `count` entries, and the time is null or points to a local that outlives the call.
        let ready = unsafe { libc::ppoll(self.fds.as_mut_ptr(), count, timeout, std::ptr::null()) };
        match usize::try_from(ready) {
            Ok(ready) => Ok(ready),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {
                    // The kernel need not have written the results.
                    self.fds.iter_mut().for_each(|entry| entry.revents = 0);
                    Ok(0)
                }
                error => Err(error),
            },
        }
    }

    /// Whether the event was signalled when the last wait ended.
    pub(crate) fn is_signalled(&self) -> bool {
        self.fds.first().is_some_and(|entry| entry.revents != 0)
    }
}
