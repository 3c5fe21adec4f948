//! What stands in the place of `src/sync.rs` while loom checks: its atomics, and a queue made of them.

#![allow(unused_imports, dead_code, reason = "each program uses a part of it")]

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// crossbeam's `ArrayQueue` as far as threads see it: the same steps with the same orderings, none stronger, so that
/// nothing is ordered here that it would not order. What a slot holds is behind a lock of the standard library, which
/// loom does not see and nobody ever waits for: the stamps say who may touch it.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Box<[Slot<T>]>,
}

#[derive(Debug)]
struct Slot<T> {
    /// The position whose push may fill it, or one more than the position whose pop may empty it.
    stamp: AtomicUsize,
    value: std::sync::Mutex<Option<T>>,
}

impl<T> Slot<T> {
    fn replace(&self, value: Option<T>) -> Option<T> {
        let mut held = self.value.try_lock().expect("two threads in one slot");
        std::mem::replace(&mut *held, value)
    }
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let slot = |at| Slot { stamp: AtomicUsize::new(at), value: std::sync::Mutex::new(None) };
        Self { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots: (0..capacity).map(slot).collect() }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let slot = &self.slots[tail % self.slots.len()];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == tail {
                let taken = self.tail.compare_exchange(tail, tail + 1, Ordering::SeqCst, Ordering::Relaxed);
                if taken.is_ok() {
                    slot.replace(Some(value));
                    slot.stamp.store(tail + 1, Ordering::Release);
                    return Ok(());
                }
            } else if stamp + self.slots.len() == tail + 1 {
                fence(Ordering::SeqCst);
                if self.head.load(Ordering::Relaxed) + self.slots.len() == tail {
                    return Err(value);
                }
            }
            loom::thread::yield_now();
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let slot = &self.slots[head % self.slots.len()];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == head + 1 {
                let taken = self.head.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::Relaxed);
                if taken.is_ok() {
                    let value = slot.replace(None);
                    slot.stamp.store(head + self.slots.len(), Ordering::Release);
                    return value;
                }
            } else if stamp == head {
                fence(Ordering::SeqCst);
                if self.tail.load(Ordering::Relaxed) == head {
                    return None;
                }
            }
            loom::thread::yield_now();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::SeqCst);
        self.tail.load(Ordering::SeqCst) == head
    }

    pub(crate) fn len(&self) -> usize {
        let tail = self.tail.load(Ordering::SeqCst);
        tail - self.head.load(Ordering::SeqCst)
    }
}
