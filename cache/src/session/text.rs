//! One command line: found, read, and executed unless a value or keys follow.

use memchr::memchr;

use super::{Done, Halt, State, Stop, Taking};
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::proto::meta::{self, Name};
use crate::proto::text::{
    Command, LINE_MAX_BYTES, LINE_MIN_BYTES, LongFetch, begin_long_fetch, parse_line, plain_get, plain_set,
};

impl Taking<'_> {
    /// Executes the line at the start of `input`, if it is whole.
    pub(super) fn line(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let foreseen = self.session.foreseen.and_then(|foreseen| foreseen.get_of(input));
        if let Some((key, line_bytes)) = foreseen.or_else(|| plain_get(input)) {
            self.fetch(key, false, None, true)?;
            return Ok(Done::Command(line_bytes));
        }
        if let Some((storing, noreply, line_bytes)) = plain_set(input, self.here.now) {
            return self.store(input, line_bytes, &storing, &Form::classic(noreply));
        }
        self.any_line(input)
    }

    /// Executes a line of any form. Within the loop over a pipeline's requests it would cost each plain one some of the
    /// processor's registers.
    #[inline(never)]
    fn any_line(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let now = self.here.now;
        let window = input.get(..LINE_MAX_BYTES + 1).unwrap_or(input);
        let Some(newline) = memchr(b'\n', window) else {
            return match input.len() > LINE_MAX_BYTES {
                true => self.long_line(window),
                false => Err(Stop::NeedInput.into()),
            };
        };
        let text = &input[..newline];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let line_bytes = newline + 1;
        let command = match line_bytes < LINE_MIN_BYTES {
            true => Command::fail(Line::BadFormat),
            false => parse_line(text, now),
        };
        match command {
            Command::Fetch { cas, expiry, keys } => {
                self.session.state = State::Keys { cas, expiry, any: true };
                Ok(Done::Bytes(text.len() - keys.len()))
            }
            Command::Meta { name, words } => self.meta(input, line_bytes, name, words),
            Command::Other { asked, noreply } => self.obey(input, line_bytes, &asked, &Form::classic(noreply)),
            command @ (Command::Quit | Command::Http) => {
                self.session.broken = command == Command::Http;
                self.session.quit = command == Command::Quit;
                self.close();
                Ok(Done::Bytes(line_bytes))
            }
        }
    }

    /// A meta command whose line is the first `line_bytes` bytes of `input`.
    fn meta(&mut self, input: &[u8], line_bytes: usize, name: Name, words: &[u8]) -> Result<Done, Halt> {
        let meta = match meta::parse(name, words) {
            Ok(meta) => meta,
            Err(asked) => return self.obey(input, line_bytes, &asked, &Form::classic(false)),
        };
        let asked = meta.asked(name, self.here.now);
        let done = self.obey(input, line_bytes, &asked, &meta.form(name))?;
        self.clients.counters.cmd_meta.add(u64::from(name == Name::Debug));
        Ok(done)
    }

    /// A line whose end is not in sight: a fetch, whose keys are read one by one, or nonsense.
    fn long_line(&mut self, window: &[u8]) -> Result<Done, Halt> {
        match begin_long_fetch(window, self.here.now) {
            LongFetch::Begun { consumed, cas, expiry } => {
                self.session.state = State::Keys { cas, expiry, any: false };
                Ok(Done::Bytes(consumed))
            }
            LongFetch::Refused(line) => {
                self.answer(line)?;
                self.session.state = State::SkipLine;
                Ok(Done::Command(0))
            }
            LongFetch::No => {
                self.close_broken();
                Ok(Done::Bytes(0))
            }
        }
    }

    /// Passes over the rest of a line that was answered.
    pub(super) fn skip_line(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let newline = memchr(b'\n', input).ok_or(Halt { consumed: input.len(), stop: Stop::NeedInput })?;
        self.session.state = State::Line;
        Ok(Done::Bytes(newline + 1))
    }
}
