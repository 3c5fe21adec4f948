//! What the peer says that it lacks is sent again: all of it within a round trip, and nothing else (RFC 6675).
//!
//! smoltcp can send its earliest segment again, or everything. To have another sent again it is made to send everything,
//! at once, from the first segment in flight to the last: what the peer lacks goes into frames, the rest is thrown away.
//! That takes about 0.3 us for each segment in flight, of which there are at most 1,024 (`sending.rs`), once for what was
//! found lost since the last time. No walk begins in a turn whose share for all flows is used up; one that has begun goes to
//! its end, and the turns that follow pay for it.
//! Read first: `scoreboard.rs`, `sending.rs`.

use arrayvec::ArrayVec;
use nic::Queue;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

use super::NetStack;
use super::emit::take_reply;
use crate::clock::{FlowClock, Time};
use crate::contain::contain;
use crate::one_frame::OneFrame;
use crate::options::SackBlocks;
use crate::phase::Marks;
use crate::port::Port;
use crate::replay::{MOST_BYTES, Told};
use crate::scoreboard::{Block, Wanted, before, later};
use crate::segment::Sent;
use crate::sending::micros;

/// Most segments that one walk passes: what the largest ring holds of the shortest that a path has room for, where it has
/// become so narrow while much was in flight.
const MOST_STEPS: usize = MOST_BYTES / 512 + 2;

/// Most stretches of one segment that are noted as sent again.
const MOST_IN_ONE: usize = 4;

/// Segments that all walks of a turn may pass. One that passes more is paid for by the turns that follow.
const SEGMENTS_A_TURN: i32 = 128;

/// How seeing to what a peer lacks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    GoOn,
    /// No frame was left for what was to be sent.
    NoFrame,
    /// It is for a later turn.
    Later,
    /// smoltcp has panicked.
    Contained,
}

impl NetStack {
    /// Notes what the peer of a flow says it has.
    pub(super) fn note_blocks(&mut self, now: Time, index: u32, blocks: &SackBlocks) {
        let block = &mut *self.blocks[index as usize];
        let (una, snd_nxt) = (block.highest_ack, block.snd_nxt);
        let in_flight = snd_nxt.wrapping_sub(una);
        if in_flight == 0 || block.sending.is_rewound() {
            return;
        }
        let inside = |&&(from, to): &&Block| {
            let (from, to) = (from.wrapping_sub(una), to.wrapping_sub(una));
            // A block that begins with what is earliest in flight would be an ACK.
            from > 0 && from < to && to <= in_flight
        };
        for &found in blocks.iter().filter(inside) {
            let Some(board) = self.boards.take(&mut block.board, una) else { return };
            board.note(found);
            block.sending.set_mending(true);
            block.sending.arrived(found.0, found.1, now);
            block.marks |= Marks::MEND;
        }
    }

    /// A turn begins, and so much may be walked in it.
    #[inline]
    pub(super) fn refill_walks(&mut self) {
        self.walks = (self.walks + SEGMENTS_A_TURN).min(SEGMENTS_A_TURN);
    }

    /// What the peer of a flow lacks before something that it has is lost.
    pub(super) fn lose_held_back(&mut self, index: u32) {
        let block = &mut *self.blocks[index as usize];
        let Some(number) = block.board else { return };
        let board = self.boards.get(number);
        board.lost_to = later(board.lost_to, board.end());
        block.marks |= Marks::MEND;
    }

    /// Nothing was heard for long of a flow whose peer has told what it has: all that it lacks is lost. `again`: that was so
    /// before, since when nothing new was acknowledged.
    pub(super) fn lose_missing(&mut self, index: u32, again: bool) {
        let block = &mut *self.blocks[index as usize];
        let Some(number) = block.board else { return };
        let board = self.boards.get(number);
        board.lose_again();
        board.lost_to = block.snd_nxt;
        block.marks |= Marks::MEND;
        if again {
            self.stats.retransmission_timeouts += 1;
            let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
            block.sending.timed_out_mending(in_flight - board.held().min(in_flight), block.snd_nxt);
            block.marks |= Marks::SUSPECT;
        }
    }

    /// Sees to what the peer of a flow lacks, before the flow says what else it has to say.
    #[cold]
    #[inline(never)]
    pub(super) fn mend<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) -> Mended {
        if self.walks <= 0 {
            return Mended::Later;
        }
        self.begin_to_mend(index);
        let flow_now = FlowClock::instant(now);
        let block = &mut *self.blocks[index as usize];
        let Some(number) = block.board else { return Mended::GoOn };
        let (una, snd_nxt) = (block.highest_ack, block.snd_nxt);
        let in_flight = snd_nxt.wrapping_sub(una);
        let state = block.socket().state();
        let open = matches!(state, State::Established | State::CloseWait | State::FinWait1);
        let board = self.boards.get(number);
        let has_come = board.acknowledged(una);
        if has_come && !block.sending.is_recovering() {
            // What was missing has come, and was not sent again.
            block.sending.was_overtaken(board.held());
        }
        let much = block.sending.much();
        let reach = board.lost_before(much);
        let entered = block.sending.lose_if(reach.is_some(), in_flight.saturating_sub(board.held()), snd_nxt);
        if !open || in_flight == 0 || !block.sending.is_recovering() && board.is_empty() {
            self.boards.give_back(&mut block.board);
            block.sending.set_mending(false);
            return Mended::GoOn;
        }
        if !block.sending.is_recovering() {
            // What has arrived makes room for what is new (RFC 3042).
            block.sending.set_held(board.held());
            return self.tell_window(flow_now, index);
        }
        if entered {
            // Of whatever size what came behind it was, the earliest is lost.
            board.lost_to = later(board.lost_to, una.wrapping_add(1));
        }
        board.sort_out(micros(now), block.sending.ages(), reach);
        let lost_to = later(board.lost_to, reach.unwrap_or(una));
        let outcome = self.send_lost(now, port, index, lost_to, entered);
        match self.tell_window(flow_now, index) {
            Mended::GoOn => outcome,
            worse => worse,
        }
    }

    /// Takes the marks for which a flow is mended off it. If all that was in flight was found lost, a scoreboard says so, or
    /// smoltcp sends everything again where there is no scoreboard.
    fn begin_to_mend(&mut self, index: u32) {
        let block = &mut *self.blocks[index as usize];
        let all_lost = block.marks.contains(Marks::ALL_LOST);
        block.marks.remove(Marks::MEND | Marks::ALL_LOST);
        let una = block.highest_ack;
        if !all_lost || block.snd_nxt == una {
            return;
        }
        match self.boards.take(&mut block.board, una) {
            Some(board) => {
                board.lost_to = later(board.lost_to, block.sending.recover());
                block.sending.set_mending(true);
            }
            None => block.marks |= Marks::SEND_AGAIN,
        }
    }

    /// Sends again what is lost before `lost_to`, as much as the congestion window has room for. `entered`: the loss has only
    /// just been found, for which one segment is sent whatever the window (RFC 6675 §5, step 4.3).
    fn send_lost<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        index: u32,
        lost_to: u32,
        entered: bool,
    ) -> Mended {
        let block = &mut *self.blocks[index as usize];
        let Some(number) = block.board else { return Mended::GoOn };
        let board = self.boards.get(number);
        let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
        let mss = u32::from(block.sending.mss());
        let (_, lost) = board.wanted(lost_to, 0);
        let on_the_way = in_flight.saturating_sub(board.held() + lost);
        let room = block.sending.window().saturating_sub(on_the_way);
        let budget = if entered { room.max(mss) } else { room };
        let mut outcome = Mended::GoOn;
        if lost > 0 && (budget >= mss || on_the_way == 0) {
            let (wanted, _) = board.wanted(lost_to, budget.max(mss));
            outcome = self.send_missing(now, port, index, &wanted);
        }
        let block = &mut *self.blocks[index as usize];
        let board = self.boards.get(number);
        let (_, lost) = board.wanted(lost_to, 0);
        block.sending.set_held(board.held() + lost);
        if outcome == Mended::NoFrame {
            block.marks |= Marks::MEND;
        }
        outcome
    }

    /// Sends again what is `wanted`.
    fn send_missing<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32, wanted: &Wanted) -> Mended {
        let block = &mut *self.blocks[index as usize];
        let una = block.highest_ack;
        let mss = u32::from(block.sending.mss());
        let Some(&(_, until)) = wanted.last() else { return Mended::GoOn };
        if let [(from, to)] = wanted[..]
            && from == una
            && to.wrapping_sub(una) <= mss
        {
            self.send_earliest(now, index, to);
            return Mended::GoOn;
        }
        let flow_now = FlowClock::instant(now);
        let Some(end) = self.begin_walk(flow_now, index) else { return Mended::Contained };
        let (mut at, mut out_of_frames) = (una, false);
        for step in 0..MOST_STEPS {
            let next = at.wrapping_add(mss);
            let lacks = wanted.iter().any(|&(left, right)| before(left, next) && before(at, right));
            out_of_frames |= lacks && !(port.has_room() && port.can_answer());
            // The first step is the earliest alone, and comes once more with all.
            let again = lacks && !out_of_frames && step > 0;
            let Some(sent) = self.walk_past_one(flow_now, port, index, again) else { return Mended::Contained };
            let Some(sent) = sent.filter(|sent| !sent.empty && before(at, sent.end)) else { break };
            if again {
                let to = if before(until, sent.end) { until } else { sent.end };
                self.note_sent_again(now, index, (at, to), sent.end);
            }
            if step > 0 {
                at = sent.end;
            } else {
                let (interface, replay) = (&mut self.interface, &mut self.replay);
                let set = &mut self.blocks[index as usize].set;
                if contain(|| replay.rewind(interface, flow_now, set)).is_none() {
                    return Mended::Contained;
                }
            }
            if !before(at, end) {
                break;
            }
        }
        if out_of_frames { Mended::NoFrame } else { Mended::GoOn }
    }

    /// Has smoltcp send the earliest segment again, which it can do alone. `to`: the end of what is wanted of it.
    fn send_earliest(&mut self, now: Time, index: u32, to: u32) {
        let block = &mut *self.blocks[index as usize];
        let Some(number) = block.board else { return };
        block.marks |= Marks::SEND_AGAIN;
        let board = self.boards.get(number);
        let una = block.highest_ack;
        let next = una.wrapping_add(u32::from(block.sending.mss()));
        let end = board.holes(una, next).next().map_or(to, |(_, end)| end);
        board.sent_again((una, end), block.snd_nxt, micros(now));
        block.sending.sent_again(una, end);
    }

    /// Has smoltcp send the earliest again with the next poll, by which its timer runs for certain. Returns up to where it
    /// sends when it sends everything; `None`: it has panicked.
    fn begin_walk(&mut self, flow_now: Instant, index: u32) -> Option<u32> {
        let block = &mut *self.blocks[index as usize];
        let (una, snd_nxt) = (block.highest_ack, block.snd_nxt);
        let in_flight = snd_nxt.wrapping_sub(una);
        // Everything that was sent, and nothing else: of what was not, some may be less than a unit of the window away.
        let unsent = block.socket().send_queue() > in_flight as usize;
        block.told_window = block.sending.field_for(in_flight, unsent);
        let told = Told { key: block.key, seq: block.rcv_nxt(), ack: una, window: block.told_window };
        let edge = block.sending.lets_out_to(una, block.told_window);
        let (interface, replay) = (&mut self.interface, &mut self.replay);
        contain(|| replay.have_sent_again(interface, flow_now, &mut block.set, told))?;
        Some(if before(edge, snd_nxt) { edge } else { snd_nxt })
    }

    /// Has smoltcp send one segment, which goes into a frame if it is to go out `again`. Returns what it sent, if anything;
    /// the outer `None`: it has panicked.
    fn walk_past_one<Q: Queue>(
        &mut self,
        flow_now: Instant,
        port: &mut Port<Q>,
        index: u32,
        again: bool,
    ) -> Option<Option<Sent>> {
        self.walks -= 1;
        self.work.sets += 1;
        let block = &mut *self.blocks[index as usize];
        let (interface, replay) = (&mut self.interface, &mut self.replay);
        if !again {
            return contain(|| replay.skip(interface, flow_now, &mut block.set));
        }
        let mut device = OneFrame::new(None, port.reserve(), &block.link, self.config.ip_mtu);
        let outcome = contain(|| interface.poll_egress(flow_now, &mut device, &mut block.set));
        let reply = device.into_reply();
        let sent = take_reply(block, port, reply, self.promises, (&mut self.islands, &self.names));
        self.stats.sent_again += 1;
        outcome.map(|_| sent)
    }

    /// Notes that a segment, which ends at `end`, was sent again, and of it what was missing in `stretch`.
    fn note_sent_again(&mut self, now: Time, index: u32, stretch: Block, end: u32) {
        let block = &mut *self.blocks[index as usize];
        let Some(number) = block.board else { return };
        let board = self.boards.get(number);
        // Of what is in the segment, the peer may have some: that says nothing of the rest.
        let missing: ArrayVec<Block, MOST_IN_ONE> = board.holes(stretch.0, stretch.1).take(MOST_IN_ONE).collect();
        for hole in missing {
            board.sent_again(hole, block.snd_nxt, micros(now));
        }
        block.sending.sent_again(stretch.0, end);
    }

    /// Has smoltcp believe the window that is right now.
    fn tell_window(&mut self, flow_now: Instant, index: u32) -> Mended {
        let block = &mut *self.blocks[index as usize];
        if block.told_window == block.peer_window.min(block.sending.field()) {
            return Mended::GoOn;
        }
        let (interface, replay) = (&mut self.interface, &mut self.replay);
        let told = Told::of(block);
        match contain(|| replay.tell(interface, flow_now, &mut block.set, told)) {
            Some(()) => Mended::GoOn,
            None => Mended::Contained,
        }
    }
}
