//! Who watches what, and what waits for whom: a fixed number of seats that all cores share without a lock.
//!
//! Invariant W2: how many watchers want a kind is counted, up by one as a watcher enters and down by one as it leaves,
//! in one atomic step each. Nobody reads the other seats to find out, so watchers of several cores may come and go at
//! once.
//! Invariant W3: the kinds that a seat wants are written last, after its core (release): a core that reads them
//! (acquire) also reads whose seat it is.
//! `apps/cached/tests/loom.rs` tries every order of threads.

use std::sync::OnceLock;

use crate::sync::{ArrayQueue, AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Bits of a count of watchers: a [`Counts`] has as many for each kind.
const COUNT_BITS: u32 = 6;

/// Kinds that are told.
const KINDS: u32 = 5;

/// How many watchers want each kind, in one word: kind i has the bits from `i * COUNT_BITS` on.
#[derive(Debug, Default)]
struct Counts(AtomicU32);

const _: () = assert!(KINDS * COUNT_BITS <= u32::BITS, "all counts fit the word");

impl Counts {
    /// A word whose counts of `kinds` are `count`, all others 0.
    #[inline]
    const fn of(kinds: u32, count: u32) -> u32 {
        let mut word = 0;
        let mut kind = 0;
        while kind < KINDS {
            if kinds >> kind & 1 == 1 {
                word |= count << (kind * COUNT_BITS);
            }
            kind += 1;
        }
        word
    }

    fn enter(&self, kinds: u32) {
        self.0.fetch_add(Counts::of(kinds, 1), Ordering::Release);
    }

    fn leave(&self, kinds: u32) {
        self.0.fetch_sub(Counts::of(kinds, 1), Ordering::Release);
    }

    #[inline]
    fn want(&self, kinds: u32) -> bool {
        self.0.load(Ordering::Relaxed) & Counts::of(kinds, (1 << COUNT_BITS) - 1) != 0
    }
}

/// A watcher's seat.
#[derive(Debug)]
struct Seat<E> {
    taken: AtomicBool,
    wanted: AtomicU32,
    /// The watcher's core.
    core: AtomicU32,
    /// Events lost since it was last told.
    lost: AtomicU64,
    /// By the core that acts.
    queues: OnceLock<Box<[ArrayQueue<E>]>>,
}

impl<E> Default for Seat<E> {
    fn default() -> Self {
        Self {
            taken: AtomicBool::default(),
            wanted: AtomicU32::default(),
            core: AtomicU32::default(),
            lost: AtomicU64::default(),
            queues: OnceLock::new(),
        }
    }
}

/// Seats for `N` watchers of events `E`. Any core.
#[derive(Debug)]
pub(crate) struct Seats<E, const N: usize> {
    wanted: Counts,
    seats: [Seat<E>; N],
    cores: usize,
    /// How many events a watcher may be behind each core.
    depth: usize,
}

impl<E: Clone, const N: usize> Seats<E, N> {
    /// Free seats, of a cache of `cores` cores; a watcher may be `depth` events behind each core.
    pub(crate) fn new(cores: usize, depth: usize) -> Self {
        const { assert!(N < 1 << COUNT_BITS, "a count of all watchers does not reach its neighbour") };
        Self { wanted: Counts::default(), seats: std::array::from_fn(|_| Seat::default()), cores, depth }
    }

    /// Whether anybody wants any of `kinds`.
    #[inline]
    pub(crate) fn want(&self, kinds: u32) -> bool {
        self.wanted.want(kinds)
    }

    /// Seats that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.seats.iter().filter(|seat| seat.taken.load(Ordering::Relaxed)).count()
    }

    /// Takes a seat for a watcher on `core`; `None` when all are taken. Allocates its queues when the seat has never
    /// been used.
    pub(crate) fn enter(&self, core: usize, wanted: u32) -> Option<usize> {
        let claim =
            |seat: &Seat<E>| seat.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let at = self.seats.iter().position(claim)?;
        let seat = &self.seats[at];
        let queues = seat.queues.get_or_init(|| (0..self.cores).map(|_| ArrayQueue::new(self.depth)).collect());
        for queue in queues {
            // At most what was there: a core that saw the old watcher may still be pushing.
            for _ in 0..queue.len() {
                queue.pop();
            }
        }
        seat.lost.store(0, Ordering::Relaxed);
        seat.core.store(core as u32, Ordering::Relaxed);
        seat.wanted.store(wanted, Ordering::Release);
        self.wanted.enter(wanted);
        Some(at)
    }

    /// Gives a seat back.
    pub(crate) fn leave(&self, at: usize) {
        if let Some(seat) = self.seats.get(at) {
            self.wanted.leave(seat.wanted.swap(0, Ordering::Relaxed));
            seat.taken.store(false, Ordering::Release);
        }
    }

    /// Offers an event that happened on `core` to every watcher of any of `kinds`; calls `woken` with the core of each
    /// that got it. Returns how many did, and how many lost it because they are too far behind.
    pub(crate) fn offer(&self, core: usize, kinds: u32, event: &E, mut woken: impl FnMut(usize)) -> (u64, u64) {
        let (mut told, mut lost) = (0, 0);
        for seat in self.seats.iter().filter(|seat| seat.wanted.load(Ordering::Acquire) & kinds != 0) {
            let Some(queue) = seat.queues.get().and_then(|queues| queues.get(core)) else { continue };
            if queue.push(event.clone()).is_ok() {
                told += 1;
                woken(seat.core.load(Ordering::Relaxed) as usize);
            } else {
                lost += 1;
                seat.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        (told, lost)
    }

    /// Whether anything waits at `at`.
    pub(crate) fn has_any(&self, at: usize) -> bool {
        let queues = self.seats.get(at).and_then(|seat| seat.queues.get());
        queues.is_some_and(|queues| queues.iter().any(|queue| !queue.is_empty()))
    }

    /// Events that the watcher at `at` has lost since this was last asked.
    pub(crate) fn take_lost(&self, at: usize) -> u64 {
        self.seats.get(at).map_or(0, |seat| seat.lost.swap(0, Ordering::Relaxed))
    }

    /// Takes about `most` events that wait at `at`. The core of its watcher only.
    pub(crate) fn take(&self, at: usize, most: usize, mut told: impl FnMut(E)) {
        let Some(queues) = self.seats.get(at).and_then(|seat| seat.queues.get()) else { return };
        // One of each core in turn, so that a busy one does not hide the others.
        let mut left = most;
        while left > 0 {
            let before = left;
            for event in queues.iter().filter_map(ArrayQueue::pop) {
                told(event);
                left = left.saturating_sub(1);
            }
            if left == before {
                return;
            }
        }
    }
}
