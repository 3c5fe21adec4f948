//! `sidestep-mcload`: parse, run, report; exit 1 when any reply was wrong or the run could not be finished.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use mcload::args::Args;
use mcload::progress::Progress;
use mcload::transport::xsk::run_over_xsk;
use mcload::{report, run};

fn main() -> ExitCode {
    let args = Args::parse();
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("sidestep-mcload: {error}");
            return ExitCode::from(2);
        }
    };
    let shown = !args.quiet && (args.progress || std::io::stderr().is_terminal());
    let xsk = match args.xsk.plan() {
        Ok(xsk) => xsk,
        Err(error) => {
            eprintln!("sidestep-mcload: {error}");
            return ExitCode::from(2);
        }
    };
    let progress = Progress::new(plan.workers, shown);
    let outcome = match xsk {
        Some(xsk) => run_over_xsk(&plan, &xsk, &progress),
        None => run::run_over_sockets(&plan, &progress),
    };
    match outcome {
        Ok(outcome) => {
            print!("{}", if args.json { report::json(&plan, &outcome) } else { report::text(&plan, &outcome) });
            if outcome.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("sidestep-mcload: {error}");
            ExitCode::FAILURE
        }
    }
}
