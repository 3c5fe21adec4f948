//! What is remembered of evicted items: who they were and how hot, two bytes each, so that one that comes back soon is
//! known.
//!
//! A bucket is one cache line of 32 words: a hand and 31 marks. A mark is 12 bits of the key's hash and the 4 bits of
//! heat; 0 is none. A new mark takes the place of the bucket's oldest. About one key in 130 is taken for another's
//! mark, which costs that item's better place for somebody else and nothing more.
//!
//! It remembers one to two times as many items as are held, as far as it has room: what was evicted longer ago says
//! little. So with long items it uses a half, a quarter, ... of its buckets.
//!
//! Invariant: its size is fixed at start. Read first: Yang, Zhang et al., "FIFO queues are all you need for cache
//! eviction" (SOSP 2023), whose ghost queue this is, with a count.

use crate::key::KeyHash;
use crate::store::memory::{LINE_BYTES, Memory};

/// Words of a bucket.
const WORDS: usize = LINE_BYTES / 2;

/// Marks of evicted items, in `buckets` lines from `address` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ghost {
    address: usize,
    /// All buckets.
    buckets: u32,
    /// Those in use.
    used: u32,
}

impl Ghost {
    /// A ghost in the `bytes` bytes from `address` on, all zero. With less than a line it remembers nothing.
    pub(crate) fn new(address: usize, bytes: usize) -> Ghost {
        let buckets = (bytes / LINE_BYTES) as u32;
        Ghost { address, buckets, used: buckets }
    }

    /// Fits what is in use to the number of items held. What was remembered is as good as forgotten when that changes,
    /// which takes twice or half as many items.
    pub(crate) fn fit(&mut self, items: u64) {
        let marks = u64::from(self.used) * (WORDS as u64 - 1);
        if marks > items * 5 / 2 && self.used > 1 {
            self.used /= 2;
        } else if marks < items && self.used < self.buckets {
            self.used = (self.used * 2).min(self.buckets);
        }
    }

    /// Remembers the key of `hash` with `heat`.
    pub(crate) fn remember(&self, memory: &mut Memory, hash: KeyHash, heat: u8) {
        if self.buckets == 0 {
            return;
        }
        let words = memory.bytes_mut(self.bucket(hash), LINE_BYTES);
        let hand = usize::from(words[0]) % (WORDS - 1) + 1;
        words[0] = hand as u8;
        words[hand * 2..][..2].copy_from_slice(&(tag(hash) | u16::from(heat & 15)).to_le_bytes());
    }

    /// Forgets the key of `hash`; its heat when it was remembered.
    pub(crate) fn recall(&self, memory: &mut Memory, hash: KeyHash) -> Option<u8> {
        if self.buckets == 0 {
            return None;
        }
        let words = memory.bytes_mut(self.bucket(hash), LINE_BYTES);
        let mut marks = words.as_chunks_mut::<2>().0.iter_mut().skip(1);
        let mark = marks.find(|mark| u16::from_le_bytes(**mark) & 0xfff0 == tag(hash))?;
        Some((u16::from_le_bytes(std::mem::take(mark)) & 15) as u8)
    }

    fn bucket(&self, hash: KeyHash) -> usize {
        let nth = (u64::from(hash.home_bits()) * u64::from(self.used)) >> 32;
        self.address + nth as usize * LINE_BYTES
    }
}

/// 12 bits of the hash that are not all 0, above the heat's four.
fn tag(hash: KeyHash) -> u16 {
    match hash.tag_bits() & 0xfff0 {
        0 => 0x10,
        tag => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyHasher;

    #[test]
    fn a_key_is_remembered_once_until_others_take_its_place() {
        let mut memory = Memory::new(1, 12).unwrap();
        let ghost = Ghost::new(1024, 1024);
        let hasher = KeyHasher::new([3; 16]);
        let hash = |n: u32| hasher.hash(&n.to_le_bytes());
        for n in 0..400 {
            ghost.remember(&mut memory, hash(n), (n % 16) as u8);
        }
        let recalled = (0..400).filter(|&n| ghost.recall(&mut memory, hash(n)) == Some((n % 16) as u8)).count();
        assert!(recalled > 350, "{recalled} of 400 in 496 places");
        assert!((0..400).filter(|&n| ghost.recall(&mut memory, hash(n)).is_some()).count() < 4);
        for n in 0..100_000 {
            ghost.remember(&mut memory, hash(n), 1);
        }
        assert_eq!((0..99_000).filter(|&n| ghost.recall(&mut memory, hash(n)).is_some()).count() / 1000, 0);
        assert!(memory.bytes(0, 1024).iter().chain(memory.bytes(2048, 2048)).all(|&byte| byte == 0));
    }

    #[test]
    fn it_remembers_about_as_many_as_are_held() {
        let mut ghost = Ghost::new(0, 64 << 10);
        let marks = |ghost: &Ghost| u64::from(ghost.used) * 31;
        for items in [30_000, 10_000, 3_000, 100, 500, 9_000, 31_000] {
            (0..20).for_each(|_| ghost.fit(items));
            assert!(marks(&ghost) >= items.min(31 << 9) && marks(&ghost) <= (items * 5 / 2).max(31), "{items}");
        }
        let before = ghost.used;
        ghost.fit(20_000);
        assert_eq!(ghost.used, before, "no change for a third less");
    }

    #[test]
    fn a_ghost_of_no_bytes_remembers_nothing() {
        let mut memory = Memory::new(1, 12).unwrap();
        let (ghost, hash) = (Ghost::new(0, 0), KeyHasher::new([1; 16]).hash(b"k"));
        ghost.remember(&mut memory, hash, 3);
        assert_eq!(ghost.recall(&mut memory, hash), None);
    }
}
