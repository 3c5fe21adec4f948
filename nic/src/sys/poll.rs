//! Waiting for any of several file descriptors, without allocating for each wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
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

/// What an `epoll` waits with (`linux/eventpoll.h`, since Linux 6.9).
#[repr(C)]
struct BusyPollParams {
    usecs: u32,
    budget: u16,
    prefer: u8,
    /// Must be zero.
    pad: u8,
}

/// `EPIOCSPARAMS`: `_IOW(0x8A, 0x01, struct epoll_params)`.
const SET_BUSY_POLL_PARAMS: libc::c_ulong = 0x4008_8A01;

/// Most descriptors of which one wait tells; those beyond are told of by the next.
const READY_MAX: usize = 64;

/// What the event is numbered.
const EVENT: u64 = 0;

/// By an `epoll` that polls the drivers of its sockets before it sleeps, and keeps their interrupts off for
/// as long as that brings frames (kernel `networking/napi.rst`, "IRQ suspension").
#[derive(Debug)]
struct Epoll {
    epoll: OwnedFd,
    ready: [libc::epoll_event; READY_MAX],
    count: usize,
}

impl Epoll {
    fn new(event: &Event, fds: impl IntoIterator<Item = RawFd>, usecs: u32, budget: u16) -> io::Result<Self> {
        // SAFETY: S1 — no pointer is given.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: S1 — the kernel has just made this descriptor, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let params = BusyPollParams { usecs, budget, prefer: 1, pad: 0 };
        // SAFETY: S1 — the request reads a whole `struct epoll_params`, a local.
        let set = unsafe { libc::ioctl(epoll.as_raw_fd(), SET_BUSY_POLL_PARAMS as _, &raw const params) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        for (number, fd) in std::iter::once(event.0.as_raw_fd()).chain(fds).enumerate() {
            let mut wanted = libc::epoll_event { events: libc::EPOLLIN as u32, u64: EVENT + number as u64 };
            // SAFETY: S1 — the event is a local, which is only read.
            let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut wanted) };
            if added < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { epoll, ready: [libc::epoll_event { events: 0, u64: 0 }; READY_MAX], count: 0 })
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(timespec);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        self.count = 0;
        // By its number, since not every C library has the function.
        // SAFETY: S1 — the array has as many events as is said, and the time is null or points to a local that outlives the
        // call.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.ready.as_mut_ptr(),
                READY_MAX as libc::c_int,
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match usize::try_from(ready) {
            Ok(ready) => {
                self.count = ready.min(READY_MAX);
                Ok(ready)
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    fn is_signalled(&self) -> bool {
        self.ready[..self.count].iter().any(|event| ({ event.u64 }) == EVENT)
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
    }
}

/// An event and file descriptors to wait for, made once. A descriptor that was closed meanwhile counts as ready (`POLLNVAL`), so that
/// its user finds out, but for a set that polls, which forgets it; the memory of this process is never at stake.
#[derive(Debug)]
pub(crate) struct PollSet(Means);

#[derive(Debug)]
enum Means {
    Poll(Poll),
    /// Boxed: it is larger, and rare.
    Epoll(Box<Epoll>),
}

impl PollSet {
    /// A set of these, waiting for each to become readable.
    pub(crate) fn new(event: &Event, fds: impl IntoIterator<Item = RawFd>) -> Self {
        Self(Means::Poll(Poll::new(event, fds)))
    }

    /// The same, of which the kernel polls the drivers, each time for `usecs` microseconds at most and `budget` frames,
    /// before it sleeps.
    ///
    /// # Errors
    /// The kernel does not know it (`ENOTTY` or `EINVAL`, before Linux 6.9), or has no descriptor left.
    pub(crate) fn polling(
        event: &Event,
        fds: impl IntoIterator<Item = RawFd>,
        usecs: u32,
        budget: u16,
    ) -> io::Result<Self> {
        Ok(Self(Means::Epoll(Box::new(Epoll::new(event, fds, usecs, budget)?))))
    }

    /// Whether it is a set whose drivers the kernel polls.
    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.0, Means::Epoll(_))
    }

    /// Sleeps until a descriptor is readable, the time is over or a signal arrives, and returns how many descriptors are
    /// ready. `None` waits without limit.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match &mut self.0 {
            Means::Poll(poll) => poll.wait(timeout),
            Means::Epoll(epoll) => epoll.wait(timeout),
        }
    }

    /// Whether the event was signalled when the last wait ended.
    pub(crate) fn is_signalled(&self) -> bool {
        match &self.0 {
            Means::Poll(poll) => poll.is_signalled(),
            Means::Epoll(epoll) => epoll.is_signalled(),
        }
    }
}

/// By `ppoll`.
#[derive(Debug)]
struct Poll {
    // The event is at position 0, the others follow.
    fds: Vec<libc::pollfd>,
}

impl Poll {
    fn new(event: &Event, fds: impl IntoIterator<Item = RawFd>) -> Self {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        Self { fds: std::iter::once(event.0.as_raw_fd()).chain(fds).map(entry).collect() }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(timespec);
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

    fn is_signalled(&self) -> bool {
        self.fds.first().is_some_and(|entry| entry.revents != 0)
    }
}
