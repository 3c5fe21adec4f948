//! Command lines of the classic text protocol, read as memcached 1.6.45 reads them.
//!
//! `parse_line` takes one whole line without its line end and answers a `Command` that borrows from it. It never
//! fails: a wrong line is a command too, which asks for the line that memcached would answer. Words are
//! parted by single or many spaces and nothing else; at most `WORDS_MAX` are looked at, except in a fetch, whose
//! keys are read one by one with `words::next_word`. The order of the checks is memcached's, since it decides which
//! error a client sees, whether `noreply` hides it, and whether the value of a refused storage command is passed over.
//! Read first: memcached `protocol.txt`; `process_request` in memcached's `proto_parser.c`, `process_command_ascii` in
//! its `proto_text.c`.

use super::asked::{Asked, Order, Storing};
use super::form::{Form, Kind};
use super::line::Line;
use super::meta;
use super::sink::Sink;
use super::words::{self, WORDS_MAX, after_spaces, next_word};
use crate::clock::{Expiry, Now};
use crate::key::KEY_MAX_BYTES;
use crate::number;
use crate::operation::{Count, Operation, Outcome, Store, StoreMode};

/// A line that has no line end within this many bytes is a long fetch or nonsense (`try_read_command_ascii`).
pub const LINE_MAX_BYTES: usize = 2048;

/// A line is never shorter than this, its end counted (`process_request`).
pub const LINE_MIN_BYTES: usize = 4;

/// Spaces that may stand before a long fetch (`try_read_command_ascii`).
pub const LONG_FETCH_LEADING_SPACES_MAX: usize = 100;

/// How [`plain_get`]'s lines begin; the key follows.
pub const PLAIN_GET: &[u8; 4] = b"get ";

/// What a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// get, gets, gat, gats.
    Fetch {
        /// Answer the cas unique too.
        cas: bool,
        /// gat and gats: the new expiry.
        expiry: Option<Expiry>,
        /// What follows: keys parted by spaces, one at least, none overlong.
        keys: &'a [u8],
    },
    /// A meta command; [`meta`] reads what follows.
    Meta {
        /// Which.
        name: meta::Name,
        /// Key and flags.
        words: &'a [u8],
    },
    /// quit: answer what is owed, then close.
    Quit,
    /// The last word of an unknown command begins with `HTTP/`: close without a word.
    Http,
    /// Any other, right or wrong.
    Other {
        /// What it asks for.
        asked: Asked<'a>,
        /// A `noreply` that memcached would obey: no answer is wanted.
        noreply: bool,
    },
}

impl<'a> Command<'a> {
    /// One that is answered.
    fn heard(asked: Asked<'a>) -> Self {
        Command::Other { asked, noreply: false }
    }

    /// One that is wrong, whatever else it says.
    pub fn fail(line: Line) -> Self {
        Command::heard(Asked::Line(line))
    }
}

/// What follows a value.
pub(crate) const LINE_END: &[u8] = b"\r\n";

/// Reads one line, given without its line end (`\n` or `\r\n`), of at least [`LINE_MIN_BYTES`] with it. `now` is when
/// times that it names begin. Contains no `\n`.
pub fn parse_line(line: &[u8], now: Now) -> Command<'_> {
    let name_end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    match name {
        b"get" => fetch(rest, false),
        b"gets" => fetch(rest, true),
        b"gat" => fetch_and_touch(rest, false, now),
        b"gats" => fetch_and_touch(rest, true, now),
        [b'm', _] => match meta::Name::of(name) {
            Some(name) => Command::Meta { name, words: rest },
            None => rarely(line),
        },
        _ => by_words(name, rest, now).unwrap_or_else(|| rarely(line)),
    }
}

/// The key of the line at the start of `input` and the line's length with its end, if it is a get of one key written as
/// clients write it: one space, at most 250 bytes that are neither space nor control character, `\r\n` or `\n`. Whatever
/// is not, or not whole, is for [`parse_line`], which says the same of these lines.
#[inline]
pub fn plain_get(input: &[u8]) -> Option<(&[u8], usize)> {
    plain_keyed(input, input.strip_prefix(PLAIN_GET)?)
}

/// [`plain_get`] or the same of gets, and whether it is that.
#[inline]
pub fn plain_fetch(input: &[u8]) -> Option<(&[u8], usize, bool)> {
    if let Some((key, bytes)) = plain_get(input) {
        return Some((key, bytes, false));
    }
    let (key, bytes) = plain_keyed(input, input.strip_prefix(b"gets ")?)?;
    Some((key, bytes, true))
}

/// The storage command at the start of `input`, whether it has `noreply`, and the length of its line with the end, if
/// it is a set written as clients write it: words parted by one space, the key as in [`plain_get`], numbers of one to nine digits, perhaps
/// `noreply`, `\r\n` or `\n`. [`parse_line`] says the same of these lines.
#[inline]
pub fn plain_set(input: &[u8], now: Now) -> Option<(Storing<'_>, bool, usize)> {
    let (key, rest) = plain_key(input.strip_prefix(b"set ")?)?;
    let (flags, rest) = plain_number(rest)?;
    let (exptime, rest) = plain_number(rest)?;
    let (bytes, rest) = plain_number(rest)?;
    let (noreply, rest) = match rest.strip_prefix(b" noreply") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let end = plain_end(rest)?;
    let line_bytes = input.len() - rest.len() + end;
    Some((storing_of(StoreMode::Set, key, flags, exptime as i32, bytes, now), noreply, line_bytes))
}

/// The key that is all of `text`, the rest of the line at the start of `input`; and the line's length.
#[inline]
fn plain_keyed<'a>(input: &'a [u8], text: &'a [u8]) -> Option<(&'a [u8], usize)> {
    let (key, rest) = plain_key(text)?;
    let end = plain_end(rest)?;
    Some((key, input.len() - rest.len() + end))
}

/// The key that `text` begins with, and what follows it.
#[inline]
fn plain_key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = printable_len(text.get(..KEY_MAX_BYTES + 1).unwrap_or(text));
    text.split_at_checked(len).filter(|(key, _)| (1..=KEY_MAX_BYTES).contains(&key.len()))
}

/// The number of one to nine digits that follows a space at the start of `text`, and what follows it.
#[inline]
fn plain_number(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b' ', digits @ ..] = text else { return None };
    let mut value = 0;
    for (at, &byte) in digits.iter().enumerate() {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 if at < 9 => value = value * 10 + u32::from(digit),
            _ if at == 0 => return None,
            _ => return Some((value, digits.get(at..)?)),
        }
    }
    None
}

/// Bytes of the line end that `text` begins with.
#[inline]
fn plain_end(text: &[u8]) -> Option<usize> {
    match text {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] => Some(1),
        _ => None,
    }
}

/// Bytes before the first space or control character, eight at a time.
#[inline]
pub(crate) fn printable_len(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte below 0x21, right up to the first of them (Mycroft's test).
        let below = word.wrapping_sub(ONES * 0x21) & !word & (ONES * 0x80);
        if below != 0 {
            return index * 8 + below.trailing_zeros() as usize / 8;
        }
    }
    let seen = text.len() - rest.len();
    seen + rest.iter().position(|&byte| byte <= b' ').unwrap_or(rest.len())
}

/// A fetch whose line is too long to be seen whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongFetch {
    /// The keys begin after `consumed` bytes.
    Begun {
        /// Bytes of the name, of gat's exptime and of the spaces before the first key.
        consumed: usize,
        /// Answer the cas unique too.
        cas: bool,
        /// gat and gats: the new expiry.
        expiry: Option<Expiry>,
    },
    /// The exptime is no number: answer the line, skip the rest.
    Refused(Line),
    /// Not a fetch: memcached closes the connection.
    No,
}

/// Reads the beginning of a line that has no line end within [`LINE_MAX_BYTES`] (`try_read_command_ascii`).
///
/// Deviates: gat and gats may be long as well; memcached takes them only if they arrive in one read.
pub fn begin_long_fetch(line: &[u8], now: Now) -> LongFetch {
    let text = after_spaces(line);
    if line.len() - text.len() > LONG_FETCH_LEADING_SPACES_MAX {
        return LongFetch::No;
    }
    let Some((name, rest)) = next_word(text) else { return LongFetch::No };
    let (cas, touches) = match name {
        b"get" => (false, false),
        b"gets" => (true, false),
        b"gat" => (false, true),
        b"gats" => (true, true),
        _ => return LongFetch::No,
    };
    if text.len() < line.len() {
        // Once it is whole it is a line without a name.
        return LongFetch::Refused(Line::Error);
    }
    let (expiry, rest) = if touches {
        let Some((word, rest)) = next_word(rest) else { return LongFetch::No };
        match number::signed_32(word) {
            // A word that fills the rest of what is seen may go on beyond it.
            Some(_) | None if rest.is_empty() => return LongFetch::No,
            Some(exptime) => (Some(expiry_of(exptime, now)), rest),
            None => return LongFetch::Refused(Line::BadExptime),
        }
    } else {
        (None, rest)
    };
    LongFetch::Begun { consumed: line.len() - rest.len(), cas, expiry }
}

/// Whether a key of a fetch is longer than a key may be. A line that is no longer than one key needs no look.
fn has_overlong_key(keys: &[u8]) -> bool {
    keys.len() > KEY_MAX_BYTES && keys.split(|&byte| byte == b' ').any(|key| key.len() > KEY_MAX_BYTES)
}

/// get and gets: at least one key.
fn fetch(keys: &[u8], cas: bool) -> Command<'_> {
    if after_spaces(keys).is_empty() || has_overlong_key(keys) {
        Command::fail(Line::BadFormat)
    } else {
        Command::Fetch { cas, expiry: None, keys }
    }
}

/// gat and gats: an exptime, and at least one key.
fn fetch_and_touch(rest: &[u8], cas: bool, now: Now) -> Command<'_> {
    let Some((exptime, keys)) = next_word(rest) else { return Command::fail(Line::BadFormat) };
    if after_spaces(keys).is_empty() {
        return Command::fail(Line::BadFormat);
    }
    match number::signed_32(exptime) {
        None => Command::fail(Line::BadExptime),
        Some(_) if has_overlong_key(keys) => Command::fail(Line::BadFormat),
        Some(exptime) => Command::Fetch { cas, expiry: Some(expiry_of(exptime, now)), keys },
    }
}

/// The commands that stand at the very beginning of their line, but for fetches and meta commands. `None`: another one.
fn by_words<'a>(name: &'a [u8], rest: &'a [u8], now: Now) -> Option<Command<'a>> {
    // The name is the first of the words that are looked at.
    let words = words::first(rest, WORDS_MAX - 1);
    let words = words.as_slice();
    Some(match name {
        b"set" => store(StoreMode::Set, words, now),
        b"add" => store(StoreMode::Add, words, now),
        b"replace" => store(StoreMode::Replace, words, now),
        b"append" => store(StoreMode::Append, words, now),
        b"prepend" => store(StoreMode::Prepend, words, now),
        b"cas" => store(StoreMode::Cas(0), words, now),
        b"delete" => delete(words),
        b"incr" => arith(true, words),
        b"decr" => arith(false, words),
        b"touch" => touch(words, now),
        b"stats" => Command::heard(Asked::Order(Order::Stats(rest))),
        b"watch" => Command::heard(Asked::Order(Order::Watch(rest))),
        b"version" => Command::fail(Line::Version),
        b"quit" => Command::Quit,
        _ => return None,
    })
}

/// Every other line: a command of those who run the server, before which spaces may stand, or none that is known. What
/// ends with `noreply` is not answered, whatever it is.
fn rarely(line: &[u8]) -> Command<'_> {
    let Some((name, rest)) = next_word(line) else { return Command::fail(Line::Error) };
    let words = words::first(rest, WORDS_MAX - 1);
    let last = words.last().copied().unwrap_or(name);
    let noreply = last == b"noreply";
    let asked = match name {
        b"flush_all" => Asked::Order(Order::Flush(delay(&words, noreply))),
        b"cache_memlimit" => memory_limit(&words),
        b"verbosity" => verbosity(&words),
        b"lru_crawler" => Asked::Order(Order::Crawler(rest)),
        b"lru" => Asked::Order(Order::Lru(rest)),
        b"slabs" => Asked::Order(Order::Slabs(rest)),
        b"shutdown" => Asked::Order(Order::Shutdown(rest)),
        b"debugtime" => Asked::Order(Order::Debugtime(rest)),
        _ if !words.is_empty() && last.starts_with(b"HTTP/") => return Command::Http,
        b"config" => Asked::Order(Order::Config(rest)),
        _ => Asked::Line(Line::Error),
    };
    Command::Other { asked, noreply }
}

/// The first `N` of the words that a command takes, and whether the last of all is `noreply`, whichever that is.
fn taken<'a, const N: usize>(words: &[&'a [u8]]) -> Option<([&'a [u8]; N], bool)> {
    let (&taken, _) = words.split_first_chunk()?;
    Some((taken, words.last() == Some(&&b"noreply"[..])))
}

/// `<key> <flags> <exptime> <bytes> [noreply]`, with the cas unique behind the length for cas. Once the length is known,
/// the value of what is refused is passed over.
fn store<'a>(mode: StoreMode, words: &[&'a [u8]], now: Now) -> Command<'a> {
    let Some(([key, flags, exptime, bytes], noreply)) = taken(words) else { return Command::fail(Line::BadFormat) };
    let Some(value_bytes) = number::length(bytes) else { return Command::fail(Line::BadFormat) };
    let read = || {
        let flags = number::client_flags(flags)?;
        let exptime = number::exptime(exptime)?;
        let mode = match mode {
            StoreMode::Cas(_) => StoreMode::Cas(number::unsigned(words.get(4)?)?),
            mode => mode,
        };
        (key.len() <= KEY_MAX_BYTES).then(|| storing_of(mode, key, flags, exptime, value_bytes, now))
    };
    let asked = match read() {
        Some(storing) => Asked::Store(storing),
        None => Asked::PassOver { bytes: u64::from(value_bytes) + LINE_END.len() as u64, line: Line::BadFormat },
    };
    Command::Other { asked, noreply }
}

/// The expiry that an exptime names.
#[inline]
fn expiry_of(exptime: i32, now: Now) -> Expiry {
    Expiry::from_exptime(i64::from(exptime), now)
}

/// A storage command of the classic protocol.
#[inline]
fn storing_of(mode: StoreMode, key: &[u8], flags: u32, exptime: i32, bytes: u32, now: Now) -> Storing<'_> {
    let expiry = expiry_of(exptime, now);
    let store = Store { mode, flags, expiry, drops_old: mode == StoreMode::Set, ..Store::SET };
    Storing { key, store, bytes }
}

/// `<key> [noreply]`. Whatever else follows the key is ignored.
fn delete<'a>(words: &[&'a [u8]]) -> Command<'a> {
    keyed(words, |[key]: [_; 1]| (key, Ok(Operation::DELETE)))
}

/// `<key> <amount> [noreply]`.
fn arith<'a>(up: bool, words: &[&'a [u8]]) -> Command<'a> {
    let count = |delta| Operation::Count(Count::by(delta, up));
    keyed(words, |[key, amount]| (key, number::unsigned(amount).map(count).ok_or(Line::BadDelta)))
}

/// `<key> <exptime> [noreply]`.
fn touch<'a>(words: &[&'a [u8]], now: Now) -> Command<'a> {
    let touch = |exptime| Operation::Touch(expiry_of(exptime, now));
    keyed(words, |[key, exptime]| (key, number::signed_32(exptime).map(touch).ok_or(Line::BadExptime)))
}

/// A command of `N` words, the first of them a key, and perhaps noreply; `read`: the key, and what the words ask for.
fn keyed<'a, const N: usize>(
    words: &[&'a [u8]],
    read: impl FnOnce([&'a [u8]; N]) -> (&'a [u8], Result<Operation, Line>),
) -> Command<'a> {
    let Some((taken, noreply)) = taken(words) else { return Command::fail(Line::BadFormat) };
    let asked = match read(taken) {
        (key, _) if key.len() > KEY_MAX_BYTES => Asked::Line(Line::BadFormat),
        (key, Ok(operation)) => Asked::Operation { key, operation },
        (_, Err(line)) => Asked::Line(line),
    };
    Command::Other { asked, noreply }
}

/// `[delay] [noreply]`.
fn delay(words: &[&[u8]], noreply: bool) -> Result<i64, Line> {
    match words.first() {
        Some(delay) if words.len() != usize::from(noreply) => {
            number::signed_32(delay).map(i64::from).ok_or(Line::BadExptime)
        }
        _ => Ok(0),
    }
}

/// `<megabytes> [noreply]`.
fn memory_limit<'a>(words: &[&[u8]]) -> Asked<'a> {
    match words.first().and_then(|megabytes| number::unsigned_32(megabytes)) {
        None => Asked::Line(Line::Error),
        Some(0..8) => Asked::Line(Line::MemlimitTooSmall),
        Some(1_000_000_001..) => Asked::Line(Line::MemlimitNotBytes),
        Some(megabytes) => Asked::Order(Order::MemoryLimit { megabytes }),
    }
}

/// `<level> [noreply]`.
fn verbosity<'a>(words: &[&[u8]]) -> Asked<'a> {
    match words.first().and_then(|level| number::unsigned_32(level)) {
        Some(level) => Asked::Order(Order::Verbosity { level }),
        None => Asked::Line(Line::BadFormat),
    }
}

/// Bytes of the longest header of a value: `VALUE `, the key, three blanks, flags, length, cas, `\r\n`.
pub(crate) const HEADER_MAX_BYTES: usize = 6 + KEY_MAX_BYTES + 3 + 10 + 10 + 20 + 2;

/// Bytes of what stands around a value, at most.
pub(crate) const ITEM_MAX_BYTES: usize = HEADER_MAX_BYTES + END.len() + 2;

/// What ends a fetch.
pub(crate) const END: &[u8] = b"END\r\n";

/// Writes what a classic command is answered: a line, or of a fetch what stands before the value,
/// `VALUE <key> <flags> <bytes> [<cas>]` (`protocol.txt`, "Retrieval command").
#[inline]
pub(crate) fn head(form: &Form<'_>, outcome: &Outcome, out: &mut impl Sink) {
    match (form.kind, outcome) {
        (Kind::Fetch { cas, .. }, Outcome::Hit(view)) => {
            value_header(form.key, view.flags, view.len, cas.then_some(view.cas), out);
        }
        (Kind::Fetch { .. }, Outcome::Missed) => out.put(Line::End.bytes()),
        (_, Outcome::Number(number)) => {
            out.number(number.value);
            out.put(b"\r\n");
        }
        (_, outcome) => out.put(Line::of(outcome).bytes()),
    }
}

/// What follows a value; `last`: END as well.
#[inline]
pub(crate) fn value_tail(last: bool) -> &'static [u8] {
    if last { b"\r\nEND\r\n" } else { b"\r\n" }
}

/// Writes the header of a value.
#[inline(always)]
pub(crate) fn value_header(key: &[u8], flags: u32, len: u32, cas: Option<u64>, out: &mut impl Sink) {
    out.put(b"VALUE ");
    out.put(key);
    if flags == 0 {
        out.put(b" 0 ");
    } else {
        out.put(b" ");
        out.number(flags.into());
        out.put(b" ");
    }
    out.number(len.into());
    if let Some(cas) = cas {
        out.put(b" ");
        out.number(cas);
    }
    out.put(b"\r\n");
}

#[cfg(test)]
mod tests;
