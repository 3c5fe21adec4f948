//! `Line`: a socket that never blocks, with what has come over it and what is still to leave.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::frame::{Decoder, Frame};

/// Bytes read of a socket at a time; what more there is waits in the kernel, whose buffer is bounded.
const READ_BYTES: usize = 16 << 10;

/// A socket and its two queues.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: UnixStream,
    pub(super) decoder: Decoder,
    out: Vec<u8>,
    /// Since when a part of a message is there.
    midway: Option<Instant>,
    /// Since when nothing of what is to leave has left.
    stuck: Option<Instant>,
    /// Nothing more is read: its peer has said all, or is not to say more.
    pub(super) ends: bool,
    /// It is of no more use.
    pub(super) failed: bool,
}

impl Line {
    /// Over a socket that does not block, for bodies of at most `most` bytes.
    pub(super) fn new(stream: UnixStream, most: usize) -> Line {
        Line {
            stream,
            decoder: Decoder::new(most),
            out: Vec::new(),
            midway: None,
            stuck: None,
            ends: false,
            failed: false,
        }
    }

    /// Puts a message where it leaves from.
    pub(super) fn say(&mut self, number: u32, body: Vec<u8>) {
        self.out.extend_from_slice(&Frame { number, body }.encode());
    }

    /// Says a last message, unasked, and reads no more.
    pub(super) fn end_with(&mut self, body: Vec<u8>) {
        self.say(0, body);
        self.decoder = Decoder::new(0);
        (self.ends, self.midway) = (true, None);
    }

    /// Takes what has come, up to a bound.
    pub(super) fn read(&mut self, now: Instant) {
        if self.ends {
            return;
        }
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ends = true,
            Ok(read) => {
                self.decoder.push(&buffer[..read]);
                self.midway.get_or_insert(now);
            }
            Err(error) if is_for_later(&error) => {}
            Err(_) => (self.ends, self.failed) = (true, true),
        }
    }

    /// Messages have been taken: all that are whole, or `all` is false. Whether a part of one is left.
    pub(super) fn note_midway(&mut self, all: bool, now: Instant) {
        if all && self.decoder.is_midway() && !self.ends {
            self.midway.get_or_insert(now);
        } else {
            self.midway = None;
        }
    }

    /// For how long a part of a message has been there.
    pub(super) fn midway_for(&self, now: Instant) -> Option<Duration> {
        self.midway.map(|since| now.duration_since(since))
    }

    /// Sends what can be sent.
    pub(super) fn write(&mut self, now: Instant) {
        while !self.out.is_empty() && !self.failed {
            match self.stream.write(&self.out) {
                Ok(sent) => {
                    self.out.drain(..sent);
                    self.stuck = None;
                }
                Err(error) if is_for_later(&error) => {
                    self.stuck.get_or_insert(now);
                    return;
                }
                Err(_) => self.failed = true,
            }
        }
    }

    /// For how long its reader has taken nothing.
    pub(super) fn stuck_for(&self, now: Instant) -> Option<Duration> {
        self.stuck.map(|since| now.duration_since(since))
    }

    /// Whether something is still to leave.
    pub(super) fn owes(&self) -> bool {
        !self.out.is_empty()
    }

    /// Bytes that are still to leave.
    pub(super) fn unread(&self) -> usize {
        self.out.len()
    }

    /// Whether a time runs.
    pub(super) fn is_timed(&self) -> bool {
        self.midway.is_some() || self.stuck.is_some()
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
