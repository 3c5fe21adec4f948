//! The README of a run folder: what a reader needs to believe the figures, or to repeat them.

use std::fmt::Write;

use figures::machine::{Machine, shell_line};
use figures::table::{Table, optional};

use crate::plan::Plan;
use crate::plot::Plot;
use crate::report::PERCENTILES;
use crate::run::Run;
use crate::summary::{Point, Summary};

/// The whole text.
pub fn text(plan: &Plan, machine: &Machine, runs: &[Run], summary: &Summary, plots: &[Plot]) -> String {
    let mut out = format!("# {}\n\n", plan.title);
    // Writing to a string cannot fail; the results are dropped for that reason throughout.
    let _ = match summary.line() {
        Some(line) => writeln!(out, "`{line}`\n"),
        None => writeln!(out, "**No valid pair: there is no ratio.**\n"),
    };
    if !summary.complete() {
        let _ = writeln!(out, "**Fewer pairs are valid than the {} asked for.**\n", plan.pairs);
    }
    let _ = writeln!(
        out,
        "The ratio is the median over the valid pairs of {} of {} / {}, in the same round; in brackets its 95 % bootstrap \
         interval. `null` is the median of ours / the null responder. The columns are medians over the valid pairs; the \
         latencies are the generator's own. See docs/benchmarks.md.\n",
        plan.metric.label(),
        plan.ours.name,
        plan.under()
    );
    out.push_str(&table(plan, summary));
    for Plot { file, caption, .. } in plots {
        let _ = writeln!(out, "![{caption}]({file})\n");
    }
    let _ = writeln!(out, "## Every pair\n\n{}\n{machine}", pairs(plan, summary));
    limits(&mut out, plan, runs);
    commands(&mut out, plan, runs);
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
    let metric = format!("{} (median):", plan.metric.label());
    let mut columns = ["side", &metric, "least:", "most:", "spread:", "requests/s:", "machine CPU us/request:"]
        .map(str::to_owned)
        .to_vec();
    columns.extend(PERCENTILES.map(|name| format!("{name} us:")));
    let mut table = Table::new(&columns);
    for side in &point.sides {
        let [median, least, most] = [side.metric.median, side.metric.min, side.metric.max].map(number);
        let spread = format!("{:.1} %", 100.0 * side.metric.relative);
        let cpu = optional(side.cpu_us_per_request, 2);
        let row = [side.name.clone(), median, least, most, spread, format!("{:.0}", side.requests_per_second), cpu];
        table.row(row.into_iter().chain(side.latency_us.map(|latency| optional(latency, 1))));
    }
    let _ = match point.ratio {
        Some(ratio) => writeln!(
            out,
            "{table}\nRatio and 95 % interval {ratio:.3}; ours / null {}; {} valid of {} pairs.\n",
            optional(point.null, 3),
            point.valid_pairs,
            point.pairs.len()
        ),
        None => writeln!(out, "{table}\nNo valid pair of {}.\n", point.pairs.len()),
    };
    let own = point.sides.iter().filter_map(|side| Some(format!("{} {:.3}", side.name, side.own?)));
    let own: Vec<String> = own.collect();
    if !own.is_empty() {
        let _ = writeln!(out, "Each side against itself at the first value: {}.\n", own.join(", "));
    }
}

fn pairs(plan: &Plan, summary: &Summary) -> Table {
    let value_column = plan.sweep.as_ref().map(|_| "value:");
    let columns: Vec<&str> =
        value_column.into_iter().chain(["round:", "order", "ratio:", "ours / null:", ""]).collect();
    let mut table = Table::new(&columns);
    for (point, pair) in summary.points.iter().flat_map(|point| point.pairs.iter().map(move |pair| (point, pair))) {
        let order: Vec<String> = pair.order.iter().map(ToString::to_string).collect();
        let verdict = match pair.void.is_empty() {
            true => String::new(),
            false => format!("VOID: {}", pair.void.join("; ").replace('|', "/")),
        };
        let figures =
            [pair.round.to_string(), order.join(" "), optional(pair.ratio, 3), optional(pair.null, 3), verdict];
        table.row(point.value.map(|value| value.to_string()).into_iter().chain(figures));
    }
    table
}

/// What made, or would have made, a run void.
fn limits(out: &mut String, plan: &Plan, runs: &[Run]) {
    let most = |figure: fn(&Run) -> f64| runs.iter().map(figure).fold(0.0, f64::max);
    let (steal, load) = (most(|run| run.steal_percent), most(|run| run.load_before));
    let limits = &plan.void;
    let _ = writeln!(
        out,
        "* over all runs: steal at most {steal:.1} %, load average before a run at most {load:.2}\n\
         * a run is void above: steal {} %, foreign programs {} % of a processor, {} wrong replies, lateness p99 {} % \
         of the latency's p99, {} s for a step\n\
         * seed {}: order of the runs and bootstrap; {} pairs asked for, at most {} more\n",
        limits.steal_percent,
        limits.foreign_percent,
        limits.errors,
        limits.lateness_percent,
        plan.bound_seconds,
        plan.seed,
        plan.pairs,
        plan.extra_pairs
    );
    if let Some(capacity) = &plan.capacity {
        let measured = runs.iter().filter(|run| run.id.capacity).filter_map(|run| run.report.as_ref());
        let rates: Vec<String> = measured.map(|report| format!("{:.0}", report.requests_per_second)).collect();
        let _ = writeln!(
            out,
            "* capacity of {}, closed loop, measured at the start of every round: {} requests/s; the loads are percents \
             of the round's. A pair is void when the peer or the null responder answers less than {} % of the load\n",
            plan.peer.name,
            rates.join(", "),
            capacity.least_percent
        );
    }
}

/// The commands of each side's last run, pinned as they were.
fn commands(out: &mut String, plan: &Plan, runs: &[Run]) {
    for (role, side) in plan.sides() {
        let generator = plan.generator_of(side);
        let _ = writeln!(out, "**{}** ({role})\n\n```", side.name);
        if let Some(run) = runs.iter().rev().find(|run| run.id.role == role && !run.id.capacity) {
            for (what, argv, cpus) in [
                ("server", &run.server_command, &side.cpus),
                ("warm-up", &run.warm_up_command, &generator.cpus),
                ("generator", &run.generator_command, &generator.cpus),
            ] {
                let pinned = cpus.as_ref().map_or_else(String::new, |cpus| format!("taskset --cpu-list {cpus} "));
                if !argv.is_empty() {
                    let _ = writeln!(out, "{what:10} {pinned}{}", shell_line(argv));
                }
            }
        }
        out.push_str("```\n\n");
    }
}

/// A figure with as many digits as carry meaning.
fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
