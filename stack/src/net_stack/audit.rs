//! What a stack holds, and what it promises of its timers, looked at for every flow at once: for tests, never for the packet
//! path.

use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::NetStack;
use crate::clock::{FlowClock, Time};
use crate::link::LinkHeader;
use crate::phase::{Marks, Phase};
use crate::stats::{Census, UnderWay};

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

    /// What is under way, counted by walking every flow: for tests.
    pub fn under_way(&self) -> UnderWay {
        let mut found = UnderWay::default();
        let keep_alive = self.deadlines.keep_alive();
        for (_, block) in self.blocks.iter().filter(|(_, block)| block.phase.has_peer()) {
            let (socket, marks) = (block.socket(), block.marks);
            let in_flight = block.snd_nxt != block.highest_ack;
            let fin_sent = matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck);
            found.sent += u64::from(in_flight && socket.send_queue() > 0);
            found.unread += u64::from(socket.recv_queue() > 0);
            found.hole += u64::from(marks.contains(Marks::ISLANDS));
            found.sent_again += u64::from(in_flight && marks.intersects(Marks::SENT_AGAIN | Marks::REWOUND));
            found.closed_window += u64::from(block.peer_window == 0 && socket.send_queue() > 0);
            found.fin_sent += u64::from(in_flight && fin_sent);
            found.fin_received += u64::from(marks.contains(Marks::FIN_RECEIVED));
            found.ack_owed += u64::from(block.last_ack != block.rcv_nxt());
            found.asked += u64::from(block.probe_at > block.heard_at.plus(keep_alive));
            found.enlarged += u64::from(block.place.is_some());
        }
        for sleeper in self.blocks.sleepers() {
            found.asleep_closed_window += u64::from(sleeper.window() == 0);
            found.asleep_closed += u64::from(sleeper.closed_since().is_some());
        }
        found
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
