//! Tools around Sidestep's servers, as a library, so that tests call what the program calls.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// A recorded session played to stack and cache again.
pub mod replay;
