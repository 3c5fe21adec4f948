//! A load generator for memcached servers that checks every byte of every reply.
//!
//! The engine does no I/O and reads no clock: both come from a transport, of which kernel sockets are one and tests in
//! memory with a virtual clock another. Read first: [`transport::Transport`], then [`engine::Engine`].
//!
//! ```text
//! args ─► plan ─► run ─► engine ─► connection ─► reply ─► codec ─► keyspace ─► sizes
//!                  │       ├─► workload ─► popularity
//!                  │       └─► arrivals, backlog
//!                  └─► transport (kernel sockets, own stack)          report ◄── tally
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

// The command line.
pub mod args;
// Open loop: when requests are to be sent.
pub mod arrivals;
// Open loop: arrivals that wait for their connection.
pub mod backlog;
// Requests as bytes, and the lines of their replies.
pub mod codec;
// One connection's requests and replies.
pub mod connection;
// Which connection sends what when.
pub mod engine;
// Which keys there are, and the bytes each must hold.
pub mod keyspace;
// A wrong reply, shown so that it can be found again.
pub mod mismatch;
// A run whose every value has been checked.
pub mod plan;
// How often each key is asked for.
pub mod popularity;
// A line each second on stderr.
pub mod progress;
// Checks the bytes of one reply.
pub mod reply;
// What a run found, as text and as JSON.
pub mod report;
// The phases of a run, and its workers.
pub mod run;
// How long keys and values are.
pub mod sizes;
// Counts, times and the first wrong reply.
pub mod tally;
// What the engine asks of whatever carries its bytes.
pub mod transport;
// Which request comes next.
pub mod workload;
// The options of our own stack.
pub mod xsk_args;
