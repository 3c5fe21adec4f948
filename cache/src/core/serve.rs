//! Other cores' requests, executed on this shard and answered in the block they came in.

use super::Core;
use super::upload::Filled;
use crate::Expiry;
use crate::counters::Counted;
use crate::key::KeyHash;
use crate::operation::{Number, Outcome, Purpose, View};
use crate::route::batch::{Batch, Half};
use crate::route::message::{Answer, Envelope, Manner, NO_STREAM, Reply, Request};
use crate::shard::STEP_BYTES;
use crate::store::{Arith, ItemRef, StoreMode, StoreOutcome, Touched};

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
                None => Answer::Outcome(Outcome::Missed),
            },
            Request::Store { key, value, hash, mode, flags, expiry, manner } => {
                let (key, value) = (requests.bytes(key), requests.bytes(value));
                Answer::Outcome(self.store(hash, key, value, flags, expiry, mode, manner))
            }
            Request::Begin { key, hash, mode, flags, expiry, value_len, manner } => {
                match self.begin_upload(hash, requests.bytes(key), value_len, flags, expiry, mode, manner) {
                    Ok(upload) => Answer::Begun { upload },
                    Err(outcome) => Answer::Refused(outcome),
                }
            }
            Request::Data { upload, bytes } => match self.fill_upload(upload, requests.bytes(bytes)) {
                Filled::Open { .. } => Answer::Done,
                Filled::GaveWay { .. } => Answer::Refused(Outcome::NoMemory(Purpose::Store)),
            },
            Request::Commit { upload } => Answer::Outcome(self.commit_upload(upload)),
            Request::Abort { upload } => {
                self.abandon_upload(upload);
                Answer::Done
            }
            Request::Delete { key, hash } => Answer::Outcome(self.delete(hash, requests.bytes(key))),
            Request::Arith { key, hash, delta, increment } => {
                Answer::Outcome(self.arith(hash, requests.bytes(key), delta, increment))
            }
            Request::Touch { key, hash, expiry } => Answer::Outcome(self.touch(hash, requests.bytes(key), expiry)),
            Request::MetaGet { key, hash, ask, room: None } => {
                Answer::Outcome(self.meta_get(hash, requests.bytes(key), &ask))
            }
            Request::MetaGet { key, hash, ask, room: Some(room) } => {
                self.answer_meta_get(hash, requests.bytes(key), &ask, room, replies)
            }
            Request::MetaDelete { key, hash, removal } => {
                Answer::Outcome(self.meta_delete(hash, requests.bytes(key), &removal))
            }
            Request::MetaArith { key, hash, count } => {
                Answer::Outcome(self.meta_arith(hash, requests.bytes(key), &count))
            }
            Request::MetaDebug { key, hash } => Answer::Outcome(self.meta_debug(hash, requests.bytes(key))),
            Request::Pull { stream, offset, room } => self.pull(stream, offset, room, replies),
            Request::Cancel { stream } => {
                self.end_stream(stream);
                Answer::Done
            }
            Request::Flush { exptime } => {
                self.shard.flush_all(exptime, now);
                Answer::Done
            }
            Request::MemoryLimit { bytes } => match self.shard.set_memory_limit(bytes as usize) {
                Ok(()) => Answer::Done,
                Err(_) => Answer::Unable,
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
        self.shared.counters.count_prefix(self.id, key, Counted::Get { hit: found.is_some() });
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
    ) -> Outcome {
        if manner.counts_prefix {
            self.shared.counters.count_prefix(self.id, key, Counted::Set);
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
        stored.outcome()
    }

    /// delete.
    pub(crate) fn delete(&mut self, hash: KeyHash, key: &[u8]) -> Outcome {
        self.shared.counters.count_prefix(self.id, key, Counted::Delete);
        self.tell_lookup(hash, key);
        let sizes = self.about_to_delete(hash, key);
        if !self.shard.delete(hash, key, self.now) {
            return Outcome::Missed;
        }
        if let Some(sizes) = sizes {
            self.tell_delete(key, sizes);
        }
        Outcome::Deleted
    }

    /// incr and decr.
    pub(crate) fn arith(&mut self, hash: KeyHash, key: &[u8], delta: u64, increment: bool) -> Outcome {
        let now = self.now;
        self.tell_lookup(hash, key);
        let done = match increment {
            true => self.shard.incr(hash, key, delta, now),
            false => self.shard.decr(hash, key, delta, now),
        };
        match done {
            Arith::Value { value, cas } => Outcome::Number(Number { value, cas, created: false, ttl: None }),
            Arith::NotFound | Arith::Exists => Outcome::Missed,
            Arith::NonNumeric => Outcome::NotANumber,
            Arith::OutOfMemory => Outcome::NoMemory(Purpose::Change),
        }
    }

    /// touch.
    pub(crate) fn touch(&mut self, hash: KeyHash, key: &[u8], expiry: Expiry) -> Outcome {
        self.tell_lookup(hash, key);
        match self.shard.touch(hash, key, expiry, self.now) {
            Touched::Done(_) => Outcome::Touched,
            Touched::NotFound => Outcome::Missed,
            Touched::OutOfMemory => Outcome::NoMemory(Purpose::Change),
        }
    }

    /// The item's first bytes; the rest, if any, is held until it is pulled.
    pub(super) fn answer_fetch(&mut self, at: ItemRef, room: u16, replies: &mut Half<Reply>) -> Answer {
        let item = self.shard.item(at);
        let len = item.value.len();
        let view = View { flags: item.flags, cas: item.cas, len: len as u32, ..View::default() };
        if len <= usize::from(room) && replies.has_room(len) {
            return Answer::Hit { view, bytes: replies.put(item.value), stream: NO_STREAM };
        }
        let stream = self.hold(at);
        let Some(item) = self.held(stream) else {
            self.let_go(stream);
            return Answer::Gone;
        };
        let bytes = replies.put(item.value.get(..usize::from(room)).unwrap_or(item.value));
        self.streams_out += 1;
        self.counters().streams.add(1);
        Answer::Hit { view, bytes, stream }
    }

    /// More bytes of a stream, perhaps none when the block is full; with the last of them the stream is gone, and when
    /// there are no more because others needed their room.
    fn pull(&mut self, stream: u32, offset: u32, room: u16, replies: &mut Half<Reply>) -> Answer {
        let Some(item) = self.held(stream) else {
            self.end_stream(stream);
            return Answer::Gone;
        };
        let rest = item.value.get(offset as usize..).unwrap_or_default();
        let bytes = replies.put(rest.get(..usize::from(room)).unwrap_or(rest));
        let last = usize::from(bytes.len) == rest.len();
        self.note_read(stream, usize::from(bytes.len));
        if last {
            self.end_stream(stream);
        }
        Answer::Bytes { bytes }
    }

    fn end_stream(&mut self, stream: u32) {
        self.streams_out -= 1;
        self.let_go(stream);
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
