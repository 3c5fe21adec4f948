//! What supervisor and data plane say to each other, over one socket pair, in the frames of the control channel.
//!
//! ```text
//!  plane ──── Opened, with the descriptors that the supervisor is to have; Ready ────────►  supervisor
//!  plane  ◄── Begin, with the link of the plane before; Counts, Routes, Go, Users, Cluster, Stop  supervisor
//! ```
//! Both are the same program, so no version is said. Whoever finds the other end closed knows that the other process has
//! ended.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use control::Frame;
use nic::Route;
use nic::xdp::Attach;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::losses::LinkLosses;

/// What is said one way.
pub(crate) trait Message: Serialize + DeserializeOwned {
    /// More than the longest takes, in bytes.
    const MOST_BYTES: usize;
}

impl Message for ToPlane {
    // A file of `--cluster` has 1 MiB, each byte of which may take six.
    const MOST_BYTES: usize = 8 << 20;
}

impl Message for FromPlane {
    // Root's process takes no more from one that may have been taken over.
    const MOST_BYTES: usize = 4 << 10;
}

/// What was read of a file, or why it could not be.
pub(crate) type FileText<T> = Result<T, String>;

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToPlane {
    /// First of all: where the program of the plane before is attached, if it is; its link comes along.
    Begin(Option<Attach>),
    /// What is outside is ready: serve.
    Go,
    /// What link and program have counted.
    Counts(Box<LinkLosses>),
    /// The routes that the kernel has by the interface now.
    Routes(Vec<Route>),
    /// What the file of `-Y` says now.
    Users(FileText<Vec<u8>>),
    /// What the file of `--cluster` says now, and the second at which it was written.
    Cluster(u64, FileText<String>),
    /// Answer what has come, and end.
    Stop,
}

/// From the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromPlane {
    /// The link is open. With it come the socket over which the plane answers what `sidestep ctl` asks and, if a program is
    /// attached, what is needed to hold it.
    Opened {
        /// The link's.
        index: u32,
        /// Its first so many queues have a socket.
        queues: u32,
        /// Where the program is attached.
        program: Option<Attach>,
    },
    /// Requests are answered.
    Ready,
}

/// Says `message`, and hands `descriptors` over with it.
///
/// # Errors
/// The other process has ended, or does not listen.
pub(crate) fn say(to: &UnixStream, message: &impl Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    Frame::of(0, message)?.send(to, descriptors)
}

/// Hears the next message.
///
/// # Errors
/// `UnexpectedEof` once the other process has ended; anything else is nonsense, or more of it than is ever said.
pub(crate) fn hear<M: Message>(from: &UnixStream) -> io::Result<(M, Vec<OwnedFd>)> {
    let (frame, descriptors) = Frame::receive(from, M::MOST_BYTES)?;
    Ok((frame.parse()?, descriptors))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::io::Write;
    use std::thread;

    use super::*;

    fn is_heard<M: Message + PartialEq + Debug + Sync>(message: &M) {
        let (ours, theirs) = UnixStream::pair().expect("a pair can be had");
        thread::scope(|scope| {
            scope.spawn(|| say(&ours, message, &[]).expect("it is open"));
            assert_eq!(hear::<M>(&theirs).expect("it was said").0, *message);
        });
        let frame = Frame::of(0, message).expect("it is JSON").encode();
        thread::scope(|scope| {
            scope.spawn(|| {
                (&ours).write_all(&frame[..frame.len() - 1]).expect("it is open");
                ours.shutdown(std::net::Shutdown::Write).expect("it is open");
            });
            assert!(hear::<M>(&theirs).is_err(), "it is cut");
        });
    }

    #[test]
    fn what_is_said_is_heard_and_a_cut_message_is_none() {
        let counts = LinkLosses { rx_missed: 1 << 60, plane_restarts: 7, ..LinkLosses::default() };
        for message in [
            ToPlane::Begin(Some(Attach::Native)),
            ToPlane::Go,
            ToPlane::Counts(Box::new(counts)),
            ToPlane::Routes(vec![Route::default_by([10, 77, 0, 1]); Route::MOST]),
            ToPlane::Users(Ok(b"u:\xff\n".to_vec())),
            ToPlane::Users(Err("why".to_owned())),
            ToPlane::Cluster(7, Ok("\u{1}".repeat(1 << 20))),
            ToPlane::Stop,
        ] {
            is_heard(&message);
        }
        is_heard(&FromPlane::Opened { index: 3, queues: 4, program: Some(Attach::Generic) });
        is_heard(&FromPlane::Ready);
    }
}
