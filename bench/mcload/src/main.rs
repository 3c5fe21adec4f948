//! `sidestep-mcload`: parse, run, report; exit 1 when any reply was wrong or the run could not be finished.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use mcload::args::Args;
use mcload::progress::Progress;
use mcload::transport::xsk::run_over_xsk;
use mcload::{report, run};

fn main() -> ExitCode {
    let (args, plan) = Args::read();
    let shown = !args.quiet && (args.progress || std::io::stderr().is_terminal());
    let progress = Progress::new(plan.workers, shown);
    let outcome = match &args.xsk {
        Some(xsk) => run_over_xsk(&plan, xsk, &progress),
        None => run::run_over_sockets(&plan, &progress),
    };
    match outcome {
        Ok(outcome) => {
            let text = if args.json { report::json(&plan, &outcome) } else { report::text(&plan, &outcome) };
            if let Err(error) = io::stdout().write_all(text.as_bytes()) {
                return failure(&format!("cannot print the report: {error}"));
            }
            if outcome.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn Display) -> ExitCode {
    // Where standard error takes nothing, the exit code has to say it.
    let _ = writeln!(io::stderr(), "sidestep-mcload: {error}");
    ExitCode::FAILURE
}
