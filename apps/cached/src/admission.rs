//! `Admission`: the limit of `-c` over all cores.
//!
//! What cores share beside their queues. It is touched when a connection opens and when it ends, and while the server
//! stops; never for a request.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A number of connections that may be open at a time, over all cores. Any thread.
#[derive(Debug)]
pub struct Admission {
    limit: AtomicUsize,
    open: AtomicUsize,
    /// By core, of which there are at most 64: it has stopped.
    stopped: AtomicU64,
}

impl Admission {
    /// Admits `limit` connections at a time.
    pub fn new(limit: usize) -> Self {
        Self { limit: AtomicUsize::new(limit), open: AtomicUsize::new(0), stopped: AtomicU64::new(0) }
    }

    /// Admits one connection, unless the limit is reached.
    pub fn enter(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |open: usize| (open < limit).then_some(open + 1);
        // Only the number counts, no other memory depends on it.
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether no more are admitted.
    pub fn is_full(&self) -> bool {
        self.open() >= self.limit.load(Ordering::Relaxed)
    }

    /// Admits `limit` connections at a time from now on. Those beyond it that are open already go on.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Connections that are admitted just now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// `core` of a stopping server has closed everything and needs the others no more.
    pub fn note_stopped(&self, core: usize) {
        self.stopped.fetch_or(1 << core, Ordering::Relaxed);
    }

    /// Whether that is true of all of `cores`.
    pub fn all_stopped(&self, cores: usize) -> bool {
        self.stopped.load(Ordering::Relaxed).count_ones() as usize >= cores
    }

    /// One admitted connection has ended.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_admitted() {
        let admission = Admission::new(2);
        assert!(admission.enter() && admission.enter());
        assert!(!admission.enter());
        admission.leave();
        assert!(admission.enter());
        admission.set_limit(1);
        admission.leave();
        assert!(admission.is_full() && !admission.enter(), "one of two goes on");
    }
}
