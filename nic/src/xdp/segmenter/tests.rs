use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpHeaders, Ipv4Extensions, Ipv6Extensions, Ipv6Header, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket,
    TcpHeader, TransportSlice, VlanId, ip_number,
};
use proptest::prelude::*;

use super::*;
use crate::pool::{FramePool, PoolConfig};

const PEER: [u8; 4] = [10, 77, 0, 1];
const US: [u8; 4] = [10, 77, 0, 2];
const PEER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const US6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SEQ: u32 = 0xffff_ff00;

/// What a kernel leaves in the checksum of TCP for a device to finish: the sum of the pseudo-header.
fn partial(shape: Shape, len: usize) -> [u8; 2] {
    let mut sum = Sum16BitWords::new().add_2bytes([0, 6]);
    let sum = match shape.ipv6 {
        true => sum.add_16bytes(PEER6).add_16bytes(US6),
        false => sum.add_4bytes(PEER).add_4bytes(US),
    };
    (!sum.add_2bytes((len as u16).to_be_bytes()).ones_complement()).to_ne_bytes()
}

/// How a merged frame looks.
#[derive(Debug, Clone, Copy)]
struct Shape {
    ipv6: bool,
    tagged: bool,
    ip_options: usize,
    tcp_options: usize,
}

const PLAIN: Shape = Shape { ipv6: false, tagged: false, ip_options: 0, tcp_options: 0 };
const PLAIN6: Shape = Shape { ipv6: true, ..PLAIN };

/// A frame of one segment with `payload`, its flags PSH and FIN set, its checksum left to offload.
fn merged(shape: Shape, payload: &[u8]) -> Vec<u8> {
    let mut tcp = TcpHeader::new(1_234, 11_211, SEQ, 512);
    (tcp.ack, tcp.psh, tcp.fin, tcp.acknowledgment_number) = (true, true, true, 99);
    tcp.set_options_raw(&vec![1; 4 * shape.tcp_options]).expect("they fit");
    let tcp_len = tcp.header_len() + payload.len();
    let mut ip = etherparse::Ipv4Header::new(0, 64, ip_number::TCP, PEER, US).expect("an empty packet");
    ip.dont_fragment = true;
    ip.options = vec![1; 4 * shape.ip_options].as_slice().try_into().expect("they fit");
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let ipv6 = Ipv6Header {
        next_header: ip_number::TCP,
        hop_limit: 64,
        source: PEER6,
        destination: US6,
        ..Ipv6Header::default()
    };
    let ip = match shape.ipv6 {
        true => IpHeaders::Ipv6(ipv6, Ipv6Extensions::default()),
        false => IpHeaders::Ipv4(ip, Ipv4Extensions::default()),
    };
    let packet: PacketBuilderStep<IpHeaders> = match shape.tagged {
        true => ethernet.single_vlan(VlanId::try_new(7).expect("in range")).ip(ip),
        false => ethernet.ip(ip),
    };
    let mut frame = Vec::new();
    packet.tcp_header(tcp).write(&mut frame, payload).expect("written to memory");
    let checksum_at = frame.len() - tcp_len + 16;
    frame[checksum_at..checksum_at + 2].copy_from_slice(&partial(shape, tcp_len));
    frame
}

/// Gives `frame` to `segmenter` chunk by chunk, as the kernel lays it out, and returns what it hands on.
fn cut(segmenter: &mut Segmenter, pool: &mut FramePool, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = frame.chunks(pool.max_frame_bytes()).peekable();
    let mut frames = Vec::new();
    while let Some(part) = parts.next() {
        let mut chunk = pool.alloc().expect("one at a time");
        chunk.resize(part.len()).expect("it fits");
        chunk.bytes_mut().copy_from_slice(part);
        let chunk = segmenter.chunk(chunk, parts.peek().is_some()).inspect(|frame| frames.push(frame.bytes().to_vec()));
        pool.free(chunk.unwrap_or_else(|refused| refused)).expect("its own");
    }
    assert_eq!(pool.free_frames(), pool.total_frames());
    frames
}

fn pool() -> FramePool {
    FramePool::new(PoolConfig { frames: 4, ..PoolConfig::default() }).expect("memory")
}

/// The payloads of `frames` put together again, each frame found to be a whole segment at its place.
fn joined(shape: Shape, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP: {frame:02x?}") };
        match &packet.net {
            Some(NetSlice::Ipv4(ip)) if !shape.ipv6 => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!((header.source, header.destination, header.options.len()), (PEER, US, 4 * shape.ip_options));
            }
            Some(NetSlice::Ipv6(ip)) if shape.ipv6 => {
                let header = ip.header().to_header();
                assert_eq!((header.source, header.destination, header.hop_limit), (PEER6, US6, 64));
            }
            other => panic!("another family: {other:?}"),
        }
        assert_eq!(packet.link_exts.len(), usize::from(shape.tagged));
        assert_eq!(tcp.sequence_number(), SEQ.wrapping_add(payload.len() as u32));
        assert_eq!((tcp.acknowledgment_number(), tcp.options().len()), (99, 4 * shape.tcp_options));
        let last = index + 1 == frames.len();
        assert_eq!((tcp.ack(), tcp.psh(), tcp.fin()), (true, last, last));
        assert_eq!(tcp.checksum().to_be_bytes(), partial(shape, tcp.slice().len()), "left to offload, as before");
        assert!(!tcp.payload().is_empty(), "nothing is told twice");
        payload.extend(tcp.payload());
    }
    payload
}

proptest! {
    #[test]
    fn a_merged_frame_becomes_whole_segments_of_the_same_bytes(
        lens in prop::collection::vec(0usize..63_000, 1..4),
        (ipv6, tagged) in any::<(bool, bool)>(), ip_options in 0usize..11, tcp_options in 0usize..11, first in any::<u8>(),
    ) {
        let shape = Shape { ipv6, tagged, ip_options, tcp_options };
        let (mut segmenter, mut pool) = (Segmenter::new(), pool());
        for len in lens {
            // Longer than a chunk, else it would not come this way.
            let len = len + pool.max_frame_bytes();
            let payload: Vec<u8> = (0..len).map(|at| first.wrapping_add((at ^ at >> 8) as u8)).collect();
            let frames = cut(&mut segmenter, &mut pool, &merged(shape, &payload));
            prop_assert!(joined(shape, &frames) == payload);
        }
        prop_assert_eq!(segmenter.refused(), 0);
    }

    #[test]
    fn whatever_comes_in_several_chunks_no_frame_is_lost_and_none_panics(
        mut frame in prop::collection::vec(any::<u8>(), 1_800..6_000), real in 0u8..3, bend in 0usize..80, to in any::<u8>(),
    ) {
        if real > 0 {
            frame = merged(if real == 1 { PLAIN } else { PLAIN6 }, &frame);
            frame[bend] = to;
        }
        let (mut segmenter, mut pool) = (Segmenter::new(), pool());
        cut(&mut segmenter, &mut pool, &frame);
        // The next one is not touched by it.
        let payload = [7; 4_000];
        let frames = cut(&mut segmenter, &mut pool, &merged(PLAIN, &payload));
        prop_assert_eq!(joined(PLAIN, &frames), payload);
    }
}

/// What a link appends to a packet is nobody's.
#[test]
fn what_lies_behind_the_packet_is_no_payload() {
    for shape in [PLAIN, PLAIN6] {
        let payload = [9; 3_000];
        let mut frame = merged(shape, &payload);
        frame.resize(frame.len() + 2_500, 0xee);
        let (mut segmenter, mut pool) = (Segmenter::new(), pool());
        assert_eq!(joined(shape, &cut(&mut segmenter, &mut pool, &frame)), payload);
    }
}

#[test]
fn what_is_no_merged_segment_is_dropped_whole_and_counted() {
    let (mut segmenter, mut pool) = (Segmenter::new(), pool());
    type Bend = fn(&mut Vec<u8>);
    let bends6: [Bend; 6] = [
        |frame| frame[20] = 17,        // UDP.
        |frame| frame[20] = 0,         // Another header before that of TCP.
        |frame| frame[14] = 0x45,      // IP of another version.
        |frame| frame[67] |= 0x02,     // SYN.
        |frame| frame[66] = 0x40,      // A TCP header that is too short.
        |frame| frame[18..20].fill(0), // Longer than a length can tell (BIG TCP).
    ];
    let bends: [Bend; 8] = [
        |frame| frame[23] = 17,        // UDP.
        |frame| frame[12] = 0x86,      // Another EtherType.
        |frame| frame[14] = 0x65,      // IP of another version.
        |frame| frame[20] = 0x20,      // A fragment.
        |frame| frame[47] |= 0x02,     // SYN.
        |frame| frame[47] |= 0x04,     // RST.
        |frame| frame[46] = 0x40,      // A TCP header that is too short.
        |frame| frame[16..18].fill(0), // Longer than a length can tell (BIG TCP).
    ];
    let all = bends.into_iter().map(|bend| (PLAIN, bend)).chain(bends6.map(|bend| (PLAIN6, bend)));
    for (count, (shape, bend)) in all.enumerate() {
        let mut frame = merged(shape, &[5; 5_000]);
        bend(&mut frame);
        assert_eq!(cut(&mut segmenter, &mut pool, &frame), Vec::<Vec<u8>>::new(), "{count}");
        assert_eq!(segmenter.refused(), count as u64 + 1);
    }
}

#[test]
fn behind_a_chunk_that_was_lost_nothing_is_handed_on() {
    let (mut segmenter, mut pool) = (Segmenter::new(), pool());
    let mut chunk = |segmenter: &mut Segmenter, bytes: &[u8], more| {
        let mut frame = pool.alloc().expect("free");
        frame.resize(bytes.len()).expect("it fits");
        frame.bytes_mut().copy_from_slice(bytes);
        let frame = segmenter.chunk(frame, more);
        let taken = frame.is_ok();
        pool.free(frame.unwrap_or_else(|refused| refused)).expect("its own");
        taken
    };
    let frame = merged(PLAIN, &[5; 6_000]);
    let parts: Vec<&[u8]> = frame.chunks(1_792).collect();
    assert!(chunk(&mut segmenter, parts[0], true));
    segmenter.lose(true);
    assert!(!chunk(&mut segmenter, parts[2], true));
    assert!(!chunk(&mut segmenter, parts[3], false));
    assert_eq!(segmenter.refused(), 1);
    assert!(chunk(&mut segmenter, parts[0], true));
    segmenter.lose(false);
    assert!(chunk(&mut segmenter, parts[0], true), "the next frame begins anew");
}
