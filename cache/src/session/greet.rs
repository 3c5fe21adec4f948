//! `-Y`: nothing is obeyed before the client has said who it is, by a `set` whose value is `name password`.
//!
//! Read first: `try_read_command_asciiauth` in memcached's `proto_text.c`.

use memchr::memchr;

use super::{LINE_END, State, Step, Stop, Taking, WHOLE_MAX_BYTES};
use crate::number::unsigned_32;
use crate::proto::form::Form;
use crate::proto::reply::Line;
use crate::proto::text::LINE_MAX_BYTES;
use crate::proto::words;
use crate::replies::{Owed, Waiting};

/// The longest value that is waited for (1.6.45's `MAX_AUTH_REQ_LEN`); what follows a longer one is read as the next line.
const SAID_MAX_BYTES: u32 = 16_384;

impl Taking<'_> {
    /// Reads what an unknown client says.
    pub(super) fn greet(&mut self, input: &[u8]) -> Step {
        if self.clients.config.users.is_empty() {
            self.session.trusted = true;
            return Step::Moved(0);
        }
        let window = input.get(..LINE_MAX_BYTES + 1).unwrap_or(input);
        let Some(newline) = memchr(b'\n', window) else {
            if window.len() > LINE_MAX_BYTES {
                self.close_broken();
                return Step::Moved(0);
            }
            return Step::Stop(0, Stop::NeedInput);
        };
        let line_bytes = newline + 1;
        let Some(value_bytes) = announced(&input[..newline]) else {
            return self.refuse(Line::Unauthenticated, line_bytes);
        };
        if value_bytes > SAID_MAX_BYTES {
            return self.refuse(Line::AuthTooLong, line_bytes);
        }
        let total = line_bytes as u64 + u64::from(value_bytes) + LINE_END.len() as u64;
        if total > WHOLE_MAX_BYTES as u64 {
            return self.swallow_greeting(line_bytes, total - line_bytes as u64);
        }
        let Some(value) = input.get(line_bytes..total as usize) else { return Step::Stop(0, Stop::NeedInput) };
        if let Err(stop) = self.reply_room() {
            return Step::Stop(0, stop);
        }
        let line = match value.strip_suffix(LINE_END) {
            None => Line::AuthTermination,
            Some(said) => self.judge(said),
        };
        match line {
            Line::Stored => self.clients.counters.auth_cmds.add(1),
            Line::AuthFailure => {
                self.clients.counters.auth_cmds.add(1);
                self.clients.counters.auth_errors.add(1);
            }
            _ => {}
        }
        self.say(&Form::classic(false), line);
        Step::Executed(total as usize)
    }

    /// Checks `name password` against the users. Every pair is compared to its end, so that time tells nothing.
    fn judge(&mut self, said: &[u8]) -> Line {
        let mut words = words::all(said);
        let (Some(name), Some(password)) = (words.next(), words.next()) else { return Line::AuthFormat };
        if !self.clients.shared.control.knows(name, password) {
            return Line::AuthFailure;
        }
        self.session.trusted = true;
        Line::Stored
    }

    fn refuse(&mut self, line: Line, bytes: usize) -> Step {
        match self.answer(line, false) {
            Ok(()) => Step::Executed(bytes),
            Err(stop) => Step::Stop(0, stop),
        }
    }

    /// A value longer than any name and password: passed over, then refused.
    fn swallow_greeting(&mut self, line_bytes: usize, remaining: u64) -> Step {
        if let Err(stop) = self.reply_room() {
            return Step::Stop(0, stop);
        }
        self.clients.counters.auth_cmds.add(1);
        self.clients.counters.auth_errors.add(1);
        let said = Line::AuthFailure.into();
        let reply = self.owe(&Form::classic(false), Owed::Waiting(Waiting::Refused { said }));
        self.session.state = State::Swallow { remaining, reply: Some(reply) };
        Step::Executed(line_bytes)
    }
}

/// The length of the value that `set <key> <flags> <exptime> <bytes>` announces; only that number matters.
fn announced(line: &[u8]) -> Option<u32> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = words::all(line);
    (words.next()? == b"set").then_some(())?;
    unsigned_32(words.nth(3)?)
}
