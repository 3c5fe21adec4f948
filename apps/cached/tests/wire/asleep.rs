//! Servers whose every flow and session is laid to rest after every turn in which it may be: nothing is lost, doubled or
//! late, whatever was under way.
//!
//! Each run prints its seed; `SIDESTEP_SEED=n cargo test -p sidestep-cached --test wire asleep` repeats it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use nic::{Corrupt, Faults, Reorder};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use stack::{DropReason, Time};

use crate::rig::{self, Rig, Shape, shown};
use crate::script::{Script, store_shared};

const CLIENTS: u16 = 40;
const BATCHES: usize = 30;

/// How the clients' time passes.
const STEP: Duration = Duration::from_millis(1);

/// Where in its requests a client is, when it has said so much of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two requests, of which the one before wanted a reply.
    Between,
    /// The same, and it wanted none.
    AfterNoreply,
    /// Within a line.
    Line,
    /// Within the data of an item.
    Upload,
}

const PLACES: [Place; 4] = [Place::Between, Place::AfterNoreply, Place::Line, Place::Upload];

/// Where who has said the first `said` bytes of `ask` is.
fn place(ask: &[u8], said: usize) -> Place {
    let (mut at, mut before) = (0, Place::Between);
    while at < said {
        let line = ask[at..].iter().position(|&byte| byte == b'\n').map_or(ask.len(), |end| at + end + 1);
        if said < line {
            return Place::Line;
        }
        let text = String::from_utf8_lossy(&ask[at..line]);
        let words: Vec<_> = text.split_whitespace().collect();
        let data = match words[..] {
            ["set" | "add" | "append", _, _, _, bytes, ..] => bytes.parse::<usize>().expect("a length") + 2,
            _ => 0,
        };
        if said < line + data {
            return if said == line { Place::Line } else { Place::Upload };
        }
        before = if words.last() == Some(&"noreply") { Place::AfterNoreply } else { Place::Between };
        at = line + data;
    }
    before
}

/// A client that says its requests in pieces, with pauses, and takes the answers when it likes.
struct Talk {
    port: u16,
    script: Script,
    rng: Xoshiro256PlusPlus,
    /// Its requests, and how much of them it has said.
    ask: Vec<u8>,
    said: usize,
    /// What it has yet to say of them, and when it says the next piece.
    pieces: VecDeque<Vec<u8>>,
    next_at: Time,
    answer: Vec<u8>,
    /// When it takes answers again, if it does not.
    deaf_until: Option<Time>,
    /// Batches asked, and when each was answered.
    asked: usize,
    answered: Vec<Time>,
    end: End,
    over: bool,
}

/// How a client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It says so behind its last requests.
    AtOnce,
    /// When it has all answers.
    Later,
    /// The server closes.
    Quits,
}

impl Talk {
    fn new(rig: &mut Rig, number: u16, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ u64::from(number) << 32);
        Self {
            port: rig.connect(),
            script: Script::new(number, seed),
            rng,
            ask: Vec::new(),
            said: 0,
            pieces: VecDeque::new(),
            next_at: Time::ZERO,
            answer: Vec::new(),
            deaf_until: None,
            asked: 0,
            answered: Vec::new(),
            end: [End::AtOnce, End::Later, End::Quits][usize::from(number % 3)],
            over: false,
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32() % limit
    }

    /// A pause: none, one that a delayed ACK outlasts, or one in which the server asks whether the client is there.
    fn pause(&mut self) -> Duration {
        let most = [0, 2, 30, 300, 3_000][[0, 0, 0, 1, 1, 2, 2, 2, 3, 4][self.below(10) as usize]];
        Duration::from_millis(u64::from(self.below(most + 1)))
    }

    /// Cuts the next requests in pieces, wherever that may be.
    fn think(&mut self, now: Time) {
        let (ask, answer) = self.script.batch();
        self.answer = answer;
        self.asked += 1;
        let mut rest = &ask[..];
        while !rest.is_empty() {
            let most = [3, 40, 2_000, 100_000][self.below(4) as usize];
            let piece = rest.len().min(1 + self.below(most) as usize);
            self.pieces.push_back(rest[..piece].to_vec());
            rest = &rest[piece..];
        }
        (self.ask, self.said) = (ask, 0);
        self.next_at = now.after(self.pause());
    }

    /// Says what is due.
    fn advance(&mut self, rig: &mut Rig) {
        let now = rig.now();
        if self.deaf_until.is_some_and(|until| now >= until) {
            self.deaf_until = None;
            rig.client(self.port).reads = true;
        }
        if self.over || now < self.next_at {
            return;
        }
        let Some(piece) = self.pieces.pop_front() else { return self.take(rig, now) };
        self.said += piece.len();
        self.next_at = now.after(self.pause());
        let (last, deaf) = (self.pieces.is_empty(), self.below(4) == 0);
        let until = now.after(self.pause());
        let client = rig.client(self.port);
        client.send(&piece);
        if last && deaf {
            client.reads = false;
            self.deaf_until = Some(until);
        }
        if last && self.asked == BATCHES && self.end == End::AtOnce {
            client.close();
        }
    }

    /// Checks what has come; asks more once all of it has.
    fn take(&mut self, rig: &mut Rig, now: Time) {
        let Some(client) = rig.clients.get_mut(&self.port) else { panic!("it was opened") };
        if client.received.len() < self.answer.len() {
            return;
        }
        let received = std::mem::take(&mut client.received);
        assert!(received == self.answer, "port {}: {} is not {}", self.port, shown(&received), shown(&self.answer));
        if self.asked > 0 {
            self.answered.push(now);
        }
        if self.asked < BATCHES {
            return self.think(now);
        }
        self.over = true;
        let client = rig.client(self.port);
        match self.end {
            End::AtOnce => {}
            End::Later => client.close(),
            End::Quits => {
                client.send(b"quit\r\n");
                client.follows = true;
            }
        }
    }
}

fn shape(seed: u64, faults: Faults, drowsy: bool) -> Shape {
    Shape {
        max_flows: 64,
        // There always is a block for one that wakes.
        awake_flows: if drowsy { 63 } else { usize::MAX },
        // No client is given up: none is silent for three times as long.
        keep_alive: Some(Duration::from_millis(1_500)),
        faults,
        seed,
        drowsy,
        ..Shape::default()
    }
}

/// Adds for each client whether its flow sleeps, by the place in its requests: how often it was told to, and does.
fn count_sleepers(rig: &Rig, talks: &[Talk], told: &mut [[u64; 2]; PLACES.len()]) {
    let mut asleep = BTreeMap::new();
    for worker in &rig.workers {
        let flows = (0..worker.poll.stack().config().max_flows).filter_map(|index| worker.poll.stack().open_at(index));
        asleep.extend(
            flows.filter_map(|id| Some((worker.poll.stack().look(id)?.peer.port(), worker.poll.stack().is_asleep(id)))),
        );
    }
    for talk in talks {
        let Some(&asleep) = asleep.get(&talk.port) else { continue };
        let at = PLACES.iter().position(|&at| at == place(&talk.ask, talk.said)).expect("all are there");
        told[at][usize::from(asleep)] += 1;
    }
}

/// Runs all clients to their end. Returns when each of their batches was answered.
fn run(seed: u64, faults: Faults, drowsy: bool) -> Vec<Vec<Time>> {
    let lossy = faults.loss > 0.0;
    let mut rig = Rig::new(shape(seed, faults, drowsy));
    let first = rig.connect();
    rig.client(first).send(&store_shared());
    rig.client(first).send(b"mn\r\n");
    rig.run_until(Duration::from_secs(60), |rig| rig.client(first).received == b"MN\r\n");
    let mut talks: Vec<_> = (0..CLIENTS).map(|number| Talk::new(&mut rig, number, seed)).collect();
    let mut told = [[0; 2]; PLACES.len()];
    while talks.iter().any(|talk| !talk.over) {
        assert!(rig.now() < Time::from_millis(1_200_000), "{}", rig.what_is_left());
        talks.iter_mut().for_each(|talk| talk.advance(&mut rig));
        rig.run_for(STEP);
        count_sleepers(&rig, &talks, &mut told);
    }
    for (at, [awake, asleep]) in PLACES.iter().zip(told) {
        println!("told to sleep {at:?}: {} times, {asleep} do", awake + asleep);
        // What is said of a line waits in the ring until the rest has come: so does the flow.
        assert!(!drowsy || if *at == Place::Line { awake > 0 } else { asleep > 0 }, "never told to sleep {at:?}");
    }
    rig.client(first).close();
    let is_over = |rig: &mut Rig, talk: &Talk| rig.clients.get_mut(&talk.port).is_some_and(|client| client.is_over());
    rig.run_until(Duration::from_secs(60), |rig| talks.iter().all(|talk| is_over(rig, talk)));
    for talk in &talks {
        assert_eq!(rig.client(talk.port).received, b"", "nothing comes that was not asked for");
    }
    let (mut asleep, mut woken) = (0, 0);
    for worker in &rig.workers {
        let stats = worker.poll.stack().stats();
        let harm = (stats.resets, stats.timed_out, stats.aborted, stats.contained, stats.gave_way, stats.rings_failed);
        assert_eq!(harm, (0, 0, 0, 0, 0, 0), "{stats:?}");
        assert_eq!((stats.drops.of(DropReason::NoFreeFlow), stats.blocks_beyond), (0, 0), "{stats:?}");
        (asleep, woken) = (asleep + stats.fell_asleep, woken + stats.woke);
    }
    println!("fell asleep {asleep} times, woken {woken} times, at most {} of a core asleep", rig.most_asleep);
    let least = if drowsy { u64::from(CLIENTS) * BATCHES as u64 } else { 0 };
    assert!(woken >= least && asleep >= woken, "{asleep} {woken}");
    assert!(rig.most_asleep > if drowsy { usize::from(CLIENTS) / 8 } else { 0 } || !drowsy);
    assert!(!lossy || rig.wire.counts(0).lost > 100);
    rig.finish();
    talks.into_iter().map(|talk| talk.answered).collect()
}

fn quiet() -> Faults {
    Faults { delay: Duration::from_micros(50), ..Faults::default() }
}

/// The same requests at the same times, to servers whose connections never sleep and to those whose connections do
/// whenever they may.
#[test]
fn who_is_laid_to_rest_at_every_moment_is_answered_with_the_same_bytes_at_the_same_time() {
    for seed in [rig::seed(13), rig::seed(14)] {
        let (awake, asleep) = (run(seed, quiet(), false), run(seed, quiet(), true));
        for (client, (awake, asleep)) in awake.iter().zip(&asleep).enumerate() {
            assert_eq!(awake, asleep, "client {client}");
        }
    }
}

/// What is lost is sent again, whoever sleeps meanwhile, in either direction.
#[test]
fn who_is_laid_to_rest_at_every_moment_loses_nothing_behind_a_bad_cable() {
    let hold = Duration::from_millis(2);
    let faults = Faults {
        loss: 0.05,
        duplicate: 0.02,
        reorder: Some(Reorder { probability: 0.05, depth: 4, hold }),
        corrupt: Some(Corrupt { probability: 0.01, bits: 15 }),
        jitter: Duration::from_micros(50),
        ..quiet()
    };
    run(rig::seed(15), faults, true);
}

/// A watcher says nothing for as long as it watches, so that its connection and its session rest between any two lines.
#[test]
fn a_watcher_that_sleeps_is_told_each_line_once() {
    let seed = rig::seed(16);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut rig = Rig::new(shape(seed, quiet(), true));
    let (watcher, client) = (rig.connect(), rig.connect());
    rig.ask(watcher, b"watch mutations\r\n", b"OK\r\n");
    for number in 0..60 {
        rig.ask(client, format!("set w-{number} 0 0 1\r\nx\r\n").as_bytes(), b"STORED\r\n");
        rig.run_for(Duration::from_millis(u64::from(rng.next_u32() % 900)));
    }
    rig.run_for(Duration::from_secs(2));
    let lines = String::from_utf8(std::mem::take(&mut rig.client(watcher).received)).expect("text");
    let told: Vec<_> =
        lines.lines().filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("key="))).collect();
    let stored: Vec<_> = (0..60).map(|number| format!("w-{number}")).collect();
    assert_eq!(told, stored, "{lines}");
    let woken: u64 = rig.workers.iter().map(|worker| worker.poll.stack().stats().woke).sum();
    assert!(woken >= 60, "{woken}");
    rig.finish();
}
