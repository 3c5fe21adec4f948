//! What of an acceptable segment is rewritten before smoltcp reads it.
//!
//! Checksums that `classify` has verified are not kept right, except where it costs nothing: smoltcp does not verify
//! them (`one_frame.rs`), and nobody else reads the frame.

use nic::checksum;

use crate::block::FlowBlock;
use crate::classify::Segment;
use crate::shim::ring_left;
use crate::wire::{FIN, TCP_BYTES};

/// Writes the highest ACK number seen, with the window that came with it, into a segment whose own is older.
pub(crate) fn raise_ack(block: &FlowBlock, segment: &Segment, frame: &mut [u8]) {
    let Some(tcp) = tcp_header(segment, frame) else { return };
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
}

/// Writes the window that smoltcp is to believe into a segment: the newest that the peer has told, no more than may be
/// under way.
#[inline]
pub(crate) fn limit_window(block: &mut FlowBlock, segment: &Segment, frame: &mut [u8]) {
    let window = block.peer_window.min(block.sending.field());
    block.told_window = window;
    write_window(segment, frame, window);
}

/// Writes a window field into a segment.
#[inline]
pub(crate) fn write_window(segment: &Segment, frame: &mut [u8], window: u16) {
    if let Some(field) = frame.get_mut(segment.tcp_at() + 14..segment.tcp_at() + 16) {
        field.copy_from_slice(&window.to_be_bytes());
    }
}

/// Cuts off a segment what lies beyond the window, FIN included (RFC 9293 §3.10.7.4: "trimming off any portions that lie
/// outside the window (including SYN and FIN)"); if no byte is left that is new, all of its data. Returns what is left.
pub(crate) fn fit(block: &FlowBlock, segment: &Segment, frame: &mut [u8]) -> Segment {
    let rcv_nxt = block.rcv_nxt();
    let window = ring_left(block, rcv_nxt) as i32;
    let start = segment.seq.wrapping_sub(rcv_nxt) as i32;
    let end = start.saturating_add(i32::from(segment.payload_len));
    let mut fitted = *segment;
    if end > window {
        let beyond = u16::try_from(end - window).unwrap_or(u16::MAX);
        fitted.payload_len = segment.payload_len.saturating_sub(beyond);
        fitted.flags &= !FIN;
    }
    let nothing_new = start.saturating_add(i32::from(fitted.payload_len)) <= 0 || start >= window;
    if nothing_new {
        // Only the ACK counts, which smoltcp takes in the next segment expected; and a FIN that is next.
        fitted.payload_len = 0;
        fitted.seq = rcv_nxt;
        if start > 0 {
            fitted.flags &= !FIN;
        }
    }
    fitted.packet_len -= segment.payload_len - fitted.payload_len;
    let at = usize::from(segment.at);
    if let Some(total_len) = frame.get_mut(at + 2..at + 4) {
        total_len.copy_from_slice(&fitted.packet_len.to_be_bytes());
    }
    if let Some(tcp) = tcp_header(segment, frame) {
        tcp[4..8].copy_from_slice(&fitted.seq.to_be_bytes());
        tcp[13] = fitted.flags;
    }
    fitted
}

/// Ends the list of the options of a segment, which has some, before the first. smoltcp needs options of a SYN alone, and
/// would drop the segment, of which its ACK is noted by then, for one that it cannot read.
pub(crate) fn hide_options(segment: &Segment, frame: &mut [u8]) {
    if let Some(kind) = frame.get_mut(segment.tcp_at() + TCP_BYTES) {
        *kind = 0;
    }
}

/// The fixed part of the segment's header.
fn tcp_header<'a>(segment: &Segment, frame: &'a mut [u8]) -> Option<&'a mut [u8; TCP_BYTES]> {
    frame.get_mut(segment.tcp_at()..)?.first_chunk_mut::<TCP_BYTES>()
}
