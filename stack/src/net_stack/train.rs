//! Trains: what a flow has to say in many segments, written as one where its port takes that.
//!
//! A train is of new data alone: where something is sent again, or may be, segments go one at a time, as everywhere else.
//! Read first: `train.rs`, `egress.rs`.

use nic::Queue;

use super::NetStack;
use super::egress::{Said, Visit, hold_rest_back, last_of};
use super::emit::{promise_of, take_reply};
use crate::clock::{FlowClock, Time};
use crate::contain::contain;
use crate::ipv6::Head;
use crate::offer;
use crate::one_frame::Reply;
use crate::phase::Marks;
use crate::port::Port;
use crate::segment::write_checksums;
use crate::train::{Plan, Written};

/// Trains of one flow in one turn.
const TRAINS_PER_TURN: usize = 2;

impl NetStack {
    /// Has smoltcp write as much of what the flow has to say as makes trains, and sends these. Returns what the flow has
    /// said, if that is all for this turn.
    #[inline(never)]
    pub(super) fn say_trains<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) -> Option<Said> {
        let flow_now = FlowClock::instant(now);
        for _ in 0..TRAINS_PER_TURN {
            let block = &mut *self.blocks[index as usize];
            let plan = Plan::of(block).filter(|_| !block.marks.intersects(Marks::AGAIN | Marks::REWOUND))?;
            if !port.takes_trains() || !port.prepare_for_train(plan.segments) {
                return None;
            }
            let train = &mut self.train;
            let written = contain(|| train.write(flow_now, &mut block.set, plan));
            self.work.sets += 1;
            let Some(written) = written else { return Some(self.contained(index)) };
            self.stats.trains_refused += u64::from(self.train.was_refused());
            let written = written?;
            if !(written.plain && written.seq == block.snd_nxt) {
                return self.take_back_train(now, port, index, &written);
            }
            self.send_train(port, index, &written);
            let block = &mut *self.blocks[index as usize];
            if let Some(last) = last_of(block, &written.sent) {
                return Some(last);
            }
            hold_rest_back(block);
        }
        Plan::of(self.blocks[index as usize]).map(|_| Said::Stopped(Visit::Again))
    }

    /// Sends the train that was written for a flow, or cuts it.
    fn send_train<Q: Queue>(&mut self, port: &mut Port<Q>, index: u32, written: &Written) {
        let block = &mut *self.blocks[index as usize];
        block.snd_nxt = written.sent.end;
        block.marks.remove(Marks::SENT_AGAIN);
        offer::offer(block, &written.sent, promise_of(block, self.promises), self.train.packet());
        let head = block.link.is_ipv6().then(|| Head::of_segment(&self.names, &block.key));
        let packet = self.train.finish(&block.link, head.as_ref());
        let cut = block.sending.mss();
        if port.send_train(packet, cut) {
            return;
        }
        let cut = usize::from(cut);
        for at in (0..written.payload).step_by(cut) {
            let Some(mut frame) = port.take_frame() else { return };
            if !self.train.write_piece(&mut frame, &block.link, at, cut.min(written.payload - at)) {
                port.return_frame(frame);
                return;
            }
            if block.link.is_ipv6() {
                self.names.finish(&mut frame, &block.link, &block.key);
            } else {
                write_checksums(frame.bytes_mut().get_mut(block.link.len()..).unwrap_or_default());
            }
            port.send(frame);
        }
    }

    /// smoltcp has written something else than the next of its data. One segment is sent as it is. More than that is sent
    /// again, since a timer of smoltcp's has run out just now: it has said nothing then, and says it anew, a segment at a time.
    #[cold]
    fn take_back_train<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        index: u32,
        written: &Written,
    ) -> Option<Said> {
        let block = &mut *self.blocks[index as usize];
        if written.payload > usize::from(block.sending.mss()) {
            let (interface, replay) = (&mut self.interface, &mut self.replay);
            let rewound = contain(|| replay.rewind(interface, FlowClock::instant(now), &mut block.set));
            return if rewound.is_none() { Some(self.contained(index)) } else { None };
        }
        let mut frame = port.take_frame()?;
        let fits = self.train.write_whole(&mut frame, &block.link);
        let reply = if fits { Reply::Written(frame) } else { Reply::Unwritten(frame) };
        take_reply(block, port, reply, self.promises, (&mut self.islands, &self.names));
        None
    }
}
