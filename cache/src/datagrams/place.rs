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
    /// Whose list is being gathered; one at a time.
    pub(super) telling: Option<ConnId>,
    /// Room for what is left of requests that came in fragments.
    pub(super) large: Vec<Vec<u8>>,
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
    session: Option<Session>,
    peer: Option<P>,
    payer: Payer,
    id: RequestId,
    purse: Option<Purse>,
    pub(super) since_secs: u32,
    /// It is in the list of those that go on in this turn.
    pub(super) ready: bool,
    /// What of the request is not taken, once the datagram has gone.
    rest: Vec<u8>,
    /// The room that `rest` had before it took a large one.
    usual: Option<Vec<u8>>,
    taken: usize,
    /// Nothing more is taken.
    ended: bool,
    message: Option<Message>,
    /// Bytes of the next datagram, which are gathered before it is sent.
    stage: Box<[u8]>,
    staged: usize,
    told: Vec<u8>,
}

impl<P: Copy> DatagramPlace<P> {
    /// Room for requests of `request_max` bytes, whose replies go out in pieces of `body_max`.
    pub(super) fn new(conn: ConnId, request_max: usize, body_max: usize) -> DatagramPlace<P> {
        DatagramPlace {
            conn,
            session: None,
            peer: None,
            payer: Payer::NOBODY,
            id: RequestId(0),
            purse: None,
            since_secs: 0,
            ready: false,
            rest: room(request_max),
            usual: None,
            taken: 0,
            ended: false,
            message: None,
            stage: vec![UNTOLD; body_max].into_boxed_slice(),
            staged: 0,
            told: Vec::new(),
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
        self.session = Some(Session::of_datagram(self.conn, request));
        (self.peer, self.payer, self.id, self.purse) = (Some(peer), payer, id, purse);
        (self.since_secs, self.taken, self.ended, self.message, self.staged) = (now.secs, 0, false, None, 0);
    }

    /// Whether there is a request.
    pub(super) fn is_taken(&self) -> bool {
        self.session.is_some()
    }

    /// Copies what of `request` is not taken, since its datagram goes. `false` when there is no room for it.
    pub(super) fn keep(&mut self, commons: &mut Commons, request: &[u8]) -> bool {
        let rest = if self.ended { &[] } else { request.get(self.taken..).unwrap_or_default() };
        if rest.len() > self.rest.capacity() {
            match commons.large.pop_if(|large| large.capacity() >= rest.len()) {
                Some(large) => self.usual = Some(std::mem::replace(&mut self.rest, large)),
                None => return false,
            }
        }
        self.rest.clear();
        self.rest.extend_from_slice(rest);
        self.taken = 0;
        true
    }

    /// Gives the request up, or away when it is answered.
    pub(super) fn end(&mut self, core: &mut Core, commons: &mut Commons, now: Now) {
        if let Some(session) = self.session.take() {
            session.end(core);
            commons.sources.save(self.payer, self.purse.take(), now.secs);
        }
        self.stop_telling(commons);
        (self.peer, self.message, self.staged) = (None, None, 0);
        self.rest.clear();
        if let Some(usual) = self.usual.take() {
            commons.large.push(std::mem::replace(&mut self.rest, usual));
        }
    }

    fn stop_telling(&mut self, commons: &mut Commons) {
        if commons.telling == Some(self.conn) {
            commons.telling = None;
            self.told = Vec::new();
        }
    }

    /// [`visit`](Self::visit) with what was kept of the request.
    pub(super) fn resume<O: DatagramOutlet<P>>(
        &mut self,
        core: &mut Core,
        commons: &mut Commons,
        now: Now,
        out: &mut O,
    ) -> Fate {
        let rest = std::mem::take(&mut self.rest);
        let verdict = self.visit(core, commons, &rest, now, out);
        self.rest = rest;
        verdict
    }

    /// Sends what can be sent and takes what can be taken of `request`, in turn, until neither moves.
    pub(super) fn visit<O: DatagramOutlet<P>>(
        &mut self,
        core: &mut Core,
        commons: &mut Commons,
        request: &[u8],
        now: Now,
        out: &mut O,
    ) -> Fate {
        if self.session.as_ref().is_some_and(|session| session.owed.is_lost(&core.here, &core.clients)) {
            core.clients.lose(self.conn);
            return Fate::Wait;
        }
        let mut datagrams = DATAGRAMS_PER_VISIT;
        let mut commands = core.clients.config.requests_per_take;
        loop {
            if let Sent::Later = self.send(core, commons, now, out, &mut datagrams) {
                return Fate::Again;
            }
            let Some(session) = &mut self.session else { return Fate::Over };
            if self.ended {
                return if session.pending() == 0 && self.message.is_none() { Fate::Over } else { Fate::Wait };
            }
            if commands == 0 {
                core.counters().conn_yields.add(1);
                return Fate::Again;
            }
            commands -= 1;
            // Nothing is answered at once: what a reply costs is paid before a byte of it is written.
            let taken = session.take(core, request.get(self.taken..).unwrap_or_default(), &mut [], now);
            self.taken += taken.consumed;
            let between = session.is_between_commands();
            match taken.stop {
                Stop::Yield if self.taken < request.len() || !between => {}
                Stop::Yield | Stop::NeedInput => self.end_input(core, request),
                Stop::Close => self.close(core),
                // The command just taken may have completed the reply at the head of those owed.
                Stop::NeedRoom | Stop::Waiting if self.can_send(core) => {}
                Stop::NeedRoom | Stop::Waiting => return Fate::Wait,
            }
        }
    }

    /// Whether the first reply owed is known and none is on its way.
    fn can_send(&self, core: &Core) -> bool {
        let first = self
            .session
            .as_ref()
            .map_or(FirstReply::Nothing, |session| session.owed.first_reply(&core.here, &core.clients));
        self.message.is_none() && matches!(first, FirstReply::Known(_))
    }

    /// All of the request is taken, or what is left of it is not whole.
    fn end_input(&mut self, core: &mut Core, request: &[u8]) {
        self.ended = true;
        let Some(session) = &mut self.session else { return };
        if self.taken < request.len() || !session.is_between_commands() {
            core.counters().udp_incomplete.add(1);
        }
        session.end_input(core);
    }

    /// The session takes no more. memcached answers a quit with a header alone.
    fn close(&mut self, core: &Core) {
        self.ended = true;
        let alone = |session: &Session| session.has_quit() && session.owed.owes_no_bytes(&core.clients);
        if self.message.is_none() && self.session.as_ref().is_some_and(alone) {
            self.message = Some(Message { left: 0, next: 0, total: 0 });
        }
    }

    /// Begins the first reply owed, of `len` bytes, unless it may not be sent: then it is passed over.
    fn begin_message(&mut self, core: &mut Core, commons: &mut Commons, now: Now, len: usize) {
        match udp_frame::datagrams_of(len, commons.body_max) {
            None => core.counters().udp_too_long.add(1),
            Some(total) => {
                let bytes = len + usize::from(total) * HEADER_BYTES;
                if commons.sources.pay(self.payer, &mut self.purse, bytes, total, now.secs) {
                    self.message = Some(Message { left: len, next: 0, total });
                    return;
                }
                core.counters().udp_budget_drops.add(1);
            }
        }
        self.pass_over(core, commons);
    }

    /// Gives up the first reply owed.
    fn pass_over(&mut self, core: &mut Core, commons: &mut Commons) {
        if let Some(session) = &mut self.session {
            session.owed.skip_first(&mut core.here, &mut core.clients);
        }
        self.stop_telling(commons);
    }

    /// Sends what is known of the replies owed, in order.
    fn send<O: DatagramOutlet<P>>(
        &mut self,
        core: &mut Core,
        commons: &mut Commons,
        now: Now,
        out: &mut O,
        datagrams: &mut u32,
    ) -> Sent {
        loop {
            if let Some(message) = self.message {
                if let Some(sent) = self.send_message(core, commons, message, out, datagrams) {
                    return sent;
                }
                self.message = None;
                self.stop_telling(commons);
                continue;
            }
            let Some(session) = &mut self.session else { return Sent::All };
            match session.owed.first_reply(&core.here, &core.clients) {
                FirstReply::Nothing | FirstReply::Unknown => return Sent::All,
                FirstReply::Known(0) => session.owed.skip_first(&mut core.here, &mut core.clients),
                FirstReply::Known(len) => self.begin_message(core, commons, now, len),
                FirstReply::Told if self.gather(core, commons) => {}
                FirstReply::Told => return Sent::All,
            }
        }
    }

    /// Sends what can be sent of `message`; `None` when that was all of it.
    fn send_message<O: DatagramOutlet<P>>(
        &mut self,
        core: &mut Core,
        commons: &Commons,
        mut message: Message,
        out: &mut O,
        datagrams: &mut u32,
    ) -> Option<Sent> {
        let peer = self.peer?;
        loop {
            let want = message.left.min(commons.body_max);
            if *datagrams == 0 {
                self.message = Some(message);
                return Some(Sent::Later);
            }
            let header = udp_frame::header(self.id, message.next, message.total);
            while self.staged < want {
                let free = &mut self.stage[self.staged..want];
                let session = self.session.as_mut();
                let given =
                    session.map_or(0, |session| session.owed.give_first(&mut core.here, &mut core.clients, free));
                self.staged += given;
                if given == 0 {
                    self.message = Some(message);
                    return Some(Sent::All);
                }
            }
            let body = &self.stage[..want];
            let sent = out.send(&peer, HEADER_BYTES + want, |buffer| {
                let (head, rest) = buffer.split_at_mut(HEADER_BYTES);
                head.copy_from_slice(&header);
                rest.copy_from_slice(body);
                HEADER_BYTES + want
            });
            if !sent {
                self.message = Some(message);
                return Some(Sent::Later);
            }
            core.counters().udp_datagrams_out.add(1);
            core.counters().bytes_written.add((HEADER_BYTES + want) as u64);
            *datagrams -= 1;
            self.staged = 0;
            message.left -= want;
            message.next = message.next.wrapping_add(1);
            if message.left == 0 {
                return None;
            }
        }
    }

    /// Gathers more of the list that is told; `true` when it is whole, and its length known, or was given up.
    fn gather(&mut self, core: &mut Core, commons: &mut Commons) -> bool {
        if *commons.telling.get_or_insert(self.conn) != self.conn {
            core.counters().udp_table_full.add(1);
            self.pass_over(core, commons);
            return true;
        }
        loop {
            let Some(session) = &mut self.session else { return true };
            if self.told.len() >= TOLD_MAX_BYTES {
                core.counters().udp_too_long.add(1);
                self.pass_over(core, commons);
                return true;
            }
            match session.owed.gather_first(&mut core.here, &mut core.clients, &mut self.told) {
                Gathered::All => return true,
                Gathered::More => {}
                Gathered::NoneYet => return false,
            }
        }
    }
}
