//! What clients get of a whole cache without a network: its cores in one thread, in even or seeded turns (`support/loopback.rs`).

#[path = "../support/asking.rs"]
mod asking;
#[path = "../support/fuzz.rs"]
mod fuzz;
#[path = "../support/loopback.rs"]
mod loopback;
#[path = "../support/memcached.rs"]
mod memcached;
#[path = "../support/script.rs"]
mod script;

mod bounds;
mod cluster;
mod cores;
mod corpus;
mod crashes;
mod crowds;
mod mutation;
mod operate;
mod patience;
mod settings;
mod split;
mod threads;
mod transcript;
mod udp;
