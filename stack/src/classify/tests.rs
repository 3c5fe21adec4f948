use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanId};
use proptest::prelude::*;

use super::*;
use crate::options::SynOptions;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const US: [u8; 4] = [10, 77, 0, 2];
const THEM: [u8; 4] = [10, 77, 0, 1];

fn local() -> Local {
    Local::new(US.into(), 24, Mac(OWN))
}

fn tcp_frame(data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER, OWN).ipv4(THEM, US, 64).tcp(1_234, 11_211, 77, 512).ack(99);
    builder.write(&mut frame, data).expect("written to memory");
    frame
}

/// Changes the frame's IPv4 header and makes its checksum right again.
fn with_ip(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let header = &mut frame[14..34];
    change(header);
    header[10..12].fill(0);
    let sum = checksum::field(checksum::add(0, header));
    header[10..12].copy_from_slice(&sum);
    frame
}

/// Changes the frame's TCP segment and makes its checksum right again.
fn with_tcp(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let segment = &mut frame[34..end];
    change(segment);
    segment[16..18].fill(0);
    let pseudo = checksum::pseudo_header(THEM, US, PROTOCOL_TCP, segment.len() as u16);
    let sum = checksum::field(checksum::add(pseudo, segment));
    segment[16..18].copy_from_slice(&sum);
    frame
}

#[track_caller]
fn dropped(frame: &[u8], reason: DropReason) {
    assert_eq!(local().classify(frame), Class::Drop(reason));
}

#[test]
fn a_segment_is_seen_as_etherparse_sees_it() {
    let options = [etherparse::TcpOptionElement::MaximumSegmentSize(1_400), etherparse::TcpOptionElement::Noop];
    for tagged in [false, true] {
        for data in [&b""[..], b"x", b"get k\r\n"] {
            let ethernet = PacketBuilder::ethernet2(PEER, OWN);
            let mut frame = Vec::new();
            let tcp = |ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>| {
                ip.tcp(1_234, 11_211, 0xdead_beef, 4_321).ack(5).psh().options(&options).expect("they fit")
            };
            if tagged {
                let tag = VlanId::try_new(42).expect("in range");
                tcp(ethernet.single_vlan(tag).ipv4(THEM, US, 9)).write(&mut frame, data).expect("written");
            } else {
                tcp(ethernet.ipv4(THEM, US, 9)).write(&mut frame, data).expect("written");
            }
            // Ethernet pads to 60 bytes; what is behind the packet is no data.
            frame.resize(frame.len().max(60), 0xee);
            let Class::Tcp(segment) = local().classify(&frame) else { panic!("{frame:02x?}") };
            let sliced = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
                panic!("not TCP over IPv4");
            };
            assert_eq!(segment.key.remote, ip.header().source_addr());
            assert_eq!(segment.key.local, ip.header().destination_addr());
            assert_eq!((segment.key.remote_port, segment.key.local_port), (tcp.source_port(), tcp.destination_port()));
            assert_eq!((segment.seq, segment.ack), (tcp.sequence_number(), tcp.acknowledgment_number()));
            assert_eq!(segment.window, tcp.window_size());
            assert_eq!(usize::from(segment.payload_len), tcp.payload().len());
            assert_eq!(segment.has(ACK), tcp.ack());
            assert_eq!(SynOptions::read(&segment, &frame).and_then(|options| options.mss), Some(1_400));
            assert_eq!(usize::from(segment.at), if tagged { 18 } else { 14 });
        }
    }
}

#[test]
fn link_headers_that_are_not_for_us_are_dropped() {
    let good = tcp_frame(b"");
    dropped(&good[..13], DropReason::LinkTooShort);
    let mut other = good.clone();
    other[5] = 7;
    dropped(&other, DropReason::OtherStation);
    let mut group = good.clone();
    group[6] |= 1;
    dropped(&group, DropReason::LinkSource);
    for (ethertype, reason) in [
        ([0x86, 0xdd], DropReason::Ipv6),
        ([0x88, 0xcc], DropReason::EtherType),
        ([0x08, 0x06], DropReason::ArpMalformed),
    ] {
        let mut changed = good.clone();
        changed[12..14].copy_from_slice(&ethertype);
        dropped(&changed, reason);
    }
    let mut twice = good[..12].to_vec();
    twice.extend([0x81, 0, 0, 1, 0x81, 0, 0, 2]);
    twice.extend(&good[12..]);
    dropped(&twice, DropReason::DoubleTag);
}

#[test]
fn each_wrong_ipv4_header_has_its_reason() {
    let good = || tcp_frame(b"data");
    dropped(&good()[..33], DropReason::IpTooShort);
    dropped(&with_ip(good(), |ip| ip[0] = 0x65), DropReason::IpVersion);
    dropped(&with_ip(good(), |ip| ip[0] = 0x46), DropReason::IpOptions);
    dropped(&with_ip(good(), |ip| ip[0] = 0x44), DropReason::IpTooShort);
    dropped(&with_ip(good(), |ip| ip[3] += 1), DropReason::IpTooShort);
    dropped(&with_ip(good(), |ip| ip[3] = 19), DropReason::IpTooShort);
    // Fragments of TCP and UDP are put together; of nothing else.
    for (protocol, kept) in [(6, true), (17, true), (1, false), (47, false)] {
        for (flags, offset) in [(0x20, 0), (0, 1), (0x20, 1)] {
            let frame = with_ip(good(), |ip| (ip[6], ip[7], ip[9]) = (flags, offset, protocol));
            match local().classify(&frame) {
                Class::Fragment(fragment) => assert!(kept && fragment.key.protocol == protocol),
                other => assert_eq!((other, kept), (Class::Drop(DropReason::IpFragment), false)),
            }
        }
    }
    dropped(&with_ip(good(), |ip| ip[9] = 47), DropReason::IpProtocol);
    dropped(&with_ip(good(), |ip| ip[12..16].copy_from_slice(&US)), DropReason::Land);
    for destination in [[10, 77, 0, 3], [224, 0, 0, 1], [10, 77, 1, 255]] {
        dropped(&with_ip(good(), |ip| ip[16..20].copy_from_slice(&destination)), DropReason::IpNotOurs);
    }
    for destination in [[10, 77, 0, 255], [255; 4]] {
        dropped(&with_ip(good(), |ip| ip[16..20].copy_from_slice(&destination)), DropReason::IpBroadcast);
    }
    for source in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 1, 1, 1],
        [240, 0, 0, 1],
        [255; 4],
        [10, 77, 0, 255],
        [10, 77, 0, 0],
    ] {
        dropped(&with_ip(good(), |ip| ip[12..16].copy_from_slice(&source)), DropReason::IpMartian);
    }
    let mut broken = good();
    broken[22] ^= 1;
    dropped(&broken, DropReason::IpChecksum);
}

#[test]
fn each_wrong_tcp_header_has_its_reason() {
    let good = || tcp_frame(b"data");
    let mut broken = good();
    broken[55] ^= 1;
    dropped(&broken, DropReason::TcpChecksum);
    dropped(&with_tcp(good(), |tcp| tcp[12] = 4 << 4), DropReason::TcpTooShort);
    dropped(&with_tcp(good(), |tcp| tcp[12] = 7 << 4), DropReason::TcpTooShort);
    for flags in [SYN | FIN, SYN | RST, FIN | RST | ACK] {
        dropped(&with_tcp(good(), |tcp| tcp[13] = flags), DropReason::TcpFlags);
    }
    dropped(&with_tcp(good(), |tcp| tcp[13] = 0), DropReason::TcpNoAck);
    dropped(&with_tcp(good(), |tcp| tcp[13] = FIN), DropReason::TcpNoAck);
    dropped(&with_tcp(good(), |tcp| tcp[0..2].fill(0)), DropReason::TcpFlags);
}

/// `frame` as a kernel hands it to a device that is to finish the checksum, which lies `at` bytes into the packet's
/// payload: the folded sum of the pseudo-header.
fn left_to_offload(mut frame: Vec<u8>, protocol: u8, at: usize) -> Vec<u8> {
    let len = u16::from_be_bytes([frame[16], frame[17]]) - IPV4_BYTES as u16;
    let sum = checksum::fold(checksum::pseudo_header(THEM, US, protocol, len));
    frame[34 + at..36 + at].copy_from_slice(&sum.to_ne_bytes());
    frame
}

#[test]
fn a_checksum_that_a_kernel_left_to_offload_is_taken_where_that_happens_and_nowhere_else() {
    for data in [&b""[..], b"x", b"get k\r\n", &[0xff; 1_460]] {
        let frames = [
            (left_to_offload(tcp_frame(data), PROTOCOL_TCP, 16), DropReason::TcpChecksum),
            (left_to_offload(udp_frame(false, data), PROTOCOL_UDP, 6), DropReason::UdpChecksum),
        ];
        for (frame, reason) in frames {
            dropped(&frame, reason);
            let veth = local().with_partial_checksums(true);
            let class = veth.classify(&frame);
            assert!(matches!(class, Class::Tcp(_) | Class::Udp(_)), "{class:?}");
            assert_eq!(veth.partial_checksums(), 1);
            // Anything else is as wrong here as on a wire, the complement too.
            for wrong in [1, 0xffff, 0x8000] {
                let mut frame = frame.clone();
                let at = if reason == DropReason::TcpChecksum { 50 } else { 40 };
                let field = u16::from_be_bytes([frame[at], frame[at + 1]]) ^ wrong;
                frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
                assert_eq!(veth.classify(&frame), Class::Drop(reason), "{wrong:x}");
            }
            assert_eq!(veth.partial_checksums(), 1);
        }
        // What has its whole checksum is not counted.
        let veth = local().with_partial_checksums(true);
        assert!(matches!(veth.classify(&tcp_frame(data)), Class::Tcp(_)));
        assert_eq!(veth.partial_checksums(), 0);
    }
}

fn udp_frame(tagged: bool, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(PEER, OWN);
    if tagged {
        let tag = VlanId::try_new(42).expect("in range");
        ethernet.single_vlan(tag).ipv4(THEM, US, 64).udp(5_000, 11_211).write(&mut frame, data).expect("written");
    } else {
        ethernet.ipv4(THEM, US, 64).udp(5_000, 11_211).write(&mut frame, data).expect("written");
    }
    frame
}

#[test]
fn a_datagram_is_seen_as_etherparse_sees_it() {
    for tagged in [false, true] {
        for data in [&b""[..], b"x", b"get k\r\n", &[0xff; 1_472]] {
            let mut frame = udp_frame(tagged, data);
            frame.resize(frame.len().max(64), 0xee);
            let Class::Udp(datagram) = local().classify(&frame) else { panic!("{frame:02x?}") };
            let sliced = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
                panic!("not UDP over IPv4");
            };
            assert_eq!(datagram.key.remote, ip.header().source_addr());
            assert_eq!(datagram.key.local, ip.header().destination_addr());
            assert_eq!(
                (datagram.key.remote_port, datagram.key.local_port),
                (udp.source_port(), udp.destination_port())
            );
            assert_eq!(datagram.payload(&frame), udp.payload());
            assert_eq!(usize::from(datagram.at), if tagged { 18 } else { 14 });
        }
    }
}

#[test]
fn a_datagram_without_a_checksum_is_taken_and_one_with_a_wrong_one_is_not() {
    let mut frame = udp_frame(false, b"abc");
    frame[44] ^= 1;
    dropped(&frame, DropReason::UdpChecksum);
    frame[40..42].fill(0);
    let Class::Udp(datagram) = local().classify(&frame) else { panic!("{frame:02x?}") };
    assert_eq!(datagram.payload(&frame), &frame[42..45]);
}

#[test]
fn a_datagram_may_end_before_its_packet_and_never_behind_it() {
    let mut frame = udp_frame(false, b"abc");
    // Without a checksum, since the length is part of it.
    frame[40..42].fill(0);
    for len in 0..=255 {
        frame[39] = len;
        match local().classify(&frame) {
            Class::Udp(datagram) => {
                assert!((8..=11).contains(&len));
                assert_eq!(datagram.payload(&frame), &b"abc"[..usize::from(len) - 8]);
            }
            class => {
                assert!(!(8..=11).contains(&len));
                assert_eq!(class, Class::Drop(DropReason::UdpLength));
            }
        }
    }
    for len in 0..8 {
        let cut = with_ip(frame[..34 + len].to_vec(), |ip| ip[3] = 20 + len as u8);
        dropped(&cut, DropReason::UdpLength);
    }
}

#[test]
fn arp_is_only_about_our_address() {
    let mut frame = Vec::new();
    frame.extend([0xff; 6]);
    frame.extend(PEER);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(PEER);
    frame.extend(THEM);
    frame.extend([0; 6]);
    frame.extend(US);
    assert_eq!(local().classify(&frame), Class::Arp { at: 14 });
    let mut other = frame.clone();
    other[41] = 9;
    dropped(&other, DropReason::ArpNotOurs);
    let mut spoofed = frame.clone();
    spoofed[28..32].copy_from_slice(&US);
    dropped(&spoofed, DropReason::AddressConflict);
    // About whomever: also the answer to a probe, which has no address yet.
    for target in [THEM, [0; 4]] {
        spoofed[38..42].copy_from_slice(&target);
        dropped(&spoofed, DropReason::AddressConflict);
    }
    spoofed[38..42].copy_from_slice(&US);
    let mut group = spoofed.clone();
    group[22] |= 1;
    dropped(&group, DropReason::ArpSource);
    // What we have sent ourselves comes back.
    spoofed[22..28].copy_from_slice(&OWN);
    dropped(&spoofed, DropReason::ArpSource);
    dropped(&frame[..41], DropReason::ArpMalformed);
}

#[test]
fn a_host_in_a_vlan_takes_frames_of_its_number_alone() {
    let tagged = |tag: u16, frame: &[u8]| {
        let mut bytes = frame[..12].to_vec();
        bytes.extend([0x81, 0]);
        bytes.extend(tag.to_be_bytes());
        bytes.extend(&frame[12..]);
        bytes
    };
    let bare = tcp_frame(b"get k\r\n");
    let taken = |vlan, frame: &[u8]| match local().in_vlan(vlan).classify(frame) {
        Class::Tcp(_) => true,
        other => {
            assert_eq!(other, Class::Drop(DropReason::OtherVlan));
            false
        }
    };
    let frames = [bare.clone(), tagged(0xe000, &bare), tagged(100, &bare), tagged(0xe064, &bare), tagged(101, &bare)];
    let of = |vlan| frames.each_ref().map(|frame| taken(vlan, frame));
    assert_eq!(of(None), [true; 5]);
    assert_eq!(of(Some(0)), [true, true, false, false, false]);
    assert_eq!(of(Some(100)), [false, false, true, true, false]);
    // No EtherType of a frame without a tag passes for IPv4 in a VLAN.
    for ethertype in 0..=u16::MAX {
        let mut frame = bare.clone();
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        assert!(!matches!(local().in_vlan(Some(100)).classify(&frame), Class::Tcp(_)), "{ethertype:#x}");
    }
}

#[test]
fn a_subnet_of_two_has_no_broadcast_address() {
    let local = Local::new([10, 0, 0, 1].into(), 31, Mac(OWN));
    assert!(!local.is_broadcast(u32::from_be_bytes([10, 0, 0, 1])));
    assert!(!local.is_martian(u32::from_be_bytes([10, 0, 0, 0])));
    let everywhere = Local::new([10, 0, 0, 1].into(), 0, Mac(OWN));
    assert!(!everywhere.is_martian(u32::from_be_bytes([10, 0, 0, 0])));
}

proptest! {
    /// Bursts of at most 15 bits never get past the checksums, wherever they hit.
    #[test]
    fn a_corrupted_packet_is_never_taken_for_another(data in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..2_000, pattern in 1u16..0x8000) {
        let good = tcp_frame(&data);
        let Class::Tcp(wanted) = local().classify(&good) else { panic!("good") };
        let mut bad = good.clone();
        let at = 14 * 8 + at % ((good.len() - 14) * 8 - 15);
        for bit in 0..15 {
            if pattern >> bit & 1 == 1 {
                bad[(at + bit) / 8] ^= 0x80 >> ((at + bit) % 8);
            }
        }
        if let Class::Tcp(got) = local().classify(&bad) {
            prop_assert!(false, "{wanted:?} became {got:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), link in any::<bool>()) {
        if link && bytes.len() > 24 {
            bytes[..6].copy_from_slice(&OWN);
            bytes[6] = 2;
            bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
        }
        local().classify(&bytes);
    }
}
