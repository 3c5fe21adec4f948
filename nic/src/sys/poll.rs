//! Waiting for any of several file descriptors, without allocating for each wait.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// File descriptors to wait for, made once. A descriptor that was closed meanwhile counts as ready (`POLLNVAL`), so that
/// its user finds out; the memory of this process is never at stake.
#[derive(Debug)]
pub(crate) struct PollSet {
    fds: Vec<libc::pollfd>,
}

impl PollSet {
    /// A set of these descriptors, waiting for each to become readable.
    pub(crate) fn new(fds: impl IntoIterator<Item = RawFd>) -> Self {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        Self { fds: fds.into_iter().map(entry).collect() }
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

    /// Whether the descriptor at this position of the set was ready when the last wait ended.
    pub(crate) fn is_ready(&self, position: usize) -> bool {
        self.fds.get(position).is_some_and(|entry| entry.revents != 0)
    }
}
