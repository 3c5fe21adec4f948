//! What leaves: lines up what smoltcp has written for a flow and notes it there; writes segments without data by hand.
//!
//! Called by ingress and egress: smoltcp may answer a segment at once.

use nic::{Frame, Queue};

use super::NetStack;
use crate::block::FlowBlock;
use crate::flow_id::FlowKey;
use crate::link::LinkHeader;
use crate::names::Names;
use crate::offer;
use crate::one_frame::Reply;
use crate::phase::Marks;
use crate::port::Port;
use crate::sack::Islands;
use crate::segment::{Control, Sent, write_checksums, write_ip_checksum, write_seq};
use crate::wire::{ACK, IPV4_BYTES, RST, SYN, TCP_BYTES};

/// A packet of so many bytes may be one of many that leave at once, whose checksum the queue then leaves to the kernel.
const LONG: usize = 512;

/// Lines up what smoltcp has written for the flow of `block`, if anything, and notes it there. Returns what it was.
///
/// `promises` is how much a flow with its own and with larger rings may tell the peer that may come, `islands` what flows
/// have told of data behind holes, `names` how the ends of those of IPv6 are called on the wire.
#[inline(always)]
pub(super) fn take_reply<Q: Queue>(
    block: &mut FlowBlock,
    port: &mut Port<Q>,
    reply: Reply,
    promises: [u32; 2],
    (islands, names): (&mut Islands, &Names),
) -> Option<Sent> {
    match reply {
        Reply::None => None,
        Reply::Written(frame) => line_up(block, port, frame, promises, islands, names),
        Reply::Unwritten(frame) => {
            port.return_frame(frame);
            None
        }
    }
}

fn line_up<Q: Queue>(
    block: &mut FlowBlock,
    port: &mut Port<Q>,
    mut frame: Frame,
    promises: [u32; 2],
    islands: &mut Islands,
    names: &Names,
) -> Option<Sent> {
    let mut packet = frame.bytes_mut().get_mut(block.link.len()..).unwrap_or_default();
    let sent = Sent::of(packet);
    // An RST is not of this connection's numbers, but of those that it answers.
    if let Some(sent) = sent
        && sent.flags & RST == 0
    {
        if sent.end.wrapping_sub(block.snd_nxt) as i32 > 0 {
            block.snd_nxt = sent.end;
            block.marks.remove(Marks::SENT_AGAIN | Marks::REWOUND);
        } else if !sent.empty {
            block.marks |= Marks::DOUBTED;
        } else {
            if sent.flags & ACK != 0 && sent.end != block.empty_seq() {
                // While it sends data again, smoltcp sends ACKs from there too; a peer that has that data drops them.
                write_seq(packet, block.empty_seq());
            }
            if block.marks.contains(Marks::TIGHT) && is_silly(block, &sent, promises) {
                port.return_frame(frame);
                return None;
            }
            if packet.len() > IPV4_BYTES + TCP_BYTES || block.marks.contains(Marks::ISLANDS) {
                islands.rewrite(block, &sent, &mut frame);
                packet = frame.bytes_mut().get_mut(block.link.len()..).unwrap_or_default();
            }
        }
        if sent.flags & SYN != 0 && block.scale != 0 {
            offer::write_scale(packet);
        }
        if sent.flags & ACK != 0 {
            offer::offer(block, &sent, promise_of(block, promises), packet);
        }
    }
    if block.link.is_ipv6() {
        names.finish(&mut frame, &block.link, &block.key);
    } else if packet.len() >= LONG && port.completes_checksums() && block.link.tag().is_none() {
        write_ip_checksum(packet);
    } else {
        write_checksums(packet);
    }
    port.send(frame);
    sent
}

/// How much the peer of the flow of `block` may be told that may come beyond its receive ring.
#[inline]
pub(super) fn promise_of(block: &FlowBlock, promises: [u32; 2]) -> u32 {
    promises.get(usize::from(block.promise)).copied().unwrap_or(0)
}

/// Whether an ACK that smoltcp has written, but for an island, tells the peer nothing but of a little more room.
#[cold]
fn is_silly(block: &mut FlowBlock, sent: &Sent, promises: [u32; 2]) -> bool {
    let room = u32::from(sent.window) << block.ring_scale;
    let promise = promise_of(block, promises);
    sent.ack == block.last_ack && !offer::opens(block, sent.ack, room, promise)
}

impl NetStack {
    /// Sends a segment written by hand, if a frame is left.
    pub(super) fn send_control<Q: Queue>(
        &mut self,
        port: &mut Port<Q>,
        link: &LinkHeader,
        key: &FlowKey,
        control: Control,
    ) {
        self.send_control_with(port, link, key, control, &[]);
    }

    /// The same, with options, a multiple of four bytes. Returns whether there was a frame.
    pub(super) fn send_control_with<Q: Queue>(
        &mut self,
        port: &mut Port<Q>,
        link: &LinkHeader,
        key: &FlowKey,
        control: Control,
        options: &[u8],
    ) -> bool {
        let Some(mut frame) = port.take_frame() else { return false };
        let written = control.write_with(&mut frame, link, key, options);
        self.send_written(port, frame, (link, key), written);
        true
    }
}
