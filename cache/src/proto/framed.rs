//! A reply that is framed by its request: meta's, which repeats what the flags ask for, and binary's packet.
//!
//! A text reply says all by itself; these need something of the request when the outcome is known, which may be much
//! later: its letters, opaque and key. [`Head`] is the part of fixed size, [`View`] all of it together.

use arrayvec::ArrayVec;

use super::base64::ENCODED_KEY_MAX_BYTES;
use super::binary;
use super::meta::{FLAGS_MAX, OPAQUE_MAX_BYTES};
use super::reply::Line;

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

/// What a meta command shows of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The cas unique.
    pub(crate) cas: u64,
    /// The client's flags.
    pub(crate) flags: u32,
    /// Bytes of the value.
    pub(crate) len: u32,
    /// Seconds left where t stands; `u32::MAX` and no `expires`: never. Below 0 it wraps, as in memcached.
    pub(crate) ttl: u32,
    /// Whether it expires, where t stands.
    pub(crate) expires: bool,
    /// Seconds since it was last asked for, before this time.
    pub(crate) idle: u32,
    /// It was asked for before.
    pub(crate) hit: bool,
    /// Its key was sent as base64.
    pub(crate) base64: bool,
    /// It is stale.
    pub(crate) stale: bool,
    /// Another client has been told to renew it.
    pub(crate) token_sent: bool,
    /// This client is to renew it.
    pub(crate) won: bool,
}

impl Seen {
    /// What is shown of no item.
    pub(crate) const NOTHING: Seen = Seen {
        cas: 0,
        flags: 0,
        len: 0,
        ttl: u32::MAX,
        expires: false,
        idle: 0,
        hit: false,
        base64: false,
        stale: false,
        token_sent: false,
        won: false,
    };

    /// The number counted: it lies in the fields of flags and length.
    pub(crate) fn number(&self) -> u64 {
        u64::from(self.flags) << 32 | u64::from(self.len)
    }
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
