//! `FlowTable`: from a 4-tuple to the number of its flow, in eight bytes a slot.
//!
//! Open addressing with linear probing and backward-shift deletion; at most two thirds full, mostly half or less, so a miss
//! ends after two to five slots. A slot holds 32 bits of hash and the number; the key itself is in the flow's block, which a match of 32 bits
//! makes worth fetching. The hash is keyed with a secret (folded multiplication), so that a stranger cannot choose
//! 4-tuples that collide.

use cpu::prefetch_index;

use crate::flow_id::FlowKey;

/// The secret part of the hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableHash {
    first: u64,
    second: u64,
}

impl TableHash {
    /// A hash with this secret. Its bits are mixed first: one that is regular, as a test's may be, would make
    /// multiplication by it regular too.
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        Self { first: mix(secret[0]), second: mix(secret[1] ^ 0x6a09_e667_f3bc_c909) }
    }

    /// The hash of `key`.
    #[inline]
    pub(crate) fn of(self, key: &FlowKey) -> u32 {
        let addresses = u64::from(key.remote.to_bits()) << 32 | u64::from(key.local.to_bits());
        let ports = u64::from(key.remote_port) << 16 | u64::from(key.local_port);
        self.of_words(addresses, ports)
    }

    /// The hash of two words.
    #[inline]
    pub(crate) fn of_words(self, one: u64, other: u64) -> u32 {
        let mixed = fold(one ^ self.first, other ^ self.second);
        let mixed = fold(mixed ^ self.second, self.first | 1);
        (mixed ^ mixed >> 32) as u32
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The product's halves, added bit by bit.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Numbers of flows by hash. Holds no keys: the caller compares.
#[derive(Debug)]
pub(crate) struct FlowTable {
    /// 0: empty; else hash << 32 | number + 1.
    slots: Vec<u64>,
    mask: usize,
    len: usize,
}

impl FlowTable {
    /// A table for at most `capacity` flows.
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (capacity + capacity / 2).next_power_of_two().max(8);
        Self { slots: vec![0; slots], mask: slots - 1, len: 0 }
    }

    /// Flows in the table.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Asks for the slot of `hash`, to be looked at soon.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        prefetch_index(&self.slots, hash as usize & self.mask);
    }

    /// The number of the first flow with this hash, whatever its key; for prefetching.
    #[inline]
    pub(crate) fn candidate(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// The number of the flow with this hash of which `is_it` says that its key is right.
    #[inline]
    pub(crate) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            let number = slot as u32 - 1;
            if (slot >> 32) as u32 == hash && is_it(number) {
                return Some(number);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Enters a flow that is not there yet. The caller never enters more than the capacity.
    pub(crate) fn insert(&mut self, hash: u32, number: u32) {
        debug_assert!(self.len < self.mask);
        let mut at = hash as usize & self.mask;
        while self.slots[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.slots[at] = u64::from(hash) << 32 | u64::from(number + 1);
        self.len += 1;
    }

    /// Takes a flow out; says whether it was there.
    pub(crate) fn remove(&mut self, hash: u32, number: u32) -> bool {
        let wanted = u64::from(hash) << 32 | u64::from(number + 1);
        let mut hole = hash as usize & self.mask;
        while self.slots[hole] != wanted {
            if self.slots[hole] == 0 {
                return false;
            }
            hole = (hole + 1) & self.mask;
        }
        // Moves back whatever the hole would cut off from its home (Knuth, volume 3, 6.4, algorithm R).
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & self.mask;
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(hole) & self.mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes, so that chains are long, wrap round and share homes.
        #[test]
        fn the_table_agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..12, 0u32..8), 1..400)) {
            let mut table = FlowTable::new(40);
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (add, number, spread) in steps {
                if add && !model.contains_key(&number) {
                    let hash = [0, 1, 126, 127, 128, 255, u32::MAX, 5][spread as usize];
                    table.insert(hash, number);
                    model.insert(number, hash);
                } else if !add && let Some(hash) = model.remove(&number) {
                    prop_assert!(table.remove(hash, number));
                    prop_assert!(!table.remove(hash, number));
                }
                prop_assert_eq!(table.len(), model.len());
                for (&number, &hash) in &model {
                    prop_assert_eq!(table.find(hash, |n| n == number), Some(number));
                }
            }
        }
    }

    /// Clients in a row, ports in a row: what a table must not be confused by, whatever the secret.
    #[test]
    fn neighbours_spread_over_the_table() {
        for secret in [[0; 2], [0x0707_0707_0707_0707; 2], [1, 2], [u64::MAX; 2], [0x0123_4567_89ab_cdef, 99]] {
            let hash = TableHash::new(secret);
            let mut used = vec![0u8; 65_536];
            for number in 0..65_536u32 {
                let key = FlowKey {
                    remote: Ipv4Addr::from_bits(0x0a00_0001 + (number >> 14)),
                    local: Ipv4Addr::new(10, 0, 0, 2),
                    remote_port: 1_024 + (number & 0x3fff) as u16,
                    local_port: 11_211,
                };
                used[hash.of(&key) as usize & 65_535] += 1;
            }
            // Random throws leave 1/e of the bins empty (24,109, give or take 100), and the fullest of them at about 8.
            let empty = used.iter().filter(|&&n| n == 0).count();
            assert!((23_500..24_700).contains(&empty), "{empty} bins empty with {secret:x?}");
            assert!(used.iter().max() < Some(&14), "{secret:x?}");
        }
    }
}
