//! The wire formats a client may speak, as functions on borrowed bytes.
//!
//! A format turns bytes into what is [asked](asked::Asked), which borrows from them, and a [`Form`](form::Form) with what
//! it is to say into bytes; it knows what can be asked ([`crate::operation`]), and no store and no connection. `text` is the classic text
//! protocol, `meta` its commands of two letters, `binary` the packets. Another format is another file here and another
//! arm of the session's first decision.
//! Read first: memcached `protocol.txt`.

/// What requests ask for.
pub(crate) mod asked;
/// Base64, for keys of meta commands.
pub(crate) mod base64;
/// The binary protocol.
pub(crate) mod binary;
/// How replies are to look.
pub(crate) mod form;
/// Fixed lines.
pub(crate) mod line;
/// Meta commands and their flags.
pub(crate) mod meta;
/// Where the bytes of replies go.
pub(crate) mod sink;
/// The classic text protocol's command lines.
pub(crate) mod text;
/// The header of UDP datagrams.
pub(crate) mod udp_frame;
/// A client's bytes inside a line.
pub(crate) mod word;
/// The words of a line.
pub(crate) mod words;
/// Replies, written and measured.
pub(crate) mod write;
