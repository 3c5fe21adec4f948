//! Flows that sleep: where there are fewer blocks than flows, those that rest give theirs to those that do not.
//!
//! Nothing goes round while blocks are enough. When few are left, a hand passes some of them in each turn and lays down
//! what rests and was not heard since it came by before; when one is needed at once, whatever rests. The next segment,
//! timer or visit of its application wakes a flow in the same turn, by the replay of a connection of empty rings. Where
//! every block is at work, a segment for one that sleeps is dropped, counted (`dropped_no_free_flow`), and comes again; its
//! application gets it all the same, in one of a few blocks that are kept beyond those that there may be, made ahead of use, and
//! which stays: at most one for each flow, as if none slept. A segment of ICMP wakes nobody: of a flow
//! that sleeps nothing is in flight. Read first: `blocks.rs`, `resting.rs`.

use std::time::Duration;

use nic::{BURST, Queue};

use super::NetStack;
use crate::block::NO_PROMISE;
use crate::blocks::LOOKS_A_TURN;
use crate::clock::Time;
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::flow_id::FlowId;
use crate::phase::Phase;
use crate::port::Port;
use crate::replay::Replay;
use crate::resting::RestingFlow;
use crate::segment::Control;
use crate::wire::{ACK, RST};

/// Blocks that the hand passes for blocks ahead of use, and for one flow that needs a block at once.
const LOOKS: usize = 2 * BURST;

/// Least time between two sweeps of the hand where the last has found nobody who rests.
const SWEEP_GAP: Duration = Duration::from_millis(1);

/// When a flow that cannot be woken by its timer is tried again.
const LATER: Duration = Duration::from_millis(10);

impl NetStack {
    /// Has `wanted` more blocks free, if flows rest; at most that.
    #[cold]
    pub(super) fn find_blocks(&mut self, now: Time, wanted: usize) {
        if !self.blocks.may_sleep() {
            return self.make_blocks(wanted);
        }
        let made = self.blocks.made();
        self.make_blocks(wanted);
        let mut found = self.blocks.made() - made;
        if found < wanted && now >= self.sweep_at {
            for _ in 0..LOOKS {
                found += usize::from(self.lay_down_next(now, false));
                if found >= wanted {
                    break;
                }
            }
            if found == 0 {
                self.sweep_at = now.after(SWEEP_GAP);
            }
        }
        while let Some(number) = self.blocks.place_spare() {
            self.free.push(number);
        }
    }

    /// Lays down the flow that the hand comes to, if it rests; `at_once`: however late it was heard.
    fn lay_down_next(&mut self, now: Time, at_once: bool) -> bool {
        let Some((number, before)) = self.blocks.next_in_turn(now) else { return false };
        (at_once || self.blocks[number as usize].heard_at < before) && self.lay_down_if_it_rests(now, number)
    }

    fn lay_down_if_it_rests(&mut self, now: Time, number: u32) -> bool {
        let block = &*self.blocks[number as usize];
        let Some(sleeper) = RestingFlow::of(now, block, self.local.mac, self.deadlines.keep_alive()) else {
            return false;
        };
        self.blocks.lay_down(number, sleeper);
        self.stats.fell_asleep += 1;
        true
    }

    /// Has a block free for a new flow, if any flow that is looked at rests. Returns whether one is free.
    #[cold]
    #[inline(never)]
    pub(super) fn free_block(&mut self, now: Time) -> bool {
        let least = LOOKS_A_TURN / 2;
        let may = self.blocks.may_sleep() && self.blocks.may_place();
        if may && (self.blocks.spare() > 0 || self.lay_some_down(now, least)) {
            self.free.extend(self.blocks.place_spare());
        }
        !self.free.is_empty()
    }

    /// Lays a flow down that rests, however late it was heard, if one is among the next; leaves `least` of the looks of this
    /// turn.
    fn lay_some_down(&mut self, now: Time, least: usize) -> bool {
        for _ in 0..LOOKS.min(self.looks.saturating_sub(least)) {
            self.looks -= 1;
            if self.lay_down_next(now, true) {
                return true;
            }
        }
        false
    }

    /// Has a block spare, if any flow that is looked at rests.
    fn spare_block(&mut self, now: Time) -> bool {
        if self.blocks.spare() > 0 {
            return true;
        }
        // One that is still on a list stays where it is.
        if let Some(&number) = self.free.last()
            && !self.blocks[number as usize].is_listed()
        {
            self.free.pop();
            self.blocks.lay_bare(number);
            return true;
        }
        self.lay_some_down(now, 0)
    }

    /// Has the flow give its block up until its next segment, timer or visit, if it rests. Returns whether it sleeps. Without
    /// [`awake_flows`](crate::StackConfig::awake_flows) below [`max_flows`](crate::StackConfig::max_flows) none does.
    pub fn lay_down(&mut self, id: FlowId) -> bool {
        let Some(block) = self.blocks.get(id.index()) else {
            return self.blocks.open_sleeper(id.index).is_some_and(|sleeper| sleeper.generation == id.generation);
        };
        self.blocks.may_sleep() && block.generation == id.generation && self.lay_down_if_it_rests(self.now, id.index)
    }

    /// Lays down every flow that rests. For tests: looks at all of them.
    pub fn lay_all_down(&mut self) {
        for number in 0..self.blocks.len() {
            if self.blocks.may_sleep() && self.blocks.get(number).is_some() {
                self.lay_down_if_it_rests(self.now, number as u32);
            }
        }
    }

    /// Wakes the flow `index`, which sleeps, for a segment or a timer. Returns whether it is awake.
    #[cold]
    #[inline(never)]
    pub(super) fn wake_flow(&mut self, now: Time, index: u32) -> bool {
        if !self.spare_block(now) {
            self.miss_block_asleep();
            return false;
        }
        self.get_up(now, index)
    }

    /// Wakes the flow `index`, which sleeps, for its application. Returns whether it is awake: it is, or has ended.
    #[cold]
    #[inline(never)]
    pub(super) fn wake_for_application(&mut self, index: u32) -> bool {
        if !self.spare_block(self.now) {
            self.stats.blocks_beyond += 1;
            self.blocks.take_reserve();
        }
        self.stats.woken_by.application += 1;
        self.get_up(self.now, index)
    }

    fn get_up(&mut self, now: Time, index: u32) -> bool {
        let (settings, ip_mtu, scales) = (self.socket_settings(), self.config.ip_mtu, self.pool.is_there());
        let Some(sleeper) = self.blocks.get_up(index) else { return false };
        let block = &mut *self.blocks[index as usize];
        let record = sleeper.begin(now, block, self.hash, self.local.mac, (settings, ip_mtu, scales));
        let replay = &mut self.replay;
        let closed_since = sleeper.closed_since();
        let put_in = if closed_since.is_some() { Replay::put_in_closed } else { Replay::put_in_empty };
        let made = contain(|| put_in(replay, now, &record, &mut block.set, block.handle, settings.ack_delay));
        self.work.sets += 1;
        self.stats.woke += 1;
        if made != Some(true) {
            self.stats.rings_failed += 1;
            self.end(index, CloseReason::Contained);
            return false;
        }
        if let Some(since) = closed_since {
            (block.phase, block.state_since, block.promise) = (Phase::FinWait2, since, NO_PROMISE);
            block.token = u64::from(block.highest_ack);
        }
        let capacity = block.socket().recv_capacity().min(usize::from(u16::MAX)) as u32;
        let ring_edge = block.rcv_base.wrapping_add(capacity);
        block.ring_edge = if (block.edge.wrapping_sub(ring_edge) as i32) < 0 { block.edge } else { ring_edge };
        self.heed_path_mtu(now, index);
        true
    }

    /// The timer of a flow that sleeps has run out. Returns whether the flow is awake now, since it is due.
    #[cold]
    pub(super) fn ran_out_asleep(&mut self, now: Time, index: u32) -> bool {
        let Some(sleeper) = self.blocks.sleeper(index) else { return false };
        let due = self.deadlines.of_sleeper(sleeper.heard_at(now), sleeper.closed_since());
        if due > now {
            if due != Time::NEVER {
                self.wheel.arm_no_later(index, due);
            }
            return false;
        }
        let awake = self.wake_flow(now, index);
        self.stats.woken_by.timer += u64::from(awake);
        if !awake && self.blocks.is_asleep(index) {
            self.wheel.arm_no_later(index, now.after(LATER));
        }
        awake
    }

    /// Whether the flow is awake, or could be without a block beyond [`awake_flows`](crate::StackConfig::awake_flows), as far as
    /// that shows without looking for one. For who visits many flows at once.
    pub fn may_visit(&self, id: FlowId) -> bool {
        !self.blocks.is_asleep(id.index) || self.blocks.spare() > 0 || !self.free.is_empty()
    }

    /// Throws away a flow that sleeps, of which the application knows, without waking it: RST goes to its peer, made of the
    /// record. Returns whether it sleeps no more: it does if no frame is left just now. For an application that ends while more
    /// of them sleep than it could close.
    pub fn abort_asleep<Q: Queue>(&mut self, now: Time, id: FlowId, ports: &mut [Port<Q>]) -> bool {
        let Some(sleeper) = self.blocks.open_sleeper(id.index).filter(|sleeper| sleeper.generation == id.generation)
        else {
            return true;
        };
        let (key, link, (seq, ack)) = (sleeper.key(), sleeper.link(self.local.mac), sleeper.sequence());
        let Some(port) = ports.get_mut(usize::from(sleeper.port())) else { return true };
        let link = self.link_now(now, &key, link);
        let control = Control { flags: RST | ACK, seq, ack, window: 0 };
        if !port.has_room() || !self.send_control_with(port, &link, &key, control, &[]) {
            return false;
        }
        self.table.remove(self.hash.of(&key), id.index);
        self.work.timers += u64::from(self.wheel.cancel(id.index));
        self.blocks.end_asleep(id.index);
        self.names.release(key.remote);
        self.stats.rsts_sent += 1;
        self.stats.aborted += 1;
        true
    }

    /// Whether the flow sleeps.
    pub fn is_asleep(&self, id: FlowId) -> bool {
        self.blocks.open_sleeper(id.index).is_some_and(|sleeper| sleeper.generation == id.generation)
    }

    /// Flows that sleep, and the blocks that were made.
    pub fn sleepers(&self) -> (usize, usize) {
        (self.blocks.asleep(), self.blocks.made())
    }
}
