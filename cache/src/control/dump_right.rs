//! The right to dump, which one connection has at a time, as in memcached; but for no longer than it reads on.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number given to whoever has it, and the second of its last step; 0 there: nobody has it. (The clock begins at 2.)
#[derive(Debug, Default)]
pub(crate) struct DumpRight(AtomicU64);

impl DumpRight {
    /// Whether somebody has it.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed) as u32 != 0
    }

    /// Takes it, unless another walk has it and has taken a step in the last `grace_secs`. A walk that loses the right
    /// this way goes on.
    pub(crate) fn take(&self, now_secs: u32, grace_secs: u32) -> Option<u32> {
        let now = self.0.load(Ordering::Relaxed);
        let (ticket, since_secs) = ((now >> 32) as u32, now as u32);
        if since_secs != 0 && now_secs.saturating_sub(since_secs) < grace_secs {
            return None;
        }
        let ticket = ticket.wrapping_add(1);
        let taken = u64::from(ticket) << 32 | u64::from(now_secs);
        self.0.compare_exchange(now, taken, Ordering::Relaxed, Ordering::Relaxed).ok().map(|_| ticket)
    }

    /// The walk that was given `ticket` takes a step.
    pub(crate) fn renew(&self, ticket: u32, now_secs: u32) {
        self.set(ticket, now_secs);
    }

    /// The walk that was given `ticket` is done.
    pub(crate) fn give_up(&self, ticket: u32) {
        self.set(ticket, 0);
    }

    fn set(&self, ticket: u32, secs: u32) {
        let now = self.0.load(Ordering::Relaxed);
        if (now >> 32) as u32 == ticket && now as u32 != 0 {
            let then = u64::from(ticket) << 32 | u64::from(secs);
            // Fails where another walk has taken the right meanwhile, which keeps it.
            let _ = self.0.compare_exchange(now, then, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
