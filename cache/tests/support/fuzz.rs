//! What one input of a fuzz target does: whole cores in one thread, a few connections, and every promise checked.
//!
//! ```text
//!  input ──► Script: set-up, steps ──► Loopback of 1 to 3 cores ──► Transcripts ──► well formed? in order? the same
//!  (file)    (script.rs)              (support/loopback.rs)                         however cut? nothing held?
//! ```
//!
//! Used by the fuzz targets (`cache/fuzz/targets`) and by the test that replays their corpora
//! (`cache/tests/sessions/corpus.rs`), so that a finding is a file. Nothing here is random: the same input does the same. Read
//! first: `fuzz/script.rs`.

/// Datagrams.
#[path = "fuzz/datagrams.rs"]
#[allow(dead_code, reason = "each fuzz target uses a part")]
pub mod datagrams;
/// Replies that are lines.
#[path = "fuzz/lines.rs"]
mod lines;
/// Replies that are packets.
#[path = "fuzz/packets.rs"]
mod packets;
/// How an input is read.
#[path = "fuzz/script.rs"]
mod script;

use sidestep_cache::{CacheConfig, Commands, Protocol, User};

use crate::loopback::{Client, Loopback, Pace};
use script::{Mode, SLOTS, Script, Step};

/// The largest item of these caches, in bytes as memcached counts them: no value is longer.
pub const ITEM_MAX: usize = 6000;

/// Turns in which everything must have settled: a hundred times what the longest inputs take.
const TURNS_MAX: u64 = 2_000_000;

/// Bytes of replies up to which they are compared with those to the same bytes in pieces, which leave one by one.
const COMPARED_MAX: usize = 40_000;

/// What a target speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "a fuzz target speaks one of them")]
pub enum Spoken {
    /// Lines, classic and meta.
    Lines,
    /// Packets.
    Packets,
}

/// One connection, when all is over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    sent: Vec<u8>,
    received: Vec<u8>,
    /// The connection died, or was closed for what it held up: its last reply may lack its end.
    torn: bool,
    /// Whole replies may be missing.
    lossy: bool,
}

/// Plays `input` and panics when a promise is broken: a reply that is none, replies out of order, replies that depend
/// on how the input was cut, a connection that never ends, anything held when all have ended.
pub fn drive(spoken: Spoken, input: &[u8]) {
    let Some(script) = Script::read(input) else { return };
    let config = config_of(spoken, &script);
    if script.mode != Mode::Settled {
        play(&config, &script, Pace::Seeded).iter().for_each(|transcript| check(spoken, &config, transcript));
        return;
    }
    let whole = play(&config, &script, Pace::Even);
    whole.iter().for_each(|transcript| check(spoken, &config, transcript));
    let bytes: usize = whole.iter().map(|transcript| transcript.received.len()).sum();
    if bytes > COMPARED_MAX || whole.iter().any(|transcript| tells_of_the_pace(spoken, &transcript.received)) {
        return;
    }
    let pace = if script.seed == 0 { Pace::ByteByByte } else { Pace::Seeded };
    let cut = play(&config, &script, pace);
    assert_eq!(whole.len(), cut.len(), "{pace:?}: another number of connections");
    for (number, (whole, cut)) in whole.iter().zip(&cut).enumerate() {
        let same = whole.received.iter().zip(&cut.received).take_while(|(a, b)| a == b).count();
        let near = |bytes: &[u8]| bytes[same.saturating_sub(80)..bytes.len().min(same + 80)].escape_ascii().to_string();
        assert!(
            whole.received == cut.received,
            "connection {number}, {pace:?}: replies part at byte {same}\n whole: {}\n cut:   {}",
            near(&whole.received),
            near(&cut.received)
        );
    }
}

/// Whether replies count what depends on how bytes come: turns, times, lines lost.
fn tells_of_the_pace(spoken: Spoken, received: &[u8]) -> bool {
    let has = |what: &[u8]| received.windows(what.len()).any(|window| window == what);
    match spoken {
        Spoken::Lines => has(b"STAT ") || has(b" gid="),
        Spoken::Packets => has(b"rusage_") || has(b"sidestep") || has(b"conn_yields"),
    }
}

fn config_of(spoken: Spoken, script: &Script) -> CacheConfig {
    let mut config = CacheConfig { cores: script.cores, connections_per_core: 64, ..CacheConfig::default() };
    config.shard.item_size_max = ITEM_MAX as u32;
    // Items of more than a segment take a run of them.
    config.shard.segment_bytes = 4096;
    config.shard.memory_bytes = script.cores << 19;
    // Few slab classes, and a cache is made in half the time.
    (config.shard.slab_factor, config.shard.slab_chunk_max) = (2.0, 8192);
    config.shard.evict = script.evicts;
    (config.pending_per_core, config.pending_per_connection) = (128, 16);
    (config.landing_slots, config.slots_per_connection, config.landing_slot_bytes) = (32, 8, 512);
    (config.blocks_per_pair, config.uploads_per_owner) = (2, 8);
    config.watch_lines = 16;
    if script.mode == Mode::Scarce {
        config.shard.memory_bytes = script.cores << 17;
        (config.pending_per_core, config.pending_per_connection) = (6, 3);
        (config.landing_slots, config.slots_per_connection) = (2, 2);
        (config.blocks_per_pair, config.uploads_per_owner, config.requests_per_take) = (1, 1, 3);
        (config.copied_bytes_max, config.grace_secs) = (8000, 2);
    }
    // Name and password are said in lines: a server with users speaks nothing else.
    if script.asks_who && spoken == Spoken::Lines {
        config.users = vec![User { name: b"u".as_slice().into(), password: b"p".as_slice().into() }];
    }
    config.protocol = match spoken {
        Spoken::Lines => Protocol::Ascii,
        Spoken::Packets => Protocol::Binary,
    };
    let all = script.obeys_all;
    config.commands = Commands { flush: true, dump: true, watch: true, shutdown: all, debug: all, lru_crawler: true };
    config.detail = all;
    config
}

/// Plays the script to its end and beyond: all read, all have said what they will, all have closed.
fn play(config: &CacheConfig, script: &Script, pace: Pace) -> Vec<Transcript> {
    let mut stage =
        Stage { loopback: Loopback::new(config, pace, script.seed), slots: [None; SLOTS], cast: Vec::new() };
    let settled = script.mode == Mode::Settled;
    for step in &script.steps {
        match *step {
            Step::Say { slot, bytes } => stage.say(slot, bytes),
            Step::Pause => {}
            Step::Tick(secs) => stage.loopback.now.secs += secs,
            Step::Reads { slot, reads } if !settled => stage.with(slot, |stage, client| {
                stage.loopback.set_reads(client, reads);
            }),
            Step::Reads { .. } => {}
            Step::Die { slot } => stage.with(slot, |stage, client| {
                stage.cast[client.0].torn = !stage.loopback.is_closed(client);
                stage.loopback.close(client);
                stage.slots[slot] = None;
            }),
            Step::ShutDown { slot } => stage.with(slot, |stage, client| {
                stage.loopback.shut_down(client);
                stage.slots[slot] = None;
            }),
        }
        if settled || matches!(step, Step::Pause | Step::Tick(_)) {
            stage.loopback.run_within(TURNS_MAX);
        } else {
            for _ in 0..stage.loopback.below(8) {
                let core = stage.loopback.below(config.cores);
                stage.loopback.turn(core);
            }
        }
    }
    stage.end()
}

/// The cores, and who is connected in each slot.
struct Stage {
    loopback: Loopback,
    slots: [Option<Client>; SLOTS],
    /// By client.
    cast: Vec<Transcript>,
}

impl Stage {
    fn say(&mut self, slot: usize, bytes: &[u8]) {
        let live = self.slots[slot].filter(|&client| !self.loopback.is_closed(client));
        let client = live.unwrap_or_else(|| {
            let cores = self.loopback.cores.len();
            // Small rings fill and wrap; a reply of one byte at a time is what Pace::ByteByByte is for.
            let client = match self.loopback.pace() {
                Pace::Seeded => {
                    let (receive, transmit) = (self.loopback.below(3000), 16 + self.loopback.below(3000));
                    self.loopback.connect_with(slot % cores, sidestep_cache::WHOLE_MAX_BYTES + receive, transmit)
                }
                _ => self.loopback.connect(slot % cores),
            };
            self.cast.push(Transcript::default());
            client
        });
        self.slots[slot] = Some(client);
        self.cast[client.0].sent.extend_from_slice(bytes);
        self.loopback.send(client, bytes);
    }

    fn with(&mut self, slot: usize, act: impl FnOnce(&mut Stage, Client)) {
        if let Some(client) = self.slots[slot] {
            act(self, client);
        }
    }

    fn end(mut self) -> Vec<Transcript> {
        for client in (0..self.cast.len()).map(Client) {
            self.loopback.set_reads(client, true);
        }
        self.loopback.run_within(TURNS_MAX);
        for client in (0..self.cast.len()).map(Client) {
            self.loopback.shut_down(client);
        }
        self.loopback.run_within(TURNS_MAX);
        for client in (0..self.cast.len()).map(Client) {
            let unread = self.loopback.unread(client);
            assert!(
                self.loopback.is_closed(client),
                "connection {} never ends, {unread} bytes unread: {:?}",
                client.0,
                self.loopback.census()
            );
        }
        self.loopback.close_all();
        self.loopback.assert_nothing_held();
        for (number, transcript) in self.cast.iter_mut().enumerate() {
            transcript.received = self.loopback.take_received(Client(number));
            transcript.torn |= self.loopback.overdue(Client(number)).is_some();
        }
        self.cast
    }
}

fn check(spoken: Spoken, config: &CacheConfig, transcript: &Transcript) {
    let told = match spoken {
        Spoken::Lines => lines::check(transcript),
        Spoken::Packets => packets::check(transcript),
    };
    if let Err((at, why)) = told {
        let near = &transcript.received[at.saturating_sub(100)..transcript.received.len().min(at + 100)];
        panic!("{why}, at byte {at} of the replies, {} cores: {}", config.cores, near.escape_ascii());
    }
}
