//! Connections, segment by segment, with the stack on one end of a wire in memory.
//!
//! The binaries `ipv6`, `trains` and `trains6` play most of these files again on other wires (`lab/family.rs`).

#[path = "../lab/lab.rs"]
mod lab;

mod acceptance;
mod answers;
mod closing;
mod cores;
mod dead_flows;
mod delayed_acks;
mod echo;
mod handshake;
mod islands;
mod loss;
mod path_mtu;
mod paths;
mod recovery;
mod recycle;
mod rings;
mod segments;
mod sleep;
mod stalls;
mod time_wait;
mod useless;
