//! The keyed hash of a key: which shard owns it, and where that shard's index looks.
//!
//! SipHash-1-3 under a secret that no client knows, so that nobody can choose keys that collide. The 64 bits are
//! shared out so that no two users see the same ones:
//!
//! ```text
//!  63        48 47        32 31                     0
//! |   shard    |  index tag  |   index home bucket   |
//! ```
//!
//! Read first: Aumasson and Bernstein, "SipHash: a fast short-input PRF".

use siphasher::sip::SipHasher13;

/// The longest key a client may send, in bytes (`protocol.txt`, "Keys").
pub const KEY_MAX_BYTES: usize = 250;

/// The keyed hash of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// The 64 bits themselves.
    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The bits that pick the home bucket of the index.
    #[inline]
    pub(crate) fn home_bits(self) -> u32 {
        self.0 as u32
    }

    /// The bits that tell keys of one bucket apart without reading the items.
    #[inline]
    pub(crate) fn tag_bits(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// The shard that owns the key, below `shards`; 0 when there are none. At most 65,536 shards are told apart.
    #[inline]
    pub fn shard_of(self, shards: usize) -> usize {
        (((self.0 >> 48) * shards as u64) >> 16) as usize
    }
}

/// A key and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The hash of `bytes`.
    pub hash: KeyHash,
    /// The key itself, at most [`KEY_MAX_BYTES`] bytes.
    pub bytes: &'a [u8],
}

/// The process's keyed hash function. Every core holds a copy with the same secret.
#[derive(Clone)]
pub struct KeyHasher {
    sip: SipHasher13,
}

impl KeyHasher {
    /// A hash under `secret`, which must be random and known to nobody else.
    pub fn new(secret: [u8; 16]) -> KeyHasher {
        let secret = u128::from_le_bytes(secret);
        KeyHasher { sip: SipHasher13::new_with_keys(secret as u64, (secret >> 64) as u64) }
    }

    /// The hash of `key`.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.sip.hash(key))
    }

    /// `bytes` with their hash.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { hash: self.hash(bytes), bytes }
    }
}

impl std::fmt::Debug for KeyHasher {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    #[test]
    fn shards_are_even_and_in_range() {
        let hasher = KeyHasher::new([7; 16]);
        for shards in [1, 2, 3, 4, 7, 64] {
            let mut counts = vec![0u32; shards];
            for n in 0..10_000u32 {
                counts[hasher.hash(&n.to_le_bytes()).shard_of(shards)] += 1;
            }
            let even = 10_000 / shards as u32;
            assert!(counts.iter().all(|&count| count > even * 6 / 10 && count < even * 14 / 10 + 1), "{counts:?}");
        }
    }

    /// Key 00 01 .. 0f and message 00 01 .. 0e, as in the appendix of the paper, for SipHash-1-3.
    #[test]
    fn the_hash_is_siphash_1_3_under_the_secret() {
        let secret: [u8; 16] = std::array::from_fn(|at| at as u8);
        let message: [u8; 15] = std::array::from_fn(|at| at as u8);
        let mut streamed = SipHasher13::new_with_key(&secret);
        streamed.write(&message);
        assert_eq!(KeyHasher::new(secret).hash(&message).bits(), streamed.finish());
    }

    #[test]
    fn the_secret_changes_every_hash_and_is_not_printed() {
        let (one, other) = (KeyHasher::new([1; 16]), KeyHasher::new([2; 16]));
        assert_ne!(one.hash(b"k"), other.hash(b"k"));
        assert_eq!(one.hash(b"k"), one.clone().hash(b"k"));
        assert_eq!(format!("{one:?}"), "KeyHasher { .. }");
    }
}
