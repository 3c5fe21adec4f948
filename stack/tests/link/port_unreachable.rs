//! What is said to the sender of a datagram for a port on which nobody listens (RFC 1122 §3.2.2, §4.1.3.1).

use std::time::Duration;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use sidestep_stack::DropReason;

use crate::lab::odd::{sum, sum_ip, with_ip_options};
use crate::lab::udp::{Udp, UdpBench};
use crate::lab::{OWN, PEER, PORT, THEM, US};

/// A datagram for a port on which nobody listens.
fn elsewhere(data: &[u8]) -> Udp {
    Udp { our_port: PORT + 1, ..Udp::new(5_000, data) }
}

/// What the only answer to `frame` quotes, all else of it being checked.
fn quoted(bench: &mut UdpBench, frame: &[u8]) -> Vec<u8> {
    let answers = bench.echo(frame);
    let [answer] = &answers[..] else { panic!("one answer, not {}", answers.len()) };
    assert_eq!((&answer[..6], &answer[6..12]), (&PEER.0[..], &OWN.0[..]));
    let sliced = SlicedPacket::from_ethernet(answer).expect("a packet");
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (&sliced.net, &sliced.transport) else {
        panic!("not ICMP over IPv4: {answer:02x?}");
    };
    let header = ip.header().to_header();
    assert_eq!((header.source, header.destination, header.time_to_live), (US.octets(), THEM.octets(), 64));
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let port = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    assert_eq!((icmp.icmp_type(), icmp.icmp_type().calc_checksum(icmp.payload())), (port, icmp.checksum()));
    icmp.payload().to_vec()
}

#[test]
fn who_asks_a_closed_port_is_told_so_and_what_it_asked() {
    let mut bench = UdpBench::new();
    // Shorter than the answer, and longer.
    for len in [0, 1, 40, 1_472] {
        let frame = elsewhere(&vec![7; len]).frame();
        assert_eq!(quoted(&mut bench, &frame), frame[14..42]);
    }
    let tagged = Udp { tag: Some(42), ..elsewhere(b"get k") }.frame();
    assert_eq!(quoted(&mut bench, &tagged), tagged[18..46]);
    let stats = bench.poll.stack().stats();
    assert_eq!((stats.port_unreachables, stats.drops.of(DropReason::UdpNoListener), stats.datagrams_sent), (5, 5, 0));
    bench.assert_nothing_left();
}

#[test]
fn options_of_the_datagram_do_not_keep_its_sender_from_being_told() {
    let mut bench = UdpBench::new();
    let frame = elsewhere(b"get k").frame();
    let quoted = quoted(&mut bench, &with_ip_options(&frame, &[1, 1, 1, 1]));
    // The header that is quoted is that of the packet without them; addresses and ports are those of the sender.
    assert_eq!((&quoted[12..20], &quoted[20..28], sum(&[&quoted[..20]])), (&frame[26..34], &frame[34..42], [0; 2]));
}

/// RFC 1122 §3.2.2: no error about what came for many, from who is not one host, in fragments, or about an ICMP error.
#[test]
fn nothing_is_said_about_what_came_for_many_or_in_fragments_or_to_who_is_nobody() {
    let mut bench = UdpBench::new();
    let good = elsewhere(&[7; 40]).frame();
    let changed = |change: &dyn Fn(&mut [u8])| {
        let mut frame = good.clone();
        change(&mut frame);
        sum_ip(&mut frame[14..34]);
        frame
    };
    for frame in [
        changed(&|frame| frame[..6].fill(0xff)),
        changed(&|frame| frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1])),
        changed(&|frame| frame[30..34].fill(255)),
        changed(&|frame| frame[30..34].copy_from_slice(&[10, 77, 0, 255])),
        changed(&|frame| frame[30..34].copy_from_slice(&[224, 0, 0, 1])),
        changed(&|frame| frame[26..30].copy_from_slice(&[10, 77, 0, 255])),
        changed(&|frame| frame[26..30].copy_from_slice(&[224, 0, 0, 1])),
        changed(&|frame| frame[26..30].copy_from_slice(&[127, 0, 0, 1])),
        changed(&|frame| frame[26..30].fill(0)),
        // The first of several, and the last.
        changed(&|frame| frame[20] = 0x20),
        changed(&|frame| frame[21] = 6),
        // A wrong checksum: nobody knows which port it was for.
        {
            let mut frame = good.clone();
            frame[50] ^= 1;
            frame
        },
    ] {
        assert!(bench.echo(&frame).is_empty(), "{frame:02x?}");
    }
    // The fragments were one datagram.
    assert_eq!(bench.drops(DropReason::UdpNoListener), 1);
    assert_eq!(bench.poll.stack().stats().port_unreachables, 0);
    bench.assert_nothing_left();
}

#[test]
fn a_flood_of_closed_ports_is_answered_as_rarely_as_one_of_pings() {
    let mut bench = UdpBench::new();
    for round in 0..50u64 {
        for number in 0..200u16 {
            let mut frame = elsewhere(&round.to_be_bytes()).frame();
            // From many addresses.
            frame[28..30].copy_from_slice(&[number as u8, 1 + (number >> 8) as u8]);
            sum_ip(&mut frame[14..34]);
            // The checksum of the datagram covers the address: none.
            frame[40..42].fill(0);
            bench.echo(&frame);
        }
        bench.wire.clock().advance(Duration::from_millis(20));
    }
    let stats = bench.poll.stack().stats();
    assert_eq!(stats.drops.of(DropReason::UdpNoListener), 10_000);
    assert!((900..=1_100).contains(&stats.port_unreachables), "{}", stats.port_unreachables);
    bench.assert_nothing_left();
}

/// Who pings without end shall not keep others from being told that a port is closed, nor the other way round.
#[test]
fn a_flood_of_pings_takes_no_answer_from_who_asks_a_closed_port_nor_that_one_from_pings() {
    let ping = {
        let mut frame = Vec::new();
        let to = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4(THEM.octets(), US.octets(), 64);
        to.icmpv4_echo_request(1, 1).write(&mut frame, &[1; 32]).expect("written to memory");
        frame
    };
    let closed = elsewhere(b"get k").frame();
    for (flood, honest) in [(&ping, &closed), (&closed, &ping)] {
        let mut bench = UdpBench::new();
        let answered = (0..1_000).filter(|_| !bench.echo(flood).is_empty()).count();
        assert!(answered < 100, "{answered}");
        assert_eq!(bench.echo(honest).len(), 1);
        bench.assert_nothing_left();
    }
}
