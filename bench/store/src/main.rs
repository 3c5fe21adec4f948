//! `sidestep-storebench`; see [`storebench`].

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use storebench::args::{Args, Command};
use storebench::measure::{self, Failure};
use storebench::report;
use storebench::resident::resident_bytes;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sidestep-storebench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let program_bytes = resident_bytes(None)?;
    match Args::parse().command {
        Command::Ours(args) => {
            let line = serde_json::to_string(&measure::ours_here(&args, program_bytes)?)?;
            writeln!(io::stdout(), "{line}")?;
        }
        Command::Run(args) => {
            let path = report::run(&args)?;
            writeln!(io::stdout(), "{}", path.display())?;
        }
    }
    Ok(())
}
