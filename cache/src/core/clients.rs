//! `Clients`: this core as the server of its connections. What they are owed, and what is asked of other cores for
//! them.
//!
//! An answer of another core is put where it belongs, which needs no resource, so it never waits (invariant R1).

use std::sync::Arc;

use cpu::CachePadded;

use super::census::CoreCensus;
use super::conns::{ConnId, Conns};
use super::here::Here;
use super::turns::{Need, Turns};
use super::watching::Watching;
use crate::counters::CoreCounters;
use crate::key::Key;
use crate::mesh::Mesh;
use crate::mesh::batch::Half;
use crate::mesh::landing::Landing;
use crate::mesh::message::{Answer, AnswerFor, Envelope, NO_STREAM, NOBODY, Request, Span, Token, UploadStep};
use crate::operation::Operation;
use crate::proto::line::Line;
use crate::replies::{Owed, Replies, Upload, ValueAt, Waiting};
use crate::settings::CacheConfig;
use crate::shared::Shared;

/// This core as the server of its connections.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) config: Arc<CacheConfig>,
    pub(crate) shared: Arc<Shared>,
    /// What this core counts.
    pub(crate) counters: Arc<CachePadded<CoreCounters>>,
    pub(super) mesh: Mesh,
    pub(crate) replies: Replies,
    pub(crate) landing: Landing,
    pub(crate) conns: Conns,
    pub(super) turns: Turns,
    pub(super) watching: Watching,
}

impl Clients {
    /// Units of `need` that can be had now.
    pub(super) fn available(&self, need: Need) -> usize {
        available(need, &self.replies, &self.landing, &self.mesh)
    }

    /// Whether another core has sent something, or a connection can go on.
    pub(super) fn has_work(&self) -> bool {
        self.conns.has_any()
            || self.mesh.has_mail()
            || self.turns.can_grant(|need| self.available(need))
            || self.watching.has_any(&self.shared.watchers, &self.conns)
    }

    /// The next connection that can go on: an answer has come for it, or what it waited for can be had.
    pub(super) fn next_resumable(&mut self) -> Option<ConnId> {
        let Clients { conns, turns, replies, landing, mesh, .. } = self;
        conns.next_ready().or_else(|| turns.grant(|need| available(need, replies, landing, mesh)))
    }

    /// Whether `conn` may take one of `need` now: it is its turn, and there is one that is promised to nobody else. Of
    /// a block it may try.
    pub(crate) fn admits(&self, conn: ConnId, need: Need) -> bool {
        self.turns.admits(conn, need, self.available(need))
    }

    /// Puts `conn` in the queue for `need`: at its head if it had come to the head already.
    pub(crate) fn wait_for(&mut self, conn: ConnId, need: Need) {
        self.counters.waits.add(1);
        self.turns.wait_for(conn, need);
    }

    /// Ends a try of `conn`, which took `taken` bytes and was told `written` at once: it waits only if it says so.
    #[inline]
    pub(crate) fn end_try(&mut self, conn: ConnId, waiting: bool, taken: usize, written: usize) {
        self.turns.end_try(conn, waiting);
        self.counters.bytes_read.add(taken as u64);
        self.counters.bytes_written.add(written as u64);
    }

    /// What is owed to `conn` will never come, since others needed the room: it is to be closed.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        if self.conns.lose(conn) {
            self.counters.slow_readers_closed.add(1);
        }
    }

    /// Forgets what is known of a connection that is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.turns.end_try(conn, false);
        self.conns.forget(conn);
    }

    /// Counts what is held and given out.
    pub(super) fn count_into(&self, census: &mut CoreCensus) {
        (census.blocks_out, census.debts) = self.mesh.out();
        (census.entries, census.landing_slots) = (self.replies.in_use(), self.landing.in_use());
        (census.waiting, census.granted) = (self.turns.waiting(), self.turns.granted());
    }

    /// Makes room for a request to `owner`; `false` when it must be waited for.
    pub(crate) fn make_room(&mut self, conn: ConnId, owner: usize, bytes: usize) -> bool {
        self.admits(conn, Need::Block(owner)) && self.mesh.make_room(owner, bytes)
    }

    /// Adds a request for `owner` after [`Clients::make_room`]. `parts` are the key and the value it names.
    pub(crate) fn ask(
        &mut self,
        owner: usize,
        token: Token,
        parts: [&[u8]; 2],
        build: impl FnOnce([Span; 2]) -> Request,
    ) {
        let speaker = self.speaker(token);
        let envelope = |spans| Envelope { token, speaker, request: build(spans) };
        if self.mesh.send(owner, parts, envelope, &self.counters) {
            self.expect(token);
        }
    }

    /// Adds an operation for `owner` after [`Clients::make_room`]. `value` is that of a store; `room`: so much of the
    /// value of a hit is to come with the answer.
    pub(crate) fn ask_to_operate(
        &mut self,
        owner: usize,
        token: Token,
        key: Key<'_>,
        operation: &Operation,
        value: &[u8],
        room: Option<u16>,
    ) {
        let hash = key.hash;
        let request = |[key, value]: [Span; 2]| Request::Operate { key, hash, operation: *operation, value, room };
        self.ask(owner, token, [key.bytes, value], request);
    }

    /// Sends a request without key or value, now or as soon as there is a block. At most one of an entry is waiting.
    pub(crate) fn owe(&mut self, peer: usize, token: Token, request: Request) {
        self.expect(token);
        let envelope = Envelope { token, speaker: self.speaker(token), request };
        self.mesh.owe(peer, envelope, &self.counters);
    }

    /// Has `owner`, this core or another, take the next step of the value that entry `token` is for; for another core
    /// after [`Clients::make_room`]. `bytes` go with it. What comes of it lands in the entry, at once or when that core
    /// has answered.
    pub(crate) fn upload(&mut self, here: &mut Here, owner: usize, token: Token, step: UploadStep, bytes: &[u8]) {
        if owner == here.id {
            let answer = here.upload(step, bytes);
            self.land_upload(here, owner, token, answer);
        } else {
            self.ask(owner, token, [bytes, &[]], |[bytes, _]| Request::Upload { step, bytes });
        }
    }

    /// Tells `owner`, this core or another, that no more comes of the value that entry `token` was for.
    pub(crate) fn abort_upload(&mut self, here: &mut Here, owner: u16, token: Token, upload: u32) {
        let owner = usize::from(owner);
        if owner == here.id {
            here.upload(UploadStep::Abort { upload }, b"");
        } else {
            self.owe(owner, token, abort(upload));
        }
    }

    /// The number of the connection that entry `token` is for.
    fn speaker(&self, token: Token) -> u32 {
        self.replies.get(token).map_or(0, |entry| self.conns[entry.conn].number)
    }

    /// One more answer will come for `token`.
    fn expect(&mut self, token: Token) {
        if token != NOBODY {
            let entry = self.replies.entry_mut(token);
            entry.expected += 1;
            if !matches!(entry.owed, Owed::Orphan { .. }) {
                self.conns[entry.conn].in_flight += 1;
            }
        }
    }

    /// Takes a landing slot for `conn`.
    pub(crate) fn take_slot(&mut self, conn: ConnId, key: &[u8], owner: usize) -> Option<(u32, u16)> {
        self.landing.take(&mut self.conns[conn].slots, key, owner)
    }

    /// Gives a landing slot of `conn` back.
    pub(crate) fn return_slot(&mut self, conn: ConnId, slot: u32) {
        self.landing.put_back(&mut self.conns[conn].slots, slot);
    }

    /// Lands answer `index` of a batch that `peer` sent back.
    pub(super) fn land(&mut self, here: &mut Here, peer: usize, answers: &Half<AnswerFor>, index: usize) {
        let Some(&AnswerFor { token, answer }) = answers.message(index) else { return };
        if token == NOBODY {
            return;
        }
        let entry = self.replies.entry_mut(token);
        entry.expected -= 1;
        let conn = entry.conn;
        if let Owed::Orphan { slot, upload } = entry.owed {
            self.land_orphan(peer, token, slot, upload, answers, answer);
            return;
        }
        self.conns[conn].in_flight -= 1;
        let last = entry.expected == 0;
        match (&mut entry.owed, answer) {
            (Owed::Waiting(Waiting::Unheard), _) => {
                if last {
                    entry.owed = Owed::Nothing;
                    self.conns.make_ready(conn);
                }
                return;
            }
            (Owed::Waiting(Waiting::Outcome | Waiting::Upload(_)), answer) => {
                self.land_upload(here, peer, token, answer);
            }
            (&mut Owed::Waiting(Waiting::Value { slot }), Answer::Outcome(outcome)) => {
                self.replies.settle(token, outcome);
                self.return_slot(conn, slot);
            }
            (&mut Owed::Waiting(Waiting::Value { slot }), Answer::Hit { view, bytes, stream }) => {
                entry.owed = Owed::Body { view, value: ValueAt::Landed(slot) };
                self.landing.fill(slot, 0, answers.bytes(bytes));
                let landed = self.landing.slot_mut(slot);
                (landed.len, landed.stream) = (view.len, stream);
            }
            (Owed::Waiting(Waiting::Value { .. }), Answer::Gone) => self.lose(conn),
            (&mut Owed::Body { value: ValueAt::Landed(slot), .. }, Answer::Bytes { bytes }) => {
                self.land_pulled(slot, answers.bytes(bytes));
            }
            (&mut Owed::Body { value: ValueAt::Landed(slot), .. }, Answer::Gone) => {
                self.landing.slot_mut(slot).stream = NO_STREAM;
                self.lose(conn);
            }
            (Owed::Waiting(Waiting::Order { said }), Answer::Unable) => *said = Line::MemlimitRefused.into(),
            (Owed::Walk(walk), Answer::Walked { text, place }) => walk.land(answers.bytes(text), place),
            _ => {}
        }
        if last && let Owed::Waiting(Waiting::Order { said }) = self.replies.entry(token).owed {
            self.replies.settle(token, said);
        }
        self.conns.make_ready(conn);
    }

    /// Lands what `owner` answers to an operation without a value in its answer, or to a step of a value sent to it.
    fn land_upload(&mut self, here: &mut Here, owner: usize, token: Token, answer: Answer) {
        let owed = &mut self.replies.entry_mut(token).owed;
        match (&*owed, answer) {
            (Owed::Waiting(Waiting::Outcome), Answer::Outcome(outcome)) => self.replies.settle(token, outcome),
            (Owed::Waiting(Waiting::Upload(_)), Answer::Begun { upload }) => {
                *owed = Owed::Waiting(Waiting::Upload(Upload::Open { owner: owner as u16, upload }));
                self.counters.uploads.add(1);
            }
            (&Owed::Waiting(Waiting::Upload(upload)), Answer::Refused(outcome)) => {
                *owed = Owed::Waiting(Waiting::Refused { said: outcome.into() });
                // The value gave way when a part of it was there, and more may be on its way: the owner frees its place
                // when it is told that no more comes.
                if let Upload::Open { owner, upload } = upload {
                    self.abort_upload(here, owner, token, upload);
                }
            }
            _ => {}
        }
    }

    /// Puts pulled bytes behind those that the flow has sent.
    fn land_pulled(&mut self, slot: u32, bytes: &[u8]) {
        let landed = self.landing.slot_mut(slot);
        let from = landed.from + u32::from(landed.filled);
        landed.pulling = false;
        if from + bytes.len() as u32 >= landed.len {
            landed.stream = NO_STREAM;
        }
        self.landing.fill(slot, from, bytes);
    }

    /// Lands an answer for a connection that is gone: tells the owner to let go of what it holds for the connection,
    /// and gives the entry back.
    fn land_orphan(
        &mut self,
        peer: usize,
        token: Token,
        slot: Option<u32>,
        upload: bool,
        answers: &Half<AnswerFor>,
        answer: Answer,
    ) {
        match answer {
            Answer::Hit { stream, .. } if stream != NO_STREAM => self.owe(peer, token, Request::Cancel { stream }),
            Answer::Bytes { bytes } => {
                if let Some(slot) = slot {
                    self.land_pulled(slot, answers.bytes(bytes));
                    let stream = self.landing.slot(slot).stream;
                    if stream != NO_STREAM {
                        self.owe(peer, token, Request::Cancel { stream });
                    }
                }
            }
            Answer::Gone => {
                if let Some(slot) = slot {
                    self.landing.slot_mut(slot).stream = NO_STREAM;
                }
            }
            Answer::Begun { upload: number } if upload => {
                self.owe(peer, token, abort(number));
            }
            _ => {}
        }
        self.release_orphan(token);
    }

    /// Gives an orphan back once nothing more comes for it.
    pub(crate) fn release_orphan(&mut self, token: Token) {
        let entry = self.replies.entry_mut(token);
        if entry.expected > 0 {
            return;
        }
        if let Owed::Orphan { slot: Some(slot), .. } = entry.owed {
            self.landing.put_back_left(slot);
        }
        self.replies.share.give_back_left();
        self.replies.put_back(token);
    }

    /// Gives up what a connection is owed by an entry, now or when its last answer has come. The connection is gone, or
    /// goes on with `left` others.
    pub(crate) fn orphan(&mut self, here: &mut Here, token: Token, left: usize) {
        self.replies.share.leave(left);
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        self.conns[conn].in_flight -= u32::from(entry.expected);
        match std::mem::replace(&mut entry.owed, Owed::Orphan { slot: None, upload: false }) {
            Owed::Body { value: ValueAt::Held(hold), .. } => here.let_go(hold),
            Owed::Walk(walk) => self.end_walk(&walk),
            Owed::Watch(watch) => self.end_watch(conn, watch.place),
            Owed::Waiting(Waiting::Value { slot }) => {
                entry.owed = Owed::Orphan { slot: Some(slot), upload: false };
                self.landing.leave(&mut self.conns[conn].slots);
            }
            Owed::Body { value: ValueAt::Landed(slot), .. } => {
                entry.owed = Owed::Orphan { slot: Some(slot), upload: false };
                self.landing.leave(&mut self.conns[conn].slots);
                let landed = *self.landing.slot(slot);
                if landed.stream != NO_STREAM && !landed.pulling {
                    self.owe(usize::from(landed.owner), token, Request::Cancel { stream: landed.stream });
                }
            }
            Owed::Waiting(Waiting::Upload(Upload::Asked)) => entry.owed = Owed::Orphan { slot: None, upload: true },
            Owed::Waiting(Waiting::Upload(Upload::Open { owner, upload })) => {
                self.abort_upload(here, owner, token, upload);
            }
            _ => {}
        }
        self.release_orphan(token);
    }

    /// Asks the owner for the next bytes of a landed value.
    pub(crate) fn pull_more(&mut self, token: Token, slot: u32) {
        let room = self.landing.room(slot);
        let landed = self.landing.slot_mut(slot);
        if landed.pulling || landed.stream == NO_STREAM {
            return;
        }
        landed.pulling = true;
        let offset = landed.from + u32::from(landed.filled);
        let (owner, stream) = (usize::from(landed.owner), landed.stream);
        self.owe(owner, token, Request::Pull { stream, offset, room });
    }
}

/// The request to forget a value.
fn abort(upload: u32) -> Request {
    Request::Upload { step: UploadStep::Abort { upload }, bytes: Span::EMPTY }
}

/// Units of `need` that can be had now.
fn available(need: Need, replies: &Replies, landing: &Landing, mesh: &Mesh) -> usize {
    match need {
        Need::Entry => replies.available(),
        Need::Slot => landing.available(),
        Need::Block(owner) => mesh.places_free(owner),
    }
}
