//! Sleeping and waking with the kernel's own eventfd and poll; every order of the two is tried in `loom.rs`.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpu::CachePadded;
use sidestep_nic::{Doorbell, Sleeper, Woken};

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

/// A sleeper whose kernel polls drivers wakes by the same things; its descriptors need not be sockets.
#[test]
fn a_sleeper_that_polls_is_rung_woken_by_frames_and_ends_its_time() {
    let (reader, writer) = io::pipe().unwrap();
    let doorbell = Arc::new(Doorbell::new().unwrap());
    let mut sleeper = match Sleeper::polling(doorbell.clone(), [reader.as_raw_fd()]) {
        Ok(sleeper) => sleeper,
        // Before Linux 6.9.
        Err(error) => return eprintln!("skipped: {error}"),
    };
    assert_eq!(sleeper.sleep(Some(Duration::from_millis(1)), || false).unwrap(), Woken::Idle);
    let ring = || {
        assert!(doorbell.ring());
        false
    };
    assert_eq!(sleeper.sleep(None, ring).unwrap(), Woken::Rung);
    assert_eq!(sleeper.sleep(Some(Duration::ZERO), || false).unwrap(), Woken::Idle);
    rustix::io::write(&writer, b"frame").unwrap();
    assert_eq!(sleeper.sleep(None, || false).unwrap(), Woken::Frames);
    assert_eq!(sleeper.sleep(None, || true).unwrap(), Woken::Busy);
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
