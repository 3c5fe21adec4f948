//! Several cores under seeded schedules, with plenty and with next to nothing of every resource: every reply right, in
//! order, and nothing held at the end.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_cache::CacheConfig;

use crate::loopback::{Client, Loopback, Pace, keys_of};
use crate::script::Script;

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
    loopback.end();
    let counters = &loopback.cores[0].shared().counters;
    let sums = [
        counters.sum(|core| &core.waits),
        counters.sum(|core| &core.streams),
        counters.sum(|core| &core.uploads),
        counters.sum(|core| &core.cross_core_requests),
    ];
    assert_eq!(counters.sum(|core| &core.messages_sent), counters.sum(|core| &core.messages_served), "seed {seed}");
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

/// A key that `core` of three owns.
fn key_of(core: usize) -> String {
    keys_of(core, 3, 1).remove(0)
}

/// A packet with a key.
fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut packet = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
    packet.extend(body.to_be_bytes());
    packet.extend([0; 12]);
    [&packet, extras, key, value].concat()
}

/// Commands that are not answered on a key of core 1, and after each one that is.
fn unanswered_and_answered() -> Vec<(Vec<u8>, Vec<u8>)> {
    let [here, owned, third] = [0, 1, 2].map(key_of);
    let text = |line: &str| line.replace("KEY", &owned).into_bytes();
    let long = format!("set KEY 0 0 20000 noreply\r\n{}\r\n", "v".repeat(20_000));
    let unanswered = [
        "set KEY 0 0 1 noreply\r\nx\r\n",
        "add KEY 0 0 1 noreply\r\nx\r\n",
        "replace KEY 0 0 1 noreply\r\nx\r\n",
        "append KEY 0 0 1 noreply\r\nx\r\n",
        "prepend KEY 0 0 1 noreply\r\nx\r\n",
        "cas KEY 0 0 1 1 noreply\r\nx\r\n",
        "delete KEY noreply\r\n",
        "incr KEY 1 noreply\r\n",
        "decr KEY 1 noreply\r\n",
        "touch KEY 0 noreply\r\n",
        "ms KEY 1 q\r\nx\r\n",
        "md KEY q\r\n",
        "ma KEY q\r\n",
        "mg KEY q\r\n",
        &long,
        "flush_all noreply\r\n",
    ];
    let later = [
        "version\r\n".to_owned(),
        "mn\r\n".to_owned(),
        "verbosity 1\r\n".to_owned(),
        "unknown\r\n".to_owned(),
        "stats\r\n".to_owned(),
        "stats conns\r\n".to_owned(),
        "lru_crawler enable\r\n".to_owned(),
        "watch\r\n".to_owned(),
        format!("get {here}\r\n"),
        format!("gets {here} {here}\r\n"),
        format!("gat 0 {here}\r\n"),
        format!("get {third}\r\n"),
        format!("mg {here} v\r\n"),
        format!("mg {third} v\r\n"),
        format!("set {here} 0 0 1\r\nx\r\n"),
        format!("delete {here}\r\n"),
        format!("incr {here} 1\r\n"),
        format!("touch {here} 0\r\n"),
    ];
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for first in unanswered {
        pairs.extend(later.iter().map(|later| (text(first), later.clone().into_bytes())));
    }
    let quiet = [
        packet(0x11, &[0; 8], owned.as_bytes(), b"x"),
        packet(0x14, &[], owned.as_bytes(), b""),
        packet(0x15, &[0; 20], owned.as_bytes(), b""),
        packet(0x19, &[], owned.as_bytes(), b"x"),
    ];
    for first in quiet {
        for later in [packet(0x0a, &[], b"", b""), packet(0x0b, &[], b"", b""), packet(0, &[], here.as_bytes(), b"")] {
            pairs.push((first.clone(), later));
        }
    }
    pairs
}

#[test]
fn a_reply_waits_until_an_unanswered_command_before_it_is_done_on_its_core() {
    for (first, later) in unanswered_and_answered() {
        let what = format!("{} after {}", later.escape_ascii(), first.escape_ascii());
        let mut config = CacheConfig { cores: 3, connections_per_core: 4, ..CacheConfig::default() };
        config.shard.memory_bytes = 24 << 20;
        let mut loopback = Loopback::new(&config, Pace::Even, 1);
        let client = loopback.connect(0);
        loopback.send(client, &[first, later].concat());
        // A long value asks its core for room first, and is not sent before there is.
        for sent in [false, true] {
            for _ in 0..10 {
                loopback.turn(0);
                loopback.turn(2);
            }
            let early = loopback.take_received(client);
            let served = loopback.cores[1].counters().messages_served.value();
            assert!(early.is_empty() || served > 0, "core 1 has done nothing: {}, {what}", early.escape_ascii());
            if !sent && loopback.unread(client) > 10_000 {
                loopback.turn(1);
            }
        }
        loopback.run();
        assert!(!loopback.received(client).is_empty(), "no reply to {what}");
        loopback.end();
    }
}

#[test]
fn unanswered_commands_in_a_row_take_one_place_however_many_they_are() {
    let mut config =
        CacheConfig { cores: 3, connections_per_core: 4, pending_per_connection: 2, ..CacheConfig::default() };
    config.shard.memory_bytes = 24 << 20;
    let mut loopback = Loopback::new(&config, Pace::Even, 1);
    let client = loopback.connect(0);
    let [one, other] = [1, 2].map(key_of);
    let some = format!("set {one} 0 0 1 noreply\r\nx\r\ndelete {other} noreply\r\nincr {one} 1 noreply\r\n").repeat(50);
    loopback.send(client, some.as_bytes());
    loopback.send(client, b"version\r\n");
    for _ in 0..10 {
        loopback.turn(0);
    }
    assert_eq!(loopback.unread(client), 0, "all of it is on its way at once");
    assert_eq!(loopback.cores[0].census().entries, 2, "the unanswered ones together, and the version");
    assert!(loopback.received(client).is_empty());
    loopback.run();
    assert_eq!(loopback.received(client), b"VERSION 1.6.45-sidestep\r\n");
    loopback.end();
}
