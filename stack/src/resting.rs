//! `RestingFlow`: an established connection on which nothing is under way, in 56 bytes, which with its place in the
//! flow table are 64.
//!
//! A flow sleeps when nothing is in flight and nothing waits in either direction, every byte received is acknowledged, and
//! its application has nothing to hear of it; or has closed it, and the peer, which has acknowledged that, has not
//! (FIN-WAIT-2). What is left of it then is a few numbers, of which `replay.rs` makes it again.
//! What is rounded: how long round trips take, to 0.1 %, and how far the peer may send, up to what a window can say.
//! What is forgotten: the congestion window, which begins anew after idling (RFC 5681 §4.1), how round trips vary, how
//! far segments overtake each other, and a way's own MTU, which all flows to an address share (`path_mtu.rs`).

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::socket::tcp::State;

use crate::block::{Beginning, FlowBlock, SocketSettings};
use crate::clock::{Span, Time};
use crate::flow::FlowLook;
use crate::flow_id::FlowKey;
use crate::link::{LinkHeader, Mac};
use crate::names::Names;
use crate::options::SynOptions;
use crate::phase::{Marks, Phase};
use crate::ready::{Interest, News};
use crate::replay::Record;
use crate::table::TableHash;

/// Microseconds of a unit of `heard`, as a power of two. Its upper bits follow from the present: no silence lasts 2.2 years.
const HEARD_BITS: u32 = 14;

/// What a sleeping flow does not mind: with nothing in flight these say nothing.
const IDLE_MARKS: Marks = Marks::TIME
    .union(Marks::ACTIVE)
    .union(Marks::SENT_AGAIN)
    .union(Marks::REWOUND)
    .union(Marks::SUSPECT)
    .union(Marks::NARROW)
    .union(Marks::TIGHT)
    .union(Marks::IN_DOUBT);

bitflags::bitflags! {
    #[derive(Debug, Clone, Copy)]
    struct Traits: u16 {
        const ACTIVE = 1;
        /// What its application wants to hear of it: [`Interest`], above the first bit.
        const INTEREST = 0b1111 << 1;
        const MSS = 1 << 5;
        const SCALE = 1 << 6;
        const SACK = 1 << 7;
        const TAGGED = 1 << 8;
        const TIGHT = 1 << 9;
        /// Its peer delays its ACKs: what it has not acknowledged is waited for as long.
        const PATIENT = 1 << 10;
        /// In FIN-WAIT-2, of which the application knows no more; the token is when that began.
        const CLOSED = 1 << 11;
    }
}

/// A flow that sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestingFlow {
    /// The application's number for the flow, in halves, which need no more than a word's alignment; or see
    /// [`Traits::CLOSED`].
    token: [u32; 2],
    remote: Ipv4Addr,
    local: Ipv4Addr,
    remote_port: u16,
    local_port: u16,
    pub(crate) generation: u32,
    /// SND.NXT and SND.UNA; RCV.NXT and what was acknowledged last; how far beyond that the peer may send, in units of our
    /// windows.
    snd_nxt: u32,
    rcv_nxt: u32,
    room: u16,
    /// Microseconds of a round trip: see [`rounded`].
    round_trip: u16,
    /// When the peer was last heard, rounded down.
    heard: u32,
    /// The peer's station, and the tag of frames to it, if [`Traits::TAGGED`].
    peer: Mac,
    tag: u16,
    port: u16,
    window: u16,
    /// What the peer's SYN offered.
    mss: u16,
    /// Above [`Traits`]: the window scale.
    traits: Traits,
}

const _: () = assert!(size_of::<RestingFlow>() <= 56, "each idle connection costs it");

/// Bits of the interest in `traits`.
const INTEREST_SHIFT: u32 = 1;

const _: () =
    assert!(Interest::all().bits() as u16 == Traits::INTEREST.bits() >> INTEREST_SHIFT, "all of it comes along");

/// Bits of the window scale in `traits`, and its largest value (RFC 7323 §2.3).
const SCALE_SHIFT: u32 = 12;
const MOST_SCALE: u8 = 14;

/// Bits of a round trip that are kept, below those that say by how many it is shifted.
const MANTISSA_BITS: u32 = 11;
const MANTISSA: u16 = (1 << MANTISSA_BITS) - 1;

/// Microseconds of a round trip, rounded down to 11 bits; what was rounded once stays.
fn rounded(round_trip: Duration) -> u16 {
    let micros = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
    let shift = (u32::BITS - micros.leading_zeros()).saturating_sub(MANTISSA_BITS);
    (shift << MANTISSA_BITS) as u16 | (micros >> shift) as u16
}

impl RestingFlow {
    /// Nobody.
    pub(crate) const NOBODY: Self = Self {
        token: [0; 2],
        remote: Ipv4Addr::UNSPECIFIED,
        local: Ipv4Addr::UNSPECIFIED,
        remote_port: 0,
        local_port: 0,
        generation: 0,
        snd_nxt: 0,
        rcv_nxt: 0,
        room: 0,
        round_trip: 0,
        heard: 0,
        peer: Mac([0; 6]),
        tag: 0,
        port: 0,
        window: 0,
        mss: 0,
        traits: Traits::empty(),
    };

    /// What is left of the flow of `block` if it may sleep at `now`. `own`: our station; `keep_alive`: how often a peer is
    /// asked whether it is there.
    pub(crate) fn of(now: Time, block: &FlowBlock, own: Mac, keep_alive: Span) -> Option<Self> {
        let socket = block.socket();
        let closed = block.phase == Phase::FinWait2 && socket.state() == State::FinWait2;
        let rests = (closed || block.phase == Phase::Open && socket.state() == State::Established)
            && socket.recv_queue() == 0
            && socket.send_queue() == 0
            && block.snd_nxt == block.highest_ack
            && block.last_ack == block.rcv_base
            && block.place.is_none()
            && block.board.is_none()
            && block.want_room == 0
            && block.news == News::empty()
            && block.marks.difference(IDLE_MARKS).is_empty()
            // How often it answers what is not acceptable is limited, and forgotten asleep.
            && block.challenge_at <= now
            // If its peer was asked whether it is there, that has answered.
            && block.probe_at <= block.heard_at.plus(keep_alive);
        let link = LinkHeader::of_flow(block.link.peer(), own, block.link.tag(), &block.key);
        let scale = block.options.window_scale.unwrap_or(0);
        if !rests || link != block.link || block.options.ambiguous || scale > MOST_SCALE {
            return None;
        }
        // Always so little: that is what windows have said.
        let room = u16::try_from(block.edge.wrapping_sub(block.rcv_base).div_ceil(1 << block.scale)).ok()?;
        let mut traits = Traits::empty();
        traits.set(Traits::ACTIVE, block.marks.contains(Marks::ACTIVE));
        traits.set(Traits::TIGHT, block.marks.contains(Marks::TIGHT));
        traits |= Traits::from_bits_retain(u16::from(block.interest.bits()) << INTEREST_SHIFT);
        traits.set(Traits::MSS, block.options.mss.is_some());
        traits.set(Traits::SCALE, block.options.window_scale.is_some());
        traits.set(Traits::SACK, block.options.sack_permitted);
        traits.set(Traits::TAGGED, block.link.tag().is_some());
        traits.set(Traits::PATIENT, block.sending.is_patient());
        traits.set(Traits::CLOSED, closed);
        let token = if closed { block.state_since.as_micros() } else { block.token };
        let traits = Traits::from_bits_retain(traits.bits() | u16::from(scale) << SCALE_SHIFT);
        let FlowKey { remote, local, remote_port, local_port } = block.key;
        Some(Self {
            token: [token as u32, (token >> 32) as u32],
            remote,
            local,
            remote_port,
            local_port,
            generation: block.generation,
            snd_nxt: block.snd_nxt,
            rcv_nxt: block.rcv_base,
            room,
            round_trip: rounded(block.sending.round_trip()),
            heard: (block.heard_at.as_micros() >> HEARD_BITS) as u32,
            peer: block.link.peer(),
            tag: block.link.tag().unwrap_or(0),
            port: block.port,
            window: block.peer_window,
            mss: block.options.mss.unwrap_or(0),
            traits,
        })
    }

    /// Whose it is; [`FlowKey::NONE`]: nobody's.
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey { remote: self.remote, local: self.local, remote_port: self.remote_port, local_port: self.local_port }
    }

    /// When the peer was last heard, or a few milliseconds before.
    pub(crate) fn heard_at(&self, now: Time) -> Time {
        let present = now.as_micros() >> HEARD_BITS;
        let ago = (present as u32).wrapping_sub(self.heard);
        Time::from_micros(present.saturating_sub(u64::from(ago)) << HEARD_BITS)
    }

    /// When the flow came to FIN-WAIT-2, if its application has closed it.
    pub(crate) fn closed_since(&self) -> Option<Time> {
        self.traits.contains(Traits::CLOSED).then(|| Time::from_micros(self.token()))
    }

    /// SND.NXT and RCV.NXT.
    pub(crate) fn sequence(&self) -> (u32, u32) {
        (self.snd_nxt, self.rcv_nxt)
    }

    /// The window field of the peer's newest segment.
    pub(crate) fn window(&self) -> u16 {
        self.window
    }

    fn token(&self) -> u64 {
        u64::from(self.token[0]) | u64::from(self.token[1]) << 32
    }

    fn round_trip(&self) -> Duration {
        let micros = u32::from(self.round_trip & MANTISSA) << (self.round_trip >> MANTISSA_BITS);
        Duration::from_micros(u64::from(micros))
    }

    /// What there is to see of the flow.
    pub(crate) fn look(&self, names: &Names) -> FlowLook {
        let round_trip = self.round_trip();
        FlowLook {
            peer: names.ends(&self.key()).peer(),
            state: "ESTAB",
            unread: 0,
            unsent: 0,
            round_trip: (!round_trip.is_zero()).then_some(round_trip),
        }
    }

    /// The header of frames to the peer's station, from ours, which is `own`.
    pub(crate) fn link(&self, own: Mac) -> LinkHeader {
        let tag = self.traits.contains(Traits::TAGGED).then_some(self.tag);
        LinkHeader::of_flow(self.peer, own, tag, &self.key())
    }

    /// Has frames go to another station.
    pub(crate) fn move_to(&mut self, station: Mac) {
        self.peer = station;
    }

    /// The port by which the flow's frames leave.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Is nobody from now on; the flows of this number were counted up to `generation`.
    pub(crate) fn forget_but(&mut self, generation: u32) {
        *self = Self { generation, ..Self::NOBODY };
    }

    fn options(&self) -> SynOptions {
        SynOptions {
            mss: self.traits.contains(Traits::MSS).then_some(self.mss),
            window_scale: self.traits.contains(Traits::SCALE).then_some((self.traits.bits() >> SCALE_SHIFT) as u8),
            sack_permitted: self.traits.contains(Traits::SACK),
            ambiguous: false,
        }
    }

    /// Makes `block`, which is spare, the flow's again, with a socket that listens, and returns what that socket is to be
    /// told. `scales`: our windows are shifted, if the peer takes that.
    pub(crate) fn begin(
        &self,
        now: Time,
        block: &mut FlowBlock,
        hash: TableHash,
        own: Mac,
        (settings, ip_mtu, scales): (SocketSettings, usize, bool),
    ) -> Record {
        let key = self.key();
        block.listen(key.local_port);
        // As it was: `begin` counts on.
        block.generation = self.generation.wrapping_sub(1);
        let beginning = Beginning {
            phase: Phase::Open,
            key,
            hash: hash.of(&key),
            port: self.port,
            link: self.link(own),
            token: self.token(),
            isn: self.snd_nxt,
            rcv_nxt: self.rcv_nxt,
            peer_window: self.window,
        };
        block.begin(now, beginning, settings);
        block.agree(&self.options(), ip_mtu, scales);
        block.marks.set(Marks::ACTIVE, self.traits.contains(Traits::ACTIVE));
        block.marks.set(Marks::TIGHT, self.traits.contains(Traits::TIGHT));
        // What the link has said of its next hop meanwhile it has not heard.
        block.marks |= Marks::TIME | Marks::IN_DOUBT;
        let interest = self.traits.intersection(Traits::INTEREST).bits() >> INTEREST_SHIFT;
        block.interest = Interest::from_bits_truncate(interest as u8);
        block.heard_at = self.heard_at(now);
        let round_trip = self.round_trip();
        if !round_trip.is_zero() {
            block.sending.measured(round_trip);
        }
        if self.traits.contains(Traits::PATIENT) {
            block.sending.be_patient();
        }
        block.told_window = self.window.min(block.sending.field());
        block.edge = self.rcv_nxt.wrapping_add(u32::from(self.room) << block.scale);
        Record {
            key,
            snd_una: self.snd_nxt,
            snd_nxt: self.snd_nxt,
            rcv_base: self.rcv_nxt,
            last_ack: self.rcv_nxt,
            fin_received: false,
            options: self.options(),
            window: block.told_window,
            round_trip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_kept_to_a_thousandth_and_rounded_once() {
        for micros in [0, 1, 99, 2_047, 2_048, 2_049, 10_001, 123_457, 9_999_999, u32::MAX] {
            let flow = |round_trip| RestingFlow { round_trip, ..RestingFlow::NOBODY }.round_trip();
            let kept = flow(rounded(Duration::from_micros(micros.into())));
            let lost = u128::from(micros) - kept.as_micros();
            assert!(lost * 1_000 <= u128::from(micros), "{micros}: {kept:?}");
            assert_eq!(flow(rounded(kept)), kept);
        }
    }
}
