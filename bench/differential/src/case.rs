//! A case: a few keys, a few connections one after the other, and the operations on each.
//!
//! An operation is not yet bytes: keys are numbers and a cas unique is "the one last seen for key k", which differs
//! from target to target. `Case::render` makes bytes of it.

use std::ops::Range;

use crate::base64;
use crate::draw::Draw;
use crate::normalize::Uniques;
use crate::packet::Packet;

/// Number of a key within its case.
pub type KeyId = usize;

/// A part of an operation's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As they are.
    Bytes(Vec<u8>),
    /// The name of a key.
    Key(KeyId),
    /// A packet of the binary protocol.
    Packet(PacketPiece),
    /// The name of a key, in base64.
    EncodedKey(KeyId),
    /// A cas unique, in decimal.
    Cas(CasOf),
    /// The same behind the letter of a meta flag.
    FlaggedCas(CasOf),
}

/// A packet whose key and unique depend on case and target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketPiece {
    /// The rest of it, and key or unique where the others do not say more.
    pub packet: Packet,
    /// Its key.
    pub key: Option<KeyId>,
    /// Its unique.
    pub cas: CasOf,
}

/// Which unique is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasOf {
    /// The packet's own.
    Packet,
    /// The one that this target last sent for a key; a number no target gives out when it sent none.
    Last(KeyId),
    /// The one before that: of an older version of the item, which must not match.
    Stale(KeyId),
}

/// Bytes of requests in one datagram: with the frame header it fits a packet of Ethernet.
pub const DATAGRAM_MAX_BYTES: usize = 1464;

/// A Noop, which lets all replies so far leave; see [`Operation::fenced`].
pub const PACKET_FENCE: &[u8] = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\xfe\0\0\0\0\0\0\0\0\0\0\0";

/// A command without reply and without effect on items, see [`Operation::fenced`].
pub const FENCE: &[u8] = b"verbosity 0 noreply\r\n";

/// One request as it goes out, body included; bad input is an operation too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// [`FENCE`] goes out first. memcached's own answer to this operation would otherwise depend on whether the reply
    /// before it has left already; see [`memcached`](crate::memcached).
    pub fenced: bool,
    /// Its parts.
    pub pieces: Vec<Piece>,
    /// Over UDP: a datagram begins with it.
    pub begins: bool,
    /// Over UDP: a value that is not whole, for which memcached waits until other datagrams have filled it.
    pub incomplete: bool,
}

impl Operation {
    /// A store that shows nothing: memcached gives the first value that a line stores, where a packet came before, the
    /// unique that it last showed in a packet.
    pub fn forget_unique() -> Self {
        let bytes = b"set _ 0 0 0 noreply\r\n\r\n".to_vec();
        Self { begins: true, ..Self::new(vec![Piece::Bytes(bytes)]) }
    }

    /// Puts spaces in place of `text`, so that as many bytes are sent as before.
    pub fn blank(&mut self, text: &[u8]) {
        for piece in &mut self.pieces {
            if let Piece::Bytes(bytes) = piece {
                *bytes = replaced(bytes, text, &vec![b' '; text.len()]);
            }
        }
    }

    /// These parts, as they are.
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self { fenced: false, pieces, begins: false, incomplete: false }
    }
}

/// How the bytes of a leg are cut on their way to the target under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// All at once.
    Whole,
    /// Pieces of 1 to `most` bytes, drawn from `seed`.
    Pieces {
        /// Longest piece, in bytes.
        most: usize,
        /// Seed of the lengths.
        seed: u64,
    },
}

impl Split {
    /// Cuts `bytes`.
    pub fn cut(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Split::Whole => vec![bytes],
            Split::Pieces { most, seed } => {
                let (mut draw, mut rest, mut pieces) = (Draw::new(seed, 0), bytes, Vec::new());
                while !rest.is_empty() {
                    let (piece, left) = rest.split_at((draw.below(most) + 1).min(rest.len()));
                    pieces.push(piece);
                    rest = left;
                }
                pieces
            }
        }
    }
}

/// One connection's operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// In order.
    pub operations: Vec<Operation>,
    /// How they arrive.
    pub split: Split,
    /// They go out as datagrams.
    pub udp: bool,
}

/// What the connections of a case speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Protocol {
    /// The classic text protocol.
    #[default]
    Text,
    /// Meta commands, with classic ones in between.
    Meta,
    /// The binary protocol.
    Binary,
    /// All of these in datagrams.
    Udp,
}

/// Connections one after the other on a cache that is flushed first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Which case of the campaign: `(seed, index)` makes it again.
    pub index: u64,
    /// Length of each key's name, in bytes.
    pub key_lengths: Vec<usize>,
    /// Names that no other case and no other attempt uses. Needed where a flush can bring back what an older flush hid.
    pub unique: bool,
    /// How often this case has been played.
    pub attempt: u64,
    /// The connections.
    pub legs: Vec<Leg>,
}

impl Case {
    /// The name of a key, if the case has one of this number.
    pub fn known_key(&self, id: KeyId) -> Option<Vec<u8>> {
        (id < self.key_lengths.len()).then(|| self.key(id))
    }

    /// The name of key `id`.
    pub fn key(&self, id: KeyId) -> Vec<u8> {
        const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let length = self.key_lengths[id].max(1);
        let mut name = Vec::with_capacity(length);
        if self.unique {
            let mut serial = self.index.wrapping_mul(10_000).wrapping_add(self.attempt);
            while name.len() + 1 < length && name.len() < 8 {
                name.push(ALPHABET[(serial % 36) as usize]);
                serial /= 36;
            }
        }
        while name.len() + 1 < length {
            name.push(ALPHABET[(id * 7 + name.len()) % 36]);
        }
        name.push(b'A' + (id % 26) as u8);
        name
    }

    /// Replies to this attempt, with the names that the first attempt's would have: so they are alike over attempts.
    pub fn of_first_attempt(&self, replies: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (first, mut replies) = (Case { attempt: 0, legs: Vec::new(), ..self.clone() }, replies.to_vec());
        for id in (0..self.key_lengths.len()).filter(|_| self.unique) {
            let (name, of_first) = (self.key(id), first.key(id));
            let encoded = [&name, &of_first].map(|name| base64::encode(name));
            for reply in &mut replies {
                *reply = replaced(&replaced(reply, &name, &of_first), &encoded[0], &encoded[1]);
            }
        }
        replies
    }

    /// Appends the bytes of `operation`, with the cas uniques that the target has shown.
    pub fn render(&self, operation: &Operation, uniques: &Uniques, out: &mut Vec<u8>) {
        /// No server gives out so high a unique within a test.
        const NEVER_GIVEN: u64 = 7_777_777_777_777_777_777;
        let unique = |cas: CasOf, own: u64| match cas {
            CasOf::Packet => own,
            CasOf::Last(id) => uniques.last(&self.key(id)).unwrap_or(NEVER_GIVEN),
            CasOf::Stale(id) => uniques.stale(&self.key(id)).unwrap_or(NEVER_GIVEN),
        };
        if operation.fenced {
            let packets = matches!(operation.pieces.first(), Some(Piece::Packet(_)));
            out.extend_from_slice(if packets { PACKET_FENCE } else { FENCE });
        }
        for piece in &operation.pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::Packet(PacketPiece { packet, key, cas }) => {
                    let mut packet = packet.clone();
                    if let Some(id) = key {
                        packet.key = self.key(*id);
                    }
                    packet.cas = unique(*cas, packet.cas);
                    out.extend_from_slice(&packet.encode());
                }
                Piece::Key(id) => out.extend_from_slice(&self.key(*id)),
                Piece::EncodedKey(id) => out.extend_from_slice(&base64::encode(&self.key(*id))),
                Piece::Cas(cas) => out.extend_from_slice(unique(*cas, 0).to_string().as_bytes()),
                Piece::FlaggedCas(cas) => out.extend_from_slice(format!("C{}", unique(*cas, 0)).as_bytes()),
            }
        }
    }

    /// The most bytes that `operation` can have, whatever uniques the target has shown.
    fn most_bytes(&self, operation: &Operation) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Key(id) => self.key_lengths[*id],
            Piece::EncodedKey(id) => self.key_lengths[*id].div_ceil(3) * 4,
            Piece::Packet(PacketPiece { packet, key, .. }) => {
                24 + packet.extras.len() + packet.value.len() + key.map_or(packet.key.len(), |id| self.key_lengths[id])
            }
            Piece::Cas(_) | Piece::FlaggedCas(_) => 21,
        };
        let fence = if operation.fenced { PACKET_FENCE.len().max(FENCE.len()) } else { 0 };
        fence + operation.pieces.iter().map(of).sum::<usize>()
    }

    /// The requests of a leg that goes out as datagrams. Which operations share one depends on the case alone; one that
    /// may be too long for a datagram is left out, and so are values that are not whole, unless they are asked for; a
    /// request may be empty then.
    pub fn datagrams(&self, leg: &Leg, uniques: &Uniques, with_incomplete: bool) -> Vec<Vec<u8>> {
        let (mut datagrams, mut most): (Vec<Vec<u8>>, usize) = (Vec::new(), usize::MAX);
        let mut ends = true;
        for operation in &leg.operations {
            let bytes = self.most_bytes(operation);
            if bytes > DATAGRAM_MAX_BYTES {
                continue;
            }
            if ends || operation.begins || most.saturating_add(bytes) > DATAGRAM_MAX_BYTES {
                datagrams.push(Vec::new());
                most = 0;
            }
            most += bytes;
            ends = operation.incomplete;
            if let Some(datagram) = datagrams.last_mut()
                && (with_incomplete || !operation.incomplete)
            {
                self.render(operation, uniques, datagram);
            }
        }
        datagrams
    }

    /// How many operations there are in all legs.
    pub fn len(&self) -> usize {
        self.legs.iter().map(|leg| leg.operations.len()).sum()
    }

    /// There are no operations.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same case without the operations whose numbers (counted over all legs) lie in `range`.
    pub fn without(&self, range: Range<usize>) -> Case {
        let (mut case, mut number) = (self.clone(), 0);
        for leg in &mut case.legs {
            leg.operations.retain(|_| {
                number += 1;
                !range.contains(&(number - 1))
            });
        }
        case.legs.retain(|leg| !leg.operations.is_empty());
        case
    }

    /// The last operation.
    pub fn last(&self) -> Option<&Operation> {
        self.legs.last().and_then(|leg| leg.operations.last())
    }
}

/// `bytes` with `to` in place of each `from`, which is not empty.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// Bytes as a person reads them: escaped, long runs shortened, one line a line.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        out.push_str("    ");
        if line.len() > 300 {
            out.push_str(&format!("{}...({} bytes)", line[..120].escape_ascii(), line.len()));
            out.push_str(&line[line.len() - 8..].escape_ascii().to_string());
        } else {
            out.push_str(&line.escape_ascii().to_string());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(unique: bool) -> Case {
        let operation = |byte: u8| Operation::new(vec![Piece::Bytes(vec![byte])]);
        let leg =
            |range: Range<u8>| Leg { operations: range.map(operation).collect(), split: Split::Whole, udp: false };
        Case { index: 3, key_lengths: vec![1, 9, 250], unique, attempt: 0, legs: vec![leg(0..3), leg(3..5)] }
    }

    #[test]
    fn keys_have_their_lengths_and_unique_ones_change_with_the_attempt() {
        let mut case = case(true);
        let before: Vec<_> = (0..3).map(|id| case.key(id)).collect();
        assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [1, 9, 250]);
        case.attempt = 1;
        assert_ne!(before[1], case.key(1));
        case.unique = false;
        let shared = case.key(1);
        case.attempt = 2;
        assert_eq!(shared, case.key(1));
    }

    #[test]
    fn operations_are_removed_by_number_over_all_legs() {
        let case = case(false).without(1..4);
        assert_eq!((case.len(), case.legs.len()), (2, 2));
        assert_eq!(case.legs[1].operations[0].pieces, [Piece::Bytes(vec![4])]);
        assert_eq!(case.without(1..2).legs.len(), 1);
    }

    #[test]
    fn cut_pieces_add_up_to_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for most in [1, 2, 300] {
            assert_eq!(Split::Pieces { most, seed: 1 }.cut(&bytes).concat(), bytes);
        }
        assert_eq!(Split::Pieces { most: 1, seed: 1 }.cut(&bytes).len(), 256);
    }
}
