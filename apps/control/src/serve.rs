//! `serve`: the answering end, a thread beside the cores.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::frame::{Decoder, Frame, REPLY_MAX_BYTES, REQUEST_MAX_BYTES, receive_with};
use crate::message::{Reply, Request};

/// Answers the requests that come over `stream` one after the other, until its other end is closed.
///
/// A request comes with the descriptor that its client sent with it. One that cannot be read is answered with an error.
///
/// # Errors
/// The socket failed, or what came is no frame: the front never sends such.
pub fn serve(mut stream: UnixStream, mut answer: impl FnMut(Request, Option<OwnedFd>) -> Reply) -> io::Result<()> {
    let mut decoder = Decoder::new(REQUEST_MAX_BYTES);
    let mut buffer = [0; 4096];
    let mut handed = VecDeque::new();
    loop {
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
                Ok(request) => answer(request, descriptor),
                Err(error) => Reply::Error(format!("this request is not known: {error}")),
            };
            stream.write_all(&Frame::new(number, encode(&reply)).encode())?;
        }
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
