//! Answers to segments and datagrams that were not taken: RST, ACKs that say where we are, and ICMP "port unreachable", at
//! limited rates.
//!
//! The limits are such that a sender who counts the answers it gets learns nothing of other connections, and cannot use
//! up their answers (`rate.rs`).
//! Read first: RFC 5961 §7, RFC 9293 §3.10.7.1.

use nic::{Frame, Queue};

use super::NetStack;
use super::arrival::Arrival;
use crate::classify::Segment;
use crate::clock::Time;
use crate::icmp;
use crate::link::{self, LinkHeader};
use crate::offer;
use crate::port::Port;
use crate::sack::Island;
use crate::segment::Control;
use crate::wire::ACK;

/// Least time between two challenge ACKs of one flow (RFC 5961 §7 leaves it to us): that of Linux.
pub(super) const CHALLENGE_GAP: std::time::Duration = std::time::Duration::from_millis(500);

impl NetStack {
    /// Answers a segment of a connection that is not here with RST, at a limited rate.
    pub(super) fn refuse<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>) {
        let segment = arrival.segment;
        if self.stranger_limit.allows(arrival.now, self.names.payer(segment.key.remote)) {
            let link = LinkHeader::answering(arrival.frame, usize::from(segment.at));
            self.stats.rsts_sent += 1;
            self.send_control(arrival.port, &link, &segment.key, Control::rst_for(segment));
        }
    }

    /// Tells the sender of a datagram that nobody listens on its port, in the frame that it came in, at a limited rate.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse_datagram<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, mut frame: Frame) {
        if link::is_ipv6(frame.bytes()) {
            return self.refuse_ipv6_datagram(now, port, frame);
        }
        let (sender, at) = icmp::sender(frame.bytes());
        let may = self.unreachable_limit.allows(now, sender.to_bits().into());
        if may && icmp::answer(&mut frame, at, icmp::NO_SUCH_PORT).is_ok() {
            self.stats.port_unreachables += 1;
            port.send(frame);
        } else {
            port.free(frame);
        }
    }

    /// Answers a keep-alive, not more often than challenges of one flow. The limits that many flows share do not count
    /// here: a client with thousands of connections sends keep-alives on each, and gives up one that does not answer.
    pub(super) fn answer_keep_alive<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) {
        let block = &mut self.blocks[index as usize];
        if now >= block.challenge_at {
            block.challenge_at = now.after(CHALLENGE_GAP);
            self.acknowledge(port, index);
        }
    }

    /// Sends a challenge ACK, at a limited rate (RFC 5961 §7).
    pub(super) fn challenge<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) {
        let block = &mut self.blocks[index as usize];
        if now < block.challenge_at {
            return;
        }
        if self.challenge_limit.allows(now, self.names.payer(block.key.remote)) {
            block.challenge_at = now.after(CHALLENGE_GAP);
            self.acknowledge(port, index);
        }
    }

    /// Sends an ACK of what has been received, which says where we are: a peer that is elsewhere answers with an RST that
    /// is exact. It promises no more room than the peer was told of last.
    pub(super) fn acknowledge<Q: Queue>(&mut self, port: &mut Port<Q>, index: u32) {
        self.say_where_we_are(port, index, None);
    }

    /// The same, to a segment that has come again, of whose data it tells (RFC 2883 §4).
    pub(super) fn acknowledge_again<Q: Queue>(&mut self, port: &mut Port<Q>, index: u32, segment: &Segment) {
        let end = segment.seq.wrapping_add(u32::from(segment.payload_len));
        let old = (self.blocks[index as usize].rcv_nxt().wrapping_sub(end) as i32) >= 0;
        self.say_where_we_are(port, index, (old && segment.payload_len > 0).then_some((segment.seq, end)));
    }

    fn say_where_we_are<Q: Queue>(&mut self, port: &mut Port<Q>, index: u32, again: Option<Island>) {
        let block = &self.blocks[index as usize];
        let ack = block.rcv_nxt();
        let window = offer::window_field(block, ack);
        self.stats.challenge_acks += 1;
        let Some(mut frame) = port.take_frame() else { return };
        let control = Control { flags: ACK, seq: block.empty_seq(), ack, window };
        let written = control
            .write(&mut frame, &block.link, &block.key)
            .and_then(|()| self.islands.add(block, ack, again, &mut frame));
        let ends = (block.link, block.key);
        self.send_written(port, frame, (&ends.0, &ends.1), written);
    }
}
