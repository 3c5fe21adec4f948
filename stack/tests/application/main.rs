//! What applications have of the stack: readiness, active opens, datagrams, and the examples as they are.

#[path = "../lab/lab.rs"]
mod lab;

mod connect;
mod connect_cycles;
mod datagrams;
mod epoll;
mod examples;
mod poll;
mod send_to;
