//! `Missed`: who asked for a block in vain, and where one is looked for. Read first: `lingering.rs`, which does that.

use std::time::Duration;

use crate::block::FlowBlock;
use crate::clock::Time;
use crate::useless::Use;

/// Blocks looked at in a turn.
pub(super) const LOOKS: usize = 64;

/// What was seen so long ago says nothing: the flow may have rested meanwhile.
const LONG_AGO: Duration = Duration::from_secs(10);

/// Who asked for a block in vain, and where they are looked for.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// So many have found no block, and none was given up for them yet.
    pub(super) count: usize,
    /// The block that is looked at next, and how many there are still to look at before all were.
    pub(super) next: usize,
    pub(super) left: usize,
    /// Connections that are open may have to give way too.
    pub(super) open: bool,
    /// By block: how far its flow had got when it was first looked at.
    seen: Vec<Seen>,
}

/// How far a flow had got, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    generation: u32,
    rcv_base: u32,
    highest_ack: u32,
    /// Milliseconds, the upper bits cut off: who is looked at again after 49 days begins anew.
    at: u32,
}

impl Missed {
    /// Nobody yet; `blocks` are looked at where open connections give way.
    pub(super) fn new(blocks: usize) -> Self {
        Self { seen: Vec::with_capacity(blocks), ..Self::default() }
    }

    /// Another has found none of so many blocks: all of them are to be looked at.
    pub(super) fn note(&mut self, blocks: usize) {
        self.count = (self.count + 1).min(LOOKS);
        self.left = blocks;
    }

    /// What the flow of `block`, which has something that its application or its peer has not taken, has made of it since it
    /// was first looked at. Both a request that does not become whole and a reply that is not read count.
    pub(super) fn judge(&mut self, now: Time, number: usize, block: &FlowBlock) -> Use {
        if self.seen.len() <= number {
            self.seen.resize(number + 1, Seen::default());
        }
        let seen = &mut self.seen[number];
        let millis = (now.as_micros() / 1_000) as u32;
        let time = Duration::from_millis(u64::from(millis.wrapping_sub(seen.at)));
        let taken =
            block.rcv_base.wrapping_sub(seen.rcv_base).wrapping_add(block.highest_ack.wrapping_sub(seen.highest_ack));
        let made = Use::of(time, taken, block.peer_window == 0);
        if seen.generation == block.generation && made != Use::Good && time < LONG_AGO {
            return made;
        }
        let FlowBlock { generation, rcv_base, highest_ack, .. } = *block;
        *seen = Seen { generation, rcv_base, highest_ack, at: millis };
        Use::Unknown
    }

    /// Whether there are blocks to look at, for who has found none.
    pub(super) fn is_some(&self) -> bool {
        self.count > 0
    }
}
