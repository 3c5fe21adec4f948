//! Names of IPv6 hosts: who holds them, and what is forgotten with them. Read first: `names.rs`.

use std::net::{IpAddr, Ipv4Addr};

use nic::{Frame, Queue};

use super::NetStack;
use super::arrival::Arrival;
use crate::classify::Segment;
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::ipv6::{self, Head};
use crate::link::LinkHeader;
use crate::names::{Names, is_name, is_passing};
use crate::port::Port;
use crate::wire::{IPV4_BYTES, LONGER_BYTES, TCP_BYTES};

impl NetStack {
    /// The name of `address` as the stack's tables have it, if anything is known of it.
    pub(super) fn name_if_known(&self, address: IpAddr) -> Option<Ipv4Addr> {
        match address {
            IpAddr::V4(address) if is_name(address) => None,
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(address) => self.names.find(&address),
        }
    }

    /// The name of `address`, be it that of a passer-by.
    pub(super) fn name(&mut self, address: IpAddr) -> Ipv4Addr {
        match address {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => self.names.see(&address),
        }
    }

    /// Has whom `name` names kept until it is released. Returns the name from then on; `None`: there is no room.
    pub(super) fn hold(&mut self, name: Ipv4Addr) -> Option<Ipv4Addr> {
        let (names, resolver) = (&mut self.names, &self.resolver);
        let held = names.hold(name, |other| resolver.is_asking(other))?;
        self.forget_named(held.forgotten);
        Some(held.name)
    }

    /// The same without holding: kept until its place is needed. A neighbour of which it is certain where it is does not give
    /// way to one.
    pub(super) fn know(&mut self, name: Ipv4Addr) -> Option<Ipv4Addr> {
        let (names, resolver, neighbors) = (&mut self.names, &self.resolver, &self.neighbors);
        let certain = |other| neighbors.get(other).is_some_and(|known| known.was_confirmed());
        let known = names.know(name, |other| resolver.is_asking(other) || certain(other))?;
        self.forget_named(known.forgotten);
        Some(known.name)
    }

    /// A name is another's from now on.
    fn forget_named(&mut self, name: Option<Ipv4Addr>) {
        if let Some(name) = name {
            self.neighbors.forget(name);
            self.hosts.forget(name);
        }
    }

    /// The ends of a flow that begins between those of `segment`, whose hash is `hash`, and their hash: with a name that is
    /// held, if its peer is of IPv6.
    ///
    /// # Errors
    /// There is no room to keep the peer's address.
    #[inline]
    pub(super) fn hold_ends(&mut self, key: FlowKey, hash: u32) -> Result<(FlowKey, u32), DropReason> {
        if key.is_ipv6() { self.hold_ipv6_ends(key) } else { Ok((key, hash)) }
    }

    #[cold]
    fn hold_ipv6_ends(&mut self, key: FlowKey) -> Result<(FlowKey, u32), DropReason> {
        let remote = self.hold(key.remote).ok_or(DropReason::NoStation)?;
        let key = FlowKey { remote, ..key };
        Ok((key, self.hash.of(&key)))
    }

    /// A segment of no flow whose peer was a passer-by when its burst began: an earlier frame of the burst may have made it
    /// more. Returns whether that was so, and the segment has been ingested.
    #[cold]
    pub(super) fn ingest_by_newer_name<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>) -> bool {
        let segment = arrival.segment;
        if !is_passing(segment.key.remote) {
            return false;
        }
        let Some(remote) = self.names.find(&self.names.address(segment.key.remote)) else { return false };
        let renamed = Segment { key: FlowKey { remote, ..segment.key }, ..*segment };
        let hash = self.hash.of(&renamed.key);
        let flow = self.find(hash, &renamed);
        let mut arrival = arrival.with_segment(&renamed);
        arrival.hash = hash;
        match flow {
            Some(index) => self.ingest_segment_apart(&mut arrival, index),
            None => self.ingest_unknown(&mut arrival),
        }
        true
    }

    /// Sends a segment that was written by hand, or nothing if it could not be.
    pub(super) fn send_written<Q: Queue>(
        &self,
        port: &mut Port<Q>,
        mut frame: Frame,
        (link, key): (&LinkHeader, &FlowKey),
        written: Result<(), nic::FrameTooShort>,
    ) {
        match written {
            Ok(()) => {
                self.names.finish(&mut frame, link, key);
                port.send(frame);
            }
            Err(_) => port.return_frame(frame),
        }
    }

    /// The same where smoltcp, which knows of no IPv6 header, would take it to be more.
    pub(super) fn most_if_ipv6(&self, key: &FlowKey) -> Option<usize> {
        key.is_ipv6().then(|| self.most_segment_bytes(key))
    }

    /// Forgets a TIME-WAIT record: a new connection takes its place.
    pub(super) fn forget_time_wait(&mut self, number: u32) {
        let key = self.time_wait.remove(number);
        self.names.release(key.remote);
    }

    /// Bytes of the longest segment that the link takes, of a flow between the ends of `key`.
    pub(super) fn most_segment_bytes(&self, key: &FlowKey) -> usize {
        let said = if key.is_ipv6() { usize::from(self.discovery.mtu()) } else { usize::MAX };
        self.config.ip_mtu.min(said) - headers_of(key)
    }
}

/// Bytes of the headers of a segment between the ends of `key`.
pub(super) fn headers_of(key: &FlowKey) -> usize {
    let longer = if key.is_ipv6() { LONGER_BYTES } else { 0 };
    IPV4_BYTES + TCP_BYTES + longer
}

impl Names {
    /// Makes the segment in `frame`, written behind `link` for the flow `key`, one of IPv6 if that is.
    #[inline]
    pub(super) fn finish(&self, frame: &mut Frame, link: &LinkHeader, key: &FlowKey) {
        if link.is_ipv6() {
            self.finish_ipv6(frame, link, key);
        }
    }

    fn finish_ipv6(&self, frame: &mut Frame, link: &LinkHeader, key: &FlowKey) {
        ipv6::finish_segment(frame.bytes_mut(), link.len(), &Head::of_segment(self, key));
    }
}
