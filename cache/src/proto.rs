//! The wire formats a client may speak, as functions on borrowed bytes.
//!
//! A format turns bytes into a command that borrows from them, and a [`Form`](form::Form) with what it is to say into
//! bytes; it knows no store and no connection. `text` is the classic text protocol, `meta` its commands of two letters,
//! `binary` the packets. Another format is another file here and another arm of the session's first decision.
//! Read first: memcached `protocol.txt`.

/// Base64, for keys of meta commands.
pub mod base64;
/// The binary protocol.
pub mod binary;
/// How replies are to look.
pub(crate) mod form;
/// Meta commands and their flags.
pub mod meta;
/// Fixed lines.
pub mod reply;
/// Where the bytes of replies go.
pub(crate) mod sink;
/// The classic text protocol's command lines.
pub mod text;
/// The header of UDP datagrams.
pub mod udp_frame;
/// A client's bytes inside a line.
pub(crate) mod word;
/// The words of a line.
pub(crate) mod words;
