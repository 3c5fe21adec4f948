//! Frames for the tests: UDP made and read, ARP answered. Checksums of IPv4 are right, those of UDP are left out (0).

use std::net::Ipv4Addr;

use etherparse::checksum::Sum16BitWords;

/// Bytes of Ethernet and IPv4 header.
pub const IPV4_BYTES: usize = 34;

/// Bytes of all headers of a UDP frame.
pub const UDP_BYTES: usize = 42;

/// One end of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub mac: [u8; 6],
    pub address: Ipv4Addr,
    pub port: u16,
}

/// Writes the headers of a UDP datagram that fills `frame` over its first bytes.
pub fn write_udp(frame: &mut [u8], from: Place, to: Place) {
    let len = frame.len();
    frame[0..6].copy_from_slice(&to.mac);
    frame[6..12].copy_from_slice(&from.mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..IPV4_BYTES];
    ip.fill(0);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&from.address.octets());
    ip[16..20].copy_from_slice(&to.address.octets());
    let sum = Sum16BitWords::new().add_slice(ip).ones_complement();
    ip[10..12].copy_from_slice(&sum.to_ne_bytes());
    let udp = &mut frame[IPV4_BYTES..UDP_BYTES];
    udp[0..2].copy_from_slice(&from.port.to_be_bytes());
    udp[2..4].copy_from_slice(&to.port.to_be_bytes());
    udp[4..6].copy_from_slice(&((len - IPV4_BYTES) as u16).to_be_bytes());
    udp[6..8].copy_from_slice(&[0, 0]);
}

/// From where, to where and what, if the frame is a UDP datagram.
pub fn read_udp(frame: &[u8]) -> Option<(Place, Place, &[u8])> {
    if frame.len() < UDP_BYTES || frame[12..14] != [0x08, 0x00] || frame[14] != 0x45 || frame[23] != 17 {
        return None;
    }
    let place = |mac: usize, address: usize, port: usize| {
        let mac = frame[mac..mac + 6].try_into().ok()?;
        let address: [u8; 4] = frame[address..address + 4].try_into().ok()?;
        let port = u16::from_be_bytes([frame[port], frame[port + 1]]);
        Some(Place { mac, address: Ipv4Addr::from(address), port })
    };
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    Some((place(6, 26, 34)?, place(0, 30, 36)?, frame.get(UDP_BYTES..end)?))
}

/// Whether the frame asks for the MAC address of `address`.
pub fn is_arp_request_for(frame: &[u8], address: Ipv4Addr) -> bool {
    frame.len() >= 42 && frame[12..14] == [0x08, 0x06] && frame[20..22] == [0, 1] && frame[38..42] == address.octets()
}

/// Turns an ARP request into the reply of the one who has `mac` (RFC 826).
pub fn answer_arp(frame: &mut [u8], mac: [u8; 6]) {
    let asker: [u8; 10] = frame[22..32].try_into().expect("ten bytes");
    let asked: [u8; 4] = frame[38..42].try_into().expect("four bytes");
    frame[0..6].copy_from_slice(&asker[..6]);
    frame[6..12].copy_from_slice(&mac);
    frame[20..22].copy_from_slice(&[0, 2]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&asked);
    frame[32..42].copy_from_slice(&asker);
}
