//! When a flow's timer has run out: whether what it has in flight is to be sent again (`sending.rs` says so).
//!
//! A flow's timer is not set anew whenever something is sent or acknowledged, but looked at when it runs out: mostly
//! something was heard meanwhile, and it is set for the rest. That costs a busy flow a few instructions once in some
//! milliseconds, and a request none. Whatever is set here lies in the time to come.

use super::NetStack;
use crate::block::FlowBlock;
use crate::clock::Time;
use crate::phase::{Marks, Phase};
use crate::sending::Tail;

impl NetStack {
    /// The flow's timer has run out.
    pub(super) fn ran_out(&mut self, now: Time, index: u32) {
        let block = &mut *self.blocks[index as usize];
        block.marks |= Marks::TIME;
        let tail = if has_in_flight(block) {
            let heard = block.heard_at.max(block.waiting_since);
            // Of two whole segments an ACK is not delayed (RFC 5681 §4.2).
            let (una, snd_nxt) = (block.highest_ack, block.snd_nxt);
            let few = snd_nxt.wrapping_sub(una) < 2 * u32::from(block.sending.mss());
            let (hosts, host) = (&self.hosts.delayed_acks, block.key.remote);
            block.sending.tend(now, heard, snd_nxt, || few && hosts.delays(now, host))
        } else {
            Tail::Leave
        };
        match tail {
            Tail::Leave => {}
            Tail::Wait(at) => {
                let deadline = self.deadlines.of(block);
                let rests = rests(block) && deadline > now;
                self.wheel.arm_no_later(index, at.min(deadline));
                if rests {
                    return;
                }
            }
            Tail::Hole => {
                let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
                block.sending.lose_if(true, in_flight, block.snd_nxt);
                self.lose_held_back(index);
            }
            Tail::Probe => {
                self.stats.tail_probes += 1;
                self.hosts.delayed_acks.probed(now, block.key.remote);
                if block.board.is_some() && block.sending.is_recovering() {
                    self.lose_missing(index, false);
                } else {
                    block.marks |= Marks::SEND_AGAIN;
                }
            }
            Tail::TimeOut if block.board.is_some() => self.lose_missing(index, true),
            Tail::TimeOut => block.marks |= Marks::TIMED_OUT,
        }
        self.touch(index);
    }
}

/// Notes how long the handshake took, if nothing of it was sent twice (Karn), at its end.
pub(super) fn measure_handshake(block: &mut FlowBlock, now: Time) {
    if !block.marks.intersects(Marks::SENT_AGAIN | Marks::DOUBTED) {
        block.sending.measured(now.since(block.state_since));
    }
    block.marks |= Marks::TIME;
}

/// Times what the flow is about to send, if it is.
pub(super) fn time_what_is_sent(block: &mut FlowBlock, now: Time) {
    let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
    let unsent = (block.socket().send_queue() as u32).saturating_sub(in_flight);
    // Less than a segment of more than that is held back (`hold_rest_back`), and would be timed from too early on.
    let least = unsent.min(u32::from(block.sending.mss()));
    if unsent > 0 && block.sending.lets_out(block.told_window, in_flight + least - 1) {
        block.marks.remove(Marks::TIME);
        block.sending.time(now, block.snd_nxt);
    }
}

/// Whether data is in flight whose loss can be mended by sending it again.
pub(super) fn has_in_flight(block: &FlowBlock) -> bool {
    block.phase.has_peer()
        && block.snd_nxt != block.highest_ack
        && block.peer_window != 0
        && block.socket().send_queue() > 0
}

/// Whether there is nothing to be done for a flow that has data in flight but to wait until that is acknowledged.
fn rests(block: &FlowBlock) -> bool {
    block.phase == Phase::Open
        && !block.marks.intersects(Marks::TOUCHED | Marks::IN_DOUBT | Marks::SEND_AGAIN | Marks::TIMED_OUT)
        && block.socket().send_queue() as u32 == block.snd_nxt.wrapping_sub(block.highest_ack)
        && block.last_ack == block.rcv_nxt()
}
