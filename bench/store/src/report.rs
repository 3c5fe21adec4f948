//! Runs everything that is asked for, and writes the run folder: README with the tables, raw JSON, and plots.

use std::io::{self, Write as _};
use std::path::PathBuf;

use figures::chart::{Axis, Chart, Mark, NULL, OURS, PEER};
use figures::folder::RunFolder;
use figures::machine::Machine;
use figures::stats::{median, spread};
use figures::table::Table;
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
    seeds: &'a [u64],
    memory_mib: u64,
    spread: u64,
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
    let machine = Machine::look([]);
    let mut held = Vec::new();
    for &memory_mib in &args.hold_mib {
        for (key_bytes, value_bytes) in HELD_SIZES {
            let _ = writeln!(io::stderr(), "items held: {key_bytes} B keys, {value_bytes} B values, -m {memory_mib}");
            held.push(measure::held(args, memory_mib, key_bytes, value_bytes)?);
        }
    }
    let mut misses = Vec::new();
    for name in &args.profiles {
        for &seed in &args.seeds {
            let _ = writeln!(io::stderr(), "miss ratio: {name}, -m {}, seed {seed}", args.memory_mib);
            let row = measure::misses(args, name, seed)?;
            let _ = writeln!(io::stderr(), "{}", line_of(&row));
            misses.push(row);
        }
    }
    let tables = format!("{}\n{}", held_table(&held), miss_table(args, &misses));
    // The tables are in the folder too, so that a run of hours is not lost when its output was.
    let _ = write!(io::stdout(), "{tables}");

    let folder = RunFolder::create(&args.out, &machine.date, &args.name)?;
    let raw = Raw {
        machine: &machine,
        peer: peer::VERSION,
        seeds: &args.seeds,
        memory_mib: args.memory_mib,
        spread: args.spread,
        threads: args.threads,
        requests: args.requests,
        misses: &misses,
        held: &held,
    };
    folder.write_json("raw.json", &raw)?;
    folder.write("miss-ratio.svg", &miss_plot(args, &misses).draw()?)?;
    folder.write("items-held.svg", &held_plot(&held).draw()?)?;
    folder.write("README.md", &readme(args, &machine, &tables))?;
    Ok(folder.path().to_owned())
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn ratio(held: &Held) -> f64 {
    held.ours.items as f64 / held.peer.items.max(1) as f64
}

fn held_table(held: &[Held]) -> Table {
    let resident = "resident MiB: memcached:";
    let columns =
        ["key + value", "memcached -m:", resident, "ours:", "items: memcached:", "ours:", "ours / memcached:"];
    let mut table = Table::new(&columns);
    for row in held {
        table.row([
            format!("{} B + {} B", row.key_bytes, row.value_bytes),
            row.memory_mib.to_string(),
            mib(row.peer.resident_bytes),
            mib(row.ours.resident_bytes),
            row.peer.items.to_string(),
            row.ours.items.to_string(),
            format!("{:.3}", ratio(row)),
        ]);
    }
    table
}

/// Our miss ratio as a part of memcached's.
fn of_peer(row: &Misses, ratio: f64) -> f64 {
    ratio / row.peer.miss_ratio().max(f64::MIN_POSITIVE)
}

fn line_of(row: &Misses) -> String {
    let (ours, peer) = (row.ours.miss_ratio(), row.peer.miss_ratio());
    format!("{} seed {}: {peer:.4} and {ours:.4}, {:.3}", row.profile.name, row.seed, of_peer(row, ours))
}

/// The rows of each profile.
fn by_profile(misses: &[Misses]) -> Vec<&[Misses]> {
    misses.chunk_by(|one, next| one.profile == next.profile).collect()
}

/// The median of what `figure` says of each row.
fn middle(rows: &[Misses], figure: impl Fn(&Misses) -> f64) -> f64 {
    median(&rows.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}

fn miss_table(args: &RunArgs, misses: &[Misses]) -> String {
    let policies: Vec<&String> = misses.first().map_or_else(Vec::new, |row| row.references.keys().collect());
    let mut columns = ["stream", "resident MiB: memcached:", "ours:", "items: memcached:", "ours:"].to_vec();
    columns.extend(["miss ratio: memcached:", "ours:", "ours / memcached [least most]:"]);
    let policy_columns: Vec<String> = policies.iter().map(|policy| format!("{policy}:")).collect();
    columns.extend(policy_columns.iter().map(String::as_str));
    let mut table = Table::new(&columns);
    for rows in by_profile(misses) {
        let ratios: Vec<f64> = rows.iter().map(|row| of_peer(row, row.ours.miss_ratio())).collect();
        let ratio = spread(&ratios).map(|of| format!("{:.3} [{:.3} {:.3}]", of.median, of.min, of.max));
        let reference = |&policy: &&String| rows.iter().find_map(|row| row.references.get(policy)).copied();
        let row = [
            rows[0].profile.name.to_owned(),
            mib(middle(rows, |row| row.peer.resident_bytes as f64) as u64),
            mib(middle(rows, |row| row.ours.resident_bytes as f64) as u64),
            format!("{:.0}", middle(rows, |row| row.peer.items as f64)),
            format!("{:.0}", middle(rows, |row| row.ours.items as f64)),
            format!("{:.4}", middle(rows, |row| row.peer.miss_ratio())),
            format!("{:.4}", middle(rows, |row| row.ours.miss_ratio())),
            ratio.unwrap_or_default(),
        ];
        let references = policies.iter().map(|policy| format!("{:.4}", reference(policy).unwrap_or(f64::NAN)));
        table.row(row.into_iter().chain(references));
    }
    format!(
        "{table}\nmemcached `-m {} -t {}`, {} shards of ours. Medians over {} seeds; libcachesim's policies with the \
         first.\n",
        args.memory_mib,
        args.threads,
        args.threads,
        args.seeds.len()
    )
}

fn miss_plot(args: &RunArgs, misses: &[Misses]) -> Chart {
    let mut marks = vec![(Mark::Level(1.0, 2), PEER)];
    let mut all = vec![1.0];
    let profiles = by_profile(misses);
    for (x, row) in profiles.iter().enumerate().flat_map(|(x, rows)| rows.iter().map(move |row| (x as f64, row))) {
        for &reference in row.references.values() {
            all.push(of_peer(row, reference));
            marks.push((Mark::Cross((x, of_peer(row, reference))), NULL));
        }
        all.push(of_peer(row, row.ours.miss_ratio()));
        marks.push((Mark::Dot((x, of_peer(row, row.ours.miss_ratio()))), OURS));
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
        x: Axis::places("stream", profiles.iter().map(|rows| rows[0].profile.name.to_owned())),
        y: Axis::linear("miss ratio / memcached's", all.into_iter()),
        marks,
    }
}

fn held_plot(held: &[Held]) -> Chart {
    let name = |row: &Held| format!("{}+{} B, -m {}", row.key_bytes, row.value_bytes, row.memory_mib);
    let mut marks = vec![(Mark::Level(1.0, 2), PEER)];
    marks.extend((0..).zip(held).map(|(x, row)| (Mark::Dot((f64::from(x), ratio(row))), OURS)));
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
    format!(
        "# The store at equal resident memory\n\n{tables}\n\
         ![Miss ratio at equal resident memory](miss-ratio.svg)\n\n\
         ![Items held at equal resident memory](items-held.svg)\n\n\
         ## What the figures mean\n\n\
         * Resident memory is `VmRSS` at the end of the run. memcached's is that of its whole process. Ours is that of a \
         process that drives the shards itself: program and store, without the generator's own memory; it is never above \
         memcached's. Neither holds network buffers: memcached's are the kernel's, ours the UMEM (12.3 MiB a queue).\n\
         * A stream asks for every key once, then for {} keys drawn; what misses is set. Misses count from the middle of \
         the drawn ones. The keys would fill memcached's `-m` {} times. There is a stream for each of the seeds {:?}, none \
         of which the policy was chosen with; `raw.json` has each by itself. Profiles are in `bench/store/src/stream.rs`: \
         `-drift` passes each key's popularity to another key once in half of the stream.\n\
         * libcachesim's policies ran with the first seed alone. They have the same resident memory for items alone, at key, value and 25 bytes each: what \
         the policy does by itself. Belady knows the future.\n\
         * Nothing here is timed, so a busy machine changes nothing but memcached's background threads.\n\n\
         {machine}* {}, everything else as it comes\n",
        args.requests,
        args.spread,
        args.seeds,
        peer::VERSION,
    )
}
