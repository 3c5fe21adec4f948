//! Messages of IPv6 about its link: neighbour discovery read and written (RFC 4861), and reports of the groups that our
//! addresses listen in (RFC 3810), so that switches which look for these let solicitations through.
//!
//! Reads what `classify` has checked: the message is whole, its sum right, and no router has handed it on. What comes of a
//! message decides `net_stack/ndp.rs`.

use std::net::Ipv6Addr;

use nic::{Frame, FrameTooShort, checksum};

use crate::classify::Message;
use crate::classify::ipv6::{ADVERTISEMENT, ROUTER_ADVERTISEMENT, SOLICITATION, UNROUTED};
use crate::drop_reason::DropReason;
use crate::ipv6::{Head, LEAST_MTU};
use crate::link::{LinkHeader, Mac};
use crate::own_addresses::{ALL_NODES, ALL_ROUTERS, group_station, solicited_node};
use crate::wire::{IPV6_BYTES, LONGER_BYTES, PROTOCOL_ICMPV6};

/// Who listens to reports (RFC 3810 §5.2.14).
const REPORT_LISTENERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

const ROUTER_SOLICITATION: u8 = 133;
const GROUP_REPORT: u8 = 143;

/// Options of neighbour discovery: the Ethernet addresses of sender and target, a prefix, the MTU.
const SOURCE_STATION: u8 = 1;
const TARGET_STATION: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;

/// The shortest prefix of a network that is believed to be on the link: who names a shorter one, such as ::/0 or 2000::/3, wants to
/// be asked for hosts of everywhere.
const LEAST_PREFIX: u8 = 8;

/// Flags of an advertisement.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// In front of a report, for each hop: router alert for MLD, and a filler (RFC 3810 §5, RFC 2711).
const ALERT: [u8; 8] = [PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// Bytes of a report's header, and of its record of one group.
const REPORT_BYTES: usize = 8;
const RECORD_BYTES: usize = 20;
/// Groups that a report may name, so that every link takes it (RFC 3810 §5.2.15).
pub(crate) const REPORTED: usize = (LEAST_MTU as usize - IPV6_BYTES - ALERT.len() - REPORT_BYTES) / RECORD_BYTES;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Solicitation,
    Advertisement { solicited: bool },
    Router(RouterSays),
}

/// What a router says of itself and of its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouterSays {
    /// For how many seconds it takes packets for everywhere; 0: it does not.
    pub(crate) lifetime: u16,
    /// A network whose hosts are on the link: its prefix, and for how many seconds that is so. The first, if several are named.
    pub(crate) on_link: Option<(Ipv6Addr, u8, u32)>,
    /// The link's MTU.
    pub(crate) mtu: Option<u32>,
}

/// A message of neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ndp {
    pub(crate) kind: Kind,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    /// Who is asked for, or has answered; of a router's message nobody.
    pub(crate) target: Ipv6Addr,
    /// Where the sender of a solicitation or a router, or the target of an advertisement, says it is.
    pub(crate) station: Option<Mac>,
}

impl Ndp {
    /// Reads the message in `frame`.
    ///
    /// # Errors
    /// It is not as RFC 4861 §6.1.2, §7.1.1 or §7.1.2 want it.
    pub(crate) fn read(frame: &[u8], place: Message) -> Result<Self, DropReason> {
        let (at, from, to) = (usize::from(place.at), usize::from(place.from), usize::from(place.to));
        let header = frame.get(at..).and_then(|rest| rest.first_chunk::<IPV6_BYTES>());
        let message = frame.get(from..to).filter(|message| message.len() >= 16);
        let (Some(header), Some(message)) = (header, message) else { return Err(DropReason::NdpMalformed) };
        let address = |bytes: &[u8], from: usize| {
            Ipv6Addr::from(bytes.get(from..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default())
        };
        let (source, destination) = (address(header, 8), address(header, 24));
        let mut read =
            Self { kind: Kind::Solicitation, source, destination, target: address(message, 8), station: None };
        match message[0] {
            SOLICITATION => read.take_options(&message[24..], SOURCE_STATION, |_| {})?,
            ADVERTISEMENT => {
                read.kind = Kind::Advertisement { solicited: message[4] & SOLICITED != 0 };
                read.take_options(&message[24..], TARGET_STATION, |_| {})?;
            }
            ROUTER_ADVERTISEMENT => {
                let lifetime = u16::from_be_bytes([message[6], message[7]]);
                let mut says = RouterSays { lifetime, on_link: None, mtu: None };
                read.take_options(&message[16..], SOURCE_STATION, |option| says.take(option))?;
                (read.kind, read.target) = (Kind::Router(says), Ipv6Addr::UNSPECIFIED);
            }
            _ => return Err(DropReason::NdpMalformed),
        }
        if read.is_valid() { Ok(read) } else { Err(DropReason::NdpMalformed) }
    }

    /// Goes through the options, of which `station` has an Ethernet address; the others are for `look`.
    fn take_options(&mut self, mut options: &[u8], station: u8, mut look: impl FnMut(&[u8])) -> Result<(), DropReason> {
        while !options.is_empty() {
            // RFC 4861 §4.6: in units of eight bytes, and never of none.
            let len = options.get(1).map_or(0, |&units| 8 * usize::from(units));
            let option = options.get(..len).filter(|option| !option.is_empty()).ok_or(DropReason::NdpMalformed)?;
            match *option {
                [kind, 1, a, b, c, d, e, f] if kind == station => self.station = Some(Mac([a, b, c, d, e, f])),
                _ => look(option),
            }
            options = &options[len..];
        }
        Ok(())
    }

    fn is_valid(&self) -> bool {
        let unasked = self.source.is_unspecified();
        match self.kind {
            Kind::Router(_) => self.source.is_unicast_link_local(),
            _ if self.target.is_multicast() => false,
            // Who has no address yet asks all that share the target's group, and is nowhere.
            Kind::Solicitation => {
                !unasked || self.destination == solicited_node(&self.target) && self.station.is_none()
            }
            Kind::Advertisement { solicited } => !unasked && (!solicited || !self.destination.is_multicast()),
        }
    }
}

impl RouterSays {
    fn take(&mut self, option: &[u8]) {
        match *option {
            // On link, of a length that there is, and not link-local, which is so anyway (RFC 4861 §6.3.4).
            [PREFIX, 4, bits @ LEAST_PREFIX..=128, flags, a, b, c, d, ..]
                if flags & 0x80 != 0 && self.on_link.is_none() =>
            {
                let prefix = option.get(16..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default();
                let prefix = Ipv6Addr::from(prefix);
                if !prefix.is_unicast_link_local() && !prefix.is_multicast() {
                    self.on_link = Some((prefix, bits, u32::from_be_bytes([a, b, c, d])));
                }
            }
            [MTU, 1, _, _, a, b, c, d] => self.mtu = Some(u32::from_be_bytes([a, b, c, d])),
            _ => {}
        }
    }
}

/// To whom on the link something is written, and from which of our addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter {
    pub(crate) own: Mac,
    pub(crate) tag: Option<u16>,
    /// Our address; unspecified while we have none that is in use.
    pub(crate) source: Ipv6Addr,
}

impl Letter {
    /// Asks where `target` is: the station `to` alone, or all that share its group.
    ///
    /// # Errors
    /// The frame has no room for 90 bytes.
    pub(crate) fn solicit(&self, frame: &mut Frame, target: Ipv6Addr, to: Option<Mac>) -> Result<(), FrameTooShort> {
        let group = solicited_node(&target);
        let (station, destination) = match to {
            Some(station) => (station, target),
            None => (group_station(&group), group),
        };
        let body = about(SOLICITATION, 0, &target, SOURCE_STATION, self.own);
        // Whoever has no address yet does not say where it is (RFC 4861 §4.3).
        let len = if self.source.is_unspecified() { 24 } else { 32 };
        self.write(frame, (station, destination), &body[..len], &[])
    }

    /// Tells all that `self.source`, which is ours, is here.
    ///
    /// # Errors
    /// As [`solicit`](Self::solicit).
    pub(crate) fn announce(&self, frame: &mut Frame) -> Result<(), FrameTooShort> {
        let body = about(ADVERTISEMENT, OVERRIDE, &self.source, TARGET_STATION, self.own);
        self.write(frame, (group_station(&ALL_NODES), ALL_NODES), &body, &[])
    }

    /// Answers a solicitation for `self.source` from `asker` at the station `to`; from nobody, all are told.
    ///
    /// # Errors
    /// As [`solicit`](Self::solicit).
    pub(crate) fn advertise(&self, frame: &mut Frame, asker: Ipv6Addr, to: Mac) -> Result<(), FrameTooShort> {
        if asker.is_unspecified() {
            return self.announce(frame);
        }
        let body = about(ADVERTISEMENT, SOLICITED | OVERRIDE, &self.source, TARGET_STATION, self.own);
        self.write(frame, (to, asker), &body, &[])
    }

    /// Asks all routers to say what they say.
    ///
    /// # Errors
    /// As [`solicit`](Self::solicit).
    pub(crate) fn solicit_routers(&self, frame: &mut Frame) -> Result<(), FrameTooShort> {
        let mut body = [0; 16];
        body[0] = ROUTER_SOLICITATION;
        body[8..10].copy_from_slice(&[SOURCE_STATION, 1]);
        body[10..].copy_from_slice(&self.own.0);
        let len = if self.source.is_unspecified() { 8 } else { 16 };
        self.write(frame, (group_station(&ALL_ROUTERS), ALL_ROUTERS), &body[..len], &[])
    }

    /// Says that somebody here listens in `groups`, of which there are at most [`REPORTED`].
    ///
    /// # Errors
    /// The frame has no room for it.
    pub(crate) fn report_groups(&self, frame: &mut Frame, groups: &[Ipv6Addr]) -> Result<(), FrameTooShort> {
        let mut body = [0; REPORT_BYTES + RECORD_BYTES * REPORTED];
        let mut len = REPORT_BYTES;
        for (record, group) in body[REPORT_BYTES..].chunks_exact_mut(RECORD_BYTES).zip(groups) {
            // From now on all that is sent to the group (CHANGE_TO_EXCLUDE_MODE, of no source).
            record[0] = 4;
            record[4..].copy_from_slice(&group.octets());
            len += RECORD_BYTES;
        }
        body[0] = GROUP_REPORT;
        body[7] = (len / RECORD_BYTES) as u8;
        self.write(frame, (group_station(&REPORT_LISTENERS), REPORT_LISTENERS), &body[..len], &ALERT)
    }

    /// Writes an ICMPv6 message behind its headers, with its sum.
    fn write(
        &self,
        frame: &mut Frame,
        (station, destination): (Mac, Ipv6Addr),
        body: &[u8],
        extension: &[u8],
    ) -> Result<(), FrameTooShort> {
        let link = LinkHeader::for_ipv6(station, self.own, self.tag);
        let at = link.len() - LONGER_BYTES;
        let len = extension.len() + body.len();
        frame.resize(at + IPV6_BYTES + len)?;
        let bytes = frame.bytes_mut();
        link.write(bytes);
        let Some((header, rest)) = bytes[at..].split_first_chunk_mut::<IPV6_BYTES>() else { return Ok(()) };
        let (hop_limit, next_header) = if extension.is_empty() { (UNROUTED, PROTOCOL_ICMPV6) } else { (1, 0) };
        let head = Head { source: self.source, destination, label: 0, next_header, hop_limit };
        head.write(header, len);
        let (room, message) = rest.split_at_mut(extension.len());
        room.copy_from_slice(extension);
        message.copy_from_slice(body);
        let pseudo = Head { next_header: PROTOCOL_ICMPV6, ..head }.pseudo_sum(message.len());
        let sum = checksum::field(checksum::add(pseudo, message));
        message[2..4].copy_from_slice(&sum);
        Ok(())
    }
}

/// The body of a message about `target`, with an option that says where somebody is.
fn about(kind: u8, flags: u8, target: &Ipv6Addr, option: u8, station: Mac) -> [u8; 32] {
    let mut body = [0; 32];
    (body[0], body[4]) = (kind, flags);
    body[8..24].copy_from_slice(&target.octets());
    body[24..26].copy_from_slice(&[option, 1]);
    body[26..].copy_from_slice(&station.0);
    body
}
