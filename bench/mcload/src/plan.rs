//! A run whose every value has been checked.

use std::net::SocketAddr;
use std::time::Duration;

use crate::arrivals::Gaps;
use crate::codec::Codec;
use crate::transport::Close;
use crate::workload::Mix;

/// When the measured phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After this many requests over all connections.
    Requests(u64),
    /// When this much time has passed; requests in flight are still waited for.
    Time(Duration),
}

/// What sets the moment of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loop {
    /// The end of an earlier one.
    Closed,
    /// A seeded random process that does not care about the server.
    Open {
        /// Requests a second, all workers together.
        rate: f64,
        /// The law of the gaps.
        gaps: Gaps,
        /// Arrivals that may wait for their connection, all workers together.
        backlog: u32,
    },
}

/// Whether connections stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Opened before the measured phase, and kept.
    Kept,
    /// A new connection for each request.
    PerRequest,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's address.
    pub server: SocketAddr,
    /// The workload's name, as typed.
    pub name: String,
    /// Connections, at least one for each worker.
    pub connections: u32,
    /// Requests in flight on each connection.
    pub depth: u32,
    /// Connections that are opened before the measured phase, say nothing during it and must be alive after it.
    pub dead: u32,
    /// Whether connections stay open.
    pub reuse: Reuse,
    /// How a connection that has served its one request is closed.
    pub close: Close,
    /// When to stop.
    pub length: Length,
    /// What sets the moment of a request.
    pub pace: Loop,
    /// Shares of the operations.
    pub mix: Mix,
    /// Keys, values, popularity, multi-gets.
    pub codec: Codec,
    /// Set all keys before, and read a sample back.
    pub load: bool,
    /// Seed of values, requests and arrivals.
    pub seed: u64,
    /// Threads.
    pub workers: u32,
    /// How long a connection may take to open, and a request to be answered.
    pub timeout: Duration,
}

impl Plan {
    /// How many of `total` things are worker `worker`'s: all workers' shares add up and differ by at most one.
    pub fn share(&self, total: u64, worker: u32) -> u64 {
        let workers = u64::from(self.workers);
        total / workers + u64::from(u64::from(worker) < total % workers)
    }
}
