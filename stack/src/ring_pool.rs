//! `RingPool`: larger rings, for flows that move much, out of one bounded memory.
//!
//! Three classes, each a fixed number of sockets whose rings lie in a map of which only what was used takes memory. A flow
//! that gets one swaps its set with the place's, which keeps the flow's own socket until it comes back. Nothing is
//! allocated after the start.

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer};

use crate::clock::Time;
use crate::config::ConfigError;

/// A class of rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RingClass {
    /// 64 KiB each way: what arrives in a turn, a value of some tens of kilobytes.
    Medium,
    /// A little above 1 MiB each way: the largest value at once.
    Large,
    /// A little above 4 MiB in, and as the class before out: for a client that writes all its requests before it reads.
    Huge,
}

impl RingClass {
    pub(crate) const ALL: [Self; CLASSES] = [Self::Medium, Self::Large, Self::Huge];

    /// Receive and transmit ring. The former is not above 65,535 where smoltcp is not to shift windows.
    pub(crate) const fn rings(self) -> (usize, usize) {
        match self {
            Self::Medium => (65_535, 65_536),
            Self::Large => (LARGE, LARGE),
            Self::Huge => (HUGE, LARGE),
        }
    }

    /// The class of the next smaller rings; `None`: the flow's own.
    pub(crate) const fn before(self) -> Option<Self> {
        match self {
            Self::Medium => None,
            Self::Large => Some(Self::Medium),
            Self::Huge => Some(Self::Large),
        }
    }

    /// Bytes of both rings.
    pub(crate) const fn bytes(self) -> usize {
        let (rx, tx) = self.rings();
        rx + tx
    }

    /// Places of the class in so much memory: a quarter of it, what is left, and an eighth where that is one at least.
    const fn places(self, memory: usize) -> usize {
        match self {
            Self::Medium => memory / 4 / self.bytes(),
            Self::Large => (memory - memory / 4 - Self::Huge.places(memory) * Self::Huge.bytes()) / self.bytes(),
            Self::Huge => memory / 8 / self.bytes(),
        }
    }
}

const CLASSES: usize = 3;

/// 1 MiB and 64 KiB: a value of 1 MiB with its line.
pub(crate) const LARGE: usize = (1 << 20) + (64 << 10);
/// 4 MiB and 64 KiB.
const HUGE: usize = (4 << 20) + (64 << 10);

/// A place of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) class: RingClass,
    number: u16,
}

/// The rings of a place, or, while a flow has these, the flow's own.
#[derive(Debug)]
pub(crate) struct PlaceRings {
    pub(crate) set: SocketSet<'static>,
    pub(crate) handle: SocketHandle,
    /// The flow that has them.
    pub(crate) owner: Option<u32>,
    /// When that flow was last seen to need them, and when it took them.
    pub(crate) needed_at: Time,
    pub(crate) taken_at: Time,
    /// What was acknowledged to it when it took them.
    pub(crate) acknowledged: u32,
    /// Since when what its peer takes is counted, and what was acknowledged then.
    pub(crate) judged_at: Time,
    pub(crate) judged_from: u32,
}

/// Until when rings are short.
#[derive(Debug, Default)]
pub(crate) struct Short {
    pub(crate) until: Time,
    /// The same, for flows that have none.
    pub(crate) first_until: Time,
    /// And for those among them whose peers would take more than their own rings hold.
    pub(crate) missed_until: Time,
}

/// All places.
#[derive(Debug)]
pub(crate) struct RingPool {
    places: [Vec<PlaceRings>; CLASSES],
    free: [Vec<u16>; CLASSES],
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
        let mut pool = Self { places: Default::default(), free: Default::default(), next: 0, taken: 0 };
        for class in RingClass::ALL {
            let count = class.places(memory).min(usize::from(u16::MAX));
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
    pub(crate) fn has_free(&self, class: RingClass) -> bool {
        !self.free[class as usize].is_empty()
    }

    /// Takes a place for the flow.
    pub(crate) fn take(&mut self, class: RingClass, owner: u32) -> Option<Place> {
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
    pub(crate) fn rings(&mut self, place: Place) -> &mut PlaceRings {
        &mut self.places[place.class as usize][usize::from(place.number)]
    }

    /// The flow's own rings pass from the place `from` to the place `to`, which is of a later class.
    pub(crate) fn pass_on(&mut self, from: Place, to: Place) {
        let (earlier, later) = self.places.split_at_mut(to.class as usize);
        let (from, to) =
            (&mut earlier[from.class as usize][usize::from(from.number)], &mut later[0][usize::from(to.number)]);
        std::mem::swap(&mut from.set, &mut to.set);
        std::mem::swap(&mut from.handle, &mut to.handle);
    }

    /// The next place in turn that a flow has, if the one that is looked at is had by one.
    pub(crate) fn next_taken(&mut self) -> Option<(Place, u32)> {
        let all: usize = self.places.iter().map(Vec::len).sum();
        if self.taken == 0 {
            return None;
        }
        self.next = (self.next + 1) % all;
        let mut number = self.next;
        let class = RingClass::ALL.into_iter().find(|&class| {
            let count = self.places[class as usize].len();
            let here = number < count;
            number -= if here { 0 } else { count };
            here
        })?;
        let owner = self.places[class as usize][number].owner?;
        Some((Place { class, number: number as u16 }, owner))
    }

    /// Whether the place that was looked at last was the first in turn.
    pub(crate) fn is_at_first(&self) -> bool {
        self.next == 0
    }

    /// Places that flows have.
    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes of the rings that flows have.
    pub(crate) fn bytes_taken(&self) -> usize {
        let taken = |class: RingClass| self.places[class as usize].len() - self.free[class as usize].len();
        RingClass::ALL.iter().map(|&class| taken(class) * class.bytes()).sum()
    }

    /// Bytes of all rings.
    pub(crate) fn bytes(&self) -> usize {
        RingClass::ALL.iter().map(|&class| self.places[class as usize].len() * class.bytes()).sum()
    }
}

fn rings(rx: &'static mut [u8], tx: &'static mut [u8]) -> PlaceRings {
    let storage: &'static mut [SocketStorage<'static>; 1] = Box::leak(Box::new([SocketStorage::EMPTY]));
    let mut set = SocketSet::new(&mut storage[..]);
    let handle = set.add(Socket::new(SocketBuffer::new(rx), SocketBuffer::new(tx)));
    PlaceRings {
        set,
        handle,
        owner: None,
        needed_at: Time::ZERO,
        taken_at: Time::ZERO,
        acknowledged: 0,
        judged_at: Time::ZERO,
        judged_from: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_and_come_back_within_the_memory() {
        for (memory, counts) in [(8 << 20, [16, 2, 0]), (64 << 20, [128, 20, 1])] {
            let mut pool = RingPool::new(memory).expect("so many addresses");
            assert!(pool.bytes() <= memory);
            let all = RingClass::ALL.map(|class| std::iter::from_fn(|| pool.take(class, 7)).collect::<Vec<_>>());
            assert_eq!(all.each_ref().map(Vec::len), counts);
            assert_eq!(pool.bytes_taken(), pool.bytes());
            let looked_at: std::collections::HashSet<_> = (0..pool.taken())
                .filter_map(|_| pool.next_taken())
                .map(|(place, _)| (place.class as u8, place.number))
                .collect();
            assert_eq!(looked_at.len(), pool.taken(), "each place has its turn");
            for place in all.into_iter().flatten() {
                pool.give_back(place);
            }
            assert_eq!((pool.taken(), pool.bytes_taken(), pool.next_taken()), (0, 0, None));
        }
    }

    #[test]
    fn too_little_memory_is_no_pool() {
        assert!(!RingPool::new(0).expect("nothing to map").is_there());
    }
}
