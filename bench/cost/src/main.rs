//! `sidestep-cost`: see the library.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use sidestep_cost::Failure;
use sidestep_cost::args::{Args, Command, Format, Measure};
use sidestep_cost::compare::compare;
use sidestep_cost::cycles;
use sidestep_cost::idle::{self, IdlePlan};
use sidestep_cost::instructions::{count, counted};
use sidestep_cost::report::{Measured, Report};
use sidestep_cost::workload::Workload;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run(measure) => run(&measure, true, true),
        Command::Cycles(measure) => run(&measure, true, false),
        Command::Instructions(measure) => run(&measure, false, true),
        Command::Counted { workload, flows, requests } => {
            counted(workload, flows, requests, &mut io::stdout()).map(|()| ExitCode::SUCCESS)
        }
        Command::Idle { idle, active, awake, pairs } => idle::measure(&IdlePlan { idle, active, awake, pairs })
            .and_then(|idle| Ok(print(&idle.table()).map(|()| ExitCode::SUCCESS)?)),
        Command::Compare { base, head, message } => judge(&base, &head, message.as_deref()),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "sidestep-cost: {error}");
        ExitCode::FAILURE
    })
}

fn run(measure: &Measure, with_cycles: bool, with_instructions: bool) -> Result<ExitCode, Failure> {
    let workloads = if measure.workloads.is_empty() { &Workload::ALL[..] } else { &measure.workloads };
    let mut measured = Vec::new();
    for &workload in workloads {
        let _ = writeln!(io::stderr(), "{} ...", workload.name());
        let cycles = match with_cycles {
            true => Some(cycles::measure(workload, measure.flows, measure.batches as usize)?),
            false => None,
        };
        let instructions = match with_instructions {
            true => Some(count(workload, measure.counted_flows, measure.requests, measure.keep.as_deref())?),
            false => None,
        };
        let flows = if with_cycles { measure.flows } else { measure.counted_flows };
        measured.push(Measured { workload, connections: workload.shape(flows).connections, cycles, instructions });
    }
    let report = Report { rate_hz: cycles::rate_hz(), top: measure.top, measured };
    if let Some(path) = &measure.json {
        std::fs::write(path, report.json()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let text = match measure.format {
        Format::Table => report.table(),
        Format::Json => report.json(),
        Format::Lines => report.lines(),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn judge(base: &Path, head: &Path, message: Option<&Path>) -> Result<ExitCode, Failure> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let message = message.map(read).transpose()?.unwrap_or_default();
    let verdict = compare(&read(base)?, &read(head)?, &message)?;
    print(&verdict.text)?;
    Ok(if verdict.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print what was measured: {error}"))
}
