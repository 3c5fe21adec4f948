//! The control channel: how `sidestep ctl` governs a server that runs.
//!
//! ```text
//!  sidestep ctl ──UNIX socket, 0600──► Front ──one socket pair──► serve, a thread beside the cores
//!               ◄──────────────────────       ◄───────────────────
//! ```
//!
//! The same frames travel on both sockets: a request has a number, its reply carries it. The [`Front`] has all that is
//! bounded (who may speak, connections, bytes, patience) and knows nothing of what is asked; [`serve`] reads one socket,
//! whose other end is trusted, and knows nothing of clients. So the front can be in another process than the cores.
//! Read first: `message.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.
#![warn(missing_docs)]

/// The asking end.
mod client;
/// Bytes of a message on a socket.
mod frame;
/// Who may speak, and how much.
mod front;
/// What is asked and answered.
mod message;
/// Connecting, within a time.
mod reach;
/// The answering end.
mod serve;

pub use client::{AskError, Client};
pub use frame::{DESCRIPTORS_MAX, Decoder, Frame, FrameError, REPLY_MAX_BYTES, REQUEST_MAX_BYTES};
pub use front::{ANSWER_LIMIT, Front, FrontError, FrontHandle, Limits};
pub use message::{
    CAPTURE_LIMIT_BYTES, ConnectionRow, Hello, NAME, QueueRow, Reply, Request, Setting, VERSION, default_ending,
    default_path,
};
pub use reach::is_heard;
pub use serve::{Answers, serve};
