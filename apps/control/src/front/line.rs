//! `Line`: a socket that never blocks, with what has come over it and what is still to leave.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::frame::{Decoder, Frame, receive_with, send_with};

/// Bytes read of a socket at a time; what more there is waits in the kernel, whose buffer is bounded.
const READ_BYTES: usize = 16 << 10;

/// Descriptors of a peer's that wait for the messages that they come with; more are closed.
const HANDED_MAX: usize = 4;

/// A socket and its two queues.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: UnixStream,
    pub(super) decoder: Decoder,
    /// Descriptors that have come, in order.
    pub(super) handed: VecDeque<OwnedFd>,
    out: Vec<u8>,
    /// Descriptors that are to leave, each with the byte at this place of `out`.
    passed: VecDeque<(usize, OwnedFd)>,
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
            handed: VecDeque::new(),
            out: Vec::new(),
            passed: VecDeque::new(),
            midway: None,
            stuck: None,
            ends: false,
            failed: false,
        }
    }

    /// Puts a message where it leaves from.
    pub(super) fn say(&mut self, number: u32, body: Vec<u8>) {
        self.out.extend_from_slice(&Frame::new(number, body).encode());
    }

    /// The same with a descriptor, which leaves with the message's first byte.
    pub(super) fn say_with(&mut self, number: u32, body: Vec<u8>, descriptor: OwnedFd) {
        self.passed.push_back((self.out.len(), descriptor));
        self.out.extend_from_slice(&Frame { carries: true, ..Frame::new(number, body) }.encode());
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
        let (mut buffer, mut handed) = ([0; READ_BYTES], Vec::new());
        let read = receive_with(&self.stream, &mut buffer, &mut handed);
        let room = HANDED_MAX - self.handed.len();
        self.handed.extend(handed.into_iter().take(room));
        match read {
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
            match self.write_some() {
                Ok(sent) => {
                    self.out.drain(..sent);
                    self.passed.iter_mut().for_each(|(at, _)| *at -= sent);
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

    /// Sends once: up to the next byte that a descriptor leaves with, or from there on.
    fn write_some(&mut self) -> io::Result<usize> {
        let end = |at: Option<&(usize, OwnedFd)>| at.map_or(self.out.len(), |(at, _)| *at);
        match self.passed.front() {
            Some((0, descriptor)) => {
                let sent = send_with(&self.stream, &self.out[..end(self.passed.get(1))], &[descriptor.as_fd()])?;
                self.passed.pop_front();
                Ok(sent)
            }
            next => (&self.stream).write(&self.out[..end(next)]),
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
