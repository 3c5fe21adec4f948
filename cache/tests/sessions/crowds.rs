//! Crowds of clients that are slow in every way at once, and a few beside them that are not and are answered all the
//! same.

use sidestep_cache::{CacheConfig, CoreCounters};

use crate::asking::{NO_MEMORY, RING, closed, config, drip, hit, set};
use crate::loopback::{Client, Loopback, Pace};

/// Whether `received` is the beginning of answers to gets of `keys`, each whole or a miss.
fn is_beginning_of_answers(mut received: &[u8], keys: &[(String, usize)]) -> bool {
    for (key, bytes) in keys {
        let whole = hit(key, *bytes).into_bytes();
        match [&whole[..], b"END\r\n"].iter().find_map(|answer| received.strip_prefix(*answer)) {
            Some(rest) => received = rest,
            None => return whole.starts_with(received) || b"END\r\n".starts_with(received),
        }
    }
    received.is_empty()
}

/// A client that is slow: at reading the answers to gets of these keys, or at sending a value.
struct Slow {
    core: usize,
    client: Client,
    asked: Vec<(String, usize)>,
}

/// Some slow clients more, each of which asks for some of the values that are `shared`, or begins to send one.
fn join(loopback: &mut Loopback, cores: usize, shared: &[(String, usize)], crowd: &mut Vec<Slow>) {
    for _ in 0..loopback.below(12) {
        let core = loopback.below(cores);
        let client = loopback.connect_with(core, 4_096, RING);
        loopback.set_reads(client, false);
        let mut asked = Vec::new();
        if loopback.below(2) == 0 {
            asked = (0..1 + loopback.below(40)).map(|_| shared[loopback.below(shared.len())].clone()).collect();
            let request: String = asked.iter().map(|(key, _)| format!("get {key}\r\n")).collect();
            loopback.send(client, request.as_bytes());
        } else {
            let (number, bytes) = (loopback.below(100), 3_000 + loopback.below(400_000));
            loopback.send(client, format!("set slow{number} 0 0 {bytes}\r\n").as_bytes());
        }
        crowd.push(Slow { core, client, asked });
    }
}

/// Each of the crowd reads or sends a little, or goes, or does nothing.
fn dawdle(loopback: &mut Loopback, second: usize, crowd: &mut Vec<Slow>, what: &str) {
    for at in (0..crowd.len()).rev() {
        let &Slow { core, client, ref asked } = &crowd[at];
        match loopback.below(12) {
            0..4 if asked.is_empty() => loopback.send(client, &b"v".repeat(second)),
            0..4 => drip(loopback, core, &[client]),
            4 => {
                let Slow { asked, .. } = crowd.swap_remove(at);
                let received = loopback.take_received(client);
                assert!(asked.is_empty() || is_beginning_of_answers(&received, &asked), "{what}: torn");
                loopback.close(client);
            }
            _ => {}
        }
    }
}

/// An honest client sets one of the values that are `shared`, and gets all. Returns whether there was no room for it.
fn ask_honestly(loopback: &mut Loopback, client: Client, shared: &[(String, usize)], what: &str) -> bool {
    let (key, bytes) = &shared[loopback.below(shared.len())];
    let answer = loopback.ask(client, set(key, *bytes));
    assert!(answer == "STORED\r\n" || answer == NO_MEMORY, "{what}: {answer:?} {:?}", loopback.census());
    let expected = if answer == "STORED\r\n" { hit(key, *bytes) } else { "END\r\n".to_owned() };
    let refused = answer == NO_MEMORY;
    assert!(loopback.ask(client, format!("get {key}\r\n")) == expected, "{what}: {key}");
    let gets: String = shared.iter().map(|(key, _)| format!("get {key}\r\n")).collect();
    let answer = loopback.ask(client, gets);
    assert!(is_beginning_of_answers(answer.as_bytes(), shared) && answer.ends_with("END\r\n"), "{what}");
    let ends = answer.match_indices("END\r\n").count();
    assert_eq!(ends, shared.len(), "{what}: every get is answered");
    refused
}

/// Crowds of clients that read and write slowly, or stop, or die, come and go. Each second every honest client is
/// answered, rightly, whatever they do; in the end nothing is held.
#[test]
fn every_honest_request_is_answered_whatever_the_slow_ones_do() {
    let mut short = [0; 5];
    for seed in 0..12 {
        let cores = 1 + seed as usize % 3;
        let mut config =
            CacheConfig { pending_per_core: 64, landing_slots: 16, copied_bytes_max: 500_000, ..config(cores) };
        config.shard.memory_bytes = cores * (8 << 20);
        let pace = if seed % 2 == 0 { Pace::Even } else { Pace::Seeded };
        let mut loopback = Loopback::new(&config, pace, seed);
        let honest: Vec<Client> = (0..cores).map(|core| loopback.connect_with(core, 65_535, 65_535)).collect();
        let sizes = [10, 3_000, 30_000, 150_000];
        let shared: Vec<(String, usize)> =
            (0..40).map(|number| (format!("shared{number}"), sizes[number % sizes.len()])).collect();
        let mut crowd: Vec<Slow> = Vec::new();
        let (mut refused, mut stored) = (0, 0);
        for second in 0..40 {
            let what = format!("seed {seed}, second {second}");
            join(&mut loopback, cores, &shared, &mut crowd);
            loopback.tick(1);
            dawdle(&mut loopback, second, &mut crowd, &what);
            for &client in &honest {
                refused += usize::from(ask_honestly(&mut loopback, client, &shared, &what));
                stored += 1;
            }
        }
        assert!(10 * refused <= stored, "seed {seed}: {refused} of {stored} sets found no room");
        assert_eq!(closed(&loopback, &honest), 0, "seed {seed}");
        for core in &loopback.cores {
            let CoreCounters { entries_short, slots_short, pins_taken, uploads_dropped, slow_readers_closed, .. } =
                core.counters();
            let counters = [entries_short, slots_short, pins_taken, uploads_dropped, slow_readers_closed];
            short.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.value());
        }
        loopback.end();
    }
    assert!(short.iter().all(|&sum| sum > 10), "entries, slots, pins, uploads, readers closed: {short:?}");
}
