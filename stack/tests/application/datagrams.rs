//! UDP on the wire, frame by frame: what is handed over, what is answered, what is dropped and counted.

use std::net::SocketAddrV4;

use nic::{BURST, PortConfig};
use sidestep_stack::{DatagramHandler, DatagramPeer, DatagramReplies, DropReason, NoFrame, StackStats};

use crate::lab::odd::{cut, sum_ip};
use crate::lab::raw::{ACK, PSH, SYN, Tcp};
use crate::lab::udp::{Call, Echo, Udp, UdpBench, udp_config};
use crate::lab::{PORT, THEM, US};

/// Takes what it gets.
struct Silent;

impl DatagramHandler for Silent {
    fn datagram(&mut self, _peer: &DatagramPeer, _payload: &[u8], _replies: &mut DatagramReplies<'_>) {}
}

/// Changes the frame's IPv4 header, which begins at 14, and makes its checksum right again.
fn with_ip(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..34]);
    sum_ip(&mut frame[14..34]);
    frame
}

#[test]
fn a_datagram_is_answered_in_the_turn_it_arrives_and_goes_back_the_way_it_came() {
    let mut bench = UdpBench::new();
    for tag in [None, Some(42), Some(4_094)] {
        for len in [1, 2, 3, 7, 8, 9, 63, 64, 1_399, 1_400, 1_471, 1_472] {
            let mut sent = Udp::new(5_000, &(0..len).map(|i| (i * 7 % 256) as u8).collect::<Vec<_>>());
            sent.tag = tag.filter(|_| len <= 1_400);
            let answers = bench.echo(&sent.frame());
            assert_eq!(answers.iter().map(|frame| Udp::read(frame)).collect::<Vec<_>>(), [sent]);
        }
    }
    let stats = bench.poll.stack().stats();
    assert_eq!((stats.datagrams, stats.datagrams_sent, stats.drops.total()), (36, 36, 0));
    bench.assert_nothing_left();
}

#[test]
fn the_handler_sees_who_asks_whom_and_the_payload_where_it_lies() {
    let mut bench = UdpBench::new();
    // Ethernet pads short frames; what is behind the packet is no payload.
    let mut frame = Udp::new(5_001, b"abc").frame();
    frame.resize(60, 0xee);
    bench.send(&frame);
    let mut seen = Vec::new();
    bench.turn(&mut Call(|peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>| {
        seen.push((peer.peer(), peer.local(), payload.to_vec(), replies.max_payload()));
    }));
    let (peer, local) = (SocketAddrV4::new(THEM, 5_001).into(), SocketAddrV4::new(US, PORT).into());
    assert_eq!(seen, [(peer, local, b"abc".to_vec(), 1_472)]);
}

#[test]
fn an_empty_datagram_is_handed_over_and_an_empty_answer_is_none() {
    let mut bench = UdpBench::new();
    assert!(bench.echo(&Udp::new(5_000, b"").frame()).is_empty());
    let stats = bench.poll.stack().stats();
    assert_eq!((stats.datagrams, stats.datagrams_sent, stats.datagrams_refused), (1, 0, 0));
    bench.assert_nothing_left();
}

#[test]
fn a_datagram_without_a_checksum_is_answered_with_one() {
    let mut bench = UdpBench::new();
    let mut frame = Udp::new(5_000, b"abc").frame();
    frame[40..42].fill(0);
    let answers = bench.echo(&frame);
    assert_eq!(Udp::read(&answers[0]).data, b"abc");
    // RFC 768: one that is not zero must be right.
    frame[41] = 1;
    assert!(bench.echo(&frame).is_empty());
    assert_eq!(bench.drops(DropReason::UdpChecksum), 1);
}

/// RFC 768: "If the computed checksum is zero, it is transmitted as all ones". One payload of two bytes makes it so.
#[test]
fn a_checksum_that_comes_to_zero_is_sent_as_all_ones() {
    let mut bench = UdpBench::new();
    let mut all_ones = 0;
    for word in 0..=u16::MAX {
        let [answer] = &bench.echo(&Udp::new(5_000, &word.to_be_bytes()).frame())[..] else { panic!("one answer") };
        // Reads the sum back, and finds it wrong where it is zero.
        assert_eq!(Udp::read(answer).data, word.to_be_bytes());
        all_ones += u32::from(answer[40..42] == [0xff, 0xff]);
    }
    assert_eq!(all_ones, 1);
}

#[test]
fn nobody_is_answered_who_might_answer_in_turn_or_could_not_have_asked() {
    let mut config = udp_config();
    config.udp_ports = vec![PORT, 2_049];
    let mut bench = UdpBench::with(config, PortConfig::default());
    let from = |port| Udp::new(port, b"get k\r\n").frame();
    for port in [1, 7, 19, 53, 1_023, 11_211, 2_049] {
        assert!(bench.echo(&from(port)).is_empty(), "{port}");
    }
    assert_eq!(bench.drops(DropReason::UdpLoopPort), 7);
    assert!(bench.echo(&from(0)).is_empty());
    assert_eq!(bench.drops(DropReason::UdpNoSource), 1);
    for port in [1_024, 11_210, 11_212, 65_535] {
        assert_eq!(bench.echo(&from(port)).len(), 1, "{port}");
    }
    let stats = bench.poll.stack().stats();
    assert_eq!((stats.frames, stats.datagrams, stats.drops.total()), (12, 4, 8));
}

#[test]
fn what_is_not_for_a_port_of_ours_or_not_whole_is_dropped_and_counted() {
    let mut bench = UdpBench::new();
    let good = || Udp::new(5_000, b"get k\r\n").frame();
    let mut elsewhere = Udp::new(5_000, b"get k\r\n");
    elsewhere.our_port = PORT + 1;
    let mut other_station = good();
    other_station[5] ^= 1;
    let mut short = good();
    short[38..40].copy_from_slice(&7u16.to_be_bytes());
    let mut long = good();
    long[38..40].copy_from_slice(&16u16.to_be_bytes());
    let mut broken = good();
    broken[44] ^= 0x10;
    let address = |at: usize, address: [u8; 4]| with_ip(good(), |ip| ip[at..at + 4].copy_from_slice(&address));
    for (frame, reason) in [
        (elsewhere.frame(), DropReason::UdpNoListener),
        (other_station, DropReason::OtherStation),
        (short, DropReason::UdpLength),
        (long, DropReason::UdpLength),
        (broken, DropReason::UdpChecksum),
        // The first and a later fragment of what is neither segment nor datagram, and fragments that cannot be.
        (with_ip(good(), |ip| (ip[6], ip[9]) = (0x20, 47)), DropReason::IpFragment),
        (with_ip(good(), |ip| (ip[7], ip[9]) = (0xb9, 1)), DropReason::IpFragment),
        (with_ip(good(), |ip| (ip[6], ip[9]) = (0x20, 6)), DropReason::FragmentMalformed),
        (with_ip(good(), |ip| ip[6] = 0x20), DropReason::FragmentMalformed),
        (with_ip(good(), |ip| (ip[6], ip[7]) = (0x1f, 0xff)), DropReason::FragmentMalformed),
        (address(12, US.octets()), DropReason::Land),
        (address(12, [127, 0, 0, 1]), DropReason::IpMartian),
        (address(12, [224, 0, 0, 1]), DropReason::IpMartian),
        (address(12, [10, 77, 0, 255]), DropReason::IpMartian),
        (address(12, [0, 0, 0, 0]), DropReason::IpMartian),
        (address(16, [10, 77, 0, 255]), DropReason::IpBroadcast),
        (address(16, [255; 4]), DropReason::IpBroadcast),
        (address(16, [224, 0, 0, 1]), DropReason::IpNotOurs),
        (address(16, [10, 77, 0, 9]), DropReason::IpNotOurs),
    ] {
        let before = bench.drops(reason);
        let answers = bench.echo(&frame);
        // Of all of them only one is told to its sender.
        assert_eq!(answers.len(), usize::from(reason == DropReason::UdpNoListener), "{reason:?}");
        assert_eq!(bench.drops(reason), before + 1, "{reason:?} {:?}", bench.poll.stack().stats().drops);
    }
    assert_eq!(bench.poll.stack().stats().datagrams, 0);
    bench.assert_nothing_left();
}

#[test]
fn without_a_handler_datagrams_find_no_listener() {
    let mut bench = UdpBench::new();
    bench.send(&Udp::new(5_000, b"abc").frame());
    let now = bench.now();
    assert_eq!(bench.poll.take_in(now), 1);
    bench.end_turn(|frame| assert_eq!(frame[23], 1, "nothing but ICMP: {frame:02x?}"));
    assert_eq!(bench.drops(DropReason::UdpNoListener), 1);
    bench.assert_nothing_left();
}

/// Frames whose end is counted: handed over, dropped, or kept, which those of a datagram that is given up were before.
fn accounted(stats: &StackStats) -> u64 {
    stats.datagrams + stats.fragments + stats.drops.total() - stats.drops.of(DropReason::FragmentsIncomplete)
}

/// The frames of a datagram that is cut into fragments of at most `most` bytes of packet payload.
fn fragments(datagram: &Udp, id: u16, most: usize) -> Vec<Vec<u8>> {
    cut(&datagram.frame(), id, most)
}

#[test]
fn a_datagram_in_fragments_is_handed_over_whole_once() {
    let mut bench = UdpBench::new();
    let payload: Vec<u8> = (0..4_200).map(|at| (at * 7 % 251) as u8).collect();
    let mut seen = Vec::new();
    for (id, order) in [[0, 1, 2], [2, 1, 0], [1, 0, 2]].into_iter().enumerate() {
        let frames = fragments(&Udp::new(5_000, &payload), id as u16, 1_480);
        for index in order {
            bench.send(&frames[index]);
        }
        bench.turn(&mut Call(|peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>| {
            seen.push((peer.peer(), payload.to_vec()));
            replies
                .send(3, |out| {
                    out.copy_from_slice(b"yes");
                    3
                })
                .expect("a frame is left");
        }));
    }
    assert_eq!(seen, vec![(SocketAddrV4::new(THEM, 5_000).into(), payload.clone()); 3]);
    // A wrong checksum over all of it; a port of nobody's; one half of each is missing.
    let mut frames = fragments(&Udp::new(5_000, &payload), 9, 1_480);
    let last = frames.len() - 1;
    *frames[last].last_mut().expect("it has bytes") ^= 1;
    let mut elsewhere = Udp::new(5_000, &payload);
    elsewhere.our_port = PORT + 1;
    for frame in frames.iter().chain(&fragments(&elsewhere, 10, 1_480)) {
        assert!(bench.echo(frame).is_empty());
    }
    assert_eq!((bench.drops(DropReason::UdpChecksum), bench.drops(DropReason::UdpNoListener)), (1, 1));
    bench.echo(&fragments(&Udp::new(5_000, &payload), 11, 1_480)[0]);
    let stats = bench.poll.stack().stats();
    assert_eq!((stats.datagrams, stats.fragments, accounted(stats)), (3, 6 + 4 + 1, stats.frames));
    bench.assert_nothing_left();
}

/// Every byte of a datagram's frame set to everything: it is dropped for a reason or handed over, once, and what comes
/// out is a sound datagram.
#[test]
fn no_byte_makes_it_panic_or_go_uncounted() {
    let mut bench = UdpBench::new();
    let mut tagged = Udp::new(5_000, b"\0\x01\0\0\0\x01\0\0get key\r\n");
    tagged.tag = Some(7);
    let mut unsummed = Udp::new(5_000, b"\0\x01\0\0\0\x01\0\0get key\r\n").frame();
    unsummed[40..42].fill(0);
    let mut frames = 0;
    for good in [tagged.frame(), unsummed] {
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                bench.send(&bad);
                let mut answers = 0;
                bench.turn_with(&mut Echo, |frame| {
                    answers += 1;
                    // Who asked may be another by now, so that only the form can be checked.
                    etherparse::SlicedPacket::from_ethernet(frame).expect("a packet");
                });
                frames += 1;
                let stats = bench.poll.stack().stats();
                assert!(answers <= 1);
                assert_eq!((stats.frames, accounted(stats)), (frames, frames), "{bad:02x?}");
            }
        }
        // Cut anywhere, too; the wire takes no frame below an Ethernet header.
        for len in 14..good.len() {
            bench.echo(&good[..len]);
            frames += 1;
            let stats = bench.poll.stack().stats();
            assert_eq!((stats.frames, accounted(stats)), (frames, frames), "{len}");
        }
    }
    let stats = bench.poll.stack().stats();
    assert!(stats.datagrams > 1_000 && stats.drops.total() > 1_000, "{stats:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_burst_is_foreseen_and_answered_in_one_turn() {
    /// What is called, in order.
    #[derive(Default)]
    struct Order(Vec<(bool, u8)>);
    impl DatagramHandler for Order {
        fn foresee(&mut self, payload: &[u8]) {
            self.0.push((true, payload[0]));
        }
        fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
            self.0.push((false, payload[0]));
            Echo.datagram(peer, payload, replies);
        }
    }
    let mut bench = UdpBench::new();
    for number in 0..BURST as u8 {
        bench.send(&Udp::new(5_000 + u16::from(number), &[number]).frame());
        // What is not for the application is not foreseen either.
        if number == 7 {
            bench.send(&Udp::new(53, &[200]).frame());
        }
    }
    let mut order = Order::default();
    let answers = bench.turn(&mut order).iter().map(|frame| Udp::read(frame)).collect::<Vec<_>>();
    let wanted = (0..BURST as u8 - 1).map(|number| Udp::new(5_000 + u16::from(number), &[number]));
    assert_eq!(answers, wanted.collect::<Vec<_>>());
    let told = |foreseen: bool| (0..BURST as u8 - 1).map(move |number| (foreseen, number));
    assert_eq!(order.0, told(true).chain(told(false)).collect::<Vec<_>>());
    assert_eq!(bench.turn(&mut order).len(), 1, "the last one did not fit the burst");
}

#[test]
fn the_receive_frames_are_back_in_the_same_turn_whatever_the_handler_does() {
    let shape = PortConfig { frames: 256, rx_ring: BURST, tx_ring: BURST, ..PortConfig::default() };
    let mut bench = UdpBench::with(udp_config(), shape);
    for round in 0..100 {
        for number in 0..BURST as u16 {
            bench.send(&Udp::new(5_000 + number, b"get k\r\n").frame());
        }
        bench.turn(&mut Silent);
        let census = nic::Queue::census(bench.poll.ports()[0].queue());
        assert_eq!((census.fill, census.tx), (BURST, 0), "{census:?}");
        assert_eq!(bench.poll.stack().stats().datagrams, (round + 1) * BURST as u64, "none was dropped on the way");
    }
    bench.assert_nothing_left();
}

#[test]
fn without_frames_the_handler_is_told_and_may_send_later() {
    let shape = PortConfig { frames: 20, rx_ring: 8, tx_ring: 4, ..PortConfig::default() };
    let mut bench = UdpBench::with(udp_config(), shape);
    bench.send(&Udp::new(5_000, b"many").frame());
    let mut kept = None;
    let mut next = 0u16;
    let write = |number: u16| {
        move |room: &mut [u8]| {
            room.copy_from_slice(&number.to_be_bytes());
            2
        }
    };
    let mut many = Call(|peer: &DatagramPeer, _: &[u8], replies: &mut DatagramReplies<'_>| {
        kept = Some(*peer);
        while next < 100 {
            if replies.send(2, write(next)) == Err(NoFrame) {
                return;
            }
            next += 1;
        }
    });
    let mut answers: Vec<_> = bench.turn(&mut many).iter().map(|frame| Udp::read(frame)).collect();
    assert!((1..20).contains(&next), "{next} fit at once");
    assert_eq!(bench.poll.stack().stats().datagrams_refused, 1);
    // The rest in later turns, as answers gathered from other cores are.
    let peer = kept.expect("it came");
    for _ in 0..100 {
        while next < 100 && bench.poll.send_datagram(&peer, 2, write(next)).is_ok() {
            next += 1;
        }
        bench.end_turn(|frame| answers.push(Udp::read(frame)));
    }
    let wanted = (0..100u16).map(|number| Udp::new(5_000, &number.to_be_bytes()));
    assert_eq!(answers, wanted.collect::<Vec<_>>());
    let stats = bench.poll.stack().stats();
    assert_eq!(stats.datagrams_sent, 100);
    assert!(stats.datagrams_refused > 5, "{}", stats.datagrams_refused);
    bench.assert_nothing_left();
}

/// Each datagram is begun with a frame for its answer at hand; where there is none, it waits in the port.
#[test]
fn datagrams_wait_where_no_frame_is_left_for_an_answer() {
    let shape = PortConfig { frames: 12, rx_ring: 8, tx_ring: 2, ..PortConfig::default() };
    let mut bench = UdpBench::with(udp_config(), shape);
    let mut answered = 0;
    for round in 0..50u16 {
        for number in 0..8 {
            bench.send(&Udp::new(5_000 + number, &round.to_be_bytes()).frame());
        }
        for _ in 0..8 {
            bench.turn_with(&mut Echo, |_| answered += 1);
        }
    }
    let stats = bench.poll.stack().stats();
    assert_eq!((stats.datagrams, answered, stats.datagrams_refused), (400, 400, 0));
    bench.assert_nothing_left();
}

#[test]
fn an_answer_longer_than_the_link_carries_is_refused_and_one_as_long_is_sent() {
    let mut config = udp_config();
    config.ip_mtu = 600;
    let mut bench = UdpBench::with(config, PortConfig::default());
    assert_eq!(bench.poll.stack().max_datagram_payload(), 572);
    bench.send(&Udp::new(5_000, b"abc").frame());
    let answers = bench.turn(&mut Call(|_: &DatagramPeer, _: &[u8], replies: &mut DatagramReplies<'_>| {
        assert_eq!(replies.max_payload(), 572);
        assert_eq!(replies.send(573, |_| panic!("there is no room")), Err(NoFrame));
        // What it says to have used beyond the room is cut to it.
        let fill = |room: &mut [u8]| {
            room.fill(7);
            10_000
        };
        assert_eq!(replies.send(572, fill), Ok(()));
    }));
    assert_eq!(answers.len(), 1);
    assert_eq!(Udp::read(&answers[0]).data, [7; 572]);
    assert_eq!(answers[0].len(), 14 + 600);
    bench.assert_nothing_left();
}

#[test]
fn a_later_answer_leaves_by_the_queue_the_datagram_came_by() {
    let mut bench = UdpBench::with(udp_config(), PortConfig::with_queues(2));
    let mut kept = Vec::new();
    for port in 5_000..5_032 {
        bench.send(&Udp::new(port, b"x").frame());
        bench.turn(&mut Call(|peer: &DatagramPeer, _: &[u8], _: &mut DatagramReplies<'_>| kept.push(*peer)));
    }
    assert_eq!(kept.len(), 32);
    let received = [0, 1].map(|port: usize| nic::Queue::stats(bench.poll.ports()[port].queue()).rx_frames);
    assert!(received.iter().all(|&frames| frames > 4), "{received:?}");
    for peer in &kept {
        let sent = bench.poll.send_datagram(peer, 1, |room| {
            room[0] = 9;
            1
        });
        assert_eq!(sent, Ok(()));
    }
    let mut answers = 0;
    bench.end_turn(|frame| answers += usize::from(Udp::read(frame).data == [9]));
    assert_eq!(answers, 32);
    let sent = [0, 1].map(|port: usize| nic::Queue::stats(bench.poll.ports()[port].queue()).tx_frames);
    assert_eq!(sent, received);
    // A port that is not among those given has no frames.
    let (stack, ports) = bench.poll.parts_mut();
    let of_second =
        kept.iter().find(|peer| stack.send_datagram(&mut ports[..1], peer, 1, |room| room.len()) == Err(NoFrame));
    assert!(of_second.is_some());
    bench.end_turn(|_| ());
    bench.assert_nothing_left();
}

#[test]
fn connections_and_datagrams_share_a_port_number_and_a_turn() {
    let mut bench = UdpBench::new();
    bench.send(&Tcp::new(5_000, SYN, 100, 0).frame());
    let answer = Tcp::read(&bench.turn(&mut Echo)[0]);
    let next = answer.seq.wrapping_add(1);
    bench.send(&Tcp::new(5_000, ACK, 101, next).frame());
    bench.send(&Udp::new(5_000, b"first").frame());
    bench.send(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"stream").frame());
    bench.send(&Udp::new(5_001, b"second").frame());
    let answers: Vec<_> = bench.turn(&mut Echo).iter().map(|frame| Udp::read(frame).data).collect();
    assert_eq!(answers, [&b"first"[..], b"second"]);
    let event = bench.poll.next_event().expect("it was opened and has data");
    assert!(event.is_new());
    let mut flow = bench.poll.flow(event.flow()).expect("it is open");
    assert_eq!(flow.recv(|bytes| (bytes.len(), bytes.to_vec())), b"stream");
    flow.abort();
    bench.turn(&mut Silent);
    assert_eq!(bench.poll.flows(), 0);
    bench.assert_nothing_left();
}
