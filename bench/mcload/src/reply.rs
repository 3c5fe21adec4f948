//! Checks the bytes of one reply as they come, in any split, without collecting more of them than one line.
//!
//! The whole of a right reply is known when the request is made, but for which keys are there: so nothing is parsed,
//! bytes are compared. Most replies lie whole in what was received and are compared in three steps; the rest goes line
//! by line, and a wrong line is found at its first wrong byte even if it never ends.

use std::fmt;

use memchr::memchr;

use crate::codec::{Codec, OwedKeys};
use crate::keyspace::KeyNumber;
use crate::tally::Tally;
use crate::workload::{Operation, Request};

/// How much of a wrong reply is kept to be shown, in bytes.
const SHOWN_BYTES: usize = 120;
const STORED: &[u8] = b"STORED\r\n";
const END: &[u8] = b"END\r\n";
/// What follows the value of a get of one key.
const AFTER_ONLY_VALUE: &[u8] = b"\r\nEND\r\n";

/// A reply that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The request, or `None` when a reply came that nobody asked for.
    pub request: Option<Request>,
    /// Position of the first wrong byte in the reply.
    pub offset: u64,
    /// What had to come from there on (the first bytes of it).
    pub expected: Vec<u8>,
    /// What came from there on (the first bytes of it).
    pub found: Vec<u8>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.request {
            None => write!(f, "a reply nobody asked for: \"{}\"", self.found.escape_ascii()),
            Some(Request { operation, key }) => write!(
                f,
                "{} {key}: from byte {} of the reply expected \"{}\", found \"{}\"",
                match operation {
                    Operation::Get => "get of key",
                    Operation::MultiGet => "multi-get number",
                    Operation::Set => "set of key",
                },
                self.offset,
                self.expected.escape_ascii(),
                self.found.escape_ascii()
            ),
        }
    }
}

impl Mismatch {
    /// Bytes that came when no reply was owed.
    pub fn unasked(bytes: &[u8]) -> Self {
        Self { request: None, offset: 0, expected: Vec::new(), found: shown(bytes) }
    }
}

fn shown(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(SHOWN_BYTES)].to_vec()
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
        Self { part: Part::Start, offset: 0, line: Vec::new(), owed: OwedKeys::One(None) }
    }

    /// Checks the front of `bytes`, which is not empty, against the reply to `request`. Returns how many bytes belonged
    /// to it and whether it is whole now; the next call is for the next reply then. `scratch` is overwritten.
    ///
    /// # Errors
    /// The first byte that is not the right one.
    #[inline]
    pub fn take(
        &mut self,
        request: Request,
        bytes: &[u8],
        codec: &Codec,
        tally: &mut Tally,
        scratch: &mut Vec<u8>,
    ) -> Result<(usize, bool), Box<Mismatch>> {
        if self.part == Part::Start {
            match request.operation {
                Operation::Set if bytes.starts_with(STORED) => {
                    tally.sets += 1;
                    return Ok((STORED.len(), true));
                }
                Operation::Get => {
                    if let Some(length) = whole_hit(request.key, bytes, codec, scratch) {
                        tally.gets += 1;
                        tally.hits += 1;
                        return Ok((length, true));
                    }
                }
                _ => {}
            }
            self.owed = codec.owed(request);
            self.part = Part::Line;
            self.offset = 0;
            self.line.clear();
        }
        self.take_parts(request, bytes, codec, tally, scratch)
    }

    fn take_parts(
        &mut self,
        request: Request,
        bytes: &[u8],
        codec: &Codec,
        tally: &mut Tally,
        scratch: &mut Vec<u8>,
    ) -> Result<(usize, bool), Box<Mismatch>> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if let Part::Value { key, at } = self.part {
                let length = self.take_value(request, key, at, rest, codec)?;
                self.offset += length as u64;
                used += length;
                continue;
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                self.may_begin_a_line(request, codec, scratch)?;
                return Ok((bytes.len(), false));
            };
            used += end + 1;
            let last = if self.line.is_empty() {
                self.take_line(request, &rest[..=end], codec, tally, scratch)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..=end]);
                let last = self.take_line(request, &line, codec, tally, scratch)?;
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
    fn take_line(
        &mut self,
        request: Request,
        line: &[u8],
        codec: &Codec,
        tally: &mut Tally,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, Box<Mismatch>> {
        if request.operation == Operation::Set {
            if line != STORED {
                return Err(self.mismatch(request, STORED, line));
            }
            tally.sets += 1;
            return Ok(true);
        }
        if line == END {
            tally.misses += self.owed.by_ref().count() as u64;
            tally.gets += 1;
            return Ok(true);
        }
        let before = self.owed.clone();
        for (skipped, key) in self.owed.by_ref().enumerate() {
            scratch.clear();
            codec.put_value_line(key, scratch);
            if line == scratch.as_slice() {
                tally.misses += skipped as u64;
                tally.hits += 1;
                self.offset += line.len() as u64;
                self.part = Part::Value { key, at: 0 };
                return Ok(false);
            }
        }
        self.owed = before;
        let likely = self.likely(line, codec, scratch);
        Err(self.mismatch(request, likely, line))
    }

    /// The line that had to come instead of a wrong one: `END` when it begins so or no key is owed.
    fn likely<'s>(&self, line: &[u8], codec: &Codec, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        match self.owed.clone().next() {
            Some(key) if line.first() != Some(&b'E') => codec.put_value_line(key, scratch),
            _ => scratch.extend_from_slice(END),
        }
        scratch
    }

    /// Checks that what there is of a line is the front of one that may come.
    fn may_begin_a_line(
        &mut self,
        request: Request,
        codec: &Codec,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Box<Mismatch>> {
        let line = &self.line;
        if request.operation == Operation::Set {
            return if STORED.starts_with(line) { Ok(()) } else { Err(self.mismatch(request, STORED, line)) };
        }
        let begins_value = self.owed.clone().any(|key| {
            scratch.clear();
            codec.put_value_line(key, scratch);
            scratch.starts_with(line)
        });
        if begins_value || END.starts_with(line) {
            return Ok(());
        }
        let likely = self.likely(line, codec, scratch);
        Err(self.mismatch(request, likely, line))
    }

    /// Compares bytes with the value and the line end behind it; returns how many belonged there.
    fn take_value(
        &mut self,
        request: Request,
        key: KeyNumber,
        at: usize,
        bytes: &[u8],
        codec: &Codec,
    ) -> Result<usize, Box<Mismatch>> {
        let value = codec.keyspace().value(key);
        let of_value = bytes.len().min(value.len().saturating_sub(at));
        let right = value.matches(at, &bytes[..of_value]);
        if right < of_value {
            let expected = value.copy(at + right, SHOWN_BYTES);
            return Err(self.wrong_at(request, right, &expected, &bytes[right..]));
        }
        let line_end = &b"\r\n"[(at + of_value).saturating_sub(value.len())..];
        let of_end = line_end.len().min(bytes.len() - of_value);
        let found = &bytes[of_value..of_value + of_end];
        if found != &line_end[..of_end] {
            let right = usize::from(found[0] == line_end[0]);
            return Err(self.wrong_at(request, of_value + right, &line_end[right..], &bytes[of_value + right..]));
        }
        let at = at + of_value + of_end;
        self.part = if at == value.len() + 2 { Part::Line } else { Part::Value { key, at } };
        Ok(of_value + of_end)
    }

    fn mismatch(&self, request: Request, expected: &[u8], found: &[u8]) -> Box<Mismatch> {
        let right = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
        self.wrong_at(request, right, &expected[right..], &found[right..])
    }

    fn wrong_at(&self, request: Request, right: usize, expected: &[u8], found: &[u8]) -> Box<Mismatch> {
        let offset = self.offset + right as u64;
        Box::new(Mismatch { request: Some(request), offset, expected: shown(expected), found: shown(found) })
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of a right and whole reply to a get of `key` at the front of `bytes`, the key being there.
#[inline]
fn whole_hit(key: KeyNumber, bytes: &[u8], codec: &Codec, scratch: &mut Vec<u8>) -> Option<usize> {
    scratch.clear();
    codec.put_value_line(key, scratch);
    let value = codec.keyspace().value(key);
    let after = bytes.strip_prefix(scratch.as_slice())?;
    let body = after.get(..value.len())?;
    let right = after[value.len()..].starts_with(AFTER_ONLY_VALUE) && value.matches(0, body) == value.len();
    right.then_some(scratch.len() + value.len() + AFTER_ONLY_VALUE.len())
}
