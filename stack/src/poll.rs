//! `Poll`: a core's network as an application sees it, a turn at a time: what was written leaves, what has arrived is taken
//! in, and what is true of the flows that this concerns is told.
//!
//! ```text
//!   poll ─► flush, transmit ─► receive, ingest, strays, expire ─► Events
//!    ▲                                                              │
//!    └──────── the application: accept, flow(id).recv / send ◄──────┘
//! ```
//!
//! It is epoll with the names of mio, over the stack's own ready list: a turn costs as much as there is news, however many
//! flows there are. Invariant: nothing arrives between two calls, so a visit of a flow is bounded by what its rings hold,
//! and no flow is told of twice in a turn. No clock, no thread, no sleep: [`idle`](Poll::idle) says how long the caller may
//! sleep on the queues' descriptors. Read first: epoll(7); `ready.rs`, `net_stack/events.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use nic::{BURST, Queue, QueueError};

use crate::clock::Time;
use crate::connect::{Connect, ConnectError};
use crate::datagram::{DatagramHandler, DatagramPeer, DatagramReplies, NoFrame};
use crate::event::{Event, Events, Token};
use crate::flow::Flow;
use crate::flow_id::{Ends, FlowId};
use crate::net_stack::{Look, NetStack};
use crate::port::Port;
use crate::ready::Interest;
use crate::stray_ring::StrayRing;

/// One core's network: its stack, and the queues that it polls. Belongs to one thread at a time.
#[derive(Debug)]
pub struct Poll<Q: Queue> {
    stack: NetStack,
    ports: Vec<Port<Q>>,
    strays: StrayRing,
    listener: Listener,
}

/// Connections that wait to be accepted, and who wants to hear of them.
#[derive(Debug)]
struct Listener {
    waiting: VecDeque<FlowId>,
    /// So many, and no more are let in for now.
    limit: usize,
    is_full: bool,
    token: Token,
    interest: Interest,
    /// There is news that has not been told.
    listed: bool,
}

/// Where nobody takes datagrams.
struct NoDatagrams;

impl DatagramHandler for NoDatagrams {
    fn datagram(&mut self, _peer: &DatagramPeer, _payload: &[u8], _replies: &mut DatagramReplies<'_>) {}
}

impl<Q: Queue> Poll<Q> {
    /// Of a stack and the queues of its core, in the order that [`Flow::port`] and [`Connect::port`] number them. Nobody
    /// listens at first: where there are other cores, connections are handed over to them.
    pub fn new(mut stack: NetStack, queues: impl IntoIterator<Item = Q>) -> Self {
        stack.set_worker(false);
        let limit = stack.config().syn_queue;
        let listener = Listener {
            // Handshakes that are under way when it is full are completed all the same, and a burst may begin some more.
            waiting: VecDeque::with_capacity(2 * limit + BURST),
            limit,
            is_full: false,
            token: Token(0),
            interest: Interest::empty(),
            listed: false,
        };
        let ports = queues.into_iter().map(Port::new).collect();
        Self { stack, ports, strays: StrayRing::default(), listener }
    }

    /// The same, with this core's place in the ring of all cores of the address.
    #[must_use]
    pub fn with_strays(mut self, strays: StrayRing) -> Self {
        self.strays = strays;
        self
    }

    /// One turn: sends what was written since the last, takes in what has arrived, and fills `events`. Datagrams are
    /// dropped and counted.
    ///
    /// # Errors
    /// A queue failed; the core cannot go on.
    pub fn poll(&mut self, now: Time, events: &mut Events) -> Result<(), QueueError> {
        self.turn(now, events, None::<&mut NoDatagrams>)
    }

    /// The same, with the datagrams that have arrived handed to `datagrams`, each in its place among the other frames.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn poll_with(
        &mut self,
        now: Time,
        events: &mut Events,
        datagrams: &mut impl DatagramHandler,
    ) -> Result<(), QueueError> {
        self.turn(now, events, Some(datagrams))
    }

    fn turn(
        &mut self,
        now: Time,
        events: &mut Events,
        datagrams: Option<&mut impl DatagramHandler>,
    ) -> Result<(), QueueError> {
        self.send(now)?;
        self.receive(now, datagrams);
        self.tell(events);
        Ok(())
    }

    /// The first part of a [`poll`](Self::poll): sends what was written, and ACKs with it. For who does something of its own
    /// between the parts.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn send(&mut self, now: Time) -> Result<(), QueueError> {
        self.stack.flush(now, &mut self.ports);
        for port in &mut self.ports {
            port.transmit()?;
        }
        Ok(())
    }

    /// The second part: takes in the frames that have arrived, of other cores too, and fires timers that are due.
    pub fn take_in(&mut self, now: Time) {
        self.receive(now, None::<&mut NoDatagrams>);
    }

    fn receive(&mut self, now: Time, mut datagrams: Option<&mut impl DatagramHandler>) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.receive();
            self.stack.ingest_datagrams(now, port, index, datagrams.as_deref_mut());
        }
        self.strays.exchange(now, &mut self.stack, &mut self.ports);
        self.stack.expire(now);
    }

    /// The third part: fills `events`. Looks at each flow with news once; what has news again meanwhile has its turn in the
    /// next.
    pub fn tell(&mut self, events: &mut Events) {
        events.clear();
        for _ in 0..self.stack.listed() {
            if events.is_full() {
                break;
            }
            match self.stack.look_at_next() {
                Look::New(id) => self.listener.push(id),
                Look::Event(event) => events.push(event),
                Look::Nothing => {}
            }
        }
        self.pause_or_resume();
        self.listener.tell(events);
    }

    /// Lets no more connections in while as many as there may be wait to be accepted, those among them that wait to be found by
    /// [`tell`](Self::tell); lets them in again when half have been taken, or have ended.
    fn pause_or_resume(&mut self) {
        let (waiting, limit) = (self.listener.waiting.len() + self.stack.unfound(), self.listener.limit);
        let is_full = if self.listener.is_full { waiting > limit / 2 } else { waiting >= limit };
        if is_full != self.listener.is_full {
            self.listener.is_full = is_full;
            self.stack.set_accepting(!is_full);
        }
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
        let listener = self.listener.listed && self.listener.interest.contains(Interest::READABLE);
        listener || self.stack.has_work() || self.strays.has_frames() || self.ports.iter().any(pending)
    }

    /// Tells with `token` of connections that wait to be accepted, from now on; [`Interest::READABLE`], in which way. What
    /// waits already is told too. With an empty interest nobody listens any more: connections that come are handed over to
    /// the other cores, of which the first that listens has them, or dropped, and tried again by their clients.
    pub fn listen(&mut self, token: Token, interest: Interest) {
        self.stack.set_worker(!interest.is_empty());
        self.listener.token = token;
        self.listener.interest = interest;
        self.listener.listed = true;
    }

    /// Takes the connection that has waited longest. Nothing is told of it until it is registered.
    pub fn accept(&mut self) -> Option<FlowId> {
        while let Some(id) = self.listener.waiting.pop_front() {
            if self.listener.is_full {
                self.pause_or_resume();
            }
            // Others have ended meanwhile.
            if self.stack.has_flow(id) {
                return Some(id);
            }
        }
        None
    }

    /// Tells with `token` of what the flow is from now on, as far as `interest` goes; what is true already is told too.
    /// Registered again, a flow has the new token and interest alone. Returns whether there is such a flow.
    pub fn register(&mut self, id: FlowId, token: Token, interest: Interest) -> bool {
        self.stack.register(id, token, interest)
    }

    /// Tells nothing more of the flow, not even its end.
    pub fn deregister(&mut self, id: FlowId) {
        self.stack.register(id, Token(0), Interest::empty());
    }

    /// As [`NetStack::connect`]. The flow is registered with [`Connect::token`] for [`Interest::EDGE`]: it is writable once it
    /// is open, and closed if it does not come to that.
    ///
    /// # Errors
    /// As [`NetStack::connect`].
    pub fn connect(
        &mut self,
        now: Time,
        connect: &Connect,
        comes_home: impl FnMut(&Ends) -> bool,
    ) -> Result<FlowId, ConnectError> {
        self.stack.connect(now, connect, comes_home)
    }

    /// The flow `id`, to read and write, or `None` when it has ended or was closed. What is written leaves with the next
    /// [`poll`](Self::poll).
    #[inline]
    pub fn flow(&mut self, id: FlowId) -> Option<Flow<'_>> {
        self.stack.flow(id)
    }

    /// Closes our direction of the flow after what was written; the peer may go on sending. The flow is told of, as of all
    /// that changes its state.
    pub fn shutdown(&mut self, id: FlowId) {
        let sends = self.stack.flow(id).is_some_and(|flow| flow.may_send());
        self.stack.shutdown(id);
        if sends {
            self.stack.wake(id);
        }
    }

    /// Has the flow looked at again in the next turn, behind others: for one of which the application has not taken
    /// everything.
    pub fn again(&mut self, id: FlowId) {
        self.stack.wake(id);
    }

    /// As [`NetStack::send_datagram`].
    ///
    /// # Errors
    /// As [`NetStack::send_datagram`].
    pub fn send_datagram(
        &mut self,
        to: &DatagramPeer,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), NoFrame> {
        self.stack.send_datagram(&mut self.ports, to, len, write)
    }

    /// The stack, for its counters.
    pub fn stack(&self) -> &NetStack {
        &self.stack
    }

    /// The stack, to be set otherwise.
    pub fn stack_mut(&mut self) -> &mut NetStack {
        &mut self.stack
    }

    /// The queues' ports, to sleep on their descriptors and for their counters.
    pub fn ports(&self) -> &[Port<Q>] {
        &self.ports
    }

    /// The same, to be changed.
    pub fn ports_mut(&mut self) -> &mut [Port<Q>] {
        &mut self.ports
    }

    /// Gives every frame back, and the queues.
    pub fn into_queues(self) -> Vec<Q> {
        self.ports.into_iter().map(Port::into_queue).collect()
    }
}

impl Listener {
    fn push(&mut self, id: FlowId) {
        self.waiting.push_back(id);
        self.listed = true;
    }

    /// Tells of what waits, if somebody wants to hear it and there is news.
    fn tell(&mut self, events: &mut Events) {
        if !self.listed || !self.interest.contains(Interest::READABLE) {
            return;
        }
        let waits = !self.waiting.is_empty();
        self.listed = waits && self.interest.contains(Interest::LEVEL);
        if !waits {
            return;
        }
        if self.interest.contains(Interest::ONESHOT) {
            self.interest = Interest::ONESHOT;
        }
        let (flow, token, met) = (FlowId::NONE, self.token, Interest::READABLE);
        events.push(Event { flow, token, met, peer_closed: false, closed: None });
    }
}
