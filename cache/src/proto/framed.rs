//! A reply that is framed by its request: meta's, which repeats what the flags ask for, and binary's packet.
//!
//! A text reply says all by itself; these need something of the request when the outcome is known, which may be much
//! later: its letters, opaque and key. [`Head`] is the part of fixed size, [`View`] all of it together.

use arrayvec::ArrayVec;

use super::base64::ENCODED_KEY_MAX_BYTES;
use super::binary;
use super::meta::{FLAGS_MAX, OPAQUE_MAX_BYTES};
use super::reply::Line;
use crate::shard::meta::Seen;

/// Bytes of the longest head: `VA`, every flag, the key encoded.
pub(crate) const HEAD_MAX_BYTES: usize =
    3 + 10 + 6 * 22 + 1 + OPAQUE_MAX_BYTES + 2 + ENCODED_KEY_MAX_BYTES + 2 + 6 + 2 + 22;

/// The bytes of a head.
pub(crate) type HeadBytes = ArrayVec<u8, HEAD_MAX_BYTES>;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// mg.
    Get,
    /// ms.
    Set,
    /// md.
    Delete,
    /// ma.
    Arith,
    /// me.
    Debug,
    /// A packet of the binary protocol, with its opcode.
    Packet(u8),
}

/// What is known of a reply, but for its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// How it ended. Stored stands for success of any kind, NotFound for any miss.
    pub(crate) outcome: Line,
    /// The client does not want the nominal answer.
    pub(crate) quiet: bool,
    /// The value is wanted.
    pub(crate) value: bool,
    /// The request's key was base64.
    pub(crate) base64: bool,
    pub(crate) letters: u8,
    pub(crate) opaque: u8,
    pub(crate) key: u8,
    pub(crate) seen: Seen,
}

impl Head {
    /// A head of which nothing is known.
    pub(crate) const EMPTY: Head = Head {
        kind: Kind::Get,
        outcome: Line::NotFound,
        quiet: false,
        value: false,
        base64: false,
        letters: 0,
        opaque: 0,
        key: 0,
        seen: Seen::NOTHING,
    };

    /// Whether the client does not want to see this outcome.
    pub(crate) fn is_hidden(&self) -> bool {
        let nominal = match self.kind {
            Kind::Get => self.outcome == Line::NotFound,
            Kind::Set | Kind::Delete => self.outcome == Line::Stored,
            // A number that was made for it is shown all the same (1.6.18).
            Kind::Arith => self.outcome == Line::Stored && !self.seen.won,
            Kind::Debug => false,
            Kind::Packet(opcode) => binary::hides(opcode, self.outcome),
        };
        self.quiet && nominal
    }
}

/// What a request gives its reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template<'a> {
    pub(crate) kind: Kind,
    pub(crate) quiet: bool,
    pub(crate) value: bool,
    pub(crate) base64: bool,
    /// Letters of the flags, in order.
    pub(crate) letters: &'a [u8],
    /// O with its letter.
    pub(crate) opaque: &'a [u8],
    /// Empty when the reply does not repeat it.
    pub(crate) key: &'a [u8],
}

/// A reply and what its request gave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) head: &'a Head,
    pub(crate) letters: &'a [u8],
    pub(crate) opaque: &'a [u8],
    pub(crate) key: &'a [u8],
}

impl Template<'_> {
    /// Bytes that a template may have beside its head.
    pub(crate) const BYTES_MAX: usize = FLAGS_MAX + OPAQUE_MAX_BYTES + crate::key::KEY_MAX_BYTES;
}
