//! From a key to the shard that owns it, and the bounded queues between cores.
//!
//! A request for another core's key travels in a [`batch::Batch`], a fixed block that goes round:
//!
//! ```text
//!  requester: free ──fill──► request queue ──► owner: execute, answer in the same block
//!      ▲                                                         │
//!      └──────────── land the answers ◄── reply queue ◄──────────┘
//! ```
//!
//! Invariant R1: each of a pair's blocks is in exactly one of these places, and both queues have room for all of them.
//! So a push never fails, an answer never waits, and two cores that wait for each other cannot lock up: landing an
//! answer needs nothing that somebody else must give, since the request took its place (entry, landing slot) before
//! it was sent. A requester without a free block stops reading from the flow; the block is the credit.
//! Nothing is allocated after start. Read first: [`link`].

/// The block in which requests go out and answers come back.
pub(crate) mod batch;
/// Where values of other cores' items wait until their flow has room.
pub(crate) mod landing;
/// One core's ends of the queues to and from another.
pub(crate) mod link;
/// A core's ends of all queues.
pub(crate) mod mesh;
/// What one core asks of another, and what it answers.
pub(crate) mod message;
