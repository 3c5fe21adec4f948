//! The only unsafe code of the workspace besides `sidestep-cpu`; SAFETY.md lists the invariants that its notes cite.
#![allow(unsafe_code)]

/// Memory cut into chunks, each the only right to its bytes.
pub mod memory;
