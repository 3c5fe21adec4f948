//! Replies of the text protocol: each is one that memcached's protocol.txt knows, whole, and tells of keys that were
//! said.
//!
//! Values are stepped over by the length that is announced, so that a wrong length shows at once.

use super::{ITEM_MAX, Transcript};

/// Where a stream of replies is wrong, and why.
pub type Wrong = (usize, String);

/// Lines that never vary.
const FIXED: [&[u8]; 14] = [
    b"STORED",
    b"NOT_STORED",
    b"EXISTS",
    b"NOT_FOUND",
    b"DELETED",
    b"TOUCHED",
    b"END",
    b"OK",
    b"RESET",
    b"ERROR",
    b"MN",
    b"VERSION 1.6.45-sidestep",
    b"NF",
    b"EN",
];

/// How lines begin that say more.
const OPENINGS: [&[u8]; 12] = [
    b"ERROR ",
    b"CLIENT_ERROR ",
    b"SERVER_ERROR ",
    b"SERVER_ERROR: ",
    b"MEMLIMIT_",
    b"BUSY ",
    b"BADCLASS ",
    b"WATCHER_TOO_MANY ",
    b"STAT ",
    b"HD",
    b"ME ",
    b"PREFIX ",
];

/// Checks the replies of one connection.
pub(super) fn check(transcript: &Transcript) -> Result<(), Wrong> {
    let replies = &transcript.received[..];
    // A key with a line end (packets and base64 have such) breaks the lines of a dump, as it does memcached's.
    let (mut at, mut fetching, mut dumped) = (0, false, false);
    while at < replies.len() {
        let wrong = |why: &str| Err((at, why.to_owned()));
        let Some(end) = replies[at..].iter().position(|&byte| byte == b'\n') else {
            // Who watches and closes its direction is told no more, in the middle of a line if it was there.
            let watched = is_prefix_of_either(&replies[at..], &[b"ts=", b"skipped="]);
            return if transcript.torn || watched { Ok(()) } else { wrong("a line without end") };
        };
        let line = &replies[at..at + end];
        let next = at + end + 1;
        let Some(line) = line.strip_suffix(b"\r") else {
            // metadump's and watch's lines end so.
            if !dumped && ![&b"key="[..], b"ts=", b"skipped="].iter().any(|opening| line.starts_with(opening)) {
                return wrong("a line that ends without a carriage return");
            }
            at = next;
            continue;
        };
        if fetching && !transcript.lossy && !(line == b"END" || line.starts_with(b"VALUE ") || is_error(line)) {
            return wrong("something else between VALUE and END");
        }
        fetching = false;
        at = match value_of(line, &transcript.sent) {
            Value::None if is_known(line) => next,
            Value::None if dumped => next,
            Value::None => return wrong("a line that is no reply"),
            Value::Wrong(why) => return wrong(why),
            Value::Announced { len, classic } => {
                fetching = classic;
                match replies.get(next + len..) {
                    None if transcript.torn => return Ok(()),
                    Some(rest) if rest.starts_with(b"\r\n") => next + len + 2,
                    Some(rest) if rest.len() < 2 && transcript.torn => return Ok(()),
                    _ => return wrong("a value that is shorter or longer than announced"),
                }
            }
        };
        dumped |= [&b"ITEM "[..], b"mg ", b"PREFIX "].iter().any(|opening| line.starts_with(opening));
    }
    if fetching && !transcript.torn { Err((at, "a fetch without END".to_owned())) } else { Ok(()) }
}

/// Whether `bytes` begins with one of `openings`, or is the beginning of one.
fn is_prefix_of_either(bytes: &[u8], openings: &[&[u8]]) -> bool {
    openings.iter().any(|opening| bytes.starts_with(opening) || opening.starts_with(bytes))
}

fn is_error(line: &[u8]) -> bool {
    [&b"ERROR"[..], b"CLIENT_ERROR ", b"SERVER_ERROR "].iter().any(|opening| line.starts_with(opening))
}

fn is_known(line: &[u8]) -> bool {
    let number = !line.is_empty() && line.iter().all(u8::is_ascii_digit);
    let flagged = |code: &[u8]| line == code || line.strip_prefix(code).is_some_and(|rest| rest.starts_with(b" "));
    number
        || FIXED.contains(&line)
        || OPENINGS.iter().any(|opening| line.starts_with(opening))
        || [&b"NS"[..], b"EX", b"NF", b"EN", b"HD"].iter().any(|code| flagged(code))
        || line.starts_with(b"ITEM ")
        || line.starts_with(b"mg ")
}

enum Value {
    /// The line announces none.
    None,
    Wrong(&'static str),
    /// So many bytes and a line end follow; `classic`: then another value, or END.
    Announced {
        len: usize,
        classic: bool,
    },
}

/// What `VALUE <key> <flags> <length> [<unique>]` or `VA <length> <flags>*` announces.
fn value_of(line: &[u8], sent: &[u8]) -> Value {
    let number = |word: Option<&[u8]>, most: u64| {
        let word = word.filter(|word| !word.is_empty() && word.len() <= 20 && word.iter().all(u8::is_ascii_digit))?;
        std::str::from_utf8(word).ok()?.parse::<u64>().ok().filter(|&number| number <= most)
    };
    let mut words = line.split(|&byte| byte == b' ');
    match words.next() {
        Some(b"VALUE") => {
            let key = words.next().unwrap_or_default();
            let flags = number(words.next(), u64::from(u32::MAX));
            let (Some(_), Some(len)) = (flags, number(words.next(), ITEM_MAX as u64)) else {
                return Value::Wrong("VALUE without good flags and length");
            };
            if words.next().is_some_and(|unique| number(Some(unique), u64::MAX).is_none()) || words.next().is_some() {
                return Value::Wrong("VALUE with something else at its end");
            }
            if key.is_empty() || key.len() > 250 || !sent.windows(key.len()).any(|window| window == key) {
                return Value::Wrong("VALUE of a key that was not asked for");
            }
            Value::Announced { len: len as usize, classic: true }
        }
        Some(b"VA") => match number(words.next(), ITEM_MAX as u64) {
            Some(len) => Value::Announced { len: len as usize, classic: false },
            None => Value::Wrong("VA without a good length"),
        },
        _ => Value::None,
    }
}
