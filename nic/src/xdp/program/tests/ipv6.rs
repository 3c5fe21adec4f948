//! The program on frames of IPv6 and of its neighbour discovery.

use std::net::Ipv6Addr;

use super::*;

/// What clients over IPv6 are told while nobody serves.
mod nobody;

/// The IPv6 header's size in bytes.
const HEADER_BYTES: usize = 40;

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMP: u8 = 58;
const OPTIONS: u8 = 60;

const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn ours() -> Ipv6Addr {
    ip("2001:db8:77::2")
}

fn shared() -> Ipv6Addr {
    ip("2001:db8:77::3")
}

fn peer() -> Ipv6Addr {
    ip("2001:db8:77::1")
}

fn stranger() -> Ipv6Addr {
    ip("2001:db8:78::1")
}

/// The group by which `address` is solicited (RFC 4291 §2.7.1).
fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(ip("ff02::1:ff00:0").to_bits() | (address.to_bits() & 0xff_ffff))
}

/// Programs with one own and one shared address of each family and port 11211 of TCP and UDP.
fn loaded_as(with_socket: bool, merged: bool) -> Vec<Bench> {
    let mut benches = super::loaded_as(with_socket, merged);
    for bench in &mut benches {
        bench.set_address(ours(), AddressMode::Own);
        bench.set_address(shared(), AddressMode::Shared);
        bench.open_port(Transport::Udp, 11211);
    }
    benches
}

fn loaded() -> Vec<Bench> {
    loaded_as(true, false)
}

/// An IPv6 packet.
fn packet(source: Ipv6Addr, to: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, hops], &source.octets(), &to.octets(), payload].concat()
}

fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, None, packet)
}

fn from(source: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    frame(&packet(source, to, next, 64, payload))
}

fn to(to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    from(peer(), to, next, payload)
}

fn tcp_to(address: Ipv6Addr, port: u16) -> Vec<u8> {
    to(address, TCP, &ports(40000, port))
}

/// A message of neighbour discovery about `target`, with the sender's station.
fn neighbor(kind: u8, source: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
    frame(&packet(source, to, ICMP, 255, &message))
}

/// An ICMP error of type `kind` about `quoted`.
fn error(kind: u8, source: Ipv6Addr, to: Ipv6Addr, quoted: &[u8]) -> Vec<u8> {
    from(source, to, ICMP, &[&[kind, 0, 0, 0, 0, 0, 5, 0][..], quoted].concat())
}

/// A header that is passed over, of `units` of eight bytes, before what `next` says.
fn options(next: u8, units: u8) -> Vec<u8> {
    let mut header = vec![next, units - 1, 1, 4];
    header.resize(8 * usize::from(units), 0);
    header
}

/// A fragment of packet `id`; `place` is the offset in units of eight bytes.
fn fragment(to_address: Ipv6Addr, id: u32, place: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let place = (place << 3 | u16::from(more)).to_be_bytes();
    to(to_address, FRAGMENT, &[&[UDP, 0][..], &place, &id.to_be_bytes(), payload].concat())
}

#[test]
fn all_ipv6_for_an_own_address_goes_to_the_socket() {
    let frames = [
        tcp_to(ours(), 11211),
        tcp_to(ours(), 22),
        ethernet(0x86dd, Some(0xe000), &packet(peer(), ours(), UDP, 64, &ports(1, 11211))),
        to(ours(), ICMP, &[128, 0, 0, 0, 0, 0, 0, 0]),
        fragment(ours(), 1, 5, false, &[0; 16]),
        to(ours(), HOP_BY_HOP, &[options(TCP, 1), ports(1, 2)].concat()),
        to(ours(), ROUTING, &[options(TCP, 3), ports(1, 2)].concat()),
        to(ours(), 132, &[0; 20]),
        error(2, stranger(), ours(), &packet(ours(), peer(), TCP, 64, &ports(11211, 1))),
    ];
    for mut bench in loaded() {
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(bench.verdict(frame), XDP_REDIRECT, "frame {index}");
        }
        let redirected = frames.len() as u64;
        assert_eq!(bench.counters(), SteerCounters { redirected, ..SteerCounters::default() });
    }
}

#[test]
fn neighbour_discovery_for_an_own_address_goes_to_the_socket_and_other_to_the_kernel() {
    let (all_nodes, router, any) = (ip("ff02::1"), ip("fe80::1"), Ipv6Addr::UNSPECIFIED);
    let stacks = [
        neighbor(SOLICITATION, peer(), solicited(ours()), ours()),
        neighbor(SOLICITATION, peer(), ours(), ours()),
        // Another host's probe, and what it says once it has the address.
        neighbor(SOLICITATION, any, solicited(ours()), ours()),
        neighbor(ADVERTISEMENT, ours(), all_nodes, ours()),
        // The answer to a question of the stack's.
        neighbor(ADVERTISEMENT, router, ours(), router),
    ];
    let shared = shared();
    let mut far = neighbor(SOLICITATION, peer(), solicited(ours()), ours());
    far[14 + 7] = 254;
    let group_query = [options(ICMP, 1), vec![130, 0, 0, 0, 0, 0, 0, 0], vec![0; 16]].concat();
    let kernels = [
        neighbor(SOLICITATION, peer(), solicited(shared), shared),
        neighbor(ADVERTISEMENT, peer(), shared, peer()),
        neighbor(ADVERTISEMENT, peer(), all_nodes, peer()),
        neighbor(SOLICITATION, peer(), solicited(stranger()), stranger()),
        neighbor(ROUTER_ADVERTISEMENT, router, all_nodes, any),
        frame(&packet(router, all_nodes, HOP_BY_HOP, 1, &group_query)),
        far,
    ];
    for mut bench in loaded() {
        for (index, frame) in stacks.iter().enumerate() {
            assert_eq!(bench.verdict(frame), XDP_REDIRECT, "frame {index}");
        }
        for (index, frame) in kernels.iter().enumerate() {
            assert_eq!(bench.verdict(frame), XDP_PASS, "frame {index}");
        }
        let counted = SteerCounters { neighbors: 5, passed: kernels.len() as u64, ..SteerCounters::default() };
        assert_eq!(bench.counters(), counted);
    }
}

#[test]
fn ipv4_addresses_in_disguise_and_other_versions_are_the_kernels() {
    let mut old = tcp_to(ours(), 11211);
    old[14] = 0x40;
    for mut bench in loaded() {
        assert_eq!(bench.verdict(&tcp_to(OURS.to_ipv6_mapped(), 11211)), XDP_PASS);
        assert_eq!(bench.verdict(&old), XDP_PASS);
    }
}

#[test]
fn frames_of_one_vlan_are_the_stacks_over_ipv6_too() {
    let tagged = |tag, frame: &[u8]| ethernet(0x86dd, tag, &frame[14..]);
    for mut bench in loaded() {
        bench.set_vlan(100);
        for frame in [tcp_to(ours(), 1), tcp_to(shared(), 11211), neighbor(SOLICITATION, peer(), ours(), ours())] {
            let tags = [None, Some(0), Some(0xe064), Some(101)];
            let verdicts = tags.map(|tag| bench.verdict(&tagged(tag, &frame)));
            assert_eq!(verdicts, [XDP_PASS, XDP_PASS, XDP_REDIRECT, XDP_PASS]);
        }
    }
}

#[test]
fn only_listed_ports_of_a_shared_address_go_to_the_socket_behind_a_bounded_number_of_headers() {
    let (at, good) = (shared(), ports(1, 11211));
    let mut kernels = vec![
        tcp_to(at, 22),
        to(at, ICMP, &[128, 0, 0, 0, 0, 0, 0, 0]),
        to(at, 132, &good),
        to(at, 59, &good),
        to(at, ROUTING, &[options(TCP, 1), good.clone()].concat()),
        to(at, HOP_BY_HOP, &[options(TCP, 2), vec![0; 4], good.clone()].concat()),
        fragment(at, 1, 1, false, &good),
        // The last header says that it is longer than the frame.
        to(at, OPTIONS, &[TCP, 200, 0, 0, 0, 0, 0, 0]),
    ];
    let chain = |headers: u8| {
        let mut payload = Vec::new();
        for header in 0..headers {
            payload.extend(options(if header + 1 == headers { TCP } else { OPTIONS }, header % 3 + 1));
        }
        payload.extend(&good);
        to(at, if headers == 0 { TCP } else { OPTIONS }, &payload)
    };
    kernels.push(chain(5));
    for mut bench in loaded() {
        for headers in 0..=4 {
            assert_eq!(bench.verdict(&chain(headers)), XDP_REDIRECT, "{headers} headers");
        }
        let atomic = fragment(at, 1, 0, false, &good);
        let mixed = to(at, HOP_BY_HOP, &[options(UDP, 2), good.clone()].concat());
        assert_eq!([&atomic, &mixed].map(|frame| bench.verdict(frame)), [XDP_REDIRECT; 2]);
        for (index, frame) in kernels.iter().enumerate() {
            assert_eq!(bench.verdict(frame), XDP_PASS, "frame {index}");
        }
        bench.close_port(Transport::Tcp, 11211);
        assert_eq!(bench.verdict(&chain(0)), XDP_PASS);
        assert_eq!(bench.verdict(&to(at, UDP, &good)), XDP_REDIRECT);
    }
}

#[test]
fn fragments_to_a_shared_ipv6_address_go_where_the_first_went() {
    let at = shared();
    for mut bench in loaded() {
        let said = [
            fragment(at, 1, 1, false, &[0; 8]), // Before its first.
            fragment(at, 1, 0, true, &ports(9, 11211)),
            fragment(at, 1, 1, true, &[0; 8]),
            fragment(at, 1, 2, false, &[0; 8]),
            fragment(at, 2, 0, true, &ports(9, 53)), // Of the kernel's.
            fragment(at, 2, 1, false, &[0; 8]),
            // The peer's numbers have come round, and this one is the kernel's.
            fragment(at, 1, 0, true, &ports(9, 53)),
            fragment(at, 1, 1, false, &[0; 8]),
        ]
        .map(|frame| bench.verdict(&frame));
        let (kernels, ours) = (XDP_PASS, XDP_REDIRECT);
        assert_eq!(said, [kernels, ours, ours, ours, kernels, kernels, kernels, kernels]);
        let counted = SteerCounters { passed: 5, redirected: 1, fragments: 2, ..SteerCounters::default() };
        assert_eq!(bench.counters(), counted);
    }
}

#[test]
fn an_icmpv6_error_goes_to_whoever_sent_the_quoted_packet() {
    let at = shared();
    let about = |kind, port| error(kind, stranger(), at, &packet(at, peer(), TCP, 64, &ports(port, 40000)));
    for mut bench in loaded() {
        for kind in 1..=4 {
            assert_eq!(bench.verdict(&about(kind, 11211)), XDP_REDIRECT, "type {kind}");
            assert_eq!(bench.verdict(&about(kind, 22)), XDP_PASS, "type {kind}");
        }
        for kind in [0, 5, 100, 128, 129] {
            assert_eq!(bench.verdict(&about(kind, 11211)), XDP_PASS, "type {kind}");
        }
        assert_eq!(bench.counters(), SteerCounters { passed: 9, icmp_errors: 4, ..SteerCounters::default() });
    }
}

#[test]
fn where_sources_are_listed_no_other_reaches_the_stack_over_ipv6() {
    let from = |source, to, port| from(source, to, TCP, &ports(40000, port));
    let about = |to, peer| error(2, stranger(), to, &packet(to, peer, TCP, 64, &ports(11211, 40000)));
    let (alone, router) = (ip("2001:db8:78::9"), ip("fe80::1"));
    for mut bench in loaded() {
        bench.allow(&[(ip("2001:db8:77::").into(), 64), (alone.into(), 128)]);
        for to in [ours(), shared()] {
            assert_eq!(bench.verdict(&from(peer(), to, 11211)), XDP_REDIRECT);
            assert_eq!(bench.verdict(&from(alone, to, 11211)), XDP_REDIRECT);
            assert_eq!(bench.verdict(&from(stranger(), to, 11211)), XDP_DROP);
            assert_eq!(bench.verdict(&about(to, peer())), XDP_REDIRECT);
            assert_eq!(bench.verdict(&about(to, stranger())), XDP_DROP);
        }
        assert_eq!(bench.verdict(&from(stranger(), ours(), 22)), XDP_DROP);
        assert_eq!(bench.verdict(&from(stranger(), shared(), 22)), XDP_PASS, "the kernel's");
        // Who may speak is asked of packets of the link's neighbours as little as of ARP.
        assert_eq!(bench.verdict(&neighbor(SOLICITATION, stranger(), ours(), ours())), XDP_REDIRECT);
        assert_eq!(bench.verdict(&neighbor(ADVERTISEMENT, router, ours(), router)), XDP_REDIRECT);
        assert_eq!(bench.verdict(&tcp(OURS, 11211)), XDP_DROP, "nobody of IPv4 is listed");
        assert_eq!(bench.counters().denied, 6);
        bench.allow(&[]);
        assert_eq!(bench.verdict(&from(stranger(), ours(), 11211)), XDP_REDIRECT);
    }
}

#[test]
fn ipv6_addresses_change_while_the_program_is_loaded() {
    for mut bench in loaded() {
        assert_eq!(bench.verdict(&tcp_to(stranger(), 80)), XDP_PASS);
        bench.set_address(stranger(), AddressMode::Own);
        assert_eq!(bench.verdict(&tcp_to(stranger(), 80)), XDP_REDIRECT);
        assert!(bench.remove_address(stranger()));
        assert_eq!(bench.verdict(&tcp_to(stranger(), 80)), XDP_PASS);
    }
}

#[test]
fn without_a_socket_ipv6_falls_back_to_the_kernel_and_a_dedicated_queue_keeps_all_of_it() {
    let frames = [tcp_to(ours(), 1), neighbor(SOLICITATION, peer(), ours(), ours()), tcp_to(shared(), 11211)];
    for mut bench in loaded_as(false, false) {
        for frame in &frames {
            assert_eq!(bench.verdict(frame), XDP_PASS);
        }
        assert_eq!(bench.counters(), SteerCounters { no_socket: 3, ..SteerCounters::default() });
    }
    for mut bench in loaded() {
        bench.set_dedicated(true);
        let advertisement = neighbor(ROUTER_ADVERTISEMENT, ip("fe80::1"), ip("ff02::1"), Ipv6Addr::UNSPECIFIED);
        for frame in [advertisement, tcp_to(shared(), 22), tcp_to(stranger(), 22)] {
            assert_eq!(bench.verdict(&frame), XDP_REDIRECT);
        }
        assert_eq!(bench.counters(), SteerCounters { dedicated: 3, ..SteerCounters::default() });
    }
}

#[test]
fn cut_ipv6_frames_go_to_the_kernel_whatever_their_length() {
    for mut bench in loaded() {
        for whole in [tcp_to(shared(), 11211), neighbor(SOLICITATION, peer(), solicited(ours()), ours())] {
            for len in 14..14 + HEADER_BYTES {
                assert_eq!(bench.verdict(&whole[..len]), XDP_PASS, "{len} bytes");
            }
        }
        assert!(bench.counters().passed > 0);
    }
}

/// A frame of `whole` with some bits of its headers changed, and perhaps cut.
fn bent(random: &mut Xoshiro256PlusPlus, whole: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = whole[random.next_u64() as usize % whole.len()].clone();
    for _ in 0..random.next_u64() % 4 {
        let at = 12 + random.next_u64() as usize % 90;
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= 1 << (random.next_u64() % 8);
        }
    }
    if random.next_u64().is_multiple_of(4) {
        frame.truncate(14 + random.next_u64() as usize % 100);
    }
    frame
}

#[test]
fn the_kernel_and_the_interpreter_judge_bent_ipv6_frames_alike() {
    const SEED: u64 = 78;
    eprintln!("seed {SEED}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let at = shared();
    let chain = [options(OPTIONS, 1), options(FRAGMENT, 2), vec![UDP, 0, 0, 1, 0, 0, 0, 1], ports(1, 11211)].concat();
    let whole = [
        tcp_to(ours(), 11211),
        tcp_to(at, 11211),
        neighbor(SOLICITATION, peer(), solicited(ours()), ours()),
        neighbor(ADVERTISEMENT, peer(), ours(), peer()),
        fragment(at, 1, 0, true, &ports(9, 11211)),
        fragment(at, 1, 3, false, &[0; 40]),
        error(2, peer(), at, &packet(at, peer(), TCP, 64, &ports(11211, 40000))),
        to(at, HOP_BY_HOP, &chain),
        ethernet(0x86dd, Some(7), &packet(peer(), at, UDP, 64, &ports(1, 11211))),
    ];
    let mut benches = loaded();
    for bench in &mut benches {
        bench.allow(&[(ip("2001:db8:77::").into(), 125), (ip("2001:db8::").into(), 33)]);
    }
    for round in 0..10_000 {
        if round == 5_000 {
            benches.iter_mut().for_each(|bench| bench.set_dedicated(true));
        }
        let frame = bent(&mut random, &whole);
        let said: Vec<u32> = benches.iter_mut().map(|bench| bench.verdict(&frame)).collect();
        assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "frame {round}: {said:?} of {frame:02x?}");
    }
    let counted: Vec<SteerCounters> = benches.iter().map(Bench::counters).collect();
    assert!(counted.windows(2).all(|pair| pair[0] == pair[1]), "{counted:?}");
    let SteerCounters { passed, redirected, neighbors, denied, icmp_errors, fragments, dedicated, .. } = counted[0];
    for moved in [passed, redirected, neighbors, denied, icmp_errors, fragments, dedicated] {
        assert!(moved > 0, "{counted:?}");
    }
}
