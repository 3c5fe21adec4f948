//! Frames out: what touched flows have to say, once a turn, and when to look at them again.

use std::time::Duration;

use nic::Queue;
use smoltcp::iface::{Interface, PollResult};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

use super::NetStack;
use super::emit::take_reply;
use super::mend::Mended;
use super::tail::{has_in_flight, time_what_is_sent};
use crate::block::FlowBlock;
use crate::clock::{FlowClock, Span, Time};
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::one_frame::OneFrame;
use crate::phase::{Marks, Phase};
use crate::port::Port;
use crate::replay::{Replay, Told};
use crate::segment::{Control, Sent};
use crate::wire::{ACK, RST};

/// Segments of one flow in one turn: more than the largest ring holds at the usual segment size.
const SEGMENTS_PER_TURN: usize = 64;

/// When to look again at a flow that smoltcp wants polled now and for which it then sends nothing. That does not happen;
/// if it did, the flow would not be polled in every turn.
const RETRY: Duration = Duration::from_millis(10);

/// What the peer of a flow that lingers must have acknowledged for its time to begin anew: who takes a byte a minute does
/// not hold a block for ever.
const LINGER_BYTES: u32 = 16 << 10;

/// What came of visiting a flow.
pub(super) enum Visit {
    Done,
    /// It has more to say than its share of the turn.
    Again,
    /// It has more to say than there are frames.
    NoFrame,
}

/// What came of having smoltcp say what a flow has to say.
pub(super) enum Said {
    /// Its last segment ends where its data ends: until the peer answers, only the retransmission timer matters, which is
    /// `patience`. `doubted`: it has sent something again.
    Last { patience: Span, doubted: bool },
    /// Everything, until that moment; `None`: until it hears of its peer or of the application.
    Until(Option<Time>),
    /// Not everything, or the flow has ended.
    Stopped(Visit),
}

impl NetStack {
    /// Writes what the touched flows have to say into frames and arms their timers. Once a turn, last.
    ///
    /// A flow for which no frame is left stays touched, so that the next flush tries again.
    pub fn flush<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        if self.resolver.asking() > 0 {
            self.ask_neighbors(now, ports);
        }
        self.refill_walks();
        for _ in 0..self.touched.len() {
            let Some(index) = self.touched.pop() else { break };
            match self.visit::<Q, false>(now, ports, index) {
                Visit::Done => continue,
                Visit::Again => {}
                Visit::NoFrame => self.stats.parked += 1,
            }
            self.touch(index);
        }
        self.touched.rewind();
        self.tend_fragments(now, ports);
        self.tend_half_open(now, ports);
        self.give_cookies(now, ports);
    }

    /// Has a flow say what it has to say. `PREPARED`: all that is done before was done.
    #[inline(always)]
    pub(super) fn visit<Q: Queue, const PREPARED: bool>(
        &mut self,
        now: Time,
        ports: &mut [Port<Q>],
        index: u32,
    ) -> Visit {
        // It is looked up again only where others may have changed it: each time costs six instructions.
        let block = &mut *self.blocks[index as usize];
        if !PREPARED {
            block.marks.remove(Marks::TOUCHED);
            if !block.phase.is_alive() {
                return Visit::Done;
            }
            self.work.flows += 1;
            if !matches!(block.phase, Phase::Open) || block.marks.intersects(Marks::UNUSUAL) {
                return self.visit_unusual(now, ports, index);
            }
        }
        let Some(port) = ports.get_mut(usize::from(block.port)) else { return Visit::Again };
        note_state(block, now);
        let deadline = self.deadlines.of(block);
        if deadline <= now {
            return self.give_up(port, index);
        }
        match self.say(now, port, index) {
            Said::Last { patience, doubted } => self.wait(now, index, deadline.min(now.plus(patience)), doubted),
            Said::Until(at) => self.settle(now, port, index, at),
            Said::Stopped(visit) => return visit,
        }
        Visit::Done
    }

    /// Visits a flow that is not simply open.
    #[inline(never)]
    fn visit_unusual<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>], index: u32) -> Visit {
        match self.prepare(now, ports, index) {
            Some(visit) => visit,
            None => self.visit::<Q, true>(now, ports, index),
        }
    }

    /// What is done before a flow that is not simply open says what it has to say; returns what came of the visit if
    /// that is all.
    fn prepare<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>], index: u32) -> Option<Visit> {
        if self.blocks[index as usize].phase.is_connecting() && self.visit_connecting(now, index) {
            return Some(Visit::Done);
        }
        if self.blocks[index as usize].marks.contains(Marks::OVER) {
            self.visit_over(now, index);
            return Some(Visit::Done);
        }
        let block = &mut *self.blocks[index as usize];
        let Some(port) = ports.get_mut(usize::from(block.port)) else { return Some(Visit::Again) };
        if block.phase == Phase::Aborted {
            return Some(self.reset(port, index, None));
        }
        if block.marks.contains(Marks::GIVES_WAY) {
            return Some(self.reset(port, index, Some(CloseReason::GaveWay)));
        }
        if block.phase.is_released() {
            discard(block);
        }
        if block.marks.contains(Marks::IN_DOUBT) {
            self.visit_doubtful(now, index);
        }
        let block = &mut *self.blocks[index as usize];
        // What is sent again first may leave no room for what would be timed.
        if block.marks.contains(Marks::TIME) && !block.marks.intersects(Marks::AGAIN) {
            time_what_is_sent(block, now);
        }
        if block.marks.contains(Marks::SUSPECT) {
            self.look_for_hole(now, index);
        }
        let block = &*self.blocks[index as usize];
        if block.marks.intersects(Marks::NARROW | Marks::LONG) && block.phase.has_peer() {
            return Some(self.visit_narrow(now, ports, index));
        }
        None
    }

    /// Has smoltcp write what the flow has to say, a segment at a time.
    #[inline(always)]
    fn say<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) -> Said {
        let flow_now = FlowClock::instant(now);
        let mut asked = false;
        let mut block = &mut *self.blocks[index as usize];
        if block.marks.intersects(Marks::AGAIN) {
            asked = match self.send_again(now, port, index) {
                Ok(asked) => asked,
                Err(said) => return said,
            };
            block = &mut *self.blocks[index as usize];
        }
        if block.marks.contains(Marks::LONG) && !asked {
            if let Some(said) = self.say_trains(now, port, index) {
                return said;
            }
            block = &mut *self.blocks[index as usize];
        }
        if block.snd_nxt != block.highest_ack {
            hold_rest_back(block);
        }
        for _ in 0..SEGMENTS_PER_TURN {
            if !port.has_room() || !port.can_answer() {
                return Said::Stopped(Visit::NoFrame);
            }
            let mut device = OneFrame::new(None, port.reserve(), &block.link, self.config.ip_mtu);
            let (interface, set) = (&mut self.interface, &mut block.set);
            let outcome = contain(|| interface.poll_egress(flow_now, &mut device, set));
            let reply = device.into_reply();
            self.work.sets += 1;
            let before = block.snd_nxt;
            let sent = take_reply(block, port, reply, self.promises, (&mut self.islands, &self.names));
            let Some(result) = outcome else { return self.contained(index) };
            if let Some(sent) = &sent
                && !sent.empty
                && (sent.end.wrapping_sub(before) as i32) <= 0
                && !std::mem::take(&mut asked)
            {
                let timed_out = keep_to_one_segment(block, sent, flow_now, &mut self.interface, &mut self.replay);
                self.stats.retransmission_timeouts += u64::from(timed_out);
                if timed_out {
                    self.boards.give_back(&mut block.board);
                }
            }
            if let Some(sent) = &sent {
                if let Some(last) = last_of(block, sent) {
                    return last;
                }
                hold_rest_back(block);
            }
            let (interface, set) = (&mut self.interface, &mut block.set);
            let Some(at) = contain(|| interface.poll_at(flow_now, set)) else { return self.contained(index) };
            let due = at.is_some_and(|at| at <= flow_now);
            if !due || result == PollResult::None {
                return Said::Until(if due { Some(now.after(RETRY)) } else { at.map(FlowClock::real) });
            }
        }
        Said::Stopped(Visit::Again)
    }

    /// Has smoltcp send again what is to be sent again. Returns whether that is its earliest segment, with the next poll.
    #[cold]
    #[inline(never)]
    fn send_again<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) -> Result<bool, Said> {
        let flow_now = FlowClock::instant(now);
        // What was sent as a small segment is sent again as one.
        self.blocks[index as usize].socket_mut().set_nagle_enabled(false);
        if self.blocks[index as usize].marks.intersects(Marks::MEND | Marks::ALL_LOST) {
            match self.mend(now, port, index) {
                Mended::GoOn => {}
                Mended::Later => return Err(Said::Stopped(Visit::Again)),
                Mended::NoFrame => return Err(Said::Stopped(Visit::NoFrame)),
                Mended::Contained => return Err(self.contained(index)),
            }
        }
        let block = &mut *self.blocks[index as usize];
        if block.marks.contains(Marks::TIME) {
            time_what_is_sent(block, now);
        }
        if !block.marks.intersects(Marks::AGAIN) {
            return Ok(false);
        }
        let (interface, replay) = (&mut self.interface, &mut self.replay);
        let once = contain(|| have_sent_again(block, flow_now, interface, replay));
        self.stats.sent_again += u64::from(once == Some(true));
        once.ok_or_else(|| self.contained(index))
    }

    /// Ends a flow over which smoltcp has panicked.
    #[cold]
    pub(super) fn contained(&mut self, index: u32) -> Said {
        self.end(index, CloseReason::Contained);
        Said::Stopped(Visit::Done)
    }

    /// After a flow has sent what it had to send, and smoltcp wants to be polled next at `poll_at`: probes the peer, ends the
    /// flow or arms its timer.
    fn settle<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32, poll_at: Option<Time>) {
        let mut next = poll_at.unwrap_or(Time::NEVER);
        let block = &*self.blocks[index as usize];
        if has_in_flight(block) {
            next = next.min(now.plus(block.sending.patience()));
        }
        if is_mute(self.blocks[index as usize], poll_at) {
            next = next.min(self.probe(now, port, index));
        } else if self.config.keep_alive.is_some() || self.blocks[index as usize].peer_window == 0 {
            next = next.min(self.keep_alive(now, port, index));
        }
        if self.blocks[index as usize].marks.contains(Marks::TIGHT) {
            self.open_window(now, port, index);
        }
        let state = self.blocks[index as usize].socket().state();
        if matches!(state, State::TimeWait | State::Closed) && self.ends_by_itself(now, port, index, state) {
            return;
        }
        let block = &mut *self.blocks[index as usize];
        note_state(block, now);
        let (deadline, doubted) = (self.deadlines.of(block), block.marks.contains(Marks::DOUBTED));
        self.wait(now, index, deadline.min(next), doubted);
    }

    /// Has the flow looked at again `next` at the latest. `doubted`: it has sent something again.
    #[inline(always)]
    fn wait(&mut self, now: Time, index: u32, next: Time, doubted: bool) {
        if next != Time::NEVER {
            self.work.timers += u64::from(self.wheel.arm_no_later(index, next));
        }
        if doubted {
            self.sent_again(now, index);
        }
    }

    /// Ends a flow with [`Marks::OVER`] when its application has read everything, or wants no more of it.
    fn visit_over(&mut self, now: Time, index: u32) {
        let block = &*self.blocks[index as usize];
        if block.phase.is_released() || block.socket().recv_queue() == 0 {
            if block.socket().state() == State::TimeWait {
                self.begin_time_wait(now, index);
            }
            self.end(index, CloseReason::Finished);
        }
    }

    /// Ends a flow of which smoltcp has said its last, if that is so.
    #[inline(never)]
    fn ends_by_itself<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32, state: State) -> bool {
        let block = &mut self.blocks[index as usize];
        if state == State::TimeWait {
            if !block.phase.is_released() {
                // smoltcp would throw away with its TIME-WAIT what the application has yet to read. All that it may still
                // have to say is an ACK.
                let over = block.socket().recv_queue() > 0;
                if over {
                    block.marks |= Marks::OVER;
                    self.work.timers += u64::from(self.wheel.cancel(index));
                    if self.blocks[index as usize].last_ack != self.blocks[index as usize].rcv_nxt() {
                        self.acknowledge(port, index);
                    }
                    self.visit_over(now, index);
                }
                return over;
            }
            self.begin_time_wait(now, index);
        }
        self.end(index, CloseReason::Finished);
        true
    }

    /// Makes the record of a connection in TIME-WAIT.
    pub(super) fn begin_time_wait(&mut self, now: Time, index: u32) {
        let block = &self.blocks[index as usize];
        let (key, sequence) = (block.key, (block.snd_nxt, block.rcv_nxt()));
        let evicted = self.time_wait.insert(now, key, block.hash, sequence, block.link);
        if key.is_ipv6() {
            // The flow's own name, which it still holds.
            self.hold(key.remote);
        }
        self.stats.time_waits += 1;
        if let Some(evicted) = evicted {
            self.stats.time_waits_evicted += 1;
            self.names.release(evicted.remote);
        }
    }

    /// Gives a flow up whose peer no longer answers.
    fn give_up<Q: Queue>(&mut self, port: &mut Port<Q>, index: u32) -> Visit {
        self.reset(port, index, Some(CloseReason::TimedOut))
    }

    /// Sends RST to the peer and ends the flow; `None`: because the application asked for it.
    fn reset<Q: Queue>(&mut self, port: &mut Port<Q>, index: u32, reason: Option<CloseReason>) -> Visit {
        if !port.has_room() || !port.can_answer() {
            return Visit::NoFrame;
        }
        let block = &mut self.blocks[index as usize];
        let (link, key, seq, ack) = (block.link, block.key, rst_seq(block), block.rcv_nxt());
        self.stats.rsts_sent += 1;
        self.send_control(port, &link, &key, Control { flags: RST | ACK, seq, ack, window: 0 });
        match reason {
            Some(reason) => self.end(index, reason),
            None => {
                self.stats.aborted += 1;
                self.table.remove(self.blocks[index as usize].hash, index);
                self.work.timers += u64::from(self.wheel.cancel(index));
                self.free(index);
            }
        }
        Visit::Done
    }
}

/// The sequence number of an RST: the next one (RFC 9293 §3.10.5), but none beyond the window, where it is not acceptable.
/// What lies there is the octet of a zero-window probe, which the peer has not taken.
fn rst_seq(block: &FlowBlock) -> u32 {
    let window = u32::from(block.peer_window) << block.options.window_scale.unwrap_or(0).min(14);
    let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
    if window == 0 { block.highest_ack } else { block.highest_ack.wrapping_add(in_flight.min(window)) }
}

/// Has smoltcp send the earliest segment again, which it returns, or everything that is in flight.
#[cold]
#[inline(never)]
fn have_sent_again(block: &mut FlowBlock, flow_now: Instant, interface: &mut Interface, replay: &mut Replay) -> bool {
    let all = block.marks.contains(Marks::TIMED_OUT);
    block.marks.remove(Marks::SEND_AGAIN | Marks::TIMED_OUT);
    if all {
        replay.rewind(interface, flow_now, &mut block.set);
    } else {
        let told = Told::of(block);
        replay.have_sent_again(interface, flow_now, &mut block.set, told);
    }
    !all
}

/// smoltcp has sent something again without having been asked to: its timer has run out, and it goes on to send again all
/// that is under way, but that the window keeps it to one segment. Returns whether that is news.
#[cold]
#[inline(never)]
fn keep_to_one_segment(
    block: &mut FlowBlock,
    sent: &Sent,
    flow_now: Instant,
    interface: &mut Interface,
    replay: &mut Replay,
) -> bool {
    // Of a walk through what is in flight (`mend.rs`) the last bytes may be left over, and are sent with what comes next.
    let earliest = sent.end.wrapping_sub(block.highest_ack) <= u32::from(block.sending.mss());
    if !block.phase.has_peer() || block.peer_window == 0 || block.marks.contains(Marks::REWOUND) || !earliest {
        return false;
    }
    let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
    block.sending.timed_out(in_flight, block.snd_nxt);
    block.marks |= Marks::REWOUND | Marks::SUSPECT;
    let told = Told::of(block);
    replay.tell(interface, flow_now, &mut block.set, told);
    true
}

/// What the flow has said if the segment `sent` was the last that it has to say until it hears of its peer: its data ends where
/// the data in the transmit ring ends. What had to be acknowledged has been, with it, and the timer that runs is the
/// retransmission's, so that smoltcp need not be asked when to look again: asking costs as much as building a header.
/// A segment without a window to send it to, or of a connection that ends, is left to smoltcp's own answer.
#[inline]
pub(super) fn last_of(block: &FlowBlock, sent: &Sent) -> Option<Said> {
    let socket = block.socket();
    let waiting = socket.send_queue() as u32;
    let last = waiting > 0
        && block.peer_window != 0
        && !sent.empty
        && sent.end == block.highest_ack.wrapping_add(waiting)
        && socket.state() == State::Established;
    let doubted = block.marks.contains(Marks::DOUBTED);
    last.then(|| Said::Last { patience: block.sending.patience(), doubted })
}

/// Has smoltcp hold back what would be sent as a small segment into the rest of the window, when more waits than that
/// takes, until what is in flight is acknowledged (RFC 9293 §3.8.6.2.1, MUST-38): a peer that takes small segments and
/// tells of their room at once would never be sent full ones again. smoltcp's Nagle does it, which is off otherwise, and
/// which no longer holds once the flow is closed; where nothing is in flight it holds nothing.
///
/// Half of the window is no small segment. A congestion window of whole segments has a rest too, since it is told in the
/// peer's units, from wherever the last ACK ends.
#[cold]
#[inline(never)]
pub(super) fn hold_rest_back(block: &mut FlowBlock) {
    let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
    let window = block.sending.lets_out_to(0, block.told_window);
    let rest = window.saturating_sub(in_flight);
    let waits = block.socket().send_queue() > window as usize;
    let silly = waits && rest < u32::from(block.sending.mss()).min(window / 2);
    if block.socket().nagle_enabled() != silly {
        block.socket_mut().set_nagle_enabled(silly);
    }
}

/// Whether smoltcp has data to send and nothing will make it say so, `poll_at` being when it wants to be polled.
///
/// That happens where a window that closed meets a loss: a retransmission that finds no window stops the timer, a window
/// that opens stops that of the zero-window probe, whatever is in flight, and where all is in flight that probe is an
/// empty segment, which nobody answers. Keep-alives are not smoltcp's, so that any timer of its has it send something.
#[inline]
fn is_mute(block: &FlowBlock, poll_at: Option<Time>) -> bool {
    let waiting = block.socket().send_queue();
    let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack) as usize;
    waiting > 0 && (poll_at.is_none() || block.peer_window == 0 && in_flight >= waiting)
}

/// Throws away what has arrived for a flow that the application has closed.
fn discard(block: &mut FlowBlock) {
    while block.socket().can_recv() {
        let taken = block.socket_mut().recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
        if taken == 0 {
            return;
        }
        block.rcv_base = block.rcv_base.wrapping_add(taken as u32);
    }
}

/// Notes when the flow began to wait for the peer, to be closed, to be in FIN-WAIT-2.
#[inline]
fn note_state(block: &mut FlowBlock, now: Time) {
    let socket = block.socket();
    let state = socket.state();
    let waits = socket.send_queue() > 0
        || matches!(state, State::FinWait1 | State::Closing | State::LastAck | State::SynReceived);
    if !waits {
        block.marks.remove(Marks::WAITING);
    } else if !block.marks.contains(Marks::WAITING) {
        block.marks |= Marks::WAITING;
        block.waiting_since = now;
    }
    let next = match block.phase {
        Phase::Released | Phase::Closing if state == State::FinWait2 => Phase::FinWait2,
        Phase::Released => Phase::Closing,
        // The peer gets on with what the flow lingers for.
        Phase::Closing if block.highest_ack.wrapping_sub(block.token as u32) >= LINGER_BYTES => Phase::Closing,
        _ => return,
    };
    // No application asks for its number any more.
    block.token = u64::from(block.highest_ack);
    block.phase = next;
    block.state_since = now;
}
