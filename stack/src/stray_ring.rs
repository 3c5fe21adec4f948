//! `StrayRing`: frames that no flow of a core knows, offered once round the other cores.
//!
//! Each core passes its strays to the next; a frame that has been all the way round is answered by the last core's
//! stack. Invariant: at most `STRAY_BUDGET` frames are taken and passed on in a turn, and a full relay drops, counted.

use std::sync::Arc;

use crate::clock::Time;
use crate::net_stack::NetStack;
use crate::port::Port;
use nic::{Doorbell, PoolConfig, PoolError, Queue, QueueId, StrayHeader, StrayReceiver, StraySender, stray_pair};

/// Strays taken from the core before, and passed to the core behind, in one turn.
const STRAY_BUDGET: usize = 32;

/// Frames between two cores: a burst of each of two turns.
const STRAY_FRAMES: usize = 128;

/// One core's place in the ring; by default that of a core that is alone.
#[derive(Debug, Default)]
pub struct StrayRing {
    next: Option<(StraySender, Arc<Doorbell>)>,
    previous: Option<StrayReceiver>,
}

impl StrayRing {
    /// The places of all cores, whose doorbells these are; one core alone has nobody to ask. `chunk_bytes` must hold
    /// the longest frame.
    ///
    /// # Errors
    /// No memory for the frames.
    pub fn of(doorbells: &[Arc<Doorbell>], chunk_bytes: usize) -> Result<Vec<Self>, PoolError> {
        let cores = doorbells.len();
        let mut places: Vec<Self> = (0..cores).map(|_| Self { next: None, previous: None }).collect();
        if cores < 2 {
            return Ok(places);
        }
        for core in 0..cores {
            let behind = (core + 1) % cores;
            let pool = PoolConfig { frames: STRAY_FRAMES, chunk_bytes, headroom_bytes: 0 };
            let (sender, receiver) = stray_pair(pool)?;
            places[core].next = Some((sender, doorbells[behind].clone()));
            places[behind].previous = Some(receiver);
        }
        Ok(places)
    }

    /// Gives the stack the strays of the core before, and passes the stack's own on. Returns how many moved.
    pub fn exchange<Q: Queue>(&mut self, now: Time, stack: &mut NetStack, ports: &mut [Port<Q>]) -> usize {
        let mut moved = 0;
        if let Some(previous) = &mut self.previous {
            let look = |header: StrayHeader, frame: &mut [u8]| stack.ingest_stray(now, ports, frame, header.hops);
            moved += previous.receive(STRAY_BUDGET, look);
        }
        if let Some((next, doorbell)) = &mut self.next {
            let mut offered = 0;
            let offer = |next: &mut StraySender, frame: &[u8], hops| {
                next.offer(StrayHeader { hops, origin: QueueId(0) }, frame);
            };
            while offered < STRAY_BUDGET && stack.next_stray(|frame, hops| offer(next, frame, hops)) {
                offered += 1;
            }
            if offered > 0 {
                doorbell.ring();
            }
            moved += offered;
        }
        moved
    }

    /// Whether the core before has passed something on.
    pub fn has_frames(&self) -> bool {
        self.previous.as_ref().is_some_and(StrayReceiver::has_frames)
    }

    /// Strays passed on, and strays dropped because the next core took none.
    pub fn counts(&self) -> (u64, u64) {
        self.next.as_ref().map_or((0, 0), |(next, _)| (next.offered(), next.dropped()))
    }
}
