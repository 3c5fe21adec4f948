//! `Here`: this core as the owner of keys. Its shard, and what connections of this core and of others hold of it.
//!
//! What a connection of this core asks of the shard it asks here by a call; what one of another core asks comes as a
//! block of [`Request`]s, is executed by the same calls and answered in the block it came in. Neither knows a protocol.

use std::sync::Arc;

use cpu::CachePadded;

use super::census::CoreCensus;
use super::conns::Conns;
use super::held::{HeldItem, HeldItems};
use super::uploads::Uploads;
use super::walk::{Over, Reached, StepInput, Walks};
use crate::clock::Now;
use crate::counters::CoreCounters;
use crate::key::{Key, KeyHash, KeyHasher};
use crate::mesh::batch::{Batch, Half};
use crate::mesh::message::{Answer, AnswerFor, Envelope, NO_STREAM, OrderToAll, Request, UploadStep};
use crate::observe::Observer;
use crate::operation::{Operation, Outcome, Purpose, View};
use crate::shard::{STEP_BYTES, Shard};
use crate::shared::Shared;
use crate::store::ItemRef;
use crate::store::item::Hit;

/// This core as the owner of keys.
#[derive(Debug)]
pub(crate) struct Here {
    /// Which of the cache's cores this is, and how many there are.
    pub(crate) id: usize,
    pub(super) cores: usize,
    /// The turn's time, as [`Core::collect`](super::Core::collect) or the last take had it.
    pub(crate) now: Now,
    pub(super) shared: Arc<Shared>,
    /// What this core counts.
    pub(super) counters: Arc<CachePadded<CoreCounters>>,
    /// Hashes keys. No hash may be told to clients: whoever knows some can choose keys that collide.
    pub(crate) hasher: KeyHasher,
    pub(super) shard: Shard,
    /// Tells watchers and counts prefixes.
    pub(super) observer: Observer,
    /// Items that replies are made of, on this core and, as streams, on others.
    pub(super) held: HeldItems,
    /// Values that are being sent to this shard.
    pub(super) uploads: Uploads,
    /// Steps of dumps.
    pub(super) walks: Walks,
}

impl Here {
    /// The core that owns keys of this hash.
    #[inline]
    pub(crate) fn owner_of(&self, hash: KeyHash) -> usize {
        hash.shard_of(self.cores)
    }

    /// `key` with its hash, and the core that owns it.
    #[inline]
    pub(crate) fn locate<'a>(&self, key: &'a [u8]) -> (Key<'a>, usize) {
        let key = self.hasher.key(key);
        (key, self.owner_of(key.hash))
    }

    /// Asks for the line of the index of a key that will be looked up here, and returns its hash; `None` when another
    /// core owns it.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) -> Option<KeyHash> {
        if self.owner_of(hash) != self.id {
            return None;
        }
        self.shard.prefetch(hash);
        Some(hash)
    }

    /// A session of this core takes requests of the connection that watchers know by the number `speaker`.
    #[inline]
    pub(crate) fn begin_try(&mut self, speaker: u32, now: Now) {
        self.now = now;
        self.observer.speaker = speaker;
    }

    /// Counts what is held of this shard.
    pub(super) fn count_into(&self, census: &mut CoreCensus) {
        (census.incoming, census.shard) = (self.uploads.len(), self.shard.census());
        self.held.count_into(census);
    }

    /// Executes the requests of a batch in order, each with one answer. `conns`: this core's connections, of which a
    /// list may be asked for.
    pub(super) fn serve(&mut self, batch: &mut Batch, conns: &Conns) {
        let Batch { requests, answers } = batch;
        for index in 0..requests.len() {
            if let Some(hash) = requests.message(index).and_then(|envelope| hash_of(&envelope.request)) {
                self.shard.prefetch(hash);
            }
        }
        for index in 0..requests.len() {
            let Some(&Envelope { token, speaker, ref request }) = requests.message(index) else { break };
            self.observer.speaker = speaker;
            let answer = self.serve_one(request, requests, answers, conns);
            answers.push(AnswerFor { token, answer });
        }
        self.counters.messages_served.add(requests.len() as u64);
    }

    fn serve_one(
        &mut self,
        request: &Request,
        requests: &Half<Envelope>,
        answers: &mut Half<AnswerFor>,
        conns: &Conns,
    ) -> Answer {
        match *request {
            Request::Operate { key, hash, ref operation, value, room } => {
                let key = Key { hash, bytes: requests.bytes(key) };
                let (outcome, at) = self.execute(key, operation, requests.bytes(value));
                match (outcome, at, room) {
                    (Outcome::Hit(view), Some(at), Some(room)) => self.answer_hit(view, at, room, answers),
                    _ => Answer::Outcome(outcome),
                }
            }
            Request::Upload { step, bytes } => self.upload(step, requests.bytes(bytes)),
            Request::Pull { stream, offset, room } => self.pull(stream, offset, room, answers),
            Request::Cancel { stream } => {
                self.end_stream(stream);
                Answer::Done
            }
            Request::Order(order) => match self.obey(order) {
                true => Answer::Done,
                false => Answer::Unable,
            },
            Request::Walk { over, place } => {
                let (told, next) = self.walk_step(over, place, STEP_BYTES.min(answers.room()), conns);
                Answer::Walked { text: answers.put(told), place: next }
            }
        }
    }

    /// Executes an operation on this core's shard, for a connection here or for another core.
    #[inline]
    pub(crate) fn execute(&mut self, key: Key<'_>, operation: &Operation, value: &[u8]) -> (Outcome, Option<ItemRef>) {
        self.observer.execute(&mut self.shard, key, operation, value, self.now)
    }

    /// Looks `key` up and returns its item, if its value's length `fits`; see [`Observer::get_if`].
    #[inline]
    pub(crate) fn get_if(&mut self, key: Key<'_>, fits: impl FnOnce(usize) -> bool) -> Option<Option<Hit<'_>>> {
        self.observer.get_if(&mut self.shard, key, self.now, fits)
    }

    /// The value of the item at `at`, which an operation has just found.
    pub(crate) fn value(&self, at: ItemRef) -> &[u8] {
        self.shard.item(at).value
    }

    /// Obeys an order; `false` when it cannot be obeyed.
    pub(crate) fn obey(&mut self, order: OrderToAll) -> bool {
        match order {
            OrderToAll::Flush { exptime } => {
                self.shard.flush_all(exptime, self.now);
                true
            }
            OrderToAll::MemoryLimit { bytes } => self.shard.set_memory_limit(bytes as usize).is_ok(),
        }
    }

    /// The item's first bytes; the rest, if any, is held until it is pulled.
    fn answer_hit(&mut self, view: View, at: ItemRef, room: u16, answers: &mut Half<AnswerFor>) -> Answer {
        let item = self.shard.item(at);
        let len = item.value.len();
        if len <= usize::from(room) && answers.has_room(len) {
            return Answer::Hit { view, bytes: answers.put(item.value), stream: NO_STREAM };
        }
        let stream = self.hold(at);
        let Some(item) = self.item(stream) else {
            self.let_go(stream);
            return Answer::Gone;
        };
        let bytes = answers.put(item.value.get(..usize::from(room)).unwrap_or(item.value));
        self.held.begin_stream();
        self.counters.streams.add(1);
        Answer::Hit { view, bytes, stream }
    }

    /// More bytes of a stream, perhaps none when the block is full; with the last of them the stream is gone, and when
    /// there are no more because others needed their room.
    fn pull(&mut self, stream: u32, offset: u32, room: u16, answers: &mut Half<AnswerFor>) -> Answer {
        let Some(item) = self.item(stream) else {
            self.end_stream(stream);
            return Answer::Gone;
        };
        let rest = item.value.get(offset as usize..).unwrap_or_default();
        let bytes = answers.put(rest.get(..usize::from(room)).unwrap_or(rest));
        let last = usize::from(bytes.len) == rest.len();
        self.note_read(stream, usize::from(bytes.len));
        if last {
            self.end_stream(stream);
        }
        Answer::Bytes { bytes }
    }

    fn end_stream(&mut self, stream: u32) {
        self.held.end_stream(&mut self.shard, stream);
    }

    /// Holds the item at `at`. Returns the number by which it is held.
    pub(crate) fn hold(&mut self, at: ItemRef) -> u32 {
        self.held.hold(&mut self.shard, &self.counters, at, self.now.secs)
    }

    /// The item that is held under the number `hold`; `None` when its bytes are gone.
    pub(crate) fn item(&self, hold: u32) -> Option<HeldItem<'_>> {
        self.held.item(&self.shard, hold)
    }

    /// Of what is held under the number `hold`, `bytes` more bytes have been read.
    pub(crate) fn note_read(&mut self, hold: u32, bytes: usize) {
        self.held.note_read(hold, bytes);
    }

    /// Gives an item back.
    pub(crate) fn let_go(&mut self, hold: u32) {
        self.held.let_go(&mut self.shard, hold);
    }

    /// Takes the next step of a value that is sent piece by piece into this core's shard, for a connection here or on
    /// another core. `bytes` go with it.
    pub(crate) fn upload(&mut self, step: UploadStep, bytes: &[u8]) -> Answer {
        let no_memory = Outcome::NoMemory(Purpose::Store);
        match step {
            UploadStep::Begin { hash, ref store, value_len } => {
                let key = Key { hash, bytes };
                self.observer.begin_store(&mut self.shard, key, store);
                let asked = (key, store, value_len);
                match self.uploads.begin(&mut self.shard, &mut self.held, &self.counters, asked, self.now) {
                    Ok(upload) => Answer::Begun { upload },
                    Err(outcome) => Answer::Refused(outcome),
                }
            }
            UploadStep::Data { upload } => match self.uploads.fill(&mut self.shard, upload, bytes) {
                true => Answer::Done,
                false => Answer::Refused(no_memory),
            },
            UploadStep::Commit { upload } => Answer::Outcome(match self.uploads.finish(upload) {
                Some(reservation) => self.observer.commit(&mut self.shard, reservation, self.now),
                None => no_memory,
            }),
            UploadStep::Abort { upload } => {
                self.uploads.abandon(&mut self.shard, upload);
                Answer::Done
            }
        }
    }

    /// Tells the next part of what this core has, `conns` its connections; see [`Walks::step`].
    pub(super) fn walk_step(&mut self, over: Over, place: Reached, room: usize, conns: &Conns) -> (&[u8], Reached) {
        let input = StepInput { shard: &self.shard, conns, counters: &self.shared.counters, now: self.now };
        self.walks.step(over, place, room, &input)
    }
}

/// The hash of the key that a request looks up.
fn hash_of(request: &Request) -> Option<KeyHash> {
    match *request {
        Request::Operate { hash, .. } | Request::Upload { step: UploadStep::Begin { hash, .. }, .. } => Some(hash),
        _ => None,
    }
}
