//! What is tested over IPv4, over IPv6: the same tests, played by a laboratory that speaks it on the wire
//! (`lab/family.rs`). Not here is what is of IPv4 alone, of ARP, or counts from the beginning of time.
#![allow(clippy::duplicate_mod, reason = "each file of tests has the laboratory as its own")]

#[path = "acceptance.rs"]
mod acceptance;
#[path = "closing.rs"]
mod closing;
#[path = "dead_flows.rs"]
mod dead_flows;
#[path = "echo.rs"]
mod echo;
#[path = "handshake.rs"]
mod handshake;
#[path = "islands.rs"]
mod islands;
#[path = "loss.rs"]
mod loss;
#[path = "recovery.rs"]
mod recovery;
#[path = "rings.rs"]
mod rings;
#[path = "segments.rs"]
mod segments;
#[path = "sleep.rs"]
mod sleep;
#[path = "stalls.rs"]
mod stalls;
#[path = "time_wait.rs"]
mod time_wait;
