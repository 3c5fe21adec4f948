//! Every core on a thread of its own: nothing is shared but queues and counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sidestep_cache::{CacheConfig, ConnId, Core, Now, Session};

use crate::script::Script;

const NOW: Now = Now { secs: 100, unix_epoch: 1_700_000_000 };
const CLIENTS: usize = 8;

/// Runs a core with some clients until every client of every core has its replies.
fn worker(mut core: Core, cores: usize, finished: &AtomicUsize) {
    let mut clients: Vec<(Session, Script, usize, Vec<u8>)> = (0..CLIENTS)
        .map(|client| {
            let name = format!("t{}c{client}:", core.id());
            let mut script = Script::new((core.id() * 100 + client) as u64, &name, 40, 20_000);
            script.extend(300);
            (Session::new(ConnId(client as u32)), script, 0, Vec::new())
        })
        .collect();
    let mut out = vec![0; 8192];
    let mut done = [false; CLIENTS];
    while finished.load(Ordering::Acquire) < cores * CLIENTS || core.has_work() {
        core.collect(NOW);
        while core.next_resumable().is_some() {}
        for (client, (session, script, taken, received)) in clients.iter_mut().enumerate() {
            let end = script.sent.len().min(*taken + 8000);
            let room = if client % 2 == 0 { 4096 } else { 0 };
            let at_once = session.take(&mut core, &script.sent[*taken..end], &mut out[..room], NOW);
            *taken += at_once.consumed;
            received.extend_from_slice(&out[..at_once.written]);
            let given = session.give(&mut core, &mut out).written;
            received.extend_from_slice(&out[..given]);
            if *taken == script.sent.len() && session.pending() == 0 && !done[client] {
                done[client] = true;
                finished.fetch_add(1, Ordering::Release);
            }
        }
        let _ = core.post();
        if done.iter().all(|&done| done) {
            std::thread::yield_now();
        }
    }
    for (session, script, _, received) in clients {
        assert!(received == script.expected, "core {}, {:?}", core.id(), session.conn());
        session.end(&mut core);
    }
    let census = core.census();
    assert_eq!((census.entries, census.landing_slots, census.streams, census.incoming, census.debts), (0, 0, 0, 0, 0));
}

#[test]
fn cores_on_threads_answer_everything() {
    let mut config = CacheConfig { cores: 3, blocks_per_pair: 4, ..CacheConfig::default() };
    config.shard.item_size_max = 64 << 10;
    let finished = Arc::new(AtomicUsize::new(0));
    let cores = Core::mesh(&config, [1; 16]).expect("a cache");
    let shared = cores[0].shared().clone();
    let threads: Vec<_> = cores
        .into_iter()
        .map(|core| {
            let finished = finished.clone();
            std::thread::spawn(move || worker(core, 3, &finished))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a worker that does not panic");
    }
    assert!(shared.counters.sum(|core| &core.cross_core_requests) > 2000);
}
