//! Active opens that come home: whose answers arrive at the core that has asked.
//!
//! Where a NIC spreads frames, and how, is known to the application at best (`comes_home` of `connect`), and not always
//! right. So it is verified: a SYN-ACK that has come to another core, and to this one as a stray, shows that all that the peer
//! will send is to go that way. The attempt is taken back and made anew from another source port, the application's flow
//! staying what it is, at most [`MOST_TRIES`] times; then it is kept as it is: strays work, though slowly. What came elsewhere
//! is remembered and not tried again (`homes.rs`).
//! Read first: `connect.rs`, `stray_ring.rs`.

use nic::Queue;

use super::NetStack;
use super::arrival::Arrival;
use crate::block::Beginning;
use crate::connect::Connect;
use crate::phase::Phase;
use crate::segment::Control;
use crate::stray::AHEAD_OF_COOKIE;

/// Source ports that one connection gives up. Where each leads home by chance, one of eight cores needs more for two
/// connections of ten thousand; a way there and back is spent on each.
const MOST_TRIES: u8 = 64;

/// The tries of a flow whose application has chosen its source port.
pub(super) const NO_OTHER_PORT: u8 = u8::MAX;

impl NetStack {
    /// Whether a segment has come to another core, which did not know its flow.
    #[inline]
    pub(super) fn is_astray<Q: Queue>(arrival: &Arrival<'_, Q>) -> bool {
        arrival.hops & !AHEAD_OF_COOKIE != 0
    }

    /// The SYN-ACK of a flow that connects has come to another core. Returns whether the flow connects from another source port
    /// now.
    #[cold]
    pub(super) fn connect_again<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) -> bool {
        let now = arrival.now;
        let block = &*self.blocks[index as usize];
        if block.phase != Phase::Connecting {
            return false;
        }
        let (link, port) = (block.link, block.port);
        let (interest, since, tries) = (block.interest, block.state_since, block.tries);
        let (token, generation) = (block.token, block.generation);
        self.stats.connects_elsewhere += 1;
        self.ephemeral.homes.note_elsewhere(now, block.hash);
        let (ends, peer, local) = (self.names.ends(&block.key), block.key.remote, block.key.local);
        let mut connect = Connect::to(ends.peer());
        connect.source = Some(ends.local);
        // A port that is not this core's own may be in use at another.
        let may = tries < MOST_TRIES && self.config.source_port_share.1 > 1;
        let source = if may { self.choose_source(now, &connect, (peer, Some(local)), |_| true).ok() } else { None };
        let Some((key, hash, isn)) = source.map(|source| self.take_source(now, source)) else {
            self.stats.connects_kept_away += 1;
            return false;
        };
        let segment = arrival.segment;
        self.stats.rsts_sent += 1;
        self.send_control(arrival.port, &link, &segment.key, Control::rst_for(segment));
        self.table.remove(self.blocks[index as usize].hash, index);
        self.work.timers += u64::from(self.wheel.cancel(index));
        let (rcv_nxt, peer_window) = (0, 0);
        let phase = Phase::Connecting;
        self.begin_active(now, index, Beginning { phase, key, hash, port, link, token, isn, rcv_nxt, peer_window });
        let block = &mut *self.blocks[index as usize];
        // To the application it is the flow that it was.
        block.generation = generation;
        block.interest = interest;
        block.state_since = since;
        block.tries = tries + 1;
        true
    }
}
