//! Trains over IPv6: see `trains.rs`.

#[path = "tcp/islands.rs"]
mod islands;
#[path = "lab/lab.rs"]
mod lab;
#[path = "tcp/loss.rs"]
mod loss;
#[path = "tcp/rings.rs"]
mod rings;
