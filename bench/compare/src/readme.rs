//! The README of a run folder: what a reader needs to believe the figures, or to repeat them.

use std::fmt::Write;

use crate::machine::{Machine, quoted};
use crate::plan::{Against, Plan, Role};
use crate::report::PERCENTILES;
use crate::run::Run;
use crate::summary::{Pair, Point, SideSummary, Summary};

/// The whole text. `plots` are file names and captions.
pub fn text(plan: &Plan, machine: &Machine, runs: &[Run], summary: &Summary, plots: &[(String, String)]) -> String {
    let mut out = format!("# {}\n\n", plan.title);
    // Writing to a string cannot fail; the results are dropped for that reason throughout.
    let _ = match summary.line() {
        Some(line) => writeln!(out, "`{line}`\n"),
        None => writeln!(out, "**No valid pair: there is no ratio.**\n"),
    };
    if !summary.complete() {
        let _ = writeln!(out, "**Fewer pairs are valid than the {} asked for.**\n", plan.pairs);
    }
    let _ = writeln!(out, "{}\n", meaning(plan));
    out.push_str(&table(plan, summary));
    for (file, caption) in plots {
        let _ = writeln!(out, "![{caption}]({file})\n");
    }
    out.push_str(&pairs(plan, summary));
    out.push_str(&configuration(plan, machine, runs));
    out
}

/// The figures for people: what is printed on standard output before the last line, and stands in the README.
pub fn table(plan: &Plan, summary: &Summary) -> String {
    let mut out = String::new();
    for point in &summary.points {
        if let (Some(sweep), Some(value)) = (&plan.sweep, point.value) {
            let _ = writeln!(out, "### {}: {value}\n", sweep.label);
        }
        point_table(&mut out, plan, point);
    }
    out
}

fn point_table(out: &mut String, plan: &Plan, point: &Point) {
    let _ = writeln!(
        out,
        "| side | {} (median) | least | most | spread | requests/s | machine CPU us/request | {} |",
        plan.metric.label(),
        PERCENTILES.map(|name| format!("{name} us")).join(" | ")
    );
    let _ = writeln!(out, "|---|{}", "---:|".repeat(6 + PERCENTILES.len()));
    for side in &point.sides {
        let latencies = side.latency_us.map(|latency| optional(latency, 1)).join(" | ");
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.1} % | {:.0} | {} | {latencies} |",
            side.name,
            number(side.metric.median),
            number(side.metric.min),
            number(side.metric.max),
            100.0 * side.metric.relative,
            side.requests_per_second,
            optional(side.cpu_us_per_request, 2)
        );
    }
    let _ = match point.ratio {
        Some(ratio) => writeln!(
            out,
            "\nRatio {:.3}, 95 % interval [{:.3} {:.3}]; ours / null {}; {} valid of {} pairs.\n",
            ratio.median,
            ratio.low,
            ratio.high,
            optional(point.null, 3),
            point.valid_pairs,
            point.pairs.len()
        ),
        None => writeln!(out, "\nNo valid pair of {}.\n", point.pairs.len()),
    };
    let own = |side: &SideSummary| {
        let own = side.own?;
        Some(format!("{} {:.3} [{:.3} {:.3}]", side.name, own.median, own.low, own.high))
    };
    let own: Vec<String> = point.sides.iter().filter_map(own).collect();
    if !own.is_empty() {
        let _ = writeln!(out, "Each side against itself at the first value: {}.\n", own.join(", "));
    }
}

fn meaning(plan: &Plan) -> String {
    let under = match plan.against {
        Against::Peer => format!("{} in the same round", plan.peer.name),
        Against::First => format!("{} at the first value, in the same round", plan.ours.name),
    };
    format!(
        "The ratio is the median over the valid pairs of {} of {} / {under}; in brackets its 95 % bootstrap interval. \
         `null` is the median of ours / the null responder. The columns are medians over the valid pairs; the latencies \
         are the generator's own. See docs/benchmarks.md.",
        plan.metric.label(),
        plan.ours.name
    )
}

fn pairs(plan: &Plan, summary: &Summary) -> String {
    let swept = plan.sweep.is_some();
    let mut out = "## Every pair\n\n".to_owned();
    let _ = writeln!(out, "| {}round | order | ratio | ours / null | |", if swept { "value | " } else { "" });
    let _ = writeln!(out, "|{}---:|---|---:|---:|---|", if swept { "---:|" } else { "" });
    for point in &summary.points {
        for Pair { round, order, ratio, null, void } in &point.pairs {
            let value = point.value.map_or_else(String::new, |value| format!("{value} | "));
            let order: Vec<&str> = order.iter().map(|role| role_name(*role)).collect();
            let verdict =
                if void.is_empty() { String::new() } else { format!("VOID: {}", void.join("; ").replace('|', "/")) };
            let _ = writeln!(
                out,
                "| {value}{round} | {} | {} | {} | {verdict} |",
                order.join(" "),
                optional(*ratio, 3),
                optional(*null, 3)
            );
        }
    }
    out.push('\n');
    out
}

fn configuration(plan: &Plan, machine: &Machine, runs: &[Run]) -> String {
    let mut out = "## How it was run\n\n".to_owned();
    let dirty = match machine.dirty {
        Some(true) => " with uncommitted changes",
        Some(false) => ", clean",
        None => "",
    };
    let bed = if machine.virtual_machine { "a virtual machine" } else { "a physical machine" };
    let _ = writeln!(out, "```\n{}\n```\n", machine.command_line);
    let _ = writeln!(out, "* {}, commit {}{dirty}", machine.date, machine.commit);
    let _ = writeln!(
        out,
        "* {bed}: {} x {}, {} MiB, Linux {}",
        machine.cpus, machine.cpu_model, machine.memory_mib, machine.kernel
    );
    for (role, version) in &machine.versions {
        let _ = writeln!(out, "* {}: {version}", role_name(*role));
    }
    let steal = runs.iter().map(|run| run.steal_percent).fold(0.0, f64::max);
    let load = runs.iter().map(|run| run.load_before).fold(0.0, f64::max);
    let limits = &plan.void;
    let _ = writeln!(out, "* over all runs: steal at most {steal:.1} %, load average before a run at most {load:.2}");
    let _ = writeln!(
        out,
        "* a run is void above: steal {} %, foreign programs {} % of a processor, {} wrong replies, lateness p99 {} % \
         of the latency's p99, {} s for a step",
        limits.steal_percent, limits.foreign_percent, limits.errors, limits.lateness_percent, plan.bound_seconds
    );
    let _ = writeln!(
        out,
        "* seed {}: order of the runs and bootstrap; {} pairs asked for, at most {} more\n",
        plan.seed, plan.pairs, plan.extra_pairs
    );
    if let Some(capacity) = &plan.capacity {
        let measured: Vec<f64> = runs
            .iter()
            .filter(|run| run.slot.capacity)
            .filter_map(|run| run.report.as_ref().map(|report| report.requests_per_second))
            .collect();
        let rates: Vec<String> = measured.iter().map(|rate| format!("{rate:.0}")).collect();
        let _ = writeln!(
            out,
            "* capacity of {}, closed loop, measured at the start of every round: {} requests/s; the loads are percents \
             of the round's. A pair is void when the peer or the null responder answers less than {} % of the load\n",
            plan.peer.name,
            rates.join(", "),
            capacity.least_percent
        );
    }
    for role in plan.roles() {
        let Some(side) = plan.side(role) else { continue };
        let generator = plan.generator_of(side);
        let _ = writeln!(out, "**{}** ({})\n\n```", side.name, role_name(role));
        if let Some(run) = runs.iter().rev().find(|run| run.slot.role == role && !run.slot.capacity) {
            command(&mut out, "server", &run.server_command, side.cpus.as_deref());
            command(&mut out, "warm-up", &run.warm_up_command, generator.cpus.as_deref());
            command(&mut out, "generator", &run.generator_command, generator.cpus.as_deref());
        }
        out.push_str("```\n\n");
    }
    out
}

fn command(out: &mut String, what: &str, argv: &[String], cpus: Option<&str>) {
    if !argv.is_empty() {
        let pinned = cpus.map_or_else(String::new, |cpus| format!("taskset --cpu-list {cpus} "));
        let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(out, "{what:10} {pinned}{}", words.join(" "));
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Ours => "ours",
        Role::Peer => "peer",
        Role::Null => "null",
    }
}

/// A figure with as many digits as carry meaning.
fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}
