//! `Surroundings`: what the cores are told of the link while they run, its routes and that it has returned, and what they
//! meet there: another station that has an address of the server's.
//!
//! The main thread says and hears it, and each core takes and gives it when it copies its counts, four times a second:
//! nothing is looked at on the packet path. A core that finds the lock taken comes again.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stack::{Mac, NetStack, Routes, Time};

/// What was said last.
#[derive(Debug, Clone, Default)]
struct Said {
    routes: Option<Routes>,
    /// How often the link has returned.
    returns: u64,
}

/// What the cores are told.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Moves after `said` has.
    changes: AtomicU64,
    said: Mutex<Said>,
    /// What a core has met: an address of the server's at another station.
    conflict: Mutex<Option<(IpAddr, Mac)>>,
}

impl Surroundings {
    /// Has packets for other networks go by `routes`.
    pub fn set_routes(&self, routes: Routes) {
        self.change(|said| said.routes = Some(routes));
    }

    /// The link carries frames again.
    pub fn link_returns(&self) {
        self.change(|said| said.returns += 1);
    }

    /// The address of the server's that another station said last that it has, and that station, if any core has heard of
    /// one since this was asked.
    pub fn take_conflict(&self) -> Option<(IpAddr, Mac)> {
        self.conflict.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// Stations of which the log says that they have an address of the server's: whoever makes up more is counted alone.
const STATIONS_SAID: usize = 8;

/// Who else has an address of the server's, each said once.
#[derive(Debug, Default)]
pub(crate) struct Conflicts(Vec<(IpAddr, Mac)>);

impl Conflicts {
    /// Says that the station `mac` has `address`, unless that was said. Returns whether it was not.
    pub(crate) fn say(&mut self, address: IpAddr, mac: Mac) -> bool {
        let new = self.0.len() < STATIONS_SAID && !self.0.contains(&(address, mac));
        if new {
            self.0.push((address, mac));
            tracing::warn!(
                "{address} is also the address of the station {mac}, which says so by ARP or NDP: clients reach now the one and now the other, and neither gives way here; find it (ip neigh, or the switch's table) and give one of the two another address"
            );
        }
        new
    }
}

/// One core's part. Moves to its thread with the worker.
#[derive(Debug, Default)]
pub struct CoreSurroundings {
    of: Arc<Surroundings>,
    taken: u64,
    returns: u64,
    conflict: Option<(IpAddr, Mac)>,
}

impl CoreSurroundings {
    /// Of a core.
    pub fn new(of: &Arc<Surroundings>) -> Self {
        Self { of: of.clone(), ..Self::default() }
    }

    /// Tells `stack` what was said since it was told last, and hears what it has met.
    pub fn exchange(&mut self, now: Time, stack: &mut NetStack) {
        let conflict = stack.conflict();
        if conflict != self.conflict
            && let Ok(mut told) = self.of.conflict.try_lock()
        {
            (*told, self.conflict) = (conflict, conflict);
        }
        let changes = self.of.changes.load(Ordering::Acquire);
        if changes == self.taken {
            return;
        }
        let Ok(said) = self.of.said.try_lock().map(|said| said.clone()) else { return };
        self.taken = changes;
        if let Some(routes) = &said.routes {
            stack.set_routes(routes);
        }
        if std::mem::replace(&mut self.returns, said.returns) != said.returns {
            stack.announce(now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nic::Route;
    use stack::{OwnAddress, Secrets, StackConfig};

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn stack(speaks: bool) -> NetStack {
        let mut config = StackConfig::new(OWN, 24, Mac([2, 0, 0, 0, 0, 1]));
        config.speaks = speaks;
        NetStack::new(config, Secrets::from_bytes([1; 32])).expect("the defaults are good")
    }

    #[test]
    fn every_core_is_told_of_routes_once_and_one_announces_when_the_link_returns() {
        let surroundings = Arc::new(Surroundings::default());
        let mut cores = [true, false].map(|speaks| (CoreSurroundings::new(&surroundings), stack(speaks)));
        let mut take = || {
            cores.each_mut().map(|(core, stack)| {
                core.exchange(Time::ZERO, stack);
                (stack.next_hop(FAR), stack.census().resolving)
            })
        };
        assert_eq!(take(), [(None, 0); 2]);
        let router = Ipv4Addr::new(10, 77, 0, 1);
        surroundings.set_routes(Routes::new([OwnAddress::new(OWN, 24)], [Route::default_by(router)]));
        assert_eq!(take(), [(Some(router.into()), 0); 2]);
        surroundings.link_returns();
        assert_eq!(take(), [(Some(router.into()), 1), (Some(router.into()), 0)]);
    }

    #[test]
    fn a_conflict_is_heard_of_by_the_main_thread_once_and_said_once_a_station() {
        let surroundings = Arc::new(Surroundings::default());
        let (mut core, mut stack) = (CoreSurroundings::new(&surroundings), stack(true));
        core.exchange(Time::ZERO, &mut stack);
        assert_eq!(surroundings.take_conflict(), None);
        let mut conflicts = Conflicts::default();
        let station = |last| Mac([2, 0, 0, 0, 0, last]);
        assert!(
            conflicts.say(OWN.into(), station(9))
                && !conflicts.say(OWN.into(), station(9))
                && conflicts.say(FAR.into(), station(9))
        );
        let said = (10..100).filter(|&last| conflicts.say(OWN.into(), station(last))).count();
        assert_eq!(said, STATIONS_SAID - 2, "whoever makes up stations does not fill the log");
    }
}
