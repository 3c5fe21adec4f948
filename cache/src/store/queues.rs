//! The segments that hold items: of each queue and class of like time-to-live the one being filled.

use super::expiry::CLASSES_MAX;
use crate::lists::NONE;

/// Both queues.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Of each queue, the segment being filled for each class; `NONE` when there is none.
    pub(crate) open: [[u32; CLASSES_MAX]; 2],
    /// Segments of each queue, open ones and runs included.
    pub(crate) segments: [usize; 2],
}

impl Queues {
    /// Without any segment.
    pub(crate) const EMPTY: Queues = Queues { open: [[NONE; CLASSES_MAX]; 2], segments: [0; 2] };
}
