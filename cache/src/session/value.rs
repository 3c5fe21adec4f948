//! Values that follow a storage command: in one piece where all is there, else piece by piece into room reserved
//! where the key lives, on this core or another.

use super::{Done, Halt, State, Stop, Taking, WHOLE_MAX_BYTES};
use crate::key::Key;
use crate::mesh::message::{Token, UploadStep};
use crate::operation::Operation;
use crate::proto::asked::Storing;
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::replies::{Owed, Upload, Waiting};

/// Bytes of key and value that go to another core in one message.
const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Bytes of a piece of a value that goes to the core that owns its key.
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
        &Storing { store, bytes, .. }: &Storing<'_>,
        form: &Form<'_>,
    ) -> Result<(), Stop> {
        self.reply_room()?;
        self.message_room(owner, key.bytes.len())?;
        self.clients.counters.cross_core_requests.add(u64::from(owner != self.here.id));
        let token = self.owe(form, Owed::Waiting(Waiting::Upload(Upload::Asked)));
        let step = UploadStep::Begin { hash: key.hash, store, value_len: bytes };
        self.clients.upload(self.here, owner, token, step, key.bytes);
        self.session.state = State::Value { token, remaining: bytes };
        Ok(())
    }

    /// The next bytes of a value, of which `remaining` are to come, or its line end.
    pub(super) fn send_value(&mut self, input: &[u8], token: Token, remaining: u32) -> Result<Done, Halt> {
        let entry = self.clients.replies.entry(token);
        let (owner, upload) = match entry.owed {
            Owed::Waiting(Waiting::Upload(Upload::Open { owner, upload })) => (owner, upload),
            Owed::Waiting(Waiting::Refused { .. }) => {
                let remaining = u64::from(remaining) + self.value_end().len() as u64;
                self.session.state = State::Swallow { token, remaining };
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
            self.message_room(owner.into(), bytes)?;
            self.clients.upload(self.here, owner.into(), token, UploadStep::Data { upload }, &input[..bytes]);
            self.session.state = State::Value { token, remaining: remaining - bytes as u32 };
            return Ok(Done::Bytes(bytes));
        }
        let expected = self.value_end();
        let Some(line_end) = input.get(..expected.len()) else { return Err(Stop::NeedInput.into()) };
        if line_end == expected {
            self.message_room(owner.into(), 0)?;
            self.clients.replies.entry_mut(token).owed = Owed::Waiting(Waiting::Outcome);
            self.clients.upload(self.here, owner.into(), token, UploadStep::Commit { upload }, b"");
        } else {
            self.clients.replies.settle(token, Line::BadChunk);
            self.clients.abort_upload(self.here, owner, token, upload);
        }
        self.session.state = State::Line;
        Ok(Done::Bytes(expected.len()))
    }

    /// What is asked is wrong: the `remaining` bytes that follow are passed over, then `said` is answered.
    pub(super) fn pass_over(&mut self, remaining: u64, form: &Form<'_>, said: Line) -> Result<(), Stop> {
        self.reply_room()?;
        let token = self.owe(form, Owed::Waiting(Waiting::Refused { said: said.into() }));
        self.session.state = State::Swallow { token, remaining };
        Ok(())
    }

    /// Passes over a value that was refused, then answers.
    pub(super) fn swallow(&mut self, input: &[u8], token: Token, remaining: u64) -> Result<Done, Halt> {
        let bytes = input.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        let remaining = remaining - bytes as u64;
        if remaining > 0 {
            self.session.state = State::Swallow { token, remaining };
            return Err(Halt { consumed: bytes, stop: Stop::NeedInput });
        }
        if let Owed::Waiting(Waiting::Refused { said }) = self.clients.replies.entry(token).owed {
            self.clients.replies.settle(token, said);
        }
        self.session.state = State::Line;
        Ok(Done::Bytes(bytes))
    }
}
