//! The simulation once more, with connections over IPv6 beside those over IPv4 (`lab/family.rs`).

#[path = "simulation.rs"]
mod simulation;
