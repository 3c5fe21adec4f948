//! `sidestep-differential`: a campaign against a memcached of our own, or any two addresses; exit 1 on a difference.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use differential::campaign::Campaign;
use differential::case::Protocol;
use differential::differences::Differences;
use differential::memcached::{Memcached, golden};
use differential::target::{Address, SocketTarget};

/// Sends the same seeded operations to memcached 1.6.45 and to another server, and compares every reply.
#[derive(Debug, Parser)]
#[command(name = "sidestep-differential", version)]
struct Args {
    /// The server under test, ADDRESS:PORT; without it a second memcached, which must not differ.
    #[arg(long)]
    tested: Option<SocketAddr>,
    /// The memcached program to start as oracle; without it the one that scripts/memcached builds.
    #[arg(long)]
    memcached: Option<PathBuf>,
    /// The file of listed differences.
    #[arg(long)]
    differences: Option<PathBuf>,
    /// What to speak: text, meta, binary, or udp: all of them in datagrams.
    #[arg(long, value_enum, default_value_t = Protocol::Text)]
    protocol: Protocol,
    /// Seed of all cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// First case; with --operations 1 this plays one case again.
    #[arg(long, default_value_t = 0)]
    case: u64,
    /// Operations to compare.
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// Stop after this many unlisted differences.
    #[arg(long, default_value_t = 5)]
    most_unlisted: usize,
}

fn run(args: &Args) -> Result<bool, Box<dyn std::error::Error>> {
    let mut differences = match &args.differences {
        None => Differences::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Differences::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
    };
    let program = args.memcached.clone().unwrap_or_else(golden);
    let start = || match args.protocol {
        Protocol::Udp => Memcached::start_with_udp(&program),
        _ => Memcached::start(&program),
    };
    let oracle = start()?;
    let second;
    let mut tested = match args.tested {
        Some(address) => SocketTarget::new("tested", Address::Tcp(address)).with_udp(address).out_of_order(),
        None => {
            second = start()?;
            second.target()
        }
    };
    let mut out = io::stdout();
    writeln!(out, "seed {}, from case {}", args.seed, args.case)?;
    let started = Instant::now();
    let stale = differences.verify(&mut oracle.target(), &mut tested)?;
    for line in &stale {
        writeln!(out, "STALE TRANSCRIPT: {line}")?;
    }
    let campaign = Campaign {
        protocol: args.protocol,
        seed: args.seed,
        first: args.case,
        operations: args.operations,
        most_unlisted: args.most_unlisted.max(1),
        tested_is_memcached: args.tested.is_none(),
    };
    let findings = campaign.run(&mut oracle.target(), &mut tested, &mut differences)?;
    write!(out, "{}", findings.report(&differences))?;
    writeln!(out, "in {:.1} s", started.elapsed().as_secs_f64())?;
    Ok(findings.unlisted.is_empty() && stale.is_empty())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sidestep-differential: {error}");
            ExitCode::FAILURE
        }
    }
}
