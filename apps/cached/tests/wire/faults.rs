//! Whole servers behind a bad cable: every reply is right, and in the end nothing is left but items.
//!
//! Each run prints its seed; `SIDESTEP_SEED=n cargo test -p sidestep-cached --test wire faults` repeats it.

use std::time::Duration;

use nic::{Corrupt, Faults, Reorder};

use crate::rig::{self, Rig, Shape, shown};
use crate::script::{SHARED_KEYS, Script, store_shared};

/// The faults that issue 2 names: 5 % loss, 5 % reordered, 2 % twice, 1 % corrupted by at most 15 bits.
fn faults() -> Faults {
    let hold = Duration::from_millis(2);
    Faults {
        loss: 0.05,
        duplicate: 0.02,
        reorder: Some(Reorder { probability: 0.05, depth: 4, hold }),
        corrupt: Some(Corrupt { probability: 0.01, bits: 15 }),
        delay: Duration::from_micros(50),
        jitter: Duration::from_micros(50),
        ..Faults::default()
    }
}

/// Where one client is.
struct Talk {
    port: u16,
    script: Script,
    answer: Vec<u8>,
    /// It has asked all it wanted, and said how it ends.
    done: bool,
    quits: bool,
}

/// What a run was: its digest, and the numbers by which it is shown not to be empty.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    digest: u64,
    frames: u64,
    requests: u64,
    virtual_time: Duration,
}

/// Both directions had every fault, and no server took harm.
fn assert_only_the_faults_asked_for(rig: &Rig) {
    for port in 0..2 {
        let counts = rig.wire.counts(port);
        println!("to port {port}: {counts:?}");
        assert!(counts.lost > 0 && counts.duplicated > 0 && counts.reordered > 0 && counts.corrupted > 0);
        // A thousand SYNs at once find a receive ring of 512 frames; else only the faults asked for.
        assert_eq!(counts.overflowed, 0);
        assert!(counts.rx_dropped < 1_000);
    }
    for worker in &rig.workers {
        let (stats, counters) = (worker.poll.stack().stats(), worker.cache.counters());
        assert_eq!((stats.resets, stats.timed_out, stats.aborted, stats.contained), (0, 0, 0, 0), "{stats:?}");
        assert!(stats.time_waits > 0, "{stats:?}");
        assert_eq!((counters.slow_readers_closed.value(), counters.uploads_dropped.value()), (0, 0));
    }
}

/// `clients` connections, at least `requests` requests each.
fn run(seed: u64, clients: u16, requests: u64, cores: usize) -> Outcome {
    let shape = Shape {
        queues: cores as u16,
        cores,
        max_flows: usize::from(clients) + 64,
        memory_bytes: 256 << 20,
        faults: faults(),
        seed,
        ..Shape::default()
    };
    let mut rig = Rig::new(shape);
    let first = rig.connect();
    let ready = b"VERSION ";
    rig.client(first).send(&store_shared());
    rig.client(first).send(b"version\r\n");
    rig.run_until(Duration::from_secs(600), |rig| rig.client(first).received.len() > ready.len());
    assert!(rig.client(first).received.starts_with(ready), "{}", shown(&rig.client(first).received));

    let mut talks: Vec<_> = (0..clients)
        .map(|number| {
            let port = rig.connect();
            let script = Script::new(number, seed);
            Talk { port, script, answer: Vec::new(), done: false, quits: number % 4 == 0 }
        })
        .collect();
    rig.run_until(Duration::from_secs(3_600), |rig| {
        let mut open = 0;
        for talk in talks.iter_mut().filter(|talk| !talk.done) {
            open += 1;
            advance(rig, talk, requests);
        }
        open == 0
    });
    // Those who quit are closed by the server first.
    let is_over = |rig: &mut Rig, talk: &Talk| rig.clients.get_mut(&talk.port).is_some_and(|client| client.is_over());
    rig.run_until(Duration::from_secs(600), |rig| talks.iter().all(|talk| is_over(rig, talk)));
    for talk in &talks {
        assert_eq!(rig.client(talk.port).received, b"", "nothing comes that was not asked for");
    }
    let served: u64 = talks.iter().map(|talk| talk.script.requests).sum();
    let items = talks.iter().map(|talk| talk.script.items()).sum::<usize>() + SHARED_KEYS as usize;
    let outcome = |rig: &Rig| Outcome {
        digest: rig.digest(),
        frames: rig.frames,
        requests: served,
        virtual_time: rig.wire.clock().now(),
    };
    let outcome = outcome(&rig);
    assert_only_the_faults_asked_for(&rig);
    let crossed: u64 = rig.workers.iter().map(|worker| worker.cache.counters().cross_core_requests.value()).sum();
    assert!(cores == 1 || crossed > 0);
    let left = rig.finish();
    assert_eq!(left.iter().map(|core| core.shard.items).sum::<usize>(), items);
    println!("{outcome:?}, crossed {crossed}");
    outcome
}

/// Checks what has come for a client; asks more once all of it has.
fn advance(rig: &mut Rig, talk: &mut Talk, requests: u64) {
    let Some(client) = rig.clients.get_mut(&talk.port) else { panic!("it was opened") };
    if client.received.len() < talk.answer.len() {
        assert!(!client.is_over(), "port {} has lost its connection: {}", talk.port, client.status());
        return;
    }
    let received = std::mem::take(&mut client.received);
    assert!(received == talk.answer, "port {}: {} is not {}", talk.port, shown(&received), shown(&talk.answer));
    if talk.script.requests < requests {
        let (ask, answer) = talk.script.batch();
        talk.answer = answer;
        return rig.client(talk.port).send(&ask);
    }
    talk.done = true;
    let client = rig.client(talk.port);
    if talk.quits {
        client.send(b"quit\r\n");
        client.follows = true;
    } else {
        client.close();
    }
}

#[test]
fn a_thousand_connections_behind_a_bad_cable_get_every_reply_right_and_leave_nothing() {
    let outcome = run(rig::seed(20_260), 1_000, 100, 2);
    assert!(outcome.requests >= 100_000, "{outcome:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let seed = rig::seed(7);
    let first = run(seed, 40, 60, 3);
    assert_eq!(first, run(seed, 40, 60, 3));
    assert_ne!(first.digest, run(seed + 1, 40, 60, 3).digest);
}
