//! `FillLevel`: how many frames lie ready for the kernel to fill.
//!
//! The kernel takes frames off the fill ring in the order in which they were put there, so every frame that lies in it
//! is written and read in turn, however few are in use: with 4,096 of them each frame that arrives falls out of the
//! cache, and the kernel's record of it too. In copy mode only as many are therefore lent as arrivals have needed so
//! far. Invariant: the level never falls, so a backlog that has once been met finds room ever after. Zero copy lends all
//! at once: the driver takes them into the hardware's ring ahead of use.

/// Frames that are lent at first in copy mode: eight bursts, what a veth takes half a millisecond to bring.
const FIRST: usize = 512;

/// How many frames to lend. Belongs to one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FillLevel {
    level: usize,
    most: usize,
}

impl FillLevel {
    /// For a queue with `most` frames for receiving.
    pub(super) fn new(most: usize, zero_copy: bool) -> Self {
        Self { level: if zero_copy { most } else { FIRST.min(most) }, most }
    }

    /// How many more frames may be lent, when `lent` are.
    #[inline]
    pub(super) fn room(&self, lent: usize) -> usize {
        self.level.saturating_sub(lent)
    }

    /// Call this with the number of frames that a burst has left in the receive ring. When a quarter of the level waits
    /// there, the level doubles, so that the next backlog of this depth finds more than enough.
    #[inline]
    pub(super) fn note_backlog(&mut self, waiting: usize) {
        if waiting >= self.level / 4 {
            self.level = (self.level * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_mode_begins_low_and_follows_the_deepest_backlog() {
        let mut level = FillLevel::new(4096, false);
        assert_eq!((level.room(0), level.room(500), level.room(600)), (512, 12, 0));
        level.note_backlog(127);
        assert_eq!(level.room(0), 512);
        level.note_backlog(128);
        assert_eq!(level.room(0), 1024);
        level.note_backlog(128);
        assert_eq!(level.room(0), 1024, "a backlog that it was made for");
        for _ in 0..9 {
            level.note_backlog(4000);
        }
        assert_eq!(level.room(0), 4096, "never more than there are");
    }

    #[test]
    fn zero_copy_and_small_queues_lend_all() {
        assert_eq!(FillLevel::new(4096, true).room(0), 4096);
        assert_eq!(FillLevel::new(64, false).room(0), 64);
    }
}
