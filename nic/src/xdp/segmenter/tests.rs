use etherparse::checksum::Sum16BitWords;
use etherparse::{
    NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader, TransportSlice, VlanId, ip_number,
};
use proptest::prelude::*;

use super::*;
use crate::pool::{FramePool, PoolConfig};

const PEER: [u8; 4] = [10, 77, 0, 1];
const US: [u8; 4] = [10, 77, 0, 2];
const SEQ: u32 = 0xffff_ff00;

/// What a kernel leaves in the checksum of TCP for a device to finish: the sum of the pseudo-header.
fn partial(len: usize) -> [u8; 2] {
    let sum = Sum16BitWords::new().add_4bytes(PEER).add_4bytes(US).add_2bytes([0, 6]);
    (!sum.add_2bytes((len as u16).to_be_bytes()).ones_complement()).to_ne_bytes()
}

/// How a merged frame looks.
#[derive(Debug, Clone, Copy)]
struct Shape {
    tagged: bool,
    ip_options: usize,
    tcp_options: usize,
}

const PLAIN: Shape = Shape { tagged: false, ip_options: 0, tcp_options: 0 };

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
    let ip = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
    let packet: PacketBuilderStep<etherparse::IpHeaders> = match shape.tagged {
        true => ethernet.single_vlan(VlanId::try_new(7).expect("in range")).ip(ip),
        false => ethernet.ip(ip),
    };
    let mut frame = Vec::new();
    packet.tcp_header(tcp).write(&mut frame, payload).expect("written to memory");
    let checksum_at = frame.len() - tcp_len + 16;
    frame[checksum_at..checksum_at + 2].copy_from_slice(&partial(tcp_len));
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
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&packet.net, &packet.transport) else {
            panic!("not TCP over IPv4: {frame:02x?}");
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.source, header.destination, header.options.len()), (PEER, US, 4 * shape.ip_options));
        assert_eq!(packet.link_exts.len(), usize::from(shape.tagged));
        assert_eq!(tcp.sequence_number(), SEQ.wrapping_add(payload.len() as u32));
        assert_eq!((tcp.acknowledgment_number(), tcp.options().len()), (99, 4 * shape.tcp_options));
        let last = index + 1 == frames.len();
        assert_eq!((tcp.ack(), tcp.psh(), tcp.fin()), (true, last, last));
        assert_eq!(tcp.checksum().to_be_bytes(), partial(tcp.slice().len()), "left to offload, as before");
        assert!(!tcp.payload().is_empty(), "nothing is told twice");
        payload.extend(tcp.payload());
    }
    payload
}

proptest! {
    #[test]
    fn a_merged_frame_becomes_whole_segments_of_the_same_bytes(
        lens in prop::collection::vec(0usize..63_000, 1..4),
        tagged in any::<bool>(), ip_options in 0usize..11, tcp_options in 0usize..11, first in any::<u8>(),
    ) {
        let shape = Shape { tagged, ip_options, tcp_options };
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
        mut frame in prop::collection::vec(any::<u8>(), 1_800..6_000), real in any::<bool>(), bend in 0usize..80, to in any::<u8>(),
    ) {
        if real {
            frame = merged(PLAIN, &frame);
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
    let payload = [9; 3_000];
    let mut frame = merged(PLAIN, &payload);
    frame.resize(frame.len() + 2_500, 0xee);
    let (mut segmenter, mut pool) = (Segmenter::new(), pool());
    assert_eq!(joined(PLAIN, &cut(&mut segmenter, &mut pool, &frame)), payload);
}

#[test]
fn what_is_no_merged_segment_is_dropped_whole_and_counted() {
    let (mut segmenter, mut pool) = (Segmenter::new(), pool());
    type Bend = fn(&mut Vec<u8>);
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
    for (count, bend) in bends.iter().enumerate() {
        let mut frame = merged(PLAIN, &[5; 5_000]);
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
