//! The connections of one core: which session belongs to which flow, and what passes between the two.
//!
//! Invariant: a flow that the stack has reported and that has not ended has a session (`sessions.rs`), and a session
//! is ended, never just dropped, so that it gives back what it holds of the cache. A session's requests and
//! answers go straight between the flow's rings and the shard but for two buffers of the core: one for what may hold a
//! token that straddles the end of the receive ring, and one for replies that are known while the receive ring is read,
//! when the transmit ring cannot be written.

use std::sync::Arc;

use cache::{CloseReason, ConnId, Core, KeyHash, Now, Session, Stop, Taken, WHOLE_MAX_BYTES};
use nic::Queue;
use stack::{Event, Flow, FlowId, Interest, Poll, Time};

use crate::admission::Admission;
use crate::arrivals::CoreArrivals;
use crate::idle::Idle;
use crate::sessions::Sessions;

/// Rounds of taking and giving that one flow gets in one turn, so that a long pipeline does not starve the others.
const ROUNDS: usize = 4;

/// Bytes of the transmit ring that are prefetched for an answer: a few cache lines, after which the processor foresees
/// the next ones itself.
const ANSWER_BYTES: usize = 192;

/// Bytes of replies that one call of [`Session::take`] may write: as many as a transmit ring usually holds.
const AT_ONCE_BYTES: usize = 8 << 10;

/// What memcached says to a connection above `-c` before it closes it (memcached.c, `maxconns_fast`).
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// The connections of one core.
#[derive(Debug)]
pub struct Connections {
    /// Of the flows that are open.
    sessions: Sessions,
    admission: Arc<Admission>,
    scratch: Scratch,
    idle: Option<Idle>,
    arrivals: Option<CoreArrivals>,
    /// Where [`abort_asleep`](Self::abort_asleep) goes on.
    aborted_to: usize,
}

/// Buffers that every visit uses anew.
#[derive(Debug)]
struct Scratch {
    /// Input that straddles the end of a receive ring, in one piece.
    input: Box<[u8; WHOLE_MAX_BYTES]>,
    /// Replies on their way to a transmit ring.
    output: Box<[u8; AT_ONCE_BYTES]>,
}

/// What is to become of a flow after a visit.
enum Next {
    /// All that could be done was done; the stack or the cache will say when there is more.
    Wait,
    /// The same, and it has more to send than the transmit ring has room for.
    Full,
    /// There is more to do, but others come first.
    Again,
    /// The session has written its last reply.
    Close,
}

impl Connections {
    /// Room for `max_flows` connections, whose total over all cores `admission` limits.
    pub fn new(max_flows: usize, admission: Arc<Admission>) -> Self {
        let scratch = Scratch { input: Box::new([0; WHOLE_MAX_BYTES]), output: Box::new([0; AT_ONCE_BYTES]) };
        Self { sessions: Sessions::new(max_flows), admission, scratch, idle: None, arrivals: None, aborted_to: 0 }
    }

    /// The limit on connections that all cores share.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Counts from now on by which queue connections come.
    pub fn count_arrivals(&mut self, arrivals: CoreArrivals) {
        self.arrivals = Some(arrivals);
    }

    /// Closes connections that have not said anything for `timeout_secs` seconds, from now on.
    pub fn close_idle_after(&mut self, timeout_secs: u32) {
        self.idle = Some(Idle::new(timeout_secs, self.sessions.capacity()));
    }

    /// Closes those of `idle`, which must have room for as many connections as this; `None`: none any more.
    pub fn close_idle_of(&mut self, idle: Option<Idle>) {
        self.idle = idle;
    }

    /// Whether connections are still looked for that are to be closed once they are silent.
    pub fn takes_in_idle(&self) -> bool {
        self.idle.as_ref().is_some_and(Idle::takes_in)
    }

    /// Closes those that have not said anything for too long, if that was asked for; a bounded number a turn.
    pub fn close_idle<Q: Queue>(&mut self, poll: &mut Poll<Q>, cache: &mut Core, now: Now) {
        let Some(idle) = &mut self.idle else { return };
        let (sessions, flows) = (&self.sessions, &*poll);
        // An index is below the number of flows, which fits 32 bits.
        idle.take_in(now.secs, |index| sessions.flow_of(ConnId(index as u32), flows));
        let idle_secs = |id: FlowId| {
            // Of one that has ended somebody else may have the index.
            flows.open_at(id.index()).filter(|&open| open == id)?;
            let idle = sessions.is_idle(id)?;
            Some(if idle { cache.idle_secs(ConnId(id.index() as u32)) } else { 0 })
        };
        let Some(id) = idle.next_overdue(now.secs, idle_secs) else { return };
        cache.counters().idle_kicks.add(1);
        if let Some(flow) = poll.flow(id) {
            flow.close();
        }
        self.end(id, cache, CloseReason::IdleTimeout);
    }

    /// Forgets of some connections what can be made again, where there are many. Once a turn.
    #[inline]
    pub fn lay_to_rest(&mut self) {
        self.sessions.lay_to_rest();
    }

    /// Has every connection forget what can be made again, its flow too. For tests: looks at all of them. Returns how many
    /// flows sleep then.
    pub fn lay_all_to_rest<Q: Queue>(&mut self, poll: &mut Poll<Q>) -> usize {
        self.sessions.lay_all_to_rest();
        poll.stack_mut().lay_all_down();
        poll.stack().sleepers().0
    }

    /// The flow of a connection, if it is still open.
    pub fn flow_of<Q: Queue>(&self, conn: ConnId, poll: &Poll<Q>) -> Option<FlowId> {
        self.sessions.flow_of(conn, poll)
    }

    /// Prefetches what [`foresee`](Self::foresee) and [`serve`](Self::serve) will read of the flow's connection.
    #[inline]
    pub fn prefetch(&self, id: FlowId, cache: &Core) {
        self.sessions.prefetch(id);
        // An index is below the number of flows, which fits 32 bits.
        cache.prefetch_connection(ConnId(id.index() as u32));
    }

    /// Prefetches the line of the index for the first key that the flow asks for and, if the flow is `far` from the
    /// caches, the place where its answer will be written. Returns that key's hash.
    #[inline]
    pub fn foresee<Q: Queue>(&mut self, id: FlowId, far: bool, poll: &mut Poll<Q>, cache: &Core) -> Option<KeyHash> {
        let session = self.sessions.get(id)?;
        let mut flow = poll.flow(id)?;
        if far {
            flow.send(|out| {
                cpu::prefetch_beyond(out, 0, ANSWER_BYTES.min(out.len()));
                (0, ())
            });
        }
        flow.recv(|input| (0, session.foresee(cache, input)))
    }

    /// Serves the flow of an event. Returns whether it is to have another turn, whatever happens to it.
    pub fn serve<Q: Queue>(&mut self, event: &Event, poll: &mut Poll<Q>, cache: &mut Core, now: Now) -> bool {
        if event.begins_or_ends() && !self.begin_or_end(event, poll, cache, now) {
            return false;
        }
        let id = event.flow();
        let Some(session) = self.sessions.get(id) else { return false };
        let Some(mut flow) = poll.flow(id) else { return false };
        match visit(session, &mut flow, cache, now, &mut self.scratch) {
            Next::Wait => {
                if event.is_writable() {
                    flow.set_interest(Interest::READABLE);
                }
                false
            }
            // It goes on at once if there are larger rings, else once there is room.
            Next::Full => {
                flow.set_interest(Interest::EDGE);
                poll.enlarge(id)
            }
            Next::Again => true,
            Next::Close => {
                let reason = if session.is_broken() { CloseReason::Error } else { CloseReason::Normal };
                flow.close();
                self.end(id, cache, reason);
                false
            }
        }
    }

    /// Begins or ends a connection, as the event says. Returns whether it has something to say now.
    #[inline(never)]
    fn begin_or_end<Q: Queue>(&mut self, event: &Event, poll: &mut Poll<Q>, cache: &mut Core, now: Now) -> bool {
        let id = event.flow();
        if event.is_new() && !self.admit(id, poll, cache, now) {
            return false;
        }
        if let Some(reason) = event.closed() {
            let normal = reason == stack::CloseReason::Finished;
            self.end(id, cache, if normal { CloseReason::Normal } else { CloseReason::Error });
            return false;
        }
        // One that has nothing to say yet needs no session before.
        event.is_readable()
    }

    /// Throws a connection away because the cache says that it holds up others.
    pub fn abort<Q: Queue>(&mut self, conn: ConnId, poll: &mut Poll<Q>, cache: &mut Core) {
        let Some(id) = self.flow_of(conn, poll) else { return };
        if let Some(flow) = poll.flow(id) {
            flow.abort();
        }
        self.end(id, cache, CloseReason::Error);
    }

    /// Serves every connection once more and closes those that are owed nothing; for a core that stops. With `all`,
    /// throws away the rest too. Looks at every connection: not for the packet path.
    pub fn drain<Q: Queue>(&mut self, all: bool, poll: &mut Poll<Q>, cache: &mut Core, now: Now) {
        for index in 0..self.sessions.capacity() {
            // An index is below the number of flows, which fits 32 bits.
            let Some(id) = self.flow_of(ConnId(index as u32), poll) else { continue };
            // One that sleeps is closed once others that were have given their blocks back.
            if !poll.may_visit(id) {
                continue;
            }
            let Some(session) = self.sessions.get(id) else { continue };
            if let Some(mut flow) = poll.flow(id) {
                match visit(session, &mut flow, cache, now, &mut self.scratch) {
                    Next::Close => flow.close(),
                    Next::Wait | Next::Full if session.pending() == 0 => flow.close(),
                    _ if all => flow.abort(),
                    _ => continue,
                }
            }
            self.end(id, cache, CloseReason::Shutdown);
        }
    }

    /// Throws away connections that sleep and are owed nothing, without waking them, for as long as there are frames to tell
    /// their clients by; the next call goes on from there. For a core that stops, and with more of them than it can close.
    pub fn abort_asleep<Q: Queue>(&mut self, time: Time, poll: &mut Poll<Q>, cache: &mut Core) {
        let from = self.aborted_to;
        for index in from..self.sessions.capacity() {
            self.aborted_to = index;
            // An index is below the number of flows, which fits 32 bits.
            let Some(id) = self.flow_of(ConnId(index as u32), poll).filter(|&id| poll.is_asleep(id)) else {
                continue;
            };
            if self.sessions.is_idle(id) != Some(true) {
                continue;
            }
            if !poll.abort_asleep(time, id) {
                return;
            }
            self.end(id, cache, CloseReason::Shutdown);
        }
        // Others may have fallen asleep meanwhile.
        self.aborted_to = 0;
    }

    fn admit<Q: Queue>(&mut self, id: FlowId, poll: &mut Poll<Q>, cache: &mut Core, now: Now) -> bool {
        let counters = cache.counters();
        counters.total_connections.add(1);
        if let (Some(arrivals), Some(flow)) = (&self.arrivals, poll.flow(id)) {
            arrivals.add(flow.port(), flow.peer(), flow.local());
        }
        if !self.admission.enter() {
            counters.rejected_connections.add(1);
            if let Some(mut flow) = poll.flow(id) {
                flow.send_slice(TOO_MANY);
                flow.close();
            }
            return false;
        }
        counters.curr_connections.add(1);
        // An index is below the number of flows, which fits 32 bits.
        let conn = ConnId(id.index() as u32);
        if let Some(flow) = poll.flow(id) {
            cache.open(conn, flow.peer(), flow.local().ip());
        }
        if let Some(idle) = &mut self.idle {
            idle.add(id, now.secs);
        }
        self.sessions.begin(id);
        true
    }

    fn end(&mut self, id: FlowId, cache: &mut Core, reason: CloseReason) {
        if let Some(session) = self.sessions.end(id) {
            self.admission.leave();
            cache.counters().curr_connections.sub(1);
            cache.note_close(session.conn(), reason);
            session.end(cache);
        }
    }
}

/// Lets the session take and give until neither moves, or others are to have their turn.
fn visit(session: &mut Session, flow: &mut Flow<'_>, cache: &mut Core, now: Now, scratch: &mut Scratch) -> Next {
    for _ in 0..ROUNDS {
        let (taken, stop) = take(session, flow, cache, now, scratch);
        if stop == Stop::NeedInput && flow.peer_closed() {
            // The session has seen all that came. A peer that has closed its direction will not finish a request that
            // it began.
            session.end_input(cache);
        }
        let given = give(session, flow, cache);
        if session.finished() {
            return Next::Close;
        }
        // All input is taken, or too little for a token is left; what was given made no difference to that.
        if stop == Stop::NeedInput || taken == 0 && given == 0 && stop != Stop::Yield {
            let full = stop == Stop::NeedRoom || session.pending() > 0 && flow.send_room() == 0;
            return if full { Next::Full } else { Next::Wait };
        }
    }
    Next::Again
}

/// Lets the session take from the receive ring what it can. Returns how many bytes that was, and why it stopped.
fn take(
    session: &mut Session,
    flow: &mut Flow<'_>,
    cache: &mut Core,
    now: Now,
    scratch: &mut Scratch,
) -> (usize, Stop) {
    let Scratch { input: piece, output } = scratch;
    let mut total = 0;
    loop {
        let waiting = flow.recv_queue();
        let room = flow.send_room().min(output.len());
        let (seen, taken) = flow.recv(|input| {
            if input.len() < waiting.min(piece.len()) {
                // A token may straddle the end of the ring. It is not tried on this part first: a connection that has
                // come to the head of a queue in the cache has one try.
                return (0, (input.len(), Taken { consumed: 0, written: 0, stop: Stop::NeedInput }));
            }
            let taken = session.take(cache, input, &mut output[..room], now);
            (taken.consumed, (input.len(), taken))
        });
        send(flow, &output[..taken.written]);
        total += taken.consumed;
        if taken.stop != Stop::NeedInput || taken.consumed == waiting {
            return (total, taken.stop);
        }
        if taken.consumed == 0 {
            if seen == waiting {
                return (total, taken.stop);
            }
            // Look at both parts in one piece.
            let length = flow.peek(&mut piece[..]);
            let room = room - taken.written;
            let taken = session.take(cache, &piece[..length], &mut output[..room], now);
            send(flow, &output[..taken.written]);
            if taken.consumed == 0 {
                return (total, taken.stop);
            }
            total += taken.consumed;
            discard(flow, taken.consumed);
            if taken.stop != Stop::NeedInput {
                return (total, taken.stop);
            }
        }
    }
}

/// Sends the replies that a session has written at once, for which there was room.
fn send(flow: &mut Flow<'_>, replies: &[u8]) {
    if !replies.is_empty() {
        let sent = flow.send_slice(replies);
        debug_assert_eq!(sent, replies.len(), "the room was asked before");
    }
}

/// Throws away bytes at the front of the receive ring that were taken from the scratch.
fn discard(flow: &mut Flow<'_>, mut bytes: usize) {
    while bytes > 0 {
        let gone = flow.recv(|input| {
            let part = input.len().min(bytes);
            (part, part)
        });
        if gone == 0 {
            return;
        }
        bytes -= gone;
    }
}

/// Lets the session write what it owes into the transmit ring. Returns how many bytes that was.
fn give(session: &mut Session, flow: &mut Flow<'_>, cache: &mut Core) -> usize {
    if session.pending() == 0 {
        return 0;
    }
    let mut total = 0;
    loop {
        let (written, more) = flow.send(|out| {
            let given = session.give(cache, out);
            (given.written, (given.written, given.more))
        });
        total += written;
        if !more || written == 0 {
            return total;
        }
    }
}
