//! Runs everything that is asked for, and writes the run folder: README with the tables, raw JSON, and plots.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use compare::machine::Machine;
use compare::output::dated_folder;
use compare::plot::chart::{Axis, Chart, Mark};
use compare::plot::{NULL, OURS, PEER};
use serde::Serialize;

use crate::args::RunArgs;
use crate::measure::{self, Failure, Held, Misses};
use crate::peer;

/// Key and value bytes of the items held.
const HELD_SIZES: [(u32, u32); 2] = [(36, 224), (20, 40)];

#[derive(Serialize)]
struct Raw<'a> {
    machine: &'a Machine,
    peer: &'static str,
    seed: u64,
    memory_mib: u64,
    threads: usize,
    requests: u64,
    misses: &'a [Misses],
    held: &'a [Held],
}

/// Does what `args` ask. Progress goes to standard error, the tables to standard output. Returns the run folder.
///
/// # Errors
/// When a side or a reference cannot be run, or the folder not be written.
pub fn run(args: &RunArgs) -> Result<PathBuf, Failure> {
    let machine = Machine::bare();
    let mut held = Vec::new();
    for &memory_mib in &args.hold_mib {
        for (key_bytes, value_bytes) in HELD_SIZES {
            eprintln!("items held: {key_bytes} B keys, {value_bytes} B values, -m {memory_mib}");
            held.push(measure::held(args, memory_mib, key_bytes, value_bytes)?);
        }
    }
    let mut misses = Vec::new();
    for name in &args.profiles {
        eprintln!("miss ratio: {name}, -m {}", args.memory_mib);
        misses.push(measure::misses(args, name)?);
    }
    let tables = format!("{}\n{}", held_table(&held), miss_table(args, &misses));
    print!("{tables}");

    let path = dated_folder(&args.out, &machine.date, &args.name)?;
    let raw = Raw {
        machine: &machine,
        peer: peer::VERSION,
        seed: args.seed,
        memory_mib: args.memory_mib,
        threads: args.threads,
        requests: args.requests,
        misses: &misses,
        held: &held,
    };
    fs::write(path.join("raw.json"), serde_json::to_string_pretty(&raw)? + "\n")?;
    fs::write(path.join("miss-ratio.svg"), miss_plot(args, &misses).draw()?)?;
    fs::write(path.join("items-held.svg"), held_plot(&held).draw()?)?;
    fs::write(path.join("README.md"), readme(args, &machine, &tables))?;
    Ok(path)
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn ratio(held: &Held) -> f64 {
    held.ours.items as f64 / held.peer.items.max(1) as f64
}

fn held_table(held: &[Held]) -> String {
    let mut out = "| key + value | memcached -m | resident MiB: memcached | ours | items: memcached | ours | ours / \
                   memcached |\n|---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for row in held {
        // Writing to a string cannot fail; here and below.
        let _ = writeln!(
            out,
            "| {} B + {} B | {} | {} | {} | {} | {} | {:.3} |",
            row.key_bytes,
            row.value_bytes,
            row.memory_mib,
            mib(row.peer.resident_bytes),
            mib(row.ours.resident_bytes),
            row.peer.items,
            row.ours.items,
            ratio(row)
        );
    }
    out
}

fn miss_table(args: &RunArgs, misses: &[Misses]) -> String {
    let policies: Vec<&String> = misses.first().map_or_else(Vec::new, |row| row.references.keys().collect());
    let mut out =
        "| stream | resident MiB: memcached | ours | items: memcached | ours | miss ratio: memcached | ours | \
                   ours / memcached |"
            .to_owned();
    policies.iter().for_each(|policy| {
        let _ = write!(out, " {policy} |");
    });
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(7 + policies.len()));
    for row in misses {
        let _ = write!(
            out,
            "| {} | {} | {} | {} | {} | {:.4} | {:.4} | {:.3} |",
            row.profile.name,
            mib(row.peer.resident_bytes),
            mib(row.ours.resident_bytes),
            row.peer.items,
            row.ours.items,
            row.peer.miss_ratio(),
            row.ours.miss_ratio(),
            row.ours.miss_ratio() / row.peer.miss_ratio().max(f64::MIN_POSITIVE)
        );
        row.references.values().for_each(|reference| {
            let _ = write!(out, " {reference:.4} |");
        });
        out.push('\n');
    }
    let _ = writeln!(out, "\nmemcached `-m {} -t {}`, {} shards of ours.", args.memory_mib, args.threads, args.threads);
    out
}

fn miss_plot(args: &RunArgs, misses: &[Misses]) -> Chart {
    let of_peer = |row: &Misses, ratio: f64| ratio / row.peer.miss_ratio().max(f64::MIN_POSITIVE);
    let mut marks = vec![Mark::Level { y: 1.0, color: PEER, width: 2 }];
    let mut all = vec![1.0];
    for (x, row) in misses.iter().enumerate() {
        let x = x as f64;
        for &reference in row.references.values() {
            all.push(of_peer(row, reference));
            marks.push(Mark::Cross { x, y: of_peer(row, reference), color: NULL });
        }
        all.push(of_peer(row, row.ours.miss_ratio()));
        marks.push(Mark::Dot { x, y: of_peer(row, row.ours.miss_ratio()), color: OURS });
    }
    let references: Vec<&str> =
        misses.first().map_or_else(Vec::new, |row| row.references.keys().map(String::as_str).collect());
    Chart {
        title: format!("Miss ratio at equal resident memory, memcached -m {}", args.memory_mib),
        subtitle: "misses / memcached's misses; lower is better".into(),
        legend: vec![
            ("sidestep".into(), OURS),
            (peer::VERSION.into(), PEER),
            (format!("libcachesim: {}", references.join(", ")), NULL),
        ],
        x: Axis::places("stream", misses.iter().map(|row| row.profile.name.to_owned())),
        y: Axis::linear("miss ratio / memcached's", all.into_iter()),
        marks,
    }
}

fn held_plot(held: &[Held]) -> Chart {
    let name = |row: &Held| format!("{}+{} B, -m {}", row.key_bytes, row.value_bytes, row.memory_mib);
    let mut marks = vec![Mark::Level { y: 1.0, color: PEER, width: 2 }];
    marks.extend(held.iter().enumerate().map(|(x, row)| Mark::Dot { x: x as f64, y: ratio(row), color: OURS }));
    Chart {
        title: "Items held at equal resident memory".into(),
        subtitle: "items / memcached's items; higher is better".into(),
        legend: vec![("sidestep".into(), OURS), (peer::VERSION.into(), PEER)],
        x: Axis::places("key + value, memcached -m in MiB", held.iter().map(name)),
        y: Axis::linear("items / memcached's", held.iter().map(ratio).chain([1.0])),
        marks,
    }
}

fn readme(args: &RunArgs, machine: &Machine, tables: &str) -> String {
    let dirty = match machine.dirty {
        Some(true) => " with uncommitted changes",
        Some(false) => ", clean",
        None => "",
    };
    let bed = if machine.virtual_machine { "a virtual machine" } else { "a physical machine" };
    format!(
        "# The store at equal resident memory\n\n{tables}\n\
         ![Miss ratio at equal resident memory](miss-ratio.svg)\n\n\
         ![Items held at equal resident memory](items-held.svg)\n\n\
         ## What the figures mean\n\n\
         * Resident memory is `VmRSS` at the end of the run. memcached's is that of its whole process. Ours is that of a \
         process that drives the shards itself: program and store, without the generator's own memory; it is never above \
         memcached's. Neither holds network buffers: memcached's are the kernel's, ours the UMEM (12.3 MiB a queue).\n\
         * A stream asks for every key once, then for {} keys drawn with seed {}; what misses is set. Misses count from \
         the middle of the drawn ones. The keys would fill memcached's `-m` eight times. Profiles are in \
         `bench/store/src/stream.rs`: `-drift` passes each key's popularity to another key once in half of the stream.\n\
         * libcachesim's policies have the same resident memory for items alone, at key, value and 25 bytes each: what \
         the policy does by itself. Belady knows the future.\n\
         * Nothing here is timed, so a busy machine changes nothing but memcached's background threads.\n\n\
         ## How it was run\n\n```\n{}\n```\n\n\
         * {}, commit {}{dirty}\n\
         * {bed}: {} x {}, {} MiB, Linux {}\n\
         * {}, everything else as it comes\n",
        args.requests,
        args.seed,
        machine.command_line,
        machine.date,
        machine.commit,
        machine.cpus,
        machine.cpu_model,
        machine.memory_mib,
        machine.kernel,
        peer::VERSION,
    )
}
