//! Rings that follow the work: larger ones for a flow that moves much, given back when it no longer does.
//!
//! A flow asks for them when its application has more to send than fits, or when a segment within the window finds no room
//! in its ring. The connection moves as it is (`replay.rs`), at any moment but while there is a hole in what it has
//! received. Its own rings wait in the pool meanwhile. Read first: `ring_pool.rs`, `offer.rs`.

use std::time::Duration;

use smoltcp::socket::tcp::Socket;

use super::NetStack;
use crate::clock::Time;
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::flow_id::FlowId;
use crate::phase::{Marks, Phase};
use crate::replay::{Record, Replay};
use crate::ring_pool::{Class, Place};

/// What a flow with small rings may be told that may come, beyond them: as a kernel tells at first.
const SMALL_PROMISE: u32 = 65_535;
/// What one with larger rings may: as much as the largest take.
const LARGE_PROMISE: u32 = 1 << 20;

/// A flow that has moved less than this each way since it was looked at has no use for large rings.
const MUCH_BYTES: u32 = 32_768;
/// How long it keeps them all the same, and how long while others ask for rings in vain.
const KEEP: Duration = Duration::from_secs(10);
const KEEP_WHILE_SHORT: Duration = Duration::from_millis(250);
/// How long rings are short after somebody has asked in vain.
const SHORT: Duration = Duration::from_secs(1);

/// Places looked at in a turn.
const LOOKS: usize = 8;

impl NetStack {
    /// Gives the flow larger rings, if there are any, because its application has more to send than has room. Returns
    /// whether it has.
    pub fn enlarge(&mut self, id: FlowId) -> bool {
        self.is_open(id) && self.pool.is_there() && self.enlarge_flow(self.now, id.index)
    }

    /// Says anew what flows are told that may come beyond their rings.
    pub(super) fn update_promises(&mut self) {
        let (medium, large) = (self.pool.has_free(Class::Medium), self.pool.has_free(Class::Large));
        self.promises = [if medium { SMALL_PROMISE } else { 0 }, if large { LARGE_PROMISE } else { 0 }];
    }

    /// Gives the flow the rings of the next class. Returns whether it has them.
    #[cold]
    #[inline(never)]
    pub(super) fn enlarge_flow(&mut self, now: Time, index: u32) -> bool {
        let class = match self.blocks[index as usize].place {
            None => Class::Medium,
            Some(Place { class: Class::Medium, .. }) => Class::Large,
            Some(_) => return false,
        };
        if !self.can_move(index) {
            return false;
        }
        let Some(place) = self.pool.take(class, index) else {
            self.short_until = now.after(SHORT);
            self.stats.rings_short += 1;
            return false;
        };
        let before = self.blocks[index as usize].place;
        let moved = self.move_to(now, index, place);
        if moved {
            let block = &mut self.blocks[index as usize];
            let rings = self.pool.rings(place);
            (rings.sent, rings.received, rings.at) = (block.snd_nxt, block.rcv_nxt(), now);
            block.place = Some(place);
            if let Some(medium) = before {
                // The flow's own rings pass from the one place to the other.
                let (medium_rings, large_rings) = self.pool.both(medium, place);
                std::mem::swap(&mut medium_rings.set, &mut large_rings.set);
                std::mem::swap(&mut medium_rings.handle, &mut large_rings.handle);
                self.pool.give_back(medium);
            }
            self.stats.rings_enlarged += 1;
        } else {
            self.pool.give_back(place);
        }
        self.update_promises();
        moved
    }

    /// Whether the connection can be moved at present.
    fn can_move(&mut self, index: u32) -> bool {
        let block = &mut self.blocks[index as usize];
        if block.marks.contains(Marks::ISLANDS) && (block.rcv_nxt().wrapping_sub(block.island_end) as i32) >= 0 {
            block.marks.remove(Marks::ISLANDS);
        }
        block.phase == Phase::Open && !block.marks.contains(Marks::ISLANDS) && Replay::can_take(block.socket())
    }

    /// Moves the connection into the socket at `place`, and the socket that it had to there. A connection that does not come
    /// through, which none does not, is ended.
    fn move_to(&mut self, now: Time, index: u32, place: Place) -> bool {
        let knobs = self.knobs();
        let block = &mut self.blocks[index as usize];
        let rings = self.pool.rings(place);
        let record = Record {
            key: block.key,
            snd_una: block.highest_ack,
            snd_nxt: block.snd_nxt,
            rcv_base: block.rcv_base,
            last_ack: block.last_ack,
            fin_received: block.marks.contains(Marks::FIN_RECEIVED),
            options: block.options,
            window: block.told_window,
            round_trip: block.sending.round_trip(),
        };
        let replay = &mut self.replay;
        let moved = contain(|| {
            let socket = rings.set.get_mut::<Socket>(rings.handle);
            socket.abort();
            let listening = socket.listen(record.key.local_port);
            debug_assert!(listening.is_ok());
            knobs.apply(socket);
            replay.take_out(now, &record, &mut block.set, block.handle)
                && replay.put_in(now, &record, &mut rings.set, rings.handle, knobs.ack_delay)
        });
        if moved != Some(true) {
            self.stats.rings_failed += 1;
            self.end(index, CloseReason::Contained);
            return false;
        }
        std::mem::swap(&mut block.set, &mut rings.set);
        std::mem::swap(&mut block.handle, &mut rings.handle);
        rings.set.get_mut::<Socket>(rings.handle).abort();
        let capacity = block.socket().recv_capacity();
        let scaled = block.options.window_scale.is_some();
        block.ring_scale = if scaled { (usize::BITS - capacity.leading_zeros()).saturating_sub(16) as u8 } else { 0 };
        let most = capacity.min(usize::from(u16::MAX) << block.ring_scale) as u32;
        let most = if block.ring_scale == 0 { most } else { most - (1 << block.ring_scale) };
        let from =
            if (block.last_ack.wrapping_sub(block.rcv_base) as i32) < 0 { block.last_ack } else { block.rcv_base };
        let ring_edge = from.wrapping_add(most);
        block.ring_edge = if (block.edge.wrapping_sub(ring_edge) as i32) < 0 { block.edge } else { ring_edge };
        self.touch(index);
        true
    }

    /// Takes the flow's larger rings away, the flow being over or its socket of no more use.
    pub(super) fn take_rings_away(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        let Some(place) = block.place.take() else { return };
        let rings = self.pool.rings(place);
        std::mem::swap(&mut block.set, &mut rings.set);
        std::mem::swap(&mut block.handle, &mut rings.handle);
        rings.set.get_mut::<Socket>(rings.handle).abort();
        self.pool.give_back(place);
        self.update_promises();
    }

    /// Looks at some of the flows that have larger rings, and takes these from those that have moved little for long.
    #[inline]
    pub(super) fn look_at_rings(&mut self, now: Time) {
        if self.pool.taken() > 0 {
            self.look_at_some(now);
        }
    }

    #[cold]
    fn look_at_some(&mut self, now: Time) {
        for _ in 0..LOOKS {
            let Some((place, index)) = self.pool.next_taken() else { continue };
            let keep = if now < self.short_until { KEEP_WHILE_SHORT } else { KEEP };
            let block = &self.blocks[index as usize];
            let (sent, received) = (block.snd_nxt, block.rcv_nxt());
            let holds = block.socket().recv_queue() > 0 || block.socket().send_queue() > 0;
            let rings = self.pool.rings(place);
            let moved = sent.wrapping_sub(rings.sent).max(received.wrapping_sub(rings.received));
            if moved > MUCH_BYTES {
                (rings.sent, rings.received, rings.at) = (sent, received, now);
            } else if !holds && now.since(rings.at) >= keep && self.can_move(index) {
                self.shrink(now, index, place);
            }
        }
    }

    /// Moves the connection back into the flow's own rings.
    fn shrink(&mut self, now: Time, index: u32, place: Place) {
        if self.move_to(now, index, place) {
            self.blocks[index as usize].place = None;
            self.pool.give_back(place);
            self.stats.rings_reduced += 1;
            self.update_promises();
        }
    }

    /// Bytes of the rings that flows have beyond their own, and the most that there are.
    pub fn ring_bytes(&self) -> (usize, usize) {
        (self.pool.bytes_taken(), self.pool.bytes())
    }
}
