//! `Poll`: a core's network as an application sees it, a turn at a time: what was written leaves, what has arrived is taken
//! in, and what is true of the flows that this concerns is told.
//!
//! ```text
//!   poll ─► flush, transmit ─► receive, ingest, strays, expire ─► next_event
//!    ▲                                                                │
//!    └──────── the application: accept, flow(id).recv / send ◄────────┘
//! ```
//!
//! It is epoll with the names of mio, over the stack's own ready list: a turn costs as much as there is news, however many
//! flows there are, and an event is what the list says when it is asked for, copied nowhere before. Invariant: nothing
//! arrives between two turns, so a visit of a flow is bounded by what its rings hold, and no flow is told of twice in a
//! turn. No clock, no thread, no sleep: [`idle`](Poll::idle) says how long the caller may sleep on the queues'
//! descriptors, and a [`Waiter`](crate::Waiter) does. Read first: epoll(7); `ready.rs`, `net_stack/events.rs`.

/// What an application does with flows.
mod flows;
/// Connections that wait to be accepted.
mod listener;
/// The parts of a turn.
mod steps;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nic::{BURST, Doorbell, Queue, QueueError, Sleeper};

use crate::clock::Time;
use crate::datagram::{DatagramHandler, NoDatagrams};
use crate::event::Event;
use crate::net_stack::{Look, NetStack};
use crate::port::Port;
use crate::stray_ring::StrayRing;
use listener::Listener;

/// One core's network: its stack, and the queues that it polls. Belongs to one thread at a time.
#[derive(Debug)]
pub struct Poll<Q: Queue> {
    stack: NetStack,
    ports: Vec<Port<Q>>,
    strays: StrayRing,
    listener: Listener,
    /// Flows that were listed when the turn began, and that no look has come to since.
    left: usize,
}

impl<Q: Queue> Poll<Q> {
    /// Of a stack and the queues of its core, in the order that [`Flow::port`](crate::Flow::port) and
    /// [`Connect::port`](crate::Connect::port) number them. Nobody listens at first: where there are other cores,
    /// connections are handed over to them.
    pub fn new(mut stack: NetStack, queues: impl IntoIterator<Item = Q>) -> Self {
        stack.set_worker(false);
        let limit = stack.config().syn_queue;
        // Handshakes that are under way when it is full are completed all the same, and a burst may begin some more.
        let listener = Listener::new(limit, 2 * limit + BURST);
        let ports = queues.into_iter().map(Port::new).collect();
        Self { stack, ports, strays: StrayRing::default(), listener, left: 0 }
    }

    /// The same, with this core's place in the ring of all cores of the address.
    #[must_use]
    pub fn with_strays(mut self, strays: StrayRing) -> Self {
        self.strays = strays;
        self
    }

    /// One turn: sends what was written since the last, and takes in what has arrived; [`next_event`](Self::next_event) then
    /// tells of it. Datagrams are dropped and counted. Returns whether any frame has left or come.
    ///
    /// Who would rather have answers leave before anything else is done calls [`take_in`](Self::take_in) before it looks at
    /// events, and [`send`](Self::send) behind.
    ///
    /// # Errors
    /// A queue failed; the core cannot go on.
    pub fn poll(&mut self, now: Time) -> Result<bool, QueueError> {
        let sent = self.send(now)?;
        Ok(self.take_in(now) + sent > 0)
    }

    /// The same, with the datagrams that have arrived handed to `datagrams`, each in its place among the other frames.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn poll_with(&mut self, now: Time, datagrams: &mut impl DatagramHandler) -> Result<bool, QueueError> {
        let sent = self.send(now)?;
        Ok(self.take_in_with(now, Some(datagrams)) + sent > 0)
    }

    /// The half of a [`poll`](Self::poll) that takes in the frames that have arrived, of other cores too, and fires timers that
    /// are due. Returns how many frames that were.
    pub fn take_in(&mut self, now: Time) -> usize {
        self.take_in_with(now, None::<&mut NoDatagrams>)
    }

    /// The same, with datagrams handed to who takes them, if anybody does.
    pub fn take_in_with(&mut self, now: Time, datagrams: Option<&mut impl DatagramHandler>) -> usize {
        let received = self.receive();
        self.ingest(now, datagrams);
        let moved = self.exchange(now);
        self.expire(now);
        received + moved
    }

    /// The other half: sends what was written, and ACKs with it. Returns how many frames have left.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn send(&mut self, now: Time) -> Result<usize, QueueError> {
        self.flush(now);
        self.transmit()
    }

    /// What is true of the next flow that has had news, and of the listener behind all others; `None`: nothing more in this
    /// turn. Each flow is told of once a turn, in the order in which they first had news; one that has news meanwhile has its
    /// turn in the next.
    ///
    /// The application may stop before, so that flows that keep it busy do not keep frames waiting: the others are told of in
    /// the next turn, the listener first.
    #[inline]
    pub fn next_event(&mut self) -> Option<Event> {
        if self.listener.was_passed_over()
            && let Some(event) = self.listener.next_event()
        {
            return Some(event);
        }
        while self.left > 0 {
            self.left -= 1;
            match self.stack.look_at_next(self.listener.each) {
                Look::Event(event) => return Some(event),
                Look::New(id) => self.listener.push(id),
                Look::Nothing => {}
            }
        }
        self.listener.next_event()
    }

    /// How long the caller may sleep at `now`, unless a frame arrives or another core rings; zero while there is something
    /// to do; `None`: for ever.
    pub fn idle(&self, now: Time) -> Option<Duration> {
        if self.has_work() { Some(Duration::ZERO) } else { self.stack.next_deadline(now) }
    }

    /// Whether there is work of which no descriptor tells: what a caller asks last before it sleeps
    /// ([`nic::Sleeper::sleep`]).
    pub fn has_work(&self) -> bool {
        let pending = |port: &Port<Q>| port.queue().has_pending() || port.unsent() > 0;
        self.listener.has_news() || self.stack.has_work() || self.strays.has_frames() || self.ports.iter().any(pending)
    }

    /// What the core sleeps on: its queues, and its doorbell `bell`, which other cores ring.
    pub fn sleeper(&self, bell: Arc<Doorbell>) -> Sleeper {
        Sleeper::new(bell, self.descriptors())
    }

    /// The same, where the kernel polls the drivers of the queues before it lets the core sleep.
    ///
    /// # Errors
    /// As [`Sleeper::polling`].
    pub fn polling_sleeper(&self, bell: Arc<Doorbell>) -> io::Result<Sleeper> {
        Sleeper::polling(bell, self.descriptors())
    }

    fn descriptors(&self) -> impl Iterator<Item = std::os::fd::RawFd> + '_ {
        self.ports.iter().filter_map(|port| port.queue().raw_fd())
    }

    /// The stack, for its counters.
    #[inline]
    pub fn stack(&self) -> &NetStack {
        &self.stack
    }

    /// The stack, to be told of the link: routes, neighbours, that addresses are to be announced.
    #[inline]
    pub fn stack_mut(&mut self) -> &mut NetStack {
        &mut self.stack
    }

    /// The queues' ports, for their counters.
    #[inline]
    pub fn ports(&self) -> &[Port<Q>] {
        &self.ports
    }

    /// The same, to be changed.
    #[inline]
    pub fn ports_mut(&mut self) -> &mut [Port<Q>] {
        &mut self.ports
    }

    /// The stack and the ports at once, for a step of a turn that is none of those here: to take in a frame that was kept, for
    /// one.
    #[inline]
    pub fn parts_mut(&mut self) -> (&mut NetStack, &mut [Port<Q>]) {
        (&mut self.stack, &mut self.ports)
    }

    /// The way that frames go round the cores, for its counters.
    pub fn strays(&self) -> &StrayRing {
        &self.strays
    }

    /// Has each queue replaced by one around it, or any other that takes the frames of the one that was: to record what goes
    /// through them, for one.
    pub fn map_queues(&mut self, mut around: impl FnMut(Q) -> Q) {
        let ports = std::mem::take(&mut self.ports);
        self.ports = ports.into_iter().map(|port| port.map_queue(&mut around)).collect();
    }

    /// Frames that have been written and that no queue has taken yet.
    pub fn unsent(&self) -> usize {
        self.ports.iter().map(Port::unsent).sum()
    }

    /// Gives every frame back, and the queues.
    pub fn into_queues(self) -> Vec<Q> {
        self.ports.into_iter().map(Port::into_queue).collect()
    }
}
