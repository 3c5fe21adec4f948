//! Frames between a client and the server: TCP segments and UDP datagrams over IPv4 and Ethernet, with right checksums.
//!
//! What is sent has no identification, is not to be fragmented and has 64 hops: etherparse's own choices.

use std::net::Ipv4Addr;

use etherparse::{
    IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice,
};

/// No more from the sender.
pub const FIN: u8 = 0x01;
/// Synchronises sequence numbers.
pub const SYN: u8 = 0x02;
/// Resets the connection.
pub const RST: u8 = 0x04;
/// Pushes the data to the application.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;

/// The Ethernet address of the stack that is measured.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The Ethernet address of all clients.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The IPv4 address of the stack that is measured.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Its port.
pub const SERVER_PORT: u16 = 11_211;

/// A segment between a client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The client's address.
    pub client: Ipv4Addr,
    /// The client's port.
    pub port: u16,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// `SYN`, `ACK` and so on.
    pub flags: u8,
    /// The data.
    pub data: &'a [u8],
}

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

/// What the server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent<'a> {
    /// To a client.
    Segment(Segment<'a>),
    /// To a peer.
    Datagram(Datagram<'a>),
}

fn headers(from: Ipv4Addr) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(from.octets(), SERVER.octets(), 64)
}

impl Segment<'_> {
    /// Writes the frame that the client sends into `frame`, replacing what is there. A SYN offers a segment size of
    /// 1,460 bytes, as a client on a link of 1,500 does.
    pub fn write(&self, frame: &mut Vec<u8>) {
        let set = |flag: u8| self.flags & flag != 0;
        let mut header = TcpHeader::new(self.port, SERVER_PORT, self.seq, u16::MAX);
        header.acknowledgment_number = self.ack;
        (header.fin, header.syn, header.psh, header.ack) = (set(FIN), set(SYN), set(PSH), set(ACK));
        if header.syn {
            header.set_options(&[TcpOptionElement::MaximumSegmentSize(1_460)]).expect("four bytes fit");
        }
        frame.clear();
        headers(self.client).tcp_header(header).write(frame, self.data).expect("requests fit a packet");
    }
}

impl Datagram<'_> {
    /// Writes the frame that the peer sends into `frame`, replacing what is there.
    pub fn write(&self, frame: &mut Vec<u8>) {
        frame.clear();
        headers(self.peer).udp(self.port, SERVER_PORT).write(frame, self.payload).expect("requests fit a packet");
    }
}

impl<'a> Sent<'a> {
    /// Reads a frame of the server; `None` when it is not whole, or has a wrong checksum.
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(NetSlice::Ipv4(ip)) = packet.net else { return None };
        let ip = ip.header().to_header();
        if ip.source != SERVER.octets() || ip.calc_header_checksum() != ip.header_checksum {
            return None;
        }
        let to = Ipv4Addr::from(ip.destination);
        let (read, port, right) = match packet.transport? {
            TransportSlice::Tcp(tcp) => {
                let (seq, ack, flags) = (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.slice()[13]);
                let segment =
                    Segment { client: to, port: tcp.destination_port(), seq, ack, flags, data: tcp.payload() };
                let sum = tcp.calc_checksum_ipv4(ip.source, ip.destination).ok()?;
                (Self::Segment(segment), tcp.source_port(), sum == tcp.checksum())
            }
            TransportSlice::Udp(udp) => {
                let datagram = Datagram { peer: to, port: udp.destination_port(), payload: udp.payload() };
                // A checksum is there: memcached's clients get one from every kernel.
                let sum = udp.to_header().calc_checksum_ipv4(&ip, udp.payload()).ok()?;
                (Self::Datagram(datagram), udp.source_port(), sum == udp.checksum())
            }
            _ => return None,
        };
        (port == SERVER_PORT && right).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);

    /// The frame as the server would send it: addresses and ports change places, which no checksum notices.
    fn turned(mut frame: Vec<u8>) -> Vec<u8> {
        for (at, bytes) in [(26, 4), (34, 2)] {
            let (one, other) = frame[at..at + 2 * bytes].split_at_mut(bytes);
            one.swap_with_slice(other);
        }
        frame
    }

    fn assert_damage_is_seen(mut frame: Vec<u8>, right: Sent<'_>) {
        assert_eq!(Sent::read(&frame), Some(right));
        for at in 14..frame.len() {
            frame[at] ^= 4;
            assert_eq!(Sent::read(&frame), None, "byte {at}");
            frame[at] ^= 4;
        }
    }

    #[test]
    fn a_damaged_segment_is_not_read() {
        let segment = Segment { client: CLIENT, port: 4_321, seq: 7, ack: 9, flags: ACK, data: b"abc" };
        let mut frame = Vec::new();
        segment.write(&mut frame);
        assert_damage_is_seen(turned(frame), Sent::Segment(segment));
    }

    #[test]
    fn a_damaged_datagram_is_not_read() {
        let datagram = Datagram { peer: CLIENT, port: 4_321, payload: b"abc" };
        let mut frame = Vec::new();
        datagram.write(&mut frame);
        assert_damage_is_seen(turned(frame), Sent::Datagram(datagram));
    }
}
