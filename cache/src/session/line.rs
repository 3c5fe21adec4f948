//! One command line: found, read, and executed unless a value or keys follow.

use memchr::{memchr, memchr2};

use super::value::Storing;
use super::{State, Step, Stop, Taking};
use crate::clock::Expiry;
use crate::operation::{Count, Operation};
use crate::proto::form::Form;
use crate::proto::meta::Name;
use crate::proto::reply::Line;
use crate::proto::text::{self, Command, LINE_MAX_BYTES, LongFetch, begin_long_fetch, parse_line, plain_get};

impl Taking<'_> {
    /// Executes the line at the start of `input`, if it is whole.
    pub(super) fn line(&mut self, input: &[u8]) -> Step {
        let foreseen = self.session.foreseen.and_then(|foreseen| foreseen.get_of(input));
        if let Some((key, line_bytes)) = foreseen.or_else(|| plain_get(input)) {
            return match self.fetch(key, false, None, true) {
                Ok(()) => Step::Executed(line_bytes),
                Err(stop) => Step::Stop(0, stop),
            };
        }
        let window = input.get(..LINE_MAX_BYTES + 1).unwrap_or(input);
        let (newline, has_nul) = match memchr2(b'\n', 0, window) {
            Some(at) if window[at] == 0 => (memchr(b'\n', window), true),
            found => (found, false),
        };
        let Some(newline) = newline else {
            return match input.len() > LINE_MAX_BYTES {
                true => self.long_line(window),
                false => Step::Stop(0, Stop::NeedInput),
            };
        };
        let text = &input[..newline];
        // As in memcached, a \r that is the whole line is a word.
        let text = if newline > 1 { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
        let line_bytes = newline + 1;
        // Deviates: 1.6.18 ends the line at a NUL and so takes `get a\0b` for `get a`.
        let command = if has_nul { Command::Fail { line: Line::BadFormat, noreply: false } } else { parse_line(text) };
        let done = match command {
            Command::Fetch { cas, exptime, keys } => {
                let expiry = exptime.map(|exptime| Expiry::from_exptime(i64::from(exptime), self.core.now()));
                self.session.state = State::Keys { cas, expiry, any: true };
                return Step::Moved(text.len() - keys.len());
            }
            Command::Store(store) => {
                let form = Form::classic(store.noreply);
                let storing = Storing::of_text(&store, &form, self.core.now());
                return self.store(input, line_bytes, &storing);
            }
            Command::Meta { name: Name::Set, words } => return self.meta_set(input, line_bytes, words),
            Command::Meta { name, words } => self.meta(name, words),
            Command::Delete { key, noreply } => self.operate_on_owner(key, &Operation::DELETE, &Form::classic(noreply)),
            Command::Arith { key, delta, increment, noreply } => {
                let count = Operation::Count(Count::by(delta, increment));
                self.operate_on_owner(key, &count, &Form::classic(noreply))
            }
            Command::Touch { key, exptime, noreply } => {
                let expiry = Expiry::from_exptime(i64::from(exptime), self.core.now());
                self.operate_on_owner(key, &Operation::Touch(expiry), &Form::classic(noreply))
            }
            Command::FlushAll { delay, noreply } => self.flush_all(delay, noreply),
            Command::MemoryLimit { megabytes, noreply } => self.memory_limit(megabytes, noreply),
            Command::Verbosity { level, noreply } => self.verbosity(level, noreply),
            Command::Stats { arguments } => self.stats(arguments),
            Command::Operate { operation: text::Operation::Debugtime, .. } if !self.core.config.commands.debug => {
                self.answer(Line::Error, false)
            }
            Command::Operate { operation, arguments } => self.operate(operation, arguments),
            Command::Version => self.answer(Line::Version, false),
            Command::Fail { line, noreply } => self.answer(line, noreply),
            command @ (Command::Quit | Command::Http) => {
                self.session.broken = command == Command::Http;
                self.session.quit = command == Command::Quit;
                self.close();
                return Step::Moved(line_bytes);
            }
        };
        match done {
            Ok(()) => {
                self.core.counters().requests.add(1);
                Step::Executed(line_bytes)
            }
            Err(stop) => Step::Stop(0, stop),
        }
    }

    /// A line whose end is not in sight: a fetch, whose keys are read one by one, or nonsense.
    fn long_line(&mut self, window: &[u8]) -> Step {
        match begin_long_fetch(window) {
            LongFetch::Begun { consumed, cas, exptime } => {
                let expiry = exptime.map(|exptime| Expiry::from_exptime(i64::from(exptime), self.core.now()));
                self.session.state = State::Keys { cas, expiry, any: false };
                Step::Moved(consumed)
            }
            LongFetch::Refused(line) => match self.answer(line, false) {
                Ok(()) => {
                    self.session.state = State::SkipLine;
                    Step::Executed(0)
                }
                Err(stop) => Step::Stop(0, stop),
            },
            LongFetch::No => {
                self.close_broken();
                Step::Moved(0)
            }
        }
    }

    /// Passes over the rest of a line that was answered.
    pub(super) fn skip_line(&mut self, input: &[u8]) -> Step {
        match memchr(b'\n', input) {
            Some(newline) => {
                self.session.state = State::Line;
                Step::Moved(newline + 1)
            }
            None => Step::Stop(input.len(), Stop::NeedInput),
        }
    }
}
