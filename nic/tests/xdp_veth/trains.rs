//! Trains: segments that leave as one packet, gathered by the queue or made by its user.

use std::net::{Ipv4Addr, Ipv6Addr};

use sidestep_nic::xdp::{AddressMode, XdpConfig, XdpDevice, XdpQueue};
use sidestep_nic::{Burst, Queue, checksum};

use super::lab::{Lab, OURS, Side, eventually};
use super::{open_as, take_all};

/// An address of the client's side that its kernel has not.
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// An end of the link, with its only queue, which is closed before it.
struct End {
    queue: XdpQueue,
    device: XdpDevice,
}

/// The server's and the client's.
fn ends(lab: &Lab) -> [End; 2] {
    [(Side::Server, OURS), (Side::Client, THEIRS)].map(|(side, address)| {
        let mut config = XdpConfig::new(side.link(), address);
        config.addresses.push((in_ipv6(address).into(), AddressMode::Own));
        let mut device = open_as(lab, side, &config).expect("the device opens");
        End { queue: take_all(&mut device).remove(0), device }
    })
}

/// By what the host with this address goes in IPv6.
fn in_ipv6(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// A segment of one stream: 500 bytes from `seq` on.
fn segment(to: [u8; 6], from: [u8; 6], seq: u32, psh: bool) -> Vec<u8> {
    segment_over(false, to, from, seq, psh)
}

/// The same over either.
fn segment_over(ipv6: bool, to: [u8; 6], from: [u8; 6], seq: u32, psh: bool) -> Vec<u8> {
    let mut tcp = etherparse::TcpHeader::new(11_211, 7, seq, 512);
    (tcp.ack, tcp.psh) = (true, psh);
    let mut frame = Vec::new();
    let link = etherparse::PacketBuilder::ethernet2(from, to);
    let ip = if ipv6 {
        link.ipv6(in_ipv6(OURS).octets(), in_ipv6(THEIRS).octets(), 64)
    } else {
        link.ipv4(OURS.octets(), THEIRS.octets(), 64)
    };
    ip.tcp_header(tcp).write(&mut frame, &[(seq / 500) as u8; 500]).expect("written to memory");
    frame
}

/// So many segments, as they arrive, without what the kernel changes of them.
fn arrived_at(client: &mut XdpQueue, count: usize) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    eventually("all segments", || {
        let mut frames = Burst::default();
        client.rx_burst(&mut frames);
        while let Some(frame) = frames.pop() {
            let mut bytes = frame.bytes().to_vec();
            if bytes[12..14] == [8, 0] && bytes[23] == 6 {
                // The kernel numbers the packets that it cuts, and the sum is over that.
                bytes[18..20].fill(0);
                bytes[24..26].fill(0);
                arrived.push(bytes);
            } else if bytes[12..14] == [0x86, 0xdd] && bytes[20] == 6 {
                arrived.push(bytes);
            }
            client.free(frame);
        }
        client.flush().expect("the link is there");
        (arrived.len() >= count).then_some(())
    });
    arrived
}

#[test]
fn segments_that_leave_as_one_packet_arrive_as_they_were_and_where_they_were_in_order() {
    // What other cores send by this queue, over IPv6 too, comes to it a segment at a time.
    for ipv6 in [false, true] {
        segments_leave_as_one_packet(ipv6);
    }
}

fn segments_leave_as_one_packet(ipv6: bool) {
    let Some(lab) = Lab::up(1) else { return };
    let [mut server, mut client] = ends(&lab);
    let (to, from) = (client.device.link().mac.0, server.device.link().mac.0);
    let (server, client) = (&mut server.queue, &mut client.queue);
    let before = server.census();
    let mut burst = Burst::default();
    // Two that are too few, a gap, fifty that are a train, another gap, and two.
    let mut segments: Vec<_> = [0, 1].map(|at| segment_over(ipv6, to, from, at * 500, false)).into();
    segments.extend((5..55).map(|at| segment_over(ipv6, to, from, at * 500, at == 54)));
    segments.extend([60, 61].map(|at| segment_over(ipv6, to, from, at * 500, false)));
    for bytes in &segments {
        let mut frame = server.tx_alloc().expect("a free frame");
        frame.resize(bytes.len()).expect("room");
        frame.bytes_mut().copy_from_slice(bytes);
        burst.push(frame).expect("room");
    }
    assert_eq!((server.tx_burst(&mut burst), burst.len()), (segments.len(), 0));
    server.flush().expect("the link is there");
    let arrived = arrived_at(client, segments.len());
    for bytes in segments.iter_mut().filter(|_| !ipv6) {
        bytes[24..26].fill(0);
    }
    assert_eq!(arrived, segments);
    let stats = server.stats();
    assert_eq!((stats.tx_trains, stats.tx_frames), (1, segments.len() as u64));
    server.flush().expect("the link is there");
    assert_eq!(server.census(), before, "every frame is free again");
}

#[test]
fn a_train_arrives_as_its_segments_behind_what_was_sent_before() {
    let Some(lab) = Lab::up(1) else { return };
    let [mut server, mut client] = ends(&lab);
    let (to, from) = (client.device.link().mac.0, server.device.link().mac.0);
    let (server, client) = (&mut server.queue, &mut client.queue);
    assert!(server.takes_trains());
    let mut segments: Vec<_> = (0..41).map(|at| segment(to, from, at * 500, at == 40)).collect();
    // The first goes by the ring, and the others as one packet.
    let mut burst = Burst::default();
    let mut frame = server.tx_alloc().expect("a free frame");
    frame.resize(segments[0].len()).expect("room");
    frame.bytes_mut().copy_from_slice(&segments[0]);
    burst.push(frame).expect("room");
    assert_eq!(server.tx_burst(&mut burst), 1);
    let mut train = segments[1][..54].to_vec();
    segments[1..].iter().for_each(|segment| train.extend_from_slice(&segment[54..]));
    let length = (train.len() - 14) as u16;
    train[16..18].copy_from_slice(&length.to_be_bytes());
    train[47] |= 0x08;
    train[24..26].fill(0);
    let sum = checksum::field(checksum::add(0, &train[14..34]));
    train[24..26].copy_from_slice(&sum);
    let pseudo = checksum::pseudo_header(OURS.octets(), THEIRS.octets(), 6, length - 20);
    train[50..52].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
    assert!(server.send_train(&train, 500));
    assert!(!server.send_train(&[0; 60], 500), "it is none");
    let arrived = arrived_at(client, segments.len());
    segments.iter_mut().for_each(|bytes| bytes[24..26].fill(0));
    assert_eq!(arrived, segments);
    let bytes = segments.iter().map(Vec::len).sum::<usize>() as u64;
    let stats = server.stats();
    assert_eq!((stats.tx_trains, stats.tx_frames, stats.tx_bytes), (1, 41, bytes));
}
