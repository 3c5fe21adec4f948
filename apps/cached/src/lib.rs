//! The cache server as a library, so that the same worker serves a NIC, the in-memory wire of the tests, and a capture.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.
#![warn(missing_docs)]

/// The limit on connections over all cores.
mod admission;
/// Files that say what the server is.
mod announce;
/// By which queue connections came.
mod arrivals;
/// Memory: said at the start, refused when it cannot be had.
mod budget;
/// The queues of a core, recorded.
mod capture;
/// The one place that reads the time.
mod clock;
/// What the data plane gives up.
pub mod confine;
/// Which session belongs to which flow, and what passes between the two.
mod connections;
/// The processor time of the process, for `stats`.
mod cpu_time;
/// `-d`: the server in the background.
mod daemon;
/// What `sidestep ctl` asks for.
mod governed;
/// Whether the store may lie on huge pages.
mod huge_pages;
/// Connections that have been silent for too long.
mod idle;
/// The process that keeps root's rights for a server that has given them up.
mod keeper;
/// What becomes of the interface while the server runs.
mod link_watch;
/// A capture turned on and off.
mod live_capture;
/// The log, and its level.
mod log;
/// What is dropped on the way, by reason.
mod losses;
/// The command line, checked.
mod options;
/// What a core is told by others than its clients.
mod orders;
/// What was served, in words.
mod report;
/// Lines on standard output.
mod say;
/// Which session is a flow's, awake or at rest.
mod sessions;
/// From options to running cores, and down again.
mod setup;
/// Queues shared out among cores.
mod sharing;
/// The process that starts the data plane, and outlives it.
mod supervisor;
/// `Surroundings`: what the cores are told of the link while they run.
mod surroundings;
/// Memory made ahead of use.
mod touch;
/// Requests over UDP, between stack and cache.
mod udp_service;
/// `-u`: who the data plane becomes.
mod user;
/// One core's turn, in ten steps.
mod worker;

pub use admission::Admission;
pub use arrivals::{Arrivals, CoreArrivals, QueueCount};
pub use capture::{CaptureError, CoreCapture};
pub use clock::Clock;
pub use connections::Connections;
pub use daemon::{is_child as is_in_background, start as start_in_background};
pub use idle::Idle;
pub use keeper::{is_keeper, keep};
pub use link_watch::LinkGone;
pub use log::start_log;
pub use losses::{CoreCounts, CoreLosses, Losses, Reason, Severity, Source};
pub use options::{Extended, ListenPort, Mode, OptionError, Options, Refusal, Steering};
pub use orders::{ConnectionLook, Listed, Listing, Order, Orders};
pub use report::{CoreReport, total};
pub use setup::{SetupError, run, run_with};
pub use sharing::{AnyQueue, share_queues};
pub use stack::StrayRing;
pub use udp_service::{UdpHandler, UdpService};
pub use worker::{TurnStep, Worker, WorkerError};
