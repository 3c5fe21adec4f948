//! `Datagram`: the peers' UDP datagrams over IPv4 and Ethernet, written and read by hand.
//!
//! Nothing here is measured. Checksums are computed when writing and verified when reading, so that a stack that saved
//! its cost by leaving them out would be found out. Read first: RFC 768.

use std::net::Ipv4Addr;

use crate::segment::{CLIENT_MAC, ETHERNET_BYTES, IPV4_BYTES, SERVER, SERVER_MAC, SERVER_PORT, fold, sum};

const UDP_AT: usize = ETHERNET_BYTES + IPV4_BYTES;
const HEADER_BYTES: usize = UDP_AT + 8;
/// IPv4's number for UDP.
const PROTOCOL_UDP: u8 = 17;

/// A datagram between a peer and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The peer's address.
    pub peer: Ipv4Addr,
    /// The peer's port.
    pub port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Writes the frame that the peer sends into `frame`, replacing what is there.
    pub fn write(&self, frame: &mut Vec<u8>) {
        let udp_bytes = 8 + self.payload.len() as u16;
        frame.clear();
        frame.extend(SERVER_MAC);
        frame.extend(CLIENT_MAC);
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((IPV4_BYTES as u16 + udp_bytes).to_be_bytes());
        // No identification, do not fragment, 64 hops, UDP.
        frame.extend([0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0]);
        frame.extend(self.peer.octets());
        frame.extend(SERVER.octets());
        let header_sum = !fold(sum(&frame[ETHERNET_BYTES..]));
        frame[24..26].copy_from_slice(&header_sum.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(SERVER_PORT.to_be_bytes());
        frame.extend(udp_bytes.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(self.payload);
        let pseudo = sum(&frame[26..34]) + u64::from(PROTOCOL_UDP) + u64::from(udp_bytes);
        let udp_sum = match !fold(pseudo + sum(&frame[UDP_AT..])) {
            0 => 0xffff,
            sum => sum,
        };
        frame[UDP_AT + 6..UDP_AT + 8].copy_from_slice(&udp_sum.to_be_bytes());
    }

    /// Reads a frame of the server; `None` when it is not a whole UDP datagram with a right checksum.
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        let header = frame.first_chunk::<HEADER_BYTES>()?;
        let udp_bytes = u16::from_be_bytes([header[UDP_AT + 4], header[UDP_AT + 5]]);
        let datagram = frame.get(UDP_AT..)?;
        let pseudo = sum(&frame[26..34]) + u64::from(PROTOCOL_UDP) + u64::from(udp_bytes);
        let udp_over_ipv4 = header[12..15] == [0x08, 0x00, 0x45] && header[23] == PROTOCOL_UDP;
        let whole = datagram.len() == usize::from(udp_bytes) && header[UDP_AT + 6..UDP_AT + 8] != [0, 0];
        let from_server = header[26..30] == SERVER.octets() && header[UDP_AT..UDP_AT + 2] == SERVER_PORT.to_be_bytes();
        let right = fold(sum(&frame[ETHERNET_BYTES..UDP_AT])) == 0xffff && fold(pseudo + sum(datagram)) == 0xffff;
        if !udp_over_ipv4 || !whole || !from_server || !right {
            return None;
        }
        Some(Self {
            peer: Ipv4Addr::new(header[30], header[31], header[32], header[33]),
            port: u16::from_be_bytes([header[UDP_AT + 2], header[UDP_AT + 3]]),
            payload: &frame[HEADER_BYTES..],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_datagram_is_not_read() {
        let peer = Ipv4Addr::new(10, 1, 0, 9);
        let mut frame = Vec::new();
        Datagram { peer, port: 4_321, payload: b"abc" }.write(&mut frame);
        // As the server would send it: addresses and ports change places, which no checksum notices.
        frame[26..30].copy_from_slice(&SERVER.octets());
        frame[30..34].copy_from_slice(&peer.octets());
        frame[34..36].copy_from_slice(&SERVER_PORT.to_be_bytes());
        frame[36..38].copy_from_slice(&4_321u16.to_be_bytes());
        assert_eq!(Datagram::read(&frame), Some(Datagram { peer, port: 4_321, payload: b"abc" }));
        for at in ETHERNET_BYTES..frame.len() {
            frame[at] ^= 4;
            assert_eq!(Datagram::read(&frame), None, "byte {at}");
            frame[at] ^= 4;
        }
    }
}
