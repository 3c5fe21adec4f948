//! After start the stack allocates nothing: an allocator that counts for the whole process says so.
//!
//! libtest's threads allocate too, so these run without it (`harness = false`): one after the other, all of them whatever the
//! arguments.

#[path = "../lab/lab.rs"]
mod lab;

mod connect;
mod datagrams;
mod floods;
mod ipv6;
mod poll;
mod request;
mod rings;
mod sleep;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A test, which panics when something is wrong, and its name.
type Test = (&'static str, fn());

/// Each function with its name.
macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn())),*]
    };
}

const TESTS: [Test; 8] = tests![
    connect::a_connection_from_open_to_close_allocates_nothing,
    datagrams::datagrams_and_their_answers_allocate_nothing,
    floods::a_flood_allocates_nothing,
    ipv6::requests_and_hosts_that_come_and_go_allocate_nothing,
    poll::a_turn_allocates_nothing,
    request::a_request_and_its_answer_allocate_nothing,
    rings::a_connection_that_moves_into_larger_rings_and_back_allocates_nothing,
    sleep::a_flow_that_wakes_allocates_nothing,
];

fn main() {
    // As libtest says it, for scripts/test to count. A test that fails ends the process.
    println!("\nrunning {} tests", TESTS.len());
    for (name, test) in TESTS {
        println!("test {name} ...");
        test();
        println!("test {name} ... ok");
    }
    println!("\ntest result: ok. {} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out", TESTS.len());
}
