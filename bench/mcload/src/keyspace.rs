//! The keys of a run and the one value each may hold.
//!
//! Name, flags, length and bytes of a key's value are functions of its number and the seed, so that any reply can be
//! checked without remembering what was written, whichever worker wrote it last. A value is eight bytes that no other
//! key has, then a slice of one pool of random bytes made at start, so that checking is comparing with bytes that are
//! there.

use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::sizes::{MAX_KEY_BYTES, Size};

/// Number of one key, from 0 up to [`Keyspace::keys`].
pub type KeyNumber = u64;

/// Bytes at the front of a value that belong to its key alone.
pub const MARK_BYTES: usize = 8;
/// Where in the pool values may begin: few enough places that small values are all found in the first-level cache.
const POOL_PLACES: u64 = 16 * 1024;

/// All keys of a run. Cheap to clone: the pool is shared.
#[derive(Debug, Clone)]
pub struct Keyspace {
    keys: u64,
    key_size: Size,
    value_size: Size,
    seed: u64,
    pool: Arc<[u8]>,
}

/// The value of one key: its mark, then its part of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    mark: [u8; MARK_BYTES],
    pool: &'a [u8],
    length: usize,
}

impl<'a> Value<'a> {
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the value has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes that belong to this key alone.
    #[inline]
    pub fn mark(&self) -> &[u8] {
        &self.mark[..self.length.min(MARK_BYTES)]
    }

    /// The bytes after the mark.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.pool
    }

    /// How many of `bytes` are the value's bytes from position `at` on: all of them, or up to the first wrong one.
    #[inline]
    pub fn matches(&self, at: usize, bytes: &[u8]) -> usize {
        let mark = self.mark().get(at..).unwrap_or(&[]);
        let (front, back) = bytes.split_at(mark.len().min(bytes.len()));
        let rest = self.pool.get((at + front.len()).saturating_sub(MARK_BYTES)..).unwrap_or(&[]);
        let wanted = &rest[..rest.len().min(back.len())];
        if &mark[..front.len()] == front && wanted == back {
            return bytes.len();
        }
        let right = |wanted: &[u8], found: &[u8]| wanted.iter().zip(found).take_while(|(a, b)| a == b).count();
        let in_front = right(mark, front);
        if in_front < front.len() { in_front } else { in_front + right(rest, back) }
    }

    /// The bytes from position `at` on, at most `most`, to be shown.
    pub fn copy(&self, at: usize, most: usize) -> Vec<u8> {
        self.mark().iter().chain(self.pool).skip(at).take(most).copied().collect()
    }
}

impl Keyspace {
    /// `keys` keys with names and values of such lengths, the values depending on `seed`.
    ///
    /// A fixed key length must be at least [`Keyspace::digits`] of `keys`, or keys would share a name, and at most
    /// [`MAX_KEY_BYTES`]; the command line checks.
    pub fn new(keys: u64, key_size: Size, value_size: Size, seed: u64) -> Self {
        let mut pool = vec![0; POOL_PLACES as usize + value_size.longest_value()];
        Xoshiro256PlusPlus::seed_from_u64(seed).fill_bytes(&mut pool);
        Self { keys, key_size, value_size, seed, pool: pool.into() }
    }

    /// Digits that the numbers of `keys` keys need.
    pub fn digits(keys: u64) -> usize {
        keys.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How long keys are.
    pub fn key_size(&self) -> Size {
        self.key_size
    }

    /// How long values are.
    pub fn value_size(&self) -> Size {
        self.value_size
    }

    /// Appends the name of key `number`: its digits, right-aligned behind `k`s.
    #[inline]
    pub fn put_key(&self, number: KeyNumber, out: &mut Vec<u8>) {
        const FILL: [u8; MAX_KEY_BYTES] = [b'k'; MAX_KEY_BYTES];
        let length = match self.key_size {
            Size::Fixed(bytes) => bytes,
            size => size.key(mix(self.seed.rotate_left(16) ^ mix(number))),
        };
        out.extend_from_slice(&FILL[..length]);
        let end = out.len();
        put_number(number, &mut out[end - length..]);
    }

    /// The client flags that key `number` is stored with.
    #[inline]
    pub fn flags(&self, number: KeyNumber) -> u32 {
        (mix(self.seed ^ mix(number)) >> 32) as u32
    }

    /// The value of key `number`.
    #[inline]
    pub fn value(&self, number: KeyNumber) -> Value<'_> {
        // Both steps of the mark are one-to-one: no two keys share it.
        let mark = mix(self.seed.rotate_left(32) ^ mix(number));
        let length = match self.value_size {
            Size::Fixed(bytes) => bytes,
            size => size.value(mix(mark ^ self.seed.rotate_left(48))),
        };
        let place = (mark % POOL_PLACES) as usize;
        let pool = &self.pool[place..place + length.saturating_sub(MARK_BYTES)];
        Value { mark: mark.to_le_bytes(), pool, length }
    }
}

/// Writes a key's number at the right end of `key`, over what is there.
#[inline]
pub fn put_number(number: KeyNumber, key: &mut [u8]) {
    let mut rest = number;
    for place in key.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): one-to-one, and every input bit moves every output bit.
#[inline]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(keyspace: &Keyspace, number: u64) -> Vec<u8> {
        let mut key = Vec::new();
        keyspace.put_key(number, &mut key);
        key
    }

    #[test]
    fn every_key_has_its_own_name_of_the_asked_length() {
        for (size, lengths) in [(Size::Fixed(3), 3..=3), (Size::Etc, 10..=250)] {
            let keyspace = Keyspace::new(1_000, size, Size::Fixed(0), 7);
            let mut seen = HashSet::new();
            for number in 0..1_000 {
                let key = key(&keyspace, number);
                assert!(lengths.contains(&key.len()));
                assert!(seen.insert(key));
            }
        }
        assert_eq!(key(&Keyspace::new(1_000, Size::Fixed(5), Size::Fixed(0), 7), 42), b"kkk42");
    }

    #[test]
    fn digits_count_the_last_number_not_the_count() {
        assert_eq!([1, 10, 11, 1_000, 1_001].map(Keyspace::digits), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn values_depend_on_key_and_seed_and_have_the_asked_length() {
        let value =
            |number, seed| Keyspace::new(10, Size::Fixed(8), Size::Fixed(61), seed).value(number).copy(0, usize::MAX);
        assert_eq!(value(1, 1).len(), 61);
        assert_eq!(value(1, 1), value(1, 1));
        assert_ne!(value(1, 1), value(2, 1));
        assert_ne!(value(1, 1), value(1, 2));
    }

    #[test]
    fn matching_finds_the_first_wrong_byte_wherever_it_is_and_however_the_value_is_split() {
        for length in [0, 1, 7, 8, 9, 40] {
            let keyspace = Keyspace::new(10, Size::Fixed(8), Size::Fixed(length), 3);
            let value = keyspace.value(4);
            let bytes = value.copy(0, usize::MAX);
            assert_eq!((value.len(), bytes.len()), (length, length));
            for from in 0..=length {
                for to in from..=length {
                    assert_eq!(value.matches(from, &bytes[from..to]), to - from, "{length} B, {from}..{to}");
                    for wrong in from..to {
                        let mut bytes = bytes.clone();
                        bytes[wrong] ^= 1;
                        assert_eq!(value.matches(from, &bytes[from..to]), wrong - from);
                    }
                }
            }
            assert_eq!(value.matches(length, b"x"), 0, "a byte beyond the end is wrong");
        }
    }
}
