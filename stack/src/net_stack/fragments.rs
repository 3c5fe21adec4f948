//! Fragments in: kept until their packet is whole, which is ingested then as if nobody had cut it.
//!
//! Read first: `reassembly.rs`.

use nic::{Frame, Queue};

use super::NetStack;
use super::arrival::Arrival;
use crate::classify::Class;
use crate::clock::Time;
use crate::datagram::DatagramHandler;
use crate::drop_reason::DropReason;
use crate::port::Port;
use crate::wire::PROTOCOL_UDP;

impl NetStack {
    /// Ingests a fragment, and the segment or datagram that is whole with it. [`DatagramHandler::foresee`] is not told of
    /// such a datagram.
    #[cold]
    #[inline(never)]
    pub(super) fn ingest_fragment<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        frame: Frame,
        class: &Class,
        handler: Option<&mut impl DatagramHandler>,
    ) {
        self.stats.frames += 1;
        // Datagrams that nobody takes keep no room from segments.
        let takes_datagrams = handler.is_some() && !self.config.udp_ports.is_empty();
        let wanted = |protocol| protocol != PROTOCOL_UDP || takes_datagrams;
        let (bytes, of_ipv6) = (frame.bytes(), matches!(class, Class::Fragment6(_)));
        let taken = match class {
            Class::Fragment(fragment) if wanted(fragment.key.protocol) => self.reassembly.take(now, fragment, bytes),
            Class::Fragment6(fragment) if wanted(fragment.protocol) => {
                self.ipv6_reassembly.take_ipv6(now, fragment, bytes)
            }
            _ => Err(DropReason::IpFragment),
        };
        port.free(frame);
        match taken {
            Err(reason) => self.stats.drops.add(reason),
            Ok(None) => self.stats.fragments += 1,
            Ok(Some(mut whole)) => {
                self.ingest_whole(now, port, port_index, whole.frame_mut(), handler);
                if of_ipv6 {
                    self.ipv6_reassembly.give_back(whole);
                } else {
                    self.reassembly.give_back(whole);
                }
            }
        }
        for _ in 0..self.reassembly.take_given_up() + self.ipv6_reassembly.take_given_up() {
            self.stats.drops.add(DropReason::FragmentsIncomplete);
        }
    }

    /// Ingests what has come in fragments. Nobody is told by ICMP of a datagram that came so (RFC 1122 §3.2.2).
    fn ingest_whole<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        frame: &mut [u8],
        handler: Option<&mut impl DatagramHandler>,
    ) {
        let class = match self.local.classify(frame) {
            Class::Drop(DropReason::Ipv6) => self.local.classify_ipv6(&mut self.names, frame),
            class => class,
        };
        match (class, handler) {
            (Class::Tcp(segment), _) => {
                let (hash, segment) = (self.hash.of(&segment.key), &segment);
                let flow = self.find(hash, segment);
                let mut arrival = Arrival { now, port, port_index, frame, segment, hash, hops: 0 };
                match flow {
                    Some(index) => self.ingest_segment_apart(&mut arrival, index),
                    None => self.ingest_unknown(&mut arrival),
                }
            }
            (Class::Udp(datagram), Some(handler)) => match self.admit(&datagram) {
                Ok(()) => self.hand_datagram_over(port, port_index, frame, &datagram, handler),
                Err(reason) => self.stats.drops.add(reason),
            },
            (Class::Drop(reason), _) => self.stats.drops.add(reason),
            // Of no other protocol is a fragment kept.
            _ => self.stats.drops.add(DropReason::IpFragment),
        }
    }
}
