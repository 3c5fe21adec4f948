//! Checks the bytes of one reply as they come, in any split, without collecting more of them than one line.
//!
//! The whole of a right reply is known when the request is made, but for which keys are there: so nothing is parsed,
//! bytes are compared. Most replies lie whole in what was received and are compared in three steps; the rest goes line
//! by line, and a wrong line is found at its first wrong byte even if it never ends.

use memchr::memchr;

use crate::codec::{Codec, OwedKeys};
use crate::keyspace::KeyNumber;
use crate::mismatch::{Mismatch, SHOWN_BYTES, shown};
use crate::tally::Tally;
use crate::workload::{Operation, Request};

const STORED: &[u8] = b"STORED\r\n";
const END: &[u8] = b"END\r\n";
/// What follows the value of a get of one key.
const AFTER_ONLY_VALUE: &[u8] = b"\r\nEND\r\n";

/// A wrong reply.
pub type Wrong = Box<Mismatch>;

/// What checking needs beside the reply's own state: how replies must be, what is counted, room for a line.
#[derive(Debug)]
pub struct Desk<'a> {
    /// How replies must be.
    pub codec: &'a Codec,
    /// What is counted.
    pub tally: &'a mut Tally,
    /// Overwritten.
    pub scratch: &'a mut Vec<u8>,
}

impl Desk<'_> {
    /// The first line of this key's value.
    #[inline]
    fn value_line(&mut self, key: KeyNumber) -> &[u8] {
        self.scratch.clear();
        self.codec.put_value_line(key, self.scratch);
        self.scratch
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing of the reply has been seen.
    Start,
    /// In a line: `VALUE`, `END`, `STORED`.
    Line,
    /// `at` bytes into the value of `key` and the line end behind it.
    Value { key: KeyNumber, at: usize },
}

/// The state of the reply that a connection receives.
#[derive(Debug)]
pub struct Reply {
    /// The request that it answers, once it has begun.
    request: Request,
    part: Part,
    /// Bytes of the reply checked so far.
    offset: u64,
    /// The front of a line whose end has not come.
    line: Vec<u8>,
    owed: OwedKeys,
}

impl Reply {
    /// Nothing received.
    pub const fn new() -> Self {
        let request = Request { operation: Operation::Get, key: 0 };
        Self { request, part: Part::Start, offset: 0, line: Vec::new(), owed: OwedKeys::One(None) }
    }

    /// Checks the front of `bytes`, which is not empty, against the reply to `request`. Returns how many bytes belonged
    /// to it and whether it is whole now; the next call is for the next reply then.
    ///
    /// # Errors
    /// The first byte that is not the right one.
    #[inline]
    pub fn take(&mut self, request: Request, bytes: &[u8], desk: &mut Desk<'_>) -> Result<(usize, bool), Wrong> {
        if self.part == Part::Start {
            match request.operation {
                Operation::Set if bytes.starts_with(STORED) => {
                    desk.tally.sets += 1;
                    return Ok((STORED.len(), true));
                }
                Operation::Get => {
                    if let Some(length) = whole_hit(request.key, bytes, desk) {
                        desk.tally.gets += 1;
                        desk.tally.hits += 1;
                        return Ok((length, true));
                    }
                }
                _ => {}
            }
            self.request = request;
            self.owed = desk.codec.owed(request);
            self.part = Part::Line;
            self.offset = 0;
            self.line.clear();
        }
        self.take_parts(bytes, desk)
    }

    fn take_parts(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Result<(usize, bool), Wrong> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if let Part::Value { key, at } = self.part {
                let length = self.take_value(key, at, rest, desk.codec)?;
                self.offset += length as u64;
                used += length;
                continue;
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                self.may_begin_a_line(desk)?;
                return Ok((bytes.len(), false));
            };
            used += end + 1;
            let last = if self.line.is_empty() {
                self.take_line(&rest[..=end], desk)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..=end]);
                let last = self.take_line(&line, desk)?;
                line.clear();
                self.line = line;
                last
            };
            if last {
                self.part = Part::Start;
                return Ok((used, true));
            }
        }
        Ok((used, false))
    }

    /// Judges a whole line; true when it was the reply's last.
    fn take_line(&mut self, line: &[u8], desk: &mut Desk<'_>) -> Result<bool, Wrong> {
        if self.request.operation == Operation::Set {
            if line != STORED {
                return Err(self.mismatch(STORED, line));
            }
            desk.tally.sets += 1;
            return Ok(true);
        }
        if line == END {
            desk.tally.misses += self.owed.by_ref().count() as u64;
            desk.tally.gets += 1;
            return Ok(true);
        }
        let before = self.owed.clone();
        for (skipped, key) in self.owed.by_ref().enumerate() {
            if line == desk.value_line(key) {
                desk.tally.misses += skipped as u64;
                desk.tally.hits += 1;
                self.offset += line.len() as u64;
                self.part = Part::Value { key, at: 0 };
                return Ok(false);
            }
        }
        self.owed = before;
        Err(self.mismatch(self.likely(line, desk), line))
    }

    /// The line that had to come instead of a wrong one: `END` when it begins so or no key is owed.
    fn likely<'d>(&self, line: &[u8], desk: &'d mut Desk<'_>) -> &'d [u8] {
        match self.owed.clone().next() {
            Some(key) if line.first() != Some(&b'E') => desk.value_line(key),
            _ => END,
        }
    }

    /// Checks that what there is of a line is the front of one that may come.
    fn may_begin_a_line(&mut self, desk: &mut Desk<'_>) -> Result<(), Wrong> {
        let line = &self.line;
        if self.request.operation == Operation::Set {
            return if STORED.starts_with(line) { Ok(()) } else { Err(self.mismatch(STORED, line)) };
        }
        if END.starts_with(line) || self.owed.clone().any(|key| desk.value_line(key).starts_with(line)) {
            return Ok(());
        }
        Err(self.mismatch(self.likely(line, desk), line))
    }

    /// Compares bytes with the value and the line end behind it; returns how many belonged there.
    fn take_value(&mut self, key: KeyNumber, at: usize, bytes: &[u8], codec: &Codec) -> Result<usize, Wrong> {
        let value = codec.keyspace().value(key);
        let of_value = bytes.len().min(value.len().saturating_sub(at));
        let right = value.matches(at, &bytes[..of_value]);
        if right < of_value {
            let expected = value.copy(at + right, SHOWN_BYTES);
            return Err(self.wrong_at(right, &expected, &bytes[right..]));
        }
        let line_end = &b"\r\n"[(at + of_value).saturating_sub(value.len())..];
        let of_end = line_end.len().min(bytes.len() - of_value);
        let found = &bytes[of_value..of_value + of_end];
        if found != &line_end[..of_end] {
            let right = usize::from(found[0] == line_end[0]);
            return Err(self.wrong_at(of_value + right, &line_end[right..], &bytes[of_value + right..]));
        }
        let at = at + of_value + of_end;
        self.part = if at == value.len() + 2 { Part::Line } else { Part::Value { key, at } };
        Ok(of_value + of_end)
    }

    fn mismatch(&self, expected: &[u8], found: &[u8]) -> Wrong {
        let right = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
        self.wrong_at(right, &expected[right..], &found[right..])
    }

    fn wrong_at(&self, right: usize, expected: &[u8], found: &[u8]) -> Wrong {
        let offset = self.offset + right as u64;
        Box::new(Mismatch { request: Some(self.request), offset, expected: shown(expected), found: shown(found) })
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of a right and whole reply to a get of `key` at the front of `bytes`, the key being there.
#[inline]
fn whole_hit(key: KeyNumber, bytes: &[u8], desk: &mut Desk<'_>) -> Option<usize> {
    let value = desk.codec.keyspace().value(key);
    let after = bytes.strip_prefix(desk.value_line(key))?;
    let body = after.get(..value.len())?;
    let right = after[value.len()..].starts_with(AFTER_ONLY_VALUE) && value.matches(0, body) == value.len();
    right.then_some(bytes.len() - after.len() + value.len() + AFTER_ONLY_VALUE.len())
}
