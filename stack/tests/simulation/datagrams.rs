//! `Datagrams`: a third host that sends datagrams, whole and in fragments, to both ends, and looks at what comes back.

use std::net::Ipv4Addr;

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, UdpHeader,
};
use sidestep_stack::Mac;

use super::lab::PORT;
use super::streams::{HEADER, byte};

/// Where the third host is.
const HOST: ([u8; 4], [u8; 6]) = ([10, 77, 0, 9], [2, 0, 0, 0, 0, 9]);
/// Its port.
const HOST_PORT: u16 = 40_000;
/// The longest part of a packet that it sends at once: a multiple of eight.
const PART: usize = 1_400;

/// Datagrams that were sent, and echoes of them.
pub struct Datagrams {
    ends: [(Ipv4Addr, Mac); 2],
    /// The longest payload that each end sends.
    longest: [usize; 2],
    /// By number: to which end, and how long its payload is.
    sent: Vec<(usize, usize)>,
    /// Echoes that were right.
    pub exact: u64,
}

impl Datagrams {
    pub fn new(ends: [(Ipv4Addr, Mac); 2], longest: [usize; 2]) -> Self {
        Self { ends, longest, sent: Vec::new(), exact: 0 }
    }

    /// Addresses a frame that the laboratory has made for its server to an end, with right sums.
    pub fn address(&self, end: usize, frame: &mut [u8]) {
        let (address, mac) = self.ends[end];
        frame[..6].copy_from_slice(&mac.0);
        frame[6..12].copy_from_slice(&HOST.1);
        let old = frame.to_vec();
        let sliced = SlicedPacket::from_ethernet(&old).expect("a packet");
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
            panic!("not TCP over IPv4: {old:02x?}");
        };
        let (mut ip, mut tcp) = (ip.header().to_header(), tcp.to_header());
        ip.destination = address.octets();
        ip.header_checksum = ip.calc_header_checksum();
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).expect("not too long");
        let mut new = frame[..14].to_vec();
        ip.write(&mut new).expect("written to memory");
        tcp.write(&mut new).expect("written to memory");
        frame.copy_from_slice(&new);
    }

    /// Sends a datagram of `len` bytes beyond its number to an end.
    pub fn send(&mut self, end: usize, len: usize, mut send: impl FnMut(&[u8])) {
        let len = HEADER as usize + len;
        let number = self.sent.len() as u64;
        self.sent.push((end, len));
        let payload: Vec<u8> = (0..len as u64).map(|offset| byte(number, offset)).collect();
        let (address, mac) = self.ends[end];
        let mut ip = Ipv4Header::new(0, 64, IpNumber::UDP, HOST.0, address.octets()).expect("not too long");
        let udp = UdpHeader::with_ipv4_checksum(HOST_PORT, PORT, &ip, &payload).expect("not too long");
        let packet = [&udp.to_bytes()[..], &payload].concat();
        ip.dont_fragment = false;
        ip.identification = number as u16;
        let parts = packet.chunks(PART).count();
        for (count, part) in packet.chunks(PART).enumerate() {
            ip.more_fragments = count + 1 < parts;
            ip.fragment_offset = IpFragOffset::try_new((count * PART / 8) as u16).expect("not too far");
            ip.set_payload_len(part.len()).expect("not too long");
            ip.header_checksum = ip.calc_header_checksum();
            let mut frame = Vec::new();
            let link = PacketBuilder::ethernet2(HOST.1, mac.0);
            link.ip(etherparse::IpHeaders::Ipv4(ip.clone(), etherparse::Ipv4Extensions::default()))
                .write(&mut frame, IpNumber::UDP, part)
                .expect("written to memory");
            send(&frame);
        }
    }

    /// Looks at a frame that an end has sent: an echo is the beginning of what was sent to that end, as much of it as one
    /// datagram holds.
    pub fn hear(&mut self, frame: &[u8]) {
        if frame.len() < 42 || frame[12..14] != [8, 0] || frame[23] != 17 || frame[..6] != HOST.1 {
            return;
        }
        let sliced = SlicedPacket::from_ethernet(frame).expect("an end sends nothing else");
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
            panic!("not UDP over IPv4: {frame:02x?}");
        };
        let header = ip.header().to_header();
        let end = self.ends.iter().position(|(address, _)| address.octets() == header.source).expect("of an end");
        assert_eq!((header.destination, udp.source_port(), udp.destination_port()), (HOST.0, PORT, HOST_PORT));
        let payload = udp.payload();
        assert!(payload.len() >= HEADER as usize, "an echo without a number: {frame:02x?}");
        let number = (0..HEADER as usize).rev().fold(0, |number, at| number << 8 | u64::from(payload[at]));
        let Some(&(to, len)) = self.sent.get(number as usize) else { panic!("there was no datagram {number}") };
        assert_eq!((end, payload.len()), (to, len.min(self.longest[end])), "datagram {number}");
        let wrong = (0..).zip(payload).find(|&(offset, &got)| got != byte(number, offset));
        assert!(wrong.is_none(), "byte {wrong:?} of datagram {number} is wrong");
        self.exact += 1;
    }
}
