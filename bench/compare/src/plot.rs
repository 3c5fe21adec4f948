//! The plots of a summary: the paired ratios, the latencies, and a line a side for a sweep.

use figures::chart::{Axis, Chart, Mark, NULL, OURS, PEER, RGBColor, grouped};

use crate::plan::{Metric, Plan, Role, Sweep};
use crate::report::PERCENTILES;
use crate::summary::{Point, SideSummary, Summary};

const VOID: RGBColor = RGBColor(170, 30, 60);

/// A plot with the name of its file.
#[derive(Debug)]
pub struct Plot {
    /// Name of the file in the run folder.
    pub file: String,
    /// What it shows, in a few words.
    pub caption: &'static str,
    /// What is drawn.
    pub chart: Chart,
}

/// Every plot that `summary` has figures for.
pub fn all(plan: &Plan, summary: &Summary) -> Vec<Plot> {
    let mut plots = Vec::new();
    let mut add = |file: String, caption, chart| plots.push(Plot { file, caption, chart });
    if let Some(sweep) = &plan.sweep {
        add("series.svg".to_owned(), "Medians of each side along the sweep", series(plan, summary, sweep));
        let has_p99 = summary.points.iter().flat_map(|point| &point.sides).any(|side| side.latency_us[2].is_some());
        if has_p99 && plan.metric != Metric::P99Us {
            add("series-p99.svg".to_owned(), "p99 latency along the sweep", series_p99(plan, summary, sweep));
        }
    }
    for point in &summary.points {
        let suffix = point.value.map_or_else(String::new, |value| format!("-{value}"));
        if point.pairs.iter().any(|pair| pair.ratio.is_some()) {
            add(format!("ratios{suffix}.svg"), "Ratio of every pair", ratios(plan, point));
        }
        if point.sides.iter().any(|side| side.latency_us.iter().any(Option::is_some)) {
            add(format!("latency{suffix}.svg"), "Latency percentiles of each side", latency(plan, point));
        }
    }
    plots
}

fn color(role: Role) -> RGBColor {
    match role {
        Role::Ours => OURS,
        Role::Peer => PEER,
        Role::Null => NULL,
    }
}

fn legend(plan: &Plan) -> Vec<(String, RGBColor)> {
    plan.sides().map(|(role, side)| (side.name.clone(), color(role))).collect()
}

fn title(plan: &Plan, point: &Point) -> String {
    match (&plan.sweep, point.value) {
        (Some(sweep), Some(value)) => format!("{}: {} {}", plan.title, sweep.label, grouped(value as f64, 0)),
        _ => plan.title.clone(),
    }
}

/// Where a latency stands on a logarithmic axis.
fn log(latency: Option<f64>) -> Option<f64> {
    latency.filter(|latency| *latency > 0.0).map(f64::log10)
}

/// The ratio of each round: those that count, those that do not, their median and its interval.
fn ratios(plan: &Plan, point: &Point) -> Chart {
    let under = plan.under();
    let label = format!("{}: ratio to {under}", plan.metric.label());
    let shown: Vec<(f64, f64, bool)> = point
        .pairs
        .iter()
        .filter_map(|pair| Some((f64::from(pair.round) - 1.0, pair.ratio?, pair.void.is_empty())))
        .collect();
    let interval = point.ratio.map_or_else(Vec::new, |ratio| vec![ratio.low, ratio.high]);
    let y = Axis::linear(&label, shown.iter().map(|(_, ratio, _)| *ratio).chain(interval));
    let last = point.pairs.iter().map(|pair| pair.round).max().unwrap_or(1);
    let every = last.div_ceil(30);
    let name = |round: u32| if (round - 1).is_multiple_of(every) { round.to_string() } else { String::new() };
    let x = Axis::places("round", (1..=last).map(name));
    let mut marks = Vec::new();
    if (y.from..y.to).contains(&1.0) {
        marks.push((Mark::Level(1.0, 1), RGBColor(150, 150, 150)));
    }
    let mut subtitle = "no valid pair".to_owned();
    if let Some(ratio) = point.ratio {
        marks.push((Mark::Band([ratio.low, ratio.high]), OURS));
        marks.push((Mark::Level(ratio.median, 2), OURS));
        subtitle = format!(
            "{} / {under}: median {:.3}, 95 % interval [{:.3} {:.3}], {} valid of {} pairs",
            plan.ours.name,
            ratio.median,
            ratio.low,
            ratio.high,
            point.valid_pairs,
            point.pairs.len()
        );
    }
    marks.extend(shown.iter().map(|&(x, y, valid)| match valid {
        true => (Mark::Dot((x, y)), OURS),
        false => (Mark::Cross((x, y)), VOID),
    }));
    let mut legend = vec![("valid pair; line and band: median and 95 % interval".to_owned(), OURS)];
    if shown.iter().any(|(_, _, valid)| !valid) {
        legend.push(("void pair, not counted".to_owned(), VOID));
    }
    Chart { title: title(plan, point), subtitle, legend, x, y, marks }
}

fn latency(plan: &Plan, point: &Point) -> Chart {
    let values = point.sides.iter().flat_map(|side| side.latency_us.into_iter().flatten());
    let line = |side: &SideSummary| {
        let places = (0..).zip(side.latency_us).filter_map(|(i, latency)| Some((f64::from(i), log(latency)?)));
        (Mark::Line(places.collect()), color(side.role))
    };
    Chart {
        title: title(plan, point),
        subtitle: format!("median over {} valid pairs of each percentile; lower is better", point.valid_pairs),
        legend: legend(plan),
        x: Axis::places("percentile of the requests", PERCENTILES.into_iter().map(str::to_owned)),
        y: Axis::logarithmic("latency (µs, logarithmic)", values),
        marks: point.sides.iter().map(line).collect(),
    }
}

/// The points of a sweep that have figures of this side, with their places across.
fn along<'a>(
    summary: &'a Summary,
    places: &'a [f64],
    role: Role,
) -> impl Iterator<Item = (f64, &'a SideSummary)> + use<'a> {
    let side = move |(point, x): (&'a Point, &f64)| Some((*x, point.sides.iter().find(|side| side.role == role)?));
    summary.points.iter().zip(places).filter_map(side)
}

fn series(plan: &Plan, summary: &Summary, sweep: &Sweep) -> Chart {
    let (axis, places) = sweep_axis(sweep);
    let sides = || summary.points.iter().flat_map(|point| &point.sides);
    let y = Axis::linear(plan.metric.label(), sides().map(|side| side.metric.max).chain([0.0]));
    let mut marks = Vec::new();
    for role in plan.roles() {
        let sides: Vec<_> = along(summary, &places, role).map(|(x, side)| (x, side.metric)).collect();
        marks.extend(sides.iter().map(|(x, of)| (Mark::Whisker(*x, [of.min, of.max]), color(role))));
        marks.push((Mark::Line(sides.iter().map(|(x, of)| (*x, of.median)).collect()), color(role)));
    }
    Chart {
        title: plan.title.clone(),
        subtitle: "dots: medians over the valid pairs; bars: from the least to the largest".into(),
        legend: legend(plan),
        x: axis,
        y: Axis { from: 0.0, ticks: y.ticks.into_iter().filter(|(tick, _)| *tick >= 0.0).collect(), ..y },
        marks,
    }
}

fn series_p99(plan: &Plan, summary: &Summary, sweep: &Sweep) -> Chart {
    let (axis, places) = sweep_axis(sweep);
    let all = summary.points.iter().flat_map(|point| &point.sides).filter_map(|side| side.latency_us[2]);
    let line = |role| {
        let p99 = along(summary, &places, role).filter_map(|(x, side)| Some((x, log(side.latency_us[2])?)));
        (Mark::Line(p99.collect()), color(role))
    };
    Chart {
        title: plan.title.clone(),
        subtitle: "p99 latency: medians over the valid pairs; lower is better".into(),
        legend: legend(plan),
        x: axis,
        y: Axis::logarithmic("p99 latency (µs, logarithmic)", all),
        marks: plan.roles().map(line).collect(),
    }
}

/// The sweep's axis and the place of each value on it: to scale where the values lie close, else evenly spaced.
fn sweep_axis(sweep: &Sweep) -> (Axis, Vec<f64>) {
    let values: Vec<f64> = sweep.values.iter().map(|value| *value as f64).collect();
    let (first, last) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
    if first > 0.0 && last <= 30.0 * first && values.len() > 1 {
        (Axis::linear(&sweep.label, values.iter().copied()), values)
    } else {
        let axis =
            Axis::places(&format!("{} (evenly spaced)", sweep.label), values.iter().map(|value| grouped(*value, 0)));
        let places = (0..values.len()).map(|i| i as f64).collect();
        (axis, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::run_rounds;
    use crate::rounds::tests::{plan, run};

    /// Each plot's file and SVG.
    fn drawn(plots: Vec<Plot>) -> Vec<(String, String)> {
        plots.into_iter().map(|plot| (plot.file, plot.chart.draw().unwrap())).collect()
    }

    fn plots(more: &str, tables: &str, void: &[&str]) -> Vec<(String, String)> {
        let plan = plan(more, tables);
        let rate = |order: u32| 1000.0 + f64::from(order);
        let runs = run_rounds(&plan, |id| Ok(run(id, rate(id.order), if id.round == 1 { void } else { &[] }))).unwrap();
        drawn(all(&plan, &Summary::of(&plan, &runs)))
    }

    #[test]
    fn plots_hold_titles_units_and_names() {
        let plots = plots("pairs = 4", "", &["bad"]);
        let files: Vec<&str> = plots.iter().map(|(file, _)| file.as_str()).collect();
        assert_eq!(files, ["ratios.svg", "latency.svg"]);
        for text in ["95 % interval", "round", "requests/s: ratio to peer", "void pair, not counted"] {
            assert!(plots[0].1.contains(text), "{text}");
        }
        for text in ["latency (µs, logarithmic)", "p99.9", "ours", "peer", "null"] {
            assert!(plots[1].1.contains(text), "{text}");
        }
    }

    #[test]
    fn every_pair_is_a_mark_and_void_ones_differ() {
        let svg = &plots("pairs = 4", "", &["bad"])[0].1;
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
        let without = &plots("pairs = 4", "", &[])[0].1;
        assert!(!without.contains("void pair"));
    }

    #[test]
    fn a_sweep_has_a_line_a_side() {
        let sweep = "[sweep]\nvariable = 'n'\nlabel = 'dead connections'\nvalues = [0, 1000, 100000]";
        let plots = plots("pairs = 2", sweep, &[]);
        let (file, series) = &plots[0];
        assert_eq!(file, "series.svg");
        assert!(series.contains("dead connections (evenly spaced)") && series.contains(">\n100,000\n<"));
        assert_eq!(series.matches("<circle").count(), 9);
        assert_eq!(plots.len(), 2 + 2 * 3);
    }

    #[test]
    fn without_a_valid_pair_the_void_ones_are_still_drawn() {
        let plan = plan("pairs = 1\nextra_pairs = 1", "");
        let runs = run_rounds(&plan, |id| Ok(run(id, 5.0, &["bad"]))).unwrap();
        let plots = drawn(all(&plan, &Summary::of(&plan, &runs)));
        assert!(plots[0].1.contains("no valid pair"));
    }
}
