//! Connections that are handed over: where nobody accepts at a core, those that arrive there are another's.
//!
//! A SYN goes round the other cores as a stray, and the first at which somebody accepts owns the connection from then on. Its
//! later frames are strays too, which that core knows; its answers leave by that core's own queue. So the way is bounded as
//! that of strays is, and counted, and no table is read by two cores. Where somebody accepts at each core, nothing is handed
//! over. Read first: `stray_ring.rs`.

use nic::Queue;

use super::NetStack;
use super::arrival::Arrival;
use crate::drop_reason::DropReason;
use crate::stray::{AHEAD_OF_COOKIE, MOST_HOPS};

impl NetStack {
    /// Whether somebody accepts connections here, as from the start. While nobody does, SYNs are handed over to the core
    /// behind, if there is one.
    pub fn set_worker(&mut self, accepts: bool) {
        self.listener.set_handing_over(!accepts && self.config.peers > 0);
    }

    /// Hands a SYN over to the next core; drops it where it has been all the way round and nobody accepts anywhere, as a full
    /// SYN queue would: it comes again.
    #[cold]
    pub(super) fn hand_over_syn<Q: Queue>(&mut self, arrival: &Arrival<'_, Q>) {
        let hops = arrival.hops & !AHEAD_OF_COOKIE;
        if hops >= self.config.peers.min(MOST_HOPS) {
            return self.stats.drops.add(DropReason::SynQueueFull);
        }
        let reason = self.pass_on(arrival.now, arrival.frame, hops);
        self.stats.handed_over += u64::from(reason == DropReason::Stray);
        self.stats.drops.add(reason);
    }
}
