//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::stream::SPREAD;

/// What the store holds and misses at equal resident memory, against memcached 1.6.45 and libcachesim.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Measures both sides and the references, prints the tables and writes a run folder.
    Run(RunArgs),
    /// Runs one stream or fill on our store in this process and prints its outcome as JSON; `run` calls this.
    Ours(OursArgs),
}

/// Options of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// memcached's `-m` for miss ratios, in MiB; ours then gets what makes its resident memory the same.
    #[arg(long, default_value_t = 64)]
    pub memory_mib: u64,
    /// memcached's `-t`, and our shards.
    #[arg(long, default_value_t = 4)]
    pub threads: usize,
    /// Requests drawn after the walk over all keys; the second half counts.
    #[arg(long, default_value_t = 8_000_000)]
    pub requests: u64,
    /// Profiles to run, of etc, c52, c29, c45 and the same with `-drift`; none without a value.
    #[arg(
        long,
        value_delimiter = ',',
        num_args = 0..,
        default_value = "etc,c52,c29,c45,etc-drift,c52-drift,c29-drift,c45-drift"
    )]
    pub profiles: Vec<String>,
    /// How many times the keys of a stream would fill the memory.
    #[arg(long, default_value_t = SPREAD)]
    pub spread: u64,
    /// memcached's `-m` for items held, in MiB; none without a value.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "64,1024")]
    pub hold_mib: Vec<u64>,
    /// Policies of libcachesim to run on the same streams; none without a value.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "LRU,S3FIFO,GDSF,Belady")]
    pub policies: Vec<String>,
    /// The Python that has libcachesim; without it there are no references.
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Seeds of the streams: each profile runs once with each. 1 is the one that the policy was chosen with.
    #[arg(long, value_delimiter = ',', default_value = "11,12,13,14,15,16,17")]
    pub seeds: Vec<u64>,
    /// Name of the run folder, after the date.
    #[arg(long, default_value = "store")]
    pub name: String,
    /// Where the run folder is made.
    #[arg(long, default_value = "bench/runs")]
    pub out: PathBuf,
}

/// Options of `ours`.
#[derive(Debug, Clone, clap::Args)]
pub struct OursArgs {
    /// Memory of all shards, in bytes.
    #[arg(long)]
    pub memory_bytes: usize,
    /// Shards.
    #[arg(long)]
    pub shards: usize,
    /// A profile to run.
    #[arg(long)]
    pub profile: Option<String>,
    /// The memory that the stream is made for, in bytes.
    #[arg(long, default_value_t = 0)]
    pub stream_bytes: u64,
    /// How many times the stream's keys would fill that memory.
    #[arg(long, default_value_t = SPREAD)]
    pub spread: u64,
    /// Requests drawn.
    #[arg(long, default_value_t = 0)]
    pub requests: u64,
    /// Seed of the stream.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Instead of a stream: keys of so many bytes ...
    #[arg(long, default_value_t = 0)]
    pub key_bytes: u32,
    /// ... and values of so many bytes ...
    #[arg(long, default_value_t = 0)]
    pub value_bytes: u32,
    /// ... so many of them, each set once.
    #[arg(long, default_value_t = 0)]
    pub fill: u64,
}
