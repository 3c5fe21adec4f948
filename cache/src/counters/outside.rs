//! `OutsideCounts`: what the application counts, shown by `stats sidestep` beside what the cache does.
//!
//! The cache knows neither stack nor link; whoever wires them together gives their counts names.

use std::fmt::Debug;

/// Counts kept outside the cache. Asked by whichever core is told `stats sidestep`, so that asking must not wait.
pub trait OutsideCounts: Debug + Send + Sync {
    /// Gives every name with its value, always in the same order. Names hold no blanks.
    fn each(&self, give: &mut dyn FnMut(&str, u64));
}
