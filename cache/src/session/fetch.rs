//! Keys of a fetch, one by one, so that a line of any length needs room for one key.

use memchr::memchr3;

use super::{Session, State, Step, Stop};
use crate::clock::Expiry;
use crate::core::answers::Fetched;
use crate::core::entries::Owed;
use crate::core::{Core, Need};
use crate::key::KEY_MAX_BYTES;
use crate::proto::reply::Line;
use crate::route::message::Request;

impl Session {
    /// Executes the next key, or ends the fetch.
    pub(super) fn next_key(&mut self, core: &mut Core, input: &[u8]) -> Step {
        let State::Keys { cas, expiry, any } = self.state else { return Step::Moved(0) };
        let spaces = input.iter().position(|&byte| byte != b' ').unwrap_or(input.len());
        let rest = &input[spaces..];
        // A key, the \r of a line end, and what follows.
        let seen = rest.get(..KEY_MAX_BYTES + 2).unwrap_or(rest);
        let Some(end) = memchr3(b' ', b'\n', 0, seen) else {
            return match seen.len() > KEY_MAX_BYTES + 1 {
                true => self.refuse_keys(core, spaces),
                false => Step::Stop(spaces, Stop::NeedInput),
            };
        };
        // A line seen whole was checked before its first key was executed; only a long one is refused here or below.
        if seen[end] == 0 {
            return self.refuse_keys(core, spaces);
        }
        let ends = seen[end] == b'\n';
        let word = &seen[..end];
        let key = if ends { word.strip_suffix(b"\r").unwrap_or(word) } else { word };
        if key.is_empty() {
            let line = if any || expiry.is_some() { Line::End } else { Line::Error };
            return match self.answer(core, line, false) {
                Ok(()) => {
                    self.state = State::Line;
                    Step::Executed(spaces + end + 1)
                }
                Err(stop) => Step::Stop(spaces, stop),
            };
        }
        if key.len() > KEY_MAX_BYTES {
            return self.refuse_keys(core, spaces);
        }
        // Over UDP the last item and END are one message, also when blanks follow the key; a line has no end to be seen
        // elsewhere, and no messages.
        let blank = if ends || !self.datagram { None } else { blank_end(&rest[end..]) };
        let (last, end) = (ends || blank.is_some(), end + blank.unwrap_or(0));
        match self.fetch(core, key, cas, expiry, last) {
            Ok(()) => {
                self.state = if last { State::Line } else { State::Keys { cas, expiry, any: true } };
                Step::Executed(spaces + end + usize::from(last))
            }
            Err(stop) => Step::Stop(spaces, stop),
        }
    }

    /// A key that may not be, in a line too long to be checked beforehand.
    ///
    /// Deviates: the items before it have been answered; 1.6.18 drops them.
    fn refuse_keys(&mut self, core: &mut Core, spaces: usize) -> Step {
        match self.answer(core, Line::BadFormat, false) {
            Ok(()) => {
                self.state = State::SkipLine;
                Step::Executed(spaces)
            }
            Err(stop) => Step::Stop(spaces, stop),
        }
    }

    /// Looks one key up, here or on its owner; `end`: END follows.
    pub(super) fn fetch(
        &mut self,
        core: &mut Core,
        key: &[u8],
        cas: bool,
        expiry: Option<Expiry>,
        end: bool,
    ) -> Result<(), Stop> {
        let (hash, owner) = self.locate(core, key);
        if owner == core.id && expiry.is_none() && self.answers_at_once() && core.answers.takes_any_line() {
            match core.answer_get(hash, key, cas, end) {
                fetched @ (Fetched::Answered | Fetched::Missed) => {
                    if end && fetched == Fetched::Missed {
                        self.say(core, Owed::Line(Line::End));
                    }
                    core.counters().requests.add(1);
                    return Ok(());
                }
                Fetched::TooLarge => {}
            }
        }
        self.reply_room(core)?;
        if owner == core.id {
            match core.find(hash, key, expiry) {
                Some(at) => {
                    let hold = core.hold(at);
                    self.owe(core, Owed::Value { hold, cas, end });
                }
                None if end => {
                    self.owe(core, Owed::Line(Line::End));
                }
                None => {}
            }
        } else {
            self.slot_room(core)?;
            self.message_room(core, owner, key.len())?;
            let Some((slot, room)) = core.take_slot(self.conn, key, owner) else {
                return Err(self.wait(core, Need::Slot));
            };
            let token = self.owe(core, Owed::Fetch { slot, cas, end });
            core.ask(owner, token, [key, &[]], |[key, _]| Request::Fetch { key, hash, expiry, room });
            core.counters().cross_core_requests.add(1);
        }
        core.counters().requests.add(1);
        Ok(())
    }
}

/// Where the line ends, if nothing but blanks comes before that: the place of its `\n`.
fn blank_end(rest: &[u8]) -> Option<usize> {
    let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
    match rest.get(blanks..)? {
        [b'\n', ..] => Some(blanks),
        [b'\r', b'\n', ..] => Some(blanks + 1),
        _ => None,
    }
}
