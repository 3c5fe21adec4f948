//! `sidestep-cost`: what a request costs this project's own code, in memory, without a kernel.
//!
//! ```text
//!  Client (a TCP peer by hand) ─► LoopQueue ─► Worker::turn ─► LoopQueue ─► Client (checks every byte)
//!  Peer (the same over UDP)                    └ measured ┘                 Peer
//! ```
//!
//! Only the worker's turn is measured, by the time-stamp counter or by callgrind; what the client does lies between
//! turns. Everything is drawn from fixed seeds and time is virtual, so that instruction counts repeat. Read first:
//! `bench.rs`, then `cycles.rs` and `instructions.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.
#![warn(missing_docs)]

// `Args`: the command line.
pub mod args;
// `Bench`: a worker and its clients, turn by turn.
pub mod bench;
// `Profile`: the counts in a file that callgrind wrote.
pub mod callgrind;
// `Client`: one TCP connection from the far side.
pub mod client;
// `compare`: the gate on instruction counts.
pub mod compare;
// `Cycles`: the turn by the time-stamp counter.
pub mod cycles;
// `Segment` and `Datagram`: the frames between clients and server, written and read.
pub mod frame;
// `Idle`: what connections cost that are open and say nothing.
pub mod idle;
// `Instructions`: the turn by callgrind.
pub mod instructions;
// The same frames over IPv6.
pub mod ipv6;
// `Items`: the keys, values, requests and replies.
pub mod items;
// `LoopQueue`: a NIC queue that costs as little as one can.
pub mod loop_queue;
// `Peer`: one client that asks over UDP.
pub mod peer;
// What was measured, as a table, JSON or lines for `compare`.
pub mod report;
// `Workload`: what is asked, by how many.
pub mod workload;

/// What went wrong, in words: a workload that cannot be set up, or a server that answers wrongly.
pub type Failure = Box<dyn std::error::Error>;
