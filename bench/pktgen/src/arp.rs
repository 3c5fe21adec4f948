//! ARP (RFC 826) over Ethernet for IPv4: answers for our address, asks for another's.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType};
use nic::Mac;

use crate::packet::FRAME_BYTES_MIN;

/// Where the ARP packet starts.
const ARP_AT: usize = 14;

/// Who we are to ARP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Our Ethernet address.
    pub mac: Mac,
    /// Our address.
    pub address: Ipv4Addr,
}

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
pub fn receive(frame: &mut [u8], ours: Host) -> Arp {
    let packet = frame.get(ARP_AT..).and_then(|packet| ArpPacket::from_slice(packet).ok());
    let Some(packet) = packet.and_then(|packet| packet.try_eth_ipv4().ok()) else { return Arp::Other };
    let sender = Mac(packet.sender_mac);
    if packet.target_ipv4 != ours.address.octets() || !sender.is_unicast() {
        return Arp::Other;
    }
    match packet.operation {
        ArpOperation::REPLY => Arp::Learned(packet.sender_ipv4.into(), sender),
        ArpOperation::REQUEST => {
            write(frame, ours, ArpOperation::REPLY, (sender, packet.sender_mac), packet.sender_ipv4);
            Arp::Answer
        }
        _ => Arp::Other,
    }
}

/// A frame that asks everyone who has `wanted`.
pub fn request(ours: Host, wanted: Ipv4Addr) -> [u8; FRAME_BYTES_MIN] {
    let mut frame = [0; FRAME_BYTES_MIN];
    write(&mut frame, ours, ArpOperation::REQUEST, (Mac::BROADCAST, [0; 6]), wanted.octets());
    frame
}

/// Writes a frame from us: to which Ethernet address, and which addresses its packet is about.
fn write(frame: &mut [u8], ours: Host, operation: ArpOperation, (to, mac): (Mac, [u8; 6]), address: [u8; 4]) {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: ours.mac.0,
        sender_ipv4: ours.address.octets(),
        target_mac: mac,
        target_ipv4: address,
    };
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&ours.mac.0);
    frame[12..ARP_AT].copy_from_slice(&EtherType::ARP.0.to_be_bytes());
    frame[ARP_AT..ARP_AT + ArpEthIpv4Packet::LEN].copy_from_slice(&packet.to_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Host = Host { mac: Mac([2, 0, 0, 0, 0, 1]), address: Ipv4Addr::new(10, 0, 0, 1) };
    const PEER: Host = Host { mac: Mac([2, 0, 0, 0, 0, 2]), address: Ipv4Addr::new(10, 0, 0, 2) };

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
