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
//! Frames need none of this: a receive ring that is not empty makes its descriptor readable.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use cpu::CachePadded;
use rustix::event::EventfdFlags;

use crate::sys::poll::PollSet;

/// Wakes one core. Shared by all: rung by any thread, slept on by its owner through a [`Sleeper`].
#[derive(Debug)]
pub struct Doorbell {
    /// Alone on its cache lines: ringers read it on every turn.
    sleeping: CachePadded<AtomicBool>,
    event: OwnedFd,
}

impl Doorbell {
    /// A doorbell whose owner is awake.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { sleeping: CachePadded(AtomicBool::new(false)), event })
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
        if !self.sleeping.swap(false, Ordering::Relaxed) {
            return false;
        }
        // Fails only when the counter is full, and then the descriptor is readable anyway.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
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

    /// Makes the eventfd unreadable again. Not readable is no error: a ringer may be about to write, and the next sleep
    /// then ends at once, for nothing but also without harm.
    fn settle(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(self.event.as_fd(), &mut count);
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
    // The doorbell is at position 0, the queues follow.
    set: PollSet,
}

impl Sleeper {
    /// A sleeper for the owner of `doorbell`, on these queues' descriptors ([`Queue::raw_fd`](crate::Queue::raw_fd)).
    pub fn new(doorbell: Arc<Doorbell>, queues: impl IntoIterator<Item = RawFd>) -> Self {
        let set = PollSet::new(std::iter::once(doorbell.event.as_raw_fd()).chain(queues));
        Self { doorbell, set }
    }

    /// Sleeps until a frame arrives, the doorbell rings, `timeout` is over (`None`: no limit) or a signal arrives.
    /// `has_work` is asked once, after others can see that this core is about to sleep; it must look at every inbox.
    ///
    /// # Errors
    /// The kernel refused to wait.
    pub fn sleep(&mut self, timeout: Option<Duration>, has_work: impl FnOnce() -> bool) -> io::Result<Woken> {
        self.doorbell.announce_sleep();
        if has_work() {
            self.doorbell.announce_awake();
            return Ok(Woken::Busy);
        }
        let ready = self.set.wait(timeout);
        self.doorbell.announce_awake();
        if ready? == 0 {
            return Ok(Woken::Idle);
        }
        if self.set.is_ready(0) {
            self.doorbell.settle();
            return Ok(Woken::Rung);
        }
        Ok(Woken::Frames)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn ringing_an_awake_core_makes_no_event() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let mut sleeper = Sleeper::new(doorbell.clone(), []);
        assert!(!doorbell.ring());
        assert_eq!(sleeper.sleep(Some(Duration::ZERO), || false).unwrap(), Woken::Idle);
    }

    #[test]
    fn work_found_at_the_last_look_prevents_the_sleep() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let mut sleeper = Sleeper::new(doorbell.clone(), []);
        assert_eq!(sleeper.sleep(None, || true).unwrap(), Woken::Busy);
        assert!(!doorbell.ring(), "the core is awake again");
    }

    #[test]
    fn one_of_many_rings_wakes_and_the_event_does_not_last() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let mut sleeper = Sleeper::new(doorbell.clone(), []);
        let ring = || {
            assert!(doorbell.ring());
            assert!(!doorbell.ring());
            false
        };
        assert_eq!(sleeper.sleep(None, ring).unwrap(), Woken::Rung);
        assert_eq!(sleeper.sleep(Some(Duration::ZERO), || false).unwrap(), Woken::Idle);
    }

    #[test]
    fn a_readable_queue_ends_the_sleep() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::write(&writer, b"frame").unwrap();
        let mut sleeper = Sleeper::new(Arc::new(Doorbell::new().unwrap()), [reader.as_raw_fd()]);
        assert_eq!(sleeper.sleep(None, || false).unwrap(), Woken::Frames);
    }

    /// A push and a last look at the same moment, again and again. Whichever comes first: the look finds the message, or
    /// the ring ends the sleep. Without either of the two fences this fails within some thousand rounds on x86-64 with two processors.
    #[test]
    fn no_wake_up_is_lost_when_push_and_last_look_race() {
        const ROUNDS: u64 = 60_000;
        /// How long before the end of a sleep a ring must have been to be lost for certain, if it did not end the sleep.
        const CERTAIN_NS: u64 = 1_000_000;
        let origin = std::time::Instant::now();
        let nanos = move || origin.elapsed().as_nanos() as u64;
        let bell = Arc::new(Doorbell::new().unwrap());
        // Each on cache lines of its own, as the queues between cores are, so that stores and loads do race.
        let [start, inbox, rung, rung_at] = [(); 4].map(|()| Arc::new(CachePadded(AtomicU64::new(0))));
        let ringer = std::thread::spawn({
            let (bell, start, inbox) = (bell.clone(), start.clone(), inbox.clone());
            let (rung, rung_at) = (rung.clone(), rung_at.clone());
            move || {
                pin(1);
                for round in 1..=ROUNDS {
                    spin_until(|| start.load(Ordering::Acquire) >= round);
                    inbox.store(round, Ordering::Release);
                    bell.ring();
                    rung_at.store(nanos(), Ordering::Relaxed);
                    rung.store(round, Ordering::Release);
                }
            }
        });
        pin(0);
        let mut sleeper = Sleeper::new(bell, []);
        let mut ends = [0u64; 3];
        for round in 1..=ROUNDS {
            start.store(round, Ordering::Release);
            stagger(round);
            let has_work = || inbox.load(Ordering::Acquire) >= round;
            while !has_work() {
                match sleeper.sleep(Some(Duration::from_millis(5)), has_work).unwrap() {
                    Woken::Busy => ends[0] += 1,
                    Woken::Rung => ends[1] += 1,
                    Woken::Frames | Woken::Idle => {
                        ends[2] += 1;
                        // The ringer may merely be slow, and ring only now.
                        let end = nanos();
                        let late =
                            rung.load(Ordering::Acquire) < round || rung_at.load(Ordering::Relaxed) + CERTAIN_NS > end;
                        assert!(late, "round {round}: a wake-up was lost");
                    }
                }
            }
            spin_until(|| rung.load(Ordering::Acquire) >= round);
        }
        ringer.join().unwrap();
        eprintln!("{} found at the last look, {} rung, {} idle", ends[0], ends[1], ends[2]);
        assert!(ends[0] + ends[1] > 0, "the two never met");
    }

    fn spin_until(is_done: impl Fn() -> bool) {
        let mut spins = 0u32;
        while !is_done() {
            spins += 1;
            if spins.is_multiple_of(256) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// Puts this thread on the `which`-th processor that it may use, if there are as many; on one they would not race.
    fn pin(which: usize) {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let allowed = sched_getaffinity(None).unwrap();
        if let Some(cpu) = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).nth(which) {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one).unwrap();
        }
    }

    /// Up to some microseconds, by round, so that every order of the two comes up.
    fn stagger(round: u64) {
        for _ in 0..round % 61 {
            std::hint::spin_loop();
        }
    }
}
