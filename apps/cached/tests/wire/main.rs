//! Whole workers on a wire in memory, with virtual time, in one thread a test: what clients get of them and what that costs.

#[path = "../rig/rig.rs"]
mod rig;
#[path = "../rig/script.rs"]
mod script;

mod asleep;
mod cores;
mod crashes;
mod faults;
mod half_close;
mod idle_flows;
mod metrics;
mod slow_readers;
mod stop;
mod wake_ups;
