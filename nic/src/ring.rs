//! Rings of slots over any back-end: the view that netmap(4) gives of a queue, without its shared memory.
//!
//! ```text
//!            head        cur        tail
//!   ──────────┼───────────┼──────────┼──────────►   numbers of slots, around the ring
//!    the link's│  the program's: free to read, write, swap │ the link's
//! ```
//!
//! A [`RingPort`] has a receive ring and a transmit ring. Between two calls the program owns the slots from `head` up to
//! `tail`: received frames in the one ring, free buffers in the other. It gives slots back by moving `head` forward;
//! [`RingPort::rxsync`] and [`RingPort::txsync`] hand over what `head` has passed and move `tail`. `cur` is how far the
//! program has looked: [`Ring::is_ready`] says whether there is more.
//!
//! Invariants, each kept by the types or by a check, so that no program can break the ring for the link, as one can in
//! netmap (whose kernel side resets a ring whose numbers make no sense):
//!
//! * every slot of the program's has a buffer, and a buffer is in one place (a [`Frame`] is move-only);
//! * one slot always stays with the link, so that `head == tail` means that the program has none;
//! * `head` and `cur` move forward only, and never beyond `tail`: another number is refused, and changes nothing;
//! * [`swap_buffers`] refuses two slots of different memory;
//! * a port has as many buffers for receiving, and as many for sending, as it began with: what is swapped is swapped one
//!   for one, and the buffer that a slot gets counts for what the one before it counted for (SAFETY.md, F6). No port can
//!   run dry since another hoards, which is what a pool that ports share has to guard against.
//!
//! The rings copy nothing: frames move from the queue into slots and back. To forward without copying, swap the buffer of a
//! received slot with that of a free one ([`forward`]). Both slots may be of one port, or of two ports with one memory. Two
//! queues have one memory when they are opened so; otherwise each has its own, and [`Slot::copy_from`] copies between them,
//! by name. `examples/ring_forward.rs` is a forwarder between two ports.
//!
//! | back-end | its queues have one memory by | from the link into the slot | from the slot to the link |
//! |---|---|---|---|
//! | AF_XDP | [`XdpDevice::open_together`](crate::xdp::XdpDevice::open_together), of one interface or of several: one UMEM, with a fill and a completion ring for each queue | zero copy: the NIC writes it; else the kernel copies once | zero copy: the NIC reads it; else the kernel copies once |
//! | TAP | [`TapDevice::take_queue_with`](crate::tap::TapDevice::take_queue_with) | `read(2)` into the slot: the kernel copies once | `write(2)` from the slot: the kernel copies once |
//! | wire | [`WirePort::take_queue_with`](crate::WirePort::take_queue_with) | copied once from what is on the cable | copied once onto the cable |
//! | capture | [`PcapReplay::over`](crate::pcap::PcapReplay::over) | copied once from the file's bytes | copied once into the writer's buffer |
//!
//! The pools of the last three are of one kind, [`FramePool::over_one_memory`](crate::FramePool::over_one_memory), so that
//! any two of them forward to each other by swapping too; AF_XDP's frames lie in memory that the kernel has registered, and
//! go to another back-end by [`Slot::copy_from`].
//!
//! | call | who, when | what changes hands |
//! |---|---|---|
//! | [`RingPort::rxsync`] | the port's core, each turn, and before it sleeps | slots before `head` become the link's; frames that arrived become the program's |
//! | [`RingPort::txsync`] | the port's core, after it has filled slots, and each turn in which some wait | slots before `head` leave, in order; buffers that were sent become the program's |
//! | the rest | the port's core, between two syncs | nothing: numbers and bytes of the program's own slots |
//!
//! A port belongs to one core, as its queue does (it is `Send`, and not shared); two ports that swap buffers belong to the
//! same one. Only the two syncs call the queue, each makes at most the system calls of one
//! [`Queue::flush`](crate::Queue::flush), and nothing allocates after [`RingPort::new`]. What is different from netmap:
//! a sync does not wait (sleep on [`Queue::raw_fd`](crate::Queue::raw_fd), by a [`Sleeper`](crate::Sleeper)), slots are
//! taken by number and checked, and a slot's buffer is not a number that a program may write. Read first: `queue.rs`.
//!
//! [`RingPort`]: crate::ring::RingPort
//! [`RingPort::new`]: crate::ring::RingPort::new
//! [`RingPort::rxsync`]: crate::ring::RingPort::rxsync
//! [`RingPort::txsync`]: crate::ring::RingPort::txsync
//! [`Ring::is_ready`]: crate::ring::Ring::is_ready
//! [`swap_buffers`]: crate::ring::swap_buffers
//! [`forward`]: crate::ring::forward
//! [`Slot::copy_from`]: crate::ring::Slot::copy_from

use crate::burst::{BURST, Burst};
use crate::frame::{Frame, FrameTooShort};
use crate::queue::{Queue, QueueError};

/// A slot of a ring: at most one buffer, with the bytes of one frame.
#[derive(Debug, Default)]
pub struct Slot {
    frame: Option<Frame>,
    changed: bool,
}

impl Slot {
    /// The frame's bytes; of a free slot none.
    pub fn bytes(&self) -> &[u8] {
        self.frame.as_ref().map_or(&[], Frame::bytes)
    }

    /// The frame's bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.frame.as_mut().map_or(&mut [], Frame::bytes_mut)
    }

    /// Makes the frame `len` bytes long. Bytes beyond the old length hold whatever was there before.
    ///
    /// # Errors
    /// [`FrameTooShort`]: the buffer has no such room; nothing has changed.
    pub fn set_len(&mut self, len: usize) -> Result<(), FrameTooShort> {
        match &mut self.frame {
            Some(frame) => frame.resize(len),
            None => Err(FrameTooShort { asked: len, room: 0 }),
        }
    }

    /// Which buffer of the queue's memory is in the slot, from 0; `None` for an empty slot.
    pub fn buffer(&self) -> Option<u32> {
        self.frame.as_ref().map(Frame::chunk_index)
    }

    /// Whether the slot has another buffer than the link put into it (netmap's `NS_BUF_CHANGED`).
    pub fn is_swapped(&self) -> bool {
        self.changed
    }

    /// Copies the frame of another slot, for ports whose memory is not the same.
    ///
    /// # Errors
    /// [`FrameTooShort`]: the buffer has no such room; nothing has changed.
    pub fn copy_from(&mut self, other: &Self) -> Result<(), FrameTooShort> {
        self.set_len(other.bytes().len())?;
        self.bytes_mut().copy_from_slice(other.bytes());
        Ok(())
    }

    fn put(&mut self, frame: Frame) {
        (self.frame, self.changed) = (Some(frame), false);
    }
}

/// Two slots whose buffers are of different memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the two buffers are of different memory, and cannot change places; copy the frame (Slot::copy_from)")]
pub struct OtherMemory;

/// A number of a slot that the program may not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot} is not the program's, which has {space} slots from {head} on")]
pub struct NotOurs {
    /// The number given.
    pub slot: usize,
    /// The first slot of the program's.
    pub head: usize,
    /// How many the program has.
    pub space: usize,
}

/// Lets the buffers of two slots change places, with the frames in them. Nothing is copied.
///
/// # Errors
/// [`OtherMemory`]: one of them would be lost to its queue; nothing has changed.
pub fn swap_buffers(one: &mut Slot, other: &mut Slot) -> Result<(), OtherMemory> {
    let (Some(a), Some(b)) = (&mut one.frame, &mut other.frame) else { return Err(OtherMemory) };
    if !a.exchange(b) {
        return Err(OtherMemory);
    }
    (one.changed, other.changed) = (true, true);
    Ok(())
}

/// Moves frames from the front of a receive ring to the front of a transmit ring, of the same port or of one with the same
/// memory, at most `most`, by swapping buffers; returns how many. What finds no room stays in the receive ring. Both syncs
/// are the caller's.
///
/// # Errors
/// [`OtherMemory`]: the rings are of different memory; nothing is moved.
pub fn forward(received: &mut Ring, sent: &mut Ring, most: usize) -> Result<usize, OtherMemory> {
    let count = received.space().min(sent.space()).min(most);
    for _ in 0..count {
        let (from, to) = (received.head, sent.head);
        swap_buffers(&mut received.slots[from], &mut sent.slots[to])?;
        received.step();
        sent.step();
    }
    Ok(count)
}

/// A ring of slots. See the module's picture.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Slot]>,
    head: usize,
    cur: usize,
    tail: usize,
    /// Where `head` was at the last sync: slots from here to `head` are to be handed over.
    synced: usize,
}

impl Ring {
    fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Slot::default()).collect(), head: 0, cur: 0, tail: 0, synced: 0 }
    }

    /// Slots there are; one of them is always the link's.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The first slot of the program's.
    pub fn head(&self) -> usize {
        self.head
    }

    /// How far the program has looked.
    pub fn cur(&self) -> usize {
        self.cur
    }

    /// The first slot behind those of the program's.
    pub fn tail(&self) -> usize {
        self.tail
    }

    /// The slot behind `slot`, around the ring.
    pub fn next(&self, slot: usize) -> usize {
        if slot + 1 >= self.slots.len() { 0 } else { slot + 1 }
    }

    /// How many slots are the program's.
    pub fn space(&self) -> usize {
        self.distance(self.head, self.tail)
    }

    /// Whether there are slots that the program has not looked at.
    pub fn is_ready(&self) -> bool {
        self.cur != self.tail
    }

    /// A slot of the program's; `None` for one that is not.
    pub fn slot(&self, slot: usize) -> Option<&Slot> {
        self.is_ours(slot).then(|| &self.slots[slot])
    }

    /// A slot of the program's, to be changed; `None` for one that is not.
    pub fn slot_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.is_ours(slot).then(|| &mut self.slots[slot])
    }

    /// Gives the slots before `slot` back at the next sync; `cur` goes along, if it is not further.
    ///
    /// # Errors
    /// [`NotOurs`]: it is neither a slot of the program's nor `tail`; nothing has changed.
    pub fn set_head(&mut self, slot: usize) -> Result<(), NotOurs> {
        self.check(slot)?;
        if self.distance(self.head, slot) > self.distance(self.head, self.cur) {
            self.cur = slot;
        }
        self.head = slot;
        Ok(())
    }

    /// Says how far the program has looked, without giving anything back.
    ///
    /// # Errors
    /// [`NotOurs`]: as of [`set_head`](Self::set_head).
    pub fn set_cur(&mut self, slot: usize) -> Result<(), NotOurs> {
        self.check(slot)?;
        self.cur = slot;
        Ok(())
    }

    fn check(&self, slot: usize) -> Result<(), NotOurs> {
        match slot == self.tail || self.is_ours(slot) {
            true => Ok(()),
            false => Err(NotOurs { slot, head: self.head, space: self.space() }),
        }
    }

    fn is_ours(&self, slot: usize) -> bool {
        slot < self.slots.len() && self.distance(self.head, slot) < self.space()
    }

    /// Gives the first slot back.
    fn step(&mut self) {
        let next = self.next(self.head);
        if self.cur == self.head {
            self.cur = next;
        }
        self.head = next;
    }

    /// Slots from one number to another, around the ring.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }

    /// Slots that the link may still give to the program.
    fn room(&self) -> usize {
        self.slots.len() - 1 - self.distance(self.synced, self.tail)
    }

    /// Gives the slot at `tail` to the program, with this buffer.
    fn give(&mut self, frame: Frame) {
        self.slots[self.tail].put(frame);
        self.tail = self.next(self.tail);
    }
}

/// The two rings of a queue. Frames in slots go back to the queue when it is dropped.
#[derive(Debug)]
pub struct RingPort<Q: Queue> {
    queue: Q,
    received: Ring,
    sent: Ring,
    burst: Burst,
}

impl<Q: Queue> RingPort<Q> {
    /// Rings of `slots` slots each (at least 2) over a queue. The transmit ring takes as many buffers of the queue's for
    /// sending, one less, if it has them.
    pub fn new(queue: Q, slots: usize) -> Self {
        let slots = slots.max(2);
        let mut port = Self { queue, received: Ring::new(slots), sent: Ring::new(slots), burst: Burst::default() };
        port.offer();
        port
    }

    /// The receive ring and the transmit ring.
    pub fn rings(&mut self) -> (&mut Ring, &mut Ring) {
        (&mut self.received, &mut self.sent)
    }

    /// The queue, for its descriptor and counts.
    pub fn queue(&self) -> &Q {
        &self.queue
    }

    /// Gives the slots of the receive ring that `head` has passed back to the queue, and takes what has arrived.
    ///
    /// # Errors
    /// As of [`Queue::flush`], which it calls at its end.
    pub fn rxsync(&mut self) -> Result<(), QueueError> {
        while self.received.synced != self.received.head {
            if let Some(frame) = self.received.slots[self.received.synced].frame.take() {
                self.queue.free(frame);
            }
            self.received.synced = self.received.next(self.received.synced);
        }
        loop {
            self.burst.set_capacity(self.received.room().min(BURST));
            if self.queue.rx_burst(&mut self.burst) == 0 {
                break;
            }
            while let Some(frame) = self.burst.pop() {
                self.received.give(frame);
            }
        }
        self.burst.set_capacity(BURST);
        self.queue.flush()
    }

    /// Sends the slots of the transmit ring that `head` has passed, as many as the queue takes; the others leave at a
    /// later call, in order. Then gives free slots to the program.
    ///
    /// # Errors
    /// As of [`Queue::flush`].
    pub fn txsync(&mut self) -> Result<(), QueueError> {
        loop {
            let first = self.sent.synced;
            let mut at = first;
            while at != self.sent.head && self.burst.room() > 0 {
                if let Some(frame) = self.sent.slots[at].frame.take()
                    && let Err(frame) = self.burst.push(frame)
                {
                    self.queue.free(frame);
                }
                at = self.sent.next(at);
            }
            if self.burst.is_empty() {
                break;
            }
            self.queue.tx_burst(&mut self.burst);
            // What was not taken goes back to the slots that it came from, which are the last ones.
            let left = self.burst.len();
            let mut slot = first;
            for _ in left..self.sent.distance(first, at) {
                slot = self.sent.next(slot);
            }
            self.sent.synced = slot;
            while let Some(frame) = self.burst.pop() {
                self.sent.slots[slot].frame = Some(frame);
                slot = self.sent.next(slot);
            }
            if left > 0 {
                break;
            }
        }
        let flushed = self.queue.flush();
        self.offer();
        flushed
    }

    /// Gives the program free slots, as far as there are buffers.
    fn offer(&mut self) {
        while self.sent.room() > 0 {
            let Some(frame) = self.queue.tx_alloc() else { break };
            self.sent.give(frame);
        }
    }
}

impl<Q: Queue> Drop for RingPort<Q> {
    fn drop(&mut self) {
        for slot in self.received.slots.iter_mut().chain(&mut self.sent.slots) {
            if let Some(frame) = slot.frame.take() {
                self.queue.free(frame);
            }
        }
    }
}
