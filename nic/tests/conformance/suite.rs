//! What every back-end of `Queue` must do, as checks over two connected ends.
//!
//! A back-end implements [`Backend`] and calls [`run_all`]; a test file takes this in by
//! `#[path = "conformance/suite.rs"] mod suite;`. No check knows what is behind the queues, looks at a clock or
//! depends on how long anything takes: a back-end says how to let time pass ([`Backend::settle`]).

use std::collections::VecDeque;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_nic::{Burst, Frame, Queue};

/// Seed of every random choice of the suite.
const SEED: u64 = 0x51de_57e9;

/// Times that a check lets time pass before it says that a frame will not come.
const ROUNDS: usize = 400;

/// Which end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    A,
    B,
}

/// Two connected queues.
pub struct Ends {
    pub a: Box<dyn Queue>,
    pub b: Box<dyn Queue>,
}

impl Ends {
    fn queue(&mut self, end: End) -> &mut dyn Queue {
        match end {
            End::A => &mut *self.a,
            End::B => &mut *self.b,
        }
    }
}

/// A back-end to be checked.
pub trait Backend {
    /// Opens both ends afresh. The ends of the last call have been dropped.
    fn open(&mut self) -> Ends;

    /// Gives what was flushed the time to arrive. Called again while frames are missing; may wait a little (at most
    /// some milliseconds) where time is real. Must not call `rx_burst`.
    fn settle(&mut self, ends: &mut Ends);

    /// Writes whatever headers a frame from `from` needs to get across, over its first bytes. Must depend on the
    /// length and the bytes behind the headers only, and leave at least 8 of those of the shortest frame.
    fn dress(&self, from: End, bytes: &mut [u8]) {
        let _ = (from, bytes);
    }

    /// Whether a frame was sent by the suite; others (such as what a kernel sends of its own accord) are let go.
    fn is_ours(&self, bytes: &[u8]) -> bool {
        !bytes.is_empty()
    }

    /// The shortest frame that gets across, in bytes.
    fn min_frame_bytes(&self) -> usize {
        14
    }

    /// Frames that an end at rest can send in one burst, and that may be under way to one end without any being
    /// dropped; at least 8.
    fn safe_in_transit(&self) -> usize {
        64
    }

    /// The size of the transmit ring, where more frames than that can be allocated.
    fn tx_ring_frames(&self) -> Option<usize>;

    /// How many frames, sent to an end that neither receives nor flushes, are certainly more than it takes. `None`
    /// where the link pushes back instead of dropping.
    fn overflow_frames(&self) -> Option<usize>;
}

/// Runs every check.
pub fn run_all(backend: &mut impl Backend) {
    eprintln!("conformance suite, seed {SEED:#x}");
    content_is_intact_at_every_length(backend);
    order_is_kept_in_both_directions(backend);
    frames_are_conserved_through_a_random_run(backend);
    a_full_transmit_ring_leaves_the_rest_in_order(backend);
    a_full_receive_ring_drops_and_counts(backend);
    bursts_without_room_or_frames_do_nothing(backend);
    frames_freed_can_be_had_again(backend);
    a_received_frame_can_be_sent_back(backend);
    foreign_frames_are_refused(backend);
    queues_close_and_open_again(backend);
}

/// Every length from the shortest to the longest arrives byte for byte.
pub fn content_is_intact_at_every_length(backend: &mut impl Backend) {
    let mut ends = open(backend);
    let max = ends.a.max_frame_bytes().min(ends.b.max_frame_bytes());
    let lengths: Vec<usize> = (backend.min_frame_bytes()..=max).collect();
    for (chunk, lengths) in lengths.chunks(backend.safe_in_transit().min(32)).enumerate() {
        let frames = lengths.iter().enumerate().map(|(at, &len)| pattern(backend, End::A, chunk * 32 + at, len));
        let frames: Vec<Vec<u8>> = frames.collect();
        send(&mut ends, End::A, &frames);
        assert_eq!(receive(backend, &mut ends, End::B, frames.len()), frames, "lengths {lengths:?}");
    }
    assert_at_rest(backend, &mut ends);
}

/// 2000 frames each way, in bursts of random sizes, arrive once and in order.
pub fn order_is_kept_in_both_directions(backend: &mut impl Backend) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut ends = open(backend);
    let len = backend.min_frame_bytes().max(60);
    let mut sent = 0;
    while sent < 2000 {
        let count = 1 + below(&mut random, backend.safe_in_transit().min(64));
        let forth: Vec<_> = (sent..sent + count).map(|number| pattern(backend, End::A, number, len)).collect();
        let back: Vec<_> = (sent..sent + count).map(|number| pattern(backend, End::B, number, len)).collect();
        send(&mut ends, End::A, &forth);
        send(&mut ends, End::B, &back);
        assert_eq!(receive(backend, &mut ends, End::B, count), forth);
        assert_eq!(receive(backend, &mut ends, End::A, count), back);
        sent += count;
    }
    assert_eq!(ends.a.stats().tx_frames, sent as u64);
    assert!(ends.b.stats().rx_frames >= sent as u64);
    assert_at_rest(backend, &mut ends);
}

/// After every call of a random run, the census of both ends adds up and counts what the caller holds.
pub fn frames_are_conserved_through_a_random_run(backend: &mut impl Backend) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED + 1);
    let mut ends = open(backend);
    let len = backend.min_frame_bytes().max(64);
    let mut held: [VecDeque<Frame>; 2] = [VecDeque::new(), VecDeque::new()];
    let mut burst = Burst::default();
    for number in 0..6000 {
        let side = below(&mut random, 2);
        let end = [End::A, End::B][side];
        let held = &mut held[side];
        match below(&mut random, 6) {
            0 => held.extend(ends.queue(end).tx_alloc()),
            1 => {
                if let Some(frame) = held.pop_front() {
                    ends.queue(end).free(frame);
                }
            }
            2 => {
                while burst.room() > 0 && below(&mut random, 8) > 0 {
                    let Some(mut frame) = held.pop_back() else { break };
                    let bytes = pattern(backend, end, number, len);
                    write(&mut frame, &bytes);
                    burst.push(frame).expect("there was room");
                }
                ends.queue(end).tx_burst(&mut burst);
                // What was not taken is still the caller's.
                while let Some(frame) = burst.pop() {
                    held.push_front(frame);
                }
            }
            3 => {
                let before = burst.len();
                let received = ends.queue(end).rx_burst(&mut burst);
                assert_eq!(burst.len(), before + received);
                while let Some(frame) = burst.pop() {
                    held.push_back(frame);
                }
            }
            4 => ends.queue(end).flush().expect("the link is there"),
            _ => backend.settle(&mut ends),
        }
        assert_census(ends.queue(end), held.len(), number);
    }
    for (end, held) in [End::A, End::B].into_iter().zip(held) {
        for frame in held {
            ends.queue(end).free(frame);
        }
    }
    drain(backend, &mut ends);
    assert_at_rest(backend, &mut ends);
}

/// When the transmit ring is full, `tx_burst` leaves the rest in the burst, in order, and a flush makes room.
pub fn a_full_transmit_ring_leaves_the_rest_in_order(backend: &mut impl Backend) {
    let Some(ring) = backend.tx_ring_frames() else { return };
    let mut ends = open(backend);
    let len = backend.min_frame_bytes().max(60);
    let frames: Vec<_> = (0..ring + 40).map(|number| pattern(backend, End::A, number, len)).collect();
    let mut burst = Burst::with_capacity(frames.len());
    for bytes in &frames {
        let mut frame = ends.a.tx_alloc().expect("more frames than the transmit ring takes");
        write(&mut frame, bytes);
        burst.push(frame).expect("room for all");
    }
    let mut next = ends.a.tx_burst(&mut burst);
    assert!((1..=ring).contains(&next), "{next} frames went into a ring of {ring}");
    assert_eq!(ends.a.tx_burst(&mut burst), 0, "the ring is full");
    let mut arrived = Vec::new();
    for _ in 0..ROUNDS {
        assert_eq!(burst.len(), frames.len() - next);
        for (left, expected) in burst.iter().zip(&frames[next..]) {
            assert_eq!(left.bytes(), expected, "what is left keeps its order");
        }
        ends.a.flush().expect("the link is there");
        backend.settle(&mut ends);
        take_arrived(backend, &mut ends, End::B, &mut arrived);
        next += ends.a.tx_burst(&mut burst);
        if arrived.len() == frames.len() {
            break;
        }
    }
    // A ring larger than what is safely under way may lose some, which the next check looks at.
    if ring + 40 <= backend.safe_in_transit() || backend.overflow_frames().is_none() {
        assert_eq!(arrived, frames);
    } else {
        assert_in_order(&arrived, &frames);
    }
    assert!(burst.is_empty());
    drain(backend, &mut ends);
    assert_at_rest(backend, &mut ends);
}

/// An end that does not receive loses what it has no frames for, counts it, keeps order, and works again after.
pub fn a_full_receive_ring_drops_and_counts(backend: &mut impl Backend) {
    let Some(count) = backend.overflow_frames() else { return };
    let mut ends = open(backend);
    let len = backend.min_frame_bytes().max(60);
    let frames: Vec<_> = (0..count).map(|number| pattern(backend, End::A, number, len)).collect();
    for some in frames.chunks(32) {
        send_patiently(backend, &mut ends, End::A, some);
    }
    // All of it gets there before any is received.
    for _ in 0..32 {
        backend.settle(&mut ends);
    }
    let mut arrived = Vec::new();
    for _ in 0..ROUNDS {
        backend.settle(&mut ends);
        take_arrived(backend, &mut ends, End::B, &mut arrived);
        if arrived.len() as u64 + ends.b.stats().rx_dropped >= count as u64 {
            break;
        }
    }
    assert!(!arrived.is_empty() && arrived.len() < count, "{} of {count} arrived", arrived.len());
    assert_in_order(&arrived, &frames);
    let dropped = ends.b.stats().rx_dropped;
    assert_eq!(
        dropped,
        (count - arrived.len()) as u64,
        "{} of {count} arrived, each other is counted once",
        arrived.len()
    );
    let after = pattern(backend, End::A, count, len);
    send(&mut ends, End::A, std::slice::from_ref(&after));
    assert_eq!(receive(backend, &mut ends, End::B, 1), [after]);
    assert_at_rest(backend, &mut ends);
}

/// A burst without room receives nothing and loses nothing; an empty burst sends nothing.
pub fn bursts_without_room_or_frames_do_nothing(backend: &mut impl Backend) {
    let mut ends = open(backend);
    let frames: Vec<_> =
        (0..5).map(|number| pattern(backend, End::A, number, backend.min_frame_bytes().max(60))).collect();
    assert_eq!(ends.a.tx_burst(&mut Burst::default()), 0);
    ends.a.flush().expect("the link is there");
    send(&mut ends, End::A, &frames);
    backend.settle(&mut ends);
    let mut none = Burst::with_capacity(0);
    assert_eq!(ends.b.rx_burst(&mut none), 0);
    assert!(none.is_empty());
    // Neither does one that is full already.
    let mut full = Burst::with_capacity(1);
    full.push(ends.b.tx_alloc().expect("a free frame")).expect("room for one");
    assert_eq!(ends.b.rx_burst(&mut full), 0);
    ends.b.free(full.pop().expect("the frame"));
    assert_eq!(receive(backend, &mut ends, End::B, frames.len()), frames);
    assert_at_rest(backend, &mut ends);
}

/// `tx_alloc` ends with `None`, counted; what is freed can be allocated again; a new frame is empty.
pub fn frames_freed_can_be_had_again(backend: &mut impl Backend) {
    let mut ends = open(backend);
    let mut counts = Vec::new();
    for round in 0..3 {
        let total = ends.a.census().total;
        let mut frames: Vec<Frame> = Vec::new();
        while let Some(mut frame) = ends.a.tx_alloc() {
            assert!(frame.is_empty(), "a new frame is empty");
            assert!(frame.capacity() >= ends.a.max_frame_bytes());
            frame.resize(14).expect("room for an Ethernet header");
            frames.push(frame);
            assert!(frames.len() <= total, "more frames than there are");
        }
        assert_eq!(ends.a.stats().tx_exhausted, round + 1);
        assert_census(&*ends.a, frames.len(), round as usize);
        counts.push(frames.len());
        for frame in frames {
            ends.a.free(frame);
        }
        assert_census(&*ends.a, 0, round as usize);
    }
    assert!(counts[0] > 0 && counts.iter().all(|&count| count == counts[0]), "{counts:?}");
    assert_at_rest(backend, &mut ends);
}

/// A received frame, written to and made longer, is sent back from where it is.
pub fn a_received_frame_can_be_sent_back(backend: &mut impl Backend) {
    let mut ends = open(backend);
    let len = backend.min_frame_bytes().max(60);
    for number in 0..200 {
        let there = pattern(backend, End::A, number, len);
        send(&mut ends, End::A, std::slice::from_ref(&there));
        let mut frame = receive_frame(backend, &mut ends, End::B);
        assert_eq!(frame.bytes(), there);
        let reply = pattern(backend, End::B, number, len + number % 50);
        write(&mut frame, &reply);
        let mut burst = Burst::with_capacity(1);
        burst.push(frame).expect("room for one");
        assert_eq!(ends.b.tx_burst(&mut burst), 1);
        ends.b.flush().expect("the link is there");
        assert_eq!(receive(backend, &mut ends, End::A, 1), [reply]);
    }
    assert_at_rest(backend, &mut ends);
}

/// A frame of another queue is refused and counted, is not sent, and does no harm.
pub fn foreign_frames_are_refused(backend: &mut impl Backend) {
    let mut ends = open(backend);
    let len = backend.min_frame_bytes().max(60);
    let foreign = |ends: &mut Ends, number| {
        let mut frame = ends.a.tx_alloc().expect("a free frame");
        write(&mut frame, &pattern(backend, End::B, number, len));
        frame
    };
    let frame = foreign(&mut ends, 1);
    ends.b.free(frame);
    assert_eq!(ends.b.stats().foreign_frames, 1);
    assert_census(&*ends.b, 0, 1);

    // Among good ones, in a burst.
    let good: Vec<_> = (10..14).map(|number| pattern(backend, End::B, number, len)).collect();
    let mut burst = Burst::default();
    for (at, bytes) in good.iter().enumerate() {
        if at % 2 == 0 {
            burst.push(foreign(&mut ends, at)).expect("room");
        }
        let mut frame = ends.b.tx_alloc().expect("a free frame");
        write(&mut frame, bytes);
        burst.push(frame).expect("room");
    }
    assert_eq!(ends.b.tx_burst(&mut burst), good.len());
    ends.b.flush().expect("the link is there");
    assert!(burst.is_empty());
    assert_eq!(ends.b.stats().foreign_frames, 3);
    assert_eq!(receive(backend, &mut ends, End::A, good.len()), good);
    let lost = 3;
    assert_census(&*ends.a, lost, 2);
}

/// Queues close with frames everywhere, open again, and work; a frame kept beyond its queue's end does no harm.
pub fn queues_close_and_open_again(backend: &mut impl Backend) {
    let len = backend.min_frame_bytes().max(60);
    let mut kept = Vec::new();
    for round in 0..4 {
        let mut ends = open(backend);
        let frames: Vec<_> = (0..8).map(|number| pattern(backend, End::A, number + round, len)).collect();
        send(&mut ends, End::A, &frames);
        assert_eq!(receive(backend, &mut ends, End::B, frames.len()), frames, "round {round}");
        assert_at_rest(backend, &mut ends);
        // Close with frames sent and not flushed, under way, and held.
        send(&mut ends, End::B, &frames[..3]);
        let mut burst = Burst::with_capacity(2);
        let mut frame = ends.a.tx_alloc().expect("a free frame");
        write(&mut frame, &frames[0]);
        burst.push(frame).expect("room");
        ends.a.tx_burst(&mut burst);
        if round % 2 == 0 {
            let mut frame = ends.b.tx_alloc().expect("a free frame");
            write(&mut frame, &frames[round]);
            kept.push((frame, frames[round].clone()));
        }
        drop(ends);
    }
    for (frame, bytes) in &mut kept {
        assert_eq!(frame.bytes(), *bytes);
        frame.bytes_mut().fill(0);
    }
}

/// Opens the ends and lets go what was still under way from before.
fn open(backend: &mut impl Backend) -> Ends {
    let mut ends = backend.open();
    drain(backend, &mut ends);
    ends
}

/// Receives and drops until a few rounds brought nothing.
fn drain(backend: &mut impl Backend, ends: &mut Ends) {
    let mut quiet = 0;
    while quiet < 3 {
        let mut arrived = Vec::new();
        for end in [End::A, End::B] {
            ends.queue(end).flush().expect("the link is there");
        }
        backend.settle(ends);
        for end in [End::A, End::B] {
            take_arrived(backend, ends, end, &mut arrived);
        }
        quiet = if arrived.is_empty() { quiet + 1 } else { 0 };
    }
}

/// A frame's bytes by number: every one of them depends on it. Then the back-end's headers.
fn pattern(backend: &impl Backend, from: End, number: usize, len: usize) -> Vec<u8> {
    let salt = match from {
        End::A => 0xa,
        End::B => 0xb,
    };
    let mut random = Xoshiro256PlusPlus::seed_from_u64((number as u64) << 4 | salt);
    let mut bytes = vec![0; len];
    random.fill_bytes(&mut bytes);
    backend.dress(from, &mut bytes);
    bytes
}

fn write(frame: &mut Frame, bytes: &[u8]) {
    frame.resize(bytes.len()).expect("no longer than the longest frame");
    frame.bytes_mut().copy_from_slice(bytes);
}

/// Sends frames, which must all fit, and flushes.
fn send(ends: &mut Ends, from: End, frames: &[Vec<u8>]) {
    let queue = ends.queue(from);
    let mut burst = Burst::with_capacity(frames.len());
    for bytes in frames {
        let mut frame = queue.tx_alloc().expect("a free frame");
        write(&mut frame, bytes);
        burst.push(frame).expect("room for all");
    }
    assert_eq!(queue.tx_burst(&mut burst), frames.len());
    queue.flush().expect("the link is there");
}

/// Sends frames as there is room, letting time pass where there is none.
fn send_patiently(backend: &mut impl Backend, ends: &mut Ends, from: End, frames: &[Vec<u8>]) {
    let mut burst = Burst::with_capacity(frames.len());
    let mut next = 0;
    for _ in 0..ROUNDS {
        while let Some(bytes) = frames.get(next)
            && let Some(mut frame) = ends.queue(from).tx_alloc()
        {
            write(&mut frame, bytes);
            burst.push(frame).expect("room for all");
            next += 1;
        }
        ends.queue(from).tx_burst(&mut burst);
        ends.queue(from).flush().expect("the link is there");
        if next == frames.len() && burst.is_empty() {
            return;
        }
        backend.settle(ends);
    }
    panic!("{} of {} frames could not be sent", frames.len() - next + burst.len(), frames.len());
}

/// Takes what has arrived, without letting time pass, and frees the frames.
fn take_arrived(backend: &impl Backend, ends: &mut Ends, at: End, arrived: &mut Vec<Vec<u8>>) {
    let queue = ends.queue(at);
    let mut burst = Burst::default();
    while queue.rx_burst(&mut burst) > 0 {
        while let Some(frame) = burst.pop() {
            if backend.is_ours(frame.bytes()) {
                arrived.push(frame.bytes().to_vec());
            }
            queue.free(frame);
        }
        queue.flush().expect("the link is there");
    }
}

/// Receives so many frames and looks that there is none besides.
fn receive(backend: &mut impl Backend, ends: &mut Ends, at: End, count: usize) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    for _ in 0..ROUNDS {
        take_arrived(backend, ends, at, &mut arrived);
        if arrived.len() >= count {
            break;
        }
        backend.settle(ends);
    }
    take_arrived(backend, ends, at, &mut arrived);
    if arrived.len() != count {
        let in_time = arrived.len();
        panic!("{in_time} of {count} frames at {at:?}; {}", what_became(backend, ends, at, &mut arrived));
    }
    arrived
}

/// Of frames that have not come: whether they do once the end that sent them ends a turn again, and where all are.
fn what_became(backend: &mut impl Backend, ends: &mut Ends, at: End, arrived: &mut Vec<Vec<u8>>) -> String {
    let before = arrived.len();
    for _ in 0..ROUNDS {
        for end in [End::A, End::B] {
            ends.queue(end).flush().expect("the link is there");
        }
        backend.settle(ends);
        take_arrived(backend, ends, at, arrived);
    }
    let more = arrived.len() - before;
    let ends = [End::A, End::B].map(|end| (end, ends.queue(end).census(), ends.queue(end).stats()));
    format!("{more} more once both ends were flushed; {ends:?}")
}

/// Receives one frame and keeps it.
fn receive_frame(backend: &mut impl Backend, ends: &mut Ends, at: End) -> Frame {
    let mut burst = Burst::with_capacity(1);
    for _ in 0..ROUNDS {
        ends.queue(at).rx_burst(&mut burst);
        match burst.pop() {
            Some(frame) if backend.is_ours(frame.bytes()) => return frame,
            Some(frame) => ends.queue(at).free(frame),
            None => backend.settle(ends),
        }
        ends.queue(at).flush().expect("the link is there");
    }
    panic!("no frame came to {at:?}");
}

/// That the census adds up and counts what is held.
fn assert_census(queue: &dyn Queue, held: usize, step: usize) {
    let census = queue.census();
    assert_eq!(census.free + census.fill + census.tx + census.held, census.total, "step {step}: {census:?}");
    assert_eq!(census.held, held, "step {step}: {census:?}");
}

/// That every frame is at home or in the fill ring, once completions have come.
fn assert_at_rest(backend: &mut impl Backend, ends: &mut Ends) {
    for end in [End::A, End::B] {
        for _ in 0..ROUNDS {
            ends.queue(end).flush().expect("the link is there");
            if ends.queue(end).census().tx == 0 {
                break;
            }
            backend.settle(ends);
        }
        let census = ends.queue(end).census();
        assert_eq!((census.tx, census.held), (0, 0), "{end:?}: {census:?}");
        assert_eq!(census.free + census.fill, census.total, "{end:?}: {census:?}");
        assert_eq!(ends.queue(end).stats().foreign_frames, 0);
    }
}

/// That `arrived` is `sent` with some left out.
fn assert_in_order(arrived: &[Vec<u8>], sent: &[Vec<u8>]) {
    let mut rest = sent.iter();
    for (at, bytes) in arrived.iter().enumerate() {
        assert!(rest.any(|sent| sent == bytes), "frame {at} that arrived was not sent, or not in this order");
    }
}

/// An even draw from 0 to `limit - 1`.
fn below(random: &mut Xoshiro256PlusPlus, limit: usize) -> usize {
    (random.next_u64() % limit.max(1) as u64) as usize
}
