//! Other cores' requests, executed on this shard and answered in the block they came in.

use super::Core;
use super::upload::Filled;
use crate::key::{Key, KeyHash};
use crate::operation::{Operation, Outcome, Purpose, View};
use crate::route::batch::{Batch, Half};
use crate::route::message::{Answer, Envelope, NO_STREAM, Reply, Request};
use crate::shard::STEP_BYTES;
use crate::store::ItemRef;

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
            let Some(&Envelope { token, speaker, ref request }) = requests.message(index) else { break };
            self.observer.speaker = speaker;
            let answer = self.serve_one(requests, replies, request);
            replies.push(Reply { token, answer });
        }
        self.counters().messages_served.add(requests.len() as u64);
    }

    fn serve_one(&mut self, requests: &Half<Envelope>, replies: &mut Half<Reply>, request: &Request) -> Answer {
        let now = self.now;
        match *request {
            Request::Operate { key, hash, ref operation, value, room } => {
                let key = Key { hash, bytes: requests.bytes(key) };
                let (outcome, at) = self.operate(key, operation, requests.bytes(value));
                match (outcome, at, room) {
                    (Outcome::Hit(view), Some(at), Some(room)) => self.answer_hit(view, at, room, replies),
                    _ => Answer::Outcome(outcome),
                }
            }
            Request::Begin { key, hash, ref store, value_len } => {
                match self.begin_upload(Key { hash, bytes: requests.bytes(key) }, store, value_len) {
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

    /// Executes an operation on this core's shard, for a connection here or for another core.
    #[inline]
    pub(crate) fn operate(&mut self, key: Key<'_>, operation: &Operation, value: &[u8]) -> (Outcome, Option<ItemRef>) {
        self.observer.execute(&mut self.shard, key, operation, value, self.now)
    }

    /// The item's first bytes; the rest, if any, is held until it is pulled.
    fn answer_hit(&mut self, view: View, at: ItemRef, room: u16, replies: &mut Half<Reply>) -> Answer {
        let item = self.shard.item(at);
        let len = item.value.len();
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
        Request::Operate { hash, .. } | Request::Begin { hash, .. } => Some(hash),
        _ => None,
    }
}
