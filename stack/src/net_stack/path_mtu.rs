//! Path MTU discovery: flows whose way takes no packets as long as the link does (RFC 1191, RFC 8201).
//!
//! | what happens | what comes of it |
//! |---|---|
//! | a router says that a packet was too long, and quotes what is in flight | the flow's segments become smaller, and all that is in flight is sent again in them, at once |
//! | it quotes anything else: who writes that has not seen the flow (RFC 5927 §7.2) | nothing |
//! | a flow opens to where another has learned that | its segments are small from the first |
//! | what a flow has sent is lost by two time-outs, its long segments without a word of anybody | its packets have 576 bytes, or IPv6's least of 1,280 (RFC 4821, RFC 8899: a black hole) |
//! | ten minutes have passed, or two seconds and more where nobody has said it | the flow tries the link's length again |
//!
//! smoltcp cuts segments as its interface says. A *narrow* flow is flushed through an interface of its own MTU, made for
//! the visit (30 ns); other flows pay nothing. That what is in flight was lost smoltcp learns as it learns of a time-out.
//! Read first: `path_mtu.rs`, `replay.rs`.

use std::time::Duration;

use nic::Queue;
use smoltcp::iface::{Config, Interface};
use smoltcp::wire::HardwareAddress;

use super::NetStack;
use super::egress::Visit;
use super::naming::headers_of;
use crate::classify::Unreachable;
use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::ipv6::LEAST_MTU;
use crate::one_frame::Scratch;
use crate::path_mtu::{Known, SAFE, believable, believable_ipv6};
use crate::phase::{Marks, Phase};
use crate::port::Port;
use crate::replay::Told;
use crate::wire::{IPV4_BYTES, TCP_BYTES};

/// Headers of segments as smoltcp writes them, of whatever flow.
const HEADERS_OF_SMOLTCP: u16 = (IPV4_BYTES + TCP_BYTES) as u16;

/// For how long what was sent must be lost, from the time that it was first sent again, before its length is suspected.
const LOST: Duration = Duration::from_millis(200);

/// The MTU that every way has between the ends of `key`.
fn safe_mtu(key: &FlowKey) -> u16 {
    if key.is_ipv6() { LEAST_MTU } else { SAFE }
}

impl NetStack {
    /// A router, or the peer, says in `frame` that a segment of ours cannot arrive; `hops` other cores have looked for its
    /// flow. Where it is unknown here it is passed on: a router's address has chosen the queue, not the flow's.
    pub(super) fn ingest_unreachable(&mut self, now: Time, frame: &[u8], message: &Unreachable, hops: u8) {
        let hash = self.hash.of(&message.key);
        let found = self.table.find(hash, |index| self.blocks.has_key(index, &message.key));
        let reason = match found {
            None if hops < self.config.peers => self.pass_on(now, frame, hops),
            None => DropReason::IcmpOther,
            // Nothing of it is in flight.
            Some(index) if self.blocks.is_asleep(index) => match message.code {
                4 => DropReason::IcmpBlind,
                _ => DropReason::IcmpOther,
            },
            Some(index) if message.code == 4 => self.hear_of_length(now, index, message),
            Some(index) => self.hear_of_end(index, message),
        };
        self.stats.drops.add(reason);
    }

    /// Keeps a copy of `frame`, to be offered to the next core. Returns what the frame counts as.
    pub(super) fn pass_on(&mut self, now: Time, frame: &[u8], hops: u8) -> DropReason {
        let kept = self.stray_rate.allows(now) && self.strays.keep(frame, hops + 1);
        self.stats.strays += u64::from(kept);
        if kept { DropReason::Stray } else { DropReason::StrayRate }
    }

    /// It ends a connection under way whose SYN it was (RFC 1122 §4.2.3.9, RFC 5461 §3.2), never an open one, and nothing
    /// that the message does not know the ISN of.
    fn hear_of_end(&mut self, index: u32, message: &Unreachable) -> DropReason {
        let block = &self.blocks[index as usize];
        let under_way = block.phase == Phase::Connecting;
        let syn = under_way && block.snd_nxt != block.highest_ack && message.seq == block.highest_ack;
        if !(syn && message.code <= 15) {
            return DropReason::IcmpOther;
        }
        let no_such_port = matches!(message.code, 2 | 3);
        self.end(index, if no_such_port { CloseReason::Refused } else { CloseReason::Unreachable });
        DropReason::IcmpUnreachable
    }

    /// A segment of the flow was too long for its way.
    fn hear_of_length(&mut self, now: Time, index: u32, message: &Unreachable) -> DropReason {
        let block = &self.blocks[index as usize];
        let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
        let seen = block.phase.has_peer() && message.seq.wrapping_sub(block.highest_ack) < in_flight;
        let believed = if block.key.is_ipv6() { believable_ipv6 } else { believable };
        let Some(mtu) = believed(message.mtu, message.len).filter(|_| seen) else {
            return DropReason::IcmpBlind;
        };
        let remote = block.key.remote;
        if self.narrow(index, mtu) {
            self.stats.path_mtus_lowered += 1;
            self.hosts.path_mtus.learn(now, remote, mtu);
            let block = &mut self.blocks[index as usize];
            block.marks |= Marks::TOO_LONG;
            block.sending.rewind(block.snd_nxt);
            self.touch(index);
        }
        DropReason::IcmpTooLong
    }

    /// Has the flow's packets be no longer than `mtu`. Returns whether they were.
    fn narrow(&mut self, index: u32, mtu: u16) -> bool {
        let block = &mut self.blocks[index as usize];
        let mss = mtu - headers_of(&block.key) as u16;
        let news = mss < block.sending.mss();
        if news {
            block.sending.set_mss(mss);
            block.marks |= Marks::NARROW;
        }
        news
    }

    /// Has the segments of a flow of IPv6 be as long as the link and its way let them be, since what routers say of the link has
    /// changed.
    pub(super) fn heed_link_mtu(&mut self, now: Time, index: u32) {
        let block = &self.blocks[index as usize];
        if !block.key.is_ipv6() {
            return;
        }
        let headers = headers_of(&block.key) as u16;
        let link = block.options.segment_bytes(self.most_segment_bytes(&block.key));
        let mss = match self.hosts.path_mtus.find(now, block.key.remote) {
            Known::Mtu(mtu) => link.min(mtu - headers),
            Known::Nothing | Known::Past => link,
        };
        if !self.narrow(index, mss + headers) {
            self.blocks[index as usize].sending.set_mss(mss);
        }
    }

    /// Has the segments of a flow that opens or wakes be as short as its way wants, as far as that is known.
    #[inline]
    pub(super) fn heed_path_mtu(&mut self, now: Time, index: u32) {
        if self.hosts.path_mtus.has_any()
            && let Known::Mtu(mtu) = self.hosts.path_mtus.find(now, self.blocks[index as usize].key.remote)
        {
            self.narrow(index, mtu);
        }
        if self.discovery.mtu() < u16::MAX {
            self.heed_link_mtu(now, index);
        }
    }

    /// Visits a narrow flow, or one that knows nothing of its MTU, whose peer has completed the handshake.
    #[cold]
    #[inline(never)]
    pub(super) fn visit_narrow<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>], index: u32) -> Visit {
        if self.hosts.path_mtus.has_any() {
            self.look_at_path(now, index);
        }
        let mtu = self.blocks[index as usize].sending.mss() + HEADERS_OF_SMOLTCP;
        let mut config = Config::new(HardwareAddress::Ip);
        // Draws nothing that leaves the machine.
        config.random_seed = 1;
        let mut device = Scratch::new(&[], usize::from(mtu));
        let mut interface = Interface::new(config, &mut device, FlowClock::instant(now));
        interface.set_any_ip(true);
        let block = &mut *self.blocks[index as usize];
        let too_long = block.marks.contains(Marks::TOO_LONG);
        if too_long {
            // What is sent again now is no sign that a timer has run out.
            block.marks.remove(Marks::TOO_LONG);
            block.marks |= Marks::REWOUND;
            if contain(|| self.replay.rewind(&mut interface, FlowClock::instant(now), &mut block.set)).is_none() {
                self.end(index, CloseReason::Contained);
                return Visit::Done;
            }
        }
        std::mem::swap(&mut self.interface, &mut interface);
        let visit = self.visit::<Q, true>(now, ports, index);
        std::mem::swap(&mut self.interface, &mut interface);
        if too_long && matches!(visit, Visit::Done) {
            self.blocks[index as usize].marks.remove(Marks::REWOUND);
        }
        visit
    }

    /// A time-out has passed, and perhaps another: has the flow's segments be short, if that is so.
    #[cold]
    pub(super) fn look_for_hole(&mut self, now: Time, index: u32) {
        let flow_now = FlowClock::instant(now);
        let block = &mut *self.blocks[index as usize];
        let lost = block.marks.contains(Marks::SENT_AGAIN) && block.highest_ack == block.sent_again_from;
        if !lost || !block.phase.has_peer() {
            // What comes next of all that is sent again may be long too.
            if !block.marks.contains(Marks::REWOUND) {
                block.marks.remove(Marks::SUSPECT);
            }
            return;
        }
        let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
        let mss = block.sending.mss();
        let (key, safe) = (block.key, safe_mtu(&block.key));
        let long = mss > safe - headers_of(&key) as u16 && in_flight >= u32::from(mss);
        if !long || block.peer_window == 0 || now.since(block.sent_again_at) < LOST {
            return;
        }
        // Whether the next time-out is now: all is in flight, and no ACK is owed.
        let (interface, set) = (&mut self.interface, &mut block.set);
        let due = contain(|| interface.poll_at(flow_now, set)).flatten().is_some_and(|at| at <= flow_now);
        let acknowledged = block.last_ack == block.rcv_nxt();
        if !(block.marks.contains(Marks::TIMED_OUT) || due && acknowledged) {
            return;
        }
        self.narrow(index, safe);
        self.hosts.path_mtus.suspect(now, key.remote, safe);
        self.stats.path_mtu_holes += 1;
        let block = &mut *self.blocks[index as usize];
        block.marks.remove(Marks::SUSPECT);
        block.sending.timed_out(in_flight, block.snd_nxt);
        let told = Told::of(block);
        contain(|| self.replay.tell(&mut self.interface, flow_now, &mut block.set, told));
    }

    /// Follows what has become known of the flow's way, by its messages or those of others.
    fn look_at_path(&mut self, now: Time, index: u32) {
        let longest = self.most_segment_bytes(&self.blocks[index as usize].key);
        let block = &mut self.blocks[index as usize];
        match self.hosts.path_mtus.find(now, block.key.remote) {
            Known::Mtu(mtu) => {
                self.narrow(index, mtu);
            }
            Known::Past => {
                // What routers say of the link smoltcp does not know.
                if self.discovery.mtu() == u16::MAX {
                    block.marks.remove(Marks::NARROW);
                }
                let longest = block.options.segment_bytes(longest);
                block.sending.set_mss(longest);
            }
            // Others needed the place: the flow goes on as it is.
            Known::Nothing => {}
        }
    }
}
