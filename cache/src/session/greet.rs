//! `-Y`: nothing is obeyed before the client has said who it is, by a `set` whose value is `name password`.
//!
//! Read first: `try_read_command_asciiauth` in memcached's `proto_text.c`.

use memchr::memchr;

use super::{Done, Halt, Stop, Taking, WHOLE_MAX_BYTES};
use crate::number::unsigned_32;
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::proto::text::{LINE_END, LINE_MAX_BYTES};
use crate::proto::words;

/// The longest value that is waited for (1.6.45's `MAX_AUTH_REQ_LEN`); what follows a longer one is read as the next
/// line.
const SAID_MAX_BYTES: u32 = 16_384;

impl Taking<'_> {
    /// Reads what an unknown client says.
    pub(super) fn greet(&mut self, input: &[u8]) -> Result<Done, Halt> {
        if self.clients.config.users.is_empty() {
            self.session.trusted = true;
            return Ok(Done::Bytes(0));
        }
        let window = input.get(..LINE_MAX_BYTES + 1).unwrap_or(input);
        let Some(newline) = memchr(b'\n', window) else {
            if window.len() > LINE_MAX_BYTES {
                self.close_broken();
                return Ok(Done::Bytes(0));
            }
            return Err(Stop::NeedInput.into());
        };
        let line_bytes = newline + 1;
        let Some(value_bytes) = announced(&input[..newline]) else {
            self.answer(Line::Unauthenticated)?;
            return Ok(Done::Command(line_bytes));
        };
        if value_bytes > SAID_MAX_BYTES {
            self.answer(Line::AuthTooLong)?;
            return Ok(Done::Command(line_bytes));
        }
        let total = line_bytes as u64 + u64::from(value_bytes) + LINE_END.len() as u64;
        if total > WHOLE_MAX_BYTES as u64 {
            // It is longer than any name and password.
            self.pass_over(total - line_bytes as u64, &Form::classic(false), Line::AuthFailure)?;
            self.count_greeting(Line::AuthFailure);
            return Ok(Done::Command(line_bytes));
        }
        let Some(value) = input.get(line_bytes..total as usize) else { return Err(Stop::NeedInput.into()) };
        self.reply_room()?;
        let line = match value.strip_suffix(LINE_END) {
            None => Line::AuthTermination,
            Some(said) => self.judge(said),
        };
        self.count_greeting(line);
        self.say(&Form::classic(false), line);
        Ok(Done::Command(total as usize))
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

    /// Counts an answer to a name and a password.
    fn count_greeting(&mut self, line: Line) {
        let counters = &self.clients.counters;
        counters.auth_cmds.add(u64::from(matches!(line, Line::Stored | Line::AuthFailure)));
        counters.auth_errors.add(u64::from(line == Line::AuthFailure));
    }
}

/// The length of the value that `set <key> <flags> <exptime> <bytes>` announces; only that number matters.
fn announced(line: &[u8]) -> Option<u32> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = words::all(line);
    (words.next()? == b"set").then_some(())?;
    unsigned_32(words.nth(3)?)
}
