//! `sidestep-storebench`; see [`storebench`].

#![forbid(unsafe_code)]

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
            eprintln!("sidestep-storebench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let program_bytes = resident_bytes(None)?;
    match Args::parse().command {
        Command::Ours(args) => println!("{}", serde_json::to_string(&measure::ours_here(&args, program_bytes)?)?),
        Command::Run(args) => {
            let path = report::run(&args)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}
