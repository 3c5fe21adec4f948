//! An IPv6 packet's headers: what lies behind them, what is wrong with them, and whether its sender is told so.
//!
//! Extension headers are passed over, with a bound: nothing in them changes what becomes of a segment, and who sends many
//! wants us to read them. A sender is told where a fault is (RFC 4443 §3.4) when the packet was for one of our addresses at
//! our own station, comes from one host, and carries no error itself (§2.4 (e)).
//! Read first: RFC 8200 §4; RFC 5095, RFC 6946, RFC 7112 for what is refused.

use std::net::Ipv6Addr;

use nic::checksum;

use super::{Class, Problem};
use crate::drop_reason::DropReason;
use crate::names::Names;
use crate::own_addresses::{Standing, is_host};
use crate::reassembly::Fragment6;
use crate::wire::{IPV6_BYTES, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, UDP_BYTES};

/// IPv6's numbers for extension headers, and for "nothing follows".
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NOTHING: u8 = 59;
const DESTINATION: u8 = 60;

/// Length of both addresses, with which an IPv6 header ends, in bytes.
const ADDRESS_BYTES: usize = 32;

/// Length of a fragment header, in bytes.
const FRAGMENT_BYTES: usize = 8;

/// Extension headers that are passed over, and their bytes together. RFC 8200 §4.1 has six that a packet may have; senders in
/// use have two at most (RFC 9098 §6 has what routers make of more).
const MOST_HEADERS: usize = 8;
const MOST_HEADER_BYTES: usize = 128;

/// The longest payload that a packet may have.
const MOST_PAYLOAD_BYTES: usize = 65_535;

/// What a parameter problem says (RFC 4443 §3.4, RFC 7112 §5).
const FIELD: u8 = 0;
const UNKNOWN_HEADER: u8 = 1;
const UNKNOWN_OPTION: u8 = 2;
const FIRST_FRAGMENT: u8 = 3;

/// A packet whose headers are being read. It is given by value to what is seldom called, so that of most packets none is ever
/// made.
#[derive(Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) frame: &'a [u8],
    /// Where it begins and ends in its frame.
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) hop_limit: u8,
    /// The number of our address to which it is; `None`: to a group.
    pub(super) own: Option<usize>,
    /// Its frame is to our station, not to a group of stations.
    pub(super) to_us: bool,
}

/// What lies behind a packet's extension headers.
pub(super) enum Upper {
    Header(UpperHeader),
    Fragment(Fragment6),
}

/// A header of the upper layer.
pub(super) struct UpperHeader {
    /// Where it begins in the frame, and of which protocol it is.
    pub(super) from: usize,
    pub(super) protocol: u8,
    /// Where the byte is that says so.
    pub(super) named_at: usize,
    /// The packet has a fragment header.
    pub(super) cut: bool,
}

/// What is wrong with a packet.
pub(super) struct Fault {
    reason: DropReason,
    /// The code of the parameter problem that its sender is told of, and where in the frame the fault is; `None`: of none.
    told: Option<(u8, usize)>,
}

impl From<DropReason> for Fault {
    /// A fault that nobody is told of.
    fn from(reason: DropReason) -> Self {
        Self { reason, told: None }
    }
}

impl Fault {
    fn told(reason: DropReason, code: u8, place: usize) -> Self {
        Self { reason, told: Some((code, place)) }
    }

    /// Behind the headers stands what nobody here knows, or nothing (RFC 8200 §4, §4.7).
    #[cold]
    pub(super) fn of_protocol(header: &UpperHeader) -> Self {
        match header.protocol {
            NOTHING => DropReason::IpProtocol.into(),
            _ => Self::told(DropReason::IpProtocol, UNKNOWN_HEADER, header.named_at),
        }
    }
}

impl Packet<'_> {
    /// Finds what lies behind the extension headers, of which the first is `next`.
    #[inline(always)]
    pub(super) fn pass_over_headers(&self, next: u8) -> Result<Upper, Fault> {
        if matches!(next, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6) {
            let (from, named_at) = (self.at + IPV6_BYTES, self.at + 6);
            return Ok(Upper::Header(UpperHeader { from, protocol: next, named_at, cut: false }));
        }
        self.pass_over_some(next)
    }

    #[cold]
    fn pass_over_some(self, mut next: u8) -> Result<Upper, Fault> {
        let first = self.at + IPV6_BYTES;
        let (mut from, mut named_at, mut cut) = (first, self.at + 6, false);
        for count in 0..=MOST_HEADERS {
            match next {
                HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT if count == MOST_HEADERS => break,
                // RFC 8200 §4: it comes first, and elsewhere is as unknown as any number.
                HOP_BY_HOP if count > 0 => return Err(Fault::told(DropReason::Ip6Headers, UNKNOWN_HEADER, named_at)),
                HOP_BY_HOP | DESTINATION | ROUTING => {
                    let header = self.extension(from)?;
                    if next == ROUTING {
                        check_route(header, from)?;
                    } else {
                        check_options(header, from)?;
                    }
                    (next, named_at, from) = (header[0], from, from + header.len());
                }
                FRAGMENT => {
                    if let Some(fragment) = self.fragment(from)? {
                        return Ok(Upper::Fragment(fragment));
                    }
                    // RFC 6946 §4: one that is all of its packet is no other than the packet.
                    cut = true;
                    (next, named_at, from) = (self.frame[from], from, from + FRAGMENT_BYTES);
                }
                protocol => return Ok(Upper::Header(UpperHeader { from, protocol, named_at, cut })),
            }
            if from - first > MOST_HEADER_BYTES {
                break;
            }
        }
        Err(DropReason::Ip6Headers.into())
    }

    /// The extension header that begins `from`.
    fn extension(&self, from: usize) -> Result<&[u8], DropReason> {
        extension(&self.frame[from..self.end]).ok_or(DropReason::Ip6Headers)
    }

    /// The fragment whose header begins `from`; `None`: it is all of its packet.
    fn fragment(&self, from: usize) -> Result<Option<Fragment6>, Fault> {
        let rest = &self.frame[from..self.end];
        let Some((header, payload)) = rest.split_first_chunk::<FRAGMENT_BYTES>() else {
            return Err(DropReason::Ip6Headers.into());
        };
        let word = u16::from_be_bytes([header[2], header[3]]);
        let (offset, more, protocol) = (word & 0xfff8, word & 1 != 0, header[0]);
        if offset == 0 && !more {
            return Ok(None);
        }
        // RFC 8200 §4.5: the field that is wrong is the payload's length, or the offset.
        if more && !payload.len().is_multiple_of(8) {
            return Err(Fault::told(DropReason::FragmentMalformed, FIELD, self.at + 4));
        }
        let unfragmented = from - (self.at + IPV6_BYTES);
        if unfragmented + usize::from(offset) + payload.len() > MOST_PAYLOAD_BYTES {
            return Err(Fault::told(DropReason::FragmentMalformed, FIELD, from + 2));
        }
        // RFC 7112 §5: the first has all headers. Filters see these nowhere else. What is told points nowhere.
        if offset == 0 && !has_all_headers(protocol, payload) {
            return Err(Fault::told(DropReason::FragmentMalformed, FIRST_FRAGMENT, self.at));
        }
        if !matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
            return Err(DropReason::IpFragment.into());
        }
        let (payload_at, len) = ((from + FRAGMENT_BYTES) as u8, payload.len() as u16);
        Ok(Some(Fragment6 { at: self.at as u8, payload_at, len, offset, more, protocol }))
    }

    /// Checks that one other host may have sent it.
    #[inline]
    pub(super) fn check_source(&self, names: &Names) -> Result<(), DropReason> {
        if names.own.position(&self.source).is_some() {
            return Err(DropReason::Land);
        }
        if is_host(&self.source) { Ok(()) } else { Err(DropReason::Ip6Martian) }
    }

    #[inline]
    pub(super) fn pseudo_sum(&self, protocol: u8, len: usize) -> u64 {
        checksum::pseudo_header_v6(self.source.octets(), self.destination.octets(), protocol, len as u32)
    }

    /// The sum of `message`, which is of `protocol` and begins `from`, and of its pseudo-header.
    #[inline(always)]
    pub(super) fn sum(&self, protocol: u8, from: usize, message: &[u8]) -> u64 {
        // Where nothing stands between, the addresses are in front of it: one sum instead of three.
        let with_addresses =
            from.checked_sub(ADDRESS_BYTES).and_then(|begin| self.frame.get(begin..from + message.len()));
        match with_addresses.filter(|_| from == self.at + IPV6_BYTES) {
            Some(all) => checksum::add(checksum::pseudo_header([0; 4], [0; 4], protocol, message.len() as u16), all),
            None => checksum::add(self.pseudo_sum(protocol, message.len()), message),
        }
    }

    /// What becomes of the packet, of which `fault` was found.
    ///
    /// Deviates: RFC 8200 §4.2 would have the sender of an option of the kind 10 told even where the packet was for a group; one
    /// packet of one host would draw an answer of each on the link.
    #[cold]
    pub(super) fn refuse(self, names: &Names, fault: Fault) -> Result<Class, DropReason> {
        let Fault { reason, told: Some((code, place)) } = fault else { return Err(fault.reason) };
        let in_use = self.own.is_some_and(|number| names.own.standing(number) == Standing::Assigned);
        if !in_use || !self.to_us || self.check_source(names).is_err() || self.may_be_error() {
            return Err(reason);
        }
        let pointer = (place - self.at) as u16;
        Ok(Class::Problem(Problem { reason, code, at: self.at as u8, pointer }))
    }

    /// Whether it carries an error of ICMPv6, or ends before that can be told.
    fn may_be_error(&self) -> bool {
        let (mut next, mut from) = (self.frame[self.at + 6], self.at + IPV6_BYTES);
        for _ in 0..=MOST_HEADERS {
            let rest = self.frame.get(from..self.end).unwrap_or_default();
            let header = match next {
                // RFC 4443 §2.1: what informs has the first bit set.
                PROTOCOL_ICMPV6 => return rest.first().is_none_or(|kind| kind & 0x80 == 0),
                HOP_BY_HOP | DESTINATION | ROUTING => extension(rest),
                FRAGMENT => match rest {
                    // What follows is no header.
                    [_, _, high, low, ..] if u16::from_be_bytes([*high, *low]) >= 8 => return false,
                    _ => rest.get(..FRAGMENT_BYTES),
                },
                _ => return false,
            };
            let Some(header) = header else { return true };
            (next, from) = (header[0], from + header.len());
        }
        true
    }
}

/// The extension header that `rest` begins with.
fn extension(rest: &[u8]) -> Option<&[u8]> {
    rest.get(..8 + 8 * usize::from(*rest.get(1)?))
}

/// Whether all headers of a packet are in `payload`, its first fragment, of which the first is `next`.
fn has_all_headers(mut next: u8, mut payload: &[u8]) -> bool {
    for _ in 0..MOST_HEADERS {
        next = match next {
            PROTOCOL_TCP => return payload.get(12).is_some_and(|byte| payload.len() >= usize::from(byte >> 4) * 4),
            PROTOCOL_UDP => return payload.len() >= UDP_BYTES,
            PROTOCOL_ICMPV6 => return payload.len() >= 4,
            HOP_BY_HOP | DESTINATION | ROUTING => {
                let Some(header) = extension(payload) else { return false };
                payload = &payload[header.len()..];
                header[0]
            }
            // What is unknown is not looked into.
            _ => return true,
        };
    }
    true
}

/// Checks that the routing header that begins `from` has been followed to its end, and is of a kind that may be (RFC 8200 §4.4,
/// RFC 5095 §3). Deviates: of type 0 none is passed over, though it leads no further.
fn check_route(header: &[u8], from: usize) -> Result<(), Fault> {
    match (header[2], header[3]) {
        (0, 0) => Err(DropReason::Ip6RoutingHeader.into()),
        (_, 0) => Ok(()),
        _ => Err(Fault::told(DropReason::Ip6RoutingHeader, FIELD, from + 2)),
    }
}

/// Goes through the options of the header that begins `from`: each has its length within it, and its sender does not want the
/// packet dropped by who does not know it (RFC 8200 §4.2).
fn check_options(header: &[u8], from: usize) -> Result<(), Fault> {
    /// Fillers; router alert (RFC 2711), which asks nothing of a host.
    const PAD_1: u8 = 0;
    const JUMBO: u8 = 0xc2;
    let mut at = 2;
    while let Some(&kind) = header.get(at) {
        if kind == PAD_1 {
            at += 1;
            continue;
        }
        match kind >> 6 {
            // RFC 2675 §3: the packet has a length in its header.
            _ if kind == JUMBO => return Err(Fault::told(DropReason::Ip6Jumbo, FIELD, from + at)),
            0 => {}
            1 => return Err(DropReason::Ip6Option.into()),
            _ => return Err(Fault::told(DropReason::Ip6Option, UNKNOWN_OPTION, from + at)),
        }
        at += 2 + usize::from(*header.get(at + 1).ok_or(DropReason::Ip6Headers)?);
        if at > header.len() {
            return Err(DropReason::Ip6Headers.into());
        }
    }
    Ok(())
}
