//! Segments behind holes. Islands beyond those that smoltcp keeps are kept beside the flow, and given to smoltcp when it is
//! their turn.
//! Read first: `stash.rs`, `sack.rs`.

use nic::Queue;

use super::NetStack;
use super::arrival::Arrival;
use crate::clock::FlowClock;
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::drop_reason::DropReason;
use crate::phase::Marks;
use crate::replay::Told;
use crate::wire::{FIN, IPV4_BYTES};

impl NetStack {
    /// A segment behind a hole. smoltcp answers it at once, unless it has no place left to note an island in: then the
    /// peer is told all the same that something is missing (RFC 5681 §4.2).
    pub(super) fn take_in_behind_hole<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let segment = arrival.segment;
        let end = segment.seq.wrapping_add(u32::from(segment.payload_len));
        let block = &mut self.blocks[index as usize];
        if !block.marks.contains(Marks::ISLANDS) || (end.wrapping_sub(block.island_end) as i32) > 0 {
            block.island_end = end;
        }
        // What smoltcp answers is no news of room, and must be said.
        block.marks.remove(Marks::TIGHT);
        block.marks |= Marks::ISLANDS;
        self.islands.note_arrival(block, (segment.seq, end));
        let lined_up = arrival.port.unsent();
        self.take_in(arrival, index);
        if arrival.port.unsent() == lined_up && self.blocks[index as usize].phase.is_alive() {
            // It was counted as one that smoltcp has taken.
            if !self.keep_beside(arrival, index) {
                self.stats.segments -= 1;
                self.stats.drops.add(DropReason::NoIsland);
            }
            self.acknowledge(arrival.port, index);
        }
    }

    /// Keeps a segment behind a hole for which smoltcp has no place. Returns whether there was room.
    fn keep_beside<Q: Queue>(&mut self, arrival: &Arrival<'_, Q>, index: u32) -> bool {
        let block = &*self.blocks[index as usize];
        let segment = arrival.segment;
        // A FIN comes again, with what it has before it.
        let packet = if segment.has(FIN) { None } else { Some(segment.packet(arrival.frame)) };
        let data = packet.and_then(|packet| packet.get(IPV4_BYTES + usize::from(segment.header_len)..));
        let island = data.and_then(|data| self.stash.keep((index, block.generation), segment.seq, data));
        if let Some(island) = island {
            self.islands.note(block, island);
        }
        island.is_some()
    }

    /// Gives smoltcp what was kept of a flow and follows what it has, and tells the peer.
    #[cold]
    #[inline(never)]
    pub(super) fn take_from_beside<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let flow_now = FlowClock::instant(arrival.now);
        let mut moved = false;
        while self.blocks.get(index as usize).is_some_and(|block| block.phase.is_alive()) {
            let block = &mut *self.blocks[index as usize];
            let queued = block.socket().recv_queue();
            let Some(data) = self.stash.take((index, block.generation), block.rcv_nxt()) else { break };
            let (interface, replay, told) = (&mut self.interface, &mut self.replay, Told::of(block));
            if contain(|| replay.give(interface, flow_now, &mut block.set, told, data)).is_none() {
                return self.end(index, CloseReason::Contained);
            }
            if block.socket().recv_queue() == queued {
                break;
            }
            moved = true;
        }
        if moved {
            self.acknowledge(arrival.port, index);
            let block = &mut *self.blocks[index as usize];
            block.last_ack = block.rcv_nxt();
        }
    }
}
