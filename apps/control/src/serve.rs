//! `serve`: the answering end, a thread beside the cores.
//!
//! A request that can be answered at once is. One that waits for something is owed, and neither holds up nor is held up by those
//! that come after it: each has its reply when its own is known, so that replies may come in another order than requests.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::frame::{Decoder, Frame, REPLY_MAX_BYTES, REQUEST_MAX_BYTES, receive_with};
use crate::message::{Reply, Request};

/// After how many nanoseconds it is looked what has become of requests that are owed a reply: at first, as a core that has little to
/// do obeys, and at most; each time after twice as long, until one has its reply or another comes.
const LOOK_LEAST_NANOS: i64 = 50_000;
const LOOK_MOST_NANOS: i64 = 2_000_000;

/// Who answers requests, each known by the number that it came with.
pub trait Answers {
    /// Takes a request. `None` if its reply is [owed](Self::owed).
    fn ask(&mut self, number: u32, request: Request, descriptor: Option<OwnedFd>) -> Option<Reply>;

    /// A reply that was owed and is known now, with the number of its request.
    fn owed(&mut self) -> Option<(u32, Reply)> {
        None
    }

    /// Whether a reply is owed.
    fn owes(&self) -> bool {
        false
    }
}

/// Who answers everything at once.
impl<F: FnMut(Request, Option<OwnedFd>) -> Reply> Answers for F {
    fn ask(&mut self, _: u32, request: Request, descriptor: Option<OwnedFd>) -> Option<Reply> {
        Some(self(request, descriptor))
    }
}

/// Has the requests that come over `stream` answered, until its other end is closed.
///
/// A request comes with the descriptor that its client sent with it. One that cannot be read is answered with an error.
///
/// # Errors
/// The socket failed, or what came is no frame: the front never sends such.
pub fn serve(mut stream: UnixStream, mut answers: impl Answers) -> io::Result<()> {
    let mut decoder = Decoder::new(REQUEST_MAX_BYTES);
    let mut buffer = [0; 4096];
    let mut handed = VecDeque::new();
    let mut nanos = LOOK_LEAST_NANOS;
    loop {
        while let Some((number, reply)) = answers.owed() {
            say(&mut stream, number, &reply)?;
            nanos = LOOK_LEAST_NANOS;
        }
        if answers.owes() && !has_come(&stream, nanos)? {
            nanos = (nanos * 2).min(LOOK_MOST_NANOS);
            continue;
        }
        nanos = LOOK_LEAST_NANOS;
        let mut came = Vec::new();
        let read = match receive_with(&stream, &mut buffer, &mut came) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        decoder.push(&buffer[..read]);
        handed.extend(came);
        while let Some(Frame { number, body, carries }) = decoder.next_frame().map_err(io::Error::other)? {
            let descriptor = if carries { handed.pop_front() } else { None };
            let reply = match serde_json::from_slice(&body) {
                Ok(request) => answers.ask(number, request, descriptor),
                Err(error) => Some(Reply::Error(format!("this request is not known: {error}"))),
            };
            if let Some(reply) = reply {
                say(&mut stream, number, &reply)?;
            }
        }
    }
}

fn say(stream: &mut UnixStream, number: u32, reply: &Reply) -> io::Result<()> {
    stream.write_all(&Frame::new(number, encode(reply)).encode())
}

/// Whether anything has come, its end included; waits so long for it.
fn has_come(stream: &UnixStream, nanos: i64) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: nanos })) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The reply's bytes; an error in its place where it would be too long.
pub(crate) fn encode(reply: &Reply) -> Vec<u8> {
    match serde_json::to_vec(reply) {
        Ok(body) if body.len() <= REPLY_MAX_BYTES => body,
        Ok(body) => {
            let length = body.len();
            format!(r#"{{"error":"the reply has {length} bytes, more than the {REPLY_MAX_BYTES} of a message"}}"#)
                .into()
        }
        Err(_) => br#"{"error":"the reply cannot be written"}"#.to_vec(),
    }
}
