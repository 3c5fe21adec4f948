//! `Cable`: what is under way to one port, in the order in which it will arrive, and what became of the rest.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fault::Faults;
use crate::fault::{Drawn, Fate, Injector};
use crate::queue::QueueId;

/// What became of the frames sent to one port. Every frame is counted once where it ended:
/// `sent + duplicated` is the sum of `delivered`, every kind of loss, and `in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireCounts {
    /// Frames sent to the port.
    pub sent: u64,
    /// Copies that duplication added.
    pub duplicated: u64,
    /// Frames put into the receive ring of a queue.
    pub delivered: u64,
    /// Lost on their own.
    pub lost: u64,
    /// Lost in bursts.
    pub burst_lost: u64,
    /// Lost since they were to be corrupted and no checksum would have detected it.
    pub corrupt_dropped: u64,
    /// Lost before the rate limit.
    pub rate_dropped: u64,
    /// Lost in a blackhole, or while the link was down.
    pub blackholed: u64,
    /// Lost since their packet was too long for the MTU hole.
    pub too_long: u64,
    /// Lost since too many were under way.
    pub overflowed: u64,
    /// Arrived and dropped: no frame posted, too long for one, or the queue was not open.
    pub rx_dropped: u64,
    /// Under way.
    pub in_flight: u64,
    /// Corrupted; these went on their way.
    pub corrupted: u64,
    /// Their end is missing; these went on their way.
    pub cut: u64,
    /// Held back for later frames to overtake them; these went on their way.
    pub reordered: u64,
}

impl WireCounts {
    /// Frames lost, by any cause.
    pub fn all_lost(&self) -> u64 {
        self.lost
            + self.burst_lost
            + self.corrupt_dropped
            + self.rate_dropped
            + self.blackholed
            + self.too_long
            + self.overflowed
            + self.rx_dropped
    }
}

/// Something that happened on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireEvent {
    /// When.
    pub at: Duration,
    /// The port that the frame was on its way to.
    pub to_port: usize,
    /// What.
    pub what: WireHappening,
}

/// What happened to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireHappening {
    /// It was sent, so many bytes long.
    Sent {
        /// Length.
        bytes: usize,
    },
    /// It was lost on its own.
    Lost,
    /// It was lost in a burst.
    BurstLost,
    /// It was lost since no checksum would have detected its corruption.
    CorruptDropped,
    /// It was lost before the rate limit.
    RateDropped,
    /// It was lost in a blackhole, or while the link was down.
    Blackholed,
    /// It was lost since its packet was too long for the MTU hole.
    TooLong,
    /// It was lost since too many were under way.
    Overflowed,
    /// Bits were flipped.
    Corrupted {
        /// The first, from the frame's start.
        first_bit: usize,
        /// How many bits the burst spans.
        bits: u8,
    },
    /// Its end is missing.
    Cut {
        /// How many of its bytes are left.
        bytes: usize,
    },
    /// It will arrive twice.
    Duplicated,
    /// It is held back.
    HeldBack {
        /// How many frames are to overtake it.
        overtakers: u32,
    },
    /// It was put into a queue's receive ring.
    Delivered {
        /// The queue.
        queue: QueueId,
    },
    /// It arrived and was dropped by the port.
    RxDropped {
        /// The queue it was steered to.
        queue: QueueId,
    },
}

/// The last events, as many as were asked for.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    events: VecDeque<WireEvent>,
    capacity: usize,
}

impl EventLog {
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.events.truncate(capacity);
    }

    pub(crate) fn take(&mut self) -> Vec<WireEvent> {
        self.events.drain(..).collect()
    }

    pub(crate) fn note(&mut self, at: Duration, to_port: usize, what: WireHappening) {
        if self.capacity == 0 {
            return;
        }
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(WireEvent { at, to_port, what });
    }
}

/// Bytes of a new buffer: any frame of a standard MTU, so that it need not grow later.
const SPARE_BYTES: usize = 2048;

/// Buffers that carried a frame and will carry another, so that a wire in use allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Spares(Vec<Vec<u8>>);

impl Spares {
    fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.0.pop().unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    pub(crate) fn keep(&mut self, buffer: Vec<u8>) {
        self.0.push(buffer);
    }
}

/// A frame held back until others have overtaken it.
#[derive(Debug)]
struct HeldBack {
    overtakers: u32,
    until: Duration,
    frame: Vec<u8>,
}

/// What is under way to one port.
#[derive(Debug)]
pub(crate) struct Cable {
    injector: Injector,
    /// In order of arrival.
    in_flight: VecDeque<(Duration, Vec<u8>)>,
    held_back: Vec<HeldBack>,
    limit: usize,
    counts: WireCounts,
}

impl Cable {
    pub(crate) fn new(faults: Faults, limit: usize, seed: u64) -> Self {
        Self {
            injector: Injector::new(faults, seed),
            in_flight: VecDeque::new(),
            held_back: Vec::new(),
            limit,
            counts: WireCounts::default(),
        }
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.injector.set_faults(faults);
    }

    pub(crate) fn counts(&self) -> WireCounts {
        WireCounts { in_flight: (self.in_flight.len() + self.held_back.len()) as u64, ..self.counts }
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        let first = self.in_flight.front().map(|(due, _)| *due);
        first.into_iter().chain(self.held_back.iter().map(|held| held.until)).min()
    }

    /// Takes the next frame that has arrived by `now`, and when it did.
    pub(crate) fn arrived(&mut self, now: Duration) -> Option<(Duration, Vec<u8>)> {
        self.release_expired(now);
        match self.in_flight.front() {
            Some((due, _)) if *due <= now => self.in_flight.pop_front(),
            _ => None,
        }
    }

    /// Counts a frame that [`arrived`](Self::arrived) gave, by whether the port took it.
    pub(crate) fn count_arrival(&mut self, taken: bool) {
        match taken {
            true => self.counts.delivered += 1,
            false => self.counts.rx_dropped += 1,
        }
    }

    /// Sends a frame to port `to`.
    pub(crate) fn send(&mut self, to: usize, now: Duration, bytes: &[u8], spares: &mut Spares, log: &mut EventLog) {
        self.release_expired(now);
        self.counts.sent += 1;
        log.note(now, to, WireHappening::Sent { bytes: bytes.len() });
        let mut frame = spares.copy_of(bytes);
        let drawn = self.injector.draw(now, &mut frame);
        if let Some(loss) = self.count_loss(drawn.fate) {
            log.note(now, to, loss);
            spares.keep(frame);
            return;
        }
        if let Some((first_bit, bits)) = drawn.corrupted {
            self.counts.corrupted += 1;
            log.note(now, to, WireHappening::Corrupted { first_bit, bits });
        }
        if let Some(bytes) = drawn.cut_to {
            frame.truncate(bytes);
            self.counts.cut += 1;
            log.note(now, to, WireHappening::Cut { bytes });
        }
        let copy = drawn.duplicated.then(|| spares.copy_of(&frame));
        if copy.is_some() {
            self.counts.duplicated += 1;
            log.note(now, to, WireHappening::Duplicated);
        }
        for frame in std::iter::once(frame).chain(copy) {
            if self.in_flight.len() + self.held_back.len() >= self.limit {
                self.counts.overflowed += 1;
                log.note(now, to, WireHappening::Overflowed);
                spares.keep(frame);
                continue;
            }
            if let Some((overtakers, _)) = drawn.held_back {
                log.note(now, to, WireHappening::HeldBack { overtakers });
            }
            self.put(frame, &drawn);
        }
    }

    /// Counts a loss and names it; `None` when the frame was not lost.
    fn count_loss(&mut self, fate: Fate) -> Option<WireHappening> {
        let (count, happening) = match fate {
            Fate::Passed => return None,
            Fate::Lost => (&mut self.counts.lost, WireHappening::Lost),
            Fate::BurstLost => (&mut self.counts.burst_lost, WireHappening::BurstLost),
            Fate::CorruptDropped => (&mut self.counts.corrupt_dropped, WireHappening::CorruptDropped),
            Fate::RateDropped => (&mut self.counts.rate_dropped, WireHappening::RateDropped),
            Fate::Blackholed => (&mut self.counts.blackholed, WireHappening::Blackholed),
            Fate::TooLong => (&mut self.counts.too_long, WireHappening::TooLong),
        };
        *count += 1;
        Some(happening)
    }

    /// Puts a frame on its way, or holds it back.
    fn put(&mut self, frame: Vec<u8>, drawn: &Drawn) {
        // Only held-back frames are overtaken: nothing arrives before what was sent earlier.
        let due = self.in_flight.back().map_or(drawn.due, |(last, _)| drawn.due.max(*last));
        if let Some((overtakers, hold)) = drawn.held_back {
            self.counts.reordered += 1;
            self.held_back.push(HeldBack { overtakers, until: due.saturating_add(hold), frame });
            return;
        }
        self.in_flight.push_back((due, frame));
        // The frame has overtaken all that are held back; those overtaken often enough follow it.
        let mut at = 0;
        while let Some(held) = self.held_back.get_mut(at) {
            held.overtakers -= 1;
            if held.overtakers == 0 {
                let held = self.held_back.remove(at);
                self.in_flight.push_back((due, held.frame));
            } else {
                at += 1;
            }
        }
    }

    /// Puts frames on their way that have been held back for long enough, where their time is.
    fn release_expired(&mut self, now: Duration) {
        while let Some(at) = (0..self.held_back.len())
            .filter(|&at| self.held_back[at].until <= now)
            .min_by_key(|&at| (self.held_back[at].until, at))
        {
            let held = self.held_back.remove(at);
            let place = self.in_flight.partition_point(|(due, _)| *due <= held.until);
            self.in_flight.insert(place, (held.until, held.frame));
        }
    }
}
