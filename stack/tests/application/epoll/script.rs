//! What a script does, and what a poll tells.

use std::collections::BTreeMap;

use sidestep_stack::Interest;

/// A step. Connections are numbered from 0, in the order in which they are opened and accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The listener is registered, or registered anew.
    Listen(Interest),
    /// A peer opens a connection.
    Connect(usize),
    /// The one that has waited longest is accepted, which is this.
    Accept(usize),
    /// Registers it, or registers it anew.
    Register(usize, Interest),
    Deregister(usize),
    /// The peer sends so many bytes.
    PeerWrites(usize, usize),
    /// The server reads so many, which are there.
    Reads(usize, usize),
    /// The server writes so many, for which there is room.
    Writes(usize, usize),
    /// The server writes until there is no room, the peer having read nothing.
    Fill(usize),
    /// The peer reads all that was written.
    PeerReads(usize),
    /// The peer closes its direction.
    PeerShuts(usize),
    /// The peer resets the connection.
    PeerResets(usize),
    /// The server closes its direction.
    Shuts(usize),
    /// The server lets go of the connection, and the peer too.
    Closes(usize),
    /// What is told now?
    Poll,
}

/// The number of the listener among connections.
pub const LISTENER: usize = usize::MAX;

/// What a poll tells, by connection, in the kernel's words.
pub type Told = BTreeMap<usize, String>;

/// The kernel's words in their order.
pub const WORDS: [&str; 5] = ["IN", "OUT", "RDHUP", "ERR", "HUP"];

/// What is told, written down.
pub fn told<const N: usize>(of: [(usize, &str); N]) -> Told {
    of.into_iter().map(|(connection, words)| (connection, words.to_owned())).collect()
}

/// The words that hold.
pub fn words(holds: [bool; 5]) -> String {
    let words: Vec<_> = WORDS.into_iter().zip(holds).filter_map(|(word, holds)| holds.then_some(word)).collect();
    words.join(" ")
}
