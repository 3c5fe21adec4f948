//! Peers that say nothing are asked where they are: one that may have room for what waits, one that may be there no more.

use std::time::Duration;

use nic::Queue;
use smoltcp::socket::tcp::State;

use super::NetStack;
use crate::clock::{Span, Time};
use crate::offer;
use crate::phase::Marks;
use crate::port::Port;
use crate::segment::Control;
use crate::wire::ACK;

/// Between two probes of a peer that might have room for what waits; the flow is given up when none is answered.
const PROBE_GAP: Duration = Duration::from_millis(500);

impl NetStack {
    /// Asks the peer where it is when its time has come. Returns when that is next. The probe is one octet
    /// before the window (RFC 9293 §3.8.4), and empty: the peer answers it and takes nothing.
    pub(super) fn probe<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) -> Time {
        let block = &mut self.blocks[index as usize];
        let gap = Span::of(PROBE_GAP).min(self.deadlines.closed_window());
        // It may have been asked whether it is there, long ago or just now, and not be asked again for long.
        block.probe_at = block.probe_at.min(now.plus(gap));
        if now < block.probe_at {
            return block.probe_at;
        }
        let late = now.since(block.probe_at);
        block.probe_at = now.plus(gap);
        if late > PROBE_GAP {
            // The flow was not mute for a while: what it waits for may come with the peer's next segment.
            return block.probe_at;
        }
        let ack = block.rcv_nxt();
        let window = offer::window_field(block, ack);
        let (link, key, seq) = (block.link, block.key, block.highest_ack.wrapping_sub(1));
        self.stats.probes += 1;
        self.send_control(port, &link, &key, Control { flags: ACK, seq, ack, window });
        now.plus(gap)
    }

    /// Asks the peer of a flow on which nothing is under way, or which waits for a closed window to open, whether it is there,
    /// when nothing was heard of it for the interval that is set (RFC 9293 §3.8.4). Returns when that is next.
    pub(super) fn keep_alive<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, index: u32) -> Time {
        let block = &mut *self.blocks[index as usize];
        let socket = block.socket();
        let (state, waits) = (socket.state(), socket.send_queue() > 0);
        let rests = matches!(state, State::Established | State::CloseWait | State::FinWait2)
            && !waits
            && block.snd_nxt == block.highest_ack;
        let interval = if rests {
            self.deadlines.keep_alive()
        } else if waits && block.peer_window == 0 && block.phase.has_peer() {
            self.deadlines.closed_window()
        } else {
            return Time::NEVER;
        };
        let due = block.heard_at.plus(interval).max(block.probe_at);
        if now < due {
            return due;
        }
        block.probe_at = now.plus(interval);
        // The way to a silent peer is in doubt, as when something is sent again.
        block.marks |= Marks::DOUBTED;
        let ack = block.rcv_nxt();
        let window = offer::window_field(block, ack);
        let control = Control { flags: ACK, seq: block.highest_ack.wrapping_sub(1), ack, window };
        let (link, key, next) = (block.link, block.key, block.probe_at);
        if let Some(mut frame) = port.take_frame() {
            let written = control.write_keep_alive(&mut frame, &link, &key);
            self.send_written(port, frame, (&link, &key), written);
        }
        next
    }
}
