//! `ByAddress`: what is known of hosts, by their address, each for a time.
//!
//! A fixed number of places, made at the start: four for each hash of an address, so that a look-up reads few cache lines. Who
//! finds them taken takes that of what is over first. Nobody outside can know which addresses share places.

use std::hash::Hasher;
use std::net::Ipv4Addr;

use siphasher::sip::SipHasher13;

use crate::clock::Time;

/// Hashes, and places for each.
const SETS: usize = 256;
const WAYS: usize = 4;

/// All places.
#[cfg(test)]
pub(crate) const PLACES: usize = SETS * WAYS;

#[derive(Debug, Clone, Copy)]
struct Place<T> {
    /// Whose it is; 0.0.0.0: nobody's.
    address: u32,
    /// When what is known is over.
    until: Time,
    known: T,
}

/// What is known of at most 1,024 hosts.
#[derive(Debug)]
pub(crate) struct ByAddress<T> {
    sets: Box<[[Place<T>; WAYS]]>,
    secret: [u64; 2],
    any: bool,
}

impl<T: Copy + Default> ByAddress<T> {
    /// Nothing known of anybody. `secret`: which addresses share places.
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        let free = Place { address: 0, until: Time::ZERO, known: T::default() };
        Self { sets: vec![[free; WAYS]; SETS].into(), secret, any: false }
    }

    /// Whether anything was ever known of anybody.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.any
    }

    /// What is known of the host, and until when; that may be over.
    pub(crate) fn find(&self, address: Ipv4Addr) -> Option<(T, Time)> {
        let address = address.to_bits();
        let place = self.sets[self.set_of(address)].iter().find(|place| place.address == address)?;
        Some((place.known, place.until))
    }

    /// Notes what is known of the host, until then.
    pub(crate) fn note(&mut self, address: Ipv4Addr, known: T, until: Time) {
        let address = address.to_bits();
        let set = &mut self.sets[self.set_of(address)];
        let own = set.iter().position(|place| place.address == address);
        let first_over = || (0..WAYS).min_by_key(|&number| set[number].until);
        if let Some(number) = own.or_else(first_over) {
            set[number] = Place { address, until, known };
            self.any = true;
        }
    }

    /// Forgets the host: its address is another's from now on.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) {
        let address = address.to_bits();
        let set = self.set_of(address);
        for place in self.sets[set].iter_mut().filter(|place| place.address == address) {
            *place = Place { address: 0, until: Time::ZERO, known: T::default() };
        }
    }

    fn set_of(&self, address: u32) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        hasher.write_u32(address);
        hasher.finish() as usize % SETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0001 + number)
    }

    #[test]
    fn who_is_forgotten_is_no_longer_known_and_the_others_are() {
        let mut hosts = ByAddress::new([1, 2]);
        assert!(!hosts.has_any());
        (1..4).for_each(|number| hosts.note(address(number), number, Time::from_millis(9)));
        assert!(hosts.has_any());
        hosts.note(address(3), 30, Time::from_millis(10));
        hosts.forget(address(2));
        let known = [1, 2, 3].map(|number| hosts.find(address(number)));
        assert_eq!(known, [Some((1, Time::from_millis(9))), None, Some((30, Time::from_millis(10)))]);
    }

    #[test]
    fn places_are_bounded_and_what_is_over_first_gives_way() {
        let mut hosts = ByAddress::new([3, 4]);
        for number in 0..100_000 {
            hosts.note(address(number), (), Time::from_millis(u64::from(number)));
        }
        let kept: Vec<u32> = (0..100_000).filter(|&number| hosts.find(address(number)).is_some()).collect();
        assert_eq!(kept.len(), PLACES);
        // Each hash holds its four newest.
        assert!(kept[0] > 95_000, "one that is over first was kept: {}", kept[0]);
    }
}
