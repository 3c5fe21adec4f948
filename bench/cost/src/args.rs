//! `Args`: the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::workload::Workload;

/// What a request costs this project's own code, in memory, without a kernel.
#[derive(Debug, Parser)]
#[command(name = "sidestep-cost", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Cycles and instructions.
    Run(Measure),
    /// Cycles alone; no valgrind needed.
    Cycles(Measure),
    /// Instructions alone; the same on a busy machine.
    Instructions(Measure),
    /// What idle connections cost: memory, the others' requests, and waking them.
    Idle {
        /// Idle connections.
        #[arg(long, default_value_t = 1_000_000)]
        idle: usize,
        /// Connections beside them that ask all the time.
        #[arg(long, default_value_t = 1_000)]
        active: usize,
        /// Most connections that are awake.
        #[arg(long, default_value_t = 32_768)]
        awake: usize,
        /// Pairs of batches of 16 turns, with and without them.
        #[arg(long, default_value_t = 2_000)]
        pairs: usize,
    },
    /// Compares the `lines` of two runs of `instructions`, and fails when a request costs above 1 % more.
    Compare {
        /// What the parent printed.
        base: PathBuf,
        /// What the head printed.
        head: PathBuf,
        /// The message of the commits between: a line `Costs: +2.3 % TCP GET for FEATURE` allows a rise.
        #[arg(long)]
        message: Option<PathBuf>,
    },
    /// What runs under valgrind.
    #[command(hide = true)]
    Counted {
        /// The workload.
        workload: Workload,
        /// Connections of get-random.
        #[arg(long)]
        flows: usize,
        /// Requests to be answered, at least.
        #[arg(long)]
        requests: u64,
    },
}

/// What to measure, and how.
#[derive(Debug, clap::Args)]
pub struct Measure {
    /// Workloads; all of them unless named.
    pub workloads: Vec<Workload>,
    /// Connections of get-random, about 2 KB of memory each.
    #[arg(long, default_value_t = 1_000_000)]
    pub flows: usize,
    /// Connections of get-random while instructions are counted: their number hardly matters to the count, and
    /// valgrind takes its time to open them.
    #[arg(long, default_value_t = 20_000)]
    pub counted_flows: usize,
    /// Batches of 16 turns, for cycles.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batches: u32,
    /// Requests, at least, for instructions.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub requests: u64,
    /// Functions to be named, those with most instructions.
    #[arg(long, default_value_t = 10)]
    pub top: usize,
    /// Keeps callgrind's files in this folder, for callgrind_annotate.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Writes JSON to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For `compare`: workload, tab, instructions per request.
    Lines,
}
