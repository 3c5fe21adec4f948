//! ARP (RFC 826) over Ethernet for IPv4: answers for our address, asks for another's.

use std::net::Ipv4Addr;

use crate::packet::FRAME_BYTES_MIN;
use crate::station::{Mac, Station};

/// Where the ARP packet starts; it is 28 bytes long.
const ARP_AT: usize = 14;
const ARP_BYTES: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// What an ARP frame means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arp {
    /// It asked for our address; the frame is now the answer, to be sent.
    Answer,
    /// It answers: this address has this Ethernet address.
    Learned(Ipv4Addr, Mac),
    /// It is nothing to us.
    Other,
}

/// Looks at an ARP frame, and turns a request for our address into the answer.
pub fn receive(frame: &mut [u8], ours: Station) -> Arp {
    let Some((ethernet, rest)) = frame.split_at_mut_checked(ARP_AT) else { return Arp::Other };
    let Some(packet) = rest.get_mut(..ARP_BYTES) else { return Arp::Other };
    let sender_mac = Mac([packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]]);
    if packet[..6] != ETHERNET_IPV4 || packet[24..28] != ours.address.octets() || !sender_mac.is_unicast() {
        return Arp::Other;
    }
    if packet[6..8] == REPLY {
        return Arp::Learned(Ipv4Addr::new(packet[14], packet[15], packet[16], packet[17]), sender_mac);
    }
    if packet[6..8] != REQUEST {
        return Arp::Other;
    }
    // RFC 826, "Packet Reception": swap the fields, put ours into the sender's, and say that it is a reply.
    packet[6..8].copy_from_slice(&REPLY);
    packet.copy_within(8..18, 18);
    packet[8..14].copy_from_slice(&ours.mac.0);
    packet[14..18].copy_from_slice(&ours.address.octets());
    ethernet[..6].copy_from_slice(&sender_mac.0);
    ethernet[6..12].copy_from_slice(&ours.mac.0);
    Arp::Answer
}

/// A frame that asks everyone who has `wanted`.
pub fn request(ours: Station, wanted: Ipv4Addr) -> [u8; FRAME_BYTES_MIN] {
    let mut frame = [0; FRAME_BYTES_MIN];
    frame[..6].copy_from_slice(&Mac::BROADCAST.0);
    frame[6..12].copy_from_slice(&ours.mac.0);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let packet = &mut frame[ARP_AT..ARP_AT + ARP_BYTES];
    packet[..6].copy_from_slice(&ETHERNET_IPV4);
    packet[6..8].copy_from_slice(&REQUEST);
    packet[8..14].copy_from_slice(&ours.mac.0);
    packet[14..18].copy_from_slice(&ours.address.octets());
    packet[24..28].copy_from_slice(&wanted.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Station = Station { mac: Mac([2, 0, 0, 0, 0, 1]), address: Ipv4Addr::new(10, 0, 0, 1) };
    const PEER: Station = Station { mac: Mac([2, 0, 0, 0, 0, 2]), address: Ipv4Addr::new(10, 0, 0, 2) };

    #[test]
    fn a_request_becomes_the_answer_that_the_asker_learns_from() {
        let mut frame = request(PEER, OURS.address);
        assert_eq!(receive(&mut frame, OURS), Arp::Answer);
        assert_eq!((&frame[..6], &frame[6..12]), (&PEER.mac.0[..], &OURS.mac.0[..]));
        assert_eq!(receive(&mut frame, PEER), Arp::Learned(OURS.address, OURS.mac));
    }

    #[test]
    fn what_does_not_concern_us_is_left_as_it_is() {
        let good = request(PEER, OURS.address);
        // Another hardware type, protocol, length, operation, asker with a group's address, target.
        for (at, value) in [(15, 6), (16, 9), (18, 8), (21, 3), (22, 1), (41, 9)] {
            let mut frame = good;
            frame[at] = value;
            let before = frame;
            assert_eq!(receive(&mut frame, OURS), Arp::Other, "byte {at}");
            assert_eq!(frame, before);
        }
        for cut in 0..42 {
            let mut short = good;
            assert_eq!(receive(&mut short[..cut], OURS), Arp::Other, "{cut} bytes");
        }
    }
}
