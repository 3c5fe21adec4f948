//! What the generator itself costs: cycles a request of [`Engine::turn`], driven over a transport that answers from
//! replies made beforehand and costs next to nothing.
//! `cargo run --release -p sidestep-mcload --example own_cost [BATCHES [CASE]]`.
//!
//! What the server's side does (finding the reply) is done in `wait`, which is not measured. For instruction counts run
//! one case under `valgrind --tool=callgrind --toggle-collect='*Engine*turn*'` and divide by its requests.

#[path = "../tests/lab/canned.rs"]
mod canned;

use mcload::popularity::{Popularity, Zipf};
use mcload::transport::Transport;

use canned::{CONNECTIONS, KEYS, NEVER_FAILS, steady};

const TURNS_A_BATCH: usize = 100;

fn measure(name: &str, popularity: Popularity, depth: usize, rate: Option<f64>, batches: usize) {
    let (mut engine, mut transport) = steady(popularity, depth, rate);
    let mut costs = Vec::with_capacity(batches);
    for _ in 0..batches {
        let (mut cycles, before) = (0, engine.tally().requests());
        for _ in 0..TURNS_A_BATCH {
            transport.wait(engine.deadline()).expect(NEVER_FAILS);
            let begun = cpu::cycles();
            engine.turn(&mut transport).expect(NEVER_FAILS);
            cycles += cpu::cycles() - begun;
        }
        let requests = engine.tally().requests() - before;
        if requests > 0 {
            costs.push(cycles as f64 / requests as f64);
        }
    }
    assert_eq!((engine.tally().wrong, engine.tally().misses), (0, 0));
    costs.sort_by(f64::total_cmp);
    let requests = engine.tally().requests();
    println!(
        "{name}: {:.0} cycles a request at least, median {:.0}; {requests} requests",
        costs[0],
        costs[costs.len() / 2]
    );
}

fn main() {
    let batches = std::env::args().nth(1).map_or(2_000, |batches| batches.parse().expect("a number of batches"));
    let only = std::env::args().nth(2);
    let uniform = Popularity::Uniform(KEYS);
    println!("GET of 30 B keys, 100 B values, {CONNECTIONS} connections; the engine alone");
    let zipf = Popularity::Zipf(Zipf::new(KEYS, 0.99));
    for (name, popularity, depth, rate) in [
        ("closed loop, depth 1", uniform, 1, None),
        ("closed loop, depth 16", uniform, 16, None),
        ("closed loop, depth 1, zipf 0.99", zipf, 1, None),
        ("open loop, 1 M/s", uniform, 16, Some(1e6)),
    ] {
        if only.as_deref().is_none_or(|only| only == name) {
            measure(name, popularity, depth, rate, batches);
        }
    }
}
