//! `Cores`: what who governs has of the cores, and `Ending`, how they are to end.

use std::sync::Arc;
use std::time::Duration;

use cache::Shared;

use crate::admission::Admission;
use crate::clock::Clock;
use crate::live_capture::CaptureWriter;
use crate::losses::Losses;
use crate::orders::Orders;

/// How the server is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Once what has arrived is answered.
    Now,
    /// Once the last connection has ended, or after a time.
    WithLastConnection {
        /// The time, if there is one.
        within: Option<Duration>,
    },
}

/// The cores, as who governs them has them.
pub struct Cores {
    /// What they share of the cache.
    pub shared: Arc<Shared>,
    /// What they lose.
    pub losses: Arc<Losses>,
    /// Who writes what they capture.
    pub writer: CaptureWriter,
    /// The way to each of them.
    pub orders: Arc<Orders>,
    /// Their connections.
    pub admission: Arc<Admission>,
    /// Connections for which memory was reserved at the start.
    pub reserved: usize,
    /// The most connections that one core has.
    pub flows_per_core: usize,
    /// Their time.
    pub clock: Clock,
    /// Tells whoever waits for a reason to stop.
    pub wake: Box<dyn Fn(Ending) + Send>,
}
