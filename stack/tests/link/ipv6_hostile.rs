//! What somebody on the link may send over IPv6 to do harm: nothing is answered that must not be, nothing is asked in a family
//! that the question is not of, and nothing is left behind.

mod crowd;

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nic::checksum;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{Connect, ConnectError, DropReason, StackConfig};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN};
use crate::lab::v6::{self, ALL_NODES, OTHER, THEM6, Talk, US6, config, group_of, icmp, packet, settled, tcp6};
use crate::lab::{self, App, OWN, PEER, PORT, US};

const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The same frame, sent to the stations of a group.
fn to_group(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame
}

/// Who sends one packet to all stations of the link wants an answer of none (RFC 1122 §3.3.6; RFC 4443 §2.4 (e) of errors).
#[test]
fn what_is_sent_to_a_group_of_stations_is_answered_by_none() {
    let mut bench = settled(config());
    let echo = icmp(THEM6, US6, 64, &[128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]);
    assert_eq!(bench.frame(&echo).len(), 1);
    let frames = [echo, tcp6(5_000, SYN, 100, 0).frame(), tcp6(5_000, ACK, 100, 7).frame()];
    for frame in frames {
        assert_eq!(bench.frame(&to_group(&frame)), Vec::<Vec<u8>>::new());
    }
    assert_eq!(bench.drops(DropReason::OtherStation), 3);
}

/// From beyond the link a packet can be sent so that it arrives with any hop limit, but not with a link's own address.
#[test]
fn who_is_not_on_the_link_cannot_ask_for_our_groups() {
    let mut bench = settled(config());
    assert_eq!(bench.frame(&v6::group_query(ROUTER)).len(), 1);
    for stranger in [FAR, THEM6, US6, Ipv6Addr::UNSPECIFIED] {
        assert_eq!(bench.frame(&v6::group_query(stranger)), Vec::<Vec<u8>>::new(), "{stranger}");
    }
}

/// An ARP request of `sender`, at `station`, for our address.
fn arp_request(station: sidestep_stack::Mac, sender: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &station.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &station.0, &sender].concat();
    frame.extend([0; 6]);
    frame.extend(US.octets());
    frame
}

/// Frames sent within so many milliseconds.
fn sent(bench: &mut Bench, millis: u64) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for _ in 0..millis / 10 {
        sent.extend(bench.turn());
        bench.wire.clock().advance(Duration::from_millis(10));
    }
    sent
}

/// A router of both families is known to us by ARP alone, and a connection over IPv6 that comes by it falls silent.
#[test]
fn a_connection_in_doubt_asks_in_its_own_family() {
    let mut bench = settled(config());
    bench.frame(&arp_request(OTHER, [10, 77, 0, 9]));
    let syn = v6::from_station(&tcp6(5_000, SYN, 100, 0).from(FAR).frame(), OTHER);
    let answer = v6::segments(&bench.frame(&syn)).remove(0);
    let talk = Talk { peer: FAR.into(), port: 5_000, seq: 101, ack: answer.seq.wrapping_add(1), label: answer.label };
    bench.frame(&v6::from_station(&talk.segment(ACK | PSH, b"get k\r\n"), OTHER));
    for frame in sent(&mut bench, 10_000) {
        if frame[12..14] == [8, 6] {
            assert_eq!(frame[28..32], US.octets(), "asked from an address that is not ours: {frame:02x?}");
        }
    }
}

/// The other way about: the router has said by IPv6 alone who it is.
#[test]
fn a_connection_over_ipv4_in_doubt_asks_by_arp() {
    let mut bench = settled(config());
    let router = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9);
    bench.frame(&v6::from_station(&v6::solicitation(router, group_of(US6), US6, Some(OTHER)), OTHER));
    assert_eq!(bench.server.poll.stack().neighbor(router), Some(OTHER));
    let syn = lab::raw::Tcp::new(5_000, SYN, 100, 0);
    let far = |mut frame: Vec<u8>| {
        frame[6..12].copy_from_slice(&OTHER.0);
        frame
    };
    let from_far = |segment: lab::raw::Tcp| {
        // 192.0.2.1, beyond the router: both sums are mended.
        let mut frame = far(segment.frame());
        frame[26..30].copy_from_slice(&[192, 0, 2, 1]);
        frame[24..26].fill(0);
        let sum = checksum::field(checksum::add(0, &frame[14..34]));
        frame[24..26].copy_from_slice(&sum);
        let len = (frame.len() - 34) as u16;
        frame[50..52].fill(0);
        let pseudo = checksum::pseudo_header([192, 0, 2, 1], US.octets(), 6, len);
        let sum = checksum::field(checksum::add(pseudo, &frame[34..]));
        frame[50..52].copy_from_slice(&sum);
        frame
    };
    let answers = bench.frame(&from_far(syn));
    let ack = u32::from_be_bytes(answers[0][38..42].try_into().expect("four")).wrapping_add(1);
    bench.frame(&from_far(lab::raw::Tcp::new(5_000, ACK, 101, ack).with(b"get k\r\n")));
    for frame in sent(&mut bench, 10_000) {
        if frame[12..14] == [0x86, 0xdd] {
            let source = &frame[22..38];
            assert_eq!(source, US6.octets(), "asked as one who has no address: {frame:02x?}");
        }
    }
}

/// A router that was silent for longer than it had said, and is there again.
#[test]
fn a_router_that_comes_back_is_one_at_once() {
    let mut bench = settled(config());
    for _ in 0..3 {
        bench.frame(&v6::from_station(&v6::router_advertisement(ROUTER, 20, &[]), OTHER));
        assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(ROUTER.into()));
        sent(&mut bench, 21_000);
        assert_eq!(bench.server.poll.stack().next_hop(FAR), None);
    }
    assert_eq!(bench.server.poll.stack().census().stations_held, 1);
}

/// A datagram from `source` to our port.
fn datagram(source: Ipv6Addr, port: u16, data: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv6(source.octets(), US6.octets(), 64).udp(port, PORT);
    let mut frame = Vec::new();
    builder.write(&mut frame, data).expect("written to memory");
    frame
}

/// The datagram of a frame of ours: to whom, and its data. Its sum is checked.
fn answer(frame: &[u8]) -> (Ipv6Addr, u16, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a packet");
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
        panic!("no UDP over IPv6: {frame:02x?}");
    };
    let header = ip.header().to_header();
    assert_eq!((header.source, header.hop_limit, udp.source_port()), (US6.octets(), 64, PORT));
    let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).expect("not too long");
    assert_eq!((udp.checksum(), frame.len()), (sum, 62 + udp.payload().len()), "{frame:02x?}");
    assert_ne!(sum, 0, "there must be one (RFC 8200 §8.1)");
    (header.destination.into(), udp.destination_port(), udp.payload().to_vec())
}

#[test]
fn a_datagram_over_ipv6_is_answered_with_a_right_sum_that_is_never_zero() {
    let mut settings = config();
    settings.udp_ports = vec![PORT];
    let mut bench = settled(settings);
    let mut ask = |frame: &[u8]| {
        bench.send(frame);
        let now = bench.now();
        bench.server.turn_with_datagrams(now, &mut lab::udp::Echo);
        let mut answers = Vec::new();
        bench.turn_with(|frame| answers.push(answer(frame)));
        answers
    };
    let mut all_ones = 0;
    for number in 0..70_000u32 {
        let source = Ipv6Addr::from_bits(FAR.to_bits() + u128::from(number % 7));
        let port = 1_024 + (number % 5) as u16;
        // Each sum comes up once in so many.
        let mut data = number.to_be_bytes().to_vec();
        data.resize(4 + number as usize % 3, 7);
        let question = datagram(source, port, &data);
        all_ones += u32::from(question[60..62] == [0xff, 0xff]);
        assert_eq!(ask(&question), [(source, port, data)]);
    }
    assert!(all_ones > 0, "no sum was zero");
    for len in [1, 1_000, 1_451, 1_452] {
        let data = vec![len as u8; len];
        assert_eq!(ask(&datagram(FAR, 5_000, &data)), [(FAR, 5_000, data)]);
    }
    // One that says that it is longer than its packet, or shorter than its header, and one to a group.
    for (at, byte) in [(59, 200), (59, 7), (0, 0x33)] {
        let mut bent = datagram(FAR, 5_000, b"data");
        bent[at] = byte;
        assert_eq!(ask(&bent), []);
    }
}

#[test]
fn who_has_no_address_of_a_family_has_no_way_to_its_hosts() {
    let mut ipv4 = lab::config();
    ipv4.ip_mtu = 1_500;
    for (config, remote) in [(ipv4, "[fd77::1]:80"), (StackConfig::new(US6, 64, OWN), "10.77.0.1:80")] {
        let mut bench = settled(config);
        let now = bench.now();
        let remote: std::net::SocketAddr = remote.parse().expect("an address and a port");
        let said = bench.server.poll.connect(now, &Connect::to(remote), |_| true).expect_err("there is no way");
        assert_eq!(said, ConnectError::NoRoute { remote });
        assert!(!bench.server.poll.stack_mut().ask_neighbor(now, remote.ip(), 0), "nor is anybody asked");
        assert_eq!(sent(&mut bench, 1_000), Vec::<Vec<u8>>::new());
    }
}

/// Has the other core look at what this one has set aside for it.
fn pass_on(here: &mut Bench, there: &mut Bench) -> usize {
    let mut passed = Vec::new();
    while here.server.poll.stack_mut().next_stray(|frame, hops| passed.push((frame.to_vec(), hops))) {}
    let now = there.now();
    for (frame, hops) in &mut passed {
        there.server.take_stray(now, frame, *hops);
    }
    passed.len()
}

/// What is said about the link comes to one core, and concerns all.
#[test]
fn each_core_hears_of_an_address_that_is_taken_of_routers_and_of_neighbours_that_it_asked_for() {
    let mut settings = config();
    settings.peers = 1;
    let [mut here, mut there] = [0; 2].map(|_| Bench::with(settings.clone(), App::Echo));
    here.turn();
    there.turn();
    let claim = v6::advertisement(US6, ALL_NODES, US6, Some(OTHER), false);
    here.frame(&v6::from_station(&claim, OTHER));
    assert_eq!(pass_on(&mut here, &mut there), 1);
    for bench in [&mut here, &mut there] {
        assert_eq!(bench.server.poll.stack().conflict(), Some((US6.into(), OTHER)));
        sent(bench, 2_000);
        assert!(v6::segments(&bench.frame(&tcp6(5_000, SYN, 100, 0).frame())).is_empty(), "it is not ours");
    }
    assert_eq!(pass_on(&mut there, &mut here), 0, "once round is enough");

    let [mut here, mut there] = [0; 2].map(|_| settled(settings.clone()));
    here.frame(&v6::from_station(&v6::router_advertisement(ROUTER, 1_800, &[]), OTHER));
    assert_eq!(pass_on(&mut here, &mut there), 1);
    assert_eq!(there.server.poll.stack().next_hop(FAR), Some(ROUTER.into()));
    let now = there.now();
    there.server.poll.connect(now, &Connect::to((THEM6, 80)), |_| true).expect("it can be tried");
    assert_eq!(there.turn().len(), 1, "it is asked for");
    here.frame(&v6::advertisement(THEM6, US6, THEM6, Some(PEER), true));
    assert_eq!(pass_on(&mut here, &mut there), 1);
    assert_eq!(v6::segments(&there.turn()).len(), 1, "the SYN");
    assert_eq!(pass_on(&mut there, &mut here), 0);
}

/// Sums of IPv6 upper layers mended, as somebody does who means harm.
fn mend(frame: &mut [u8]) {
    if frame.len() < 62 || frame[12..14] != [0x86, 0xdd] {
        return;
    }
    let (source, destination) =
        (frame[22..38].try_into().expect("sixteen"), frame[38..54].try_into().expect("sixteen"));
    let (next, body) = (frame[20], &frame[54..]);
    let at = match next {
        6 if body.len() >= 20 => 16,
        17 => 6,
        58 => 2,
        _ => return,
    };
    let len = body.len() as u32;
    let pseudo = checksum::pseudo_header_v6(source, destination, next, len);
    frame[54 + at..56 + at].fill(0);
    let sum = checksum::field(checksum::add(pseudo, &frame[54..]));
    frame[54 + at..56 + at].copy_from_slice(&sum);
    frame[18..20].copy_from_slice(&(len as u16).to_be_bytes());
}

struct Fuzz(Xoshiro256PlusPlus);

impl Fuzz {
    fn below(&mut self, most: u32) -> u32 {
        self.0.next_u32() % most
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    fn address(&mut self) -> Ipv6Addr {
        let odd = ["::", "::1", "ff02::1", "ff02::1:ff00:2", "::ffff:10.77.0.1", "fe80::1", "fe80::2", "2001:db8::7"];
        match self.below(8) {
            0 => self.pick(&odd).parse().expect("an address"),
            1 => US6,
            2 => FAR,
            3 => ROUTER,
            4 => Ipv6Addr::from_bits(THEM6.to_bits() + u128::from(self.below(500))),
            _ => THEM6,
        }
    }

    fn to(&mut self) -> Ipv6Addr {
        match self.below(5) {
            0 => self.address(),
            1 => group_of(US6),
            2 => ALL_NODES,
            _ => US6,
        }
    }

    fn bytes(&mut self, most: u32) -> Vec<u8> {
        let len = self.below(most);
        (0..len).map(|_| self.0.next_u32() as u8).collect()
    }

    /// A frame that was made as a host makes it.
    fn good(&mut self) -> Vec<u8> {
        let (source, to) = (self.address(), self.to());
        match self.below(9) {
            0 | 1 => {
                let flags = self.pick(&[SYN, ACK, ACK | PSH, FIN | ACK, RST, SYN | ACK]);
                let (seq, ack) = (self.pick(&[100, 101, 108]), self.0.next_u32());
                let mut tcp = tcp6(5_000 + self.below(64) as u16, flags, seq, ack).from(source);
                tcp.mss = Some(self.0.next_u32() as u16);
                tcp.with(&self.bytes(20)).frame()
            }
            2 => v6::solicitation(source, to, self.pick(&[US6, THEM6, ROUTER]), Some(self.pick(&[PEER, OTHER, OWN]))),
            3 => {
                v6::advertisement(source, to, self.address(), Some(self.pick(&[PEER, OTHER, OWN])), self.below(2) == 0)
            }
            4 => {
                let prefix = v6::prefix_option(self.address(), self.0.next_u32() as u8, self.0.next_u32());
                let mtu = [&[5, 1, 0, 0][..], &self.0.next_u32().to_be_bytes()].concat();
                let options = [v6::station_option(1, OTHER).to_vec(), prefix, mtu].concat();
                let lifetime = self.pick(&[0, 1, 30, u16::MAX]);
                v6::router_advertisement(source, lifetime, &options)
            }
            5 => v6::group_query(source),
            6 => {
                let kind = self.pick(&[1, 2, 3, 4, 128, 129, 130, 131, 137]);
                let quoted = tcp6(PORT, ACK, 1, 1).with(&self.bytes(9)).frame();
                let mut body = vec![kind, self.below(8) as u8, 0, 0, 0, 0, 5, self.0.next_u32() as u8];
                body.extend(&quoted[14..]);
                body[8 + 8..8 + 24].copy_from_slice(&US6.octets());
                icmp(source, to, self.pick(&[1, 64, 255]), &body)
            }
            7 => packet(source, to, self.pick(&[0, 43, 44, 59, 60, 6, 17, 58, 255]), 64, &self.bytes(300)),
            _ => {
                let more = self.below(2) as u8;
                let head =
                    [self.pick(&[6, 17, 58]), 0, self.below(3) as u8, self.below(32) as u8 * 8 + more, 0, 0, 0, 1];
                packet(source, to, 44, 64, &[&head[..], &vec![7; 8 * self.below(20) as usize]].concat())
            }
        }
    }

    /// One that was changed on the way.
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.good();
        for _ in 0..self.pick(&[0, 0, 1, 2, 8]) {
            let at = self.below(frame.len() as u32) as usize;
            frame[at] = self.pick(&[0, 1, 0x7f, 0x80, 0xff, self.0.clone().next_u32() as u8]);
        }
        if self.below(8) == 0 {
            let len = self.below(frame.len() as u32 + 1) as usize;
            frame.truncate(len);
        }
        if self.below(8) == 0 {
            frame.extend(self.bytes(40));
        }
        if self.below(4) > 0 {
            mend(&mut frame);
        }
        frame
    }
}

/// What leaves us is ours, and to one host, or is about the link.
fn check(frame: &[u8], seed: u64) {
    assert_eq!(frame[6..12], OWN.0, "seed {seed}: {frame:02x?}");
    match frame[12..14] {
        [8, 6] => assert_eq!(frame[28..32], US.octets(), "seed {seed}: {frame:02x?}"),
        [8, 0] => assert_eq!(frame[26..30], US.octets(), "seed {seed}: {frame:02x?}"),
        _ => {
            // An answer in place keeps what was behind its question's packet.
            let frame = &frame[..54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))];
            let about_the_link = v6::ndp(frame).is_some();
            let source = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).expect("sixteen"));
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).expect("sixteen"));
            assert!(source == US6 || about_the_link && source.is_unspecified(), "seed {seed}: {frame:02x?}");
            assert!(about_the_link || !to.is_multicast(), "seed {seed}: {frame:02x?}");
            assert!(
                !to.is_unspecified() && !to.is_loopback() && to.to_ipv4_mapped().is_none(),
                "seed {seed}: {frame:02x?}"
            );
            assert!(about_the_link || frame[0] & 1 == 0, "seed {seed}: {frame:02x?}");
        }
    }
}

#[test]
fn whatever_comes_nothing_odd_leaves_and_nothing_is_left_behind() {
    for seed in 0..24 {
        let mut fuzz = Fuzz(Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut settings = config();
        (settings.max_flows, settings.stations, settings.time_wait_records) = (48, 40, 16);
        settings.awake_flows = 24;
        let mut bench = settled(settings);
        for round in 0..3_000 {
            let frame = fuzz.frame();
            if frame.is_empty() {
                continue;
            }
            bench.send(&frame);
            if fuzz.below(4) == 0 {
                bench.turn_with(|frame| check(frame, seed));
                let millis = fuzz.pick(&[0, 1, 10, 100, 1_000]);
                bench.wire.clock().advance(Duration::from_millis(millis));
            }
            if round % 500 == 499 {
                bench.server.poll.stack_mut().lay_all_down();
            }
            let census = bench.server.poll.stack().census();
            assert!(census.stations <= 40, "seed {seed}: {census:?}");
        }
        // Every connection is given up, and what records there are are forgotten.
        for _ in 0..4_000 {
            for (id, _) in bench.server.flows.drain() {
                bench.server.poll.flow(id).expect("it is open").abort();
            }
            bench.turn_with(|frame| check(frame, seed));
            bench.wire.clock().advance(Duration::from_secs(1));
        }
        bench.turn_with(|_| {});
        let census = bench.server.poll.stack().census();
        let routers = 4;
        assert_eq!((census.open, census.half_open, census.time_wait), (0, 0, 0), "seed {seed}: {census:?}");
        assert!(census.stations_held <= routers, "seed {seed}: {census:?}");
    }
}
