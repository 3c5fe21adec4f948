//! Values that follow a storage command: in one piece where all is there, else piece by piece into room reserved
//! where the key lives.

use super::{LINE_END, Session, State, Step, Stop, WHOLE_MAX_BYTES};
use crate::clock::Expiry;
use crate::core::entries::{Owed, Upload};
use crate::core::{Core, Need};
use crate::proto::reply::Line;
use crate::proto::text::Store;
use crate::route::message::{NOBODY, Request, Token};
use crate::stats::Counted;

/// Bytes of key and value that go to another core in one message.
const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Bytes of a piece that goes to another core.
const PIECE_MAX_BYTES: usize = 4 << 10;

/// Pieces that may be on their way to another core at a time.
const PIECES_MAX: u16 = 4;

impl Session {
    /// A storage command whose line is the first `line_bytes` bytes of `input`.
    pub(super) fn store(&mut self, core: &mut Core, input: &[u8], line_bytes: usize, store: &Store<'_>) -> Step {
        let value_end = line_bytes + store.bytes as usize;
        let total = value_end + LINE_END.len();
        if input.len() < total && total <= WHOLE_MAX_BYTES {
            return Step::Stop(0, Stop::NeedInput);
        }
        let done = match input.get(line_bytes..value_end) {
            Some(value) if input.get(value_end..total) == Some(LINE_END) => self.store_whole(core, value, store),
            _ => Ok(false),
        };
        match done {
            Ok(true) => {
                core.counters().requests.add(1);
                Step::Executed(total)
            }
            Ok(false) => match self.begin_value(core, store) {
                Ok(()) => {
                    core.counters().requests.add(1);
                    Step::Executed(line_bytes)
                }
                Err(stop) => Step::Stop(0, stop),
            },
            Err(stop) => Step::Stop(0, stop),
        }
    }

    /// Stores a value that is all there; `false` when it is too large for a message.
    fn store_whole(&mut self, core: &mut Core, value: &[u8], store: &Store<'_>) -> Result<bool, Stop> {
        let &Store { mode, key, flags, exptime, noreply, .. } = store;
        let (hash, owner) = core.locate(key);
        let expiry = Expiry::from_exptime(i64::from(exptime), core.now());
        if owner == core.id {
            if !noreply {
                self.reply_room(core)?;
            }
            let line = core.store(hash, key, value, flags, expiry, mode);
            if !noreply {
                self.owe(core, Owed::Line(line));
            }
            return Ok(true);
        }
        let bytes = key.len() + value.len();
        if bytes > MESSAGE_MAX_BYTES {
            return Ok(false);
        }
        if !noreply {
            self.reply_room(core)?;
        }
        self.message_room(core, owner, bytes)?;
        let token = if noreply { NOBODY } else { self.owe(core, Owed::Answer { quiet: false }) };
        core.ask(owner, token, [key, value], |[key, value]| Request::Store { key, value, hash, mode, flags, expiry });
        core.counters().cross_core_requests.add(1);
        Ok(true)
    }

    /// Reserves room where the key lives; the value follows.
    fn begin_value(&mut self, core: &mut Core, store: &Store<'_>) -> Result<(), Stop> {
        let &Store { mode, key, flags, exptime, bytes, noreply } = store;
        let (hash, owner) = core.locate(key);
        let expiry = Expiry::from_exptime(i64::from(exptime), core.now());
        if owner == core.id {
            if !noreply {
                self.reply_room(core)?;
            }
            self.admit(core, Need::Upload(owner))?;
            core.ledger.count_prefix(core.id, key, Counted::Set);
            let now = core.now();
            let reserved = core.shard.reserve(hash, key, bytes, flags, expiry, now);
            let reply = (!noreply).then(|| self.owe(core, Owed::Answer { quiet: false }));
            self.state = match reserved {
                Ok(reservation) => {
                    core.take_upload_credit(self.conn, owner);
                    State::Value { reservation, mode, reply }
                }
                Err(error) => {
                    let line = core.refuse(hash, key, mode, error);
                    State::Swallow { remaining: u64::from(bytes) + LINE_END.len() as u64, reply, line }
                }
            };
            return Ok(());
        }
        self.reply_room(core)?;
        self.admit(core, Need::Upload(owner))?;
        self.message_room(core, owner, key.len())?;
        core.take_upload_credit(self.conn, owner);
        let token = self.owe(core, Owed::Upload(Upload::Asked));
        core.entries.entry_mut(token).credit = Some(owner as u16);
        core.ask(owner, token, [key, &[]], |[key, _]| Request::Begin {
            key,
            hash,
            mode,
            flags,
            expiry,
            value_len: bytes,
        });
        core.counters().cross_core_requests.add(1);
        self.state = State::Upload { token, owner, remaining: bytes, noreply };
        Ok(())
    }

    /// The next bytes of a value for this core's shard, or its line end.
    pub(super) fn fill_value(&mut self, core: &mut Core, input: &[u8]) -> Step {
        let State::Value { reservation, .. } = &mut self.state else { return Step::Moved(0) };
        if reservation.missing_bytes() > 0 {
            return match core.shard.fill(reservation, input) {
                0 => Step::Stop(0, Stop::NeedInput),
                filled => Step::Moved(filled),
            };
        }
        let Some(line_end) = input.get(..LINE_END.len()) else { return Step::Stop(0, Stop::NeedInput) };
        if let State::Value { reservation, mode, reply } = std::mem::replace(&mut self.state, State::Line) {
            let line = if line_end == LINE_END {
                core.commit(reservation, mode)
            } else {
                core.shard.abandon(reservation);
                Line::BadChunk
            };
            core.end_upload(self.conn);
            core.return_upload_credit(core.id);
            if let Some(reply) = reply {
                core.entries.entry_mut(reply).owed = Owed::Line(line);
            }
        }
        Step::Moved(LINE_END.len())
    }

    /// The next bytes of a value for another core, or its line end.
    pub(super) fn send_value(
        &mut self,
        core: &mut Core,
        input: &[u8],
        token: Token,
        owner: usize,
        remaining: u32,
        noreply: bool,
    ) -> Step {
        let entry = core.entries.entry(token);
        let upload = match entry.owed {
            Owed::Upload(Upload::Open(upload)) => upload,
            Owed::Upload(Upload::Refused(line)) => {
                core.end_upload(self.conn);
                let remaining = u64::from(remaining) + LINE_END.len() as u64;
                self.state = if noreply {
                    core.entries.entry_mut(token).owed = Owed::Nothing;
                    State::Swallow { remaining, reply: None, line }
                } else {
                    State::Swallow { remaining, reply: Some(token), line }
                };
                return Step::Moved(0);
            }
            _ => return Step::Stop(0, Stop::Waiting),
        };
        if remaining > 0 {
            if entry.expected >= PIECES_MAX {
                return Step::Stop(0, Stop::Waiting);
            }
            let bytes = input.len().min(remaining as usize).min(PIECE_MAX_BYTES);
            if bytes == 0 {
                return Step::Stop(0, Stop::NeedInput);
            }
            if let Err(stop) = self.message_room(core, owner, bytes) {
                return Step::Stop(0, stop);
            }
            core.ask(owner, token, [&input[..bytes], &[]], |[bytes, _]| Request::Data { upload, bytes });
            core.note_upload_moved(self.conn, owner);
            self.state = State::Upload { token, owner, remaining: remaining - bytes as u32, noreply };
            return Step::Moved(bytes);
        }
        let Some(line_end) = input.get(..LINE_END.len()) else { return Step::Stop(0, Stop::NeedInput) };
        if line_end == LINE_END {
            if let Err(stop) = self.message_room(core, owner, 0) {
                return Step::Stop(0, stop);
            }
            core.entries.entry_mut(token).owed = Owed::Answer { quiet: noreply };
            core.ask(owner, token, [&[], &[]], |_| Request::Commit { upload });
        } else {
            core.entries.entry_mut(token).owed = if noreply { Owed::Nothing } else { Owed::Line(Line::BadChunk) };
            core.owe(owner, token, Request::Abort { upload });
        }
        core.end_upload(self.conn);
        self.state = State::Line;
        Step::Moved(LINE_END.len())
    }

    /// Passes over a value that was refused, then answers.
    pub(super) fn swallow(
        &mut self,
        core: &mut Core,
        input: &[u8],
        remaining: u64,
        reply: Option<Token>,
        line: Line,
    ) -> Step {
        let bytes = input.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        let remaining = remaining - bytes as u64;
        if remaining > 0 {
            self.state = State::Swallow { remaining, reply, line };
            return Step::Stop(bytes, Stop::NeedInput);
        }
        if let Some(reply) = reply {
            core.entries.entry_mut(reply).owed = Owed::Line(line);
        }
        self.state = State::Line;
        Step::Moved(bytes)
    }
}
