//! `made`: one small conversation and a datagram, as captures of every format that is read.

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::{DataLink, Endianness, TsResolution};
use sidestep_stack::Mac;

use super::read::Captured;
use crate::lab::raw::{ACK, FIN, PSH, SYN};
use crate::lab::v6;

/// Bytes that the client sends.
pub const ASKED: usize = 100;
const ANSWERED: usize = 600;
const CLIENT: [u8; 4] = [192, 0, 2, 1];
const SERVER: [u8; 4] = [198, 51, 100, 2];
/// First sequence numbers of client and server; the server's wrap.
const FIRST: [u32; 2] = [7_000, u32::MAX - 300];

/// When a frame was captured.
pub fn at(number: usize) -> Duration {
    Duration::from_millis(1_700_000_000_000 + 5 * number as u64)
}

fn segment(of_client: bool, flags: u8, [seq, ack]: [usize; 2], len: usize) -> Vec<u8> {
    let (from, to, ports) = if of_client { (CLIENT, SERVER, [40_000, 80]) } else { (SERVER, CLIENT, [80, 40_000]) };
    let [own, other] = if of_client { FIRST } else { [FIRST[1], FIRST[0]] };
    let mut tcp = PacketBuilder::ethernet2([2, 0, 0, 0, 9, u8::from(of_client)], [2, 0, 0, 0, 9, u8::from(!of_client)])
        .ipv4(from, to, 64)
        .tcp(ports[0], ports[1], own.wrapping_add(seq as u32), 60_000);
    if flags & ACK != 0 {
        tcp = tcp.ack(other.wrapping_add(ack as u32));
    }
    if flags & SYN != 0 {
        tcp = tcp.syn();
    }
    if flags & PSH != 0 {
        tcp = tcp.psh();
    }
    if flags & FIN != 0 {
        tcp = tcp.fin();
    }
    let mut frame = Vec::new();
    tcp.write(&mut frame, &vec![b'x'; len]).expect("written to memory");
    frame
}

/// Frames of a connection that asks, is answered and ends, and a datagram.
pub fn conversation() -> Vec<Vec<u8>> {
    let (asked, answered) = (1 + ASKED, 1 + ANSWERED);
    let mut datagram = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 0])
        .ipv4(CLIENT, SERVER, 64)
        .udp(40_001, 53)
        .write(&mut datagram, b"who is there?")
        .expect("written to memory");
    vec![
        segment(true, SYN, [0, 0], 0),
        segment(false, SYN | ACK, [0, 1], 0),
        segment(true, ACK, [1, 1], 0),
        segment(true, ACK | PSH, [1, 1], ASKED),
        segment(false, ACK | PSH, [1, asked], ANSWERED),
        segment(true, ACK, [asked, answered], 0),
        segment(false, ACK | FIN, [answered, asked], 0),
        segment(true, ACK | FIN, [asked, answered + 1], 0),
        segment(false, ACK, [answered + 1, asked + 1], 0),
        datagram,
    ]
}

/// The same over IPv6, as if it had been captured.
pub fn conversation_v6() -> Vec<Captured> {
    let address = |octets: &[u8]| {
        let [a, b, c, d] = *octets.first_chunk().expect("four bytes");
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    };
    let over_ipv6 = |(number, frame): (usize, Vec<u8>)| {
        let kind = frame[23];
        let (from, to) = (address(&frame[26..]), address(&frame[30..]));
        let mac = Mac(*frame[6..].first_chunk().expect("six bytes"));
        let mut bytes = v6::summed((from, mac), to, (kind, 64), &frame[34..], if kind == 6 { 16 } else { 6 });
        bytes[..6].copy_from_slice(&frame[..6]);
        Captured { at: at(number), len: bytes.len(), bytes }
    };
    conversation().into_iter().enumerate().map(over_ipv6).collect()
}

fn pcap(order: Endianness, resolution: TsResolution, link: u32, put_before: &[u8], cut_to: usize) -> Vec<u8> {
    let header = PcapHeader {
        datalink: DataLink::from(link),
        endianness: order,
        ts_resolution: resolution,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).expect("written to memory");
    for (number, frame) in conversation().into_iter().enumerate() {
        // Without an Ethernet header another one, or none.
        let bytes = if link == 1 { frame } else { [put_before, &frame[14..]].concat() };
        let kept = &bytes[..bytes.len().min(cut_to)];
        let packet = PcapPacket::new(at(number), bytes.len() as u32, kept);
        writer.write_packet(&packet).expect("written to memory");
    }
    writer.into_writer()
}

fn pcapng() -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).expect("written to memory");
    let interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0xffff);
    writer.write_pcapng_block(interface).expect("written to memory");
    for (number, frame) in conversation().iter().enumerate() {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            // Microseconds, which the writer takes for nanoseconds.
            timestamp: Duration::from_nanos(at(number).as_micros() as u64),
            original_len: frame.len() as u32,
            data: frame.into(),
            options: Vec::new(),
        };
        writer.write_pcapng_block(block).expect("written to memory");
    }
    writer.into_inner()
}

/// Each capture with its name.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    use Endianness::{Big, Little};
    use TsResolution::{MicroSecond, NanoSecond};
    let mut damaged = pcap(Little, MicroSecond, 1, &[], usize::MAX);
    damaged.pop();
    vec![
        ("little-endian", pcap(Little, MicroSecond, 1, &[], usize::MAX)),
        ("big-endian", pcap(Big, MicroSecond, 1, &[], usize::MAX)),
        ("nanoseconds", pcap(Little, NanoSecond, 1, &[], usize::MAX)),
        ("pcapng", pcapng()),
        ("raw-ip", pcap(Little, MicroSecond, 101, &[], usize::MAX)),
        ("loopback", pcap(Big, MicroSecond, 0, &[2, 0, 0, 0], usize::MAX)),
        ("cooked", pcap(Little, MicroSecond, 113, &[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0], usize::MAX)),
        ("cut", pcap(Little, MicroSecond, 1, &[], 96)),
        ("other-link", pcap(Little, MicroSecond, 105, &[], usize::MAX)),
        ("damaged", damaged),
    ]
}
