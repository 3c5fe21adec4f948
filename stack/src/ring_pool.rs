//! `RingPool`: larger rings, for flows that move much, out of one bounded memory.
//!
//! Two classes, each a fixed number of sockets whose rings lie in a map of which only what was used takes memory. A flow
//! that gets one swaps its set with the place's, which keeps the flow's own socket until it comes back. Nothing is
//! allocated after the start.

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer};

use crate::clock::Time;
use crate::config::ConfigError;

/// A class of rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// 64 KiB each way: what arrives in a turn, a value of some tens of kilobytes.
    Medium,
    /// A little above 1 MiB each way: the largest value at once.
    Large,
}

impl Class {
    const ALL: [Self; 2] = [Self::Medium, Self::Large];

    /// Receive and transmit ring. The former is not above 65,535 where smoltcp is not to shift windows.
    const fn rings(self) -> (usize, usize) {
        match self {
            Self::Medium => (65_535, 65_536),
            Self::Large => (LARGE, LARGE),
        }
    }

    /// Bytes of both rings.
    pub(crate) const fn bytes(self) -> usize {
        let (rx, tx) = self.rings();
        rx + tx
    }

    /// How much of the pool's memory the class gets: a quarter, and the rest.
    const fn share(self, memory: usize) -> usize {
        match self {
            Self::Medium => memory / 4,
            Self::Large => memory - memory / 4,
        }
    }
}

/// 1 MiB and 64 KiB: a value of 1 MiB with its line.
const LARGE: usize = (1 << 20) + (64 << 10);

/// A place of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) class: Class,
    number: u16,
}

/// The rings of a place, or, while a flow has these, the flow's own.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) set: SocketSet<'static>,
    pub(crate) handle: SocketHandle,
    /// The flow that has them.
    pub(crate) owner: Option<u32>,
    /// What the flow had sent and received when last looked at, and when that was.
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) at: Time,
}

/// All places.
#[derive(Debug)]
pub(crate) struct RingPool {
    places: [Vec<Rings>; 2],
    free: [Vec<u16>; 2],
    /// The place that is looked at next, and how many flows have.
    next: usize,
    taken: usize,
}

impl RingPool {
    /// A pool of as many places as `memory` bytes hold; of none where that is less than one of each class.
    ///
    /// # Errors
    /// The kernel has no such stretch of addresses.
    pub(crate) fn new(memory: usize) -> Result<Self, ConfigError> {
        let mut pool = Self { places: [Vec::new(), Vec::new()], free: [Vec::new(), Vec::new()], next: 0, taken: 0 };
        for class in Class::ALL {
            let count = (class.share(memory) / class.bytes()).min(usize::from(u16::MAX));
            if count == 0 {
                continue;
            }
            let (rx, tx) = class.rings();
            let map = cpu::Map::sparse(count * class.bytes()).map_err(|_| ConfigError::ConnMemory { bytes: memory })?;
            let mut left: &'static mut [u8] = &mut Box::leak(Box::new(map))[..];
            for _ in 0..count {
                let (receive, rest) = left.split_at_mut(rx);
                let (transmit, rest) = rest.split_at_mut(tx);
                left = rest;
                pool.places[class as usize].push(rings(receive, transmit));
            }
            pool.free[class as usize] = (0..count as u16).rev().collect();
        }
        Ok(pool)
    }

    /// Whether there is a pool at all.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        !self.places[0].is_empty()
    }

    /// Whether a place of the class is free.
    #[inline]
    pub(crate) fn has_free(&self, class: Class) -> bool {
        !self.free[class as usize].is_empty()
    }

    /// Takes a place for the flow.
    pub(crate) fn take(&mut self, class: Class, owner: u32) -> Option<Place> {
        let number = self.free[class as usize].pop()?;
        let place = Place { class, number };
        self.rings(place).owner = Some(owner);
        self.taken += 1;
        Some(place)
    }

    /// Takes a place back.
    pub(crate) fn give_back(&mut self, place: Place) {
        self.rings(place).owner = None;
        self.taken -= 1;
        self.free[place.class as usize].push(place.number);
    }

    /// What lies at the place.
    pub(crate) fn rings(&mut self, place: Place) -> &mut Rings {
        &mut self.places[place.class as usize][usize::from(place.number)]
    }

    /// What lies at two places of different classes.
    pub(crate) fn both(&mut self, medium: Place, large: Place) -> (&mut Rings, &mut Rings) {
        let [mediums, larges] = &mut self.places;
        (&mut mediums[usize::from(medium.number)], &mut larges[usize::from(large.number)])
    }

    /// The next place in turn that a flow has, if the one that is looked at is had by one.
    pub(crate) fn next_taken(&mut self) -> Option<(Place, u32)> {
        let all = self.places[0].len() + self.places[1].len();
        if self.taken == 0 {
            return None;
        }
        self.next = (self.next + 1) % all;
        let (class, number) = match self.next.checked_sub(self.places[0].len()) {
            None => (Class::Medium, self.next),
            Some(number) => (Class::Large, number),
        };
        let owner = self.places[class as usize][number].owner?;
        Some((Place { class, number: number as u16 }, owner))
    }

    /// Places that flows have.
    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes of the rings that flows have.
    pub(crate) fn bytes_taken(&self) -> usize {
        let taken = |class: Class| self.places[class as usize].len() - self.free[class as usize].len();
        Class::ALL.iter().map(|&class| taken(class) * class.bytes()).sum()
    }

    /// Bytes of all rings.
    pub(crate) fn bytes(&self) -> usize {
        Class::ALL.iter().map(|&class| self.places[class as usize].len() * class.bytes()).sum()
    }
}

fn rings(rx: &'static mut [u8], tx: &'static mut [u8]) -> Rings {
    let storage: &'static mut [SocketStorage<'static>; 1] = Box::leak(Box::new([SocketStorage::EMPTY]));
    let mut set = SocketSet::new(&mut storage[..]);
    let handle = set.add(Socket::new(SocketBuffer::new(rx), SocketBuffer::new(tx)));
    Rings { set, handle, owner: None, sent: 0, received: 0, at: Time::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_and_come_back_within_the_memory() {
        let mut pool = RingPool::new(8 << 20).expect("8 MiB of addresses");
        assert!(pool.bytes() <= 8 << 20);
        let medium: Vec<_> = std::iter::from_fn(|| pool.take(Class::Medium, 7)).collect();
        let large: Vec<_> = std::iter::from_fn(|| pool.take(Class::Large, 8)).collect();
        assert_eq!((medium.len(), large.len()), (16, 2));
        assert_eq!(pool.bytes_taken(), pool.bytes());
        for place in medium.into_iter().chain(large) {
            pool.give_back(place);
        }
        assert_eq!((pool.taken(), pool.bytes_taken(), pool.next_taken()), (0, 0, None));
    }

    #[test]
    fn too_little_memory_is_no_pool() {
        assert!(!RingPool::new(0).expect("nothing to map").is_there());
    }
}
