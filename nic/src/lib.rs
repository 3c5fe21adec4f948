//! Frames in and out of one NIC queue. All unsafe code of the project is in [`sys`] here and in `sidestep-cpu`.

/// `RxBurst`, `TxBurst`: the frames of a turn.
mod burst;
/// `Frame`: the move-only right to one UMEM chunk.
mod frame;
/// `FramePool`: the free frames of one queue.
mod pool;
/// `Queue`: what the stack sees of a NIC queue.
mod queue;
mod sys;

pub use burst::{BURST, Burst, RxBurst, TxBurst};
pub use frame::{Frame, FrameTooShort};
pub use pool::{FramePool, HEADROOM_BYTES, PoolConfig, PoolError};
pub use queue::{FrameCensus, Queue, QueueError, QueueId, QueueStats};
pub use sys::memory::leaked_regions;
