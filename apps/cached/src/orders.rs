//! `Orders`: what a core is told by others than its clients: to stop, and the few things that `sidestep ctl` asks of it.
//!
//! Invariant: one word a core says whether there is anything, and a core reads it once a turn, as it read before whether to
//! stop; all else is looked at only then. Nobody waits for a core with a lock in the hand, and no core for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;

use cpu::CachePadded;
use crossbeam_queue::ArrayQueue;
use nic::Doorbell;
use stack::FlowLook;

use crate::idle::Idle;
use crate::live_capture::Capture;

/// Orders of one core that wait; more are refused.
const WAITING_MAX: usize = 16;

/// Places of connections that are looked at in one turn.
const LOOKS_PER_TURN: u32 = 64;

/// Places that are looked at for one order, so that it is obeyed in time however many there are.
const LOOKS_PER_ORDER: u32 = 16_384;

/// Bits of a core's word.
const STOP: u8 = 1;
const ORDERS: u8 = 2;

/// Something to be done by a core, between two turns.
#[derive(Debug)]
pub enum Order {
    /// Accept no connection any more, and say that it is so.
    StopListening {
        /// Who wants to know.
        done: Sender<()>,
    },
    /// Keep the shard within so many bytes, and say whether it can.
    MemoryLimit {
        /// Of this shard.
        bytes: usize,
        /// Who wants to know.
        obeyed: Sender<bool>,
    },
    /// Close silent connections so, or not at all.
    CloseIdle(Option<Box<Idle>>),
    /// Tell of connections.
    Connections(Listing),
    /// Record every frame, or none any more, and say that it is so.
    Capture {
        /// The capture.
        capture: Option<Arc<Capture>>,
        /// Who wants to know.
        done: Sender<()>,
    },
}

/// Connections of a core, as they are found.
#[derive(Debug)]
pub struct Listing {
    /// The index of the next place to look at.
    from: u32,
    /// The first place that is left for another order.
    until: u32,
    /// As many as are wanted at most: there is room for them.
    found: Vec<ConnectionLook>,
    to: Sender<Listed>,
}

/// A part of a core's connections.
#[derive(Debug)]
pub struct Listed {
    /// Which there are.
    pub found: Vec<ConnectionLook>,
    /// Where to go on, unless these were the last.
    pub next: Option<u32>,
}

/// A connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLook {
    /// What its stack knows.
    pub look: FlowLook,
    /// For how long it has sent no command.
    pub idle_secs: u32,
}

impl Listing {
    /// Of at most `most` connections, from the place `from` on.
    pub fn new(from: u32, most: usize, to: Sender<Listed>) -> Listing {
        Listing { from, until: from.saturating_add(LOOKS_PER_ORDER), found: Vec::with_capacity(most), to }
    }

    /// Looks at some more of `all` places, by what `seen` says of each. `None` once it was told.
    pub fn go_on(mut self, all: u32, seen: impl Fn(u32) -> Option<ConnectionLook>) -> Option<Listing> {
        let end = self.until.min(all);
        let stop = end.min(self.from.saturating_add(LOOKS_PER_TURN));
        while self.from < stop && self.found.len() < self.found.capacity() {
            self.found.extend(seen(self.from));
            self.from += 1;
        }
        if self.from < end && self.found.len() < self.found.capacity() {
            return Some(self);
        }
        let next = (self.from < all).then_some(self.from);
        // Whoever has asked may have given up.
        let _ = self.to.send(Listed { found: self.found, next });
        None
    }
}

/// One core's.
#[derive(Debug)]
struct Place {
    word: CachePadded<AtomicU8>,
    waiting: ArrayQueue<Order>,
    doorbell: Arc<Doorbell>,
}

/// The orders of all cores. Any thread gives them.
#[derive(Debug)]
pub struct Orders(Box<[Place]>);

impl Orders {
    /// To the cores that these doorbells wake.
    pub fn new(doorbells: &[Arc<Doorbell>]) -> Orders {
        let place = |doorbell: &Arc<Doorbell>| Place {
            word: CachePadded(AtomicU8::new(0)),
            waiting: ArrayQueue::new(WAITING_MAX),
            doorbell: doorbell.clone(),
        };
        Orders(doorbells.iter().map(place).collect())
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.0.len()
    }

    /// Has every core answer what has arrived, and end.
    pub fn stop(&self) {
        for place in &self.0 {
            place.word.0.fetch_or(STOP, Ordering::Relaxed);
            place.doorbell.ring();
        }
    }

    /// Gives a core an order. Returns whether there was room for it.
    pub fn give(&self, core: usize, order: Order) -> bool {
        let Some(place) = self.0.get(core) else { return false };
        if place.waiting.push(order).is_err() {
            return false;
        }
        // Sees the order who sees the bit.
        place.word.0.fetch_or(ORDERS, Ordering::Release);
        place.doorbell.ring();
        true
    }

    /// The first core that has no room for so many orders more.
    pub fn crowded(&self, more: usize) -> Option<usize> {
        (0..self.cores()).find(|&core| self.waiting(core) + more > WAITING_MAX)
    }

    /// Orders that `core` has not taken.
    pub fn waiting(&self, core: usize) -> usize {
        self.0[core].waiting.len()
    }

    /// The next order of `core`, which is looking; what is given from the first on is told of anew.
    pub fn take(&self, core: usize) -> Option<Order> {
        self.0[core].word.0.fetch_and(!ORDERS, Ordering::Acquire);
        self.0[core].waiting.pop()
    }

    /// Has `core` look again after its next turn.
    pub fn look_again(&self, core: usize) {
        self.0[core].word.0.fetch_or(ORDERS, Ordering::Relaxed);
    }

    /// Whether `core` is to do anything but to take turns.
    #[inline]
    pub fn wants(&self, core: usize) -> bool {
        self.0[core].word.0.load(Ordering::Relaxed) != 0
    }

    /// Whether `core` is to end.
    pub fn stops(&self, core: usize) -> bool {
        self.0[core].word.0.load(Ordering::Relaxed) & STOP != 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::mpsc;

    use super::*;

    fn listing(from: u32, most: usize) -> (Listing, mpsc::Receiver<Listed>) {
        let (to, told) = mpsc::channel();
        (Listing::new(from, most, to), told)
    }

    /// A connection at each place that is a multiple of `every`, known by its port.
    fn at(every: u32) -> impl Fn(u32) -> Option<ConnectionLook> {
        move |place| {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, (place % 50_000) as u16));
            let look = FlowLook { peer, state: "ESTAB", unread: 0, unsent: 0, round_trip: None };
            place.is_multiple_of(every).then_some(ConnectionLook { look, idle_secs: place })
        }
    }

    /// The answer, and after how many turns it came.
    fn told(mut listing: Listing, all: u32, every: u32, answer: &mpsc::Receiver<Listed>) -> (u32, Listed) {
        let mut turns = 1;
        while let Some(rest) = listing.go_on(all, at(every)) {
            (listing, turns) = (rest, turns + 1);
        }
        (turns, answer.try_recv().expect("it was told"))
    }

    #[test]
    fn a_list_is_told_in_parts_bounded_by_what_is_found_and_by_what_is_looked_at() {
        let (list, answer) = listing(0, 10);
        let (turns, Listed { found, next }) = told(list, 1_000, 10, &answer);
        let places: Vec<u32> = found.iter().map(|seen| seen.idle_secs).collect();
        assert_eq!(places, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
        assert_eq!((turns, next), (2, Some(91)));
        let (list, answer) = listing(91, 1_000);
        let (turns, Listed { found, next }) = told(list, 1_000, 10, &answer);
        assert_eq!((turns, found.len(), next), (15, 90, None));
        // A million places, nobody there: a part of them at a time.
        let (list, answer) = listing(5, 10);
        let (turns, Listed { found, next }) = told(list, 1_000_000, 2_000_000, &answer);
        assert_eq!((turns, found.len(), next), (LOOKS_PER_ORDER / LOOKS_PER_TURN, 0, Some(5 + LOOKS_PER_ORDER)));
        let (list, answer) = listing(u32::MAX, 10);
        let (turns, Listed { found, next }) = told(list, 1_000, 1, &answer);
        assert_eq!((turns, found.len(), next), (1, 0, None), "beyond the last");
    }

    #[test]
    fn a_core_has_something_to_look_at_until_it_has_taken_all_and_more_than_are_waited_for_are_refused() {
        let doorbells = [(); 2].map(|()| Arc::new(Doorbell::new().expect("a descriptor")));
        let orders = Orders::new(&doorbells);
        let order = || Order::Connections(listing(0, 1).0);
        assert!(!orders.wants(1));
        assert_eq!((0..WAITING_MAX + 1).filter(|_| orders.give(1, order())).count(), WAITING_MAX);
        assert!(orders.wants(1) && !orders.wants(0) && !orders.stops(1));
        assert_eq!(orders.crowded(1), Some(1));
        orders.take(1);
        assert_eq!((orders.crowded(1), orders.crowded(2)), (None, Some(1)));
        while orders.take(1).is_some() {}
        assert!(!orders.wants(1) && orders.waiting(1) == 0);
        orders.look_again(1);
        assert!(orders.wants(1));
        orders.stop();
        assert!(orders.stops(0) && orders.stops(1));
        assert!(!orders.give(2, order()), "there is no such core");
    }
}
