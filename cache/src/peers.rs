//! Sets of cores.

/// A set of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerSet(u64);

impl PeerSet {
    /// Whether no core is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `core` is in it.
    pub fn contains(self, core: usize) -> bool {
        core < 64 && self.0 >> core & 1 == 1
    }

    /// Puts `core` into it.
    pub(crate) fn insert(&mut self, core: usize) {
        self.0 |= 1 << core;
    }
}

impl Iterator for PeerSet {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let core = self.0.trailing_zeros() as usize;
            self.0 &= self.0 - 1;
            core
        })
    }
}
