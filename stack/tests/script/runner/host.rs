//! What a script is played on.

use std::time::Duration;

use super::packet::Ends;
use super::syntax::{Call, Reason, State};

/// A host with one connection or several, all with one peer.
pub trait Host {
    /// The ends of its connections.
    fn ends(&self) -> Ends;

    /// Ports of the peer's and of the host's own, for the peer's port of this number.
    fn ports(&self, peer: u8) -> (u16, u16);

    /// Time since the script began.
    fn now(&self) -> Duration;

    /// Gives it a frame and has it do all that it does about it at once.
    fn take(&mut self, frame: &[u8]);

    /// Has its application do something, with all that follows at once.
    fn call(&mut self, call: &Call) -> Outcome;

    /// The next frame that it has sent, and when.
    fn sent(&mut self) -> Option<(Duration, Vec<u8>)>;

    /// Lets time pass until `until`, or until it sends a frame.
    fn wait(&mut self, until: Duration);

    /// How much earlier and later than the script says a frame may leave.
    fn tolerance(&self) -> Tolerance;
}

/// How much a frame's time may differ from a script's; what must come at once must come at once.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub early: Duration,
    pub late: Duration,
    /// How long is waited for what may come whenever.
    pub ever: Duration,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// There is nothing of the kind: no connection to be accepted, nothing to be read.
    None,
    /// So many bytes were written or read.
    Bytes(usize),
    /// The peer has closed, and all was read.
    End,
    State(State),
    /// The connection has ended for this reason.
    Ended(Reason),
    /// It failed, and how.
    Failed(String),
}
