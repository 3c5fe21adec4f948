//! The program: reads the command line, relays until it is told to end, and says what became of the frames.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use nic::link::Link;
use nic::{Faults, WireCounts};
use sidestep_relay::fault_list::{FaultList, WORDS};
use sidestep_relay::relay::Relay;

/// Relays frames between two links, both ways, with faults drawn by a seed.
#[derive(Debug, Parser)]
#[command(version, after_help = format!("Faults, separated by commas:\n{WORDS}"))]
struct Args {
    /// The link on the left; it must be up, and its GRO and its peer's transmit offloads off.
    #[arg(long, value_name = "LINK")]
    left: String,
    /// The link on the right.
    #[arg(long, value_name = "LINK")]
    right: String,
    /// Faults of both directions.
    #[arg(long, value_name = "FAULTS", default_value = "")]
    both: Vec<FaultList>,
    /// Faults of what goes to the left; they override those of both.
    #[arg(long, value_name = "FAULTS")]
    to_left: Vec<FaultList>,
    /// Faults of what goes to the right.
    #[arg(long, value_name = "FAULTS")]
    to_right: Vec<FaultList>,
    /// What the faults are drawn by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "sidestep-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (left, right) = (Link::by_name(&args.left)?, Link::by_name(&args.right)?);
    let (to_left, to_right) = (faults(&args.both, &args.to_left), faults(&args.both, &args.to_right));
    let mut relay = Relay::new(&left, &right, to_left, to_right, args.seed)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready {} <-> {} seed {}", left.name, right.name, args.seed)?;
    out.flush()?;
    let outcome = relay.run(|| stop.load(Ordering::Relaxed));
    let (to_left, to_right) = relay.counts();
    tell(&mut out, &left.name, &to_left)?;
    tell(&mut out, &right.name, &to_right)?;
    Ok(outcome?)
}

fn faults(both: &[FaultList], own: &[FaultList]) -> Faults {
    let mut faults = Faults::default();
    for list in both.iter().chain(own) {
        list.apply(&mut faults);
    }
    faults
}

/// A line of what became of the frames sent to a link.
fn tell(out: &mut impl io::Write, link: &str, counts: &WireCounts) -> io::Result<()> {
    write!(out, "to {link}:")?;
    for (name, count) in [
        ("sent", counts.sent),
        ("duplicated", counts.duplicated),
        ("delivered", counts.delivered),
        ("corrupted", counts.corrupted),
        ("cut", counts.cut),
        ("reordered", counts.reordered),
        ("lost", counts.lost),
        ("burst_lost", counts.burst_lost),
        ("corrupt_dropped", counts.corrupt_dropped),
        ("rate_dropped", counts.rate_dropped),
        ("blackholed", counts.blackholed),
        ("too_long", counts.too_long),
        ("overflowed", counts.overflowed),
        ("rx_dropped", counts.rx_dropped),
        ("in_flight", counts.in_flight),
    ] {
        write!(out, " {name}={count}")?;
    }
    writeln!(out)
}
