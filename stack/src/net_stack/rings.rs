//! Rings that follow the work: larger ones for a flow that moves much, given back when it no longer does.
//!
//! A flow asks for them when its application has more to send than fits, or when a segment within the window finds no room
//! in its ring. The connection moves as it is (`replay.rs`), at any moment but while there is a hole in what it has
//! received. Its own rings wait in the pool meanwhile. Where rings are short, those go back first that are not needed, and
//! then those that were had longest. Where none are left for a flow that has had none, and one that has some holds them
//! against a peer that takes next to nothing, that connection is reset, the most useless first, one at a time.
//! Read first: `ring_pool.rs`, `offer.rs`, `useless.rs`.

use std::time::Duration;

use smoltcp::socket::tcp::Socket;

use super::NetStack;
use crate::block::{PROMISE_OF_LARGER_RINGS, PROMISE_OF_OWN_RINGS};
use crate::clock::Time;
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::flow_id::FlowId;
use crate::options::SynOptions;
use crate::phase::{Marks, Phase};
use crate::replay::{Record, Replay};
use crate::ring_pool::{Place, RingClass};
use crate::train::LONG_MSS;
use crate::useless::Use;

/// What a flow with small rings may be told that may come, beyond them: as a kernel tells at first.
const SMALL_PROMISE: u32 = 65_535;
/// What one with larger rings may: as much as those of 1 MiB take, and as the largest.
const LARGE_PROMISE: u32 = 1 << 20;
const HUGE_PROMISE: u32 = 4 << 20;

/// How long a flow keeps rings that it does not need, and how long while others ask for rings in vain.
const KEEP: Duration = Duration::from_secs(10);
const KEEP_WHILE_SHORT: Duration = Duration::from_millis(250);
/// How long it keeps rings that it does need while others ask in vain: then it gives them to these at its next quiet moment.
const TERM: Duration = Duration::from_secs(1);
/// How long rings are short after somebody has asked in vain.
const SHORT: Duration = Duration::from_secs(1);

/// Places looked at in a turn.
const LOOKS: usize = 8;

/// In which ring a flow wants more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Transmit,
    Receive,
}

impl NetStack {
    /// Gives the flow larger rings, if there are any, because its application has more to send than has room. Returns
    /// whether it has.
    pub fn enlarge(&mut self, id: FlowId) -> bool {
        self.is_open(id) && self.pool.is_there() && self.enlarge_flow(self.now, id.index, Want::Transmit)
    }

    /// Gives the flow larger rings, if there are any, because more may come than has room.
    pub(super) fn make_room_to_receive(&mut self, index: u32) {
        self.enlarge_flow(self.now, index, Want::Receive);
    }

    /// Says anew what flows are told that may come beyond their rings.
    pub(super) fn update_promises(&mut self) {
        let [medium, large, huge] = RingClass::ALL.map(|class| self.pool.has_free(class));
        let first = if medium || large { SMALL_PROMISE } else { 0 };
        let later = match (large, huge) {
            (true, true) => HUGE_PROMISE,
            (true, false) => LARGE_PROMISE,
            (false, _) => 0,
        };
        self.promises = [first, later];
    }

    /// Takes a place for the flow of larger rings than it has. Nobody gets second ones while others have asked for their
    /// first in vain.
    fn take_place(&mut self, now: Time, index: u32, want: Want) -> Option<Place> {
        let block = &self.blocks[index as usize];
        let place = block.place;
        // Somebody who takes no more than its flow's own ring holds would do no better with a larger one.
        let window = block.sending.lets_out_to(0, block.peer_window);
        let would_use = want == Want::Receive || window as usize > self.config.rings.tx;
        let choices: &[RingClass] = match place.map(|place| place.class) {
            None => &[RingClass::Medium, RingClass::Large],
            Some(RingClass::Medium) if now < self.short.first_until => &[],
            Some(RingClass::Medium) => &[RingClass::Large],
            Some(RingClass::Large) if now >= self.short.until => &[RingClass::Huge],
            Some(_) => return None,
        };
        let taken = choices.iter().find_map(|&class| self.pool.take(class, index));
        if taken.is_none() {
            self.stats.rings_short += 1;
            self.short.until = now.after(SHORT);
            if place.is_none() {
                self.short.first_until = self.short.until;
                if would_use {
                    self.short.missed_until = self.short.until;
                }
            }
        }
        taken
    }

    /// Gives the flow the rings of the next class. Returns whether it has them.
    #[cold]
    #[inline(never)]
    pub(super) fn enlarge_flow(&mut self, now: Time, index: u32, want: Want) -> bool {
        let before = self.blocks[index as usize].place;
        let has_most = before.is_some_and(|place| place.class >= RingClass::Large && want == Want::Transmit);
        if has_most || !self.can_move(index) {
            return false;
        }
        let Some(place) = self.take_place(now, index, want) else { return false };
        let long = self.train.taken && self.blocks[index as usize].link.tag().is_none();
        let moved = self.move_to(now, index, place, long);
        if moved {
            let rings = self.pool.rings(place);
            let block = &mut self.blocks[index as usize];
            (rings.needed_at, rings.taken_at, rings.acknowledged) = (now, now, block.highest_ack);
            (rings.judged_at, rings.judged_from) = (now, block.highest_ack);
            (block.place, block.promise) = (Some(place), PROMISE_OF_LARGER_RINGS);
            if let Some(smaller) = before {
                self.pool.pass_on(smaller, place);
                self.pool.give_back(smaller);
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
    /// through, which none does not, is ended. `long`: it is to be told that its peer takes segments of 64 kB.
    fn move_to(&mut self, now: Time, index: u32, place: Place, long: bool) -> bool {
        let settings = self.socket_settings();
        let block = &mut self.blocks[index as usize];
        let rings = self.pool.rings(place);
        let record = Record {
            key: block.key,
            snd_una: block.highest_ack,
            snd_nxt: block.snd_nxt,
            rcv_base: block.rcv_base,
            last_ack: block.last_ack,
            fin_received: block.marks.contains(Marks::FIN_RECEIVED),
            options: if long { SynOptions { mss: Some(LONG_MSS), ..block.options } } else { block.options },
            window: block.told_window,
            round_trip: block.sending.round_trip(),
        };
        let replay = &mut self.replay;
        let moved = contain(|| {
            let socket = rings.set.get_mut::<Socket>(rings.handle);
            socket.abort();
            let listening = socket.listen(record.key.local_port);
            debug_assert!(listening.is_ok());
            settings.apply(socket);
            replay.take_out(now, &record, &mut block.set, block.handle)
                && replay.put_in(now, &record, &mut rings.set, rings.handle, settings.ack_delay)
        });
        if moved != Some(true) {
            self.stats.rings_failed += 1;
            self.end(index, CloseReason::Contained);
            return false;
        }
        std::mem::swap(&mut block.set, &mut rings.set);
        std::mem::swap(&mut block.handle, &mut rings.handle);
        rings.set.get_mut::<Socket>(rings.handle).abort();
        block.marks.set(Marks::LONG, long);
        if long {
            // It would be two segments of 64 kB that are acknowledged at once: they are, once a turn, as two of any size are.
            block.socket_mut().set_ack_delay(None);
        }
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
        block.marks.remove(Marks::LONG);
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
            let next = self.pool.next_taken();
            if self.pool.is_at_first() {
                self.close_most_useless(now);
            }
            let Some((place, index)) = next else { continue };
            let (own, is_short) = (self.config.rings, now < self.short.until);
            let block = &self.blocks[index as usize];
            let (received, sent) = (block.socket().recv_queue(), block.socket().send_queue());
            let (rx, tx) = place.class.before().map_or((own.rx, own.tx), RingClass::rings);
            let rings = self.pool.rings(place);
            // What fits smaller rings does not need these, however much passes through them.
            if received > rx || sent > tx {
                rings.needed_at = now;
            }
            let keep = if is_short { KEEP_WHILE_SHORT } else { KEEP };
            let is_over = now.since(rings.needed_at) >= keep || is_short && now.since(rings.taken_at) >= TERM;
            // A move begins the time-out anew of what is under way: a flow that is moved to and fro must get on all the same.
            let gets_on = sent == 0 || block.highest_ack != rings.acknowledged;
            // What the application has taken and was not acknowledged yet must have had room in the ring that is left.
            let taken = block.rcv_base.wrapping_sub(block.last_ack) as i32;
            let fits = received + taken.max(0) as usize <= own.rx && sent <= own.tx;
            if is_over && gets_on && fits && self.can_move(index) {
                self.shrink(now, index, place);
            } else if sent > own.tx {
                self.judge_use(now, index, place);
            }
        }
    }

    /// Notes the flow if it is more useless than those looked at before in this round.
    fn judge_use(&mut self, now: Time, index: u32, place: Place) {
        let (block, rings) = (&*self.blocks[index as usize], self.pool.rings(place));
        let taken = block.highest_ack.wrapping_sub(rings.judged_from);
        match Use::of(now.since(rings.judged_at), taken, block.peer_window == 0) {
            Use::Unknown => {}
            Use::Good => (rings.judged_at, rings.judged_from) = (now, block.highest_ack),
            Use::Little(little) => {
                if self.most_useless.is_none_or(|(most, _)| little < most) {
                    self.most_useless = Some((little, FlowId { index, generation: block.generation }));
                }
            }
        }
    }

    /// Has the most useless of the flows with larger rings give way, after all of them were looked at, if there still are
    /// none for a flow that has none and would make use of them.
    fn close_most_useless(&mut self, now: Time) {
        let Some((_, id)) = self.most_useless.take() else { return };
        let short = now < self.short.missed_until
            && !self.pool.has_free(RingClass::Medium)
            && !self.pool.has_free(RingClass::Large);
        if self.blocks.is_asleep(id.index) {
            return;
        }
        let block = &mut *self.blocks[id.index()];
        if short && block.generation == id.generation && block.phase.has_peer() && block.place.is_some() {
            block.marks |= Marks::GIVES_WAY;
            self.touch(id.index);
        }
    }

    /// Moves the connection back into the flow's own rings.
    fn shrink(&mut self, now: Time, index: u32, place: Place) {
        if self.move_to(now, index, place, false) {
            let block = &mut self.blocks[index as usize];
            (block.place, block.promise) = (None, PROMISE_OF_OWN_RINGS);
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
