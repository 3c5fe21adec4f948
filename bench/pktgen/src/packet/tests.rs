use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const OURS: Station = Station { mac: Mac([2, 0, 0, 0, 0, 1]), address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)) };
const PEER: Station = Station { mac: Mac([2, 0, 0, 0, 0, 2]), address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)) };
const OURS_V6: Station =
    Station { address: IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)), mac: Mac([2, 0, 0, 0, 0, 1]) };
const PEER_V6: Station =
    Station { address: IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)), mac: Mac([2, 0, 0, 0, 0, 2]) };
const PORTS: Ports = Ports { source: 7000, destination: 7 };
const STAMP: Stamp = Stamp { slot: 513, sequence: 0x0102_0304_0506_0708, sent_nanos: u64::MAX - 1 };

fn frame(bytes: usize) -> (UdpTemplate, Vec<u8>) {
    frame_between(OURS, PEER, bytes)
}

fn frame_between(from: Station, to: Station, bytes: usize) -> (UdpTemplate, Vec<u8>) {
    let template = UdpTemplate::new(from, to.mac, to.address, bytes);
    let mut frame = vec![0xee; bytes];
    template.write(&mut frame, PORTS, STAMP);
    (template, frame)
}

#[test]
fn a_frame_of_any_length_has_right_checksums() {
    for bytes in [60, 61, 64, 99, 1514] {
        let (_, frame) = frame(bytes);
        let headers = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let (ip, udp) = (headers.net.unwrap().ipv4_ref().unwrap().0.clone(), headers.transport.unwrap().udp().unwrap());
        assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "{bytes}");
        assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, headers.payload.slice()).unwrap(), "{bytes}");
        assert_eq!(classify(&frame, PEER.address), Class::Ours { transport_at: 34, udp: true });
        assert_eq!(destination_port(&frame, 34), 7);
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    // One of the 65,536 slots makes the sum come out as zero.
    let template = UdpTemplate::new(OURS, PEER.mac, PEER.address, 60);
    let mut frame = vec![0; 60];
    let mut all_ones = 0;
    for slot in 0..=u16::MAX {
        template.write(&mut frame, PORTS, Stamp { slot, ..STAMP });
        assert_ne!(frame[40..42], [0, 0], "slot {slot}");
        all_ones += u32::from(frame[40..42] == [0xff, 0xff]);
    }
    assert!(all_ones > 0);
}

#[test]
fn a_reflected_frame_is_the_answer_and_carries_the_stamp_back() {
    for bytes in [60, 61, 1514] {
        let (template, mut frame) = frame(bytes);
        reflect(&mut frame, 34);
        assert_eq!((&frame[..6], &frame[6..12]), (&OURS.mac.0[..], &PEER.mac.0[..]));
        assert_eq!(classify(&frame, OURS.address), Class::Ours { transport_at: 34, udp: true });
        assert_eq!(destination_port(&frame, 34), 7000);
        assert_eq!(template.stamp_of_answer(&frame), Ok(STAMP));
    }
}

#[test]
fn an_answer_with_any_bit_of_the_packet_flipped_is_no_answer() {
    let (template, mut frame) = frame(80);
    reflect(&mut frame, 34);
    for bit in 14 * 8..80 * 8 {
        frame[bit / 8] ^= 0x80 >> (bit % 8);
        assert!(template.stamp_of_answer(&frame).is_err(), "bit {bit}");
        frame[bit / 8] ^= 0x80 >> (bit % 8);
    }
    assert_eq!(template.stamp_of_answer(&frame), Ok(STAMP));
}

#[test]
fn without_a_udp_checksum_the_pattern_is_compared_still() {
    let (template, mut frame) = frame(80);
    reflect(&mut frame, 34);
    frame[40..42].fill(0);
    assert_eq!(template.stamp_of_answer(&frame), Ok(STAMP));
    frame[79] ^= 1;
    assert_eq!(template.stamp_of_answer(&frame), Err(DropReason::BadPayload));
}

#[test]
fn a_frame_that_is_not_for_us_is_named_by_its_reason() {
    let (_, good) = frame(60);
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        classify(&frame, PEER.address)
    };
    let cases = [
        (12, 0x86, DropReason::OtherFamily),
        (14, 0x65, DropReason::OtherFamily),
        (14, 0x44, DropReason::Truncated),
        (0, 0x01, DropReason::Group),
        (6, 0x03, DropReason::Group),
        (33, 9, DropReason::OtherAddress),
        (20, 0x20, DropReason::Fragment),
        (21, 0x01, DropReason::Fragment),
        (23, 1, DropReason::OtherProtocol),
        (17, 200, DropReason::Truncated),
        (17, 27, DropReason::Truncated),
    ];
    for (at, value, reason) in cases {
        assert_eq!(changed(at, value), Class::Drop(reason), "byte {at} is {value}");
    }
    assert_eq!(changed(13, 0x06), Class::Neighbor);
    assert_eq!(changed(23, 6), Class::Ours { transport_at: 34, udp: false });
    // Header options before the ports.
    assert_eq!(changed(14, 0x47), Class::Ours { transport_at: 42, udp: true });
    for cut in 0..60 {
        assert!(matches!(classify(&good[..cut], PEER.address), Class::Drop(DropReason::Truncated)), "{cut} bytes");
    }
}

#[test]
fn a_frame_over_ipv6_of_any_length_has_a_right_checksum() {
    for bytes in [80, 81, 99, 1514] {
        let (_, frame) = frame_between(OURS_V6, PEER_V6, bytes);
        let headers = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let (ip, udp) = (headers.net.unwrap().ipv6_ref().unwrap().0.clone(), headers.transport.unwrap().udp().unwrap());
        assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, headers.payload.slice()).unwrap(), "{bytes}");
        assert_eq!(usize::from(ip.payload_length), bytes - 54);
        assert_eq!(classify(&frame, PEER_V6.address), Class::Ours { transport_at: 54, udp: true });
        assert_eq!(destination_port(&frame, 54), 7);
    }
    assert_eq!((frame_bytes_min(OURS.address), frame_bytes_min(OURS_V6.address)), (60, 80));
}

#[test]
fn a_frame_over_ipv6_comes_back_and_one_with_any_bit_flipped_does_not() {
    for bytes in [80, 81, 1514] {
        let (template, mut frame) = frame_between(OURS_V6, PEER_V6, bytes);
        reflect(&mut frame, 54);
        assert_eq!((&frame[..6], &frame[6..12]), (&OURS.mac.0[..], &PEER.mac.0[..]));
        assert_eq!(classify(&frame, OURS_V6.address), Class::Ours { transport_at: 54, udp: true });
        assert_eq!(template.stamp_of_answer(&frame), Ok(STAMP));
        // Nothing sums the first four bytes but for the version, and the hop limit, which a router changes.
        let unsummed = |bit: usize| (14 * 8 + 4..18 * 8).contains(&bit) || (21 * 8..22 * 8).contains(&bit);
        for bit in (14 * 8..bytes * 8).filter(|&bit| !unsummed(bit)) {
            frame[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(template.stamp_of_answer(&frame).is_err(), "bit {bit}");
            frame[bit / 8] ^= 0x80 >> (bit % 8);
        }
        // Over IPv6 there is no answer without a checksum.
        frame[60..62].fill(0);
        assert_eq!(template.stamp_of_answer(&frame), Err(DropReason::BadChecksum));
    }
}

#[test]
fn a_frame_over_ipv6_that_is_not_for_us_is_named_by_its_reason() {
    let (_, good) = frame_between(OURS_V6, PEER_V6, 80);
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        classify(&frame, PEER_V6.address)
    };
    let cases = [
        (12, 0x08, DropReason::OtherFamily),
        (14, 0x45, DropReason::OtherFamily),
        (0, 0x01, DropReason::Group),
        (6, 0x03, DropReason::Group),
        (53, 9, DropReason::OtherAddress),
        (38, 0xfe, DropReason::OtherAddress),
        (20, 44, DropReason::Fragment),
        (20, 58, DropReason::OtherProtocol),
        (20, 0, DropReason::OtherProtocol),
        (19, 200, DropReason::Truncated),
        (19, 7, DropReason::Truncated),
    ];
    for (at, value, reason) in cases {
        assert_eq!(changed(at, value), Class::Drop(reason), "byte {at} is {value}");
    }
    assert_eq!(changed(20, 6), Class::Ours { transport_at: 54, udp: false });
    let mut solicitation = good.clone();
    (solicitation[20], solicitation[54]) = (58, 135);
    assert_eq!(classify(&solicitation, PEER_V6.address), Class::Neighbor);
    // To a station of IPv4 it is nothing, and ARP nothing to one of IPv6.
    assert_eq!(classify(&solicitation, PEER.address), Class::Drop(DropReason::OtherFamily));
    assert_eq!(changed(12, 0x08), Class::Drop(DropReason::OtherFamily));
    for cut in 0..80 {
        assert!(matches!(classify(&good[..cut], PEER_V6.address), Class::Drop(DropReason::Truncated)), "{cut} bytes");
    }
}
