//! `Surroundings`: what the cores are told of the link while they run: its routes, and that it has returned.
//!
//! The main thread says it, and each core takes it when it copies its counts, four times a second: nothing is looked at on
//! the packet path. A core that finds the lock taken comes again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stack::{NetStack, Routes, Time};

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

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// One core's part. Moves to its thread with the worker.
#[derive(Debug, Default)]
pub struct CoreSurroundings {
    of: Arc<Surroundings>,
    taken: u64,
    returns: u64,
    /// Whether this core tells the link's neighbours where the server is.
    announces: bool,
}

impl CoreSurroundings {
    /// Of a core that `announces` the server's addresses when the link returns, or of one that leaves it to another.
    pub fn new(of: &Arc<Surroundings>, announces: bool) -> Self {
        Self { of: of.clone(), announces, ..Self::default() }
    }

    /// Tells `stack` what was said since it was told last.
    pub fn take(&mut self, now: Time, stack: &mut NetStack) {
        let changes = self.of.changes.load(Ordering::Acquire);
        if changes == self.taken {
            return;
        }
        let Ok(said) = self.of.said.try_lock().map(|said| said.clone()) else { return };
        self.taken = changes;
        if let Some(routes) = &said.routes {
            stack.set_routes(routes);
        }
        if std::mem::replace(&mut self.returns, said.returns) != said.returns && self.announces {
            stack.announce(now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nic::Route;
    use stack::{Mac, Secrets, StackConfig};

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn stack() -> NetStack {
        let config = StackConfig::new(OWN, 24, Mac([2, 0, 0, 0, 0, 1]));
        NetStack::new(config, Secrets::from_bytes([1; 32])).expect("the defaults are good")
    }

    #[test]
    fn every_core_is_told_of_routes_once_and_one_announces_when_the_link_returns() {
        let surroundings = Arc::new(Surroundings::default());
        let mut cores = [true, false].map(|announces| (CoreSurroundings::new(&surroundings, announces), stack()));
        let mut take = || {
            cores.each_mut().map(|(core, stack)| {
                core.take(Time::ZERO, stack);
                (stack.next_hop(FAR), stack.census().resolving)
            })
        };
        assert_eq!(take(), [(None, 0); 2]);
        let router = Ipv4Addr::new(10, 77, 0, 1);
        surroundings.set_routes(Routes::new(OWN, 24, [Route::default_by(router)]));
        assert_eq!(take(), [(Some(router), 0); 2]);
        surroundings.link_returns();
        assert_eq!(take(), [(Some(router), 1), (Some(router), 0)]);
    }
}
