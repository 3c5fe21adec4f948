//! One command line: found, read, and executed unless a value or keys follow.

use memchr::{memchr, memchr2};

use super::value::Storing;
use super::{Session, State, Step, Stop};
use crate::clock::Expiry;
use crate::core::Core;
use crate::core::entries::Owed;
use crate::key::KeyHash;
use crate::operation::Outcome;
use crate::proto::meta::Name;
use crate::proto::reply::Line;
use crate::proto::text::{Command, LINE_MAX_BYTES, LongFetch, Operation, begin_long_fetch, parse_line, plain_get};
use crate::route::message::{Request, Span};

impl Session {
    /// Executes the line at the start of `input`, if it is whole.
    pub(super) fn line(&mut self, core: &mut Core, input: &[u8]) -> Step {
        let foreseen = self.foreseen.and_then(|foreseen| foreseen.get_of(input));
        if let Some((key, line_bytes)) = foreseen.or_else(|| plain_get(input)) {
            return match self.fetch(core, key, false, None, true) {
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
                true => self.long_line(core, window),
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
                let expiry = exptime.map(|exptime| Expiry::from_exptime(i64::from(exptime), core.now()));
                self.state = State::Keys { cas, expiry, any: true };
                return Step::Moved(text.len() - keys.len());
            }
            Command::Store(store) => {
                let storing = Storing::of_text(&store, core.now());
                return self.store(core, input, line_bytes, &storing);
            }
            Command::Meta { name: Name::Set, words } => return self.meta_set(core, input, line_bytes, words),
            Command::Meta { name, words } => self.meta(core, name, words),
            Command::Delete { key, noreply } => self.on_owner(
                core,
                key,
                noreply,
                |core, hash| core.delete(hash, key),
                |key, hash| Request::Delete { key, hash },
            ),
            Command::Arith { key, delta, increment, noreply } => self.on_owner(
                core,
                key,
                noreply,
                |core, hash| core.arith(hash, key, delta, increment),
                |key, hash| Request::Arith { key, hash, delta, increment },
            ),
            Command::Touch { key, exptime, noreply } => {
                let expiry = Expiry::from_exptime(i64::from(exptime), core.now());
                self.on_owner(
                    core,
                    key,
                    noreply,
                    |core, hash| core.touch(hash, key, expiry),
                    |key, hash| Request::Touch { key, hash, expiry },
                )
            }
            Command::FlushAll { delay, noreply } => self.flush_all(core, delay, noreply),
            Command::MemoryLimit { megabytes, noreply } => self.memory_limit(core, megabytes, noreply),
            Command::Verbosity { level, noreply } => self.verbosity(core, level, noreply),
            Command::Stats { arguments } => self.stats(core, arguments),
            Command::Operate { operation: Operation::Debugtime, .. } if !core.config.commands.debug => {
                self.answer(core, Line::Error, false)
            }
            Command::Operate { operation, arguments } => self.operate(core, operation, arguments),
            Command::Version => self.answer(core, Line::Version, false),
            Command::Fail { line, noreply } => self.answer(core, line, noreply),
            command @ (Command::Quit | Command::Http) => {
                self.broken = command == Command::Http;
                self.quit = command == Command::Quit;
                self.close();
                return Step::Moved(line_bytes);
            }
        };
        match done {
            Ok(()) => {
                core.counters().requests.add(1);
                Step::Executed(line_bytes)
            }
            Err(stop) => Step::Stop(0, stop),
        }
    }

    /// A line whose end is not in sight: a fetch, whose keys are read one by one, or nonsense.
    fn long_line(&mut self, core: &mut Core, window: &[u8]) -> Step {
        match begin_long_fetch(window) {
            LongFetch::Begun { consumed, cas, exptime } => {
                let expiry = exptime.map(|exptime| Expiry::from_exptime(i64::from(exptime), core.now()));
                self.state = State::Keys { cas, expiry, any: false };
                Step::Moved(consumed)
            }
            LongFetch::Refused(line) => match self.answer(core, line, false) {
                Ok(()) => {
                    self.state = State::SkipLine;
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
                self.state = State::Line;
                Step::Moved(newline + 1)
            }
            None => Step::Stop(input.len(), Stop::NeedInput),
        }
    }

    /// Executes a command on one key here, or asks the key's owner to.
    fn on_owner(
        &mut self,
        core: &mut Core,
        key: &[u8],
        noreply: bool,
        here: impl FnOnce(&mut Core, KeyHash) -> Outcome,
        there: impl FnOnce(Span, KeyHash) -> Request,
    ) -> Result<(), Stop> {
        let (hash, owner) = self.locate(core, key);
        if owner == core.id {
            if !noreply {
                self.line_room(core)?;
            }
            let outcome = here(core, hash);
            if !noreply {
                self.say(core, outcome.owed());
            }
            return Ok(());
        }
        if noreply {
            self.unheard_room(core)?
        } else {
            self.reply_room(core)?
        }
        self.message_room(core, owner, key.len())?;
        let token = if noreply { self.owe_unheard(core) } else { self.owe(core, Owed::Answer { quiet: false }) };
        core.ask(owner, token, [key, &[]], |[key, _]| there(key, hash));
        core.counters().cross_core_requests.add(1);
        Ok(())
    }
}
