use std::net::Ipv6Addr;

use nic::{FramePool, PoolConfig};
use proptest::prelude::*;

use super::*;
use crate::ipv6::{HOP_LIMIT, finish_segment};
use crate::link::Mac;
use crate::segment::write_checksums;
use crate::wire::ACK;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A train with so much payload, as smoltcp would have written it from `seq` on.
fn written(seq: u32, flags: u8, payload: usize) -> Train {
    let mut train = Train::new();
    train.len = HEAD + payload;
    let packet = train.packet();
    packet[..HEAD].fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((HEAD + payload) as u16).to_be_bytes());
    (packet[6], packet[8], packet[9]) = (0x40, 64, PROTOCOL_TCP);
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let (_, tcp) = packet.split_at_mut(IPV4_BYTES);
    tcp[..4].copy_from_slice(&[0x2b, 0xcb, 0xc3, 0x50]);
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    (tcp[12], tcp[13]) = (0x50, flags);
    tcp[14..16].copy_from_slice(&[1, 2]);
    for (at, byte) in packet[HEAD..].iter_mut().enumerate() {
        *byte = (at % 251) as u8;
    }
    train
}

fn head_of_ipv6() -> Head {
    let [source, destination] = [1, 2].map(|host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host));
    Head { source, destination, label: 0x12345, next_header: PROTOCOL_TCP, hop_limit: HOP_LIMIT }
}

/// What the sum over a segment's pseudo-header and itself comes to.
fn is_whole(packet: &[u8], tcp_at: usize) -> bool {
    let tcp = &packet[tcp_at..];
    let pseudo = if tcp_at == IPV4_BYTES {
        let octets = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
        checksum::pseudo_header(octets(12), octets(16), PROTOCOL_TCP, tcp.len() as u16)
    } else {
        let octets = |at: usize| packet[at..at + 16].try_into().expect("sixteen");
        checksum::pseudo_header_v6(octets(8), octets(24), PROTOCOL_TCP, tcp.len() as u32)
    };
    checksum::is_right(checksum::add(pseudo, tcp))
}

#[test]
fn what_is_longer_than_was_planned_is_written_into_the_room_and_refused() {
    let mut train = Train::new();
    let room = train.room.as_ptr_range();
    let most = HEAD + 3 * 1_460;
    for (len, refused) in [(most, false), (most + 1, true), (MOST_PACKET, true), (MOST_WRITTEN, true), (HEAD, false)] {
        let written = Write { train: &mut train, most }.consume(len, |bytes| {
            bytes.fill(7);
            bytes.as_ptr_range()
        });
        assert!(room.start <= written.start && written.end <= room.end, "{len}: memory of its own");
        assert_eq!(written.end as usize - written.start as usize, len);
        assert_eq!((train.was_refused(), train.packet().len()), (refused, if refused { 0 } else { len }));
    }
}

#[test]
fn what_was_refused_is_the_only_thing_that_is_written() {
    let mut train = Train::new();
    let mut device = Long { train: &mut train, most: HEAD };
    let write = device.transmit(Instant::ZERO).expect("nothing is written");
    write.consume(HEAD + 1, |_| ());
    assert!(device.transmit(Instant::ZERO).is_none());
    assert!(device.train.was_refused());
}

proptest! {
    /// What the queue is given says of itself what the kernel needs: with its sum completed it is one good packet.
    #[test]
    fn a_train_is_a_packet_whose_sum_is_to_be_completed(seq in any::<u32>(), payload in 1usize..65_000, ipv6 in any::<bool>()) {
        let mut train = written(seq, ACK | PSH, payload);
        let link = if ipv6 { LinkHeader::for_ipv6(PEER, OWN, None) } else { LinkHeader::new(PEER, OWN, None, 0x0800) };
        let head = head_of_ipv6();
        let mut packet = train.finish(&link, ipv6.then_some(&head)).to_vec();
        let (ethertype, ip_at, tcp_at) = if ipv6 { ([0x86, 0xdd], 14, 54) } else { ([8, 0], 14, 34) };
        prop_assert_eq!(&packet[..12], &[PEER.0, OWN.0].concat()[..]);
        prop_assert_eq!(&packet[12..14], &ethertype);
        prop_assert_eq!(packet.len(), tcp_at + TCP_BYTES + payload);
        if ipv6 {
            prop_assert_eq!(usize::from(u16::from_be_bytes([packet[18], packet[19]])), TCP_BYTES + payload);
            prop_assert_eq!(packet[14..18].to_vec(), [0x60, 1, 0x23, 0x45]);
        } else {
            prop_assert_eq!(usize::from(u16::from_be_bytes([packet[16], packet[17]])), HEAD + payload);
            prop_assert_eq!(packet[14], 0x45);
            prop_assert!(checksum::is_right(checksum::add(0, &packet[14..34])));
        }
        // The kernel adds up everything from the TCP header on, with what stands in the field.
        let sum = checksum::field(checksum::add(0, &packet[tcp_at..]));
        packet[tcp_at + 16..tcp_at + 18].copy_from_slice(&sum);
        prop_assert!(is_whole(&packet[ip_at..], tcp_at - ip_at));
    }

    /// Cut here, it is segments that follow each other, of which only the last has FIN and PSH.
    #[test]
    fn a_train_that_is_cut_is_its_segments(
        seq in any::<u32>(), payload in 1usize..20_000, cut in 48usize..1_461, fin in any::<bool>(), ipv6 in any::<bool>(),
    ) {
        let last = if fin { FIN } else { PSH };
        let mut train = written(seq, ACK | last, payload);
        let link = if ipv6 { LinkHeader::for_ipv6(PEER, OWN, None) } else { LinkHeader::new(PEER, OWN, None, 0x0800) };
        let head = head_of_ipv6();
        train.finish(&link, ipv6.then_some(&head));
        let mut pool = FramePool::new(PoolConfig::default()).expect("a pool");
        let (mut bytes, mut next) = (Vec::new(), seq);
        for at in (0..payload).step_by(cut) {
            let len = cut.min(payload - at);
            let mut frame = pool.alloc().expect("one is free");
            prop_assert!(train.write_piece(&mut frame, &link, at, len));
            let tcp_at = if ipv6 {
                finish_segment(frame.bytes_mut(), link.len(), &head);
                IPV4_BYTES + LONGER_BYTES
            } else {
                write_checksums(&mut frame.bytes_mut()[link.len()..]);
                IPV4_BYTES
            };
            let packet = &frame.bytes()[14..];
            prop_assert_eq!(packet.len(), tcp_at + TCP_BYTES + len);
            prop_assert!(is_whole(packet, tcp_at));
            let tcp = &packet[tcp_at..];
            prop_assert_eq!(u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]), next);
            let flags = if at + len == payload { ACK | last } else { ACK };
            prop_assert_eq!(tcp[13], flags);
            prop_assert_eq!(&tcp[14..16], &[1, 2], "its window is the train's");
            bytes.extend_from_slice(&tcp[TCP_BYTES..]);
            next = next.wrapping_add(len as u32);
            pool.free(frame).expect("of this pool");
        }
        prop_assert_eq!(bytes, (0..payload).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    }
}
