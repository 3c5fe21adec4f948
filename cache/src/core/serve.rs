//! Other cores' requests, executed on this shard and answered in the block they came in.

use super::{Core, Incoming, Outgoing};
use crate::key::KeyHash;
use crate::proto::reply::Line;
use crate::route::batch::{Batch, Half};
use crate::route::message::{Answer, Envelope, Manner, NO_STREAM, Reply, Request};
use crate::shard::STEP_BYTES;
use crate::shard::meta::Seen;
use crate::stats::Counted;
use crate::store::{Arith, ItemRef, Reservation, StoreError, StoreMode, StoreOutcome, Stored, Touched};
use crate::{Expiry, core::entries::Held};

impl StoreOutcome {
    /// The line that says so.
    pub(crate) fn line(self) -> Line {
        match self {
            StoreOutcome::Stored => Line::Stored,
            StoreOutcome::NotStored => Line::NotStored,
            StoreOutcome::Exists => Line::Exists,
            StoreOutcome::NotFound => Line::NotFound,
            StoreOutcome::TooLarge => Line::TooLarge,
            StoreOutcome::OutOfMemory => Line::NoMemoryStoring,
        }
    }
}

impl Stored {
    /// What is answered to another core.
    fn answer(self, framed: bool) -> Answer {
        let outcome = self.outcome.line();
        match framed {
            true => Answer::Seen { outcome, seen: Seen { cas: self.cas, ..Seen::NOTHING } },
            false => Answer::Line(outcome),
        }
    }
}

impl StoreError {
    /// The line that says so.
    pub(crate) fn line(self) -> Line {
        match self {
            StoreError::TooLarge => Line::TooLarge,
            StoreError::OutOfMemory => Line::NoMemoryStoring,
        }
    }
}

impl Held {
    /// Key, flags, unique, and the value's length.
    pub(crate) fn facts<'a>(&'a self, shard: &'a crate::Shard) -> (&'a [u8], u32, u64, usize) {
        match self {
            Held::Pin(pin) => {
                let item = shard.pinned(pin);
                (item.key, item.flags, item.cas, item.value.len())
            }
            Held::Copy(copied) => (&copied.key, copied.flags, copied.cas, copied.value.len()),
        }
    }

    /// The value held.
    pub(crate) fn value<'a>(&'a self, shard: &'a crate::Shard) -> &'a [u8] {
        match self {
            Held::Pin(pin) => shard.pinned(pin).value,
            Held::Copy(copied) => &copied.value,
        }
    }
}

impl Core {
    /// Executes the requests of a batch in order, each with one answer.
    pub(super) fn serve(&mut self, batch: &mut Batch) {
        let Batch { requests, replies } = batch;
        for index in 0..requests.len() {
            if let Some(hash) = requests.message(index).and_then(|envelope| hash_of(&envelope.request)) {
                self.shard.prefetch(hash);
            }
        }
        for index in 0..requests.len() {
            let Some(Envelope { token, speaker, request }) = requests.message(index) else { break };
            self.speaker = speaker;
            let answer = self.execute(requests, replies, request);
            replies.push(Reply { token, answer });
        }
        self.counters().messages_served.add(requests.len() as u64);
    }

    fn execute(&mut self, requests: &Half<Envelope>, replies: &mut Half<Reply>, request: Request) -> Answer {
        let now = self.now;
        match request {
            Request::Fetch { key, hash, expiry, room } => match self.find(hash, requests.bytes(key), expiry) {
                Some(at) => self.answer_fetch(at, room, replies),
                None => Answer::Miss,
            },
            Request::Store { key, value, hash, mode, flags, expiry, manner } => {
                let stored = self.store(hash, requests.bytes(key), requests.bytes(value), flags, expiry, mode, manner);
                stored.answer(manner.framed)
            }
            Request::Begin { key, hash, mode, flags, expiry, value_len, manner } => {
                match self.reserve(hash, requests.bytes(key), value_len, flags, expiry, manner) {
                    Ok(reservation) => {
                        match self.incoming.insert(Incoming { reservation, mode, framed: manner.framed }) {
                            Ok(upload) => Answer::Begun { upload },
                            Err(Incoming { reservation, .. }) => {
                                debug_assert!(false, "more uploads than credits");
                                self.shard.abandon(reservation);
                                Answer::Refused(Line::NoMemoryStoring)
                            }
                        }
                    }
                    Err(line) => Answer::Refused(line),
                }
            }
            Request::Data { upload, bytes } => {
                if let Some(incoming) = self.incoming.get_mut(upload) {
                    self.shard.fill(&mut incoming.reservation, requests.bytes(bytes));
                }
                Answer::Done
            }
            Request::Commit { upload } => match self.incoming.remove(upload) {
                Some(Incoming { reservation, mode, framed }) => self.commit(reservation, mode).answer(framed),
                None => Answer::Line(Line::NoMemoryStoring),
            },
            Request::Abort { upload } => {
                if let Some(incoming) = self.incoming.remove(upload) {
                    self.shard.abandon(incoming.reservation);
                }
                Answer::Done
            }
            Request::Delete { key, hash } => Answer::Line(self.delete(hash, requests.bytes(key))),
            Request::Arith { key, hash, delta, increment } => {
                match self.arith(hash, requests.bytes(key), delta, increment) {
                    Ok(value) => Answer::Number(value),
                    Err(line) => Answer::Line(line),
                }
            }
            Request::Touch { key, hash, expiry } => Answer::Line(self.touch(hash, requests.bytes(key), expiry)),
            Request::MetaGet { key, hash, ask, room: None } => {
                let (outcome, seen) = self.meta_get(hash, requests.bytes(key), &ask);
                Answer::Seen { outcome, seen }
            }
            Request::MetaGet { key, hash, ask, room: Some(room) } => {
                self.answer_meta_get(hash, requests.bytes(key), &ask, room, replies)
            }
            Request::MetaDelete { key, hash, removal } => {
                let (outcome, seen) = self.meta_delete(hash, requests.bytes(key), &removal);
                Answer::Seen { outcome, seen }
            }
            Request::MetaArith { key, hash, count } => {
                let (outcome, seen) = self.meta_arith(hash, requests.bytes(key), &count);
                Answer::Seen { outcome, seen }
            }
            Request::MetaDebug { key, hash } => {
                let (outcome, seen) = self.meta_debug(hash, requests.bytes(key));
                Answer::Seen { outcome, seen }
            }
            Request::Pull { stream, offset, room } => self.pull(stream, offset, room, replies),
            Request::Cancel { stream } => {
                if let Some(outgoing) = self.outgoing.remove(stream) {
                    self.let_go(outgoing.held);
                }
                Answer::Done
            }
            Request::Flush { exptime } => {
                self.shard.flush_all(exptime, now);
                Answer::Done
            }
            Request::MemoryLimit { bytes } => match self.shard.set_memory_limit(bytes as usize) {
                Ok(()) => Answer::Done,
                Err(_) => Answer::Refused(Line::MemlimitRefused),
            },
            Request::Walk { over, place } => {
                let mut told = std::mem::take(&mut self.walk_text);
                told.clear();
                let room = STEP_BYTES.min(replies.room());
                let next = self.walk_step(over, place, room, &mut told);
                let text = replies.put(&told);
                self.walk_text = told;
                Answer::Walked { text, place: next }
            }
        }
    }

    /// get, or gat when there is a new expiry.
    pub(crate) fn find(&mut self, hash: KeyHash, key: &[u8], expiry: Option<Expiry>) -> Option<ItemRef> {
        let now = self.now;
        let before = self.watches_fetches().then(|| self.lost_lookups());
        let found = match expiry.map(|expiry| self.shard.gat(hash, key, expiry, now)) {
            None => self.shard.get(hash, key, now),
            Some(Touched::Done(at)) => Some(at),
            Some(Touched::NotFound) => None,
            // The item stays as it was: it may go sooner than asked, as any item may.
            Some(Touched::OutOfMemory) => self.shard.peek(hash, key, now),
        };
        self.ledger.count_prefix(self.id, key, Counted::Get { hit: found.is_some() });
        if let Some(before) = before {
            self.tell_get(key, found.map(|at| self.sizes_of(&self.shard.item(at))), before);
        }
        found
    }

    /// A storage command whose value is in one piece.
    #[expect(clippy::too_many_arguments, reason = "a storage command has that many parts")]
    pub(crate) fn store(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        flags: u32,
        expiry: Expiry,
        mode: StoreMode,
        manner: Manner,
    ) -> Stored {
        if manner.counts_prefix {
            self.ledger.count_prefix(self.id, key, Counted::Set);
        }
        self.tell_lookup(hash, key);
        self.heed_eviction_watchers();
        let stored = self.shard.store(hash, key, value, flags, expiry, mode, self.now);
        match stored.outcome {
            StoreOutcome::TooLarge | StoreOutcome::OutOfMemory if manner.forgets => {
                self.shard.forget_key(hash, key, self.now);
            }
            StoreOutcome::Stored if manner.base64 && !mode.joins() => self.shard.note_base64(hash, key),
            _ => {}
        }
        self.tell_store(key, mode, stored.outcome, expiry, flags, value.len());
        stored
    }

    /// A storage command whose value came piece by piece and is whole.
    pub(crate) fn commit(&mut self, reservation: Reservation, mode: StoreMode) -> Stored {
        if !self.watches_stores() {
            return self.shard.commit(reservation, mode, self.now);
        }
        self.commit_watched(reservation, mode)
    }

    /// Room for a value that follows; the line that says why there is none.
    pub(crate) fn reserve(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value_len: u32,
        flags: u32,
        expiry: Expiry,
        manner: Manner,
    ) -> Result<Reservation, Line> {
        if manner.counts_prefix {
            self.ledger.count_prefix(self.id, key, Counted::Set);
        }
        self.heed_eviction_watchers();
        match self.shard.reserve(hash, key, value_len, flags, expiry, self.now) {
            Ok(reservation) => {
                if manner.base64 {
                    self.shard.note_base64_reserved(&reservation);
                }
                Ok(reservation)
            }
            Err(error) => {
                // memcached drops what a set would have replaced (`process_update_command`).
                if manner.forgets {
                    self.shard.forget_key(hash, key, self.now);
                }
                Err(error.line())
            }
        }
    }

    /// delete.
    pub(crate) fn delete(&mut self, hash: KeyHash, key: &[u8]) -> Line {
        self.ledger.count_prefix(self.id, key, Counted::Delete);
        self.tell_lookup(hash, key);
        let sizes = self.about_to_delete(hash, key);
        if !self.shard.delete(hash, key, self.now) {
            return Line::NotFound;
        }
        if let Some(sizes) = sizes {
            self.tell_delete(key, sizes);
        }
        Line::Deleted
    }

    /// incr and decr.
    pub(crate) fn arith(&mut self, hash: KeyHash, key: &[u8], delta: u64, increment: bool) -> Result<u64, Line> {
        let now = self.now;
        self.tell_lookup(hash, key);
        let done = match increment {
            true => self.shard.incr(hash, key, delta, now),
            false => self.shard.decr(hash, key, delta, now),
        };
        match done {
            Arith::Value { value, .. } => Ok(value),
            Arith::NotFound | Arith::Exists => Err(Line::NotFound),
            Arith::NonNumeric => Err(Line::NonNumeric),
            Arith::OutOfMemory => Err(Line::NoMemory),
        }
    }

    /// touch.
    pub(crate) fn touch(&mut self, hash: KeyHash, key: &[u8], expiry: Expiry) -> Line {
        self.tell_lookup(hash, key);
        match self.shard.touch(hash, key, expiry, self.now) {
            Touched::Done(_) => Line::Touched,
            Touched::NotFound => Line::NotFound,
            Touched::OutOfMemory => Line::NoMemory,
        }
    }

    /// The item's first bytes; the rest, if any, is held until it is pulled.
    pub(super) fn answer_fetch(&mut self, at: ItemRef, room: u16, replies: &mut Half<Reply>) -> Answer {
        let item = self.shard.item(at);
        let (flags, cas, len) = (item.flags, item.cas, item.value.len());
        if len <= usize::from(room) && replies.has_room(len) {
            return Answer::Value { flags, cas, len: len as u32, bytes: replies.put(item.value), stream: NO_STREAM };
        }
        let Some(held) = self.hold(at) else {
            // Nothing can be held and the copies are at their bound. A cache may lose any item at any time.
            self.counters().gets_dropped.add(1);
            self.dropped_at = Some(self.now.secs);
            return Answer::Miss;
        };
        let value = held.value(&self.shard);
        let bytes = replies.put(value.get(..usize::from(room)).unwrap_or(value));
        match self.outgoing.insert(Outgoing { held }) {
            Ok(stream) => {
                self.counters().streams.add(1);
                Answer::Value { flags, cas, len: len as u32, bytes, stream }
            }
            Err(Outgoing { held }) => {
                debug_assert!(false, "more streams than landing slots");
                self.let_go(held);
                Answer::Miss
            }
        }
    }

    /// More bytes of a stream, perhaps none when the block is full; with the last of them the stream is gone.
    fn pull(&mut self, stream: u32, offset: u32, room: u16, replies: &mut Half<Reply>) -> Answer {
        let Some(outgoing) = self.outgoing.get(stream) else { return Answer::Done };
        let value = outgoing.held.value(&self.shard);
        let rest = value.get(offset as usize..).unwrap_or_default();
        let bytes = replies.put(rest.get(..usize::from(room)).unwrap_or(rest));
        if usize::from(bytes.len) == rest.len()
            && let Some(outgoing) = self.outgoing.remove(stream)
        {
            self.let_go(outgoing.held);
        }
        Answer::Bytes { bytes }
    }
}

/// The hash of the key that a request looks up.
fn hash_of(request: &Request) -> Option<KeyHash> {
    match *request {
        Request::Fetch { hash, .. }
        | Request::Store { hash, .. }
        | Request::Begin { hash, .. }
        | Request::Delete { hash, .. }
        | Request::Arith { hash, .. }
        | Request::Touch { hash, .. }
        | Request::MetaGet { hash, .. }
        | Request::MetaDelete { hash, .. }
        | Request::MetaArith { hash, .. }
        | Request::MetaDebug { hash, .. } => Some(hash),
        _ => None,
    }
}
