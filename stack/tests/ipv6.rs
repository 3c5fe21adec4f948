//! What is tested over IPv4, over IPv6: the same tests, played by a laboratory that speaks it on the wire
//! (`lab/family.rs`). Not here is what is of IPv4 alone, of ARP, or counts from the beginning of time.

#[path = "tcp/acceptance.rs"]
mod acceptance;
#[path = "tcp/closing.rs"]
mod closing;
#[path = "tcp/dead_flows.rs"]
mod dead_flows;
#[path = "tcp/delayed_acks.rs"]
mod delayed_acks;
#[path = "tcp/echo.rs"]
mod echo;
#[path = "tcp/handshake.rs"]
mod handshake;
#[path = "tcp/islands.rs"]
mod islands;
#[path = "lab/lab.rs"]
mod lab;
#[path = "tcp/loss.rs"]
mod loss;
#[path = "tcp/recovery.rs"]
mod recovery;
#[path = "tcp/rings.rs"]
mod rings;
#[path = "tcp/segments.rs"]
mod segments;
#[path = "tcp/sleep.rs"]
mod sleep;
#[path = "tcp/stalls.rs"]
mod stalls;
#[path = "tcp/time_wait.rs"]
mod time_wait;
