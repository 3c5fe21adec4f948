//! Frames in and out of one NIC queue. All unsafe code of the project is in [`sys`] here and in `sidestep-cpu`.

/// `RxBurst`, `TxBurst`: the frames of a turn.
mod burst;
/// `Faults`: what goes wrong on the wire, by a seed.
mod fault;
/// `Frame`: the move-only right to one UMEM chunk.
mod frame;
/// `Link`: what there is to know of a network interface before using it.
pub mod link;
/// `QueuePlan`: which core polls which queues.
mod plan;
/// `FramePool`: the free frames of one queue.
mod pool;
/// `OpenError`, `check`: wrong uses, each turned into one clear line.
pub mod preflight;
/// `Queue`: what the stack sees of a NIC queue.
mod queue;
/// `Rss`: Toeplitz hash, key, indirection table.
mod rss;
mod sys;
/// `Doorbell`, `Sleeper`: how an idle core sleeps on all its queues, and how another wakes it.
mod wait;
/// `Wire`: NICs and the cable between them in memory, on a virtual clock.
mod wire;
/// `XdpDevice`, `XdpQueue`: the AF_XDP back-end.
pub mod xdp;

pub use burst::{BURST, Burst, RxBurst, TxBurst};
pub use fault::{BurstLoss, CORRUPT_BITS_MAX, Corrupt, FaultError, Faults, RateLimit, Reorder};
pub use frame::{Frame, FrameTooShort};
pub use plan::{PlanKind, QueuePlan};
pub use pool::{FramePool, HEADROOM_BYTES, PoolConfig, PoolError};
pub use queue::{FrameCensus, Queue, QueueError, QueueId, QueueStats};
pub use rss::{RSS_DEFAULT_KEY, RSS_KEY_BYTES, RSS_TABLE_ENTRIES, Rss, RssTableError, Toeplitz};
pub use sys::memory::leaked_regions;
pub use wait::{Doorbell, Sleeper, Woken};
pub use wire::{PortConfig, Wire, WireClock, WireCounts, WireError, WireEvent, WireHappening, WirePort, WireQueue};
