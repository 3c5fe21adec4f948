//! What `stats sidestep` shows: every name has its sentence in docs/metrics.md, and a loss is seen while the server runs.

use std::collections::BTreeMap;
use std::time::Duration;

use sidestep_cached::Losses;

use crate::rig::{Rig, Shape, raw};

/// Where the checksum of TCP lies in a frame without options.
const TCP_CHECKSUM: usize = 14 + 20 + 16;

/// `stats sidestep`, in its order.
fn stats(rig: &mut Rig, port: u16) -> Vec<(String, u64)> {
    rig.client(port).send(b"stats sidestep\r\n");
    rig.run_until(Duration::from_secs(10), |rig| rig.client(port).received.ends_with(b"END\r\n"));
    let text = String::from_utf8(std::mem::take(&mut rig.client(port).received)).expect("text");
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Names of single cores and queues are written with an N for the number.
fn without_number(name: &str) -> String {
    for kind in ["core", "queue"] {
        let rest = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':'));
        if let Some((_, what)) = rest.and_then(|rest| rest.split_once(':')) {
            return format!("{kind}:N:{what}");
        }
    }
    name.to_owned()
}

/// The rows of the document: name and sentence.
fn documented() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md is there");
    let row = |line: &str| {
        let (name, sentence) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((name.to_owned(), sentence.strip_suffix(" |")?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn every_name_of_stats_sidestep_is_in_the_document_and_none_besides() {
    let mut rig = Rig::new(Shape::default());
    let port = rig.connect();
    let shown: Vec<String> = stats(&mut rig, port).into_iter().map(|(name, _)| without_number(&name)).collect();
    assert!(shown.len() > 50, "{shown:?}");
    let documented = documented();
    let missing: Vec<_> = shown.iter().filter(|name| !documented.contains_key(*name)).collect();
    let gone: Vec<_> = documented.keys().filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty() && gone.is_empty(), "docs/metrics.md lacks {missing:?}, and has {gone:?} too many");
    assert!(documented.values().all(|sentence| sentence.ends_with('.')), "a sentence a name: {documented:?}");
}

#[test]
fn the_document_says_of_each_loss_what_the_code_says() {
    let documented = documented();
    let wrong: Vec<_> = Losses::new(1)
        .reasons()
        .iter()
        .filter(|reason| documented.get(&reason.name).is_none_or(|sentence| sentence != reason.moves))
        .map(|reason| format!("\n| `{}` | {} |", reason.name, reason.moves))
        .collect();
    assert!(wrong.is_empty(), "docs/metrics.md should have:{}", wrong.concat());
}

#[test]
fn a_drop_is_seen_by_its_reason_while_the_server_runs_whichever_core_had_it() {
    let mut rig = Rig::new(Shape::default());
    let port = rig.connect();
    let of = |stats: &[(String, u64)], wanted: &str| {
        stats.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value).expect("it is shown")
    };
    assert_eq!(of(&stats(&mut rig, port), "dropped_tcp_checksum"), 0);
    // From many ports, so that both queues get some.
    for source in 0..40 {
        let mut frame = raw::Tcp::new(30_000 + source, raw::SYN, 1, 0).frame();
        frame[TCP_CHECKSUM] ^= 1;
        rig.send_frame(&frame);
    }
    // A core copies its counts four times a second, in a turn: here those that the question makes.
    rig.run_for(Duration::from_secs(1));
    stats(&mut rig, port);
    assert_eq!(of(&stats(&mut rig, port), "dropped_tcp_checksum"), 40);
    let per_core: Vec<u64> = rig.workers.iter().map(|core| core.poll.stack().stats().drops.total()).collect();
    assert!(per_core.iter().all(|&drops| drops > 0), "each core had some: {per_core:?}");
}

#[test]
fn connections_are_counted_by_queue_where_the_hash_of_the_wire_predicts_them() {
    for (queues, cores) in [(2, 2), (5, 2)] {
        let mut rig = Rig::new(Shape { queues, cores, ..Shape::default() });
        let ports: Vec<u16> = (0..64).map(|_| rig.connect()).collect();
        rig.run_for(Duration::from_secs(1));
        let shown = stats(&mut rig, ports[0]);
        let sum = |what: &str| {
            let of_queue = |name: &str| name.starts_with("queue:") && name.ends_with(what);
            let counts: Vec<u64> = shown.iter().filter(|(name, _)| of_queue(name)).map(|(_, count)| *count).collect();
            assert_eq!(counts.len(), usize::from(queues), "{shown:?}");
            assert!(counts.iter().all(|count| *count > 0), "each queue had some: {shown:?}");
            counts.iter().sum::<u64>()
        };
        assert_eq!((sum(":connections"), sum(":as_predicted")), (64, 64));
    }
}
