//! Connections over this project's own TCP/IP, one queue a thread: nothing of the kernel but the driver is in the way.
//!
//! It spins: a turn takes what has arrived, and the thread sleeps only if it is told to. Slots are the stack's
//! tokens. Bounded in space: blocks and rings are made at start. Bytes that a reset overtakes within one turn are not
//! shown. Dropping it closes what is open and waits, for at most [`LINGER`], until the peer has answered.
//! Read first: `stack::Poll`.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nic::{Doorbell, Queue, QueueError};
use stack::{
    CloseReason, Connect, ConnectError, Event, Flow, FlowId, Interest, Mac, NetStack, Poll, StrayRing, Time, Token,
    Waiter,
};

use super::{Close, End, Nanos, News, Slot, Transport, TransportError};

/// How long closing connections are waited for at the end, as long as they go on closing.
pub const LINGER: Duration = Duration::from_secs(5);

/// Silence of a peer after which no more closing connections are waited for.
const LINGER_SILENCE: Duration = Duration::from_millis(500);

/// What a stack takes to test its addresses of IPv6 before it connects from one (RFC 4862 §5.4), and more: until then slots wait.
const ADDRESS_TAKES: Duration = Duration::from_secs(3);

/// How long slots that wait for room do without a look.
const RETRY: Duration = Duration::from_millis(1);

/// Connections begun again in one turn because there was no room for them before.
const RETRIES_PER_TURN: usize = 64;

/// Reads the time since the start of the run.
pub type Clock = Box<dyn FnMut() -> Duration + Send>;

/// Which server a worker connects to, and with which of the source ports.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The server.
    pub server: SocketAddr,
    /// The Ethernet address of the server, or of the gateway; `None`: as the stack finds it.
    pub mac: Option<Mac>,
    /// This worker's number and how many there are: each has source ports of its own.
    pub worker: (u16, u16),
}

/// What a worker does that has nothing to do.
#[derive(Debug)]
enum Pause {
    /// It looks again at once.
    None,
    /// It looks again for a while, then sleeps until there is something to do.
    Sleep(Waiter),
    /// It stays away for so long, whatever comes meanwhile.
    Rest(Duration),
}

/// A worker's connections, over a queue of its own.
pub struct OwnStack<Q: Queue> {
    route: Route,
    clock: Clock,
    poll: Poll<Q>,
    /// The flow of each slot that is not closed.
    flows: Vec<Option<FlowId>>,
    /// What is known and not yet told.
    told_next: VecDeque<(Slot, News)>,
    /// Slots that found no room to be opened.
    waiting: VecDeque<Slot>,
    /// When a slot first found no way.
    begun: Option<Time>,
    pause: Pause,
}

impl<Q: Queue> fmt::Debug for OwnStack<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnStack").field("route", &self.route).field("stack", self.stack()).finish_non_exhaustive()
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> TransportError {
    TransportError::Other(Box::new(error))
}

/// What the end of a flow means to the engine.
fn end_of(reason: CloseReason) -> End {
    match reason {
        CloseReason::Refused => End::Refused,
        CloseReason::TimedOut | CloseReason::Unreachable => End::TimedOut,
        CloseReason::Finished => End::Finished,
        _ => End::Reset,
    }
}

impl<Q: Queue> OwnStack<Q> {
    /// A transport for slots below `slots` over `stack` and `queue`. `strays` goes round all workers.
    pub fn new(route: Route, slots: usize, stack: NetStack, queue: Q, strays: Option<StrayRing>, clock: Clock) -> Self {
        Self {
            route,
            clock,
            poll: Poll::new(stack, [queue]).with_strays(strays.unwrap_or_default()),
            flows: vec![None; slots],
            // Each slot has at most what one report of its flow says, and its end.
            told_next: VecDeque::with_capacity(slots + 4),
            waiting: VecDeque::with_capacity(slots),
            begun: None,
            pause: Pause::None,
        }
    }

    /// The same, which sleeps when it has looked for frames for as long as `spin`. Other workers wake it by `bell`.
    pub fn sleeping(mut self, bell: Arc<Doorbell>, spin: Duration) -> Self {
        self.pause = Pause::Sleep(Waiter::new(self.poll.sleeper(bell), spin));
        self
    }

    /// The same, which stays away for `rest` when it has nothing to do: what is due or arrives meanwhile waits.
    pub fn resting(mut self, rest: Duration) -> Self {
        self.pause = Pause::Rest(rest);
        self
    }

    /// The stack, for its counters.
    pub fn stack(&self) -> &NetStack {
        self.poll.stack()
    }

    fn time(&mut self) -> Time {
        Time::from_duration((self.clock)())
    }

    fn flow(&mut self, slot: Slot) -> Option<Flow<'_>> {
        let id = (*self.flows.get(slot as usize)?)?;
        self.poll.flow(id)
    }

    /// Takes in what has arrived and fires timers. Returns whether there may be news or something to send.
    fn take_in(&mut self, now: Time) -> bool {
        self.poll.take_in(now) > 0 || self.stack().has_work()
    }

    fn send_out(&mut self, now: Time) -> Result<(), QueueError> {
        self.poll.send(now).map(drop)
    }

    /// Begins to open a slot, or has it wait where the stack has no room just now.
    fn begin(&mut self, slot: Slot) -> Result<(), TransportError> {
        let now = self.time();
        let mut connect = Connect::to(self.route.server);
        connect.mac = self.route.mac;
        // Of room it wants to hear only when a write has found too little.
        (connect.token, connect.interest) = (Token(slot as usize), Interest::READABLE);
        let (worker, workers) = self.route.worker;
        match self.poll.connect(now, &connect, |key| key.local_port % workers == worker) {
            Ok(id) => self.flows[slot as usize] = Some(id),
            // Flows that are closing have the blocks: some are free in a moment.
            Err(ConnectError::NoFreeFlow { .. } | ConnectError::NoBlockYet) => self.waiting.push_back(slot),
            Err(ConnectError::NoRoute { .. }) if self.may_still_test_its_address(now) => self.waiting.push_back(slot),
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    /// Whether there may be no way yet only because no address of IPv6 has been tested.
    fn may_still_test_its_address(&mut self, now: Time) -> bool {
        let begun = *self.begun.get_or_insert(now);
        self.route.server.is_ipv6() && now.since(begun) < ADDRESS_TAKES
    }

    fn retry_waiting(&mut self) -> Result<(), TransportError> {
        for _ in 0..self.waiting.len().min(RETRIES_PER_TURN) {
            let Some(slot) = self.waiting.pop_front() else { break };
            let before = self.waiting.len();
            self.begin(slot)?;
            if self.waiting.len() > before {
                break;
            }
        }
        Ok(())
    }

    /// What an event says first; what else it says is lined up. What is not of the slot's present flow says nothing.
    #[inline]
    fn tell(&mut self, event: &Event) -> Option<(Slot, News)> {
        let Token(slot) = event.token();
        if *self.flows.get(slot)? != Some(event.flow()) {
            return None;
        }
        if event.begins_or_ends() || event.is_writable() {
            self.line_up(slot, event);
            return self.told_next.pop_front();
        }
        event.is_readable().then_some((slot as Slot, News::Readable))
    }

    /// Lines up all that an event says.
    #[inline(never)]
    fn line_up(&mut self, slot: usize, event: &Event) {
        let ended = event.closed();
        if ended.is_some() {
            self.flows[slot] = None;
        } else if event.is_writable()
            && let Some(mut flow) = self.poll.flow(event.flow())
        {
            flow.set_interest(Interest::READABLE);
        }
        let said = [
            event.is_new().then_some(News::Opened),
            (event.is_readable() && ended.is_none()).then_some(News::Readable),
            (event.is_writable() && ended.is_none()).then_some(News::Writable),
            ended.map(|reason| News::Ended(end_of(reason))),
        ];
        self.told_next.extend(said.into_iter().flatten().map(|news| (slot as Slot, news)));
    }

    /// Pauses as it was told to, at the latest until something is due, or a whole rest.
    fn pause(&mut self, now: Time, until: Nanos) -> Result<(), TransportError> {
        if matches!(self.pause, Pause::None) {
            std::hint::spin_loop();
            return Ok(());
        }
        let retry = if self.waiting.is_empty() { Duration::MAX } else { RETRY };
        let due = Duration::from_nanos(until).saturating_sub((self.clock)());
        let limit = self.poll.idle(now).unwrap_or(Duration::MAX).min(due).min(retry);
        match &mut self.pause {
            Pause::Sleep(waiter) => {
                let slept = waiter.wait(now, Some(limit), || self.poll.has_work());
                slept.map(drop).map_err(|source| TransportError::Io { act: "sleep", source })?;
            }
            Pause::Rest(rest) if !limit.is_zero() => std::thread::sleep(*rest),
            Pause::Rest(_) | Pause::None => {}
        }
        Ok(())
    }

    /// Closes what is open and waits a while until the peer has answered.
    fn linger(&mut self) {
        for slot in 0..self.flows.len() {
            self.close(slot as Slot, Close::InOrder);
        }
        let begun = self.time();
        let (mut heard, mut left) = (begun, self.poll.flows());
        loop {
            let now = self.time();
            self.take_in(now);
            while self.poll.next_event().is_some() {}
            if self.send_out(now).is_err() || self.poll.flows() == 0 {
                return;
            }
            if self.poll.flows() < left {
                (heard, left) = (now, self.poll.flows());
            }
            if now.since(heard) > LINGER_SILENCE || now.since(begun) > LINGER {
                return;
            }
        }
    }
}

impl<Q: Queue> Drop for OwnStack<Q> {
    fn drop(&mut self) {
        self.linger();
    }
}

impl<Q: Queue> Transport for OwnStack<Q> {
    #[inline]
    fn now(&mut self) -> Nanos {
        u64::try_from((self.clock)().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wait(&mut self, until: Nanos) -> Result<(), TransportError> {
        loop {
            let now = self.time();
            let work = self.take_in(now);
            if !self.waiting.is_empty() {
                self.retry_waiting()?;
            }
            if work || !self.told_next.is_empty() || self.now() >= until {
                if let (Pause::Sleep(waiter), true) = (&mut self.pause, work) {
                    waiter.note_busy(now);
                }
                return Ok(());
            }
            // What was written before may still be in the queue, and what was received must be given back to it.
            self.poll.transmit().map_err(failed)?;
            self.pause(now, until)?;
        }
    }

    #[inline]
    fn news(&mut self) -> Option<(Slot, News)> {
        loop {
            if let Some(news) = self.told_next.pop_front() {
                return Some(news);
            }
            let event = self.poll.next_event()?;
            if let Some(news) = self.tell(&event) {
                return Some(news);
            }
        }
    }

    fn open(&mut self, slot: Slot) -> Result<(), TransportError> {
        self.begin(slot)
    }

    #[inline]
    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos)) {
        let now = self.now();
        let Some(mut flow) = self.flow(slot) else { return };
        // The ring holds at most two pieces, and nothing is added to it meanwhile.
        while flow.recv_queue() > 0 {
            flow.recv(|bytes| {
                take(bytes, now);
                (bytes.len(), ())
            });
        }
        if flow.peer_closed() {
            flow.close();
            self.flows[slot as usize] = None;
            self.told_next.push_back((slot, News::Ended(End::Finished)));
        }
    }

    #[inline]
    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        let Some(mut flow) = self.flow(slot) else { return 0 };
        let sent = flow.send_slice(bytes);
        if sent < bytes.len() {
            flow.set_interest(Interest::EDGE);
        }
        sent
    }

    fn close(&mut self, slot: Slot, how: Close) {
        if !self.told_next.is_empty() {
            self.told_next.retain(|&(of, _)| of != slot);
        }
        if !self.waiting.is_empty() {
            self.waiting.retain(|&of| of != slot);
        }
        if let Some(flow) = self.flow(slot) {
            match how {
                Close::InOrder => flow.close(),
                Close::Reset => flow.abort(),
            }
        }
        if let Some(place) = self.flows.get_mut(slot as usize) {
            *place = None;
        }
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        let now = self.time();
        self.send_out(now).map_err(failed)
    }
}
