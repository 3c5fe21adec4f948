//! The stack over AF_XDP on one end of a veth pair, the Linux kernel on the other. Needs root; without it each test says so
//! and passes.

#[path = "../../../nic/tests/xdp_veth/lab.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod lab;

mod connect;
mod datagrams;
mod homing;
