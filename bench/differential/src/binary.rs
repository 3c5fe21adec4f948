//! Makes cases of the binary protocol, with a connection of classic lines here and there.
//!
//! The number of the key stands in the first byte of a packet's opaque, so that the unique in its response can be told
//! to be that key's. A packet with lengths that cannot be ends its connection, so it comes last; before it, and before
//! each counting, a Noop lets the replies so far leave (see [`memcached`](crate::memcached)).

use crate::case::{CasOf, Case, KeyId, Leg, Operation, PacketPiece, Piece};
use crate::generate::{Maker, maker};
use crate::packet::Packet;

/// Never, far ahead (relative, unix, beyond 31 bits), in the past.
const EXPIRATIONS: [u32; 10] = [0, 0, 0, 0, 86_400, 100_000, 2_592_001, 1_000_000_000, 2_147_483_647, u32::MAX];
const FLAGS: [u32; 5] = [0, 1, 42, 65_535, u32::MAX];
const NUMBERS: [u64; 8] = [0, 1, 2, 9, 10, 99, 1_000, 4_294_967_296];

/// Case number `index` of campaign `seed`.
pub fn case(seed: u64, index: u64) -> Case {
    let mut maker = maker(seed, index, Maker::classic, true);
    let legs = (0..4).map(|_| if maker.draw.chance(1, 8) { lines(&mut maker) } else { leg(&mut maker) }).collect();
    maker.case(index, legs)
}

fn lines(maker: &mut Maker) -> Leg {
    let mut leg = maker.leg();
    leg.operations.insert(0, Operation::forget_unique());
    leg
}

fn leg(maker: &mut Maker) -> Leg {
    maker.rough = maker.draw.chance(1, 3);
    let count = 1 + maker.draw.below(127);
    let mut operations: Vec<_> = (0..count).map(|_| operation(maker)).collect();
    if maker.draw.chance(1, 6) {
        operations.push(last_words(maker));
    }
    let split = maker.split();
    Leg { operations, split, udp: false }
}

/// One packet. Its opaque names the key; the rest of it is drawn.
fn packet(maker: &mut Maker, opcode: u8, key: Option<KeyId>) -> PacketPiece {
    let number = maker.draw.below(1 << 24) as u32;
    let mut packet = Packet::new(opcode);
    packet.opaque = key.map_or(0xff, |key| key as u32) << 24 | number;
    PacketPiece { packet, key, cas: CasOf::Packet }
}

fn pick(maker: &mut Maker, choices: &[u32]) -> [u8; 4] {
    choices[maker.draw.below(choices.len())].to_be_bytes()
}

fn good(piece: PacketPiece, fenced: bool) -> Operation {
    Operation { fenced, ..Operation::new(vec![Piece::Packet(piece)]) }
}

pub(crate) fn operation(maker: &mut Maker) -> Operation {
    let quiet = maker.draw.chance(1, 4);
    match maker.draw.below(200) {
        0..50 => {
            let opcode = [[0x00, 0x0c], [0x09, 0x0d]][usize::from(quiet)][maker.draw.below(2)];
            let key = maker.key();
            good(packet(maker, opcode, Some(key)), false)
        }
        50..110 => store(maker, quiet),
        110..126 => {
            let key = maker.key();
            let opcode = [[0x0e, 0x0f], [0x19, 0x1a]][usize::from(quiet)][maker.draw.below(2)];
            let mut piece = packet(maker, opcode, Some(key));
            piece.packet.value = maker.value(key);
            unique(maker, &mut piece, key, 8);
            good(piece, false)
        }
        126..138 => {
            let key = maker.key();
            let mut piece = packet(maker, if quiet { 0x14 } else { 0x04 }, Some(key));
            unique(maker, &mut piece, key, 4);
            good(piece, false)
        }
        138..166 => count(maker, quiet),
        166..188 => {
            let key = maker.key();
            let opcode = [0x1c, 0x1d, 0x1e, 0x23, 0x24][maker.draw.below(5)];
            let mut piece = packet(maker, opcode, Some(key));
            piece.packet.extras = pick(maker, &EXPIRATIONS).to_vec();
            good(piece, false)
        }
        188..192 => good(packet(maker, 0x0a, None), false),
        192 => flush(maker, quiet),
        193 if maker.version => good(packet(maker, 0x0b, None), false),
        194..197 => {
            let mut piece = packet(maker, 0x10, None);
            piece.packet.key =
                maker.draw.pick(&[&b"nothing"[..], b"detail", b"detail off", b"itemz", b"cachedump 1 1"]).to_vec();
            good(piece, false)
        }
        _ => {
            let opcode = [0x1b, 0x1f, 0x25, 0x30, 0x3c, 0x40, 0xff, 0x20][maker.draw.below(8)];
            let mut piece = packet(maker, opcode, None);
            if opcode != 0x20 {
                piece.packet.value = vec![b'x'; maker.draw.below(40)];
            }
            good(piece, false)
        }
    }
}

/// The unique last seen of the key, or another, once in `of` packets.
fn unique(maker: &mut Maker, piece: &mut PacketPiece, key: KeyId, of: usize) {
    if maker.draw.chance(1, of) {
        piece.cas = match maker.draw.below(8) {
            0 => {
                piece.packet.cas = u64::MAX;
                CasOf::Packet
            }
            1..=2 => CasOf::Stale(key),
            _ => CasOf::Last(key),
        };
    }
}

fn store(maker: &mut Maker, quiet: bool) -> Operation {
    let key = maker.key();
    let opcode = [[0x01, 0x01, 0x02, 0x03], [0x11, 0x11, 0x12, 0x13]][usize::from(quiet)][maker.draw.below(4)];
    let mut piece = packet(maker, opcode, Some(key));
    piece.packet.extras = [pick(maker, &FLAGS), pick(maker, &EXPIRATIONS)].concat();
    piece.packet.value = maker.value(key);
    unique(maker, &mut piece, key, 5);
    good(piece, false)
}

fn count(maker: &mut Maker, quiet: bool) -> Operation {
    let key = maker.number_key();
    let opcode = [[0x05, 0x06], [0x15, 0x16]][usize::from(quiet)][maker.draw.below(2)];
    let mut piece = packet(maker, opcode, Some(key));
    let mut number = || NUMBERS[maker.draw.below(NUMBERS.len())].to_be_bytes();
    let (delta, initial) = (number(), number());
    piece.packet.extras = [&delta[..], &initial, &pick(maker, &EXPIRATIONS)].concat();
    unique(maker, &mut piece, key, 6);
    good(piece, true)
}

/// As in the text protocol: at once, or in a case of unique keys far ahead.
fn flush(maker: &mut Maker, quiet: bool) -> Operation {
    let mut piece = packet(maker, if quiet { 0x18 } else { 0x08 }, None);
    if maker.unique {
        piece.packet.extras = pick(maker, &[2_000_000, u32::MAX]).to_vec();
    } else if maker.draw.chance(1, 2) {
        piece.packet.extras = vec![0; 4];
    }
    good(piece, false)
}

/// Something after which the connection ends, or that never becomes whole.
fn last_words(maker: &mut Maker) -> Operation {
    let key = maker.key();
    let opcode =
        [0x00, 0x01, 0x04, 0x05, 0x08, 0x0a, 0x0b, 0x0c, 0x0e, 0x10, 0x11, 0x14, 0x1c, 0x1d][maker.draw.below(14)];
    let mut piece = packet(maker, opcode, Some(key));
    let packet = &mut piece.packet;
    match maker.draw.below(9) {
        0 => packet.opcode = 0x07,
        1 => packet.opcode = 0x17,
        2 => packet.magic = [0x00, 0x81, b'g', 0xff][maker.draw.below(4)],
        // The parts are longer than the body.
        3 => (packet.extras, packet.body_len) = (vec![0; 8], Some(maker.draw.below(8) as u32)),
        // More extras than any command has.
        4 => (packet.opcode, packet.extras) = (0x01, vec![1; 9 + maker.draw.below(90)]),
        5 => (packet.opcode, packet.extras, packet.value) = (0x05, vec![0; 20], b"value".to_vec()),
        6 => (packet.opcode, packet.value, packet.body_len) = (0x0e, b"part".to_vec(), Some(100_000)),
        7 => packet.opcode = [0x0a, 0x0b, 0x08, 0x07, 0x20][maker.draw.below(5)],
        _ => {
            let length = 251 + maker.draw.below(700);
            (packet.opcode, packet.key) = (0x0c, vec![b'k'; length]);
            piece.key = None;
        }
    }
    let closes = matches!(piece.packet.opcode, 0x07 | 0x17) && piece.packet.extras.is_empty();
    if closes && maker.draw.chance(2, 3) {
        piece.key = None;
    }
    good(piece, true)
}
