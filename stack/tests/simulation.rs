//! Two stacks on a wire, by a seed: connections opened by either, written, read, left unread, closed, aborted, moved to
//! other rings, on a wire that loses, repeats, reorders, bends, cuts and forgets, while somebody says again what was said
//! before, asks for connections that will not come to be, sends datagrams and time jumps. After every turn: every byte is in order and exact, no flow, frame, ring or timer is lost, and
//! no turn is for nothing. Every few thousand steps all is closed, and nothing may be left.
//!
//! A failure prints its seed and its step. `SIDESTEP_SEED=n` runs that seed alone, `SIDESTEP_STEPS=n` goes on for longer,
//! `SIDESTEP_SEEDS=n` runs the first so many seeds; `scripts/simulate` runs ten million steps. Read first: `simulation/world.rs`.

#[path = "simulation/datagrams.rs"]
mod datagrams;
#[path = "simulation/end.rs"]
mod end;
#[path = "lab/lab.rs"]
mod lab;
#[path = "simulation/streams.rs"]
mod streams;
#[path = "simulation/world.rs"]
mod world;

use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::sync::Mutex;

use end::{MOMENTS, WOKEN_BY};
use world::World;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

fn run(seed: u64, steps: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.run(steps);
    println!("{}", world.summary());
    world
}

/// How often flows were told to sleep at each moment, and woken by each cause.
type Sleepers = ([u64; MOMENTS.len()], [u64; WOKEN_BY.len()]);

/// Runs the seeds, as many at a time as there are processors: none knows of another.
fn sleepers(seeds: RangeInclusive<u64>, steps: u64) -> Sleepers {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = Mutex::new(seeds);
    let next = || seeds.lock().expect("nobody panics while it is held").next();
    let (mut moments, mut woken) = ([0; MOMENTS.len()], [0; WOKEN_BY.len()]);
    std::thread::scope(|scope| {
        let of_one_thread = || {
            let mut all = Vec::new();
            while let Some(seed) = next() {
                all.push(run(seed, steps).sleepers());
            }
            all
        };
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(of_one_thread)).collect();
        for thread in threads {
            for (more_moments, more_woken) in thread.join().unwrap_or_else(|panic| resume_unwind(panic)) {
                moments.iter_mut().zip(more_moments).for_each(|(sum, more)| *sum += more);
                woken.iter_mut().zip(more_woken).for_each(|(sum, more)| *sum += more);
            }
        }
    });
    (moments, woken)
}

#[test]
fn whatever_happens_every_byte_is_exact_and_nothing_is_lost() {
    let steps = number("SIDESTEP_STEPS", 12_500);
    let seeds = match number("SIDESTEP_SEED", 0) {
        0 => 1..=number("SIDESTEP_SEEDS", 8),
        seed => seed..=seed,
    };
    let all = seeds.end() - seeds.start() + 1 >= 8 && steps >= 12_500;
    let (moments, woken) = sleepers(seeds, steps);
    // Every moment at which a flow can be told to sleep, and everything that can wake one, comes up.
    for (what, count) in MOMENTS.iter().zip(moments) {
        println!("told to sleep with {what}: {count}");
        assert!(!all || count > 0, "never told to sleep with {what}");
    }
    for (what, count) in WOKEN_BY.iter().zip(woken) {
        println!("woken by {what}: {count}");
        assert!(!all || count > 0, "never woken by {what}");
    }
}

#[test]
fn the_same_seed_is_the_same_simulation() {
    let digest = run(77, 3_000).digest();
    assert_eq!(run(77, 3_000).digest(), digest);
    assert_ne!(run(78, 3_000).digest(), digest);
}
