//! Tools around Sidestep's servers, as a library, so that tests call what the program calls.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.
#![warn(missing_docs)]

/// A running server governed.
pub mod ctl;
/// What the tools take of `--device`.
mod device;
/// A NIC made ready for the server, and given back.
pub mod nic;
/// A recorded session played to stack and cache again.
pub mod replay;
