//! Replays what crashed, hung or leaked a memcached in 2025 and 2026: answered or closed, counted, alive after.
//!
//! `crashes.md` is the list; `support/crashes.rs` reads it.

#[path = "../support/crashes.rs"]
mod list;

use std::collections::{BTreeMap, BTreeSet};

use differential::memcached::says_that_nothing_is_compared;
use differential::packet;
use list::{Crash, Started, Step, listed};
use sidestep_cache::{CacheConfig, Commands, Protocol, ShardConfig, User};

use crate::loopback::{Client, Loopback, Pace};
use crate::memcached::Memcached;

const LIST: &str = include_str!("../crashes.md");

/// The longest input that is also sent byte by byte.
const BYTE_BY_BYTE_MAX: usize = 10_000;

/// The longest input of which a seed decides how much arrives at a time.
const SEEDED_MAX: usize = 1 << 20;

/// The longest piece of input that is also sent as a datagram.
const DATAGRAM_MAX: usize = 60_000;

fn config(cores: usize, started: Started) -> CacheConfig {
    let user = || User { name: (*b"foo").into(), password: (*b"bar").into() };
    // So little that long inputs evict.
    let shard = ShardConfig { memory_bytes: cores * (16 << 20), ..ShardConfig::default() };
    CacheConfig {
        cores,
        shard,
        datagram_places: 64,
        users: if started == Started::Auth { vec![user()] } else { Vec::new() },
        // As the server's options say it with -Y.
        protocol: if started == Started::Auth { Protocol::Ascii } else { Protocol::Auto },
        commands: Commands { dump: started != Started::NoDump, ..Commands::default() },
        ..CacheConfig::default()
    }
}

fn all() -> Vec<Crash> {
    listed(LIST)
}

fn played() -> impl Iterator<Item = Crash> {
    all().into_iter().filter(|crash| !crash.steps.is_empty())
}

/// Plays `crash` to a whole cache; returns what did not hold.
fn play(crash: &Crash, cores: usize, pace: Pace, seed: u64) -> Vec<String> {
    let mut server = Loopback::new(&config(cores, crash.started), pace, seed);
    let mut wrong = Vec::new();
    let before = count(&mut server, crash);
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    for (line, step) in &crash.steps {
        let client = step.client().map(|name| {
            let number = clients.len();
            *clients.entry(name).or_insert_with(|| server.connect(number % cores))
        });
        match (step, client) {
            (Step::Send(_, bytes), Some(client)) => {
                server.send(client, bytes);
                server.run();
            }
            (Step::Reads(_, reads), Some(client)) => {
                server.set_reads(client, *reads);
                server.run();
            }
            (Step::Leaves(_), Some(client)) => {
                server.close(client);
                server.run();
            }
            (Step::Closed(_), Some(client)) => {
                if !server.is_closed(client) {
                    wrong.push(format!("line {line}: the connection is open"));
                }
            }
            (Step::Wait(seconds), _) => server.tick(*seconds),
            (Step::Users(name, password), _) => {
                let user = User { name: name.as_bytes().into(), password: password.as_bytes().into() };
                server.cores[0].shared().control.set_users(vec![user]);
            }
            (step, Some(client)) => {
                let received = server.take_received(client);
                if let Some(Err(what)) = step.judge(&received) {
                    wrong.push(format!("line {line}: {what}"));
                }
            }
            (_, None) => {}
        }
    }
    let after = count(&mut server, crash);
    if after <= before {
        wrong.push(format!("{} was {before} and is {after}", crash.counted.as_deref().unwrap_or("bytes_read")));
    }
    wrong.extend(alive(&mut server, crash.started));
    server.end();
    wrong
}

/// What the entry's counter says.
fn count(server: &mut Loopback, crash: &Crash) -> u64 {
    let Some(name) = &crash.counted else { return server.counted(|core| core.bytes_read.value()) };
    let asker = server.connect(0);
    if crash.started == Started::Auth {
        assert_eq!(server.ask(asker, "set a 0 0 7\r\nfoo bar\r\n"), "STORED\r\n");
    }
    let stats = server.ask(asker, "stats\r\n");
    server.close(asker);
    let line = stats.lines().find_map(|line| line.strip_prefix("STAT ")?.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("`stats` has no {name}:\n{stats}")).parse().expect("a number")
}

/// Whether whoever comes next is served, on every core, of every core's keys, in lines, meta commands and packets.
fn alive(server: &mut Loopback, started: Started) -> Vec<String> {
    let mut wrong = Vec::new();
    for core in 0..server.cores.len() {
        let client = server.connect(core);
        let mut ask = |request: String, expected: &str| {
            let said = server.ask(client, &request);
            if said != expected {
                wrong.push(format!("afterwards {} is answered {}", request.escape_debug(), said.escape_debug()));
            }
        };
        if started == Started::Auth {
            ask("set a 0 0 7\r\nfoo bar\r\n".to_owned(), "STORED\r\n");
        }
        for number in 0..8 {
            ask(format!("set after-{number} 7 0 3\r\nabc\r\n"), "STORED\r\n");
            ask(format!("get after-{number}\r\n"), &format!("VALUE after-{number} 7 3\r\nabc\r\nEND\r\n"));
            ask(format!("mg after-{number} v f\r\n"), "VA 3 f7\r\nabc\r\n");
        }
        server.close(client);
        if started != Started::Auth {
            let client = server.connect(core);
            let noop = packet::Packet::new(0x0a).encode();
            server.send(client, &noop);
            server.run();
            if server.take_received(client).first() != Some(&0x81) {
                wrong.push("afterwards a noop is not answered".to_owned());
            }
            server.close(client);
        }
    }
    wrong
}

/// Plays all entries and panics with all that did not hold.
#[track_caller]
fn all_hold(what: &str, mut play: impl FnMut(&Crash) -> Vec<String>) {
    let (mut count, mut wrong) = (0, String::new());
    for crash in played() {
        count += 1;
        for line in play(&crash) {
            wrong += &format!("{} ({}): {line}\n", crash.name, crash.commit);
        }
    }
    println!("{count} entries {what}");
    assert!(wrong.is_empty(), "{what}:\n{wrong}");
}

#[test]
fn each_input_is_answered_or_closed_and_counted_and_the_next_is_served() {
    all_hold("played on one core", |crash| play(crash, 1, Pace::Even, 0));
    all_hold("played on three cores", |crash| play(crash, 3, Pace::Even, 0));
}

#[test]
fn it_is_the_same_however_the_bytes_are_cut() {
    let seed = 0x2025_2026;
    println!("seeds from {seed}");
    all_hold("played in pieces", |crash| match crash.bytes_sent() {
        ..=SEEDED_MAX => (0..2).flat_map(|more| play(crash, 3, Pace::Seeded, seed + more)).collect(),
        _ => Vec::new(),
    });
    all_hold("played byte by byte", |crash| match crash.bytes_sent() {
        ..=BYTE_BY_BYTE_MAX => play(crash, 2, Pace::ByteByByte, 0),
        _ => Vec::new(),
    });
}

#[test]
fn sent_as_datagrams_they_harm_nobody() {
    all_hold("sent as datagrams", |crash| {
        if crash.started == Started::Auth {
            return Vec::new(); // Datagrams are not taken then.
        }
        let mut server = Loopback::new(&config(2, crash.started), Pace::Even, 0);
        let before = server.counted(|core| core.udp_datagrams_in.value());
        let mut sent = 0;
        for (_, step) in &crash.steps {
            let Step::Send(_, bytes) = step else { continue };
            if bytes.len() <= DATAGRAM_MAX {
                server.datagram(sent % 2, sent as u16, bytes);
                server.run();
                sent += 1;
            }
        }
        let counted = server.counted(|core| core.udp_datagrams_in.value()) - before;
        let mut wrong = alive(&mut server, crash.started);
        if counted != sent as u64 {
            wrong.push(format!("{sent} datagrams were sent and {counted} counted"));
        }
        server.end();
        wrong
    });
}

/// The entries whose clients come one after the other, none doing anything that a plain connection cannot.
#[test]
fn memcached_1_6_45_answers_the_same() {
    if says_that_nothing_is_compared() {
        return;
    }
    let mut played_to_it = 0;
    all_hold("played to memcached 1.6.45", |crash| {
        let plain = |step: &Step| !matches!(step, Step::Reads(..) | Step::Leaves(_) | Step::Wait(_) | Step::Users(..));
        let names: Vec<&str> = crash.steps.iter().filter_map(|(_, step)| step.client()).collect();
        let turns = 1 + names.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let in_turn = turns == names.iter().collect::<BTreeSet<_>>().len();
        let comparable = crash.unlike_memcached.is_none() && crash.started != Started::Auth;
        if !comparable || !in_turn || !crash.steps.iter().all(|(_, step)| plain(step)) {
            return Vec::new();
        }
        played_to_it += 1;
        let options: &[&str] = if crash.started == Started::NoDump { &["-X"] } else { &[] };
        let mut memcached = Memcached::start(options).expect("scripts/memcached 1.6.45 has built it");
        let (mut unsent, mut wrong, mut last) = (Vec::new(), Vec::new(), names[0]);
        for (at, (line, step)) in crash.steps.iter().enumerate() {
            let client = step.client().unwrap_or(last);
            if client != last {
                (last, unsent) = (client, Vec::new());
                memcached.reconnect();
            }
            let next = crash.steps.get(at + 1).map(|(_, step)| step);
            match step {
                Step::Send(_, bytes) => unsent.extend_from_slice(bytes),
                Step::Closed(_) if !unsent.is_empty() => {
                    memcached.exchange_until_closed(&std::mem::take(&mut unsent));
                }
                Step::Closed(_) => {}
                step => {
                    let bytes = std::mem::take(&mut unsent);
                    let closes = matches!(next, Some(Step::Closed(_)));
                    let received =
                        if closes { memcached.exchange_until_closed(&bytes) } else { memcached.exchange(&bytes) };
                    if let Some(Err(what)) = step.judge(&received) {
                        wrong.push(format!("line {line}: {what}"));
                    }
                }
            }
        }
        wrong
    });
    assert!(played_to_it >= 20, "only {played_to_it} entries were played to it");
}

#[test]
fn the_list_is_whole() {
    let crashes = all();
    let names: BTreeSet<&str> = crashes.iter().map(|crash| &crash.name[..]).collect();
    assert_eq!(names.len(), crashes.len(), "a name stands twice");
    for Crash { name, version, commit, cause, not_played, steps, options, .. } in &crashes {
        let minor: u32 = version.strip_prefix("1.6.").and_then(|minor| minor.parse().ok()).unwrap_or_default();
        assert!((35..=45).contains(&minor), "{name} has no release of 2025 or 2026: {version}");
        assert!(commit.len() == 9 && !cause.is_empty(), "{name} has no source or cause");
        let ways = [!steps.is_empty(), !options.is_empty(), not_played.is_some()];
        assert_eq!(ways.iter().filter(|&&way| way).count(), 1, "{name} is played, or a command line, or says why not");
    }
    let with_input = crashes.iter().filter(|crash| crash.not_played.is_none()).count();
    println!("{} faults, {with_input} with an input", crashes.len());
    assert!(with_input >= 35);
}
