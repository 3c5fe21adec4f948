//! Connections that their applications have closed give way where blocks are short: what they still have to say is no
//! longer anybody's but their peer's, and a new connection has none at all.
//!
//! Those whose peer has all of it and does not close go first, the longest; then those that keep others waiting, as with
//! rings (`useless.rs`): 3 s with less than 16 KiB a second at the least. A connection whose peer gets on never does. Where a
//! flow that sleeps, or a new one, finds all blocks at work (`sleep.rs`), open connections of which that is true give way too:
//! requests that do not become whole, and replies that nobody takes. Blocks are looked at some a turn, and only after
//! somebody has asked for one in vain, so that a flood costs no more than that; the segment that found none comes again.

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
        if !self.blocks.may_make() {
            self.missed.note(self.blocks.made());
            self.missed.open |= self.blocks.may_sleep() && self.blocks.may_place();
        }
    }

    /// A flow that sleeps has found no free block for its segment.
    #[cold]
    pub(super) fn miss_block_asleep(&mut self) {
        self.missed.note(self.blocks.made());
        self.missed.open = true;
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
            let block = self.missed.next % self.blocks.made();
            self.missed.next = block + 1;
            if let Some(index) = self.blocks.home(block)
                && let Some(rank) = self.rank(now, block, index as usize)
            {
                found.push((rank, index));
            }
        }
        found.sort_unstable();
        for &(_, index) in found.iter().take(missed) {
            self.blocks[index as usize].marks |= Marks::GIVES_WAY;
            self.touch(index);
        }
        self.missed.left -= looks;
        self.missed.count = if self.missed.left == 0 { 0 } else { missed - missed.min(found.len()) };
        self.missed.open &= self.missed.is_some();
    }

    /// How dispensable the flow `index` of block `number` is; `None`: it does not linger, or not for long, or its peer gets on.
    fn rank(&mut self, now: Time, number: usize, index: usize) -> Option<Rank> {
        let block = self.blocks.get(index)?;
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
            Phase::Open if self.missed.open && (block.socket().recv_queue() > 0 || block.socket().send_queue() > 0) => {
                match self.missed.judge(now, number, block) {
                    Use::Little(little) => Some((Some(little), Reverse(now.since(block.heard_at)))),
                    Use::Unknown | Use::Good => None,
                }
            }
            _ => None,
        }
    }
}
