//! `Hosts`: what a core's flows have learned of hosts for those that come after them.

use std::net::Ipv4Addr;

use crate::delayed_acks::DelayedAcks;
use crate::path_mtu::PathMtus;

/// What is known of hosts beside where they are.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) path_mtus: PathMtus,
    pub(crate) delayed_acks: DelayedAcks,
}

impl Hosts {
    /// Nothing known. `secret`: see [`ByAddress::new`](crate::by_address::ByAddress::new).
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        Self { path_mtus: PathMtus::new(secret), delayed_acks: DelayedAcks::new(secret) }
    }

    /// Forgets a host: its address is another's from now on.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) {
        self.path_mtus.forget(address);
        self.delayed_acks.forget(address);
    }
}
