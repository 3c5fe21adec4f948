//! Neighbour discovery (RFC 4861 §7) over Ethernet for IPv6: answers for our address, asks for another's.
//!
//! A frame counts only as §7.1 wants it: hop limit 255, code 0, a right checksum, 24 bytes or more, options whole.

use std::net::Ipv6Addr;

use nic::{Mac, checksum};

use crate::packet::{ADVERTISEMENT, ICMP_V6 as ICMP, IP_AT, SOLICITATION};

/// Bytes of a solicitation or advertisement with one link-layer address option, Ethernet's header included.
pub const FRAME_BYTES: usize = ICMP_AT + ICMP_BYTES;

const ICMP_AT: usize = IP_AT + 40;
/// Type, code, checksum, flags, target; then one option of 8 bytes (RFC 4861 §4.3, §4.4, §4.6.1).
const ICMP_BYTES: usize = TARGET_AT + 16 + 8;
/// Where the target is in the message.
const TARGET_AT: usize = 8;
/// A router has passed nothing on that has this hop limit.
const HOP_LIMIT: u8 = 255;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// The all-nodes group (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Who we are to neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Our Ethernet address.
    pub mac: Mac,
    /// Our address.
    pub address: Ipv6Addr,
}

/// What a frame means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ndp {
    /// It asks for our address: the answer goes to this station; an asker that is testing an address has none.
    Asked(Mac, Option<Ipv6Addr>),
    /// It answers: this address has this Ethernet address.
    Learned(Ipv6Addr, Mac),
    /// It is nothing to us.
    Other,
}

/// Looks at a solicitation or an advertisement.
pub fn receive(frame: &[u8], ours: Host) -> Ndp {
    let Some((source, message)) = message(frame) else { return Ndp::Other };
    let Some(target) = message[TARGET_AT..].first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets)) else {
        return Ndp::Other;
    };
    let Some(options) = options(&message[TARGET_AT + 16..]) else { return Ndp::Other };
    match message[0] {
        SOLICITATION if target == ours.address => {
            let asker = Mac([frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]]);
            let source = Some(source).filter(|source| !source.is_unspecified());
            if asker.is_unicast() { Ndp::Asked(asker, source) } else { Ndp::Other }
        }
        ADVERTISEMENT if !target.is_multicast() => match options.target {
            Some(mac) if mac.is_unicast() => Ndp::Learned(target, mac),
            _ => Ndp::Other,
        },
        _ => Ndp::Other,
    }
}

/// A frame that asks whoever has `wanted`, by its solicited-node group (RFC 4291 §2.7.1).
pub fn solicitation(ours: Host, wanted: Ipv6Addr) -> [u8; FRAME_BYTES] {
    let [.., high, mid, low] = wanted.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(high), u16::from_be_bytes([mid, low]));
    write(ours, (group_mac(group), group), (SOLICITATION, 0), (wanted, SOURCE_OPTION))
}

/// The frame that answers an asker; one without an address is answered to all (RFC 4861 §7.2.4).
pub fn advertisement(ours: Host, mac: Mac, asker: Option<Ipv6Addr>) -> [u8; FRAME_BYTES] {
    let (to, flags) = match asker {
        Some(address) => ((mac, address), SOLICITED | OVERRIDE),
        None => ((group_mac(ALL_NODES), ALL_NODES), OVERRIDE),
    };
    write(ours, to, (ADVERTISEMENT, flags), (ours.address, TARGET_OPTION))
}

/// The Ethernet address of a group (RFC 2464 §7).
fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// The sender's address and the message of a frame that may be believed.
fn message(frame: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let header = frame.get(IP_AT..ICMP_AT)?;
    let bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = frame.get(ICMP_AT..ICMP_AT + bytes)?;
    let (source, to) = (*header[8..].first_chunk::<16>()?, *header[24..].first_chunk::<16>()?);
    let sum = checksum::pseudo_header_v6(source, to, ICMP, bytes as u32);
    let good = header[0] >> 4 == 6 && header[6] == ICMP && header[7] == HOP_LIMIT && bytes >= TARGET_AT + 16;
    (good && message[1] == 0 && checksum::is_right(checksum::add(sum, message))).then(|| (source.into(), message))
}

/// What the options of a message say.
struct Options {
    target: Option<Mac>,
}

/// Reads options; `None` if one has no length, or goes beyond the end.
fn options(mut bytes: &[u8]) -> Option<Options> {
    let mut found = Options { target: None };
    while let [kind, units, ..] = bytes {
        let (option, rest) =
            bytes.split_at_checked(usize::from(*units) * 8).filter(|(option, _)| !option.is_empty())?;
        if *kind == TARGET_OPTION {
            found.target = option[2..].first_chunk().map(|mac| Mac(*mac));
        }
        bytes = rest;
    }
    bytes.is_empty().then_some(found)
}

/// Writes a frame from us: to which station, its type and flags, and the address and option that it is about.
fn write(
    ours: Host,
    (to_mac, to): (Mac, Ipv6Addr),
    (kind, flags): (u8, u8),
    (target, option): (Ipv6Addr, u8),
) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..6].copy_from_slice(&to_mac.0);
    frame[6..12].copy_from_slice(&ours.mac.0);
    frame[12..IP_AT].copy_from_slice(&[0x86, 0xdd]);
    let (header, message) = frame[IP_AT..].split_at_mut(40);
    header[0] = 0x60;
    header[4..8].copy_from_slice(&[0, ICMP_BYTES as u8, ICMP, HOP_LIMIT]);
    header[8..24].copy_from_slice(&ours.address.octets());
    header[24..].copy_from_slice(&to.octets());
    (message[0], message[4]) = (kind, flags);
    message[TARGET_AT..TARGET_AT + 16].copy_from_slice(&target.octets());
    message[TARGET_AT + 16..TARGET_AT + 18].copy_from_slice(&[option, 1]);
    message[TARGET_AT + 18..].copy_from_slice(&ours.mac.0);
    let sum = checksum::pseudo_header_v6(ours.address.octets(), to.octets(), ICMP, ICMP_BYTES as u32);
    let field = checksum::field(checksum::add(sum, message));
    message[2..4].copy_from_slice(&field);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Host =
        Host { mac: Mac([2, 0, 0, 0, 0, 1]), address: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0x12, 0x3456) };
    const PEER: Host = Host { mac: Mac([2, 0, 0, 0, 0, 2]), address: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2) };

    /// As another implementation reads it: the checksum of the frame's message is right.
    fn assert_well_formed(frame: &[u8]) {
        let headers = etherparse::PacketHeaders::from_ethernet_slice(frame).unwrap();
        let (ip, _) = headers.net.unwrap().ipv6_ref().map(|(ip, more)| (ip.clone(), more.clone())).unwrap();
        let icmp = headers.transport.unwrap().icmpv6().unwrap();
        let sum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, headers.payload.slice()).unwrap();
        assert_eq!(icmp.checksum, sum);
        assert_eq!(ip.hop_limit, 255);
    }

    #[test]
    fn a_solicitation_goes_to_the_group_and_is_answered_to_the_asker() {
        let asked = solicitation(PEER, OURS.address);
        assert_well_formed(&asked);
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(receive(&asked, OURS), Ndp::Asked(PEER.mac, Some(PEER.address)));
        let answer = advertisement(OURS, PEER.mac, Some(PEER.address));
        assert_well_formed(&answer);
        assert_eq!((&answer[..6], answer[ICMP_AT + 4]), (&PEER.mac.0[..], SOLICITED | OVERRIDE));
        assert_eq!(receive(&answer, PEER), Ndp::Learned(OURS.address, OURS.mac));
    }

    #[test]
    fn who_tests_an_address_is_answered_to_all() {
        let asker = Host { address: Ipv6Addr::UNSPECIFIED, ..PEER };
        let asked = solicitation(asker, OURS.address);
        assert_eq!(receive(&asked, OURS), Ndp::Asked(PEER.mac, None));
        let answer = advertisement(OURS, PEER.mac, None);
        assert_well_formed(&answer);
        assert_eq!((&answer[..6], answer[ICMP_AT + 4]), (&[0x33, 0x33, 0, 0, 0, 1][..], OVERRIDE));
    }

    #[test]
    fn no_bit_may_be_wrong_and_no_byte_missing() {
        for (good, reader) in
            [(solicitation(PEER, OURS.address), OURS), (advertisement(OURS, PEER.mac, Some(PEER.address)), PEER)]
        {
            // Traffic class and flow label say nothing; all behind them is checked, but for what names no one.
            for bit in (IP_AT + 4) * 8..FRAME_BYTES * 8 {
                let mut bent = good;
                bent[bit / 8] ^= 0x80 >> (bit % 8);
                assert_eq!(receive(&bent, reader), Ndp::Other, "bit {bit}");
            }
            for cut in 0..FRAME_BYTES {
                assert_eq!(receive(&good[..cut], reader), Ndp::Other, "{cut} bytes");
            }
        }
    }

    #[test]
    fn an_option_without_length_or_beyond_the_end_makes_a_message_nothing() {
        assert!(options(&[2, 1, 2, 0, 0, 0, 0, 9]).is_some_and(|options| options.target.is_some()));
        for wrong in [&[2, 0, 2, 0, 0, 0, 0, 9][..], &[2, 2, 2, 0, 0, 0, 0, 9], &[1]] {
            assert!(options(wrong).is_none(), "{wrong:?}");
        }
    }
}
