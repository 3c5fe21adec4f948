//! The parts of a turn, each alone: for who measures what each costs. One after the other, [`receive`](Poll::receive) to
//! [`expire`](Poll::expire), they are [`take_in_with`](Poll::take_in_with), and the last two [`send`](Poll::send).

use nic::{Queue, QueueError};

use super::Poll;
use crate::clock::Time;
use crate::datagram::DatagramHandler;

impl<Q: Queue> Poll<Q> {
    /// Takes a burst of frames of each queue. Returns how many wait to be ingested.
    #[inline]
    pub fn receive(&mut self) -> usize {
        self.ports.iter_mut().map(|port| port.receive()).sum()
    }

    /// Gives the stack those that were received.
    #[inline]
    pub fn ingest(&mut self, now: Time, mut datagrams: Option<&mut impl DatagramHandler>) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            self.stack.ingest_datagrams(now, port, index, datagrams.as_deref_mut());
        }
    }

    /// Takes frames that other cores have passed on, and passes on those that no flow here knows. Returns how many.
    #[inline]
    pub fn exchange(&mut self, now: Time) -> usize {
        self.strays.exchange(now, &mut self.stack, &mut self.ports)
    }

    /// Fires timers that are due. What has happened until then is told of in this turn.
    #[inline]
    pub fn expire(&mut self, now: Time) {
        self.stack.expire(now);
        self.listener.begin_turn();
        self.left = self.stack.listed();
        if self.listener.each.is_none() {
            self.pause_or_resume();
        }
    }

    /// Has flows of which something was written, or read, say so, in frames that are lined up.
    #[inline]
    pub fn flush(&mut self, now: Time) {
        self.stack.flush(now, &mut self.ports);
    }

    /// Gives each queue the frames that are lined up, with at most one wake-up. Returns how many they took.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    #[inline]
    pub fn transmit(&mut self) -> Result<usize, QueueError> {
        let mut sent = 0;
        for port in &mut self.ports {
            sent += port.transmit()?;
        }
        Ok(sent)
    }
}
