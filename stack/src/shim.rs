//! What is decided about a segment of a known flow before smoltcp sees it.
//!
//! smoltcp accepts any RST in the window, ignores a SYN on a live connection, and drops data whose ACK number is older
//! than one already seen. On real networks the first lets strangers close connections, the second hangs a rebooted
//! client and the third stalls a flow for a retransmission time-out after every reordering. Read first: RFC 5961 §3, §4.

use crate::block::FlowBlock;
use crate::checksum;
use crate::classify::{ACK, FIN, RST, SYN, Segment};
use crate::drop_reason::DropReason;

/// How far behind the highest ACK number one may be and still be of this connection (RFC 5961 §5.2 would have the
/// largest window seen; this bounds it for every window scale up to 4).
const OLDEST_ACK: i32 = 1 << 20;

/// What to do with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it to smoltcp.
    Pass,
    /// The peer has reset the connection.
    Reset,
    /// Drop it and challenge its sender (RFC 5961 §3.2, §4.2).
    Challenge(DropReason),
    /// Drop it.
    Drop(DropReason),
}

/// Judges a segment of the flow `block`. `half_open`: the handshake is not complete.
#[inline]
pub(crate) fn judge(block: &FlowBlock, segment: &Segment, half_open: bool) -> Verdict {
    if !segment.has(RST | SYN) {
        return Verdict::Pass;
    }
    let rcv_nxt = block.rcv_nxt();
    if segment.has(RST) {
        // RFC 5961 §3.2: exactly the next sequence number resets; elsewhere in the window is challenged.
        let offset = segment.seq.wrapping_sub(rcv_nxt);
        return if offset == 0 {
            Verdict::Reset
        } else if offset < window_left(block, rcv_nxt) {
            Verdict::Challenge(DropReason::RstNotExact)
        } else {
            Verdict::Drop(DropReason::RstNotExact)
        };
    }
    if half_open && segment.seq.wrapping_add(1) == rcv_nxt && !segment.has(ACK) {
        // The SYN again: the SYN-ACK is on its way, or its retransmission timer runs.
        return Verdict::Drop(DropReason::SynRepeated);
    }
    if segment.has(ACK) && segment.seq.wrapping_add(1) == rcv_nxt {
        // The SYN-ACK again: our ACK of it was lost. The challenge is that ACK.
        return Verdict::Challenge(DropReason::SynRepeated);
    }
    Verdict::Challenge(DropReason::SynOnLiveFlow)
}

/// Bytes that the peer may send beyond `rcv_nxt`, by what it was last told.
#[inline]
pub(crate) fn window_left(block: &FlowBlock, rcv_nxt: u32) -> u32 {
    let edge = block.last_ack.wrapping_add(u32::from(block.last_window));
    let left = edge.wrapping_sub(rcv_nxt);
    if left as i32 > 0 { left } else { 0 }
}

/// Whether the segment belongs where the receiver is: its end not before what has been received, its start not beyond
/// the window (RFC 9293 §3.10.7.4, first check, with one byte of grace on either side for probes).
#[inline]
pub(crate) fn is_acceptable(block: &FlowBlock, segment: &Segment) -> bool {
    let rcv_nxt = block.rcv_nxt();
    let start = segment.seq.wrapping_sub(rcv_nxt) as i32;
    start <= window_left(block, rcv_nxt) as i32 && start.saturating_add(i32::from(segment.payload_len)) >= -1
}

/// Notes the ACK number of an acceptable segment of an established flow; if it is older than one already seen and the
/// segment carries data or FIN, writes the newest into the segment, with the window that came with it, so that smoltcp
/// takes the data. Returns whether it did.
#[inline]
pub(crate) fn raise_ack(block: &mut FlowBlock, segment: &Segment, frame: &mut [u8]) -> bool {
    let ahead = segment.ack.wrapping_sub(block.highest_ack) as i32;
    if ahead >= 0 {
        if block.snd_nxt.wrapping_sub(segment.ack) as i32 >= 0 {
            block.highest_ack = segment.ack;
            block.peer_window = segment.window;
        }
        return false;
    }
    if segment.payload_len == 0 && !segment.has(FIN) || ahead < -OLDEST_ACK {
        return false;
    }
    let at = segment.tcp_at();
    let Some(tcp) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<20>()) else { return false };
    let mut old = [0; 6];
    old[..4].copy_from_slice(&tcp[8..12]);
    old[4..].copy_from_slice(&tcp[14..16]);
    let mut new = [0; 6];
    new[..4].copy_from_slice(&block.highest_ack.to_be_bytes());
    new[4..].copy_from_slice(&block.peer_window.to_be_bytes());
    let sum = checksum::changed([tcp[16], tcp[17]], &old, &new);
    tcp[8..12].copy_from_slice(&new[..4]);
    tcp[14..16].copy_from_slice(&new[4..]);
    tcp[16..18].copy_from_slice(&sum);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Rings;
    use crate::classify::{Class, Local};
    use crate::link::Mac;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// A flow that has received up to 1,000, was told a window of 500, and has sent up to 2,000 of which 1,900 are
    /// acknowledged.
    fn block() -> &'static mut FlowBlock {
        let mut blocks = Vec::new();
        Rings::DEFAULT.maker().expect("the default")(1, &mut blocks);
        let block = blocks.pop().expect("one was made");
        block.rcv_base = 1_000;
        block.last_ack = 1_000;
        block.last_window = 500;
        block.snd_nxt = 2_000;
        block.highest_ack = 1_900;
        block.peer_window = 77;
        block
    }

    fn frame(seq: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], OWN)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(5, 80, seq, 333);
        if flags & ACK != 0 {
            builder = builder.ack(ack);
        }
        if flags & RST != 0 {
            builder = builder.rst();
        }
        if flags & SYN != 0 {
            builder = builder.syn();
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, data).expect("written to memory");
        frame
    }

    fn segment(frame: &[u8]) -> Segment {
        match Local::new([10, 0, 0, 2].into(), 24, Mac(OWN)).classify(frame) {
            Class::Tcp(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    fn judged(seq: u32, flags: u8, half_open: bool) -> Verdict {
        judge(block(), &segment(&frame(seq, 0, flags, b"")), half_open)
    }

    #[test]
    fn only_an_exact_rst_resets() {
        assert_eq!(judged(1_000, RST, false), Verdict::Reset);
        assert_eq!(judged(1_001, RST, false), Verdict::Challenge(DropReason::RstNotExact));
        assert_eq!(judged(1_499, RST | ACK, false), Verdict::Challenge(DropReason::RstNotExact));
        assert_eq!(judged(1_500, RST, false), Verdict::Drop(DropReason::RstNotExact));
        assert_eq!(judged(999, RST, false), Verdict::Drop(DropReason::RstNotExact));
    }

    #[test]
    fn a_syn_is_challenged_unless_it_is_the_first_one_again() {
        assert_eq!(judged(999, SYN, true), Verdict::Drop(DropReason::SynRepeated));
        assert_eq!(judged(998, SYN, true), Verdict::Challenge(DropReason::SynOnLiveFlow));
        assert_eq!(judged(999, SYN, false), Verdict::Challenge(DropReason::SynOnLiveFlow));
    }

    #[test]
    fn data_behind_an_old_ack_gets_the_newest_and_a_right_checksum() {
        let block = block();
        let mut bytes = frame(1_000, 1_800, ACK, b"data");
        let old = segment(&bytes);
        assert!(raise_ack(block, &old, &mut bytes));
        // `segment` verifies the checksum.
        let new = segment(&bytes);
        assert_eq!((new.ack, new.window, new.seq), (1_900, 77, 1_000));
    }

    #[test]
    fn an_old_ack_without_data_stays_old_and_a_new_one_is_noted() {
        let block = block();
        let mut bytes = frame(1_000, 1_800, ACK, b"");
        let before = bytes.clone();
        assert!(!raise_ack(block, &segment(&before), &mut bytes));
        assert_eq!(bytes, before);
        let mut bytes = frame(1_000, 1_950, ACK, b"");
        let newer = segment(&bytes);
        assert!(!raise_ack(block, &newer, &mut bytes));
        assert_eq!((block.highest_ack, block.peer_window), (1_950, 333));
        let mut bytes = frame(1_000, 2_001, ACK, b"");
        let beyond = segment(&bytes);
        assert!(!raise_ack(block, &beyond, &mut bytes));
        assert_eq!(block.highest_ack, 1_950);
    }

    #[test]
    fn acceptable_is_what_touches_the_window() {
        let block = block();
        for (seq, data, wanted) in [
            (1_000, &b""[..], true),
            (999, b"", true),
            (998, b"", false),
            (990, b"0123456789", true),
            (1_500, b"x", true),
            (1_501, b"x", false),
        ] {
            assert_eq!(is_acceptable(block, &segment(&frame(seq, 1_900, ACK, data))), wanted, "{seq}");
        }
    }
}
