//! A load generator for memcached servers that checks every byte of every reply.
//!
//! The parts that know the protocol do no I/O, so that they are tested against an in-memory server and can later be
//! driven over another back-end than kernel sockets. Read first: [`connection::Connection`].
//!
//! ```text
//! args ──► plan ──► run ──► drive (epoll) ──► connection (sans-I/O) ──► workload ──► keyspace
//!                    └────► report ◄── tally ◄──────┘
//! ```

#![forbid(unsafe_code)]

// The command line, and the validated plan it becomes.
pub mod args;
// One connection's requests and replies, without I/O.
pub mod connection;
// Connections over kernel sockets, driven by epoll.
pub mod drive;
// Which keys there are, and the bytes each must hold.
pub mod keyspace;
// What a run found, as text and as JSON.
pub mod report;
// The phases of a run: load, read back, measure.
pub mod run;
// Counts, latencies and the first wrong reply.
pub mod tally;
// Which request comes next.
pub mod workload;
