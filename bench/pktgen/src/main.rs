//! The program: reads the command line, opens the port, runs and reports.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use nic::xdp::XskName;
use sidestep_pktgen::options::{Plan, PortName};
use sidestep_pktgen::port::{open_tap, open_wire, open_xsk};
use sidestep_pktgen::report::Report;
use sidestep_pktgen::run::{Limits, Outcome, came_to_nothing, choose_cpus, run_pinned, work};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let plan = Plan::read();
    match run(&plan) {
        Ok((report, failed)) => {
            let text = if plan.json { report.json() } else { report.text() };
            if let Err(error) = io::stdout().write_all(text.as_bytes()) {
                return failure(&format!("cannot print the report: {error}"));
            }
            if failed {
                let _ = writeln!(
                    io::stderr(),
                    "sidestep-pktgen: nothing came back from {}; is a pong there?",
                    plan.destination().address
                );
            }
            ExitCode::from(u8::from(failed))
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn Display) -> ExitCode {
    // Where standard error takes nothing, the exit code has to say it.
    let _ = writeln!(io::stderr(), "sidestep-pktgen: {error}");
    ExitCode::FAILURE
}

/// Runs, and says whether it came to nothing.
fn run(plan: &Plan) -> Result<(Report, bool), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once, should the first not.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let limits = Limits::of(plan, stop);
    let (device, outcomes) = match &plan.port {
        PortName::Wire => {
            let (_wire, seats) = open_wire(plan, 1)?;
            ("both ends in memory, on one thread".to_owned(), work(seats, plan, &limits, Instant::now())?)
        }
        PortName::Xsk(name) => run_xsk(plan, name, &limits)?,
        PortName::Tap(name) => run_tap(plan, name, &limits)?,
    };
    let failed = came_to_nothing(plan, &outcomes);
    Ok((Report::new(plan, device, &outcomes), failed))
}

fn run_xsk(plan: &Plan, name: &XskName, limits: &Limits) -> Result<(String, Vec<Outcome>), Failure> {
    let cpus = choose_cpus(plan)?;
    let open = open_xsk(plan, name)?;
    let device = open.device.obtained().to_string();
    say_ready(plan, &device);
    let outcomes = run_pinned(open.seats, &cpus, plan, limits)?;
    if let Some(note) = open.device.unserved() {
        let _ = writeln!(io::stderr(), "sidestep-pktgen: {note}");
    }
    Ok((device, outcomes))
}

fn run_tap(plan: &Plan, name: &str, limits: &Limits) -> Result<(String, Vec<Outcome>), Failure> {
    let cpus = choose_cpus(plan)?;
    let (tap, seats) = open_tap(plan, name)?;
    let made = if tap.was_made() { "made for this run" } else { "joined" };
    let device = format!("a TAP, {made}; each frame is copied and costs a system call");
    say_ready(plan, &device);
    Ok((device, run_pinned(seats, &cpus, plan, limits)?))
}

/// Scripts wait for this line.
fn say_ready(plan: &Plan, device: &str) {
    let _ = writeln!(
        io::stderr(),
        "sidestep-pktgen: {} ready on {} for {}: {device}",
        plan.mode,
        plan.port,
        plan.source().address
    );
}
