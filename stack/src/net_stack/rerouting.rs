//! `Rerouting`: how far the flows have been looked at since the table of routes has changed. Read first: `routers.rs`, which
//! looks.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use crate::routes::Routes;

/// Routers asked for after one change of the table; flows of more are left to their own doubts.
const MOST_ROUTERS: usize = 16;

/// How far the flows have been looked at since the table has changed.
#[derive(Debug)]
pub(super) struct Rerouting {
    /// The table before.
    before: Routes,
    /// Where a change came amid the looks at an earlier one: the table before that, and the first flow that it still counts
    /// for.
    earlier: Option<(Routes, usize)>,
    /// The next block to be looked at.
    pub(super) next: usize,
    /// Routers that were asked for.
    pub(super) asked: ArrayVec<Ipv4Addr, MOST_ROUTERS>,
    /// Whether the answer of one is waited for.
    pub(super) waits: bool,
}

impl Rerouting {
    /// None was looked at since the table `before` was changed; `earlier`: what came of the change before that, if that was
    /// not done with.
    pub(super) fn new(before: Routes, earlier: Option<Rerouting>) -> Self {
        let earlier = earlier.map(|under_way| (under_way.before, under_way.next));
        Self { before, earlier, next: 0, asked: ArrayVec::new(), waits: false }
    }

    /// Whether there is something to do that nobody's answer is waited for with.
    pub(super) fn has_work(&self) -> bool {
        !self.waits
    }

    /// The table by which the flow was last given its router.
    pub(super) fn before_of(&self, index: u32) -> &Routes {
        match &self.earlier {
            Some((earlier, first)) if index as usize >= *first => earlier,
            _ => &self.before,
        }
    }
}
