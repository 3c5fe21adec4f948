//! Datagrams in and out: handed to the application as they are ingested, answered at once or in a later turn.
//!
//! Read first: `datagram.rs`.

use nic::{Frame, Queue};

use super::NetStack;
use crate::classify::Datagram;
use crate::datagram::{self, DatagramHandler, DatagramPeer, DatagramReplies, HEADER_BYTES, NoFrame};
use crate::drop_reason::DropReason;
use crate::port::Port;
use crate::wire::LONGER_BYTES;

/// Where there is no application that takes datagrams.
pub(super) enum Nobody {}

impl DatagramHandler for Nobody {
    fn datagram(&mut self, _peer: &DatagramPeer, _payload: &[u8], _replies: &mut DatagramReplies<'_>) {
        match *self {}
    }
}

impl NetStack {
    /// Sends one datagram to the sender of an earlier one, `ports` being those of [`flush`](Self::flush). `write` is
    /// given room of exactly `len` bytes in a TX frame and returns how many it has used; with 0 nothing is sent.
    ///
    /// # Errors
    /// [`NoFrame`], before `write` is called: no TX frame is left, or `len` is above
    /// [`max_datagram_payload`](Self::max_datagram_payload).
    pub fn send_datagram<Q: Queue>(
        &mut self,
        ports: &mut [Port<Q>],
        to: &DatagramPeer,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), NoFrame> {
        let sent = match ports.get_mut(to.port()) {
            Some(port) => datagram::send(&mut port.outlet(), to, self.config.ip_mtu, len, write),
            None => Err(NoFrame),
        };
        datagram::count(&mut self.stats, sent)
    }

    /// The longest payload of one datagram, in bytes: what the link's MTU leaves, to whatever peer there may be.
    pub fn max_datagram_payload(&self) -> usize {
        let longer = if self.names.are_there() { LONGER_BYTES } else { 0 };
        self.config.ip_mtu - HEADER_BYTES - longer
    }

    /// Whether a datagram is for the application, and why not.
    #[inline]
    pub(super) fn admit(&self, datagram: &Datagram) -> Result<(), DropReason> {
        datagram::admit(datagram, &self.config.udp_ports, &self.config.udp_services)
    }

    /// Hands over a datagram that was admitted, and gives its frame back. Not inlined: the loop over frames is that of
    /// segments too.
    #[inline(never)]
    pub(super) fn ingest_datagram<Q: Queue>(
        &mut self,
        port: &mut Port<Q>,
        port_index: usize,
        frame: Frame,
        datagram: &Datagram,
        handler: &mut impl DatagramHandler,
    ) {
        self.stats.frames += 1;
        self.hand_datagram_over(port, port_index, frame.bytes(), datagram, handler);
        port.free(frame);
    }

    /// Hands over the datagram in `frame`, which was admitted.
    #[inline]
    pub(super) fn hand_datagram_over<Q: Queue>(
        &mut self,
        port: &mut Port<Q>,
        port_index: usize,
        frame: &[u8],
        datagram: &Datagram,
        handler: &mut impl DatagramHandler,
    ) {
        self.stats.datagrams += 1;
        let peer = DatagramPeer::of(datagram, frame, port_index, &self.names);
        let mut replies = DatagramReplies {
            outlet: port.any_outlet(),
            peer: &peer,
            ip_mtu: self.config.ip_mtu,
            stats: &mut self.stats,
        };
        handler.datagram(&peer, datagram.payload(frame), &mut replies);
    }
}
