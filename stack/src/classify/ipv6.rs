//! What a frame is that carries IPv6: the same classes, with names for addresses.
//!
//! Extension headers are passed over, with a bound: nothing in them changes what becomes of a segment, and who sends many
//! wants us to read them. Whoever is named here is a passer-by unless the stack keeps something of them (`names.rs`).
//! Read first: RFC 8200 §4, RFC 4443, RFC 4861 §7.1; RFC 5095, RFC 6946, RFC 6980, RFC 7112 for what is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use nic::checksum;

use super::{Class, Datagram, LONG, Local, Message, Segment, Unreachable, number};
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::link::{ETHERNET_BYTES, Mac, TAGGED_BYTES};
use crate::names::{self, Names};
use crate::own_addresses::{ALL_NODES, Standing, is_host, is_link_local};
use crate::reassembly::Fragment6;
use crate::wire::{IPV4_BYTES, IPV6_BYTES, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TCP_BYTES, UDP_BYTES};

/// IPv6's numbers for extension headers, and for "nothing follows".
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Extension headers that are passed over, and their bytes together. RFC 8200 §4.1 has six that a packet may have; senders in
/// use have two at most (RFC 9098 §6 has what routers make of more).
const MOST_HEADERS: usize = 8;
const MOST_HEADER_BYTES: usize = 128;

/// Messages of ICMPv6 (RFC 4443, RFC 4861, RFC 2710).
pub(crate) const UNREACHABLE: u8 = 1;
pub(crate) const TOO_BIG: u8 = 2;
pub(crate) const PARAMETER_PROBLEM: u8 = 4;
pub(crate) const ECHO_REQUEST: u8 = 128;
pub(crate) const GROUP_QUERY: u8 = 130;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// Hop limit of what no router has handed on (RFC 4861 §7.1.1).
pub(crate) const UNROUTED: u8 = 255;

/// A packet whose headers are being read.
struct Packet<'a> {
    frame: &'a [u8],
    /// Where it begins and ends in its frame.
    at: usize,
    end: usize,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    /// The number of our address to which it is; `None`: to a group.
    own: Option<usize>,
    /// Its frame is to our station, not to a group of stations.
    to_us: bool,
    /// It has a fragment header.
    cut: bool,
}

/// Where the upper-layer header begins, and of which protocol it is; or a fragment.
enum Upper {
    At(usize, u8),
    Fragment(Fragment6),
}

impl Local {
    /// Says what `frame` is, whose EtherType is that of IPv6.
    #[inline(never)]
    pub(crate) fn classify_ipv6(&self, names: &mut Names, frame: &[u8]) -> Class {
        if !names.are_there() {
            return Class::Drop(DropReason::Ipv6);
        }
        let tagged = frame.get(12..14) == Some(&[0x81, 0]);
        let at = if tagged { TAGGED_BYTES } else { ETHERNET_BYTES };
        self.ipv6(names, frame, at).unwrap_or_else(Class::Drop)
    }

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
        let to = station_of(frame);
        let ours = number(to) == self.station;
        let group = to.0[..2] == [0x33, 0x33];
        if !ours && !group {
            return Err(DropReason::OtherStation);
        }
        let mut packet =
            Packet { frame, at, end, source, destination, hop_limit: header[7], own, to_us: ours, cut: false };
        match packet.pass_over_headers(header[6])? {
            Upper::At(from, PROTOCOL_ICMPV6) => self.icmpv6(names, &packet, from),
            upper => {
                // A segment is to one host, at its station.
                let number = own.filter(|&number| names.own.standing(number) == Standing::Assigned);
                let number = number.ok_or(DropReason::Ip6NotOurs)?;
                if !ours {
                    return Err(DropReason::OtherStation);
                }
                packet.check_source(names)?;
                let local = names::of_own(number);
                match upper {
                    Upper::At(from, PROTOCOL_TCP) => self.tcp_over_ipv6(names, &packet, local, from),
                    Upper::At(from, PROTOCOL_UDP) => self.udp_over_ipv6(names, &packet, local, from),
                    Upper::At(..) => Err(DropReason::IpProtocol),
                    Upper::Fragment(fragment) => Ok(Class::Fragment6(fragment)),
                }
            }
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
        let pseudo = packet.pseudo_sum(PROTOCOL_TCP, segment.len());
        let is_left = || self.is_sum_left_to_offload(pseudo, 16, segment);
        let long_and_left = segment.len() >= LONG && self.takes_partial && is_left();
        if !long_and_left && !checksum::is_right(checksum::add(pseudo, segment)) && !is_left() {
            return Err(DropReason::TcpChecksum);
        }
        let place = (from - IPV4_BYTES, IPV4_BYTES + segment.len(), header_len);
        let remote = names.see(&packet.source);
        Segment::read(header, (remote, local), place).map(Class::Tcp)
    }

    fn udp_over_ipv6(
        &self,
        names: &mut Names,
        packet: &Packet<'_>,
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
        let pseudo = packet.pseudo_sum(PROTOCOL_UDP, datagram.len());
        if !checksum::is_right(checksum::add(pseudo, datagram)) && !self.is_sum_left_to_offload(pseudo, 6, datagram) {
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

    fn icmpv6(&self, names: &mut Names, packet: &Packet<'_>, from: usize) -> Result<Class, DropReason> {
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
                if packet.cut || message[1] != 0 || message.len() < if kind == ROUTER_ADVERTISEMENT { 16 } else { 24 } {
                    return Err(DropReason::NdpMalformed);
                }
                if packet.own.is_none() && !grouped {
                    return Err(DropReason::NdpNotOurs);
                }
                Ok(Class::Ndp(place))
            }
            // RFC 3810 §5.1.14: of a router of the link, which alone has such an address.
            GROUP_QUERY if packet.hop_limit == 1 && !packet.cut && is_link_local(&packet.source) => {
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

    /// As [`is_left_to_offload`](Self::is_left_to_offload), `pseudo` being the sum of the pseudo-header, and the field `at`
    /// in the message.
    #[cold]
    fn is_sum_left_to_offload(&self, pseudo: u64, at: usize, message: &[u8]) -> bool {
        let left = checksum::fold(pseudo).to_ne_bytes();
        let taken = self.takes_partial && message.get(at..at + 2) == Some(&left[..]);
        self.partial.set(self.partial.get() + u64::from(taken));
        taken
    }
}

impl Packet<'_> {
    /// Finds what lies behind the extension headers, of which the first is `next`.
    #[inline]
    fn pass_over_headers(&mut self, next: u8) -> Result<Upper, DropReason> {
        let from = self.at + IPV6_BYTES;
        if matches!(next, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6) {
            return Ok(Upper::At(from, next));
        }
        self.pass_over_some(next, from)
    }

    #[cold]
    fn pass_over_some(&mut self, mut next: u8, first: usize) -> Result<Upper, DropReason> {
        let mut from = first;
        for count in 0..=MOST_HEADERS {
            match next {
                HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT if count == MOST_HEADERS => break,
                // RFC 8200 §4.1: it comes first.
                HOP_BY_HOP if count > 0 => break,
                HOP_BY_HOP | DESTINATION | ROUTING => {
                    let header = self.extension(from)?;
                    if next == ROUTING {
                        check_route(header)?;
                    } else {
                        check_options(&header[2..])?;
                    }
                    (next, from) = (header[0], from + header.len());
                }
                FRAGMENT => {
                    if let Some(fragment) = self.fragment(from)? {
                        return Ok(Upper::Fragment(fragment));
                    }
                    // RFC 6946 §4: one that is all of its packet is no other than the packet.
                    self.cut = true;
                    (next, from) = (self.frame[from], from + 8);
                }
                _ => return Ok(Upper::At(from, next)),
            }
            if from - first > MOST_HEADER_BYTES {
                break;
            }
        }
        Err(DropReason::Ip6Headers)
    }

    /// The extension header that begins `from`.
    fn extension(&self, from: usize) -> Result<&[u8], DropReason> {
        let rest = &self.frame[from..self.end];
        let len = rest.get(1).map_or(0, |&len| 8 + 8 * usize::from(len));
        rest.get(..len).filter(|header| !header.is_empty()).ok_or(DropReason::Ip6Headers)
    }

    /// The fragment whose header begins `from`; `None`: it is all of its packet.
    fn fragment(&self, from: usize) -> Result<Option<Fragment6>, DropReason> {
        let rest = &self.frame[from..self.end];
        let Some((header, payload)) = rest.split_first_chunk::<8>() else { return Err(DropReason::Ip6Headers) };
        let word = u16::from_be_bytes([header[2], header[3]]);
        let (offset, more, protocol) = (word & 0xfff8, word & 1 != 0, header[0]);
        if offset == 0 && !more {
            return Ok(None);
        }
        if !matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
            return Err(DropReason::IpFragment);
        }
        // RFC 7112 §5: the first has all headers. Filters see these nowhere else.
        let complete = match protocol {
            PROTOCOL_TCP => payload.get(12).is_some_and(|byte| payload.len() >= usize::from(byte >> 4) * 4),
            _ => payload.len() >= UDP_BYTES,
        };
        if offset == 0 && !complete {
            return Err(DropReason::FragmentMalformed);
        }
        let (payload_at, len) = ((from + 8) as u8, payload.len() as u16);
        Ok(Some(Fragment6 { at: self.at as u8, payload_at, len, offset, more, protocol }))
    }

    /// Checks that one other host may have sent it.
    #[inline]
    fn check_source(&self, names: &Names) -> Result<(), DropReason> {
        if names.own.position(&self.source).is_some() {
            return Err(DropReason::Land);
        }
        if is_host(&self.source) { Ok(()) } else { Err(DropReason::Ip6Martian) }
    }

    #[inline]
    fn pseudo_sum(&self, protocol: u8, len: usize) -> u64 {
        checksum::pseudo_header_v6(self.source.octets(), self.destination.octets(), protocol, len as u32)
    }
}

/// Whether a routing header has been followed to its end, and is of a kind that may be (RFC 8200 §4.4, RFC 5095 §3).
fn check_route(header: &[u8]) -> Result<(), DropReason> {
    let (kind, left) = (header[2], header[3]);
    if kind == 0 || left != 0 { Err(DropReason::Ip6RoutingHeader) } else { Ok(()) }
}

/// Goes through the options of a header: each has its length within them, and its sender does not want the packet dropped
/// by who does not know it (RFC 8200 §4.2).
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    /// Fillers; router alert (RFC 2711), which asks nothing of a host.
    const PAD_1: u8 = 0;
    const JUMBO: u8 = 0xc2;
    loop {
        match options {
            [] => return Ok(()),
            [PAD_1, rest @ ..] => options = rest,
            [JUMBO, ..] => return Err(DropReason::Ip6Jumbo),
            [kind, ..] if kind >> 6 != 0 => return Err(DropReason::Ip6Option),
            [_, len, rest @ ..] => options = rest.get(usize::from(*len)..).ok_or(DropReason::Ip6Headers)?,
            _ => return Err(DropReason::Ip6Headers),
        }
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

/// The station that a frame is for.
fn station_of(frame: &[u8]) -> Mac {
    Mac(frame.first_chunk::<6>().copied().unwrap_or_default())
}

/// The address that begins `from` in `bytes`, which are long enough.
fn address_at(bytes: &[u8], from: usize) -> Ipv6Addr {
    let octets = bytes.get(from..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default();
    Ipv6Addr::from(octets)
}
