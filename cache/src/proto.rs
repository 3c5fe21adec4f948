//! The wire formats a client may speak, as functions on borrowed bytes.
//!
//! A format turns bytes into a command that borrows from them, and a reply into bytes; it knows no store, no clock and
//! no connection. The classic text protocol is `text`, `meta` reads the commands of two letters; what is answered is in
//! `reply`. Another format is another file here and another arm of the session's first decision.
//! Read first: memcached `protocol.txt`.

/// Base64, for keys of meta commands.
pub mod base64;
/// The binary protocol.
pub mod binary;
/// Replies that repeat a part of their request.
pub(crate) mod framed;
/// Meta commands and their flags.
pub mod meta;
/// Replies of meta commands.
pub(crate) mod meta_reply;
/// Numbers as memcached's `safe_strtol` family reads them.
pub mod number;
/// Reply lines and `VALUE` headers.
pub mod reply;
/// The classic text protocol's command lines.
pub mod text;
/// The header of UDP datagrams.
pub mod udp_frame;
/// A client's bytes inside a line.
pub(crate) mod word;
