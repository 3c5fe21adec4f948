//! Connections that their applications have closed give way where blocks are short: what they still have to say is no
//! longer anybody's but their peer's, and a new connection has none at all.
//!
//! Those whose peer has all of it and does not close go first, the longest; then those that keep others waiting, as with
//! rings (`useless.rs`): 3 s with less than 16 KiB a second at the least. A connection whose peer gets on never does. Blocks
//! are looked at some a turn, and only after somebody has asked for one in vain, so that a flood costs no more than that; the
//! segment that found none comes again.

use std::cmp::Reverse;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::NetStack;
use super::missed::LOOKS;
use crate::clock::Time;
use crate::phase::{Marks, Phase};
use crate::useless::{Little, PATIENCE, Use};

/// How dispensable a flow is that lingers, the least first: without anything left to say, or taking little of it; for how long.
type Rank = (Option<Little>, Reverse<Duration>);

impl NetStack {
    /// Somebody has found no free block. Nobody gives way while more of them can be made, which a later turn does.
    #[cold]
    pub(super) fn miss_block(&mut self) {
        if self.blocks.len() == self.config.max_flows {
            self.missed.note(self.blocks.len());
        }
    }

    /// Has as many flows that linger give way as blocks were asked for in vain, of those that are looked at in this turn.
    #[inline]
    pub(super) fn look_at_lingering(&mut self, now: Time) {
        if self.missed.is_some() {
            self.look_at_blocks(now);
        }
    }

    #[cold]
    fn look_at_blocks(&mut self, now: Time) {
        let (missed, looks) = (self.missed.count, LOOKS.min(self.missed.left));
        let mut found = ArrayVec::<(Rank, u32), LOOKS>::new();
        for _ in 0..looks {
            let index = self.missed.next % self.blocks.len();
            self.missed.next = index + 1;
            if let Some(rank) = self.rank(now, index) {
                found.push((rank, index as u32));
            }
        }
        found.sort_unstable();
        for &(_, index) in found.iter().take(missed) {
            self.blocks[index as usize].marks |= Marks::GIVES_WAY;
            self.touch(index);
        }
        self.missed.left -= looks;
        self.missed.count = if self.missed.left == 0 { 0 } else { missed - missed.min(found.len()) };
    }

    /// How dispensable a flow is; `None`: it does not linger, or not for long, or its peer gets on.
    fn rank(&self, now: Time, index: usize) -> Option<Rank> {
        let block = &*self.blocks[index];
        if block.marks.contains(Marks::GIVES_WAY) {
            return None;
        }
        let lingers = now.since(block.state_since);
        match block.phase {
            Phase::FinWait2 if lingers >= PATIENCE => Some((None, Reverse(lingers))),
            Phase::Closing => {
                let taken = block.highest_ack.wrapping_sub(block.token as u32);
                match Use::of(lingers, taken, block.peer_window == 0) {
                    Use::Little(little) => Some((Some(little), Reverse(lingers))),
                    Use::Unknown | Use::Good => None,
                }
            }
            _ => None,
        }
    }
}
