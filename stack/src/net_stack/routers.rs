//! Routes that change while flows are open.
//!
//! A flow whose packets were handed to one router and are to be handed to another goes there as soon as that has
//! answered ARP, whether the first still forwards or not, as a kernel's would. The flows are looked at some a turn; those
//! that go by no router, or had no route before, answer where their frames come from, as ever. Read first: `rerouting.rs`.

use super::NetStack;
use super::rerouting::Rerouting;
use crate::clock::Time;
use crate::neighbor::REACHABLE;
use crate::resolve::{FOR_FLOWS, Question};
use crate::routes::Routes;

/// Flows looked at in one turn.
const LOOKS: usize = 64;

impl NetStack {
    /// Hands packets to hosts beyond the link to the routers that `routes` names, from now on. Flows that are open go over
    /// to a router that takes another's place, in the next turns. Allocates nothing.
    pub fn set_routes(&mut self, routes: &Routes) {
        if *routes == self.routes {
            return;
        }
        let before = std::mem::replace(&mut self.routes, routes.clone());
        self.hold_routers();
        let earlier = self.rerouting.take();
        if self.config.arp {
            self.rerouting = Some(Rerouting::new(before, earlier));
        }
    }

    /// Holds the routers of IPv6 that the table names now, and those of the table before no more. Where it names any way of
    /// IPv6, what routers say of themselves is not heeded.
    pub(super) fn hold_routers(&mut self) {
        if !self.names.are_there() {
            return;
        }
        let before = std::mem::take(&mut self.discovery.held);
        let routes = self.routes.clone();
        for gateway in routes.ipv6_gateways() {
            let passing = self.names.see(&gateway);
            let known = self.names.find(&gateway).is_some_and(|name| self.discovery.held.contains(&name));
            // One for which there is no room has no name, and so there is no way by it.
            if !known
                && !self.discovery.held.is_full()
                && let Some(name) = self.hold(passing)
            {
                self.discovery.held.push(name);
            }
        }
        before.iter().for_each(|&name| self.names.release(name));
        let wanted = self.config.router_advertisements && routes.ipv6_gateways().next().is_none();
        for forgotten in self.discovery.set_wanted(wanted) {
            self.names.release(forgotten);
        }
    }

    /// Looks at some of the flows, if the table has changed, or the MTU of the link.
    #[inline]
    pub(super) fn look_at_routes(&mut self, now: Time) {
        if self.rerouting.is_some() {
            self.reroute(now);
        }
        if self.discovery.unheard.is_some() {
            self.tell_of_link_mtu(now);
        }
    }

    /// Has the packets of some of the flows be as long as routers say that they may be. Those that sleep hear of it when they wake.
    #[cold]
    fn tell_of_link_mtu(&mut self, now: Time) {
        let first = self.discovery.unheard.unwrap_or(0);
        let last = first.saturating_add(LOOKS as u32).min(self.blocks.len() as u32);
        for index in first..last {
            if self.blocks.get(index as usize).is_some_and(|block| block.phase.has_peer()) {
                self.heed_link_mtu(now, index);
            }
        }
        self.discovery.unheard = Some(last).filter(|&last| (last as usize) < self.blocks.len());
    }

    #[cold]
    fn reroute(&mut self, now: Time) {
        let Some(mut rerouting) = self.rerouting.take() else { return };
        rerouting.waits = false;
        for _ in 0..LOOKS {
            if rerouting.next >= self.blocks.len() {
                return;
            }
            if !self.reroute_flow(now, rerouting.next as u32, &mut rerouting) {
                break;
            }
            rerouting.next += 1;
        }
        self.rerouting = Some(rerouting);
    }

    /// Has the flow go by its new router. Returns false while that one's answer is waited for.
    fn reroute_flow(&mut self, now: Time, index: u32, rerouting: &mut Rerouting) -> bool {
        let (key, port, link) = match (self.blocks.get(index as usize), self.blocks.sleeper(index)) {
            (Some(block), _) if block.phase.has_peer() => (block.key, block.port, block.link),
            (None, Some(sleeper)) => (sleeper.key(), sleeper.port(), sleeper.link(self.local.mac)),
            _ => return true,
        };
        let remote = self.names.ip(key.remote);
        let (Some(before), Some(hop)) = (rerouting.before_of(index).hop(remote), self.routes.hop(remote)) else {
            return true;
        };
        if before == hop || hop == remote {
            return true;
        }
        let Some(hop) = self.name_if_known(hop) else { return true };
        let known = self.neighbors.get(hop).filter(|known| known.is_confirmed(now, REACHABLE));
        if let Some(known) = known {
            if known.mac != link.peer() && !self.blocks.move_sleeper(index, known.mac) {
                self.move_flow(index, known.mac);
            }
            return true;
        }
        if !self.resolver.is_asking(hop) {
            if rerouting.asked.contains(&hop) || rerouting.asked.is_full() {
                return true;
            }
            rerouting.asked.push(hop);
            // Where too many are asked for, this one is not: its flows stay until they doubt their way.
            if !self.resolver.ask(Question::new(now, hop, key.local, port).tagged(link.tag()), FOR_FLOWS) {
                return true;
            }
        }
        rerouting.waits = true;
        false
    }
}
