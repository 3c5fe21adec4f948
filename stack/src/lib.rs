//! Flows out of frames: one core's TCP/IP on smoltcp, with no thread, no clock and no I/O of its own.
//!
//! [`NetStack`] is the turn: `receive` (on each [`Port`]) → [`ingest`](NetStack::ingest) →
//! [`next_ready`](NetStack::next_ready) and [`flow`](NetStack::flow) (the application) →
//! [`expire`](NetStack::expire) → [`flush`](NetStack::flush) → `transmit`. Time is an argument ([`Time`]).
#![forbid(unsafe_code)]

mod block;
mod clock;
mod config;
mod drop_reason;
mod flow;
mod link;
mod net_stack;
mod port;
mod stats;

pub use block::Rings;
pub use clock::Time;
pub use config::{ConfigError, Secrets, StackConfig};
pub use drop_reason::DropReason;
pub use flow::{CloseReason, Flow, FlowId, FlowKey, Interest, Readiness};
pub use link::Mac;
pub use net_stack::NetStack;
pub use port::Port;
pub use stats::{Census, DropCounts, StackStats, Work};
