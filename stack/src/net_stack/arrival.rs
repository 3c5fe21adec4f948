//! `Arrival`: a TCP segment on its way through ingress, with all that is known of how it came.

use nic::Queue;

use crate::classify::Segment;
use crate::clock::Time;
use crate::port::Port;

/// A segment that has arrived.
pub(super) struct Arrival<'a, Q: Queue> {
    pub(super) now: Time,
    /// Where answers leave by: the port that the segment came by, or its flow's if it came from another core.
    pub(super) port: &'a mut Port<Q>,
    /// The number of that port among those given to [`flush`](super::NetStack::flush).
    pub(super) port_index: usize,
    /// The frame that holds the segment. What smoltcp shall read otherwise is rewritten in it.
    pub(super) frame: &'a mut [u8],
    pub(super) segment: &'a Segment,
    /// The hash of the segment's key in the flow table.
    pub(super) hash: u32,
    /// How many cores have looked for the segment's flow before.
    pub(super) hops: u8,
}

impl<Q: Queue> Arrival<'_, Q> {
    /// The same arrival with another segment in its frame: what was left of the one that came.
    pub(super) fn with_segment<'b>(&'b mut self, segment: &'b Segment) -> Arrival<'b, Q> {
        Arrival {
            now: self.now,
            port: self.port,
            port_index: self.port_index,
            frame: self.frame,
            segment,
            hash: self.hash,
            hops: self.hops,
        }
    }
}
