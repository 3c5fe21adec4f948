//! Tells the peer of room in a receive ring that was nearly full (RFC 9293 §3.8.6.2.2). Read first: `offer.rs`.
//!
//! smoltcp does so when the window that it told last has doubled: of a closed one it tells each byte that is read, which is
//! held back (`emit.rs`), and later, when there is room for a segment, it says no more. Then it is made to: it answers an
//! octet that came before with where it is.

use nic::Queue;
use smoltcp::socket::tcp::State;

use super::NetStack;
use super::emit::{promise_of, take_reply};
use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::offer;
use crate::one_frame::OneFrame;
use crate::port::Port;
use crate::replay::Told;

impl NetStack {
    /// Has the flow tell its peer of the room in its receive ring, if that is worth it.
    #[cold]
    #[inline(never)]
    pub(super) fn open_window<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) {
        let block = &mut *self.blocks[index as usize];
        let socket = block.socket();
        let room = (socket.recv_capacity() - socket.recv_queue()).min(usize::from(u16::MAX) << block.ring_scale);
        let receives = matches!(socket.state(), State::Established | State::FinWait1 | State::FinWait2);
        let (ack, promise) = (block.rcv_nxt(), promise_of(block, self.promises));
        if !receives
            || !offer::is_nearly_closed(block, ack)
            || !offer::opens(block, ack, room as u32, promise)
            || !port.has_room()
            || !port.can_answer()
        {
            return;
        }
        let told = Told::of(block);
        let packet = self.replay.old_octet(told);
        let mut device = OneFrame::new(Some(packet), port.reserve(), &block.link, self.config.ip_mtu);
        let (interface, set) = (&mut self.interface, &mut block.set);
        let outcome = contain(|| interface.poll_ingress_single(FlowClock::instant(now), &mut device, set));
        let reply = device.into_reply();
        self.work.sets += 1;
        take_reply(block, port, reply, self.promises, (&mut self.islands, &self.names));
        if outcome.is_none() {
            self.end(index, CloseReason::Contained);
        }
    }
}
