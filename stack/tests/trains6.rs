//! Trains over IPv6: see `trains.rs`.
#![allow(clippy::duplicate_mod, reason = "each file of tests has the laboratory as its own")]

#[path = "islands.rs"]
mod islands;
#[path = "loss.rs"]
mod loss;
#[path = "rings.rs"]
mod rings;
