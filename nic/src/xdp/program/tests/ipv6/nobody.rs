//! While nobody serves: what clients of an own IPv6 address are told.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::super::nobody::{ACK, FIN, RST, STATION, SYN, XDP_TX, segment};
use super::*;

/// Benches of which no queue has a socket and nobody serves.
fn left(merged: bool) -> Vec<Bench> {
    let mut benches = loaded_as(false, merged);
    for bench in &mut benches {
        bench.set_station(STATION);
        bench.set_nobody(true);
    }
    benches
}

fn to_ours(segment: &[u8]) -> Vec<u8> {
    to(ours(), TCP, segment)
}

/// A segment of RFC 9293 §3.10.7.1 from our address, with its checksum: the number, the acknowledgment if there is one.
fn is_reset(answer: &[u8], sequence: u32, acknowledgment: Option<u32>) {
    assert_eq!(answer[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], "MAC addresses change places");
    let parsed = SlicedPacket::from_ethernet(answer).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &parsed.net else { panic!("{parsed:?}") };
    let ip = ip.header();
    assert_eq!(
        (ip.source_addr(), ip.destination_addr(), ip.payload_length(), ip.hop_limit()),
        (ours(), peer(), 20, 64)
    );
    let Some(TransportSlice::Tcp(tcp)) = &parsed.transport else { panic!("{parsed:?}") };
    assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.data_offset()), (11211, 40000, 5));
    assert_eq!(tcp.to_header().calc_checksum_ipv6_raw(ip.source(), ip.destination(), &[]).unwrap(), tcp.checksum());
    assert_eq!((tcp.sequence_number(), tcp.rst(), tcp.ack()), (sequence, true, acknowledgment.is_some()));
    assert_eq!(tcp.acknowledgment_number(), acknowledgment.unwrap_or(0));
    assert!(!tcp.syn() && !tcp.fin() && !tcp.psh());
}

#[test]
fn while_nobody_serves_a_segment_over_ipv6_becomes_the_reset_that_answers_it() {
    for merged in [false, true] {
        for mut bench in left(merged) {
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
                    assert_eq!((said, answer.len()), (XDP_TX, 14 + HEADER_BYTES + 20));
                    is_reset(&answer, if acknowledgment.is_some() { 0 } else { 0x0102_0304 }, acknowledgment);
                }
            }
            assert_eq!(bench.counters(), SteerCounters { refused: 18, ..SteerCounters::default() });
            bench.set_vlan(7);
            let tagged = ethernet(0x86dd, Some(7), &packet(peer(), ours(), TCP, 64, &segment(SYN, 10, b"")));
            let (said, answer) = bench.answer(&tagged);
            assert_eq!((said, answer.len()), (XDP_TX, 18 + HEADER_BYTES + 20));
            assert_eq!(answer[12..18], [0x81, 0, 0, 7, 0x86, 0xdd], "the tag stays");
            is_reset(&[&answer[..12], &answer[16..]].concat(), 0, Some(0xffff_ffff));
        }
    }
}

/// The sum of an ICMPv6 message, its checksum included, in sixteen bits (RFC 4443 §2.3).
fn sum(packet: &[u8]) -> u16 {
    let (header, message) = packet.split_at(HEADER_BYTES);
    let pseudo = [&header[8..40], &(message.len() as u32).to_be_bytes(), &[0, 0, 0, ICMP], message].concat();
    crate::checksum::fold(crate::checksum::add(0, &pseudo))
}

#[test]
fn while_nobody_serves_a_solicitation_is_answered_with_the_address_of_the_nic() {
    for (source, to) in [(peer(), solicited(ours())), (peer(), ours()), (ip("fe80::1"), solicited(ours()))] {
        for mut bench in left(false) {
            let asked = neighbor(SOLICITATION, source, to, ours());
            let (said, answer) = bench.answer(&[&[0x33, 0x33, 0xff, 0, 0, 2][..], &asked[6..]].concat());
            assert_eq!((said, answer.len()), (XDP_TX, asked.len()));
            let expected = [
                &[2, 0, 0, 0, 0, 1][..],
                &STATION.0,
                &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, ICMP, 255],
                &ours().octets(),
                &source.octets(),
                &[ADVERTISEMENT, 0],
            ];
            assert_eq!(answer[..14 + HEADER_BYTES + 2], expected.concat());
            let rest = [&[0x60, 0, 0, 0][..], &ours().octets(), &[2, 1], &STATION.0].concat();
            assert_eq!(answer[14 + HEADER_BYTES + 4..], rest);
            assert_eq!(sum(&answer[14..]), 0xffff);
            assert_eq!(bench.counters(), SteerCounters { neighbors_answered: 1, ..SteerCounters::default() });
        }
    }
}

#[test]
fn who_probes_an_own_address_while_nobody_serves_is_told_by_way_of_all_nodes_that_it_is_taken() {
    let message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &ours().octets()].concat();
    let probe = frame(&packet(Ipv6Addr::UNSPECIFIED, solicited(ours()), ICMP, 255, &message));
    for mut bench in left(false) {
        let (said, answer) = bench.answer(&[&[0x33, 0x33, 0xff, 0, 0, 2][..], &probe[6..]].concat());
        assert_eq!((said, answer.len()), (XDP_TX, probe.len()));
        assert_eq!(answer[..12], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        assert_eq!(answer[14 + 8..14 + HEADER_BYTES], [ours().octets(), ip("ff02::1").octets()].concat());
        let advertised = [&[ADVERTISEMENT, 0][..], &answer[56..58], &[0x20, 0, 0, 0], &ours().octets()].concat();
        assert_eq!(answer[14 + HEADER_BYTES..], advertised);
        assert_eq!(sum(&answer[14..]), 0xffff);
    }
}

#[test]
fn what_no_station_asks_over_ipv6_is_not_answered_and_stays_as_it_is() {
    let good = to_ours(&segment(ACK, 0, b""));
    let asked = neighbor(SOLICITATION, peer(), ours(), ours());
    let bent = |frame: &[u8], at: usize, bytes: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let source = 14 + 8;
    let frames = [
        to_ours(&segment(RST, 0, b"")),
        to_ours(&segment(RST | ACK, 0, b"")),
        bent(&good, 0, &[0xff; 6]),
        bent(&good, 0, &[2, 0, 0, 0, 0, 9]),
        bent(&good, 6, &[0x01]),
        bent(&good, source, &Ipv6Addr::UNSPECIFIED.octets()),
        bent(&good, source, &Ipv6Addr::LOCALHOST.octets()),
        bent(&good, source, &ip("ff02::1").octets()),
        bent(&good, source, &PEER.to_ipv6_mapped().octets()),
        bent(&good, source, &ours().octets()),
        bent(&good, 14 + 4, &[0, 19]),
        bent(&good, 14 + HEADER_BYTES + 12, &[0x40]),
        good[..14 + HEADER_BYTES + 19].to_vec(),
        to(ours(), UDP, &ports(1, 11211)),
        to(ours(), ICMP, &[128, 0, 0, 0, 0, 0, 0, 0]),
        to(ours(), HOP_BY_HOP, &[options(TCP, 1), segment(ACK, 0, b"")].concat()),
        tcp_to(shared(), 11211),
        neighbor(ADVERTISEMENT, peer(), ours(), ours()),
        neighbor(SOLICITATION, peer(), shared(), shared()),
        bent(&asked, 0, &[2, 0, 0, 0, 0, 9]),
        bent(&asked, 6, &[0x01]),
        bent(&asked, source, &ip("ff02::1").octets()),
        bent(&asked, source, &ours().octets()),
        bent(&asked, 14 + 4, &[0, 23]),
        bent(&asked, 14 + 7, &[254]),
    ];
    for mut bench in left(false) {
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(bench.answer(frame), (XDP_PASS, frame.clone()), "frame {index}");
        }
        bench.allow(&[(ip("2001:db8:79::").into(), 64)]);
        assert_eq!(bench.verdict(&good), XDP_DROP, "who may not speak is told nothing");
        let counters = bench.counters();
        assert_eq!((counters.refused, counters.neighbors_answered), (0, 0));
    }
}

#[test]
fn a_socket_gets_ipv6_frames_whoever_says_that_nobody_serves_and_without_the_bit_the_kernel_does() {
    let frames = [to_ours(&segment(ACK, 0, b"")), neighbor(SOLICITATION, peer(), ours(), ours())];
    for mut bench in loaded() {
        bench.set_nobody(true);
        assert_eq!(frames.each_ref().map(|frame| bench.verdict(frame)), [XDP_REDIRECT; 2]);
    }
    for mut bench in left(false) {
        bench.set_nobody(false);
        assert_eq!(frames.each_ref().map(|frame| bench.verdict(frame)), [XDP_PASS; 2]);
        assert_eq!(bench.counters(), SteerCounters { no_socket: 2, ..SteerCounters::default() });
        bench.set_nobody(true);
        bench.set_answer_by_redirect();
        assert_eq!(frames.each_ref().map(|frame| bench.verdict(frame)), [XDP_REDIRECT; 2]);
    }
}

#[test]
fn the_kernel_and_the_interpreter_make_the_same_answers_of_bent_ipv6_frames() {
    const SEED: u64 = 80;
    eprintln!("seed {SEED}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let probe = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &ours().octets()].concat();
    let whole = [
        to_ours(&segment(SYN, 10, b"")),
        to_ours(&segment(ACK, 3, b"get k\r\n")),
        ethernet(0x86dd, Some(7), &packet(peer(), ours(), TCP, 64, &segment(FIN, 0, b"x"))),
        neighbor(SOLICITATION, peer(), solicited(ours()), ours()),
        frame(&packet(Ipv6Addr::UNSPECIFIED, solicited(ours()), ICMP, 255, &probe)),
    ];
    let mut benches = left(false);
    let mut answered = 0;
    for round in 0..10_000 {
        let frame = bent(&mut random, &whole);
        let said: Vec<_> = benches.iter_mut().map(|bench| bench.answer(&frame)).collect();
        assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "frame {round}: {said:02x?} of {frame:02x?}");
        assert!(said[0].1.len() <= frame.len(), "no answer is longer than what it answers");
        answered += u32::from(said[0].0 == XDP_TX);
    }
    assert!((1_000..9_000).contains(&answered), "{answered}");
}
