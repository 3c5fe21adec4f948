//! What a frame is, in one pass over its headers, before anything is allocated for it.
//!
//! Invariant: whatever is not [`Class::Drop`] lies within the frame's bounds, is addressed to us by a host that can
//! exist, and has right checksums (IPv4 header, TCP, UDP, ICMP); later code relies on it. On a link on which kernels
//! leave the checksum of TCP and UDP to offload, one that is left so is taken as right. A packet with IPv4 options is
//! [`DropReason::IpOptions`] until they are taken off (`ip_options.rs`). Hand-written rather than by
//! etherparse, which is the oracle of the tests: a dozen fixed offsets cost a third of its slices.
//! Read first: RFC 791 §3.1, RFC 9293 §3.1, RFC 1122 §3.2.1.3.

mod beside;
mod headers;
pub(crate) mod ipv6;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use nic::checksum;

use crate::config::StackConfig;
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::ip_options;
use crate::link::{
    ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, Mac, TAGGED_BYTES, VLAN_NUMBER,
};
use crate::names::Names;
use crate::own_addresses::OwnAddress;
use crate::reassembly::{Fragment, Fragment6, FragmentKey};
use crate::wire::{ACK, FIN, IPV4_BYTES, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, RST, SYN, TCP_BYTES, UDP_BYTES};

/// Who we are.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// The first address, and how many there are from it on.
    pub(crate) address: Ipv4Addr,
    pub(crate) addresses: u32,
    pub(crate) mac: Mac,
    /// The same, as a number.
    station: u64,
    /// The VLAN, as in [`StackConfig::vlan`](crate::StackConfig::vlan).
    vlan: Option<u16>,
    /// The EtherTypes of IPv4 and IPv6 in frames without a tag; more than any EtherType where those are not taken.
    untagged_ipv4: u32,
    untagged_ipv6: u32,
    mask: u32,
    /// Addresses beside those in a row, and the masks of their networks.
    others: Box<[(u32, u32)]>,
    /// Whether a checksum that the sender's kernel has left to offload is taken.
    takes_partial: bool,
    /// Segments and datagrams taken with such a checksum. Only ever touched when a checksum is not right.
    partial: Cell<u64>,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A TCP segment for us.
    Tcp(Segment),
    /// A UDP datagram for us, on whatever port.
    Udp(Datagram),
    /// A part of a segment or a datagram.
    Fragment(Fragment),
    /// An ARP packet about our address, or one that announces its sender's; it begins so many bytes into the frame.
    Arp { at: usize },
    /// An ICMP echo request for us: its IPv4 packet begins `at` and is `len` bytes long.
    Echo { at: usize, len: usize },
    /// The same by ICMPv6.
    Echo6(Message),
    /// An ICMP message that a segment of ours did not arrive. Anyone may have written it.
    Unreachable(Unreachable),
    /// A part of a segment or a datagram over IPv6.
    Fragment6(Fragment6),
    /// A message of NDP that comes from the link, about one of our addresses, one of our neighbours, or a router.
    Ndp(Message),
    /// A router asks which groups somebody here listens to.
    GroupQuery(Message),
    /// A packet of IPv6 that is dropped, and whose sender is told what is wrong with it.
    Problem(Problem),
    /// Nothing for us.
    Drop(DropReason),
}

/// What an ICMP "destination unreachable" says of the segment that it quotes (RFC 792). What ICMPv6 says is put in the same
/// words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreachable {
    /// The flow of the segment, as seen from here.
    pub(crate) key: FlowKey,
    /// The segment's sequence number.
    pub(crate) seq: u32,
    /// 0 net, 1 host, 2 protocol, 3 port, 4 the packet was too long and must not be cut, …
    pub(crate) code: u8,
    /// Length of the packet that is quoted, as it says.
    pub(crate) len: u16,
    /// With code 4: how long packets may be, or 0 (RFC 1191 §4).
    pub(crate) mtu: u16,
}

/// An ICMPv6 message about the link, or to be answered: its packet begins `at`, and it lies from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) at: u8,
    pub(crate) from: u8,
    pub(crate) to: u16,
}

/// What is wrong with a packet of IPv6, and where (RFC 4443 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What the packet counts as.
    pub(crate) reason: DropReason,
    /// 0: the value of a field, 1: a next header or 2: an option that nobody here knows, 3: the first fragment lacks headers.
    pub(crate) code: u8,
    /// Where the packet begins in its frame.
    pub(crate) at: u8,
    /// How many bytes into the packet the fault is.
    pub(crate) pointer: u16,
}

/// A TCP segment's headers, and where it lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) key: FlowKey,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) flags: u8,
    /// Length of the link header: where the IPv4 packet begins. Of a segment over IPv6: where an IPv4 header would (`ipv6.rs`).
    pub(crate) at: u8,
    /// Length of the IPv4 packet, or of what would be one.
    pub(crate) packet_len: u16,
    /// Length of the TCP header.
    pub(crate) header_len: u8,
    /// Length of the data.
    pub(crate) payload_len: u16,
}

/// A UDP datagram's addresses, and where its payload lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) key: FlowKey,
    /// As in [`Segment`].
    pub(crate) at: u8,
    /// Length of the payload.
    pub(crate) payload_len: u16,
}

impl Datagram {
    /// The payload, `frame` being the datagram's own.
    #[inline]
    pub(crate) fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let at = usize::from(self.at) + IPV4_BYTES + UDP_BYTES;
        frame.get(at..at + usize::from(self.payload_len)).unwrap_or_default()
    }
}

impl Segment {
    /// Reads a TCP header: of a segment from and to the addresses `ends`, whose packet begins `at` and is `packet_len` bytes
    /// long, of which `header_len` are the TCP header's.
    #[inline(always)]
    fn read(
        header: &[u8; TCP_BYTES],
        (remote, local): (Ipv4Addr, Ipv4Addr),
        (at, packet_len, header_len): (usize, usize, usize),
    ) -> Result<Self, DropReason> {
        let flags = header[13];
        let remote_port = u16::from_be_bytes([header[0], header[1]]);
        let local_port = u16::from_be_bytes([header[2], header[3]]);
        let control = flags & (FIN | SYN | RST);
        let several = control & control.wrapping_sub(1) != 0;
        if several || remote_port == 0 || local_port == 0 {
            return Err(DropReason::TcpFlags);
        }
        // RFC 9293 §3.10.7.4: a segment that is none of SYN, RST and ACK says nothing.
        if flags & (SYN | RST | ACK) == 0 {
            return Err(DropReason::TcpNoAck);
        }
        Ok(Self {
            key: FlowKey { remote, local, remote_port, local_port },
            seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            window: u16::from_be_bytes([header[14], header[15]]),
            flags,
            at: at as u8,
            packet_len: packet_len as u16,
            header_len: header_len as u8,
            payload_len: (packet_len - IPV4_BYTES - header_len) as u16,
        })
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// What the segment takes of the sequence space.
    #[inline]
    pub(crate) fn sequence_len(&self) -> u32 {
        u32::from(self.payload_len) + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// The IPv4 packet, `frame` being the segment's own.
    #[inline]
    pub(crate) fn packet<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let at = usize::from(self.at);
        frame.get(at..at + usize::from(self.packet_len)).unwrap_or_default()
    }

    /// Where the TCP header begins in the frame.
    #[inline]
    pub(crate) fn tcp_at(&self) -> usize {
        usize::from(self.at) + IPV4_BYTES
    }
}

/// A segment of so many bytes is long: to sum it costs more than to see whether its checksum was left to offload.
const LONG: usize = 512;

/// The address of every station, as a number.
const BROADCAST: u64 = number(Mac::BROADCAST);

/// An Ethernet address as a number.
const fn number(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// The mask of a network whose hosts have so many leading bits in common.
fn mask_of(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0)
}

impl Local {
    /// The host with `address` alone.
    pub(crate) fn new(address: Ipv4Addr, prefix_len: u8, mac: Mac) -> Self {
        Self {
            address,
            addresses: 1,
            mac,
            station: number(mac),
            vlan: None,
            untagged_ipv4: ETHERTYPE_IPV4.into(),
            untagged_ipv6: ETHERTYPE_IPV6.into(),
            mask: mask_of(prefix_len),
            others: Box::default(),
            takes_partial: false,
            partial: Cell::new(0),
        }
    }

    /// Who the stack is that is told `config`.
    pub(crate) fn of(config: &StackConfig) -> Self {
        Self::new(config.address, config.prefix_len, config.mac)
            .with_addresses(config.addresses)
            .with_others(&config.others)
            .in_vlan(config.vlan)
            .with_partial_checksums(config.partial_checksums)
    }

    /// The same host with `addresses` addresses in a row.
    pub(crate) fn with_addresses(self, addresses: u32) -> Self {
        // Without any, nobody is of its network.
        let mask = if addresses == 0 { u32::MAX } else { self.mask };
        Self { addresses, mask, ..self }
    }

    /// The same host with these addresses too.
    pub(crate) fn with_others(self, others: &[OwnAddress]) -> Self {
        let of_ipv4 = |other: &OwnAddress| match other.address {
            IpAddr::V4(address) => Some((address.to_bits(), mask_of(other.prefix_len))),
            IpAddr::V6(_) => None,
        };
        Self { others: others.iter().filter_map(of_ipv4).collect(), ..self }
    }

    /// The same host in a VLAN, as in [`StackConfig::vlan`](crate::StackConfig::vlan).
    pub(crate) fn in_vlan(self, vlan: Option<u16>) -> Self {
        let takes_untagged = vlan.unwrap_or(0) == 0;
        let [untagged_ipv4, untagged_ipv6] =
            [ETHERTYPE_IPV4, ETHERTYPE_IPV6].map(|ethertype| if takes_untagged { ethertype.into() } else { u32::MAX });
        Self { vlan, untagged_ipv4, untagged_ipv6, ..self }
    }

    /// The tag of frames that answer nothing, if they have one.
    pub(crate) fn tag(&self) -> Option<u16> {
        self.vlan.filter(|&vlan| vlan > 0)
    }

    /// The same host on a link on which kernels leave checksums to offload, if `takes_partial`.
    pub(crate) fn with_partial_checksums(self, takes_partial: bool) -> Self {
        Self { takes_partial, ..self }
    }

    /// Segments and datagrams taken whose checksum was left to offload.
    pub(crate) fn partial_checksums(&self) -> u64 {
        self.partial.get()
    }

    /// Whether the checksum of `message`, a segment or datagram, is what a kernel leaves there for the device to finish:
    /// the folded sum of the pseudo-header, not complemented (kernel `checksum-offloads.rst`, "TX Checksum Offload").
    /// Counts it. The sum is made anew, so that the path of good ones need not keep it.
    #[cold]
    fn is_left_to_offload(&self, protocol: u8, source: u32, destination: u32, message: &[u8]) -> bool {
        let at = if protocol == PROTOCOL_TCP { 16 } else { 6 };
        let field = message.get(at..).and_then(|rest| rest.first_chunk::<2>());
        let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
        let pseudo = checksum::pseudo_header(source, destination, protocol, message.len() as u16);
        let left = checksum::fold(pseudo).to_ne_bytes();
        let taken = self.takes_partial && field == Some(&left);
        self.partial.set(self.partial.get() + u64::from(taken));
        taken
    }

    /// Whether `address` is one of ours.
    #[inline]
    pub(crate) fn has(&self, address: u32) -> bool {
        self.has_in_row(address) || !self.others.is_empty() && self.has_beside(address)
    }

    #[inline]
    fn has_in_row(&self, address: u32) -> bool {
        address.wrapping_sub(self.address.to_bits()) < self.addresses
    }

    /// Whether `address` is that of everyone, here or everywhere. A /31 or /32 has no such address (RFC 3021).
    #[inline]
    fn is_broadcast(&self, address: u32) -> bool {
        let subnet = address & self.mask == self.address.to_bits() & self.mask;
        address == u32::MAX || self.mask < 0xffff_fffe && subnet && address | self.mask == u32::MAX
    }

    /// Whether no single host can have `address` (RFC 1122 §3.2.1.3): this network, loopback, groups, reserved,
    /// broadcast, or our own subnet's number.
    fn is_martian(&self, address: u32) -> bool {
        let first = address >> 24;
        let on_link = self.is_on_first_link(address);
        first == 0
            || first == 127
            || first >= 224
            || on_link
                && (self.is_broadcast(address)
                    || self.mask < 0xffff_fffe && self.mask != 0 && address & !self.mask == 0)
    }

    /// Says what `frame` is, of which [`classify`](Self::classify) has said that it is `apart`: with IPv4 options, or of IPv6.
    #[inline(never)]
    pub(crate) fn classify_apart(&self, names: &mut Names, frame: &mut [u8], apart: DropReason) -> Class {
        match apart {
            DropReason::Ipv6 => self.classify_ipv6(names, frame),
            _ => self.classify_without_options(frame),
        }
    }

    /// Says what `frame`, whose packet has IPv4 options, is without them: they are taken off in place.
    #[cold]
    pub(crate) fn classify_without_options(&self, frame: &mut [u8]) -> Class {
        match ip_options::take_off(frame) {
            Ok(()) => self.classify(frame),
            Err(reason) => Class::Drop(reason),
        }
    }

    /// Says what `frame` is.
    #[inline]
    pub(crate) fn classify(&self, frame: &[u8]) -> Class {
        let Some(header) = frame.first_chunk::<ETHERNET_BYTES>() else { return Class::Drop(DropReason::LinkTooShort) };
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
        let destination = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let source = u64::from_be_bytes([0, 0, g, h, i, j, k, l]);
        // A group, or nobody.
        if source >> 40 & 1 != 0 || source == 0 {
            return Class::Drop(DropReason::LinkSource);
        }
        let ours = destination == self.station;
        let ethertype = u16::from_be_bytes([header[12], header[13]]);
        if u32::from(ethertype) == self.untagged_ipv4 && ours {
            return self.ipv4(frame, ETHERNET_BYTES);
        }
        if u32::from(ethertype) == self.untagged_ipv6 {
            return Class::Drop(DropReason::Ipv6);
        }
        self.tagged_or_other(frame, ethertype, destination)
    }

    /// Says what `frame` is, which has a tag, or is no IPv4 for us.
    #[inline(never)]
    fn tagged_or_other(&self, frame: &[u8], ethertype: u16, destination: u64) -> Class {
        let (ethertype, at, number) = match (ethertype, frame.first_chunk::<TAGGED_BYTES>()) {
            (ETHERTYPE_VLAN, Some(tagged)) => {
                let number = u16::from_be_bytes([tagged[14], tagged[15]]) & VLAN_NUMBER;
                (u16::from_be_bytes([tagged[16], tagged[17]]), TAGGED_BYTES, number)
            }
            (ETHERTYPE_VLAN, None) => return Class::Drop(DropReason::LinkTooShort),
            _ => (ethertype, ETHERNET_BYTES, 0),
        };
        if self.vlan.is_some_and(|vlan| vlan != number) {
            return Class::Drop(DropReason::OtherVlan);
        }
        let ours = destination == self.station;
        match ethertype {
            ETHERTYPE_IPV4 if ours => self.ipv4(frame, at),
            ETHERTYPE_ARP if ours || destination == BROADCAST => self.arp(frame, at).unwrap_or_else(Class::Drop),
            ETHERTYPE_VLAN => Class::Drop(DropReason::DoubleTag),
            ETHERTYPE_IPV6 => Class::Drop(DropReason::Ipv6),
            ETHERTYPE_IPV4 | ETHERTYPE_ARP => Class::Drop(DropReason::OtherStation),
            _ => Class::Drop(DropReason::EtherType),
        }
    }

    fn arp(&self, frame: &[u8], at: usize) -> Result<Class, DropReason> {
        let packet = frame[at..].first_chunk::<28>().ok_or(DropReason::ArpMalformed)?;
        if packet[..6] != [0, 1, 8, 0, 6, 4] || !matches!(packet[6..8], [0, 1 | 2]) {
            return Err(DropReason::ArpMalformed);
        }
        let target = u32::from_be_bytes([packet[24], packet[25], packet[26], packet[27]]);
        let sender = u32::from_be_bytes([packet[14], packet[15], packet[16], packet[17]]);
        let probe = sender == 0;
        let group = packet[8] & 1 != 0;
        // RFC 5227 §2.4: whatever it asks or answers, and of whomever.
        if self.has(sender) && !group && packet[8..14] != self.mac.0 {
            return Err(DropReason::AddressConflict);
        }
        // Who asks for itself, or answers itself, announces where it is (RFC 5227 §3).
        if !self.has(target) && (target != sender || probe) {
            return Err(DropReason::ArpNotOurs);
        }
        if group || self.has(sender) || !probe && (self.is_martian(sender) || self.is_odd_beside(sender)) {
            return Err(DropReason::ArpSource);
        }
        Ok(Class::Arp { at })
    }

    #[inline]
    fn ipv4(&self, frame: &[u8], at: usize) -> Class {
        let Some(header) = frame[at..].first_chunk::<IPV4_BYTES>() else { return Class::Drop(DropReason::IpTooShort) };
        match header[0] {
            0x45 => {}
            byte if byte >> 4 != 4 => return Class::Drop(DropReason::IpVersion),
            byte if byte & 15 > 5 => return Class::Drop(DropReason::IpOptions),
            _ => return Class::Drop(DropReason::IpTooShort),
        }
        if !checksum::is_right(checksum::add(0, header)) {
            return Class::Drop(DropReason::IpChecksum);
        }
        let packet_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if packet_len < IPV4_BYTES || packet_len > frame.len() - at {
            return Class::Drop(DropReason::IpTooShort);
        }
        // More fragments, or an offset (RFC 791 §3.1, "Flags", "Fragment Offset").
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
        if fragment != 0 && !matches!(header[9], PROTOCOL_TCP | PROTOCOL_UDP) {
            return Class::Drop(DropReason::IpFragment);
        }
        let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        let destination = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
        if !self.has(destination) {
            let all = self.is_broadcast(destination) || self.is_odd_beside(destination);
            return Class::Drop(if all { DropReason::IpBroadcast } else { DropReason::IpNotOurs });
        }
        if self.has_in_row(source) {
            return Class::Drop(DropReason::Land);
        }
        if self.is_martian(source) {
            return Class::Drop(DropReason::IpMartian);
        }
        if !self.others.is_empty()
            && let Some(reason) = self.odd_source(source)
        {
            return Class::Drop(reason);
        }
        if fragment != 0 {
            let id = u16::from_be_bytes([header[4], header[5]]);
            return Class::Fragment(Fragment {
                key: FragmentKey { source, destination, id, protocol: header[9] },
                offset: fragment << 3,
                more: fragment & 0x2000 != 0,
                at: at as u8,
                len: (packet_len - IPV4_BYTES) as u16,
            });
        }
        let payload = &frame[at + IPV4_BYTES..at + packet_len];
        match header[9] {
            PROTOCOL_TCP => self.tcp(source, destination, payload, at, packet_len),
            PROTOCOL_UDP => self.udp(source, destination, payload, at).unwrap_or_else(Class::Drop),
            PROTOCOL_ICMP => self.icmp(payload, at, packet_len).unwrap_or_else(Class::Drop),
            _ => Class::Drop(DropReason::IpProtocol),
        }
    }

    /// Part of [`ipv4`](Self::ipv4), since a call would spend as much on its arguments as on a sixth of its work.
    #[inline(always)]
    fn tcp(&self, source: u32, destination: u32, segment: &[u8], at: usize, packet_len: usize) -> Class {
        let Some(header) = segment.first_chunk::<TCP_BYTES>() else { return Class::Drop(DropReason::TcpTooShort) };
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < TCP_BYTES || header_len > segment.len() {
            return Class::Drop(DropReason::TcpTooShort);
        }
        let pseudo = checksum::pseudo_header(
            source.to_be_bytes(),
            destination.to_be_bytes(),
            PROTOCOL_TCP,
            (packet_len - IPV4_BYTES) as u16,
        );
        let is_left = || self.is_left_to_offload(PROTOCOL_TCP, source, destination, segment);
        // Where long segments are left to offload all are, and none need be summed to find that out.
        let long_and_left = segment.len() >= LONG && self.takes_partial && is_left();
        if !long_and_left && !checksum::is_right(checksum::add(pseudo, segment)) && !is_left() {
            return Class::Drop(DropReason::TcpChecksum);
        }
        let (remote, local) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
        match Segment::read(header, (remote, local), (at, packet_len, header_len)) {
            Ok(segment) => Class::Tcp(segment),
            Err(reason) => Class::Drop(reason),
        }
    }

    fn icmp(&self, message: &[u8], at: usize, packet_len: usize) -> Result<Class, DropReason> {
        if message.len() < 8 || !checksum::is_right(checksum::add(0, message)) {
            return Err(DropReason::IcmpMalformed);
        }
        match message[..2] {
            [3, _] => self.unreachable(message),
            // Echo request (RFC 792).
            [8, 0] => Ok(Class::Echo { at, len: packet_len }),
            // RFC 1122 §3.2.2.2 would have it believed where it comes from the flow's router, whose name anybody can use.
            [5, _] => Err(DropReason::IcmpRedirect),
            _ => Err(DropReason::IcmpOther),
        }
    }

    /// An ICMP "destination unreachable" with the headers that it quotes: the IPv4 header of our own segment and eight
    /// bytes of the TCP header (RFC 792), whose checksum is not checked, since routers need not quote it all.
    fn unreachable(&self, message: &[u8]) -> Result<Class, DropReason> {
        let quoted = message[8..].first_chunk::<28>().ok_or(DropReason::IcmpMalformed)?;
        let mtu = u16::from_be_bytes([message[6], message[7]]);
        let len = u16::from_be_bytes([quoted[2], quoted[3]]);
        let source = Ipv4Addr::new(quoted[12], quoted[13], quoted[14], quoted[15]);
        if quoted[0] != 0x45 || quoted[9] != PROTOCOL_TCP || !self.has(source.to_bits()) {
            return Err(DropReason::IcmpOther);
        }
        let key = FlowKey {
            remote: Ipv4Addr::new(quoted[16], quoted[17], quoted[18], quoted[19]),
            local: source,
            remote_port: u16::from_be_bytes([quoted[22], quoted[23]]),
            local_port: u16::from_be_bytes([quoted[20], quoted[21]]),
        };
        let seq = u32::from_be_bytes([quoted[24], quoted[25], quoted[26], quoted[27]]);
        Ok(Class::Unreachable(Unreachable { key, seq, code: message[1], len, mtu }))
    }

    /// RFC 768. A datagram may be shorter than its packet: what follows it is nobody's.
    #[inline]
    fn udp(&self, source: u32, destination: u32, datagram: &[u8], at: usize) -> Result<Class, DropReason> {
        let header = datagram.first_chunk::<UDP_BYTES>().ok_or(DropReason::UdpLength)?;
        let len = u16::from_be_bytes([header[4], header[5]]);
        let Some(datagram) = datagram.get(..usize::from(len)).filter(|d| d.len() >= UDP_BYTES) else {
            return Err(DropReason::UdpLength);
        };
        // A checksum of zero means that there is none.
        if header[6..8] != [0, 0] {
            let pseudo = checksum::pseudo_header(source.to_be_bytes(), destination.to_be_bytes(), PROTOCOL_UDP, len);
            if !checksum::is_right(checksum::add(pseudo, datagram))
                && !self.is_left_to_offload(PROTOCOL_UDP, source, destination, datagram)
            {
                return Err(DropReason::UdpChecksum);
            }
        }
        Ok(Class::Udp(Datagram {
            key: FlowKey {
                remote: Ipv4Addr::from_bits(source),
                local: Ipv4Addr::from_bits(destination),
                remote_port: u16::from_be_bytes([header[0], header[1]]),
                local_port: u16::from_be_bytes([header[2], header[3]]),
            },
            at: at as u8,
            payload_len: (datagram.len() - UDP_BYTES) as u16,
        }))
    }
}

#[cfg(test)]
mod tests;
