//! What a frame is that carries IPv6: the same classes, with names for addresses.
//!
//! Whoever is named here is a passer-by unless the stack keeps something of them (`names.rs`).
//! Read first: `headers.rs`; RFC 8200, RFC 4443, RFC 4861 §7.1, RFC 6980.

use std::net::{Ipv4Addr, Ipv6Addr};

use nic::checksum;

use super::headers::{Fault, Packet, Upper};
use super::{Class, Datagram, LONG, Local, Message, Segment, Unreachable};
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::link::{ETHERNET_BYTES, TAGGED_BYTES};
use crate::names::{self, Names};
use crate::own_addresses::{ALL_NODES, Standing, is_link_local};
use crate::wire::{IPV4_BYTES, IPV6_BYTES, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TCP_BYTES, UDP_BYTES};

/// Messages of ICMPv6 (RFC 4443, RFC 4861, RFC 2710).
pub(crate) const UNREACHABLE: u8 = 1;
pub(crate) const TOO_BIG: u8 = 2;
pub(crate) const TIME_EXCEEDED: u8 = 3;
pub(crate) const PARAMETER_PROBLEM: u8 = 4;
pub(crate) const ECHO_REQUEST: u8 = 128;
pub(crate) const GROUP_QUERY: u8 = 130;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// Hop limit of what no router has handed on (RFC 4861 §7.1.1).
pub(crate) const UNROUTED: u8 = 255;

impl Local {
    /// Says what `frame` is, whose EtherType is that of IPv6.
    #[inline(never)]
    pub(crate) fn classify_ipv6(&self, names: &mut Names, frame: &[u8]) -> Class {
        if !names.are_there() {
            return Class::Drop(DropReason::Ipv6);
        }
        let tagged = frame.get(12..14) == Some(&[0x81, 0]);
        let class = if tagged { self.tagged_ipv6(names, frame) } else { self.ipv6(names, frame, ETHERNET_BYTES) };
        class.unwrap_or_else(Class::Drop)
    }

    #[cold]
    #[inline(never)]
    fn tagged_ipv6(&self, names: &mut Names, frame: &[u8]) -> Result<Class, DropReason> {
        self.ipv6(names, frame, TAGGED_BYTES)
    }

    #[inline(always)]
    fn ipv6(&self, names: &mut Names, frame: &[u8], at: usize) -> Result<Class, DropReason> {
        let header = frame.get(at..).and_then(|rest| rest.first_chunk::<IPV6_BYTES>());
        let header = header.ok_or(DropReason::Ip6TooShort)?;
        if header[0] >> 4 != 6 {
            return Err(DropReason::Ip6Version);
        }
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let end = at + IPV6_BYTES + payload_len;
        if payload_len == 0 {
            // Whatever follows would have its length in an option (RFC 2675 §3).
            return Err(DropReason::Ip6Jumbo);
        }
        if end > frame.len() {
            return Err(DropReason::Ip6TooShort);
        }
        let [source, destination] = [8, 24].map(|from| address_at(header, from));
        let own = names.own.position(&destination);
        let ours = frame[..6] == self.mac.0;
        if !ours && frame[..2] != [0x33, 0x33] {
            return Err(DropReason::OtherStation);
        }
        let packet = Packet { frame, at, end, source, destination, hop_limit: header[7], own, to_us: ours };
        let upper = match packet.pass_over_headers(header[6]) {
            Ok(Upper::Header(header)) if header.protocol == PROTOCOL_ICMPV6 => {
                return self.icmpv6(names, packet, header.from, header.cut);
            }
            Ok(upper) => upper,
            Err(fault) => return packet.refuse(names, fault),
        };
        // A segment is to one host, at its station.
        let number = own.filter(|&number| names.own.standing(number) == Standing::Assigned);
        let number = number.ok_or(DropReason::Ip6NotOurs)?;
        if !ours {
            return Err(DropReason::OtherStation);
        }
        packet.check_source(names)?;
        let local = names::of_own(number);
        match upper {
            Upper::Header(header) => match header.protocol {
                PROTOCOL_TCP => self.tcp_over_ipv6(names, &packet, local, header.from),
                PROTOCOL_UDP => self.udp_over_ipv6(names, packet, local, header.from),
                _ => packet.refuse(names, Fault::of_protocol(&header)),
            },
            Upper::Fragment(fragment) => Ok(Class::Fragment6(fragment)),
        }
    }

    #[inline(always)]
    fn tcp_over_ipv6(
        &self,
        names: &mut Names,
        packet: &Packet<'_>,
        local: Ipv4Addr,
        from: usize,
    ) -> Result<Class, DropReason> {
        let segment = &packet.frame[from..packet.end];
        let header = segment.first_chunk::<TCP_BYTES>().ok_or(DropReason::TcpTooShort)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < TCP_BYTES || header_len > segment.len() {
            return Err(DropReason::TcpTooShort);
        }
        let is_left = || self.is_left_to_offload_over_ipv6(packet, PROTOCOL_TCP, 16, segment);
        let long_and_left = segment.len() >= LONG && self.takes_partial && is_left();
        if !long_and_left && !checksum::is_right(packet.sum(PROTOCOL_TCP, from, segment)) && !is_left() {
            return Err(DropReason::TcpChecksum);
        }
        let place = (from - IPV4_BYTES, IPV4_BYTES + segment.len(), header_len);
        let remote = names.see(&packet.source);
        Segment::read(header, (remote, local), place).map(Class::Tcp)
    }

    fn udp_over_ipv6(
        &self,
        names: &mut Names,
        packet: Packet<'_>,
        local: Ipv4Addr,
        from: usize,
    ) -> Result<Class, DropReason> {
        let datagram = &packet.frame[from..packet.end];
        let header = datagram.first_chunk::<UDP_BYTES>().ok_or(DropReason::UdpLength)?;
        let len = u16::from_be_bytes([header[4], header[5]]);
        let Some(datagram) = datagram.get(..usize::from(len)).filter(|d| d.len() >= UDP_BYTES) else {
            return Err(DropReason::UdpLength);
        };
        // Unlike over IPv4 there must be one (RFC 8200 §8.1).
        if header[6..8] == [0, 0] {
            return Err(DropReason::UdpNoChecksum);
        }
        if !checksum::is_right(packet.sum(PROTOCOL_UDP, from, datagram))
            && !self.is_left_to_offload_over_ipv6(&packet, PROTOCOL_UDP, 6, datagram)
        {
            return Err(DropReason::UdpChecksum);
        }
        let remote = names.see(&packet.source);
        Ok(Class::Udp(Datagram {
            key: FlowKey {
                remote,
                local,
                remote_port: u16::from_be_bytes([header[0], header[1]]),
                local_port: u16::from_be_bytes([header[2], header[3]]),
            },
            at: (from - IPV4_BYTES) as u8,
            payload_len: (datagram.len() - UDP_BYTES) as u16,
        }))
    }

    fn icmpv6(&self, names: &mut Names, packet: Packet<'_>, from: usize, cut: bool) -> Result<Class, DropReason> {
        let message = &packet.frame[from..packet.end];
        let sum = checksum::add(packet.pseudo_sum(PROTOCOL_ICMPV6, message.len()), message);
        if message.len() < 8 || !checksum::is_right(sum) {
            return Err(DropReason::IcmpMalformed);
        }
        let own = &names.own;
        // About an address that is not in use yet, NDP alone is heard.
        let assigned = packet.own.is_some_and(|number| own.standing(number) == Standing::Assigned);
        let grouped = packet.destination == ALL_NODES || own.is_solicited_by(&packet.destination);
        let place = Message { at: packet.at as u8, from: from as u8, to: packet.end as u16 };
        match message[0] {
            kind @ (ROUTER_ADVERTISEMENT | SOLICITATION | ADVERTISEMENT) => {
                if packet.hop_limit != UNROUTED {
                    return Err(DropReason::NdpHopLimit);
                }
                // RFC 6980 §5, and RFC 4861 §7.1.1: a solicitation for us may be to any of our addresses.
                if cut || message[1] != 0 || message.len() < if kind == ROUTER_ADVERTISEMENT { 16 } else { 24 } {
                    return Err(DropReason::NdpMalformed);
                }
                if packet.own.is_none() && !grouped {
                    return Err(DropReason::NdpNotOurs);
                }
                Ok(Class::Ndp(place))
            }
            // RFC 3810 §5.1.14: of a router of the link, which alone has such an address.
            GROUP_QUERY if packet.hop_limit == 1 && !cut && is_link_local(&packet.source) => {
                Ok(Class::GroupQuery(place))
            }
            _ if !assigned => Err(DropReason::Ip6NotOurs),
            // Who sends one packet to many stations wants an answer of none (RFC 1122 §3.3.6).
            _ if !packet.to_us => Err(DropReason::OtherStation),
            UNREACHABLE | TOO_BIG | PARAMETER_PROBLEM => {
                packet.check_source(names)?;
                quoted(names, message)
            }
            ECHO_REQUEST if message[1] == 0 && from == packet.at + IPV6_BYTES => {
                packet.check_source(names)?;
                Ok(Class::Echo6(place))
            }
            REDIRECT => Err(DropReason::IcmpRedirect),
            _ => Err(DropReason::IcmpOther),
        }
    }

    /// As [`is_left_to_offload`](Self::is_left_to_offload), the field being `at` in the message.
    #[cold]
    fn is_left_to_offload_over_ipv6(&self, packet: &Packet<'_>, protocol: u8, at: usize, message: &[u8]) -> bool {
        let left = checksum::fold(packet.pseudo_sum(protocol, message.len())).to_ne_bytes();
        let taken = self.takes_partial && message.get(at..at + 2) == Some(&left[..]);
        self.partial.set(self.partial.get() + u64::from(taken));
        taken
    }
}

/// What an ICMPv6 error says of the segment that it quotes: our own IPv6 header and eight bytes of the TCP header, whose
/// sum is not checked, since routers need not quote it all.
fn quoted(names: &mut Names, message: &[u8]) -> Result<Class, DropReason> {
    let quoted = message[8..].first_chunk::<{ IPV6_BYTES + 8 }>().ok_or(DropReason::IcmpMalformed)?;
    let (ip, tcp) = quoted.split_at(IPV6_BYTES);
    let source = address_at(ip, 8);
    let own = names.own.position(&source).ok_or(DropReason::IcmpOther)?;
    if ip[0] >> 4 != 6 || ip[6] != PROTOCOL_TCP {
        return Err(DropReason::IcmpOther);
    }
    // As the same is said by ICMP for IPv4.
    let code = match (message[0], message[1]) {
        (TOO_BIG, _) => 4,
        // No route, beyond the scope of the source.
        (UNREACHABLE, 0 | 2) => 0,
        // Forbidden.
        (UNREACHABLE, 1 | 5 | 6) => 13,
        (UNREACHABLE, 3) => 1,
        (UNREACHABLE, 4) => 3,
        // An upper-layer protocol that it does not know.
        (PARAMETER_PROBLEM, 1) => 2,
        _ => return Err(DropReason::IcmpOther),
    };
    let named = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let payload_len = u16::from_be_bytes([ip[4], ip[5]]);
    let key = FlowKey {
        remote: names.see(&address_at(ip, 24)),
        local: names::of_own(own),
        remote_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        local_port: u16::from_be_bytes([tcp[0], tcp[1]]),
    };
    Ok(Class::Unreachable(Unreachable {
        key,
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        code,
        len: payload_len.saturating_add(IPV6_BYTES as u16),
        mtu: u16::try_from(named).unwrap_or(u16::MAX),
    }))
}

/// The address that begins `from` in `bytes`, which are long enough.
fn address_at(bytes: &[u8], from: usize) -> Ipv6Addr {
    let octets = bytes.get(from..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default();
    Ipv6Addr::from(octets)
}
