//! `sidestep-compare`: read the plan, run the rounds, write the folder, print the line.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use compare::args::Args;
use compare::child::Stop;
use compare::measure::{measure, run_to_end};
use compare::plan::base::with_base;
use compare::plan::{Filling, Metric, Plan};
use compare::run::{Run, RunError};
use compare::summary::Summary;
use compare::table::{self, TableArgs};
use compare::{output, readme, rounds};
use figures::folder::RunFolder;
use figures::machine::{Machine, shell_line};

fn main() -> ExitCode {
    let words = || std::env::args_os().skip(1);
    if words().next().is_some_and(|word| word == "table") {
        let printed =
            table::run(&TableArgs::parse_from(words())).map_err(|error| error.to_string()).and_then(|table| {
                let written = write!(io::stdout(), "{}", table.unwrap_or_default());
                written.map_err(|error| format!("cannot print the table: {error}"))
            });
        return printed.map_or_else(|error| failure(1, &error), |()| ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let beside = |name: &str| std::fs::read_to_string(args.plan.with_file_name(name));
    let plan = std::fs::read_to_string(&args.plan)
        .map_err(|error| format!("{error}; the plans are in bench/compare/plans"))
        .and_then(|text| with_base(&text, beside))
        .and_then(|text| args.apply(&text).map_err(|error| error.to_string()));
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return failure(2, &format!("{}: {error}", args.plan.display())),
    };
    let outcome = if args.check { print_commands(&plan).map(|()| true) } else { compare(&args, &plan) };
    match outcome {
        Ok(enough) => ExitCode::from(u8::from(!enough)),
        Err(error) => failure(1, &error.to_string()),
    }
}

fn failure(code: u8, error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "sidestep-compare: {error}");
    ExitCode::from(code)
}

fn print_commands(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout();
    for role in plan.roles() {
        for value in plan.values() {
            let commands = plan.commands(role, value, None)?;
            let value = value.map_or_else(String::new, |value| format!(" {value}"));
            writeln!(out, "{role:?}{value} server:    {}", shell_line(&commands.server))?;
            writeln!(out, "{role:?}{value} warm-up:   {}", shell_line(&commands.warm_up))?;
            writeln!(out, "{role:?}{value} generator: {}", shell_line(&commands.generator))?;
        }
    }
    Ok(())
}

/// Runs the comparison; whether every pair that was asked for is valid.
fn compare(args: &Args, plan: &Plan) -> Result<bool, Box<dyn Error>> {
    let stop = Stop::on_signals()?;
    let machine = Machine::look(plan.version_commands());
    let folder = output::create(&args.output, &machine.date, plan)?;
    let (pairs, more, path) = (plan.pairs, plan.extra_pairs, folder.path().display());
    let mut out = io::stdout();
    let _ = writeln!(out, "{}\n{pairs} pairs (at most {more} more), seed {}, {path}", plan.title, plan.seed);

    let (runs, problem) = {
        let _after = After { plan };
        match prepare(plan, &stop).map(|()| run_all(plan, &stop, &folder)) {
            Ok(Ok(runs)) => (runs, None),
            Ok(Err((runs, error))) => (runs, Some(error)),
            Err(error) => (Vec::new(), Some(error)),
        }
    };
    let summary = Summary::of(plan, &runs);
    output::finish(&folder, plan, &machine, &runs, &summary)?;
    if let Some(error) = problem {
        return Err(error.into());
    }
    let _ = writeln!(out, "\n{}\nwritten to {path}", readme::table(plan, &summary));
    if !summary.complete() {
        let valid = summary.points.iter().map(|point| point.valid_pairs).min().unwrap_or(0);
        let _ = writeln!(
            io::stderr(),
            "sidestep-compare: only {valid} of {pairs} pairs are valid after {more} more; see the reasons above, quieten \
             the machine, or raise extra_pairs"
        );
    }
    let line = summary.line().ok_or("no valid pair: there is no ratio")?;
    writeln!(out, "{line}").map_err(|error| format!("cannot print the ratio: {error}"))?;
    Ok(summary.complete())
}

fn prepare(plan: &Plan, stop: &Stop) -> Result<(), RunError> {
    for argv in &plan.before {
        let argv = plan.fill(argv, Filling::default())?;
        run_to_end(&argv, &plan.environment()?, Duration::from_secs(plan.bound_seconds), stop)?;
    }
    Ok(())
}

/// Runs the plan's last commands when it is dropped, whatever came before.
struct After<'a> {
    plan: &'a Plan,
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        // They run even when the user has asked to stop.
        let stop = Stop::default();
        let bound = Duration::from_secs(self.plan.bound_seconds);
        for argv in &self.plan.after {
            let filled = self.plan.fill(argv, Filling::default()).and_then(|argv| Ok((argv, self.plan.environment()?)));
            let done = filled.map_err(RunError::from).and_then(|(argv, env)| run_to_end(&argv, &env, bound, &stop));
            if let Err(error) = done {
                let _ = writeln!(io::stderr(), "sidestep-compare: clearing up: {error}");
            }
        }
    }
}

fn run_all(plan: &Plan, stop: &Stop, folder: &RunFolder) -> Result<Vec<Run>, (Vec<Run>, RunError)> {
    rounds::run_rounds(plan, |id| {
        let run = measure(plan, id, stop)?;
        output::store_run(folder, &run).map_err(|error| RunError::Store(error.to_string()))?;
        progress(plan, &run);
        Ok(run)
    })
}

fn progress(plan: &Plan, run: &Run) {
    let id = &run.id;
    let name = plan.side(id.role).map_or("", |side| side.name.as_str());
    let value = id.value.map_or_else(String::new, |value| format!(" at {value}"));
    let rate = id.rate.map_or_else(String::new, |rate| format!(" ({rate} requests/s offered)"));
    let value = if id.capacity { ", its capacity".to_owned() } else { value + &rate };
    let metric = if id.capacity { Metric::RequestsPerSecond } else { plan.metric };
    let what = metric.label();
    let figure = run.report.as_ref().and_then(|report| metric.of(report));
    let figure = figure.map_or_else(|| format!("no {what}"), |figure| format!("{figure:.0} {what}"));
    let cpu = run.cpu_us_per_request.map_or_else(String::new, |cpu| format!(", cpu {cpu:.2} us/request"));
    let void = if run.void.is_empty() { "" } else { "  VOID" };
    let mut out = io::stdout();
    let _ = writeln!(
        out,
        "round {:2}  {name}{value}: {figure}{cpu}, steal {:.1} %, load {:.2}{void}",
        id.round, run.steal_percent, run.load_before
    );
    for reason in &run.void {
        let _ = writeln!(out, "          void: {reason}");
    }
}
