//! What is of IPv6 alone: headers and what is refused of them, ICMPv6, fragments, and how hosts are named and forgotten.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nic::checksum;
use sidestep_stack::{DropReason, OwnAddress};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, RST, SYN, Tcp};
use crate::lab::v6::{self, ALL_NODES, THEM6, Talk, US6, config, icmp, packet, segments, settled, tcp6};
use crate::lab::{self, App, PORT, US};

const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The payload of a frame of IPv6: what is behind its header.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[54..]
}

/// The same segment behind these headers, of which the first is `first`.
fn behind(segment: &[u8], first: u8, headers: &[u8]) -> Vec<u8> {
    let mut frame = segment[..54].to_vec();
    let len = (segment.len() - 54 + headers.len()) as u16;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame[20] = first;
    frame.extend(headers);
    frame.extend(payload(segment));
    frame
}

#[test]
fn a_connection_over_ipv6_beside_one_over_ipv4() {
    let mut bench = settled(config());
    let mut talk = Talk::open(&mut bench, 5_000);
    let next = bench.open(5_000, 100);
    assert_eq!(talk.ask(&mut bench, b"get a\r\n"), b"get a\r\n");
    let answer = bench.one(&Tcp::new(5_000, ACK, 101, next).with(b"get b\r\n"));
    assert_eq!(answer.data, b"get b\r\n");
    let census = bench.server.poll.stack().census();
    assert_eq!((census.open, census.stations, census.stations_held), (2, 1, 1));
    // The peer closes; the station is held by nothing then.
    let answers = segments(&bench.frame(&talk.segment(FIN | ACK, b"")));
    assert_eq!(answers.last().map(|answer| answer.flags), Some(FIN | ACK));
    talk.seq += 1;
    talk.ack += 1;
    bench.frame(&talk.segment(ACK, b""));
    let census = bench.server.poll.stack().census();
    assert_eq!((census.open, census.stations, census.stations_held), (1, 1, 0));
}

#[test]
fn a_syn_ack_offers_what_the_link_leaves_and_nothing_longer_is_sent() {
    let mut settings = config();
    settings.conn_memory = 0;
    let mut bench = Bench::with(settings, App::Blast(20_000));
    (0..20).for_each(|_| {
        bench.turn();
        bench.wire.clock().advance(Duration::from_millis(100));
    });
    for (offered, longest) in [(Some(1_460), 1_440), (Some(1_300), 1_300), (None, 1_220), (Some(9_000), 1_440)] {
        let mut syn = tcp6(5_000 + longest as u16, SYN, 100, 0);
        syn.mss = offered;
        let answers = segments(&bench.frame(&syn.frame()));
        assert_eq!(answers[0].mss, Some(1_440));
        let mut ack = tcp6(syn.peer_port, ACK, 101, answers[0].seq.wrapping_add(1));
        ack.window = 20_000;
        let sent = segments(&bench.frame(&ack.frame()));
        assert_eq!(sent.iter().map(|segment| segment.data.len()).max(), Some(longest), "{offered:?}");
        bench.frame(&tcp6(syn.peer_port, RST, 101, 0).frame());
    }
}

#[test]
fn frames_of_one_flow_have_one_label_and_of_others_others() {
    let mut bench = settled(config());
    let labels: std::collections::HashSet<_> =
        (0..200).map(|number| Talk::open(&mut bench, 5_000 + number).label).collect();
    assert!(labels.len() > 195 && !labels.contains(&0), "{}", labels.len());
}

#[test]
fn extension_headers_are_passed_over_with_a_bound() {
    let mut bench = settled(config());
    let mut talk = Talk::open(&mut bench, 5_000);
    let padding = [6, 0, 1, 4, 0, 0, 0, 0];
    let to_next = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let followed = [6, 0, 4, 0, 0, 0, 0, 0];
    let good: [(u8, Vec<u8>); 6] = [
        (0, padding.to_vec()),
        (60, padding.to_vec()),
        (43, followed.to_vec()),
        (0, [to_next(60), to_next(43), followed].concat()),
        (44, vec![6, 0, 0, 0, 0, 0, 0, 9]),
        (60, [&[6, 15, 1, 122][..], &[0; 124]].concat()),
    ];
    for (number, (first, headers)) in good.into_iter().enumerate() {
        let data = format!("get {number}\r\n");
        let frame = behind(&talk.segment(ACK, data.as_bytes()), first, &headers);
        let answers = segments(&bench.frame(&frame));
        assert_eq!(answers.iter().map(|answer| &answer.data[..]).collect::<Vec<_>>(), [data.as_bytes()], "{number}");
        talk.seq += data.len() as u32;
        talk.ack += data.len() as u32;
    }
}

/// The code and pointer of a parameter problem about the packet in `asked`.
fn problem(answer: &[u8], asked: &[u8]) -> (u8, u32) {
    let (kind, code, pointer) = v6::error(answer, asked);
    assert_eq!(kind, 4);
    (code, pointer)
}

#[test]
fn headers_that_nobody_honest_sends_are_refused_each_under_its_reason() {
    let mut bench = settled(config());
    let talk = Talk::open(&mut bench, 5_000);
    let segment = talk.segment(ACK, b"get k\r\n");
    let to_next = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let mut short = segment.clone();
    short[19] += 1;
    let mut empty = segment.clone();
    empty[18..20].fill(0);
    let mut version = segment.clone();
    version[14] = 0x40;
    let mut martian = tcp6(5_000, SYN, 1, 0).from(Ipv6Addr::LOCALHOST).frame();
    let group = tcp6(5_000, SYN, 1, 0).from(ALL_NODES).frame();
    let land = tcp6(PORT, SYN, 1, 0).from(US6).frame();
    let mut other = segment.clone();
    other[53] = 9;
    let mut in_group = segment.clone();
    in_group[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    let mut sum = segment.clone();
    sum[70] ^= 1;
    martian.truncate(martian.len());
    // Of each: what it counts as, and the code and pointer of the parameter problem that is told of it, if one is.
    let cases = [
        (short, DropReason::Ip6TooShort, None),
        (segment[..40].to_vec(), DropReason::Ip6TooShort, None),
        (empty, DropReason::Ip6Jumbo, None),
        (behind(&segment, 0, &[6, 0, 0xc2, 4, 0, 1, 0, 0]), DropReason::Ip6Jumbo, Some((0, 42))),
        (version, DropReason::Ip6Version, None),
        (martian, DropReason::Ip6Martian, None),
        (group, DropReason::Ip6Martian, None),
        (land, DropReason::Land, None),
        (other, DropReason::Ip6NotOurs, None),
        (in_group, DropReason::OtherStation, None),
        (sum, DropReason::TcpChecksum, None),
        // RFC 5095; a route that leads on; hop-by-hop options that do not come first; a chain without end.
        (behind(&segment, 43, &[6, 0, 0, 0, 0, 0, 0, 0]), DropReason::Ip6RoutingHeader, None),
        (behind(&segment, 43, &[6, 2, 0, 1, 0, 0, 0, 0]), DropReason::Ip6RoutingHeader, Some((0, 42))),
        (behind(&segment, 43, &[6, 0, 4, 1, 0, 0, 0, 0]), DropReason::Ip6RoutingHeader, Some((0, 42))),
        (behind(&segment, 60, &[to_next(0), to_next(6)].concat()), DropReason::Ip6Headers, Some((1, 40))),
        (behind(&segment, 60, &[[60, 0, 1, 4, 0, 0, 0, 0]; 9].concat()), DropReason::Ip6Headers, None),
        (behind(&segment, 60, &[6, 255, 1, 4, 0, 0, 0, 0]), DropReason::Ip6Headers, None),
        (behind(&segment, 60, &[&[6, 16, 1, 130][..], &[0; 132]].concat()), DropReason::Ip6Headers, None),
        (behind(&segment, 60, &[6, 0, 1, 5, 0, 0, 0, 0]), DropReason::Ip6Headers, None),
        // An option that wants the packet dropped by who does not know it (RFC 8200 §4.2).
        (behind(&segment, 60, &[6, 0, 0x41, 4, 0, 0, 0, 0]), DropReason::Ip6Option, None),
        (behind(&segment, 60, &[6, 0, 0x81, 4, 0, 0, 0, 0]), DropReason::Ip6Option, Some((2, 42))),
        (behind(&segment, 60, &[6, 0, 1, 0, 0, 0xc1, 0, 0]), DropReason::Ip6Option, Some((2, 45))),
        (packet(THEM6, US6, 59, 64, b"nothing!"), DropReason::IpProtocol, None),
        (packet(THEM6, US6, 132, 64, b"sctp...."), DropReason::IpProtocol, Some((1, 6))),
        (packet(THEM6, US6, 60, 64, &[132, 0, 1, 4, 0, 0, 0, 0]), DropReason::IpProtocol, Some((1, 40))),
        (packet(THEM6, US6, 17, 64, &[0x13, 0x88, 0x13, 0x89, 0, 8, 0, 0]), DropReason::UdpNoChecksum, None),
    ];
    for (number, (frame, reason, told)) in cases.into_iter().enumerate() {
        let before = bench.drops(reason);
        let answers = bench.frame(&frame);
        let problems: Vec<_> = answers.iter().map(|answer| problem(answer, &frame)).collect();
        assert_eq!(problems, Vec::from_iter(told), "case {number}");
        assert_eq!(bench.drops(reason), before + 1, "case {number}: {:?}", bench.server.poll.stack().stats().drops);
    }
    assert_eq!(bench.server.poll.stack().census().stations, 1, "nobody else was remembered");
}

#[test]
fn an_echo_request_is_answered_and_one_to_everybody_is_not() {
    let mut bench = settled(config());
    let request = [&[128, 0, 0, 0, 0, 7, 0, 9][..], b"twelve bytes"].concat();
    let answers = bench.frame(&icmp(THEM6, US6, 64, &request));
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    let wanted = icmp(US6, THEM6, 64, &[&[129, 0, 0, 0, 0, 7, 0, 9][..], b"twelve bytes"].concat());
    assert_eq!((payload(answer), &answer[20..54]), (payload(&wanted), &wanted[20..54]));
    assert!(bench.frame(&icmp(THEM6, ALL_NODES, 64, &request)).is_empty());
    let answered = (0..1_000).filter(|_| !bench.frame(&icmp(THEM6, US6, 64, &request)).is_empty()).count();
    assert!((31..=95).contains(&answered), "limited: {answered}");
    // All of a /64 share it; another network has its own.
    let neighbour: Ipv6Addr = "fd77::99".parse().expect("an address");
    assert!(bench.frame(&icmp(neighbour, US6, 64, &request)).is_empty());
}

#[test]
fn a_datagram_for_nobody_is_answered_with_as_much_as_may_be_quoted() {
    let mut bench = settled(config());
    let mut datagram = [&[0x13, 0x88, 0x00, 0x35, 0, 0, 0, 0][..], &[7; 1_400]].concat();
    let len = (datagram.len() as u16).to_be_bytes();
    datagram[4..6].copy_from_slice(&len);
    let pseudo = checksum::pseudo_header_v6(THEM6.octets(), US6.octets(), 17, datagram.len() as u32);
    let sum = checksum::field(checksum::add(pseudo, &datagram));
    datagram[6..8].copy_from_slice(&sum);
    let asked = packet(THEM6, US6, 17, 64, &datagram);
    let answers = bench.frame(&asked);
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.len(), &payload(answer)[..2]), (14 + 1_280, &[1, 4][..]));
    assert_eq!(payload(answer)[8..], asked[14..14 + 1_280 - 48]);
    let body = payload(answer);
    let pseudo = checksum::pseudo_header_v6(US6.octets(), THEM6.octets(), 58, body.len() as u32);
    assert!(checksum::is_right(checksum::add(pseudo, body)));
    assert_eq!(bench.server.poll.stack().stats().port_unreachables, 1);
}

/// An ICMPv6 error from a router about a frame that the stack has sent.
fn error_about(sent: &[u8], kind: u8, code: u8, word: u32) -> Vec<u8> {
    let mut body = vec![kind, code, 0, 0];
    body.extend(word.to_be_bytes());
    body.extend(&sent[14..sent.len().min(14 + 1_232)]);
    icmp("2001:db8::fe".parse().expect("an address"), US6, 64, &body)
}

#[test]
fn packets_are_as_long_as_a_router_says_they_may_be_and_no_shorter_than_any_link_takes() {
    for (mtu, wanted, reason) in [
        (1_400, Some(1_340), DropReason::IcmpTooLong),
        (1_280, Some(1_220), DropReason::IcmpTooLong),
        (1_279, None, DropReason::IcmpBlind),
        (68, None, DropReason::IcmpBlind),
        (1_500, None, DropReason::IcmpBlind),
        (u32::MAX, None, DropReason::IcmpBlind),
    ] {
        let mut bench = settled(config());
        bench.server.app = App::Blast(3_000);
        let mut syn = tcp6(5_000, SYN, 100, 0);
        (syn.mss, syn.window) = (Some(1_440), 3_000);
        let syn_ack = segments(&bench.frame(&syn.frame()));
        let mut ack = tcp6(5_000, ACK, 101, syn_ack[0].seq.wrapping_add(1));
        ack.window = 3_000;
        let sent = bench.frame(&ack.frame());
        assert_eq!(segments(&sent)[0].data.len(), 1_440);
        let again = segments(&bench.frame(&error_about(&sent[0], 2, 0, mtu)));
        assert_eq!(bench.drops(reason), 1, "{mtu}: {:?}", bench.server.poll.stack().stats().drops);
        assert_eq!(again.first().map(|segment| segment.data.len()), wanted, "{mtu}");
        // What quotes nothing in flight is not believed.
        let mut blind = sent[0].clone();
        blind[54 + 4..54 + 8].copy_from_slice(&7u32.to_be_bytes());
        let before = bench.drops(DropReason::IcmpBlind);
        bench.frame(&error_about(&blind, 2, 0, 1_300));
        assert_eq!(bench.drops(DropReason::IcmpBlind), before + 1);
    }
}

#[test]
fn errors_end_no_open_connection() {
    let mut bench = settled(config());
    let mut talk = Talk::open(&mut bench, 5_000);
    let sent = bench.frame(&talk.segment(ACK, b"get k\r\n"));
    for (kind, code) in [(1, 0), (1, 1), (1, 3), (1, 4), (4, 1), (4, 0), (3, 0)] {
        bench.frame(&error_about(&sent[0], kind, code, 0));
    }
    assert_eq!(bench.drops(DropReason::IcmpOther), 7);
    talk.seq += 7;
    talk.ack += 7;
    assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
}

/// Fragments of the payload of `frame`, cut at these places.
fn fragments(frame: &[u8], cuts: &[usize], id: u32) -> Vec<Vec<u8>> {
    let body = payload(frame);
    let edges = [&[0], cuts, &[body.len()]].concat();
    edges
        .windows(2)
        .map(|edge| {
            let more = u16::from(edge[1] < body.len());
            let mut header = vec![frame[20], 0];
            header.extend((edge[0] as u16 | more).to_be_bytes());
            header.extend(id.to_be_bytes());
            header.extend(&body[edge[0]..edge[1]]);
            let mut cut = frame[..54].to_vec();
            cut[18..20].copy_from_slice(&(header.len() as u16).to_be_bytes());
            cut[20] = 44;
            cut.extend(header);
            cut
        })
        .collect()
}

#[test]
fn segments_that_come_in_fragments_are_put_together_in_any_order() {
    let mut bench = settled(config());
    let mut talk = Talk::open(&mut bench, 5_000);
    for (round, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].iter().enumerate() {
        let data = vec![b'a' + round as u8; 200];
        let parts = fragments(&talk.segment(ACK, &data), &[40, 120], round as u32);
        let mut answers = Vec::new();
        for &part in order {
            answers.extend(segments(&bench.frame(&parts[part])));
        }
        assert_eq!(answers.iter().map(|answer| &answer.data[..]).collect::<Vec<_>>(), [&data[..]]);
        talk.seq += 200;
        talk.ack += 200;
    }
    assert_eq!(bench.server.poll.stack().stats().fragments, 6);
}

#[test]
fn fragments_that_overlap_or_hide_their_headers_are_refused() {
    let mut bench = settled(config());
    let talk = Talk::open(&mut bench, 5_000);
    let segment = talk.segment(ACK, &[b'x'; 200]);
    // RFC 5722: one that overlaps gives up all of its packet.
    let parts = fragments(&segment, &[40, 120], 1);
    let overlapping = fragments(&segment, &[32, 120], 1);
    bench.frame(&parts[0]);
    bench.frame(&overlapping[1]);
    bench.frame(&parts[1]);
    bench.frame(&parts[2]);
    assert_eq!(bench.drops(DropReason::FragmentOverlap), 3, "what comes of it later is refused too");
    // RFC 7112: the first has the header; RFC 8200 §4.5: all but the last are multiples of eight.
    bench.frame(&fragments(&segment, &[8], 2)[0]);
    bench.frame(&fragments(&segment, &[44], 3)[0]);
    assert_eq!(bench.drops(DropReason::FragmentMalformed), 2);
    // RFC 6980: NDP never comes so, be it in one piece; other protocols are not put together.
    let solicitation = v6::solicitation(THEM6, v6::group_of(US6), US6, Some(lab::PEER));
    bench.frame(&behind(&solicitation, 44, &[58, 0, 0, 0, 0, 0, 0, 1]));
    assert_eq!(bench.drops(DropReason::NdpMalformed), 1);
    bench.frame(&behind(&solicitation, 44, &[58, 0, 0, 1, 0, 0, 0, 1]));
    assert_eq!(bench.drops(DropReason::IpFragment), 1);
    assert_eq!(bench.server.poll.stack().census().open, 1);
    // RFC 6946: one that is all of its packet has nothing to do with others of its number.
    bench.frame(&parts[0]);
    let answers = segments(&bench.frame(&behind(&segment, 44, &[6, 0, 0, 0, 0, 0, 0, 1])));
    assert_eq!(answers[0].data.len(), 200);
}

#[test]
fn a_full_table_of_hosts_refuses_new_ones_alone() {
    let mut settings = config();
    settings.stations = 3;
    let mut bench = settled(settings);
    let peer = |number: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number);
    let mut talks: Vec<_> = (1..=3).map(|number| Talk::open_from(&mut bench, peer(number), 5_000)).collect();
    for _ in 0..10 {
        assert_eq!(segments(&bench.frame(&tcp6(5_000, SYN, 1, 0).from(peer(4)).frame())), []);
    }
    assert_eq!(bench.drops(DropReason::NoStation), 10);
    // Hosts that have a connection may have another; IPv4 needs no room.
    talks.push(Talk::open_from(&mut bench, peer(3), 5_001));
    bench.open(5_000, 100);
    for talk in &mut talks {
        assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
    }
    // One goes: there is room, and nothing of the one before is the next one's.
    bench.frame(&tcp6(5_000, RST, talks[0].seq, 0).from(peer(1)).frame());
    let mut next = Talk::open_from(&mut bench, peer(4), 5_000);
    assert_eq!(next.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
    assert_eq!(segments(&bench.frame(&talks[0].segment(ACK, b"lost")))[0].flags, RST);
}

/// A SYN that comes twice in a burst, from a host that nobody knew before it, makes one flow.
#[test]
fn two_frames_of_a_stranger_in_one_burst_are_of_one_host() {
    let mut bench = settled(config());
    let syn = tcp6(5_000, SYN, 100, 0).from(FAR).frame();
    (0..3).for_each(|_| bench.send(&syn));
    assert_eq!(segments(&bench.turn()).len(), 1);
    let census = bench.server.poll.stack().census();
    assert_eq!((census.half_open, census.stations, census.stations_held), (1, 1, 1));
    assert_eq!(bench.drops(DropReason::SynRepeated), 2);
}

/// In one burst the last connection of a host ends, and its place goes to another: what the burst brings for the first is
/// not taken for the other's.
#[test]
fn a_place_that_is_given_away_is_not_so_within_the_burst() {
    let mut settings = config();
    settings.stations = 1;
    let mut bench = settled(settings);
    let talk = Talk::open(&mut bench, 5_000);
    bench.send(&tcp6(5_000, RST, talk.seq, 0).frame());
    bench.send(&tcp6(5_000, SYN, 7, 0).from(FAR).frame());
    bench.send(&talk.segment(ACK, b"too late"));
    let answers = segments(&bench.turn());
    assert_eq!(answers.iter().map(|answer| (answer.peer, answer.flags)).collect::<Vec<_>>(), [(THEM6.into(), RST)]);
    assert_eq!(bench.drops(DropReason::NoStation), 1);
    // With the next burst there is room.
    Talk::open_from(&mut bench, FAR, 5_000);
}

#[test]
fn a_flood_of_syns_from_made_up_hosts_gets_cookies_and_is_remembered_nowhere() {
    let mut settings = config();
    (settings.syn_queue, settings.max_flows, settings.stations) = (4, 64, 8);
    let mut bench = settled(settings);
    let host = |number: u32| Ipv6Addr::from_bits(FAR.to_bits() + u128::from(number));
    let mut cookies = Vec::new();
    for number in 0..200 {
        let answers = bench.frame(&tcp6(5_000, SYN, 100, 0).from(host(number)).frame());
        cookies.extend(segments(&answers));
    }
    let census = bench.server.poll.stack().census();
    assert!(census.stations <= 4 && cookies.len() == 200, "{census:?}, {}", cookies.len());
    assert!(bench.server.poll.stack().stats().cookies_sent > 190);
    // One of them is real.
    let real = &cookies[150];
    assert_eq!(real.mss, Some(1_440));
    let mut talk = Talk { peer: real.peer, port: 5_000, seq: 101, ack: real.seq.wrapping_add(1), label: real.label };
    assert_eq!(talk.ask(&mut bench, b"get k\r\n"), b"get k\r\n");
    assert_eq!(bench.server.poll.stack().stats().cookies_accepted, 1);
    // A cookie is of all of the address.
    let liar = tcp6(5_000, ACK, 101, cookies[151].seq.wrapping_add(1)).from(host(99_999)).frame();
    bench.frame(&liar);
    assert_eq!(bench.server.poll.stack().stats().cookies_accepted, 1);
}

/// RFC 6528: numbers of one 4-tuple climb, whatever name its host has.
#[test]
fn sequence_numbers_climb_though_the_host_was_forgotten_meanwhile() {
    let mut settings = config();
    settings.stations = 1;
    let mut bench = settled(settings);
    let mut before = None;
    for _ in 0..20 {
        let talk = Talk::open(&mut bench, 5_000);
        bench.frame(&tcp6(5_000, RST, talk.seq, 0).frame());
        if let Some(before) = before {
            let climbed = talk.ack.wrapping_sub(before);
            assert!((1..1 << 20).contains(&climbed), "{climbed}");
        }
        before = Some(talk.ack);
        bench.wire.clock().advance(Duration::from_millis(50));
        let other = Talk::open_from(&mut bench, FAR, 5_000);
        bench.frame(&tcp6(5_000, RST, other.seq, 0).from(FAR).frame());
        bench.wire.clock().advance(Duration::from_millis(50));
    }
}

#[test]
fn a_stray_goes_to_another_core_as_it_came() {
    let mut settings = config();
    settings.peers = 1;
    let mut here = settled(settings.clone());
    let mut there = settled(settings);
    let talk = Talk::open(&mut there, 5_000);
    let segment = behind(&talk.segment(ACK, b"get k\r\n"), 60, &[6, 0, 1, 4, 0, 0, 0, 0]);
    assert!(here.frame(&segment).is_empty());
    let mut passed = Vec::new();
    while here.server.poll.stack_mut().next_stray(|frame, hops| passed.push((frame.to_vec(), hops))) {}
    let [(frame, 1)] = &mut passed[..] else { panic!("{passed:?}") };
    assert_eq!(*frame, segment);
    let now = there.now();
    there.server.take_stray(now, frame, 1);
    let answers = segments(&there.turn());
    assert_eq!(answers.iter().map(|answer| &answer.data[..]).collect::<Vec<_>>(), [b"get k\r\n"]);
    assert_eq!(here.server.poll.stack().census().stations, 0);
}

#[test]
fn addresses_beside_the_row_are_ours_as_those_in_it() {
    let mut settings = config();
    let (second, odd) = (Ipv4Addr::new(10, 78, 0, 2), Ipv4Addr::new(192, 0, 2, 33));
    settings.others.extend([OwnAddress::new(second, 24), OwnAddress::new(odd, 27)]);
    let mut bench = settled(settings);
    for (number, ours) in [US, second, odd].into_iter().enumerate() {
        let client = Ipv4Addr::from_bits(ours.to_bits() + 1);
        let mut frame = Tcp::new(5_000 + number as u16, SYN, 100, 0).frame_from(client.octets());
        lab::odd::readdress(&mut frame, ours);
        let answers = bench.frame(&frame);
        let answer = answers.iter().find(|frame| frame[12..14] == [8, 0]).expect("a SYN-ACK");
        assert_eq!((&answer[26..30], &answer[30..34]), (&ours.octets()[..], &client.octets()[..]));
        // Who has our address, and what is everybody's there, sends nothing.
        for (source, reason) in [
            (odd, DropReason::Land),
            (Ipv4Addr::new(10, 78, 0, 255), DropReason::IpMartian),
            (Ipv4Addr::new(192, 0, 2, 32), DropReason::IpMartian),
            (Ipv4Addr::new(240, 16, 0, 0), DropReason::IpMartian),
        ] {
            let mut frame = Tcp::new(6_000, SYN, 100, 0).frame_from(source.octets());
            lab::odd::readdress(&mut frame, ours);
            let before = bench.drops(reason);
            bench.frame(&frame);
            assert_eq!(bench.drops(reason), before + 1, "{source} to {ours}");
        }
    }
    // Each is asked for.
    for ours in [US, second, odd] {
        let asker = Ipv4Addr::from_bits(ours.to_bits() + 1);
        let answers = bench.frame(&lab::arp::arp(lab::arp::REQUEST, (asker, lab::PEER), ours));
        assert_eq!(answers[0][28..32], ours.octets());
    }
}
