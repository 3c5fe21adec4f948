//! `Mismatch`: a wrong reply, shown so that it can be found again.

use std::fmt;

use crate::workload::{Operation, Request};

/// How much of a wrong reply is kept to be shown, in bytes.
pub(crate) const SHOWN_BYTES: usize = 120;

/// A reply that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The request, or `None` when a reply came that nobody asked for.
    pub request: Option<Request>,
    /// Position of the first wrong byte in the reply.
    pub offset: u64,
    /// What had to come from there on (the first bytes of it).
    pub expected: Vec<u8>,
    /// What came from there on (the first bytes of it).
    pub found: Vec<u8>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.request {
            None => write!(f, "a reply nobody asked for: \"{}\"", self.found.escape_ascii()),
            Some(Request { operation, key }) => write!(
                f,
                "{} {key}: from byte {} of the reply expected \"{}\", found \"{}\"",
                match operation {
                    Operation::Get => "get of key",
                    Operation::MultiGet => "multi-get number",
                    Operation::Set => "set of key",
                },
                self.offset,
                self.expected.escape_ascii(),
                self.found.escape_ascii()
            ),
        }
    }
}

impl Mismatch {
    /// Bytes that came when no reply was owed.
    pub fn unasked(bytes: &[u8]) -> Self {
        Self { request: None, offset: 0, expected: Vec::new(), found: shown(bytes) }
    }
}

pub(crate) fn shown(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(SHOWN_BYTES)].to_vec()
}
