//! `DatagramPlace`: one request over UDP that is not answered yet.

use super::budget::{Payer, Purse, Sources};
use super::outlet::DatagramOutlet;
use crate::clock::Now;
use crate::core::{ConnId, Core};
use crate::proto::udp_frame::{self, HEADER_BYTES, RequestId};
use crate::session::{FirstReply, Gathered, Session, Stop};

/// Bytes of a list (`stats conns`, `stats cachedump`) that are gathered to be sent.
const TOLD_MAX_BYTES: usize = 1 << 20;

/// Datagrams that one request is sent in one turn; then others have theirs.
const DATAGRAMS_PER_VISIT: u32 = 32;

/// What is to become of a request after a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is answered.
    Over,
    /// The core will name it.
    Wait,
    /// It goes on in the next turn.
    Again,
}

/// A reply on its way.
#[derive(Debug, Clone, Copy)]
struct Message {
    /// Bytes that have not been sent.
    left: usize,
    next: u16,
    total: u16,
}

/// How far sending has got.
enum Sent {
    /// Whatever is known has left.
    All,
    /// There is more, but not in this turn.
    Later,
}

/// What the requests of a core share.
#[derive(Debug)]
pub(super) struct Commons {
    pub(super) sources: Sources,
    /// Bytes of a reply in one datagram.
    pub(super) body_max: usize,
    /// The list that is being gathered; one at a time.
    pub(super) telling: Option<Telling>,
    /// Room for what is left of requests that came in fragments.
    pub(super) large: Vec<Vec<u8>>,
}

/// A list that is gathered to be sent.
#[derive(Debug)]
pub(super) struct Telling {
    conn: ConnId,
    text: Vec<u8>,
}

impl Commons {
    /// The request of `conn` gathers no list any more.
    fn stop_telling(&mut self, conn: ConnId) {
        self.telling.take_if(|telling| telling.conn == conn);
    }
}

/// Fills unused room. Pages of zeros would be made by the kernel at their first use, within a turn.
const UNTOLD: u8 = 0xff;

/// An empty buffer with room for `bytes` bytes whose pages are there.
pub(super) fn room(bytes: usize) -> Vec<u8> {
    let mut room = vec![UNTOLD; bytes];
    room.clear();
    room
}

/// Room for one request.
#[derive(Debug)]
pub(super) struct DatagramPlace<P> {
    conn: ConnId,
    request: Option<Request<P>>,
    pub(super) since_secs: u32,
    /// It is in the list of those that go on in this turn.
    pub(super) ready: bool,
    /// What of the request is not taken, once the datagram has gone.
    rest: Vec<u8>,
    /// The room that `rest` had before it took a large one.
    usual: Option<Vec<u8>>,
    /// Bytes of the next datagram, which are gathered before it is sent.
    stage: Box<[u8]>,
}

/// A request: who asks, and how far it has got.
#[derive(Debug)]
struct Request<P> {
    session: Session,
    peer: P,
    payer: Payer,
    id: RequestId,
    purse: Option<Purse>,
    /// Bytes that are taken of what there is of it.
    taken: usize,
    /// Nothing more is taken.
    ended: bool,
    message: Option<Message>,
    /// Bytes of the next datagram that are there.
    staged: usize,
}

/// What a place is visited with.
pub(super) struct With<'a, O> {
    pub(super) core: &'a mut Core,
    pub(super) commons: &'a mut Commons,
    pub(super) now: Now,
    pub(super) out: &'a mut O,
}

impl<P: Copy> DatagramPlace<P> {
    /// Room for requests of `request_max` bytes, whose replies go out in pieces of `body_max`.
    pub(super) fn new(conn: ConnId, request_max: usize, body_max: usize) -> DatagramPlace<P> {
        DatagramPlace {
            conn,
            request: None,
            since_secs: 0,
            ready: false,
            rest: room(request_max),
            usual: None,
            stage: vec![UNTOLD; body_max].into_boxed_slice(),
        }
    }

    /// Takes in a request.
    pub(super) fn begin(
        &mut self,
        peer: P,
        payer: Payer,
        id: RequestId,
        purse: Option<Purse>,
        request: &[u8],
        now: Now,
    ) {
        let session = Session::of_datagram(self.conn, request);
        self.since_secs = now.secs;
        self.request =
            Some(Request { session, peer, payer, id, purse, taken: 0, ended: false, message: None, staged: 0 });
    }

    /// Whether there is a request.
    pub(super) fn is_taken(&self) -> bool {
        self.request.is_some()
    }

    /// Copies what of `bytes`, the request, is not taken, since its datagram goes. `false` when there is no room for it.
    pub(super) fn keep(&mut self, commons: &mut Commons, bytes: &[u8]) -> bool {
        let Some(request) = &mut self.request else { return false };
        let rest = if request.ended { &[] } else { bytes.get(request.taken..).unwrap_or_default() };
        if rest.len() > self.rest.capacity() {
            match commons.large.pop_if(|large| large.capacity() >= rest.len()) {
                Some(large) => self.usual = Some(std::mem::replace(&mut self.rest, large)),
                None => return false,
            }
        }
        self.rest.clear();
        self.rest.extend_from_slice(rest);
        request.taken = 0;
        true
    }

    /// Gives the request up, or away when it is answered.
    pub(super) fn end(&mut self, core: &mut Core, commons: &mut Commons, now: Now) {
        if let Some(Request { session, payer, purse, .. }) = self.request.take() {
            session.end(core);
            commons.sources.save(payer, purse, now.secs);
        }
        commons.stop_telling(self.conn);
        self.rest.clear();
        if let Some(usual) = self.usual.take() {
            commons.large.push(std::mem::replace(&mut self.rest, usual));
        }
    }

    /// [`visit`](Self::visit) with what was kept of the request.
    pub(super) fn resume<O: DatagramOutlet<P>>(&mut self, with: With<'_, O>) -> Fate {
        let rest = std::mem::take(&mut self.rest);
        let fate = self.visit(with, &rest);
        self.rest = rest;
        fate
    }

    /// Sends what can be sent and takes what can be taken of `bytes`, the request, in turn, until neither moves.
    pub(super) fn visit<O: DatagramOutlet<P>>(&mut self, with: With<'_, O>, bytes: &[u8]) -> Fate {
        let Some(request) = &mut self.request else { return Fate::Over };
        Visit { request, stage: &mut self.stage, with, datagrams_left: DATAGRAMS_PER_VISIT }.run(bytes)
    }
}

/// One visit to a request.
struct Visit<'a, P, O> {
    request: &'a mut Request<P>,
    stage: &'a mut [u8],
    with: With<'a, O>,
    datagrams_left: u32,
}

impl<P: Copy, O: DatagramOutlet<P>> Visit<'_, P, O> {
    fn run(&mut self, bytes: &[u8]) -> Fate {
        let Core { here, clients } = &mut *self.with.core;
        if self.request.session.owed.is_lost(here, clients) {
            clients.lose(self.request.session.conn());
            return Fate::Wait;
        }
        let mut commands = clients.config.requests_per_take;
        loop {
            if let Sent::Later = self.send() {
                return Fate::Again;
            }
            let Request { session, taken, ended, message, .. } = &mut *self.request;
            if *ended {
                return if session.pending() == 0 && message.is_none() { Fate::Over } else { Fate::Wait };
            }
            let core = &mut *self.with.core;
            if commands == 0 {
                core.counters().conn_yields.add(1);
                return Fate::Again;
            }
            commands -= 1;
            // Nothing is answered at once: what a reply costs is paid before a byte of it is written.
            let done = session.take(core, bytes.get(*taken..).unwrap_or_default(), &mut [], self.with.now);
            *taken += done.consumed;
            match done.stop {
                Stop::Yield if *taken < bytes.len() || !session.is_between_commands() => {}
                Stop::Yield | Stop::NeedInput => self.end_input(bytes),
                Stop::Close => self.close(),
                // The command just taken may have completed the reply at the head of those owed.
                Stop::NeedRoom | Stop::Waiting if self.can_send() => {}
                Stop::NeedRoom | Stop::Waiting => return Fate::Wait,
            }
        }
    }

    /// What is known of the first reply owed.
    fn first_reply(&self) -> FirstReply {
        let Core { here, clients } = &*self.with.core;
        self.request.session.owed.first_reply(here, clients)
    }

    /// Whether the first reply owed is known and none is on its way.
    fn can_send(&self) -> bool {
        self.request.message.is_none() && matches!(self.first_reply(), FirstReply::Known(_))
    }

    /// All of the request is taken, or what is left of it is not whole.
    fn end_input(&mut self, bytes: &[u8]) {
        let (request, core) = (&mut *self.request, &mut *self.with.core);
        request.ended = true;
        if request.taken < bytes.len() || !request.session.is_between_commands() {
            core.counters().udp_incomplete.add(1);
        }
        request.session.end_input(core);
    }

    /// The session takes no more. memcached answers a quit with a header alone.
    fn close(&mut self) {
        let Request { session, message, ended, .. } = &mut *self.request;
        *ended = true;
        if message.is_none() && session.has_quit() && session.owed.owes_no_bytes(&self.with.core.clients) {
            *message = Some(Message { left: 0, next: 0, total: 0 });
        }
    }

    /// Sends what is known of the replies owed, in order.
    fn send(&mut self) -> Sent {
        loop {
            if let Some(message) = self.request.message {
                if let Some(sent) = self.send_message(message) {
                    return sent;
                }
                self.request.message = None;
                self.with.commons.stop_telling(self.request.session.conn());
                continue;
            }
            match self.first_reply() {
                FirstReply::Nothing | FirstReply::Unknown => return Sent::All,
                FirstReply::Known(0) => self.skip_first(),
                FirstReply::Known(len) => self.begin_message(len),
                FirstReply::Told if self.gather() => {}
                FirstReply::Told => return Sent::All,
            }
        }
    }

    /// Begins the first reply owed, of `len` bytes, unless it may not be sent: then it is passed over.
    fn begin_message(&mut self, len: usize) {
        let (Request { payer, purse, message, .. }, commons) = (&mut *self.request, &mut *self.with.commons);
        let counters = self.with.core.counters();
        match udp_frame::datagrams_of(len, commons.body_max) {
            None => counters.udp_too_long.add(1),
            Some(total) => {
                let bytes = len + usize::from(total) * HEADER_BYTES;
                if commons.sources.pay(*payer, purse, bytes, total, self.with.now.secs) {
                    *message = Some(Message { left: len, next: 0, total });
                    return;
                }
                counters.udp_budget_drops.add(1);
            }
        }
        self.pass_over();
    }

    fn skip_first(&mut self) {
        let Core { here, clients } = &mut *self.with.core;
        self.request.session.owed.skip_first(here, clients);
    }

    /// Gives up the first reply owed, and the list that was gathered for it.
    fn pass_over(&mut self) {
        self.skip_first();
        self.with.commons.stop_telling(self.request.session.conn());
    }

    /// Sends what can be sent of `message`; `None` when that was all of it.
    fn send_message(&mut self, mut message: Message) -> Option<Sent> {
        let Request { session, peer, id, staged, message: left, .. } = &mut *self.request;
        let Core { here, clients } = &mut *self.with.core;
        loop {
            let want = message.left.min(self.with.commons.body_max);
            *left = Some(message);
            if self.datagrams_left == 0 {
                return Some(Sent::Later);
            }
            while *staged < want {
                let given = session.owed.give_first(here, clients, &mut self.stage[*staged..want]);
                *staged += given;
                if given == 0 {
                    return Some(Sent::All);
                }
            }
            let (header, body) = (udp_frame::header(*id, message.next, message.total), &self.stage[..want]);
            let sent = self.with.out.send(peer, HEADER_BYTES + want, |buffer| {
                let (head, rest) = buffer.split_at_mut(HEADER_BYTES);
                head.copy_from_slice(&header);
                rest.copy_from_slice(body);
                HEADER_BYTES + want
            });
            if !sent {
                return Some(Sent::Later);
            }
            clients.counters.udp_datagrams_out.add(1);
            clients.counters.bytes_written.add((HEADER_BYTES + want) as u64);
            self.datagrams_left -= 1;
            *staged = 0;
            message.left -= want;
            message.next = message.next.wrapping_add(1);
            if message.left == 0 {
                return None;
            }
        }
    }

    /// Gathers more of the list that is told; `true` when it is whole, and its length known, or was given up.
    fn gather(&mut self) -> bool {
        let (Core { here, clients }, session) = (&mut *self.with.core, &mut self.request.session);
        let conn = session.conn();
        let telling = self.with.commons.telling.get_or_insert_with(|| Telling { conn, text: Vec::new() });
        let counter = loop {
            if telling.conn != conn {
                break &clients.counters.udp_table_full;
            }
            if telling.text.len() >= TOLD_MAX_BYTES {
                break &clients.counters.udp_too_long;
            }
            match session.owed.gather_first(here, clients, &mut telling.text) {
                Gathered::All => return true,
                Gathered::More => {}
                Gathered::NoneYet => return false,
            }
        };
        counter.add(1);
        self.pass_over();
        true
    }
}
