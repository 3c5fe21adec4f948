//! Frames made by hand, and frames read back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};

use super::{OWN, PEER, PORT, THEM, US};

/// Our address of IPv6.
pub const US6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// The two ends of a conversation with a host that is played by frames.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub peer_mac: [u8; 6],
    pub host_mac: [u8; 6],
    pub peer: Ipv4Addr,
    pub host: Ipv4Addr,
}

/// A TCP segment, of the family of the peer's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    pub peer: IpAddr,
    pub peer_port: u16,
    pub our_port: u16,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub mss: Option<u16>,
    pub data: Vec<u8>,
    /// The flow label, over IPv6.
    pub label: u32,
}

impl Tcp {
    /// A segment from the peer's port.
    pub fn new(peer_port: u16, flags: u8, seq: u32, ack: u32) -> Self {
        let (peer, our_port) = (THEM.into(), PORT);
        Self { peer, peer_port, our_port, flags, seq, ack, window: 60_000, mss: None, data: Vec::new(), label: 0 }
    }

    /// The same from another peer.
    pub fn from(self, peer: impl Into<IpAddr>) -> Self {
        Self { peer: peer.into(), ..self }
    }

    pub fn with(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    /// The frame that carries it from a peer at `source`.
    pub fn frame_from(&self, source: impl Into<IpAddr>) -> Vec<u8> {
        let mss = self.mss.map(TcpOptionElement::MaximumSegmentSize);
        self.written(source.into(), mss.as_slice())
    }

    /// The frame that carries it with these options.
    pub fn frame_with(&self, options: &[TcpOptionElement]) -> Vec<u8> {
        self.written(self.peer, options)
    }

    fn written(&self, source: IpAddr, options: &[TcpOptionElement]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(PEER.0, OWN.0);
        let ip = match source {
            IpAddr::V4(source) => ethernet.ipv4(source.octets(), US.octets(), 64),
            IpAddr::V6(source) => ethernet.ipv6(source.octets(), US6.octets(), 64),
        };
        let mut tcp = ip.tcp(self.peer_port, self.our_port, self.seq, self.window);
        if self.flags & ACK != 0 {
            tcp = tcp.ack(self.ack);
        }
        if self.flags & FIN != 0 {
            tcp = tcp.fin();
        }
        if self.flags & SYN != 0 {
            tcp = tcp.syn();
        }
        if self.flags & RST != 0 {
            tcp = tcp.rst();
        }
        if self.flags & PSH != 0 {
            tcp = tcp.psh();
        }
        tcp = tcp.options(options).expect("they fit");
        let mut frame = Vec::new();
        tcp.write(&mut frame, &self.data).expect("written to memory");
        frame
    }

    pub fn frame(&self) -> Vec<u8> {
        self.frame_from(self.peer)
    }

    /// Reads a frame that the stack sent; checks its sums.
    pub fn read(frame: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a packet");
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("not TCP: {frame:02x?}") };
        let (peer, label, sum): (IpAddr, u32, _) = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                (header.destination.into(), 0, tcp.calc_checksum_ipv4(header.source, header.destination))
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header().to_header();
                assert_eq!(header.traffic_class, 0);
                let sum = tcp.calc_checksum_ipv6(header.source, header.destination);
                (header.destination.into(), header.flow_label.value(), sum)
            }
            _ => panic!("neither IPv4 nor IPv6: {frame:02x?}"),
        };
        let sum = sum.expect("not too long");
        // Either of the two zeros of ones' complement is right (RFC 1624 §2).
        assert_eq!(tcp.checksum() % u16::MAX, sum % u16::MAX);
        let mut flags = 0;
        for (set, flag) in [(tcp.fin(), FIN), (tcp.syn(), SYN), (tcp.rst(), RST), (tcp.psh(), PSH), (tcp.ack(), ACK)] {
            flags |= u8::from(set) * flag;
        }
        let mss = tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        });
        Self {
            peer,
            label,
            peer_port: tcp.destination_port(),
            our_port: tcp.source_port(),
            flags,
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            window: tcp.window_size(),
            mss,
            data: tcp.payload().to_vec(),
        }
    }
}
