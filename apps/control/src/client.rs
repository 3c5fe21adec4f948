//! `Client`: the asking end.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::frame::{Decoder, Frame, REPLY_MAX_BYTES};
use crate::message::{Hello, NAME, Reply, Request, VERSION};
use crate::reach::reach;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens there.
    #[error("no server listens at {path} ({source}); start one, or name its socket with --control PATH")]
    NoServer {
        /// The path asked.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The kernel lets this user not speak to it.
    #[error("{path} is root's and the server's own user's: run this as one of them ({source})")]
    NotAllowed {
        /// The path asked.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// What listens there is something else, or of another version.
    #[error("{path} does not speak version {VERSION} of the control channel: {said}")]
    Stranger {
        /// The path asked.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// The server says why it takes no request.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// No answer came in time.
    #[error("no answer within {} s; the server is stopped (SIGSTOP), or hangs", .0.as_secs())]
    TimeOut(Duration),
    /// The server closed the connection.
    #[error("the server has closed the connection: it has ended, or others asked at the same time")]
    Closed,
    /// The socket failed.
    #[error("the control channel failed: {0}")]
    Io(#[from] io::Error),
}

/// A connection to a server's control channel.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    number: u32,
    patience: Duration,
}

impl Client {
    /// Connects, and reads the hello. Neither the connection nor an answer is waited for longer than `patience`.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn connect(path: &Path, patience: Duration) -> Result<Client, AskError> {
        let stream = reach(path, patience).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::WouldBlock => AskError::TimeOut(patience),
                io::ErrorKind::PermissionDenied => AskError::NotAllowed { path, source },
                _ => AskError::NoServer { path, source },
            }
        })?;
        stream.set_read_timeout(Some(patience))?;
        let mut client = Client { stream, decoder: Decoder::new(REPLY_MAX_BYTES), number: 0, patience };
        let stranger = |said: String| AskError::Stranger { path: path.to_owned(), said };
        let frame = client.read()?;
        match serde_json::from_slice::<Hello>(&frame.body) {
            Ok(hello) if hello.hello == NAME && hello.version == VERSION => Ok(client),
            Ok(hello) => Err(stranger(format!("it is {} version {}", hello.hello, hello.version))),
            Err(_) => match serde_json::from_slice(&frame.body) {
                Ok(Reply::Error(why)) => Err(AskError::Refused(why)),
                _ => Err(stranger(String::from_utf8_lossy(&frame.body).into_owned())),
            },
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`AskError`]. That the server cannot do what is asked is a [`Reply::Error`].
    pub fn ask(&mut self, request: &Request) -> Result<Reply, AskError> {
        self.ask_with(request, None)
    }

    /// The same, with a descriptor that the server is to have.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn ask_with(&mut self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<Reply, AskError> {
        self.number += 1;
        let frame = Frame { carries: descriptor.is_some(), ..Frame::of(self.number, request)? };
        let sent = frame.send(&self.stream, descriptor.as_slice());
        loop {
            // A server that has closed may have said why: that is read first.
            let frame = match self.read() {
                Err(AskError::Closed) => return Err(sent.err().map_or(AskError::Closed, AskError::Io)),
                frame => frame?,
            };
            let reply = serde_json::from_slice(&frame.body).map_err(io::Error::other)?;
            match reply {
                Reply::Error(why) if frame.number == 0 => return Err(AskError::Refused(why)),
                reply if frame.number == self.number => return Ok(reply),
                // Of a request that was given up.
                _ => {}
            }
        }
    }

    fn read(&mut self) -> Result<Frame, AskError> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(AskError::Closed),
                Ok(read) => self.decoder.push(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(AskError::TimeOut(self.patience));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(AskError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
