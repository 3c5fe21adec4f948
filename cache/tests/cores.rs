//! Several cores under seeded schedules, with plenty and with next to nothing of every resource: every reply right, in
//! order, and nothing held at the end.

#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod loopback;
#[path = "support/script.rs"]
mod script;

use loopback::{Client, Loopback, Pace};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use script::Script;
use sidestep_cache::CacheConfig;

/// A cache with `cores` cores, each resource scarce or plentiful as the seed says.
fn config(cores: usize, rng: &mut Xoshiro256PlusPlus) -> CacheConfig {
    let mut pick = |few: usize, many: usize| if rng.next_u64().is_multiple_of(3) { many } else { few };
    let mut config = CacheConfig {
        cores,
        connections_per_core: 16,
        pending_per_connection: pick(2, 32),
        pending_per_core: pick(3, 1000),
        landing_slots: pick(1, 100),
        landing_slot_bytes: pick(512, 4096),
        slots_per_connection: pick(1, 16),
        blocks_per_pair: pick(1, 16),
        uploads_per_owner: pick(1, 16),
        copied_bytes_max: pick(0, 1 << 20),
        ..CacheConfig::default()
    };
    config.shard.memory_bytes = cores * (8 << 20);
    config.shard.item_size_max = 64 << 10;
    config
}

#[track_caller]
fn assert_replies(what: &str, found: &[u8], expected: &[u8]) {
    if found != expected {
        let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let near = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(300)..bytes.len().min(at + 100)]).into_owned()
        };
        panic!(
            "{what}: {} of {} bytes, differs at {at}\nfound    {:?}\nexpected {:?}",
            found.len(),
            expected.len(),
            near(found),
            near(expected)
        );
    }
}

/// Some clients on every core run their scripts; `deaths`: some connections die on the way. Returns the counts of
/// waits, streams, uploads and requests that crossed cores.
fn run(seed: u64, cores: usize, commands: usize, value_max: usize, deaths: bool) -> [u64; 4] {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let config = config(cores, &mut rng);
    let mut loopback = Loopback::new(&config, Pace::Seeded, seed ^ 0xabcd);
    let clients: Vec<(Client, Script)> = (0..cores * 3)
        .map(|number| {
            let client = loopback.connect(number % cores);
            let mut script = Script::new(seed ^ number as u64 ^ 0x1234_0000, &format!("c{number}:"), 30, value_max);
            script.extend(commands);
            loopback.send(client, &script.sent);
            (client, script)
        })
        .collect();
    if deaths {
        for _ in 0..clients.len() / 2 {
            for _ in 0..loopback.below(400) {
                let core = loopback.below(cores);
                loopback.turn(core);
            }
            let victim = loopback.below(clients.len());
            loopback.close(clients[victim].0);
        }
    }
    loopback.run();
    let mut killed = 0;
    for (client, script) in &clients {
        let what = format!("seed {seed}, {cores} cores, {client:?}, {config:?}");
        let received = loopback.received(*client);
        if loopback.is_closed(*client) {
            killed += 1;
            assert!(script.expected.starts_with(received), "{what}");
        } else {
            assert_replies(&what, received, &script.expected);
            assert_eq!(loopback.unread(*client), 0, "{what}");
        }
    }
    assert!(deaths || killed == 0, "seed {seed}");
    loopback.close_all();
    loopback.assert_nothing_held();
    let ledger = loopback.cores[0].ledger();
    let sums = [
        ledger.sum(|core| &core.waits),
        ledger.sum(|core| &core.streams),
        ledger.sum(|core| &core.uploads),
        ledger.sum(|core| &core.cross_core_requests),
    ];
    assert_eq!(ledger.sum(|core| &core.messages_sent), ledger.sum(|core| &core.messages_served), "seed {seed}");
    sums
}

/// Runs seeds, and makes sure that they went where it is narrow.
fn run_all(seeds: std::ops::Range<u64>, commands: usize, value_max: usize, deaths: bool) {
    let mut sums = [0; 4];
    for seed in seeds {
        let counts = run(seed, 2 + (seed % 3) as usize, commands, value_max, deaths);
        sums = std::array::from_fn(|which| sums[which] + counts[which]);
    }
    assert!(sums.iter().all(|&sum| sum > 500), "waits, streams, uploads, crossings: {sums:?}");
}

#[test]
fn every_reply_is_right_whatever_the_schedule_and_however_little_there_is() {
    run_all(0..500, 60, 1500, false);
}

#[test]
fn values_of_every_size_cross_cores() {
    run_all(1000..1150, 40, 50_000, false);
}

#[test]
fn a_connection_may_die_at_any_point() {
    run_all(2000..2500, 40, 20_000, true);
}
