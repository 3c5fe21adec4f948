//! What window the peer is told: written into each segment that smoltcp has written, before it leaves.
//!
//! smoltcp knows of one ring. The peer is told more where larger rings are to be had: what does not fit when it comes gets
//! them (`ring_pool.rs`), and is dropped, as by a full router, where there are none any more. All windows of a flow are
//! shifted by one number of bits, whatever rings it has (RFC 7323 §2.2), and no edge that was told is taken back. The sums
//! of a segment are written after all this.
//!
//! A window that is nearly closed opens by a segment, or half of the ring, and not by less: a peer that fills what it is
//! told with small segments would send nothing else any more (RFC 9293 §3.8.6.2.2, MUST-39).

use crate::block::FlowBlock;
use crate::phase::Marks;
use crate::segment::Sent;
use crate::shim;
use crate::wire::{IPV4_BYTES, SCALE, SYN, TCP_BYTES};

/// The option of a SYN that says so.
const WINDOW_SCALE: u8 = 3;

/// Notes what a segment of ours, whose IPv4 packet is `packet`, tells the peer of the window, after it was made to say that
/// `promise` bytes may come from the first in the receive ring on, if the ring has less room.
#[inline]
pub(crate) fn offer(block: &mut FlowBlock, sent: &Sent, promise: u32, packet: &mut [u8]) {
    block.last_ack = sent.ack;
    // Windows of SYNs are not shifted.
    let (ring_scale, scale) = if sent.flags & SYN == 0 { (block.ring_scale, block.scale) } else { (0, 0) };
    block.ring_edge = sent.ack.wrapping_add(u32::from(sent.window) << ring_scale);
    let mut edge = later(block.edge, later(block.ring_edge, block.rcv_base.wrapping_add(promise)));
    if (edge.wrapping_sub(sent.ack) as i32) < ample(block) {
        edge = offer_little(block, edge, sent.ack);
    }
    // Rounded up: what was told once stays.
    let left = edge.wrapping_sub(sent.ack).div_ceil(1 << scale);
    let field = u16::try_from(left).unwrap_or(u16::MAX);
    block.edge = later(block.edge, sent.ack.wrapping_add(u32::from(field) << scale));
    if field != sent.window {
        write_window(packet, field);
    }
}

/// A window in which there is room for two segments is never a silly one. The peer's segments are taken to be as long as
/// ours.
#[inline]
fn ample(block: &FlowBlock) -> i32 {
    2 * i32::from(block.sending.mss())
}

/// By how much a window that is not ample opens at least.
fn step(block: &FlowBlock) -> i32 {
    (block.socket().recv_capacity() / 2).min(usize::from(block.sending.mss())) as i32
}

/// Whether the peer, which has been told of all up to `ack`, knows of so little room that it may wait for more.
pub(crate) fn is_nearly_closed(block: &FlowBlock, ack: u32) -> bool {
    (shim::window_left(block, ack) as i32) < step(block)
}

/// Up to where the peer is told that it may send, in a segment that acknowledges all up to `ack`, if the window could reach to
/// `edge`, which is not ample.
#[cold]
#[inline(never)]
fn offer_little(block: &mut FlowBlock, edge: u32, ack: u32) -> u32 {
    block.marks |= Marks::TIGHT;
    let opens = edge.wrapping_sub(block.edge) as i32 >= step(block);
    let edge = if opens { edge } else { block.edge };
    if (edge.wrapping_sub(block.ring_edge) as i32) < 0 {
        block.ring_edge = edge;
    }
    // A FIN behind a full window counts, and has no room there.
    later(edge, ack)
}

/// Whether the peer of a flow with [`Marks::TIGHT`] would be told of more room than it knows of, by an ACK of `ack` that
/// smoltcp has written or would write with room for `room` bytes behind that.
pub(crate) fn opens(block: &mut FlowBlock, ack: u32, room: u32, promise: u32) -> bool {
    let edge = later(ack.wrapping_add(room), block.rcv_base.wrapping_add(promise));
    if edge.wrapping_sub(block.edge) as i32 >= step(block) {
        return true;
    }
    if shim::window_left(block, ack) as i32 >= ample(block) {
        block.marks.remove(Marks::TIGHT);
    }
    false
}

/// The window field of a segment written by hand whose ACK number is `ack`: no more than the peer was told last.
pub(crate) fn window_field(block: &FlowBlock, ack: u32) -> u16 {
    u16::try_from(shim::window_left(block, ack).div_ceil(1 << block.scale)).unwrap_or(u16::MAX)
}

/// The later of two sequence numbers.
#[inline]
fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) as i32 > 0 { b } else { a }
}

fn write_window(packet: &mut [u8], field: u16) {
    let Some(tcp) = packet.get_mut(IPV4_BYTES..).and_then(|rest| rest.first_chunk_mut::<TCP_BYTES>()) else { return };
    tcp[14..16].copy_from_slice(&field.to_be_bytes());
}

/// Writes [`SCALE`] over the shift that a SYN or SYN-ACK of ours offers.
#[cold]
pub(crate) fn write_scale(packet: &mut [u8]) {
    let Some(tcp) = packet.get_mut(IPV4_BYTES..) else { return };
    let Some(end) = tcp.get(12).map(|&offset| usize::from(offset >> 4) * 4) else { return };
    let mut at = TCP_BYTES;
    while at + 2 < end.min(tcp.len()) {
        match tcp[at] {
            0 => return,
            1 => at += 1,
            WINDOW_SCALE => {
                tcp[at + 2] = SCALE;
                return;
            }
            _ => at += usize::from(tcp[at + 1]).max(2),
        }
    }
}
