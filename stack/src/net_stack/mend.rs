//! What the peer says that it lacks is sent again: all of it within a round trip, and nothing else (RFC 6675).
//!
//! smoltcp can send its earliest segment again, or everything. To have another sent again it is made to send everything,
//! at once, from the first segment in flight to the last: what the peer lacks goes into frames, the rest is thrown away.
//! That takes about 0.3 us for each segment in flight, once for what was found lost since the last time.
//! Read first: `scoreboard.rs`, `sending.rs`.

use nic::Queue;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

use super::NetStack;
use super::emit::take_reply;
use crate::contain::contain;
use crate::one_frame::OneFrame;
use crate::options::SackBlocks;
use crate::phase::Marks;
use crate::port::Port;
use crate::replay::Told;
use crate::scoreboard::{Block, before, later};

/// Most segments that one walk passes: more than the largest ring holds.
const MOST_SEGMENTS: usize = 16_384;

/// How seeing to what a peer lacks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    GoOn,
    /// No frame was left for what was to be sent.
    NoFrame,
    /// smoltcp has panicked.
    Contained,
}

impl NetStack {
    /// Notes what the peer of a flow says it has.
    pub(super) fn note_blocks(&mut self, index: u32, blocks: &SackBlocks) {
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
            block.marks |= Marks::MEND;
        }
    }

    /// Sees to what the peer of a flow lacks, before the flow says what else it has to say.
    #[cold]
    #[inline(never)]
    pub(super) fn mend<Q: Queue>(&mut self, flow_now: Instant, port: &mut Port<Q>, index: u32) -> Mended {
        let block = &mut *self.blocks[index as usize];
        let all_lost = block.marks.contains(Marks::ALL_LOST);
        block.marks.remove(Marks::MEND | Marks::ALL_LOST);
        let (una, snd_nxt) = (block.highest_ack, block.snd_nxt);
        let in_flight = snd_nxt.wrapping_sub(una);
        if all_lost && in_flight > 0 {
            match self.boards.take(&mut block.board, una) {
                Some(board) => {
                    board.lost_to = later(board.lost_to, block.sending.recover());
                    board.round_end = snd_nxt;
                    block.sending.set_mending(true);
                }
                None => block.marks |= Marks::SEND_AGAIN,
            }
        }
        let Some(number) = block.board else { return Mended::GoOn };
        let state = block.socket().state();
        let open = matches!(state, State::Established | State::CloseWait | State::FinWait1);
        let board = self.boards.get(number);
        if !block.sending.is_recovering() && before(board.resent_to, una) {
            // What was missing has come, and was not sent again.
            block.sending.was_overtaken(board.held());
        }
        board.acknowledged(una);
        let much = block.sending.much();
        let reach = board.lost_before(much);
        let entered = block.sending.lose_if(reach.is_some(), in_flight, snd_nxt);
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
            board.round_end = snd_nxt;
        }
        if reach.is_some_and(|reach| (reach.wrapping_sub(board.round_end) as i32) > 0) {
            // What was sent after it has arrived, and what was sent again is still missing: it was lost again.
            (board.resent_to, board.round_end) = (una, snd_nxt);
        }
        let lost_to = later(board.lost_to, reach.unwrap_or(una));
        let lost = board.missing(board.resent_to, lost_to);
        let on_the_way = in_flight.saturating_sub(board.held() + lost);
        let mss = u32::from(block.sending.mss());
        let room = block.sending.window().saturating_sub(on_the_way);
        let budget = if entered { room.max(mss) } else { room };
        let mut outcome = Mended::GoOn;
        if lost > 0 && (budget >= mss || on_the_way == 0) {
            let from = board.resent_to;
            let mut left = budget.max(mss);
            let mut until = from;
            for (start, end) in board.holes(from, lost_to) {
                let taken = left.min(end.wrapping_sub(start));
                if taken == 0 {
                    break;
                }
                (until, left) = (start.wrapping_add(taken), left - taken);
            }
            let resent_to;
            (outcome, resent_to) = self.send_missing(flow_now, port, index, (from, until));
            self.boards.get(number).resent_to = resent_to;
        }
        let block = &mut *self.blocks[index as usize];
        let board = self.boards.get(number);
        block.sending.set_held(board.held() + board.missing(board.resent_to, lost_to));
        if outcome == Mended::NoFrame {
            block.marks |= Marks::MEND;
        }
        match self.tell_window(flow_now, index) {
            Mended::GoOn => outcome,
            worse => worse,
        }
    }

    /// Sends again what is missing in `range`. Returns up to where that was done.
    fn send_missing<Q: Queue>(
        &mut self,
        flow_now: Instant,
        port: &mut Port<Q>,
        index: u32,
        range: Block,
    ) -> (Mended, u32) {
        let block = &mut *self.blocks[index as usize];
        let (una, snd_nxt) = (block.highest_ack, block.snd_nxt);
        let mss = u32::from(block.sending.mss());
        let (from, until) = range;
        let Some(number) = block.board else { return (Mended::GoOn, until) };
        let board = self.boards.get(number);
        if from == una && until.wrapping_sub(una) <= mss {
            // The earliest, which smoltcp can send alone.
            block.marks |= Marks::SEND_AGAIN;
            return (Mended::GoOn, until);
        }
        let in_flight = snd_nxt.wrapping_sub(una);
        let (interface, replay) = (&mut self.interface, &mut self.replay);
        // Everything that was sent, and nothing else: of what was not, some may be less than a unit of the window away.
        let unsent = block.socket().send_queue() > in_flight as usize;
        block.told_window = block.sending.field_for(in_flight, unsent);
        let told = Told { key: block.key, seq: block.rcv_nxt(), ack: una, window: block.told_window };
        let edge = block.sending.lets_out_to(una, block.told_window);
        let end = if before(edge, snd_nxt) { edge } else { snd_nxt };
        // It sends the earliest again, by which its timer runs for certain, and then, as if that had run out, everything.
        if contain(|| replay.have_sent_again(interface, flow_now, &mut block.set, told)).is_none() {
            return (Mended::Contained, until);
        }
        let (mut at, mut done) = (una, None);
        for step in 0..MOST_SEGMENTS {
            let next = at.wrapping_add(mss);
            let lacks = board.holes(from, until).any(|(left, right)| before(left, next) && before(at, right));
            let has_frame = !lacks || done.is_none() && port.has_room() && port.can_answer();
            if !has_frame && done.is_none() {
                done = Some(at);
            }
            let sent = if lacks && has_frame && step != 1 {
                let mut device = OneFrame::new(None, port.reserve(), &block.link, self.config.ip_mtu);
                let outcome = contain(|| interface.poll_egress(flow_now, &mut device, &mut block.set));
                let reply = device.into_reply();
                let sent = take_reply(block, port, reply, self.promises, &mut self.islands);
                self.stats.sent_again += 1;
                outcome.map(|_| sent)
            } else {
                contain(|| replay.skip(interface, flow_now, &mut block.set))
            };
            match sent {
                None => return (Mended::Contained, until),
                Some(Some(sent)) if !sent.empty && before(at, sent.end) => {
                    // The first step is the earliest alone.
                    if step > 0 {
                        at = sent.end;
                    }
                }
                Some(_) => break,
            }
            if step == 0 && contain(|| replay.rewind(interface, flow_now, &mut block.set)).is_none() {
                return (Mended::Contained, until);
            }
            if !before(at, end) {
                break;
            }
        }
        match done {
            None => (Mended::GoOn, until),
            Some(done) => (Mended::NoFrame, if before(done, from) { from } else { done }),
        }
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
