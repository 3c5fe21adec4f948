//! SVG plots of a summary: the paired ratios, the latencies, and a line a side for a sweep.

use plotters::style::RGBColor;

use crate::plan::{Metric, Plan, Role, Sweep};
use crate::report::PERCENTILES;
use crate::summary::{Point, SideSummary, Summary};

/// One chart.
pub mod chart;

use chart::{Axis, Chart, Mark, grouped};

/// Our colour. All stay apart for colour-blind readers (Okabe and Ito 2008).
pub const OURS: RGBColor = RGBColor(0, 114, 178);
/// The peer's.
pub const PEER: RGBColor = RGBColor(213, 94, 0);
/// The null responder's, and other references'.
pub const NULL: RGBColor = RGBColor(110, 110, 110);
const VOID: RGBColor = RGBColor(170, 30, 60);

/// A plot cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw '{title}': {text}")]
pub struct PlotError {
    title: String,
    text: String,
}

/// A plot with the name of its file.
#[derive(Debug)]
pub struct Drawing {
    /// Name of the file in the run folder.
    pub file: String,
    /// What it shows, in a few words.
    pub caption: String,
    /// The file's text.
    pub svg: String,
}

/// Every plot that `summary` has figures for.
///
/// # Errors
/// When one cannot be drawn.
pub fn all(plan: &Plan, summary: &Summary) -> Result<Vec<Drawing>, PlotError> {
    let mut charts = Vec::new();
    if let Some(sweep) = &plan.sweep {
        charts.push(("series.svg".to_owned(), "Medians of each side along the sweep", series(plan, summary, sweep)));
        let has_p99 = summary.points.iter().flat_map(|point| &point.sides).any(|side| side.latency_us[2].is_some());
        if has_p99 && plan.metric != Metric::P99Us {
            charts.push(("series-p99.svg".to_owned(), "p99 latency along the sweep", series_p99(plan, summary, sweep)));
        }
    }
    for point in &summary.points {
        let suffix = point.value.map_or_else(String::new, |value| format!("-{value}"));
        if point.pairs.iter().any(|pair| pair.ratio.is_some()) {
            charts.push((format!("ratios{suffix}.svg"), "Ratio of every pair", ratios(plan, point)));
        }
        if point.sides.iter().any(|side| side.latency_us.iter().any(Option::is_some)) {
            charts.push((format!("latency{suffix}.svg"), "Latency percentiles of each side", latency(plan, point)));
        }
    }
    let draw = |(file, caption, chart): (String, &str, Chart)| {
        Ok(Drawing { file, caption: caption.to_owned(), svg: chart.draw()? })
    };
    charts.into_iter().map(draw).collect()
}

fn color(role: Role) -> RGBColor {
    match role {
        Role::Ours => OURS,
        Role::Peer => PEER,
        Role::Null => NULL,
    }
}

fn legend(plan: &Plan) -> Vec<(String, RGBColor)> {
    let name = |role| plan.side(role).map(|side| (side.name.clone(), color(role)));
    plan.roles().filter_map(name).collect()
}

fn title(plan: &Plan, point: &Point) -> String {
    match (&plan.sweep, point.value) {
        (Some(sweep), Some(value)) => format!("{}: {} {}", plan.title, sweep.label, grouped(value as f64, 0)),
        _ => plan.title.clone(),
    }
}

fn ratios(plan: &Plan, point: &Point) -> Chart {
    let under = match plan.against {
        crate::plan::Against::Peer => plan.peer.name.clone(),
        crate::plan::Against::First => format!("{} at the first value", plan.ours.name),
    };
    let label = format!("{}: ratio to {under}", plan.metric.label());
    let shown: Vec<(f64, f64, bool)> = point
        .pairs
        .iter()
        .filter_map(|pair| Some((f64::from(pair.round) - 1.0, pair.ratio?, pair.void.is_empty())))
        .collect();
    let interval = point.ratio.map_or_else(Vec::new, |ratio| vec![ratio.low, ratio.high]);
    let y = Axis::linear(&label, shown.iter().map(|(_, ratio, _)| *ratio).chain(interval));
    let last = point.pairs.iter().map(|pair| pair.round).max().unwrap_or(1);
    // More than some thirty numbers would run into each other.
    let every = last.div_ceil(30);
    let name = |round: u32| if (round - 1).is_multiple_of(every) { round.to_string() } else { String::new() };
    let x = Axis::places("round", (1..=last).map(name));
    let mut marks = Vec::new();
    if (y.from..y.to).contains(&1.0) {
        marks.push(Mark::Level { y: 1.0, color: RGBColor(150, 150, 150), width: 1 });
    }
    if let Some(ratio) = point.ratio {
        marks.push(Mark::Band { low: ratio.low, high: ratio.high, color: OURS });
        marks.push(Mark::Level { y: ratio.median, color: OURS, width: 2 });
    }
    marks.extend(shown.iter().map(|&(x, y, valid)| match valid {
        true => Mark::Dot { x, y, color: OURS },
        false => Mark::Cross { x, y, color: VOID },
    }));
    let subtitle = match point.ratio {
        Some(r) => format!(
            "{} / {under}: median {:.3}, 95 % interval [{:.3} {:.3}], {} valid of {} pairs",
            plan.ours.name,
            r.median,
            r.low,
            r.high,
            point.valid_pairs,
            point.pairs.len()
        ),
        None => "no valid pair".to_owned(),
    };
    let mut legend = vec![("valid pair; line and band: median and 95 % interval".to_owned(), OURS)];
    if shown.iter().any(|(_, _, valid)| !valid) {
        legend.push(("void pair, not counted".to_owned(), VOID));
    }
    Chart { title: title(plan, point), subtitle, legend, x, y, marks }
}

fn latency(plan: &Plan, point: &Point) -> Chart {
    let values = point.sides.iter().flat_map(|side| side.latency_us.into_iter().flatten());
    let line = |side: &SideSummary| {
        let of =
            |(i, latency): (usize, Option<f64>)| Some((i as f64, latency.filter(|latency| *latency > 0.0)?.log10()));
        Mark::Line { points: side.latency_us.into_iter().enumerate().filter_map(of).collect(), color: color(side.role) }
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

fn series(plan: &Plan, summary: &Summary, sweep: &Sweep) -> Chart {
    let (axis, places) = sweep_axis(sweep);
    let sides = || summary.points.iter().flat_map(|point| &point.sides);
    // From zero, so that a flat line looks flat.
    let y = Axis::linear(plan.metric.label(), sides().map(|side| side.metric.max).chain([0.0]));
    let y = Axis { from: 0.0, ..y };
    let mut marks = Vec::new();
    for role in plan.roles() {
        let mut points = Vec::new();
        for (point, x) in summary.points.iter().zip(&places) {
            for side in point.sides.iter().filter(|side| side.role == role) {
                let (low, high) = (side.metric.min, side.metric.max);
                marks.push(Mark::Whisker { x: *x, low, high, color: color(role) });
                points.push((*x, side.metric.median));
            }
        }
        marks.push(Mark::Line { points, color: color(role) });
    }
    Chart {
        title: plan.title.clone(),
        subtitle: "dots: medians over the valid pairs; bars: from the least to the largest".into(),
        legend: legend(plan),
        x: axis,
        y: Axis { ticks: y.ticks.into_iter().filter(|(tick, _)| *tick >= 0.0).collect(), ..y },
        marks,
    }
}

fn series_p99(plan: &Plan, summary: &Summary, sweep: &Sweep) -> Chart {
    let (axis, places) = sweep_axis(sweep);
    let all = summary.points.iter().flat_map(|point| &point.sides).filter_map(|side| side.latency_us[2]);
    let line = |role: Role| {
        let of = |(point, x): (&Point, &f64)| {
            let side = point.sides.iter().find(|side| side.role == role)?;
            Some((*x, side.latency_us[2].filter(|latency| *latency > 0.0)?.log10()))
        };
        Mark::Line { points: summary.points.iter().zip(&places).filter_map(of).collect(), color: color(role) }
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

    fn drawings(more: &str, tables: &str, void: &[&str]) -> Vec<Drawing> {
        let plan = plan(more, tables);
        let rate = |order: u32| 1000.0 + f64::from(order);
        let runs = run_rounds(&plan, |slot| Ok(run(slot, rate(slot.order), if slot.round == 1 { void } else { &[] })))
            .unwrap();
        all(&plan, &Summary::of(&plan, &runs)).unwrap()
    }

    #[test]
    fn plots_hold_titles_units_and_names() {
        let drawings = drawings("pairs = 4", "", &["bad"]);
        let files: Vec<&str> = drawings.iter().map(|drawing| drawing.file.as_str()).collect();
        assert_eq!(files, ["ratios.svg", "latency.svg"]);
        for text in ["95 % interval", "round", "requests/s: ratio to peer", "void pair, not counted"] {
            assert!(drawings[0].svg.contains(text), "{text}");
        }
        for text in ["latency (µs, logarithmic)", "p99.9", "ours", "peer", "null"] {
            assert!(drawings[1].svg.contains(text), "{text}");
        }
    }

    #[test]
    fn every_pair_is_a_mark_and_void_ones_differ() {
        let svg = &drawings("pairs = 4", "", &["bad"])[0].svg;
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
        let without = &drawings("pairs = 4", "", &[])[0].svg;
        assert!(!without.contains("void pair"));
    }

    #[test]
    fn a_sweep_has_a_line_a_side() {
        let sweep = "[sweep]\nvariable = 'n'\nlabel = 'dead connections'\nvalues = [0, 1000, 100000]";
        let drawings = drawings("pairs = 2", sweep, &[]);
        let series = &drawings[0];
        assert_eq!(series.file, "series.svg");
        assert!(series.svg.contains("dead connections (evenly spaced)") && series.svg.contains(">\n100,000\n<"));
        assert_eq!(series.svg.matches("<circle").count(), 9);
        assert_eq!(drawings.len(), 2 + 2 * 3);
    }

    #[test]
    fn without_a_valid_pair_the_void_ones_are_still_drawn() {
        let plan = plan("pairs = 1\nextra_pairs = 1", "");
        let runs = run_rounds(&plan, |slot| Ok(run(slot, 5.0, &["bad"]))).unwrap();
        let drawings = all(&plan, &Summary::of(&plan, &runs)).unwrap();
        assert!(drawings[0].svg.contains("no valid pair"));
    }
}
