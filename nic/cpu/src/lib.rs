//! What depends on the processor, as safe functions and types: prefetch, the cycle counter, cache-line padding,
//! counters that one core writes and any may read, memory whose pages another thread makes ahead of use.
//!
//! A leaf crate that every other may use, so that no crate but `sidestep-nic` needs unsafe code of its own.
//! On a processor other than x86-64 the prefetch does nothing and the counter reads the monotonic clock.

#![warn(missing_docs)]

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory whose pages another thread makes ahead of use.
mod map;

pub use map::{HUGE_PAGE_BYTES, Map, Pages};

/// Bytes in a cache line of every processor this project runs on.
pub const CACHE_LINE_BYTES: usize = 64;

/// A value alone on its cache lines, so that a core's writes never evict what another core reads.
///
/// Aligned to 128 bytes: adjacent-line prefetch makes pairs of lines travel together (Intel SDM, "Spatial Prefetcher").
#[derive(Debug, Default, Clone, Copy)]
#[repr(align(128))]
pub struct CachePadded<T>(pub T);

impl<T> Deref for CachePadded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for CachePadded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A counter written by one core and read by any.
///
/// The owner adds with a relaxed load and store (no lock prefix); readers may lag by one turn. Two writers would lose
/// counts but are never unsound. Wraps at 2^64.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. The owning core only.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` away; for gauges. The owning core only.
    #[inline(always)]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces the value; for gauges. The owning core only.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value, as some recent turn left it. Any thread.
    #[inline(always)]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Asks for the cache line that holds `place`, to be read soon. Any thread; never faults, changes no value.
#[inline(always)]
pub fn prefetch_read<T: ?Sized>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: C1 — a prefetch never faults and the address comes from a live reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast::<i8>()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Asks for every cache line of the `bytes` bytes that begin `from` bytes behind the start of `place`, whatever lies
/// there. Any thread; never faults, changes no value.
#[inline(always)]
pub fn prefetch_beyond<T: ?Sized>(place: &T, from: usize, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(place).cast::<i8>().wrapping_add(from);
        for line in (0..bytes).step_by(CACHE_LINE_BYTES) {
            // SAFETY: C1 — a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line)) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (place, from, bytes);
}

/// Asks for the cache line at `slice[index]`; does nothing when `index` is past the end. Any thread.
#[inline(always)]
pub fn prefetch_index<T>(slice: &[T], index: usize) {
    if let Some(place) = slice.get(index) {
        prefetch_read(place);
    }
}

/// The processor's time-stamp counter, in cycles of its constant rate, after all earlier instructions have finished.
///
/// For measuring only (Intel SDM, "RDTSC": `lfence; rdtsc`). On other processors: nanoseconds of the monotonic clock.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_lfence, _rdtsc};
        // SAFETY: C2 — lfence is part of SSE2, which every x86-64 has; it touches no memory of ours.
        unsafe { _mm_lfence() };
        // SAFETY: C2 — rdtsc is part of every x86-64; user space may read it on Linux unless a process asks otherwise.
        unsafe { _rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_do_not_run_backwards_on_one_thread() {
        let first = cycles();
        assert!(cycles() >= first);
    }

    #[test]
    fn a_prefetch_past_the_end_is_ignored() {
        prefetch_index(&[1u8, 2, 3], usize::MAX);
        prefetch_read("text");
        prefetch_beyond("text", usize::MAX - 100, 1_000);
    }
}
