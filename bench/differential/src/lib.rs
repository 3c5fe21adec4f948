//! The same bytes to a real memcached and to ours; every reply compared.
//!
//! A seeded generator makes *cases*: a handful of keys, a few connections one after the other, operations of every
//! command, good and bad. Each case starts from an empty cache, so that a case that differs can be replayed alone,
//! shrunk to its minimal transcript, and looked up among the known classes of difference. What is compared is the
//! byte stream of each connection, cas uniques replaced by "the n-th version of this key" ([`normalize`]).
//!
//! ```text
//! generate ──► case ──► conversation ──► Target (memcached | ours in process | any address)
//!                            │
//! campaign ◄── shrink ◄── differ? ──► differences (the listed classes)
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

// Base64, as clients write and read it.
pub mod base64;
// Makes cases of the binary protocol.
pub mod binary;
// Runs many cases, and says what differed.
pub mod campaign;
// A case: operations on connections, and how they become bytes.
pub mod case;
// One case played against one target.
pub mod conversation;
// A client of UDP.
pub mod datagram_peer;
// The listed classes of difference.
pub mod differences;
// Packets of the binary protocol.
pub mod packet;
// Seeded choices.
pub mod draw;
// Makes cases.
pub mod generate;
// A line of the text protocol before it is bytes.
pub mod line;
// A memcached process of our own, started and ended by its id.
pub mod memcached;
// Makes cases of meta commands.
pub mod meta;
// Bends good operations into bad input.
pub mod mutate;
// Cas uniques made comparable.
pub mod normalize;
// Cuts a case that differs down to what is needed.
pub mod shrink;
// Makes cases of requests over UDP.
pub mod udp;
// What a case is played against: a byte stream in, a byte stream out.
pub mod target;
