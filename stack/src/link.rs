//! Ethernet and 802.1Q headers: read from a frame, kept ready-made for the answers.
//!
//! A flow keeps the header its answers need ([`LinkHeader`]), made of the frame that opened it, so that no neighbour
//! look-up is made per packet and a tagged peer is answered with its tag (IEEE 802.3, IEEE 802.1Q §9.3). When the peer
//! turns out to be at another station, `net_stack/neighbors.rs` changes the station alone.

pub use nic::Mac;

use crate::flow_id::FlowKey;
use crate::wire::LONGER_BYTES;

/// EtherType of IPv4.
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100;
/// The bits of a tag that are the VLAN's number; the others are its priority (IEEE 802.1Q §9.6).
pub(crate) const VLAN_NUMBER: u16 = 0xfff;
/// Length of a header without a tag, in bytes.
pub(crate) const ETHERNET_BYTES: usize = 14;
/// Length of a header with one tag, in bytes.
pub(crate) const TAGGED_BYTES: usize = 18;

/// A ready-made link header for frames to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkHeader {
    bytes: [u8; TAGGED_BYTES],
    /// See [`len`](Self::len).
    len: u8,
}

impl LinkHeader {
    /// A header for frames from `own` to `peer`, with the tag control information `tag` if there is one.
    pub(crate) fn new(peer: Mac, own: Mac, tag: Option<u16>, ethertype: u16) -> Self {
        let mut bytes = [0; TAGGED_BYTES];
        bytes[..6].copy_from_slice(&peer.0);
        bytes[6..12].copy_from_slice(&own.0);
        let len = match tag {
            None => {
                bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
                ETHERNET_BYTES
            }
            Some(tag) => {
                bytes[12..14].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
                bytes[14..16].copy_from_slice(&tag.to_be_bytes());
                bytes[16..18].copy_from_slice(&ethertype.to_be_bytes());
                TAGGED_BYTES
            }
        };
        Self { bytes, len: len as u8 }
    }

    /// The header of an answer to `frame`, whose packet, as far as the rest of the stack reads it, begins `at`, and whose link
    /// header is checked: `at` is its length, or more where the packet is IPv6.
    #[inline]
    pub(crate) fn answering(frame: &[u8], at: usize) -> Self {
        if at > TAGGED_BYTES {
            return Self::answering_ipv6(frame);
        }
        let len = at.min(frame.len());
        let mut bytes = [0; TAGGED_BYTES];
        bytes[..len].copy_from_slice(&frame[..len]);
        let (peer, own) = bytes.split_at_mut(6);
        peer.swap_with_slice(&mut own[..6]);
        Self { bytes, len: len as u8 }
    }

    /// The same to a frame that carries IPv6.
    #[cold]
    fn answering_ipv6(frame: &[u8]) -> Self {
        let (own, tag) = (frame.first_chunk::<6>().copied().unwrap_or_default(), source(frame));
        Self::for_ipv6(tag.0, Mac(own), tag.1)
    }

    /// As [`new`](Self::new), for frames that carry IPv6.
    pub(crate) fn for_ipv6(peer: Mac, own: Mac, tag: Option<u16>) -> Self {
        let header = Self::new(peer, own, tag, ETHERTYPE_IPV6);
        Self { len: header.len + LONGER_BYTES as u8, ..header }
    }

    /// As [`new`](Self::new), for frames of the flow `key`.
    pub(crate) fn of_flow(peer: Mac, own: Mac, tag: Option<u16>, key: &FlowKey) -> Self {
        if key.is_ipv6() { Self::for_ipv6(peer, own, tag) } else { Self::new(peer, own, tag, ETHERTYPE_IPV4) }
    }

    /// Whether it is of frames that carry IPv6.
    #[inline]
    pub(crate) fn is_ipv6(&self) -> bool {
        usize::from(self.len) > TAGGED_BYTES
    }

    /// The station that frames with this header go to.
    #[inline]
    pub(crate) fn peer(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.bytes;
        Mac([a, b, c, d, e, f])
    }

    /// Has frames with this header go to another station.
    pub(crate) fn set_peer(&mut self, peer: Mac) {
        self.bytes[..6].copy_from_slice(&peer.0);
    }

    /// The tag control information, if the header has any.
    pub(crate) fn tag(&self) -> Option<u16> {
        let tagged = self.bytes[12..14] == ETHERTYPE_VLAN.to_be_bytes();
        tagged.then(|| u16::from_be_bytes([self.bytes[14], self.bytes[15]]))
    }

    /// Whether `frame` comes from the station that frames with this header go to.
    #[inline]
    pub(crate) fn is_from_peer(&self, frame: &[u8]) -> bool {
        frame.get(6..12) == Some(&self.bytes[..6])
    }

    /// A header of no bytes, for a block that no flow uses.
    pub(crate) const EMPTY: Self = Self { bytes: [0; TAGGED_BYTES], len: 0 };

    /// What a frame begins with. What is behind the header itself is written over by the packet.
    #[cfg(test)]
    pub(crate) fn start(&self) -> &[u8; TAGGED_BYTES] {
        &self.bytes
    }

    /// Writes it in front of a frame, which is longer than any header. The packet must be written afterwards.
    #[inline]
    pub(crate) fn write(&self, frame: &mut [u8]) {
        if let Some(start) = frame.first_chunk_mut() {
            *start = self.bytes;
        }
    }

    /// Bytes in front of the packet as it is written at first: the header, and for IPv6 as many as an IPv6 header is longer than
    /// the one of IPv4, in whose form the packet is written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// The station that `frame` comes from, and its tag control information if it has any.
pub(crate) fn source(frame: &[u8]) -> (Mac, Option<u16>) {
    let mac = frame.get(6..).and_then(|rest| rest.first_chunk::<6>()).copied().unwrap_or_default();
    let tag = match frame.get(12..16) {
        Some(&[high, low, tag_high, tag_low]) if u16::from_be_bytes([high, low]) == ETHERTYPE_VLAN => {
            Some(u16::from_be_bytes([tag_high, tag_low]))
        }
        _ => None,
    };
    (Mac(mac), tag)
}

/// Where the packet in `frame` begins.
pub(crate) fn packet_at(frame: &[u8]) -> usize {
    if source(frame).1.is_some() { TAGGED_BYTES } else { ETHERNET_BYTES }
}

/// Whether `frame` carries IPv6.
pub(crate) fn is_ipv6(frame: &[u8]) -> bool {
    let at = packet_at(frame);
    frame.get(at - 2..at) == Some(&ETHERTYPE_IPV6.to_be_bytes())
}

/// Turns the link header at the front of `frame` round, in place: the answer goes to whom it came from.
pub(crate) fn turn_round(frame: &mut [u8]) {
    if let Some(addresses) = frame.get_mut(..12) {
        let (to, from) = addresses.split_at_mut(6);
        to.swap_with_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn an_answer_goes_back_with_the_tag_it_came_with() {
        for tag in [None, Some(0x6042)] {
            let sent = LinkHeader::new(OWN, PEER, tag, ETHERTYPE_IPV4);
            let answer = LinkHeader::answering(sent.start(), sent.len());
            assert_eq!(answer, LinkHeader::new(PEER, OWN, tag, ETHERTYPE_IPV4));
            assert_eq!((answer.peer(), answer.tag(), answer.is_from_peer(sent.start())), (PEER, tag, true));
        }
    }

    #[test]
    fn the_header_of_ipv6_leaves_room_for_what_is_longer_in_it() {
        for (tag, len) in [(None, 14), (Some(0x6042), 18)] {
            let sent = LinkHeader::for_ipv6(OWN, PEER, tag);
            let answer = LinkHeader::answering(sent.start(), sent.len() + 8);
            assert_eq!(answer, LinkHeader::for_ipv6(PEER, OWN, tag));
            assert_eq!((answer.len(), answer.tag(), answer.is_ipv6()), (len + 20, tag, true));
            assert_eq!(answer.start()[len - 2..len], [0x86, 0xdd]);
        }
        assert!(!LinkHeader::new(OWN, PEER, Some(1), ETHERTYPE_IPV4).is_ipv6());
    }

    #[test]
    fn another_station_is_all_that_changes() {
        let mut link = LinkHeader::new(PEER, OWN, Some(7), ETHERTYPE_IPV4);
        let other = Mac([2, 0, 0, 0, 0, 3]);
        link.set_peer(other);
        assert_eq!(link, LinkHeader::new(other, OWN, Some(7), ETHERTYPE_IPV4));
        assert!(!link.is_from_peer(LinkHeader::new(OWN, PEER, Some(7), ETHERTYPE_IPV4).start()));
        assert!(!link.is_from_peer(&[0; 11]));
    }

    #[test]
    fn turning_round_twice_changes_nothing() {
        let mut frame = LinkHeader::new(OWN, PEER, None, ETHERTYPE_ARP).start()[..14].to_vec();
        let before = frame.clone();
        turn_round(&mut frame);
        assert_eq!(&frame[..6], &PEER.0);
        turn_round(&mut frame);
        assert_eq!(frame, before);
        turn_round(&mut [0; 5]);
    }

    #[test]
    fn only_one_station_is_unicast() {
        assert!(OWN.is_unicast());
        assert!(!Mac::BROADCAST.is_unicast());
        assert!(!Mac([0; 6]).is_unicast());
        assert_eq!(PEER.to_string(), "02:00:00:00:00:09");
    }
}
