//! Keys of a fetch, one by one, so that a line of any length needs room for one key.

use memchr::memchr3;

use super::{State, Step, Stop, Taking};
use crate::clock::Expiry;
use crate::core::at_once::AtOnce;
use crate::key::{KEY_MAX_BYTES, Key};
use crate::operation::{Operation, Outcome};
use crate::proto::form::{Form, Kind};
use crate::proto::reply::Line;
use crate::replies::{Owed, Source};

impl Taking<'_> {
    /// Executes the next key, or ends the fetch.
    pub(super) fn next_key(&mut self, input: &[u8]) -> Step {
        let State::Keys { cas, expiry, any } = self.session.state else { return Step::Moved(0) };
        let spaces = input.iter().position(|&byte| byte != b' ').unwrap_or(input.len());
        let rest = &input[spaces..];
        // A key, the \r of a line end, and what follows.
        let seen = rest.get(..KEY_MAX_BYTES + 2).unwrap_or(rest);
        let Some(end) = memchr3(b' ', b'\n', 0, seen) else {
            return match seen.len() > KEY_MAX_BYTES + 1 {
                true => self.refuse_keys(spaces),
                false => Step::Stop(spaces, Stop::NeedInput),
            };
        };
        // A line seen whole was checked before its first key was executed; only a long one is refused here or below.
        if seen[end] == 0 {
            return self.refuse_keys(spaces);
        }
        let ends = seen[end] == b'\n';
        let word = &seen[..end];
        let key = if ends { word.strip_suffix(b"\r").unwrap_or(word) } else { word };
        if key.is_empty() {
            let line = if any || expiry.is_some() { Line::End } else { Line::Error };
            return match self.answer(line, false) {
                Ok(()) => {
                    self.session.state = State::Line;
                    Step::Executed(spaces + end + 1)
                }
                Err(stop) => Step::Stop(spaces, stop),
            };
        }
        if key.len() > KEY_MAX_BYTES {
            return self.refuse_keys(spaces);
        }
        // Over UDP the last item and END are one message, also when blanks follow the key; a line has no end to be seen
        // elsewhere, and no messages.
        let blank = if ends || !self.session.datagram { None } else { blank_end(&rest[end..]) };
        let (last, end) = (ends || blank.is_some(), end + blank.unwrap_or(0));
        match self.fetch(key, cas, expiry, last) {
            Ok(()) => {
                self.session.state = if last { State::Line } else { State::Keys { cas, expiry, any: true } };
                Step::Executed(spaces + end + usize::from(last))
            }
            Err(stop) => Step::Stop(spaces, stop),
        }
    }

    /// A key that may not be, in a line too long to be checked beforehand.
    ///
    /// Deviates: the items before it have been answered; 1.6.18 drops them.
    fn refuse_keys(&mut self, spaces: usize) -> Step {
        match self.answer(Line::BadFormat, false) {
            Ok(()) => {
                self.session.state = State::SkipLine;
                Step::Executed(spaces)
            }
            Err(stop) => Step::Stop(spaces, stop),
        }
    }

    /// Looks one key up, here or on its owner; `end`: END follows.
    pub(super) fn fetch(&mut self, key: &[u8], cas: bool, expiry: Option<Expiry>, end: bool) -> Result<(), Stop> {
        let form = Form::fetch(key, cas, end);
        let (key, owner) = self.locate(key);
        if owner != self.core.id {
            let operation = expiry.map_or(Operation::GET, Operation::get_and_touch);
            let (token, room) = self.expect_value(owner, key.bytes, &form)?;
            self.core.ask_to_operate(owner, token, key, &operation, b"", Some(room));
        } else if expiry.is_some() || !self.fetch_at_once(key, &form) {
            self.reply_room()?;
            let operation = expiry.map_or(Operation::GET, Operation::get_and_touch);
            match self.core.operate(key, &operation, b"") {
                (Outcome::Hit(view), Some(at)) => {
                    let source = Source::Held(self.core.hold(at));
                    self.owe(&form, Owed::Body { view, source });
                }
                (outcome, _) => self.say(&form, outcome),
            }
        }
        self.core.counters().requests.add(1);
        Ok(())
    }

    /// Looks one key of this core up and writes the answer to the output; `false` when it cannot leave at once.
    #[inline]
    fn fetch_at_once(&mut self, key: Key<'_>, form: &Form<'_>) -> bool {
        let Kind::Fetch { cas, last } = form.kind else { return false };
        if !self.answers_at_once() || !form.fits(0, &self.out) {
            return false;
        }
        let fetched = self.core.get_at_once(key, cas, last, &mut self.out);
        if fetched == AtOnce::Missed {
            self.say(form, Outcome::Missed);
        }
        fetched != AtOnce::No
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
