//! A seeded bad wire between two real links: delay, jitter, loss, reordering, duplicates, corruption, cuts, a rate, an
//! MTU hole, a link that flaps; each direction has its own.
//!
//! `scripts/relay` puts it between two network namespaces, where the kernel has no netem. The faults are those of the
//! in-memory wire (`nic::Faults`), so that what is found here can be repeated there. One thread, no privilege beyond
//! packet sockets. Read first: `relay.rs`, then `fault_list.rs` for the words of the command line.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

/// `FaultList`: faults as words of the command line.
pub mod fault_list;
/// `Relay`: the two links and what is under way between them.
pub mod relay;
