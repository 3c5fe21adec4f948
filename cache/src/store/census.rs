//! A count of everything a shard has given out or holds, for tests of leaks.

/// What a shard holds at one moment. Taken by the owning core; walks the segment table, so not for the packet path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Segments of the shard's memory.
    pub segments: usize,
    /// Segments that hold nothing.
    pub segments_free: usize,
    /// Segments that items are being appended to.
    pub segments_open: usize,
    /// Full segments of items, runs counted by their segments.
    pub segments_sealed: usize,
    /// Segments of the index.
    pub segments_index: usize,
    /// Segments that may not be reused before the index has been swept.
    pub segments_resting: usize,
    /// Segments whose bytes a pin or a reservation holds, runs counted by their segments.
    pub segments_held: usize,
    /// Items now linked.
    pub items: usize,
    /// Pins given out and not given back.
    pub pins: usize,
    /// Reservations neither committed nor abandoned.
    pub reservations: usize,
}
