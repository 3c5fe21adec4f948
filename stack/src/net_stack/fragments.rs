//! Fragments in: kept until their packet is whole, which is ingested then as if nobody had cut it. The sender of one that is not
//! whole in time is told (RFC 8200 §4.5, RFC 1122 §3.3.2).
//!
//! Read first: `reassembly.rs`.

use nic::{Frame, FrameTooShort, Queue};

use super::NetStack;
use super::arrival::Arrival;
use super::ndp::send_if;
use crate::classify::Class;
use crate::clock::Time;
use crate::datagram::DatagramHandler;
use crate::drop_reason::DropReason;
use crate::icmp;
use crate::icmpv6::{self, Complaint};
use crate::link;
use crate::names;
use crate::port::Port;
use crate::wire::{IPV6_BYTES, PROTOCOL_UDP};

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
        self.give_up_fragments(now, port);
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
        self.note_fragments();
    }

    /// Looks whether the time of packets that are half there is over.
    #[inline]
    pub(super) fn tend_fragments<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        if self.fragments_due <= now
            && let Some(port) = ports.first_mut()
        {
            self.give_up_fragments(now, port);
        }
    }

    /// Counts the packets that were given up, and notes when the time of others is over.
    fn note_fragments(&mut self) {
        for _ in 0..self.reassembly.take_given_up() + self.ipv6_reassembly.take_given_up() {
            self.stats.drops.add(DropReason::FragmentsIncomplete);
        }
        let next = [self.reassembly.next_deadline(), self.ipv6_reassembly.next_deadline()];
        self.fragments_due = next.into_iter().flatten().min().unwrap_or(Time::NEVER);
    }

    /// Gives up packets whose time is over, and tells their senders so by `port`, at a limited rate.
    #[cold]
    #[inline(never)]
    fn give_up_fragments<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>) {
        while let Some(first) = self.reassembly.expire(now) {
            let most = first.len().min(link::packet_at(first) + icmp::QUOTED_BYTES);
            let (sender, at) = icmp::sender(first);
            let may = most > at && self.problem_limit.allows(now, sender.to_bits().into());
            if may && tell(port, &first[..most], |frame| icmp::answer(frame, at, icmp::NOT_WHOLE)) {
                self.stats.fragments_told += 1;
            }
        }
        while let Some(first) = self.ipv6_reassembly.expire(now) {
            let at = link::packet_at(first);
            let most = first.len().min(at + IPV6_BYTES + icmpv6::QUOTED_BYTES);
            let payer = names::payer_of(&icmpv6::sender(first, at));
            let may = most > at && self.problem_limit.allows(now, payer);
            if may && tell(port, &first[..most], |frame| icmpv6::complain(frame, at, Complaint::NOT_WHOLE)) {
                self.stats.fragments_told += 1;
            }
        }
        self.note_fragments();
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

/// Sends what `answer` makes of a copy of `asked`. Returns whether it was sent.
fn tell<Q: Queue>(
    port: &mut Port<Q>,
    asked: &[u8],
    answer: impl FnOnce(&mut Frame) -> Result<(), FrameTooShort>,
) -> bool {
    let Some(mut frame) = port.take_frame() else { return false };
    let written = frame.resize(asked.len()).and_then(|()| {
        frame.bytes_mut().copy_from_slice(asked);
        answer(&mut frame)
    });
    send_if(port, frame, written)
}
