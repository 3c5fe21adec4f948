//! The generator itself: which connection sends what when, and what its news mean. It does no I/O and reads no clock;
//! both come from the [`Transport`] that each call is given.
//!
//! A run is a sequence of phases ([`phase`]): open connections, load, read back, measure, probe the dead. Within a
//! phase the driver takes turns until [`is_done`](Engine::is_done):
//!
//! ```text
//! transport.wait(engine.deadline()) ─► engine.turn(transport) ─► transport.flush()
//! ```
//!
//! Invariants: `busy` is the number of requests in flight of the phase (of connections in use, when each request has
//! one of its own); every arrival, request and connection that comes to an end is counted in the tally under exactly
//! one name; nothing allocates once every connection has had as many requests in flight as it may.

// A new connection for each request.
mod churn;
// Which connection is given which request, in closed and in open loop.
mod feed;
// The phases: how each begins and when it is done.
pub mod phase;
// How a phase begins.
mod start;

use std::net::SocketAddr;

use crate::codec::Codec;
use crate::connection::Connection;
use crate::mismatch::Mismatch;
use crate::reply::Desk;
use crate::tally::{Tally, record};
use crate::transport::{Close, End, Nanos, News, Slot, Transport, TransportError};
use crate::workload::{Operation, Request};

use phase::Phase;

/// News attended to in one turn; what is left comes in the next.
const NEWS_PER_TURN: usize = 64;
/// In an open loop arrivals are looked after between so many news, or a burst of news would make them late.
const NEWS_BETWEEN_ARRIVALS: usize = 4;
/// Connections looked at for time-outs in one turn.
const SCANNED_AT_A_TIME: usize = 512;
/// Bytes of requests gathered before they are handed to the transport.
const OUT_BYTES: usize = 16 * 1024;

/// Why a run could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A connection could not be opened.
    #[error("cannot open connection {slot} to {server}: {reason}")]
    Connect {
        /// The server.
        server: SocketAddr,
        /// Which connection.
        slot: Slot,
        /// What happened, and what to look at.
        reason: &'static str,
    },
    /// The server ended a connection that was in use.
    #[error("the server closed a connection ({how}) that had {in_flight} requests in flight")]
    Closed {
        /// In order or by reset.
        how: &'static str,
        /// Requests without a whole reply.
        in_flight: usize,
    },
    /// No reply came for too long.
    #[error(
        "no reply came for {seconds:.1} s while {in_flight} requests were in flight: the server hangs, or --timeout is \
         too short for it"
    )]
    Stalled {
        /// How long nothing came.
        seconds: f64,
        /// Requests without a whole reply.
        in_flight: u64,
    },
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Where a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnState {
    Closed,
    Opening,
    Open,
    /// Closed after a wrong reply; not used again in this phase.
    Retired,
}

/// A slot's connection.
#[derive(Debug)]
struct SlotConn {
    state: ConnState,
    connection: Connection,
    /// When it began to be opened; then, when it last finished a request, or had one after having none.
    moved: Nanos,
    /// A connection for one request: when that began.
    intended: Nanos,
    /// A connection for one request: which.
    asked: Request,
}

/// What stays the same through all phases.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server, for messages.
    pub server: SocketAddr,
    /// Connections of this engine, dead ones included.
    pub slots: usize,
    /// How long a connection may take to open, and to finish another request.
    pub timeout: Nanos,
    /// How a connection that has served its one request is closed.
    pub close: Close,
}

/// One worker's connections.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    codec: Codec,
    conns: Vec<SlotConn>,
    phase: Phase,
    busy: u64,
    tally: Tally,
    answered_at: Nanos,
    next_scan: Nanos,
    /// The slot to be scanned next.
    scanned: Slot,
    out: Vec<u8>,
    scratch: Vec<u8>,
}

impl Engine {
    /// An engine with all connections closed and nothing to do.
    pub fn new(settings: Settings, codec: Codec) -> Self {
        let asked = Request { operation: Operation::Get, key: 0 };
        let conn =
            || SlotConn { state: ConnState::Closed, connection: Connection::new(), moved: 0, intended: 0, asked };
        let conns = (0..settings.slots).map(|_| conn()).collect();
        Self {
            settings,
            codec,
            conns,
            phase: Phase::Idle,
            busy: 0,
            tally: Tally::new(),
            answered_at: 0,
            next_scan: 0,
            scanned: 0,
            out: Vec::with_capacity(2 * OUT_BYTES),
            scratch: Vec::with_capacity(1024),
        }
    }

    /// What has been counted since the phase began.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes the tally away, leaving an empty one.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// When the engine wants its next turn even if there is no news.
    pub fn deadline(&self) -> Nanos {
        self.next_scan.min(self.phase.deadline())
    }

    /// Attends to what is due and to news, up to a bounded number of each.
    ///
    /// # Errors
    /// The run cannot be finished. A wrong reply is no error: it is counted.
    pub fn turn<T: Transport>(&mut self, transport: &mut T) -> Result<(), EngineError> {
        self.begin_due(transport)?;
        for number in 1..=NEWS_PER_TURN {
            let Some((slot, news)) = transport.news() else { break };
            match news {
                News::Readable => self.readable(slot, transport)?,
                News::Opened => self.opened(slot, transport)?,
                News::Writable => self.writable(slot, transport)?,
                News::Ended(end) => self.ended(slot, end, transport)?,
            }
            if number % NEWS_BETWEEN_ARRIVALS == 0 {
                self.begin_due(transport)?;
            }
        }
        let now = transport.now();
        if now >= self.next_scan { self.scan(now, transport) } else { Ok(()) }
    }

    #[inline]
    fn readable<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        let Self { conns, codec, tally, scratch, .. } = self;
        let conn = &mut conns[slot as usize];
        let in_flight = conn.connection.in_flight() as u64;
        let (mut finished, mut wrong, mut at) = (0, None, 0);
        let mut desk = Desk { codec, tally, scratch };
        transport.recv(slot, &mut |bytes, now| {
            at = now;
            if wrong.is_none() {
                match conn.connection.receive(bytes, now, &mut desk) {
                    Ok(count) => finished += count,
                    Err(mismatch) => wrong = Some(mismatch),
                }
            }
        });
        if let Some(mismatch) = wrong {
            return self.wrong(slot, in_flight, mismatch, transport);
        }
        if finished == 0 {
            return Ok(());
        }
        conn.moved = at;
        self.answered_at = at;
        match &mut self.phase {
            Phase::Steady(_) => {
                self.busy -= finished;
                self.feed(slot, at, transport);
                Ok(())
            }
            Phase::Churn(_) => self.served(slot, transport),
            Phase::Probing(_) => {
                self.busy -= finished;
                self.probe_more(transport);
                Ok(())
            }
            Phase::Idle | Phase::Opening(_) => Ok(()),
        }
    }

    /// A wrong reply: the connection is out of step and closed for good. Of the `in_flight` requests before it some may
    /// have been answered rightly by the same bytes.
    fn wrong<T: Transport>(
        &mut self,
        slot: Slot,
        in_flight: u64,
        mismatch: Box<Mismatch>,
        transport: &mut T,
    ) -> Result<(), EngineError> {
        self.tally.record_wrong(mismatch);
        transport.close(slot, Close::Reset);
        let conn = &mut self.conns[slot as usize];
        let lost = conn.connection.reset() as u64;
        conn.state = ConnState::Retired;
        self.tally.abandoned += lost.saturating_sub(1);
        match &mut self.phase {
            Phase::Steady(steady) if slot < steady.slots => {
                self.busy -= in_flight;
                self.retire(slot);
                Ok(())
            }
            Phase::Churn(_) => self.free(slot, transport),
            Phase::Probing(_) => {
                self.busy -= in_flight;
                self.probe_more(transport);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn opened<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        let now = transport.now();
        let conn = &mut self.conns[slot as usize];
        conn.state = ConnState::Open;
        self.tally.connects += 1;
        record(&mut self.tally.connect_ns, conn.moved, now);
        conn.moved = now;
        match &mut self.phase {
            Phase::Opening(_) => {
                self.busy -= 1;
                self.open_more(transport)
            }
            Phase::Steady(_) => {
                self.feed(slot, now, transport);
                Ok(())
            }
            Phase::Churn(_) => {
                self.ask(slot, transport);
                Ok(())
            }
            Phase::Idle | Phase::Probing(_) => Ok(()),
        }
    }

    fn writable<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        let conn = &mut self.conns[slot as usize];
        conn.connection.send(&[], &self.codec, |bytes| transport.send(slot, bytes));
        if matches!(self.phase, Phase::Steady(_)) {
            let now = transport.now();
            self.feed(slot, now, transport);
        }
        Ok(())
    }

    fn ended<T: Transport>(&mut self, slot: Slot, end: End, transport: &mut T) -> Result<(), EngineError> {
        let conn = &mut self.conns[slot as usize];
        let was = std::mem::replace(&mut conn.state, ConnState::Closed);
        let lost = conn.connection.reset();
        match &mut self.phase {
            Phase::Churn(churn) if slot < churn.slots => {
                match end {
                    End::Refused => self.tally.refused += 1,
                    End::TimedOut if was == ConnState::Opening => self.tally.connect_timed_out += 1,
                    End::TimedOut => self.tally.timed_out += 1,
                    End::Finished | End::Reset => self.tally.cut += 1,
                }
                self.free(slot, transport)
            }
            _ if was == ConnState::Opening => Err(self.cannot_connect(slot, end)),
            Phase::Steady(steady) if slot < steady.slots => {
                let how = if end == End::Finished { "in order" } else { "by reset or time-out" };
                Err(EngineError::Closed { how, in_flight: lost })
            }
            Phase::Probing(_) => {
                self.busy -= lost as u64;
                self.probe_more(transport);
                Ok(())
            }
            // A dead connection that died: found out when it is probed.
            _ => Ok(()),
        }
    }

    fn cannot_connect(&self, slot: Slot, end: End) -> EngineError {
        let reason = match end {
            End::Refused => "refused; is the server running, on this port?",
            End::TimedOut => "no answer within --timeout; is the address right, and its backlog long enough?",
            End::Finished | End::Reset => "closed at once; has the server reached its limit of connections?",
        };
        EngineError::Connect { server: self.settings.server, slot, reason }
    }

    /// Looks for connections that have taken too long, a bounded number of them a call: each comes up sixteen times
    /// within the time limit, and no more often, as looking at half a million takes a processor milliseconds.
    fn scan<T: Transport>(&mut self, now: Nanos, transport: &mut T) -> Result<(), EngineError> {
        let timeout = self.settings.timeout;
        let slots = self.phase.in_use();
        let calls = slots.len().div_ceil(SCANNED_AT_A_TIME).max(1) as u64;
        self.next_scan = now + (timeout / 16).max(1_000_000) / calls;
        if self.busy == 0 {
            return Ok(());
        }
        for _ in 0..slots.len().min(SCANNED_AT_A_TIME) {
            let slot = if slots.contains(&self.scanned) { self.scanned } else { slots.start };
            self.scanned = slot + 1;
            let conn = &self.conns[slot as usize];
            if now.saturating_sub(conn.moved) <= timeout {
                continue;
            }
            match conn.state {
                ConnState::Opening => self.open_too_slow(slot, transport)?,
                ConnState::Open if conn.connection.in_flight() > 0 => self.reply_too_slow(slot, now, transport)?,
                _ => {}
            }
        }
        let silent = now.saturating_sub(self.answered_at);
        if silent > 4 * timeout && matches!(self.phase, Phase::Steady(_) | Phase::Probing(_)) {
            return Err(EngineError::Stalled { seconds: silent as f64 / 1e9, in_flight: self.busy });
        }
        Ok(())
    }

    fn open_too_slow<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        if !matches!(self.phase, Phase::Churn(_)) {
            return Err(self.cannot_connect(slot, End::TimedOut));
        }
        transport.close(slot, Close::Reset);
        self.conns[slot as usize].state = ConnState::Closed;
        self.tally.connect_timed_out += 1;
        self.free(slot, transport)
    }

    /// The reply to the oldest request has not come: a reply that comes later would be taken for that of another, so
    /// the connection is given up and opened anew.
    fn reply_too_slow<T: Transport>(&mut self, slot: Slot, now: Nanos, transport: &mut T) -> Result<(), EngineError> {
        transport.close(slot, Close::Reset);
        let conn = &mut self.conns[slot as usize];
        let lost = conn.connection.reset() as u64;
        conn.state = ConnState::Closed;
        self.tally.timed_out += 1;
        self.tally.abandoned += lost - 1;
        match &mut self.phase {
            Phase::Churn(_) => self.free(slot, transport),
            Phase::Steady(steady) if steady.strict => {
                let seconds = now.saturating_sub(self.answered_at) as f64 / 1e9;
                Err(EngineError::Stalled { seconds, in_flight: self.busy })
            }
            Phase::Steady(_) => {
                self.busy -= lost;
                self.open(slot, transport)
            }
            _ => {
                self.busy -= lost;
                self.probe_more(transport);
                Ok(())
            }
        }
    }

    fn open<T: Transport>(&mut self, slot: Slot, transport: &mut T) -> Result<(), EngineError> {
        let conn = &mut self.conns[slot as usize];
        conn.state = ConnState::Opening;
        conn.moved = transport.now();
        Ok(transport.open(slot)?)
    }
}
