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
use compare::machine::{Machine, quoted};
use compare::output::{OutputError, RunFolder};
use compare::plan::base::with_base;
use compare::plan::{Metric, Plan};
use compare::run::{Run, RunError, measure, run_to_end};
use compare::summary::{Summary, figure};
use compare::table::{self, TableArgs};
use compare::{readme, rounds};

fn main() -> ExitCode {
    let words = || std::env::args_os().skip(1);
    if words().next().is_some_and(|word| word == "table") {
        return match table::run(&TableArgs::parse_from(words())) {
            Ok(table) => match write!(io::stdout(), "{}", table.unwrap_or_default()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failure(&format!("cannot print the table: {error}")),
            },
            Err(error) => failure(&error.to_string()),
        };
    }
    let args = Args::parse();
    let beside = |name: &str| std::fs::read_to_string(args.plan.with_file_name(name));
    let plan = std::fs::read_to_string(&args.plan)
        .map_err(|error| format!("{error}; the plans are in bench/compare/plans"))
        .and_then(|text| with_base(&text, beside).map_err(|error| error.to_string()))
        .and_then(|text| args.apply(&text).map_err(|error| error.to_string()));
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sidestep-compare: {}: {error}", args.plan.display());
            return ExitCode::from(2);
        }
    };
    if args.check {
        return match print_commands(&plan) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&error.to_string()),
        };
    }
    match compare(&args, &plan) {
        Ok(code) => code,
        Err(error) => failure(&error),
    }
}

fn failure(error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "sidestep-compare: {error}");
    ExitCode::FAILURE
}

fn print_commands(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout();
    let line = |argv: &[String]| argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    for role in plan.roles() {
        for value in plan.values() {
            let commands = plan.commands(role, value)?;
            let value = value.map_or_else(String::new, |value| format!(" {value}"));
            writeln!(out, "{role:?}{value} server:    {}", line(&commands.server))?;
            writeln!(out, "{role:?}{value} warm-up:   {}", line(&commands.warm_up))?;
            writeln!(out, "{role:?}{value} generator: {}", line(&commands.generator))?;
        }
    }
    Ok(())
}

fn compare(args: &Args, plan: &Plan) -> Result<ExitCode, String> {
    let text = |error: &dyn Error| error.to_string();
    let stop = Stop::on_signals().map_err(|error| text(&error))?;
    let machine = Machine::look(plan);
    let folder = RunFolder::create(&args.output, &machine.date, plan).map_err(|error| text(&error))?;
    // What is printed is also in the folder: a run of hours must not be lost since nobody reads along.
    let mut out = io::stdout();
    let _ = writeln!(out, "{}", plan.title);
    let _ = writeln!(
        out,
        "{} pairs (at most {} more), seed {}, {}",
        plan.pairs,
        plan.extra_pairs,
        plan.seed,
        folder.path().display()
    );
    let (runs, problem) = {
        let _after = After { plan };
        match prepare(plan, &stop).map(|()| run_all(plan, &stop, &folder)) {
            Ok(Ok(runs)) => (runs, None),
            Ok(Err((runs, error))) => (runs, Some(error)),
            Err(error) => (Vec::new(), Some(error)),
        }
    };
    let summary = Summary::of(plan, &runs);
    folder.finish(plan, &machine, &runs, &summary).map_err(|error| text(&error))?;
    if let Some(error) = problem {
        return Err(text(&error));
    }
    let _ = writeln!(out, "\n{}", readme::table(plan, &summary));
    let _ = writeln!(out, "written to {}", folder.path().display());
    let enough = summary.complete();
    if !enough {
        let valid = summary.points.iter().map(|point| point.valid_pairs).min().unwrap_or(0);
        let _ = writeln!(
            io::stderr(),
            "sidestep-compare: only {valid} of {} pairs are valid after {} more; see the reasons above, quieten the \
             machine, or raise extra_pairs",
            plan.pairs,
            plan.extra_pairs
        );
    }
    match summary.line() {
        Some(line) => writeln!(out, "{line}").map_err(|error| format!("cannot print the ratio: {error}"))?,
        None => return Err("no valid pair: there is no ratio".into()),
    }
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn prepare(plan: &Plan, stop: &Stop) -> Result<(), RunError> {
    for argv in &plan.before {
        run_to_end(&plan.fill(argv, None, None)?, &plan.environment()?, Duration::from_secs(plan.bound_seconds), stop)?;
    }
    Ok(())
}

/// Runs the plan's last commands when dropped: after success, error and Ctrl-C alike.
struct After<'a> {
    plan: &'a Plan,
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        // A Ctrl-C that ended the runs must not end the clearing up.
        let stop = Stop::default();
        let bound = Duration::from_secs(self.plan.bound_seconds);
        for argv in &self.plan.after {
            let filled = self.plan.fill(argv, None, None).and_then(|argv| Ok((argv, self.plan.environment()?)));
            let done = filled.map_err(RunError::from).and_then(|(argv, env)| run_to_end(&argv, &env, bound, &stop));
            if let Err(error) = done {
                let _ = writeln!(io::stderr(), "sidestep-compare: clearing up: {error}");
            }
        }
    }
}

fn run_all(plan: &Plan, stop: &Stop, folder: &RunFolder) -> Result<Vec<Run>, (Vec<Run>, RunError)> {
    rounds::run_rounds(plan, |slot| {
        let run = measure(plan, slot, stop)?;
        folder.store_run(&run).map_err(|error: OutputError| RunError::Store(error.to_string()))?;
        progress(plan, &run);
        Ok(run)
    })
}

/// One line a run, as it ends.
fn progress(plan: &Plan, run: &Run) {
    let name = plan.side(run.slot.role).map_or("", |side| side.name.as_str());
    let value = run.slot.value.map_or_else(String::new, |value| format!(" at {value}"));
    let rate = run.slot.rate.map_or_else(String::new, |rate| format!(" ({rate} requests/s offered)"));
    let value = if run.slot.capacity { ", its capacity".to_owned() } else { value + &rate };
    let metric = if run.slot.capacity { Metric::RequestsPerSecond } else { plan.metric };
    let what = metric.label();
    let figure = run.report.as_ref().and_then(|report| figure(metric, report));
    let figure = figure.map_or_else(|| format!("no {what}"), |figure| format!("{figure:.0} {what}"));
    let cpu = run.cpu_us_per_request.map_or_else(String::new, |cpu| format!(", cpu {cpu:.2} us/request"));
    let mut out = io::stdout();
    let _ = write!(out, "round {:2}  {name}{value}: {figure}{cpu}, steal {:.1} %", run.slot.round, run.steal_percent);
    let _ = writeln!(out, ", load {:.2}{}", run.load_before, if run.void.is_empty() { "" } else { "  VOID" });
    for reason in &run.void {
        let _ = writeln!(out, "          void: {reason}");
    }
}
