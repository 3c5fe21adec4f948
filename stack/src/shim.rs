//! What is decided about a segment before anything is noted of it: RFC 9293's checks, in its order, in one place.
//!
//! ```text
//! judge ─► Acceptable ─► note (ACK number, window; the caller: who was heard, when, where) ─► rewrite ─► smoltcp
//!      └─► ACK, RST, end of the flow, or nothing: smoltcp does not see the segment
//! ```
//!
//! smoltcp accepts any RST in the window, ignores a SYN on a live connection, takes a FIN though the data before it was
//! cut, answers a wrong ACK of a handshake with RSTs without limit, and drops data whose ACK number is older than one
//! already seen. So it gets only what has passed here, in a form in which it makes no mistake (`rewrite.rs`).
//! Read first: RFC 9293 §3.10.7.4, RFC 5961.

use crate::block::FlowBlock;
use crate::classify::Segment;
use crate::drop_reason::DropReason;
use crate::phase::Marks;
use crate::syn_queue::HalfOpen;
use crate::time_wait::{Claim, TimeWait};
use crate::wire::{ACK, FIN, RST, SYN};

/// How far behind the highest ACK number one may be and still be of this connection: the largest window that there is
/// without window scaling (RFC 5961 §5.2).
const OLDEST_ACK: i32 = 65_535;

/// The same for a flow that has larger rings, of which no more than that can have been under way.
const OLDEST_ACK_SCALED: i32 = 1 << 21;

/// What to do with a segment. In all but the first four cases nothing is noted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its sequence number and its ACK number are acceptable.
    Acceptable,
    /// The same, but something is missing before its data.
    BehindHole,
    /// As `Acceptable`, but it reaches beyond the receive ring, though not beyond the window.
    BeyondRing,
    /// The same, but smoltcp must be given only the part of it that [`fit`](crate::rewrite::fit) leaves.
    AcceptableInPart,
    /// The peer has reset the connection.
    Reset,
    /// Drop it and tell its sender at once what we have: it carries data or FIN, so a lost ACK or a full window is the
    /// likeliest cause, and no two hosts can go on doing this to each other.
    Acknowledge(DropReason),
    /// Drop it and tell its sender what we have, at a limited rate: it is a keep-alive, or asks whether the window has
    /// opened (RFC 9293 §3.8.4, §3.8.6.1).
    KeepAlive,
    /// Drop it and challenge its sender, at a limited rate (RFC 5961 §3.2, §4.2, §5.2, §7).
    Challenge(DropReason),
    /// Drop it and answer with RST, at a limited rate: it is of another handshake than ours.
    Refuse(DropReason),
    /// Drop it.
    Drop(DropReason),
}

/// Judges a segment of the flow `block`, which is past SYN-SENT. `half_open`: it is in SYN-RECEIVED.
///
/// Nearly every segment is the next one expected, ends in the window, and acknowledges something in flight (our SYN, if
/// that is in flight) or nothing new. Such a segment passes every check, which a few comparisons show; only the others are
/// checked one by one.
#[inline]
pub(crate) fn judge(block: &FlowBlock, segment: &Segment, half_open: bool) -> Verdict {
    let rcv_nxt = block.rcv_nxt();
    let acknowledged = segment.ack.wrapping_sub(block.highest_ack);
    let ordinary = segment.seq == rcv_nxt
        && !segment.has(RST | SYN)
        && (segment.payload_len == 0
            || u32::from(segment.payload_len) <= ring_left(block, rcv_nxt)
                && !block.marks.contains(Marks::FIN_RECEIVED))
        && acknowledged <= block.snd_nxt.wrapping_sub(block.highest_ack)
        && (acknowledged != 0 || !half_open);
    if ordinary { Verdict::Acceptable } else { judge_check_by_check(block, segment, half_open) }
}

/// As [`judge`], in the order of RFC 9293 §3.10.7.4.
#[cold]
#[inline(never)]
fn judge_check_by_check(block: &FlowBlock, segment: &Segment, half_open: bool) -> Verdict {
    let rcv_nxt = block.rcv_nxt();
    let window = window_left(block, rcv_nxt);
    let start = segment.seq.wrapping_sub(rcv_nxt) as i32;
    if segment.has(RST | SYN) {
        return judge_control(segment, start, window, half_open);
    }
    // First check: the sequence number.
    let mut acceptable = Verdict::Acceptable;
    // Behind the peer's FIN there is nothing to be received (seventh check: "ignore the segment text").
    let ended = block.marks.contains(Marks::FIN_RECEIVED);
    if start != 0 || u32::from(segment.payload_len) > if ended { 0 } else { window } {
        if ended && segment.payload_len > 0 {
            return Verdict::Acknowledge(DropReason::DataBehindFin);
        }
        acceptable = judge_sequence(segment, start, window, half_open);
        if !matches!(acceptable, Verdict::Acceptable | Verdict::AcceptableInPart) {
            return acceptable;
        }
    }
    // Fifth check: the ACK number. The second, third and fourth are for RST and SYN.
    let ahead = segment.ack.wrapping_sub(block.highest_ack) as i32;
    let never_sent = (block.snd_nxt.wrapping_sub(segment.ack) as i32) < 0;
    // Of a half-open flow our SYN, and nothing else, can be acknowledged.
    if half_open && (ahead <= 0 || never_sent) {
        return Verdict::Refuse(DropReason::AckOfNoSyn);
    }
    let oldest = if block.place.is_some() { OLDEST_ACK_SCALED } else { OLDEST_ACK };
    if never_sent || ahead < -oldest {
        return Verdict::Challenge(DropReason::AckOutOfRange);
    }
    let end = start.saturating_add(i32::from(segment.payload_len));
    let ring = ring_left(block, rcv_nxt) as i32;
    match segment.payload_len {
        _ if block.ring_edge == block.edge => {}
        // A half-open flow is not moved; smoltcp would take a FIN though it cuts what is before it.
        1.. if end > ring && half_open => return Verdict::AcceptableInPart,
        1.. if end > ring => return Verdict::BeyondRing,
        // The ACK counts (see `judge_sequence`), and smoltcp does not take it from beyond its ring.
        0 if start > 0 && start >= ring => return Verdict::AcceptableInPart,
        _ => {}
    }
    let behind_hole = start > 0 && segment.payload_len > 0 && acceptable == Verdict::Acceptable;
    if behind_hole { Verdict::BehindHole } else { acceptable }
}

/// Judges a segment of a half-open connection, as [`judge`] does one of a flow that is half-open: whether it is acceptable, and
/// acknowledges our SYN. What of it is taken the flow says that it makes.
pub(crate) fn judge_half_open(record: &HalfOpen, segment: &Segment) -> Verdict {
    let window = u32::from(record.window);
    let start = segment.seq.wrapping_sub(record.rcv_nxt) as i32;
    if segment.has(RST | SYN) {
        return judge_control(segment, start, window, true);
    }
    let mut acceptable = Verdict::Acceptable;
    if start != 0 || u32::from(segment.payload_len) > window {
        acceptable = judge_sequence(segment, start, window, true);
        if !matches!(acceptable, Verdict::Acceptable | Verdict::AcceptableInPart) {
            return acceptable;
        }
    }
    if segment.ack == record.isn.wrapping_add(1) { acceptable } else { Verdict::Refuse(DropReason::AckOfNoSyn) }
}

/// The first check for a segment that does not simply follow what was received. It begins `start` bytes behind the next
/// expected, and `window` bytes may be sent from there on.
fn judge_sequence(segment: &Segment, start: i32, window: u32, half_open: bool) -> Verdict {
    let window = window as i32;
    let end = start.saturating_add(i32::from(segment.payload_len));
    let reason = if start > window {
        DropReason::SeqBeyondWindow
    } else if start < 0 && end.saturating_add(i32::from(segment.has(FIN))) <= 0 {
        DropReason::SeqRepeated
    } else {
        // What smoltcp takes as it is: new bytes that end in the window, or none where some could be. RFC 9293 asks for
        // "special allowance" for the ACK of what reaches beyond, the window being closed or not.
        let fits = end <= window && if segment.payload_len > 0 { end > 0 } else { start < window };
        return if fits { Verdict::Acceptable } else { Verdict::AcceptableInPart };
    };
    match segment.sequence_len() {
        1.. if !half_open => Verdict::Acknowledge(reason),
        0 if start == -1 && !half_open => Verdict::KeepAlive,
        _ => Verdict::Challenge(reason),
    }
}

/// Judges an RST or a SYN.
fn judge_control(segment: &Segment, start: i32, window: u32, half_open: bool) -> Verdict {
    if segment.has(RST) {
        // RFC 5961 §3.2: exactly the next sequence number resets; elsewhere in the window is challenged.
        return if start == 0 {
            Verdict::Reset
        } else if (start as u32) < window {
            Verdict::Challenge(DropReason::RstNotExact)
        } else {
            Verdict::Drop(DropReason::RstNotExact)
        };
    }
    if half_open && start == -1 && !segment.has(ACK) {
        // The SYN again: the SYN-ACK is on its way, or its retransmission timer runs.
        return Verdict::Drop(DropReason::SynRepeated);
    }
    if segment.has(ACK) && start == -1 {
        // The SYN-ACK again: our ACK of it was lost. The challenge is that ACK.
        return Verdict::Challenge(DropReason::SynRepeated);
    }
    Verdict::Challenge(DropReason::SynOnLiveFlow)
}

/// Bytes that the peer may send beyond `rcv_nxt`, by what it was last told.
#[inline]
pub(crate) fn window_left(block: &FlowBlock, rcv_nxt: u32) -> u32 {
    above(block.edge, rcv_nxt)
}

/// Bytes beyond `rcv_nxt` that smoltcp takes at present.
#[inline]
pub(crate) fn ring_left(block: &FlowBlock, rcv_nxt: u32) -> u32 {
    above(block.ring_edge, rcv_nxt)
}

/// How far `edge` is above `from`, or 0.
#[inline]
fn above(edge: u32, from: u32) -> u32 {
    let left = edge.wrapping_sub(from);
    if left as i32 > 0 { left } else { 0 }
}

/// Notes the ACK number and the window of an acceptable segment. Returns whether smoltcp must be shown those already noted
/// instead: it would drop data or FIN behind an older ACK number, and would believe an older window.
///
/// Which of two segments with the same ACK number was sent later, their sequence numbers tell (RFC 9293 §3.10.7.4, fifth
/// check: SND.WL1).
#[inline]
pub(crate) fn note(block: &mut FlowBlock, segment: &Segment) -> bool {
    if (segment.ack.wrapping_sub(block.highest_ack) as i32) < 0 {
        return segment.payload_len > 0 || segment.has(FIN);
    }
    if segment.ack == block.highest_ack && (segment.seq.wrapping_sub(block.window_seq) as i32) < 0 {
        return true;
    }
    let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
    let acknowledged = segment.ack.wrapping_sub(block.highest_ack);
    block.highest_ack = segment.ack;
    block.peer_window = segment.window;
    block.window_seq = segment.seq;
    if acknowledged != 0 {
        block.marks |= block.sending.acknowledged(acknowledged, in_flight, segment.ack, block.heard_at);
    }
    false
}

/// What to do with a segment of a flow in SYN-SENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InSynSent {
    /// The SYN-ACK.
    SynAck,
    /// The peer takes no connection.
    Refused,
    /// It is of another connection: answer with RST, at a limited rate, so that its sender forgets that.
    Refuse,
    /// A SYN that crosses ours.
    Crossing,
    /// It says nothing of use.
    Drop(DropReason),
}

/// Judges a segment of a flow in SYN-SENT (RFC 9293 §3.10.7.3). Before the SYN has left, nothing can acknowledge it.
pub(crate) fn judge_in_syn_sent(block: &FlowBlock, segment: &Segment) -> InSynSent {
    if segment.has(ACK) && (segment.ack != block.snd_nxt || block.snd_nxt == block.highest_ack) {
        return if segment.has(RST) { InSynSent::Drop(DropReason::RstNotExact) } else { InSynSent::Refuse };
    }
    if segment.has(RST) {
        return if segment.has(ACK) { InSynSent::Refused } else { InSynSent::Drop(DropReason::RstNotExact) };
    }
    match segment.flags & (SYN | ACK) {
        flags if flags == SYN | ACK => InSynSent::SynAck,
        SYN => InSynSent::Crossing,
        _ => InSynSent::Drop(DropReason::NotSynAck),
    }
}

/// What to do with a segment of a connection in TIME-WAIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InTimeWait {
    /// A SYN that may begin a new connection of the same 4-tuple.
    Begin,
    /// A SYN that may be an old one: challenge it, and believe the RST that comes of that.
    Ask,
    /// The peer's FIN again: acknowledge it again and wait as long again.
    FinAgain,
    /// The peer has said that it knows nothing of the connection: its next SYN may begin a new one.
    Yield,
    /// Tell where we are.
    Acknowledge,
    /// Nothing.
    Ignore,
}

/// Judges a segment of a connection in TIME-WAIT (RFC 9293 §3.10.7.4; RFC 1337 for RST).
pub(crate) fn judge_in_time_wait(record: &TimeWait, segment: &Segment) -> InTimeWait {
    let ahead = segment.seq.wrapping_sub(record.rcv_nxt) as i32;
    if segment.has(RST) {
        // Deviates: RFC 1337 would have no RST end TIME-WAIT, since old data can draw one. This one was drawn by our
        // answer to a SYN, so its sender waits for the port. Linux believes each that is exact.
        return if ahead == 0 && record.claim == Claim::Asked { InTimeWait::Yield } else { InTimeWait::Ignore };
    }
    if segment.has(SYN) {
        // RFC 9293 MAY-2: above every sequence number of the old connection.
        return match segment.has(ACK) {
            true => InTimeWait::Acknowledge,
            false if ahead >= 0 || record.claim == Claim::Granted => InTimeWait::Begin,
            false => InTimeWait::Ask,
        };
    }
    let behind = record.snd_nxt.wrapping_sub(segment.ack) as i32;
    let ack_is_right = (0..=OLDEST_ACK).contains(&behind);
    if segment.has(FIN) && segment.seq.wrapping_add(segment.sequence_len()) == record.rcv_nxt && ack_is_right {
        return InTimeWait::FinAgain;
    }
    let bare = segment.sequence_len() == 0 && ahead == 0;
    if bare && ack_is_right { InTimeWait::Ignore } else { InTimeWait::Acknowledge }
}

#[cfg(test)]
mod tests;
