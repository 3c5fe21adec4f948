//! `Missed`: who asked for a block in vain, and where one is looked for. Read first: `lingering.rs`, which does that.

/// Blocks looked at in a turn.
pub(super) const LOOKS: usize = 64;

/// Who asked for a block in vain, and where they are looked for.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// So many have found no block, and none was given up for them yet.
    pub(super) count: usize,
    /// The block that is looked at next, and how many there are still to look at before all were.
    pub(super) next: usize,
    pub(super) left: usize,
}

impl Missed {
    /// Another has found none of so many blocks: all of them are to be looked at.
    pub(super) fn note(&mut self, blocks: usize) {
        self.count = (self.count + 1).min(LOOKS);
        self.left = blocks;
    }

    /// Whether there are blocks to look at, for who has found none.
    pub(super) fn is_some(&self) -> bool {
        self.count > 0
    }
}
