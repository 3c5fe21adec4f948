//! Keys of a fetch, one by one, so that a line of any length needs room for one key.

use memchr::memchr2;

use super::{Done, Halt, State, Stop, Taking};
use crate::clock::Expiry;
use crate::cluster::CLUSTER_KEY;
use crate::core::here::Here;
use crate::key::{KEY_MAX_BYTES, Key};
use crate::operation::Operation;
use crate::proto::form::Form;
use crate::proto::line::{LINE_MAX_BYTES, Line};
use crate::proto::sink::{Sink as _, Writer};
use crate::proto::text;

impl Taking<'_> {
    /// Executes the next key, or ends the fetch.
    pub(super) fn next_key(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let State::Keys { cas, expiry, any } = self.session.state else { return Ok(Done::Bytes(0)) };
        let spaces = input.iter().position(|&byte| byte != b' ').unwrap_or(input.len());
        let rest = &input[spaces..];
        let halt = |stop| Halt { consumed: spaces, stop };
        // A key, the \r of a line end, and what follows.
        let seen = rest.get(..KEY_MAX_BYTES + 2).unwrap_or(rest);
        let Some(end) = memchr2(b' ', b'\n', seen) else {
            return match seen.len() > KEY_MAX_BYTES + 1 {
                true => self.refuse_keys(spaces),
                false => Err(halt(Stop::NeedInput)),
            };
        };
        let ends = seen[end] == b'\n';
        let word = &seen[..end];
        let key = if ends { word.strip_suffix(b"\r").unwrap_or(word) } else { word };
        if key.is_empty() {
            let line = if any { Line::End } else { Line::BadFormat };
            self.answer(line).map_err(halt)?;
            self.session.state = State::Line;
            return Ok(Done::Command(spaces + end + 1));
        }
        // A line seen whole was checked before its first key was executed; only a long one is refused here.
        if key.len() > KEY_MAX_BYTES {
            return self.refuse_keys(spaces);
        }
        // Over UDP the last item and END are one message, so that blanks between the last key and the line end are
        // passed over with it.
        let blank = if ends || !self.session.datagram { None } else { blank_end(&rest[end..]) };
        let (last, end) = (ends || blank.is_some(), end + blank.unwrap_or(0));
        self.fetch(key, cas, expiry, last).map_err(halt)?;
        self.session.state = if last { State::Line } else { State::Keys { cas, expiry, any: true } };
        Ok(Done::Command(spaces + end + usize::from(last)))
    }

    /// A key that may not be, in a line too long to be checked beforehand.
    ///
    /// Deviates: the items before it have been answered; memcached drops them.
    fn refuse_keys(&mut self, spaces: usize) -> Result<Done, Halt> {
        self.answer(Line::BadFormat).map_err(|stop| Halt { consumed: spaces, stop })?;
        self.session.state = State::SkipLine;
        Ok(Done::Command(spaces))
    }

    /// Looks one key up, here or on its owner; `end`: END follows.
    #[inline]
    pub(super) fn fetch(&mut self, key: &[u8], cas: bool, expiry: Option<Expiry>, end: bool) -> Result<(), Stop> {
        if key == CLUSTER_KEY && self.clients.shared.control.cluster().is_some() {
            return self.tell_of_cluster(&Form::classic(false), |cluster| cluster.item(cas, end));
        }
        let located = self.locate(key);
        let (key, owner) = located;
        let leaves = self.answers_at_once() && self.out.room() >= LINE_MAX_BYTES;
        let answers = owner == self.here.id && expiry.is_none() && leaves;
        if !(answers && get_at_once(self.here, key, cas, end, &mut self.out)) {
            let operation = expiry.map_or(Operation::GET, Operation::get_and_touch);
            self.perform(located, &operation, b"", &Form::fetch(key.bytes, cas, end))?;
        }
        self.clients.counters.requests.add(1);
        Ok(())
    }
}

/// Looks `key` of this core up and writes the answer to `out`, which has room for a line: the item if there is one, and
/// END if it is the `last` of its fetch. `false` when the item is larger than the room, or somebody watches fetches:
/// nothing was counted or written.
#[inline]
pub(crate) fn get_at_once(here: &mut Here, key: Key<'_>, cas: bool, last: bool, out: &mut Writer<'_>) -> bool {
    let room = out.room();
    let fits = |value_len: usize| text::ITEM_MAX_BYTES + value_len <= room;
    match here.get_if(key, fits) {
        Some(Some(item)) => out.put_with(|out| {
            text::value_header(key.bytes, item.flags, item.value.len() as u32, cas.then_some(item.cas), out);
            out.put(item.value);
            // The compiler knows the length of each, so that it is one or two stores.
            if last { out.put(b"\r\nEND\r\n") } else { out.put(b"\r\n") }
        }),
        Some(None) if last => out.put(text::END),
        Some(None) => {}
        None => return false,
    }
    true
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
