//! Two and three cores in process against a real memcached 1.6.45: a million seeded operations, every reply compared.
//!
//! `scripts/memcached 1.6.45` builds it. `SIDESTEP_SEED`, `SIDESTEP_CASE` (the first), `SIDESTEP_OPERATIONS` (of each
//! test) and `SIDESTEP_MOST_UNLISTED` change the run; a difference prints its
//! seed, its case and its minimal transcript. The listed classes of difference are in `differences.md`.

#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod loopback;

use std::io;
use std::time::SystemTime;

use differential::campaign::{Campaign, Findings};
use differential::case::Protocol;
use differential::conversation::BEGIN;
use differential::datagram_peer::Assembly;
use differential::differences::Differences;
use differential::memcached::{Memcached, golden, says_that_nothing_is_compared};
use differential::target::Target;
use loopback::{Loopback, Pace};
use sidestep_cache::CacheConfig;

const LISTED: &str = include_str!("differences.md");

/// Connections after which the cache is built anew at the next flush: the loopback remembers every client.
const CONNECTIONS: usize = 48;

/// Our cores in this thread; every connection goes to the next core.
struct InProcess {
    config: CacheConfig,
    pace: Pace,
    seed: u64,
    cache: Loopback,
    connections: usize,
    /// The id of the last datagram.
    asked: u16,
}

impl InProcess {
    fn new(cores: usize, pace: Pace, seed: u64) -> Self {
        let config = CacheConfig { cores, datagram_places: 64, ..CacheConfig::default() };
        let cache = begin(&config, pace, seed);
        Self { config, pace, seed, cache, connections: 0, asked: 0 }
    }
}

/// A cache whose clock stands at the time of day, which memcached's shows too: meta commands tell how long an item has.
fn begin(config: &CacheConfig, pace: Pace, seed: u64) -> Loopback {
    let mut cache = Loopback::new(config, pace, seed);
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
    cache.now.unix_epoch = unix - u64::from(cache.now.secs);
    cache
}

impl Target for InProcess {
    fn name(&self) -> &str {
        "sidestep"
    }

    fn takes_datagrams(&self) -> bool {
        true
    }

    fn datagrams(&mut self, requests: &[Vec<u8>]) -> io::Result<Vec<Vec<Vec<u8>>>> {
        let mut ask = |request: &Vec<u8>| {
            self.asked = self.asked.wrapping_add(1);
            let (id, core) = (self.asked, usize::from(self.asked) % self.config.cores);
            self.cache.datagram(core, id, request);
            self.cache.run();
            assert_eq!(self.cache.udp[core].pending(), 0, "to {}", request.escape_ascii());
            let mut assembly = Assembly::default();
            for (peer, datagram) in self.cache.mailbox.sent.drain(..) {
                assert_eq!((peer, &datagram[..2]), (id.into(), &id.to_be_bytes()[..]));
                assembly.take(&datagram).map_err(io::Error::other)?;
            }
            assembly.whole().map_err(io::Error::other)
        };
        requests.iter().map(&mut ask).collect()
    }

    fn exchange(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        if self.connections >= CONNECTIONS && pieces == [BEGIN] {
            self.cache.close_all();
            self.cache.assert_nothing_held();
            self.seed += 1;
            self.cache = begin(&self.config, self.pace, self.seed);
            self.connections = 0;
        }
        let client = self.cache.connect(self.connections % self.config.cores);
        self.connections += 1;
        for piece in pieces {
            self.cache.send(client, piece);
            self.cache.run();
        }
        self.cache.run();
        let replies = self.cache.take_received(client);
        self.cache.close(client);
        Ok(replies)
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is '{text}'; it must be a number")),
        Err(_) => default,
    }
}

fn compare(protocol: Protocol, cores: usize, pace: Pace, first: u64, operations: u64) {
    let (seed, operations) = (number("SIDESTEP_SEED", 1), number("SIDESTEP_OPERATIONS", operations));
    compare_from(protocol, cores, pace, seed, number("SIDESTEP_CASE", first), operations);
}

/// `operations` of campaign `seed` from case `first` on; returns the listed classes, with how often each was seen.
fn compare_from(
    protocol: Protocol,
    cores: usize,
    pace: Pace,
    seed: u64,
    first: u64,
    operations: u64,
) -> Option<Differences> {
    if says_that_nothing_is_compared() {
        return None;
    }
    let mut differences = Differences::parse(LISTED).expect("differences.md is well formed");
    let memcached = match protocol {
        Protocol::Udp => Memcached::start_with_udp(&golden()),
        _ => Memcached::start(&golden()),
    };
    let memcached = memcached.unwrap_or_else(|error| panic!("{error}"));
    let mut tested = InProcess::new(cores, pace, seed);
    let stale = differences.verify(&mut memcached.target(), &mut tested).expect("both answer");
    assert!(stale.is_empty(), "transcripts of differences.md that no longer hold:\n{}", stale.join("\n"));
    let campaign = Campaign {
        protocol,
        seed,
        first,
        operations,
        most_unlisted: number("SIDESTEP_MOST_UNLISTED", 8) as usize,
        tested_is_memcached: false,
    };
    let findings: Findings =
        campaign.run(&mut memcached.target(), &mut tested, &mut differences).unwrap_or_else(|error| panic!("{error}"));
    println!("{protocol:?}, {cores} cores, seed {seed}:\n{}", findings.report(&differences));
    assert!(findings.unlisted.is_empty(), "{} kinds of unlisted differences, see above", findings.unlisted.len());
    Some(differences)
}

#[test]
fn two_cores_answer_as_memcached_does() {
    compare(Protocol::Text, 2, Pace::Even, 0, 500_000);
}

#[test]
fn three_cores_in_seeded_turns_answer_as_memcached_does() {
    compare(Protocol::Text, 3, Pace::Seeded, 1 << 32, 500_000);
}

#[test]
fn one_core_answers_meta_commands_as_memcached_does() {
    compare(Protocol::Meta, 1, Pace::Even, 0, 100_000);
}

#[test]
fn three_cores_in_seeded_turns_answer_meta_commands_as_memcached_does() {
    compare(Protocol::Meta, 3, Pace::Seeded, 1 << 32, 100_000);
}

#[test]
fn one_core_answers_packets_as_memcached_does() {
    compare(Protocol::Binary, 1, Pace::Even, 0, 100_000);
}

#[test]
fn three_cores_in_seeded_turns_answer_packets_as_memcached_does() {
    compare(Protocol::Binary, 3, Pace::Seeded, 1 << 32, 100_000);
}

#[test]
fn one_core_answers_datagrams_as_memcached_does() {
    compare(Protocol::Udp, 1, Pace::Even, 0, 50_000);
}

#[test]
fn three_cores_in_seeded_turns_answer_datagrams_as_memcached_does() {
    compare(Protocol::Udp, 3, Pace::Seeded, 1 << 32, 50_000);
}

#[test]
fn a_store_that_took_the_unique_of_a_refused_ms_is_known_by_its_cause() {
    // memcached says HD where we say EX: the line that differs does not show the unique.
    let listed = compare_from(Protocol::Meta, 3, Pace::Seeded, 3_000_009, 4_294_967_327, 1);
    let seen = |listed: Differences| {
        listed.classes().iter().find(|class| class.name.starts_with("a-refused-ms-")).unwrap().seen
    };
    assert_ne!(listed.map(seen), Some(0));
}
