//! What crashed, hung or leaked a memcached in 2025 and 2026 (`cache/tests/crashes.md`), on the wire and on the command line.
//!
//! `cache/tests/sessions/crashes.rs` plays it to a cache without a network, where it is judged; here whole servers must bear it, with
//! clients that stop reading, leave, or are cut off, and give back all that they held.

#[path = "../../../../cache/tests/support/crashes.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod list;

use std::collections::BTreeMap;
use std::time::Duration;

use list::{Crash, Started, Step, listed};
use sidestep_cached::Options;

use crate::rig::{self, Rig, Shape};

const LIST: &str = include_str!("../../../../cache/tests/crashes.md");

/// The longest input that is played on the wire.
const BYTES_MAX: usize = 4 << 20;

/// Bytes that a client sends at one moment.
const PIECE_BYTES: usize = 32 << 10;

/// Seconds of virtual time in which a client has received what it should.
const PATIENCE_SECS: u32 = 60;

/// Plays `crash` to a server on the wire; returns what did not hold.
fn play(crash: &Crash, shape: Shape) -> Vec<String> {
    let mut rig = Rig::new(shape);
    let mut ports: BTreeMap<&str, u16> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (line, step) in &crash.steps {
        let Some(name) = step.client() else {
            if let Step::Wait(seconds) = step {
                rig.run_for(Duration::from_secs(u64::from(*seconds)));
            }
            continue;
        };
        let port = *ports.entry(name).or_insert_with(|| rig.connect());
        match step {
            Step::Send(_, bytes) => {
                // As over a link: what the rig calls a moment takes no more work than there is in so much.
                for piece in bytes.chunks(PIECE_BYTES) {
                    rig.client(port).send(piece);
                    rig.run_for(Duration::from_millis(10));
                }
            }
            Step::Reads(_, reads) => rig.client(port).reads = *reads,
            Step::Leaves(_) => rig.client(port).abort(),
            step => {
                let holds = |rig: &mut Rig| match step {
                    Step::Closed(_) => {
                        let client = rig.client(port);
                        if client.peer_closed() || client.is_over() { Ok(()) } else { Err("it is open".to_owned()) }
                    }
                    step => step.judge(&rig.client(port).received).unwrap_or(Ok(())),
                };
                let mut waited = 0;
                while holds(&mut rig).is_err() && waited < PATIENCE_SECS {
                    rig.run_for(Duration::from_secs(1));
                    waited += 1;
                }
                wrong.extend(holds(&mut rig).err().map(|what| format!("line {line}: {what}")));
                rig.client(port).received.clear();
            }
        }
        rig.run_for(Duration::from_millis(100));
    }
    let port = rig.connect();
    rig.ask(port, b"set after 0 0 1\r\nx\r\nget after\r\n", b"STORED\r\nVALUE after 0 1\r\nx\r\nEND\r\n");
    rig.finish();
    wrong
}

#[test]
fn a_server_on_the_wire_bears_each_input_and_gives_everything_back() {
    let (mut count, mut wrong) = (0, String::new());
    for crash in listed(LIST) {
        let playable = crash.started == Started::Plain && crash.bytes_sent() <= BYTES_MAX;
        if crash.steps.is_empty() || !playable {
            continue;
        }
        count += 1;
        for (queues, cores) in [(2, 2), (1, 2)] {
            let shape = Shape { queues, cores, seed: rig::seed(20_252_026), ..Shape::default() };
            for line in play(&crash, shape) {
                wrong += &format!("{} ({}), {queues} queues: {line}\n", crash.name, crash.commit);
            }
        }
    }
    println!("{count} entries played on the wire");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 25, "only {count} entries were played");
}

#[test]
fn each_command_line_is_taken_or_refused_with_a_reason() {
    // The file of -Y, of which only the owner may read.
    let file = std::env::temp_dir().join(format!("sidestep-crashes-{}", std::process::id()));
    std::fs::write(&file, "foo:bar\n").expect("a temporary file");
    let mut count = 0;
    for crash in listed(LIST) {
        for (options, taken) in &crash.options {
            count += 1;
            let options = options.replace("FILE", &file.display().to_string());
            let words = ["sidestep-cached", "--interface", "if0", "--address", "10.0.0.2/24"];
            match Options::read(words.into_iter().chain(options.split_whitespace())) {
                Ok(_) => assert!(*taken, "{}: {options} is taken", crash.name),
                Err(refusal) => assert!(!*taken, "{}: {options} is refused: {refusal:?}", crash.name),
            }
        }
    }
    let _ = std::fs::remove_file(&file);
    assert!(count >= 10, "only {count} command lines");
}
