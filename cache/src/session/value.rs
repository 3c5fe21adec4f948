//! Values that follow a storage command: in one piece where all is there, else piece by piece into room reserved
//! where the key lives.

use super::{Done, Halt, State, Stop, Taking, WHOLE_MAX_BYTES};
use crate::core::uploads::Filled;
use crate::key::Key;
use crate::mesh::message::{Request, Span, Token};
use crate::operation::{Operation, Outcome, Purpose};
use crate::proto::Storing;
use crate::proto::form::{Form, Said};
use crate::proto::line::Line;
use crate::replies::{Owed, Upload, Waiting};

/// Bytes of key and value that go to another core in one message.
const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Bytes of a piece that goes to another core.
const PIECE_MAX_BYTES: usize = 4 << 10;

/// Pieces that may be on their way to another core at a time.
const PIECES_MAX: u16 = 4;

impl Taking<'_> {
    /// A storage command whose line or packet head is the first `line_bytes` bytes of `input`.
    pub(super) fn store(
        &mut self,
        input: &[u8],
        line_bytes: usize,
        storing: &Storing<'_>,
        form: &Form<'_>,
    ) -> Result<Done, Halt> {
        let value_end = line_bytes + storing.bytes as usize;
        let line_end = self.value_end();
        let total = value_end + line_end.len();
        if input.len() < total && (total <= WHOLE_MAX_BYTES || self.session.datagram) {
            return Err(Stop::NeedInput.into());
        }
        let located = self.locate(storing.key);
        let value = input.get(line_bytes..value_end).filter(|_| input.get(value_end..total) == Some(line_end));
        let carried = located.1 == self.here.id || storing.key.len() + storing.bytes as usize <= MESSAGE_MAX_BYTES;
        let bytes = match value {
            Some(value) if carried => {
                self.perform(located, &Operation::Store(storing.store), value, form)?;
                total
            }
            _ => {
                self.begin_value(located, storing, form)?;
                line_bytes
            }
        };
        Ok(self.executed(bytes))
    }

    /// Reserves room where the key lives; the value follows.
    fn begin_value(
        &mut self,
        (key, owner): (Key<'_>, usize),
        storing: &Storing<'_>,
        form: &Form<'_>,
    ) -> Result<(), Stop> {
        let &Storing { store, bytes, .. } = storing;
        if owner == self.here.id {
            if !form.is_silent() {
                self.reply_room()?;
            }
            let begun = self.here.begin_upload(key, &store, bytes);
            let waiting = match begun {
                Ok(_) => Waiting::Outcome,
                Err(outcome) => Waiting::Refused { said: outcome.into() },
            };
            let reply = (!form.is_silent()).then(|| self.owe(form, Owed::Waiting(waiting)));
            self.session.state = match begun {
                Ok(upload) => {
                    self.clients.counters.uploads.add(1);
                    State::Value { upload, reply }
                }
                Err(_) => State::Swallow { remaining: u64::from(bytes) + self.value_end().len() as u64, reply },
            };
            return Ok(());
        }
        self.reply_room()?;
        self.message_room(owner, key.bytes.len())?;
        self.clients.counters.uploads.add(1);
        let token = self.owe(form, Owed::Waiting(Waiting::Upload(Upload::Asked)));
        let hash = key.hash;
        let begin = |[key, _]: [Span; 2]| Request::Begin { key, hash, store, value_len: bytes };
        self.clients.ask(owner, token, [key.bytes, &[]], begin);
        self.clients.counters.cross_core_requests.add(1);
        self.session.state = State::Upload { token, owner, remaining: bytes };
        Ok(())
    }

    /// The next bytes of a value for this core's shard, or its line end.
    pub(super) fn fill_value(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let State::Value { upload, reply } = self.session.state else { return Ok(Done::Bytes(0)) };
        let expected = self.value_end();
        match self.here.fill_upload(upload, input) {
            Filled::GaveWay { missing_bytes } => {
                self.here.abandon_upload(upload);
                let remaining = u64::from(missing_bytes) + expected.len() as u64;
                if let Some(reply) = reply {
                    let said = Outcome::NoMemory(Purpose::Store).into();
                    self.clients.replies.entry_mut(reply).owed = Owed::Waiting(Waiting::Refused { said });
                }
                self.session.state = State::Swallow { remaining, reply };
                return Ok(Done::Bytes(0));
            }
            Filled::Open { taken, .. } if taken > 0 => return Ok(Done::Bytes(taken)),
            Filled::Open { whole: false, .. } => return Err(Stop::NeedInput.into()),
            Filled::Open { whole: true, .. } => {}
        }
        let Some(line_end) = input.get(..expected.len()) else { return Err(Stop::NeedInput.into()) };
        self.session.state = State::Line;
        let said: Said = if line_end == expected {
            self.here.commit_upload(upload).into()
        } else {
            self.here.abandon_upload(upload);
            Line::BadChunk.into()
        };
        if let Some(reply) = reply {
            self.clients.replies.settle(reply, said);
        }
        Ok(Done::Bytes(expected.len()))
    }

    /// The next bytes of a value for another core, or its line end.
    pub(super) fn send_value(
        &mut self,
        input: &[u8],
        token: Token,
        owner: usize,
        remaining: u32,
    ) -> Result<Done, Halt> {
        let entry = self.clients.replies.entry(token);
        let upload = match entry.owed {
            Owed::Waiting(Waiting::Upload(Upload::Open { upload, .. })) => upload,
            Owed::Waiting(Waiting::Refused { .. }) => {
                let remaining = u64::from(remaining) + self.value_end().len() as u64;
                self.session.state = State::Swallow { remaining, reply: Some(token) };
                return Ok(Done::Bytes(0));
            }
            _ => return Err(Stop::Waiting.into()),
        };
        if remaining > 0 {
            if entry.expected >= PIECES_MAX {
                return Err(Stop::Waiting.into());
            }
            let bytes = input.len().min(remaining as usize).min(PIECE_MAX_BYTES);
            if bytes == 0 {
                return Err(Stop::NeedInput.into());
            }
            self.message_room(owner, bytes)?;
            self.clients.ask(owner, token, [&input[..bytes], &[]], |[bytes, _]| Request::Data { upload, bytes });
            self.session.state = State::Upload { token, owner, remaining: remaining - bytes as u32 };
            return Ok(Done::Bytes(bytes));
        }
        let expected = self.value_end();
        let Some(line_end) = input.get(..expected.len()) else { return Err(Stop::NeedInput.into()) };
        if line_end == expected {
            self.message_room(owner, 0)?;
            self.clients.replies.entry_mut(token).owed = Owed::Waiting(Waiting::Outcome);
            self.clients.ask(owner, token, [&[], &[]], |_| Request::Commit { upload });
        } else {
            self.clients.replies.settle(token, Line::BadChunk);
            self.clients.owe(owner, token, Request::Abort { upload });
        }
        self.session.state = State::Line;
        Ok(Done::Bytes(expected.len()))
    }

    /// What is asked is wrong: the `remaining` bytes that follow are passed over, then `said` is answered.
    pub(super) fn pass_over(&mut self, remaining: u64, form: &Form<'_>, said: Line) -> Result<(), Stop> {
        self.reply_room()?;
        let reply = self.owe(form, Owed::Waiting(Waiting::Refused { said: said.into() }));
        self.session.state = State::Swallow { remaining, reply: Some(reply) };
        Ok(())
    }

    /// Passes over a value that was refused, then answers.
    pub(super) fn swallow(&mut self, input: &[u8], remaining: u64, reply: Option<Token>) -> Result<Done, Halt> {
        let bytes = input.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        let remaining = remaining - bytes as u64;
        if remaining > 0 {
            self.session.state = State::Swallow { remaining, reply };
            return Err(Halt { consumed: bytes, stop: Stop::NeedInput });
        }
        if let Some(reply) = reply
            && let Owed::Waiting(Waiting::Refused { said }) = self.clients.replies.entry(reply).owed
        {
            self.clients.replies.settle(reply, said);
        }
        self.session.state = State::Line;
        Ok(Done::Bytes(bytes))
    }
}
