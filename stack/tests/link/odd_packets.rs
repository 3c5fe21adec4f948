//! Packets as links and middle boxes make them: with IPv4 options, with padding behind, with a bent checksum.

use etherparse::{Icmpv4Slice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use sidestep_stack::DropReason;

use crate::lab::bench::Bench;
use crate::lab::odd::{padded, sum, with_ip_options};
use crate::lab::raw::{ACK, FIN, PSH, SYN, Tcp};
use crate::lab::udp::{Udp, UdpBench};
use crate::lab::{self, App, OWN, PEER, THEM, US};

/// What load balancers and tracers add: fillers, a client's address (TOA's kind 254), a time stamp, a recorded route,
/// router alert, and an option that nobody knows.
const HARMLESS: [&[u8]; 7] = [
    &[1, 1, 1, 1],
    &[1],
    &[254, 8, 0x1f, 0x90, 10, 0, 0, 9],
    &[68, 8, 5, 0, 0, 0, 0, 0],
    &[
        7, 39, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    &[148, 4, 0, 0],
    &[222, 3, 7, 0, 131, 3, 4],
];

fn ping(data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4(THEM.octets(), US.octets(), 9);
    builder.icmpv4_echo_request(1, 2).write(&mut frame, data).expect("written to memory");
    frame
}

/// The data of an echo reply, its checksums checked.
fn pong(frame: &[u8]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a packet");
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (&sliced.net, &sliced.transport) else {
        panic!("not ICMP over IPv4: {frame:02x?}");
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(header.source, US.octets());
    assert_eq!(Icmpv4Slice::from_slice(ip.payload().payload).expect("a message").icmp_type(), icmp.icmp_type());
    assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
    icmp.payload().to_vec()
}

#[test]
fn a_conversation_with_ip_options_on_every_packet_is_served() {
    for options in HARMLESS {
        let mut bench = Bench::new(App::Echo);
        let mut say = |segment: &Tcp| {
            let frames = bench.frame(&with_ip_options(&segment.frame(), options));
            frames.iter().map(|frame| Tcp::read(frame)).collect::<Vec<_>>()
        };
        let syn_ack = say(&Tcp::new(5_000, SYN, 100, 0)).pop().expect("a SYN-ACK");
        let next = syn_ack.seq.wrapping_add(1);
        assert_eq!(say(&Tcp::new(5_000, ACK, 101, next)), []);
        let echo = say(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"get k\r\n")).pop().expect("an echo");
        assert_eq!((&echo.data[..], echo.ack), (&b"get k\r\n"[..], 108), "{options:?}");
        let fin = say(&Tcp::new(5_000, ACK | FIN, 108, next.wrapping_add(7))).pop().expect("a FIN");
        assert_eq!((fin.flags & FIN, fin.ack), (FIN, 109), "{options:?}");
        assert_eq!(bench.server.poll.stack().stats().drops.total(), 0, "{options:?}");
    }
}

#[test]
fn datagrams_fragments_and_echo_requests_may_have_ip_options() {
    for options in HARMLESS {
        let mut bench = UdpBench::new();
        let sent = Udp::new(5_000, b"get k\r\n");
        let frame = padded(&with_ip_options(&sent.frame(), options), 3);
        let answers = bench.echo(&frame);
        assert_eq!(
            answers.iter().map(|frame| Udp::read(frame).data).collect::<Vec<_>>(),
            [b"get k\r\n"],
            "{options:?}"
        );
        let answers = bench.echo(&with_ip_options(&ping(b"twelve bytes"), options));
        assert_eq!(answers.iter().map(|frame| pong(frame)).collect::<Vec<_>>(), [b"twelve bytes"], "{options:?}");
        // The same datagram in two parts, the second of which is shorter than Ethernet allows.
        let frame = Udp::new(5_000, b"0123456789").frame();
        let part = |from: usize, to: usize, offset: [u8; 2]| {
            let mut part = [&frame[..34], &frame[34 + from..34 + to]].concat();
            part[17] = 20 + (to - from) as u8;
            part[20..22].copy_from_slice(&offset);
            padded(&with_ip_options(&part, options), 0)
        };
        assert!(bench.echo(&part(0, 16, [0x20, 0])).is_empty());
        let answers = bench.echo(&part(16, 18, [0, 2]));
        assert_eq!(answers.iter().map(|frame| Udp::read(frame).data).collect::<Vec<_>>(), [b"0123456789"]);
        assert_eq!(bench.poll.stack().stats().drops.total(), 0, "{options:?}");
    }
}

#[test]
fn a_source_route_and_options_that_do_not_parse_are_refused_and_counted() {
    let mut bench = Bench::new(App::Echo);
    let syn = Tcp::new(5_000, SYN, 100, 0).frame();
    for (count, route) in [[131, 7, 4, 10, 9, 9, 9], [1, 137, 7, 8, 10, 9, 9]].iter().enumerate() {
        assert!(bench.frame(&with_ip_options(&syn, route)).is_empty());
        assert_eq!(bench.drops(DropReason::IpSourceRoute), 1 + count as u64);
    }
    for (count, broken) in [[7, 0, 4], [7, 1, 4], [7, 5, 4], [1, 1, 200]].iter().enumerate() {
        // Without a zero behind it, the last would end within the header.
        let options = [&broken[..], &[1]].concat();
        assert!(bench.frame(&with_ip_options(&syn, &options)).is_empty());
        assert_eq!(bench.drops(DropReason::IpOptions), 1 + count as u64, "{broken:?}");
    }
    let mut bent = with_ip_options(&syn, &[1, 1, 1, 1]);
    bent[36] ^= 1;
    assert!(bench.frame(&bent).is_empty());
    assert_eq!(bench.drops(DropReason::IpChecksum), 1);
    // Cut within the options.
    assert!(bench.frame(&with_ip_options(&syn, &[1; 40])[..60]).is_empty());
    assert_eq!(bench.drops(DropReason::IpTooShort), 1);
    // The checksum of the segment is verified behind options too.
    let mut bent = with_ip_options(&syn, &[1, 1, 1, 1]);
    bent[45] ^= 1;
    assert!(bench.frame(&bent).is_empty());
    assert_eq!((bench.drops(DropReason::TcpChecksum), bench.server.poll.flows()), (1, 0));
}

#[test]
fn an_echo_request_with_a_bent_checksum_is_not_answered() {
    let mut bench = Bench::new(App::Echo);
    let good = ping(b"ping");
    for at in 34..good.len() {
        let mut bent = good.clone();
        bent[at] ^= 0x10;
        assert!(bench.frame(&bent).is_empty(), "byte {at}");
    }
    assert_eq!(bench.drops(DropReason::IcmpMalformed), (good.len() - 34) as u64);
    assert_eq!(bench.frame(&good).len(), 1);
}

#[test]
fn an_unreachable_with_a_bent_checksum_says_nothing() {
    let mut bench = Bench::new(App::Echo);
    let quoted = Tcp::new(5_000, SYN, 100, 0).frame();
    let mut frame = ping(&quoted[14..42]);
    // A "host unreachable" instead of an echo request.
    frame[34..42].copy_from_slice(&[3, 1, 0, 0, 0, 0, 0, 0]);
    let right = sum(&[&frame[34..]]);
    frame[36..38].copy_from_slice(&right);
    assert!(bench.frame(&frame).is_empty());
    assert_eq!((bench.drops(DropReason::IcmpOther), bench.drops(DropReason::IcmpMalformed)), (1, 0));
    frame[36] ^= 1;
    assert!(bench.frame(&frame).is_empty());
    assert_eq!((bench.drops(DropReason::IcmpOther), bench.drops(DropReason::IcmpMalformed)), (1, 1));
}

/// Ethernet pads a frame to 60 bytes; what is behind the packet is nobody's.
#[test]
fn padding_behind_a_datagrams_packet_is_not_its_payload() {
    let mut bench = UdpBench::new();
    let answers = bench.echo(&padded(&Udp::new(5_000, b"x").frame(), 7));
    assert_eq!(answers.iter().map(|frame| Udp::read(frame).data).collect::<Vec<_>>(), [b"x"]);
    // A length that only the padding would make true.
    let mut frame = Udp::new(5_000, b"x").frame();
    frame[39] += 4;
    frame[40..42].fill(0);
    assert!(bench.echo(&padded(&frame, 7)).is_empty());
    assert_eq!(bench.drops(DropReason::UdpLength), 1);
    // Nor is the padding of a packet that ends within the header.
    let mut frame = Udp::new(5_000, b"x").frame();
    frame[17] = 20 + 7;
    lab::odd::sum_ip(&mut frame[14..34]);
    assert!(bench.echo(&padded(&frame, 7)).is_empty());
    assert_eq!(bench.drops(DropReason::UdpLength), 2);
    bench.assert_nothing_left();
}

#[test]
fn padding_behind_a_segment_is_not_its_data() {
    let mut bench = Bench::new(App::Echo);
    let mut say = |segment: &Tcp| {
        let frames = bench.frame(&padded(&segment.frame(), 7));
        frames.iter().map(|frame| Tcp::read(frame)).collect::<Vec<_>>()
    };
    let next = say(&Tcp::new(5_000, SYN, 100, 0))[0].seq.wrapping_add(1);
    assert_eq!(say(&Tcp::new(5_000, ACK, 101, next)), []);
    let echo = say(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"x"));
    assert_eq!((&echo[0].data[..], echo[0].ack), (&b"x"[..], 102));
    // An older bare ACK has no data whose ACK number would be raised.
    say(&Tcp::new(5_000, ACK, 102, next.wrapping_add(1)));
    say(&Tcp::new(5_000, ACK, 102, next));
    assert_eq!((bench.server.poll.stack().stats().acks_raised, bench.server.bytes), (0, 1));
}

#[test]
fn padding_behind_an_echo_request_is_not_echoed() {
    let mut bench = Bench::new(App::Echo);
    let answers = bench.frame(&padded(&ping(b"x"), 7));
    assert_eq!(answers.iter().map(|frame| pong(frame)).collect::<Vec<_>>(), [b"x"]);
}
