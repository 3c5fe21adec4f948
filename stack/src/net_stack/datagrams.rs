//! Datagrams in and out: handed to the application as they are ingested, answered at once or in a later turn.
//!
//! Read first: `datagram.rs`.

use nic::{Frame, Queue};

use super::NetStack;
use crate::classify::{Class, Datagram};
use crate::clock::Time;
use crate::datagram::{self, DatagramHandler, DatagramPeer, DatagramReplies, HEADER_BYTES, NoFrame};
use crate::drop_reason::DropReason;
use crate::port::Port;
use crate::reassembly::{Fragment, FragmentKey};
use crate::wire::{IPV4_BYTES, UDP_BYTES};

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

    /// The longest payload of one datagram, in bytes: what the link's MTU leaves.
    pub fn max_datagram_payload(&self) -> usize {
        self.config.ip_mtu - HEADER_BYTES
    }

    /// Whether a datagram is for the application, and why not.
    #[inline]
    pub(super) fn admit(&self, datagram: &Datagram) -> Result<(), DropReason> {
        datagram::admit(datagram, &self.config.udp_ports)
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
        self.stats.datagrams += 1;
        let peer = DatagramPeer::of(datagram, frame.bytes(), port_index);
        let mut replies = DatagramReplies {
            outlet: port.any_outlet(),
            peer: &peer,
            ip_mtu: self.config.ip_mtu,
            stats: &mut self.stats,
        };
        handler.datagram(&peer, datagram.payload(frame.bytes()), &mut replies);
        port.free(frame);
    }

    /// Ingests a fragment, and hands the datagram over that is whole with it. [`DatagramHandler::foresee`] is not told
    /// of such a datagram.
    #[inline(never)]
    pub(super) fn ingest_fragment<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        frame: Frame,
        fragment: &Fragment,
        handler: &mut impl DatagramHandler,
    ) {
        self.stats.frames += 1;
        let at = usize::from(fragment.at) + IPV4_BYTES;
        let part = frame.bytes().get(at..at + usize::from(fragment.len)).unwrap_or_default();
        match self.reassembly.take(now, fragment, part) {
            Err(reason) => self.stats.drops.add(reason),
            Ok(None) => self.stats.fragments += 1,
            Ok(Some(packet)) => {
                let FragmentKey { source, destination, .. } = fragment.key;
                let admitted =
                    self.local.udp(source, destination, packet, usize::from(fragment.at)).and_then(|class| {
                        let Class::Udp(datagram) = class else { return Err(DropReason::IpFragment) };
                        datagram::admit(&datagram, &self.config.udp_ports).map(|()| datagram)
                    });
                match admitted {
                    Err(reason) => self.stats.drops.add(reason),
                    Ok(datagram) => {
                        self.stats.datagrams += 1;
                        let peer = DatagramPeer::of(&datagram, frame.bytes(), port_index);
                        let payload = packet.get(UDP_BYTES..UDP_BYTES + usize::from(datagram.payload_len));
                        let mut replies = DatagramReplies {
                            outlet: port.any_outlet(),
                            peer: &peer,
                            ip_mtu: self.config.ip_mtu,
                            stats: &mut self.stats,
                        };
                        handler.datagram(&peer, payload.unwrap_or_default(), &mut replies);
                    }
                }
            }
        }
        for _ in 0..self.reassembly.take_given_up() {
            self.stats.drops.add(DropReason::FragmentsIncomplete);
        }
        port.free(frame);
    }
}
