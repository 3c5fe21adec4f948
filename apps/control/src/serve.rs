//! `serve`: the answering end, a thread beside the cores.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::frame::{Decoder, Frame, REPLY_MAX_BYTES, REQUEST_MAX_BYTES};
use crate::message::{Reply, Request};

/// Answers the requests that come over `stream` one after the other, until its other end is closed.
///
/// A request that cannot be read is answered with an error.
///
/// # Errors
/// The socket failed, or what came is no frame: the front never sends such.
pub fn serve(mut stream: UnixStream, mut answer: impl FnMut(Request) -> Reply) -> io::Result<()> {
    let mut decoder = Decoder::new(REQUEST_MAX_BYTES);
    let mut buffer = [0; 4096];
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        decoder.push(&buffer[..read]);
        while let Some(Frame { number, body }) = decoder.next_frame().map_err(io::Error::other)? {
            let reply = match serde_json::from_slice(&body) {
                Ok(request) => answer(request),
                Err(error) => Reply::Error(format!("this request is not known: {error}")),
            };
            stream.write_all(&Frame { number, body: encode(&reply) }.encode())?;
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
