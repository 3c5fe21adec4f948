//! The keys of a run and the one value each may hold.
//!
//! A value is a function of its key's number and the seed, so that any reply can be checked without remembering what
//! was written, whoever wrote it last.

use std::io::Write;

/// Number of one key, from 0 up to [`Keyspace::keys`].
pub type KeyNumber = u64;

/// All keys of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyspace {
    keys: u64,
    key_bytes: usize,
    value_bytes: usize,
    seed: u64,
}

impl Keyspace {
    /// `keys` keys of `key_bytes` bytes, each holding `value_bytes` bytes that depend on `seed`.
    ///
    /// `key_bytes` must be at least [`Keyspace::digits`] of `keys`, or keys would share a name; the command line checks.
    pub fn new(keys: u64, key_bytes: usize, value_bytes: usize, seed: u64) -> Self {
        Self { keys, key_bytes, value_bytes, seed }
    }

    /// Digits that the numbers of `keys` keys need.
    pub fn digits(keys: u64) -> usize {
        keys.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Length of every key, in bytes.
    pub fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Length of every value, in bytes.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Appends the name of key `number`: its digits, right-aligned behind `k`s.
    pub fn write_key(&self, number: KeyNumber, out: &mut Vec<u8>) {
        let fill = self.key_bytes - Self::digits(number + 1).min(self.key_bytes);
        out.resize(out.len() + fill, b'k');
        // Writing to a vector cannot fail.
        let _ = write!(out, "{number}");
    }

    /// The client flags that key `number` is stored with.
    pub fn flags(&self, number: KeyNumber) -> u32 {
        (mix(self.seed ^ mix(number)) >> 32) as u32
    }

    /// Appends the value of key `number`.
    pub fn write_value(&self, number: KeyNumber, out: &mut Vec<u8>) {
        let end = out.len() + self.value_bytes;
        let mut state = mix(self.seed.rotate_left(32) ^ mix(number));
        while out.len() < end {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let word = mix(state).to_le_bytes();
            let wanted = (end - out.len()).min(word.len());
            out.extend_from_slice(&word[..wanted]);
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_has_its_own_name_of_the_asked_length() {
        let keyspace = Keyspace::new(1_000, 3, 0, 7);
        let mut seen = HashSet::new();
        for number in 0..1_000 {
            let mut key = Vec::new();
            keyspace.write_key(number, &mut key);
            assert_eq!(key.len(), 3);
            assert!(seen.insert(key));
        }
    }

    #[test]
    fn digits_count_the_last_number_not_the_count() {
        assert_eq!([1, 10, 11, 1_000, 1_001].map(Keyspace::digits), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn values_depend_on_key_and_seed_and_have_the_asked_length() {
        let value = |number, seed| {
            let mut out = Vec::new();
            Keyspace::new(10, 8, 61, seed).write_value(number, &mut out);
            out
        };
        assert_eq!(value(1, 1).len(), 61);
        assert_eq!(value(1, 1), value(1, 1));
        assert_ne!(value(1, 1), value(2, 1));
        assert_ne!(value(1, 1), value(1, 2));
    }
}
