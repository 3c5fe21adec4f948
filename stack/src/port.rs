//! `Port`: one NIC queue as the stack uses it, with the frames of the turn and a reserve for answers.
//!
//! Invariant: a frame in `rx`, `tx` or `reserve` belongs to this port's own queue, and every answer of a turn is
//! written into a frame that was reserved before the frames were received, so that ingress can always answer.

use nic::{BURST, Frame, Queue, QueueError, RxBurst, TxBurst};

/// Frames kept ready for answers: one for each frame of a burst.
const RESERVE: usize = BURST;

/// A queue with the frames of the turn. Belongs to one core.
#[derive(Debug)]
pub struct Port<Q: Queue> {
    queue: Q,
    pub(crate) rx: RxBurst,
    tx: TxBurst,
    reserve: Vec<Frame>,
    /// Whether checksums of long segments are left to the queue.
    completes_checksums: bool,
    /// Whether the queue may take trains.
    takes_trains: bool,
}

impl<Q: Queue> Port<Q> {
    /// A port on `queue`.
    pub fn new(queue: Q) -> Self {
        Self {
            completes_checksums: queue.completes_checksums(),
            takes_trains: queue.takes_trains(),
            queue,
            rx: RxBurst::with_capacity(BURST),
            tx: TxBurst::with_capacity(BURST),
            reserve: Vec::with_capacity(RESERVE),
        }
    }

    /// Reserves frames for answers, then takes frames that have arrived. Returns how many wait to be ingested.
    ///
    /// Takes none while no frame can be reserved: they stay in the queue until answers have left.
    pub fn receive(&mut self) -> usize {
        while self.reserve.len() < RESERVE {
            match self.queue.tx_alloc() {
                Some(frame) => self.reserve.push(frame),
                None => break,
            }
        }
        if !self.reserve.is_empty() {
            self.queue.rx_burst(&mut self.rx);
        }
        self.rx.len()
    }

    /// Sends what the turn has written and ends it: at most one wake-up of the kernel. Returns how many frames the
    /// queue took; the rest stay for the next turn.
    ///
    /// # Errors
    /// As [`Queue::flush`].
    pub fn transmit(&mut self) -> Result<usize, QueueError> {
        let sent = if self.tx.is_empty() { 0 } else { self.queue.tx_burst(&mut self.tx) };
        self.queue.flush()?;
        Ok(sent)
    }

    /// Frames written and not yet taken by the queue.
    pub fn unsent(&self) -> usize {
        self.tx.len()
    }

    /// The queue, to sleep on or to ask for its counters.
    pub fn queue(&self) -> &Q {
        &self.queue
    }

    /// The queue, to be changed. What is received past the port is never seen by the stack.
    pub fn queue_mut(&mut self) -> &mut Q {
        &mut self.queue
    }

    /// The same port with a queue around its own, or any other that takes the frames of its own.
    pub fn map_queue<R: Queue>(self, around: impl FnOnce(Q) -> R) -> Port<R> {
        let Self { queue, rx, tx, reserve, .. } = self;
        let queue = around(queue);
        let (completes_checksums, takes_trains) = (queue.completes_checksums(), queue.takes_trains());
        Port { queue, rx, tx, reserve, completes_checksums, takes_trains }
    }

    /// Gives every frame back and the queue with it.
    pub fn into_queue(mut self) -> Q {
        for frame in self.reserve.drain(..) {
            self.queue.free(frame);
        }
        while let Some(frame) = self.rx.pop().or_else(|| self.tx.pop()) {
            self.queue.free(frame);
        }
        self.queue
    }

    /// As [`Queue::completes_checksums`].
    #[inline]
    pub(crate) fn completes_checksums(&self) -> bool {
        self.completes_checksums
    }

    /// As [`Queue::takes_trains`].
    #[inline]
    pub(crate) fn takes_trains(&self) -> bool {
        self.takes_trains
    }

    /// Hands over what is lined up, which a train must not overtake, and gets as many `frames` as the train is cut into if
    /// the queue does not take it. Returns whether a train can leave.
    pub(crate) fn prepare_for_train(&mut self, frames: usize) -> bool {
        while self.reserve.len() < frames {
            let Some(frame) = self.queue.tx_alloc() else { return false };
            self.reserve.push(frame);
        }
        if !self.tx.is_empty() {
            self.queue.tx_burst(&mut self.tx);
        }
        self.tx.is_empty()
    }

    /// As [`Queue::send_train`], once the port is [prepared](Self::prepare_for_train).
    pub(crate) fn send_train(&mut self, packet: &[u8], cut: u16) -> bool {
        self.queue.send_train(packet, cut)
    }

    /// What answers leave by.
    #[inline]
    pub(crate) fn outlet(&mut self) -> Outlet<'_, Q> {
        Outlet { queue: &mut self.queue, tx: &mut self.tx, reserve: &mut self.reserve }
    }

    /// The same, whatever kind of queue it is.
    #[inline]
    pub(crate) fn any_outlet(&mut self) -> Outlet<'_, dyn Queue + '_> {
        Outlet { queue: &mut self.queue, tx: &mut self.tx, reserve: &mut self.reserve }
    }

    /// The frames that answers are written into.
    #[inline]
    pub(crate) fn reserve(&mut self) -> &mut Vec<Frame> {
        &mut self.reserve
    }

    /// As [`Outlet::take_frame`].
    #[inline]
    pub(crate) fn take_frame(&mut self) -> Option<Frame> {
        self.outlet().take_frame()
    }

    /// Whether a frame to answer with is at hand; takes one from the queue if need be.
    #[inline]
    pub(crate) fn can_answer(&mut self) -> bool {
        if self.reserve.is_empty()
            && let Some(frame) = self.queue.tx_alloc()
        {
            self.reserve.push(frame);
        }
        !self.reserve.is_empty()
    }

    /// As [`Outlet::return_frame`].
    #[inline]
    pub(crate) fn return_frame(&mut self, frame: Frame) {
        self.outlet().return_frame(frame);
    }

    /// Gives an ingested frame back to its queue.
    #[inline]
    pub(crate) fn free(&mut self, frame: Frame) {
        self.queue.free(frame);
    }

    /// As [`Outlet::send`].
    #[inline]
    pub(crate) fn send(&mut self, frame: Frame) -> bool {
        self.outlet().send(frame)
    }

    /// As [`Outlet::has_room`].
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.outlet().has_room()
    }
}

/// The half of a port that sends. The queue itself is asked only where reserve or room have run out, so that a caller
/// that does not know its kind loses nothing by it.
pub(crate) struct Outlet<'a, Q: Queue + ?Sized> {
    queue: &'a mut Q,
    tx: &'a mut TxBurst,
    reserve: &'a mut Vec<Frame>,
}

impl<Q: Queue + ?Sized> Outlet<'_, Q> {
    /// Takes a frame to write an answer into: from the reserve, else from the queue; `None` when all are in flight.
    #[inline]
    pub(crate) fn take_frame(&mut self) -> Option<Frame> {
        self.reserve.pop().or_else(|| self.queue.tx_alloc())
    }

    /// Puts back a frame that was not written after all.
    #[inline]
    pub(crate) fn return_frame(&mut self, frame: Frame) {
        if self.reserve.len() < RESERVE { self.reserve.push(frame) } else { self.queue.free(frame) }
    }

    /// Lines a written frame up for sending, making room by handing earlier ones to the queue if need be.
    /// Returns false, and frees the frame, when the queue takes nothing.
    #[inline]
    pub(crate) fn send(&mut self, frame: Frame) -> bool {
        match self.tx.push(frame) {
            Ok(()) => true,
            Err(frame) => {
                self.queue.tx_burst(self.tx);
                match self.tx.push(frame) {
                    Ok(()) => true,
                    Err(frame) => {
                        self.queue.free(frame);
                        false
                    }
                }
            }
        }
    }

    /// Whether a written frame can be lined up; makes room if need be.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        if self.tx.room() == 0 {
            self.queue.tx_burst(self.tx);
        }
        self.tx.room() > 0
    }
}
