//! Datagrams to who has not written first: where the next hop is, is looked up, or asked. Read first: `send_to.rs`.

use std::net::IpAddr;

use nic::Queue;

use super::NetStack;
use crate::clock::Time;
use crate::connect::{Connect, ConnectError};
use crate::datagram::{self, DatagramPeer, NoFrame};
use crate::flow_id::Ends;
use crate::link::{ETHERTYPE_IPV4, LinkHeader};
use crate::port::Port;
use crate::send_to::{SendTo, SendToError};

impl NetStack {
    /// Sends one datagram to a peer of the caller's choice, `ports` being those of [`flush`](Self::flush). `write` is given room
    /// of exactly `len` bytes in a TX frame and returns how many it has used; with 0 nothing is sent.
    ///
    /// That it has left is all that is known: whether it arrives, and whether anybody is there, only an answer tells, which comes
    /// as any datagram does, and at whichever core the NIC gives it to. How often it is sent is the caller's to limit
    /// (RFC 8085 §3.1).
    ///
    /// # Errors
    /// [`SendToError`], before `write` is called.
    pub fn send_to<Q: Queue>(
        &mut self,
        now: Time,
        ports: &mut [Port<Q>],
        to: &SendTo,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), SendToError> {
        let peer = self.peer_of(now, to)?;
        let most = self.config.ip_mtu - peer.header_bytes();
        if len > most {
            return Err(SendToError::TooLong { len, most });
        }
        let sent = match ports.get_mut(peer.port()) {
            Some(port) => datagram::send(&mut port.outlet(), &peer, self.config.ip_mtu, len, write),
            None => Err(NoFrame),
        };
        Ok(datagram::count(&mut self.stats, sent)?)
    }

    /// The way to the peer, as an answer has it.
    fn peer_of(&mut self, now: Time, to: &SendTo) -> Result<DatagramPeer, SendToError> {
        let remote = to.remote;
        if to.source_port == 0 {
            return Err(SendToError::SourcePort);
        }
        if !self.may_reach(remote) {
            return Err(ConnectError::Remote { remote }.into());
        }
        let no_route = ConnectError::NoRoute { remote };
        let source = self.source_of(&Connect { source: to.source, ..Connect::to(remote) })?;
        let nearest = match remote.ip() {
            IpAddr::V4(address) => self.local.facing(address),
            IpAddr::V6(_) => None,
        };
        let local = self.names.ip(source.or(nearest).ok_or(no_route)?);
        let hop = self.next_hop(remote.ip()).ok_or(no_route)?;
        let known = || self.neighbors.find(now, self.name_if_known(hop)?);
        let mac = match to.mac.or_else(known) {
            Some(mac) => mac,
            None if self.ask_neighbor(now, hop, to.port) => return Err(SendToError::Asking { hop }),
            None => return Err(ConnectError::TooManyNeighbors.into()),
        };
        let ends = Ends { remote: remote.ip(), local, remote_port: remote.port(), local_port: to.source_port };
        let (own, tag) = (self.local.mac, self.local.tag());
        let link = match remote.ip() {
            IpAddr::V4(_) => LinkHeader::new(mac, own, tag, ETHERTYPE_IPV4),
            IpAddr::V6(_) => LinkHeader::for_ipv6(mac, own, tag),
        };
        Ok(DatagramPeer::new(ends, to.port, link))
    }
}
