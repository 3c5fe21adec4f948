//! `Doorbell` and `Sleeper`: how an idle core sleeps on all its queues at once, and how another core wakes it.
//!
//! Invariant: a message pushed before [`Doorbell::ring`] is either seen by the sleeper's last look before it sleeps, or
//! ends its sleep; and of any number of rings during one sleep, exactly one makes a system call.
//!
//! ```text
//!   ringer                                sleeper
//!   push the message                      sleeping = true
//!   ---- fence (SeqCst) ----              ---- fence (SeqCst) ----
//!   if sleeping, and I cleared it:        look at inboxes once more: a message? then do not sleep
//!       write to the eventfd              poll(queues, eventfd)
//! ```
//!
//! Why none is lost: two sequentially consistent fences are ordered one way or the other (C++20 [atomics.order], "for
//! every pair of fences"). If the ringer's is first, the sleeper's look, which comes after its own fence, sees the
//! message. If the sleeper's is first, the ringer's load sees `sleeping` and it writes to the eventfd, and a written
//! eventfd stays readable until the sleeper has read it, however late the poll begins. With one fence only, the store
//! buffer of the other side could hold its write back (the message is published by a plain store) and both would look
//! too early. So an awake core costs a ringer one fence and one load, and no system call; there is one ring per batch
//! and turn, never one per request.
//!
//! `tests/loom.rs` has a model checker try every order of these steps, with every value that a load may see.
//! Frames need none of this: a receive ring that is not empty makes its descriptor readable.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use cpu::CachePadded;

use crate::sync::{AtomicBool, Ordering, fence};
use crate::sys::poll::{Event, PollSet};

/// Wakes one core. Shared by all: rung by any thread, slept on by its owner through a [`Sleeper`].
#[derive(Debug)]
pub struct Doorbell {
    /// Alone on its cache lines: ringers read it on every turn.
    sleeping: CachePadded<AtomicBool>,
    event: Event,
}

impl Doorbell {
    /// A doorbell whose owner is awake.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { sleeping: CachePadded(AtomicBool::new(false)), event: Event::new()? })
    }

    /// Wakes the owner if it sleeps; call it after the message was pushed, once per batch. Any thread; never blocks.
    /// Returns whether this call woke it.
    #[inline]
    pub fn ring(&self) -> bool {
        // After the push and before the look; see the module's argument.
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.wake()
    }

    /// The slow half: of all that get here in one sleep, the one that clears the flag writes.
    #[cold]
    fn wake(&self) -> bool {
        // A ringer that finds the flag cleared writes nothing: the owner may have announced its next sleep meanwhile.
        if self.sleeping.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        self.event.signal();
        true
    }

    fn announce_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        // Before the last look at the inboxes; see the module's argument.
        fence(Ordering::SeqCst);
    }

    fn announce_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There was work already at the last look; the core did not sleep.
    Busy,
    /// Another core rang.
    Rung,
    /// Frames have arrived, or a queue's link is gone.
    Frames,
    /// The time was over, or a signal arrived.
    Idle,
}

/// Lets one core sleep on all its queues and its doorbell. Belongs to that core.
#[derive(Debug)]
pub struct Sleeper {
    doorbell: Arc<Doorbell>,
    set: PollSet,
}

/// How long the kernel polls the drivers of a sleeper's queues before it lets the core sleep, and for how many frames at a
/// time: as in `networking/napi.rst`.
const BUSY_POLL_USECS: u32 = 64;
const BUSY_POLL_BUDGET: u16 = 64;

impl Sleeper {
    /// A sleeper for the owner of `doorbell`, on these queues' descriptors ([`Queue::raw_fd`](crate::Queue::raw_fd)).
    pub fn new(doorbell: Arc<Doorbell>, queues: impl IntoIterator<Item = RawFd>) -> Self {
        let set = PollSet::new(&doorbell.event, queues);
        Self { doorbell, set }
    }

    /// The same, where the kernel polls the drivers of the queues before it lets the core sleep, and keeps their interrupts
    /// off while that brings frames ([`wait_mode`](crate::wait_mode)).
    ///
    /// # Errors
    /// The kernel cannot (before Linux 6.9).
    pub fn polling(doorbell: Arc<Doorbell>, queues: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let set = PollSet::polling(&doorbell.event, queues, BUSY_POLL_USECS, BUSY_POLL_BUDGET)?;
        Ok(Self { doorbell, set })
    }

    /// Whether it sleeps in an `epoll_pwait2`, and not in a `ppoll`.
    pub fn is_polling(&self) -> bool {
        self.set.is_polling()
    }

    /// Sleeps until a frame arrives, the doorbell rings, `timeout` is over (`None`: no limit) or a signal arrives.
    /// `has_work` is asked once, after others can see that this core is about to sleep; it must look at every inbox.
    ///
    /// # Errors
    /// The kernel refused to wait.
    pub fn sleep(&mut self, timeout: Option<Duration>, has_work: impl FnOnce() -> bool) -> io::Result<Woken> {
        if self.begin(has_work) { self.end(timeout) } else { Ok(Woken::Busy) }
    }

    /// The first half of [`sleep`](Self::sleep): from here on a ring is kept for [`end`](Self::end). Returns false, and
    /// the core is awake, when `has_work` says so. Apart for tests in which a core sleeps while others take turns.
    pub fn begin(&mut self, has_work: impl FnOnce() -> bool) -> bool {
        self.doorbell.announce_sleep();
        let sleeps = !has_work();
        if !sleeps {
            self.doorbell.announce_awake();
        }
        sleeps
    }

    /// The second half of [`sleep`](Self::sleep): waits, and the core is awake.
    ///
    /// # Errors
    /// The kernel refused to wait.
    pub fn end(&mut self, timeout: Option<Duration>) -> io::Result<Woken> {
        let ready = self.set.wait(timeout);
        self.doorbell.announce_awake();
        if ready? == 0 {
            return Ok(Woken::Idle);
        }
        if self.set.is_signalled() {
            // A ringer may be about to signal. The next sleep then ends at once without any work, which does no harm.
            self.doorbell.event.clear();
            return Ok(Woken::Rung);
        }
        Ok(Woken::Frames)
    }
}
