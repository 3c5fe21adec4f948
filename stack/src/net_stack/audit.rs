//! What a stack holds, and what it promises of its timers, looked at for every flow at once: for tests, never for the packet
//! path.

use std::time::Duration;

use super::NetStack;
use crate::clock::{FlowClock, Time};
use crate::link::LinkHeader;
use crate::phase::{Marks, Phase};
use crate::stats::Census;

/// How much later than asked a flow may be looked at: a tick of the wheel, and the pause after a poll that sent nothing.
const LATE: Duration = Duration::from_millis(12);

impl NetStack {
    /// What the stack holds, counted by walking every flow.
    pub fn census(&self) -> Census {
        let (open, closing) = self.blocks.count_sleepers();
        let (stations, stations_held) = self.names.census();
        let mut census = Census {
            blocks: self.blocks.made() - self.blocks.spare(),
            asleep: self.blocks.asleep(),
            open,
            closing,
            free: self.free.len(),
            half_open: self.syn_queue.len(),
            table: self.table.len() + self.syn_queue.len(),
            time_wait: self.time_wait.len(),
            timers: self.wheel.armed() + self.syn_queue.timers(),
            ready: self.ready.len(),
            touched: self.touched.len(),
            strays: self.strays.len(),
            asking: self.asking.len(),
            resolving: self.resolver.asking(),
            waiting: self.resolver.waiting(),
            stations,
            stations_held,
            ..Census::default()
        };
        for (_, block) in self.blocks.iter() {
            match block.phase {
                // A block is half-open within a call alone.
                Phase::Free | Phase::HalfOpen => {}
                Phase::Connecting => census.connecting += 1,
                Phase::Open => census.open += 1,
                Phase::Cancelled | Phase::Released | Phase::Closing | Phase::FinWait2 | Phase::Aborted => {
                    census.closing += 1;
                }
                Phase::Ended => census.dead += 1,
            }
        }
        census
    }

    /// How many flows wait for a moment at which nothing will look at them: smoltcp wants them polled, or they are to be
    /// given up, and neither a timer is armed for then nor will the next flush look at them. None ever does. To be asked
    /// between turns, counted by walking every flow: for tests.
    pub fn lost_timers(&mut self, now: Time) -> usize {
        let Self { interface, blocks, wheel, deadlines, .. } = self;
        let mut lost = 0;
        for (index, block) in blocks.iter() {
            if !block.phase.is_alive() || block.marks.intersects(Marks::TOUCHED | Marks::OVER) {
                continue;
            }
            let deadline = deadlines.of(block);
            let wanted = interface.poll_at(FlowClock::instant(now), &block.set).map(FlowClock::real);
            // One whose peer's Ethernet address is being asked for is looked at when there is an answer, or will be none.
            let wanted = wanted.filter(|_| block.link != LinkHeader::EMPTY);
            // When what is in flight is sent again is not smoltcp's to say (`tail.rs`), but for its ACKs.
            let in_flight = block.phase.has_peer() && block.snd_nxt != block.highest_ack;
            let wanted = wanted.filter(|_| !in_flight || block.last_ack != block.rcv_nxt());
            let due = wanted.map_or(deadline, |wanted| deadline.min(wanted));
            if due == Time::NEVER {
                continue;
            }
            let latest = due.max(now).after(LATE);
            lost += usize::from(wheel.armed_for(index as u32).is_none_or(|armed| armed > latest));
        }
        lost
    }
}
