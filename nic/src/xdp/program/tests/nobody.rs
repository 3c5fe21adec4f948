//! While nobody serves: what clients of an own address are told.

use etherparse::{SlicedPacket, TransportSlice};

use super::*;

pub(super) const XDP_TX: u32 = 3;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// The NIC's address, to which the frames go.
pub(super) const STATION: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Benches of which no queue has a socket and nobody serves.
fn left(merged: bool) -> Vec<Bench> {
    let mut benches = loaded_as(false, merged);
    for bench in &mut benches {
        bench.set_station(STATION);
        bench.set_nobody(true);
    }
    benches
}

/// A TCP segment with `words` words of options, and its payload.
pub(super) fn segment(flags: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [40000_u16.to_be_bytes(), 11211_u16.to_be_bytes()].concat();
    header.extend(0xffff_fffe_u32.to_be_bytes());
    header.extend(0x0102_0304_u32.to_be_bytes());
    header.extend([(5 + words) << 4, flags, 0x10, 0, 0, 0, 0, 0]);
    header.extend(vec![1; 4 * usize::from(words)]);
    header.extend(payload);
    header
}

fn to_ours(segment: &[u8]) -> Vec<u8> {
    ethernet(0x0800, None, &ipv4(PEER, OURS, 6, 0x4000, segment))
}

/// What RFC 9293 §3.10.7.1 has a host say at which nobody listens: the number, the acknowledgment if there is one.
fn is_reset(answer: &[u8], sequence: u32, acknowledgment: Option<u32>) {
    let parsed = SlicedPacket::from_ethernet(answer).unwrap();
    let link = answer[..12].to_vec();
    assert_eq!(link, [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], "MAC addresses change places");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &parsed.net else { panic!("{parsed:?}") };
    let ip = ip.header();
    assert_eq!((ip.source_addr(), ip.destination_addr(), ip.total_len(), ip.ttl()), (OURS, PEER, 40, 64));
    assert!(ip.dont_fragment() && ip.ihl() == 5);
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    let Some(TransportSlice::Tcp(tcp)) = &parsed.transport else { panic!("{parsed:?}") };
    assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.data_offset()), (11211, 40000, 5));
    assert_eq!(tcp.calc_checksum_ipv4(ip.source(), ip.destination()).unwrap(), tcp.checksum());
    assert_eq!((tcp.sequence_number(), tcp.rst(), tcp.ack()), (sequence, true, acknowledgment.is_some()));
    assert_eq!(tcp.acknowledgment_number(), acknowledgment.unwrap_or(0));
    assert!(!tcp.syn() && !tcp.fin() && !tcp.psh());
}

#[test]
fn while_nobody_serves_a_segment_becomes_the_reset_that_answers_it() {
    for mut bench in left(false) {
        for words in [0, 5, 10] {
            for (flags, payload, acknowledgment) in [
                (SYN, &b""[..], Some(0xffff_ffff)),
                (SYN | FIN, b"", Some(0)),
                (0, b"abcd", Some(2)),
                (ACK, b"get k\r\n", None),
                (ACK | FIN, b"", None),
                (SYN | ACK, b"", None),
            ] {
                let (said, answer) = bench.answer(&to_ours(&segment(flags, words, payload)));
                assert_eq!(said, XDP_TX);
                is_reset(&answer, if acknowledgment.is_some() { 0 } else { 0x0102_0304 }, acknowledgment);
                assert_eq!(answer.len(), 60);
                assert_eq!(answer[54..], [0; 6], "nothing of theirs is sent back");
            }
        }
        assert_eq!(bench.counters(), SteerCounters { refused: 18, ..SteerCounters::default() });
    }
}

#[test]
fn the_answer_is_as_short_behind_options_a_tag_and_a_merged_frame() {
    for merged in [false, true] {
        for mut bench in left(merged) {
            let mut packet = ipv4(PEER, OURS, 6, 0, &[vec![1; 12], segment(ACK, 0, b"x")].concat());
            packet[0] += 3;
            let (said, answer) = bench.answer(&ethernet(0x0800, None, &packet));
            assert_eq!((said, answer.len()), (XDP_TX, 60));
            is_reset(&answer, 0x0102_0304, None);

            bench.set_vlan(7);
            let tagged = ethernet(0x0800, Some(7), &ipv4(PEER, OURS, 6, 0, &segment(SYN, 10, b"")));
            let (said, answer) = bench.answer(&tagged);
            assert_eq!((said, answer.len()), (XDP_TX, 60));
            assert_eq!(answer[12..18], [0x81, 0, 0, 7, 8, 0], "the tag stays");
            is_reset(&[&answer[..12], &answer[16..]].concat(), 0, Some(0xffff_ffff));
        }
    }
    for mut bench in left(true) {
        let mut long = to_ours(&segment(0, 0, b""));
        long[16..18].copy_from_slice(&20_000_u16.to_be_bytes());
        long.resize(14 + 20_000, b'x');
        let (said, answer) = bench.answer(&long);
        assert_eq!((said, answer.len()), (XDP_TX, 60));
        is_reset(&answer, 0, Some(0xffff_fffe_u32.wrapping_add(20_000 - 40)));
    }
}

#[test]
fn what_no_station_asks_is_not_answered_and_stays_as_it_is() {
    let good = to_ours(&segment(ACK, 0, b""));
    let bent = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let frames = [
        to_ours(&segment(RST, 0, b"")),
        to_ours(&segment(RST | ACK, 0, b"")),
        bent(0, &[0xff; 6]),
        bent(0, &[2, 0, 0, 0, 0, 9]),
        [&[2, 0, 0, 0, 0, 9][..], &arp(1, PEER, OURS)[6..]].concat(),
        bent(6, &[0x01]),
        bent(26, &[0, 0, 0, 0]),
        bent(26, &[127, 0, 0, 1]),
        bent(26, &[224, 0, 0, 1]),
        bent(26, &[255, 255, 255, 255]),
        bent(26, &OURS.octets()),
        bent(20, &[0x20, 0]),
        bent(20, &[0, 1]),
        bent(16, &[0, 39]),
        bent(46, &[0x40]),
        good[..53].to_vec(),
        ethernet(0x0800, None, &ipv4(PEER, OURS, 17, 0, &ports(1, 11211))),
        ethernet(0x0800, None, &ipv4(PEER, OURS, 1, 0, &[8, 0, 0, 0])),
        tcp(SHARED, 11211),
        arp(2, PEER, OURS),
        arp(1, PEER, SHARED),
    ];
    for mut bench in left(false) {
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(bench.answer(frame), (XDP_PASS, frame.clone()), "frame {index}");
        }
        bench.allow(&[([10, 79, 0, 0].into(), 24)]);
        assert_eq!(bench.verdict(&good), XDP_DROP, "who may not speak is told nothing");
        let counters = bench.counters();
        assert_eq!((counters.refused, counters.arp_answered), (0, 0));
    }
}

#[test]
fn while_nobody_serves_arp_is_answered_with_the_address_of_the_nic() {
    for mut bench in left(false) {
        for (sender, to) in [(PEER, STATION.0), (Ipv4Addr::UNSPECIFIED, [0xff; 6])] {
            let (said, answer) = bench.answer(&[&to[..], &arp(1, sender, OURS)[6..]].concat());
            assert_eq!(said, XDP_TX);
            let expected = [
                &[2, 0, 0, 0, 0, 1][..],
                &STATION.0,
                &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
                &STATION.0,
                &OURS.octets(),
                &[2, 0, 0, 0, 0, 1],
                &sender.octets(),
            ];
            assert_eq!(answer[..42], expected.concat());
        }
        assert_eq!(bench.counters(), SteerCounters { arp_answered: 2, ..SteerCounters::default() });
    }
}

#[test]
fn an_answer_leaves_by_a_redirect_where_the_driver_needs_one() {
    for mut bench in left(false) {
        bench.set_answer_by_redirect();
        let (said, answer) = bench.answer(&to_ours(&segment(ACK, 0, b"x")));
        assert_eq!(said, XDP_REDIRECT);
        is_reset(&answer, 0x0102_0304, None);
        assert_eq!(bench.verdict(&arp(1, PEER, OURS)), XDP_REDIRECT);
        let counters = bench.counters();
        assert_eq!((counters.refused, counters.arp_answered, counters.redirected), (1, 1, 0));
    }
}

#[test]
fn a_socket_gets_the_frame_whoever_says_that_nobody_serves_and_without_the_bit_the_kernel_does() {
    for mut bench in loaded() {
        bench.set_nobody(true);
        assert_eq!(bench.verdict(&to_ours(&segment(ACK, 0, b""))), XDP_REDIRECT);
        assert_eq!(bench.verdict(&arp(1, PEER, OURS)), XDP_REDIRECT);
    }
    for mut bench in left(false) {
        bench.set_nobody(false);
        assert_eq!(bench.verdict(&to_ours(&segment(ACK, 0, b""))), XDP_PASS);
        assert_eq!(bench.verdict(&arp(1, PEER, OURS)), XDP_PASS);
        assert_eq!(bench.counters(), SteerCounters { no_socket: 2, ..SteerCounters::default() });
    }
}

#[test]
fn the_kernel_and_the_interpreter_make_the_same_answers_of_bent_frames() {
    const SEED: u64 = 79;
    eprintln!("seed {SEED}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let whole = [
        to_ours(&segment(SYN, 10, b"")),
        to_ours(&segment(ACK, 3, b"get k\r\n")),
        ethernet(0x0800, Some(7), &ipv4(PEER, OURS, 6, 0, &segment(FIN, 0, b"x"))),
        arp(1, PEER, OURS),
    ];
    let mut benches = left(false);
    let mut answered = 0;
    for round in 0..5_000 {
        let mut frame = whole[random.next_u64() as usize % whole.len()].clone();
        for _ in 0..random.next_u64() % 3 {
            let at = random.next_u64() as usize % 58;
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << (random.next_u64() % 8);
            }
        }
        if random.next_u64() % 4 == 0 {
            frame.truncate(14 + random.next_u64() as usize % 60);
        }
        let said: Vec<_> = benches.iter_mut().map(|bench| bench.answer(&frame)).collect();
        assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "frame {round}: {said:02x?} of {frame:02x?}");
        assert!(said[0].1.len() <= frame.len(), "no answer is longer than what it answers");
        answered += u32::from(said[0].0 == XDP_TX);
    }
    assert!((1_000..4_500).contains(&answered), "{answered}");
}
