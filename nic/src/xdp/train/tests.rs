use etherparse::checksum::Sum16BitWords;
use etherparse::{PacketBuilder, TcpHeader};
use proptest::prelude::*;

use super::*;
use crate::pool::{FramePool, PoolConfig};

const US: [u8; 4] = [10, 77, 0, 2];
const PEER: [u8; 4] = [10, 77, 0, 1];

/// By what the host with this address goes in IPv6.
fn in_ipv6(address: [u8; 4]) -> [u8; 16] {
    std::array::from_fn(|at| if at < 12 { [0xfd, 0x77][at % 2] } else { address[at - 12] })
}

/// The sum of RFC 1071, each part of an even length, in the machine's own byte order.
fn sum(parts: &[&[u8]]) -> u16 {
    !parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part)).ones_complement()
}

/// A segment over IPv4 from `port` with the bytes `seq..seq + len` of a stream, its checksums right.
fn segment(port: u16, seq: u32, len: usize, psh: bool, ack: u32) -> Vec<u8> {
    segment_over(false, port, seq, len, psh, ack)
}

/// The same over either.
fn segment_over(ipv6: bool, port: u16, seq: u32, len: usize, psh: bool, ack: u32) -> Vec<u8> {
    let mut tcp = TcpHeader::new(11_211, port, seq, 512);
    (tcp.ack, tcp.psh, tcp.acknowledgment_number) = (true, psh, ack);
    let payload: Vec<u8> = (0..len as u32).map(|at| (seq.wrapping_add(at) % 251) as u8).collect();
    let mut frame = Vec::new();
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let ip = if ipv6 { link.ipv6(in_ipv6(US), in_ipv6(PEER), 64) } else { link.ipv4(US, PEER, 64) };
    ip.tcp_header(tcp).write(&mut frame, &payload).expect("written to memory");
    frame
}

/// The bytes in frames of a burst.
fn burst(pool: &mut FramePool, frames: &[Vec<u8>]) -> TxBurst {
    let mut burst = TxBurst::default();
    for bytes in frames {
        let mut frame = pool.alloc().expect("there are enough");
        frame.resize(bytes.len()).expect("it fits");
        frame.bytes_mut().copy_from_slice(bytes);
        burst.push(frame).expect("there is room");
    }
    burst
}

fn pool() -> FramePool {
    FramePool::new(PoolConfig::default()).expect("a pool")
}

fn give_back(mut pool: FramePool, mut burst: TxBurst) {
    while let Some(frame) = burst.pop() {
        pool.free(frame).expect("of this pool");
    }
}

/// What the kernel makes of the train at the front of `frames` (`tcp_gso_segment` in kernel `net/ipv4/tcp_offload.c`).
fn cut(frames: &TxBurst, train: Train) -> Vec<Vec<u8>> {
    let first = frames.iter().next().and_then(|frame| Segment::of(frame.bytes())).expect("a train has frames");
    let shape = train.shape;
    let head = &head_of(&first, train)[..shape.head];
    assert_eq!(Shape::of(head), Some(shape));
    let ipv6 = head[12..14] == [0x86, 0xdd];
    let (kind, tcp_at, addresses) = if ipv6 { (4, IP_AT + 40, 22..54) } else { (1, TCP_AT, 26..34) };
    let vnet = shape.vnet_header(train.cut);
    let number = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
    assert_eq!((vnet[0], vnet[1], number(2), number(6), number(8)), (1, kind, tcp_at + 20, tcp_at, 16));
    let payload: Vec<u8> =
        frames.iter().take(train.frames).flat_map(|frame| frame.bytes()[tcp_at + 20..].to_vec()).collect();
    let length = payload.len() as u16 + 20;
    if ipv6 {
        assert_eq!(head[18..20], length.to_be_bytes());
    } else {
        assert_eq!(head[16..18], (length + 20).to_be_bytes());
        assert_eq!(sum(&[&head[IP_AT..TCP_AT]]), 0xffff, "the IPv4 checksum of the whole is right");
    }
    // What stands in the place of the TCP checksum and the rest of the packet add up to the checksum.
    let mut whole = head[tcp_at..].to_vec();
    whole.extend_from_slice(&payload);
    whole.resize(whole.len().next_multiple_of(2), 0);
    let checksum = !sum(&[&whole]);
    whole[16..18].copy_from_slice(&checksum.to_ne_bytes());
    let pseudo = [&head[addresses], &[0, 6], &length.to_be_bytes()];
    assert_eq!(sum(&[pseudo.concat().as_slice(), &whole]), 0xffff, "the TCP checksum of the whole comes out right");
    let tcp = &head[tcp_at..];
    let (seq, ack) = ([tcp[4], tcp[5], tcp[6], tcp[7]], [tcp[8], tcp[9], tcp[10], tcp[11]]);
    let (seq, ack) = (u32::from_be_bytes(seq), u32::from_be_bytes(ack));
    let port = u16::from_be_bytes([tcp[2], tcp[3]]);
    let pieces = payload.chunks(number(4));
    let last = pieces.len() - 1;
    let psh = |at| at == last && tcp[13] & PSH != 0;
    pieces
        .enumerate()
        .map(|(at, piece)| {
            let seq = seq.wrapping_add((at * number(4)) as u32);
            segment_over(ipv6, port, seq, piece.len(), psh(at), ack)
        })
        .collect()
}

#[test]
fn a_flight_is_a_train_and_what_the_kernel_makes_of_it_is_the_flight() {
    for (ipv6, full) in [(false, 1_460), (true, 1_440)] {
        let mut pool = pool();
        let first = u32::MAX - 3_000;
        let mut flight: Vec<_> = (0..10u32)
            .map(|at| segment_over(ipv6, 7, first.wrapping_add(at * full), full as usize, false, 9))
            .collect();
        flight.push(segment_over(ipv6, 7, first.wrapping_add(10 * full), 77, true, 9));
        let burst = burst(&mut pool, &flight);
        let train = next_train(&burst, 0).expect("a train");
        assert_eq!((train.frames, train.cut, train.pushes), (11, full as usize, true));
        assert_eq!(cut(&burst, train), flight);
        give_back(pool, burst);
    }
}

#[test]
fn a_train_over_ipv6_ends_at_whatever_cutting_would_not_make_anew() {
    const AT: usize = IP_AT + 40;
    let full = |seq: u32| segment_over(true, 7, seq * 100, 100, false, 9);
    let changed = |at: usize, byte: u8| {
        let mut frame = full(3);
        frame[at] ^= byte;
        frame
    };
    let mut padded = full(3);
    padded.push(0);
    let others = [
        segment(7, 300, 100, false, 9),
        segment_over(true, 8, 300, 100, false, 9),
        segment_over(true, 7, 300, 100, false, 10),
        segment_over(true, 7, 300, 101, false, 9),
        // Flow label, hop limit, addresses, the next header, options of TCP, FIN, window.
        changed(IP_AT + 3, 1),
        changed(IP_AT + 7, 1),
        changed(IP_AT + 23, 1),
        changed(IP_AT + 39, 1),
        changed(IP_AT + 6, 1),
        changed(AT + 12, 0x30),
        changed(AT + 13, 1),
        changed(AT + 15, 1),
        padded,
        full(3)[..AT + 10].to_vec(),
        full(3)[..IP_AT + 10].to_vec(),
    ];
    for (at, other) in others.into_iter().enumerate() {
        let mut pool = pool();
        let burst = burst(&mut pool, &[full(0), full(1), full(2), other, full(4), full(5), full(6)]);
        assert_eq!(next_train(&burst, 0).map(|train| train.frames), Ok(3), "other {at}");
        give_back(pool, burst);
    }
}

#[test]
fn a_train_ends_at_a_short_segment_a_push_a_gap_another_flow_ack_or_kind_of_frame() {
    let full = |seq: u32| segment(7, seq * 100, 100, false, 9);
    let mut options = full(3);
    options[TCP_AT + 12] = 0x60;
    let mut fragment = full(3);
    fragment[20] |= 0x20;
    let mut fin = full(3);
    fin[TCP_AT + 13] |= 1;
    let mut window = full(3);
    window[TCP_AT + 15] ^= 1;
    let mut padded = full(3);
    padded.push(0);
    let empty = segment(7, 300, 0, false, 9);
    let others = [
        segment(7, 400, 100, false, 9),
        segment(8, 300, 100, false, 9),
        segment(7, 300, 100, false, 10),
        segment(7, 300, 101, false, 9),
        options,
        fragment,
        fin,
        window,
        padded,
        empty,
        vec![0; 60],
    ];
    for (at, other) in others.into_iter().enumerate() {
        let mut pool = pool();
        let burst = burst(&mut pool, &[full(0), full(1), full(2), other, full(4), full(5), full(6)]);
        assert_eq!(next_train(&burst, 0).map(|train| train.frames), Ok(3), "other {at}");
        give_back(pool, burst);
    }
    for last in [segment(7, 200, 99, false, 9), segment(7, 200, 100, true, 9)] {
        let mut pool = pool();
        let burst = burst(&mut pool, &[full(0), full(1), last, full(3)]);
        assert_eq!(next_train(&burst, 0).map(|train| train.frames), Ok(3));
        give_back(pool, burst);
    }
}

#[test]
fn a_train_is_no_longer_than_a_packet_may_be() {
    let mut pool = pool();
    let flight: Vec<_> = (0..60).map(|at| segment(7, at * 1_460, 1_460, false, 9)).collect();
    let burst = burst(&mut pool, &flight);
    let train = next_train(&burst, 0).expect("a train");
    assert_eq!(train.frames, 44, "65,535 bytes and no more");
    assert_eq!(cut(&burst, train), flight[..44]);
    assert_eq!(next_train(&burst, 44).map(|train| train.frames), Ok(16));
    give_back(pool, burst);
    let mut pool = self::pool();
    let flight: Vec<_> = (0..60).map(|at| segment_over(true, 7, at * 1_440, 1_440, false, 9)).collect();
    let burst = self::burst(&mut pool, &flight);
    let train = next_train(&burst, 0).expect("a train");
    assert_eq!(train.frames, 45, "the same");
    assert_eq!(cut(&burst, train), flight[..45]);
    give_back(pool, burst);
}

proptest! {
    #[test]
    fn a_checksum_that_was_left_is_what_it_would_have_been(len in 0usize..1_460, seq in any::<u32>(), psh in any::<bool>()) {
        let whole = segment(7, seq, len, psh, 9);
        let mut left = whole.clone();
        left[TCP_AT + 16..TCP_AT + 18].fill(0);
        complete_checksum(&mut left);
        prop_assert_eq!(&left, &whole);
        left[TCP_AT + 16] ^= 0x55;
        let wrong = left.clone();
        if wrong[TCP_AT + 16..TCP_AT + 18] != [0, 0] {
            complete_checksum(&mut left);
            prop_assert_eq!(left, wrong, "what is there stays");
        }
    }

    #[test]
    fn whatever_is_sent_is_sent_in_order_and_whole(
        kinds in prop::collection::vec((0u16..2, 0u8..12, 1usize..4), 0..64),
    ) {
        // A flow over IPv4 and one over IPv6.
        let mut next = [0u32, u32::MAX - 500];
        let mut frames = Vec::new();
        for (flow, kind, length) in kinds {
            let seq = &mut next[usize::from(flow)];
            let bytes = if kind < 9 { 600 } else { length * 200 };
            frames.push(segment_over(flow == 1, flow, *seq, bytes, kind == 11, 5 + u32::from(kind == 10)));
            *seq = seq.wrapping_add(bytes as u32);
        }
        let mut pool = pool();
        let mut burst = burst(&mut pool, &frames);
        let mut sent = Vec::new();
        while !burst.is_empty() {
            let taken = match next_train(&burst, 0) {
                Ok(train) => {
                    prop_assert!(train.frames >= LEAST);
                    sent.extend(cut(&burst, train));
                    train.frames
                }
                Err(few) => {
                    prop_assert!((1..LEAST).contains(&few));
                    sent.extend(burst.iter().take(few).map(|frame| frame.bytes().to_vec()));
                    few
                }
            };
            for _ in 0..taken {
                let frame = burst.pop().expect("so many were there");
                pool.free(frame).expect("of this pool");
            }
        }
        prop_assert_eq!(sent, frames);
    }
}
