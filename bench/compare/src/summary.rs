//! Ratios of the valid pairs, a point at a time, and the line that a script reads.

use figures::stats::{Interval, RESAMPLES, Spread, bootstrap_median, median, spread};
use figures::table::optional;
use serde::Serialize;

use crate::plan::{Against, Metric, Plan, Role};
use crate::report::Report;
use crate::rounds::{at, pair_void, rounds_of};
use crate::run::Run;

/// One pair, valid or void.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// The round.
    pub round: u32,
    /// The sides in the order in which they were run.
    pub order: Vec<Role>,
    /// Ours / peer, or ours / ours at the first value; `None` when a figure is lacking.
    pub ratio: Option<f64>,
    /// Ours / null.
    pub null: Option<f64>,
    /// Why it is void; empty when it is valid.
    pub void: Vec<String>,
}

/// One side's figures over its valid pairs.
#[derive(Debug, Clone, Serialize)]
pub struct SideSummary {
    /// The side.
    pub role: Role,
    /// What tables call it.
    pub name: String,
    /// The metric.
    pub metric: Spread,
    /// Median of the requests a second.
    pub requests_per_second: f64,
    /// Median of the whole machine's busy time per request, in microseconds.
    pub cpu_us_per_request: Option<f64>,
    /// Medians of the latencies in microseconds, in the order of [`crate::report::PERCENTILES`].
    pub latency_us: [Option<f64>; 5],
    /// The side against itself at the sweep's first value, in the same rounds, where ours is compared so.
    pub own: Option<Interval>,
}

/// All pairs at one value.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// The sweep's value; `None` when nothing is varied.
    pub value: Option<u64>,
    /// Median of the paired ratios with its 95 % interval; `None` without a valid pair.
    pub ratio: Option<Interval>,
    /// Median of ours / null.
    pub null: Option<f64>,
    /// How many pairs are valid.
    pub valid_pairs: usize,
    /// The sides that have a valid pair.
    pub sides: Vec<SideSummary>,
    /// Every pair.
    pub pairs: Vec<Pair>,
}

/// A whole comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The plan's title.
    pub title: String,
    /// The figure whose ratio is taken.
    pub metric: Metric,
    /// What ours is divided by.
    pub against: Against,
    /// Pairs asked for.
    pub pairs_asked: u32,
    /// Seed of order and bootstrap.
    pub seed: u64,
    /// Resamples of the bootstrap.
    pub resamples: usize,
    /// One point, or one for each value of the sweep.
    pub points: Vec<Point>,
}

impl Summary {
    /// Sums up `runs` of `plan`.
    pub fn of(plan: &Plan, runs: &[Run]) -> Summary {
        Summary {
            title: plan.title.clone(),
            metric: plan.metric,
            against: plan.against,
            pairs_asked: plan.pairs,
            seed: plan.seed,
            resamples: RESAMPLES,
            points: plan.values().into_iter().map(|value| point(plan, runs, value)).collect(),
        }
    }

    /// The point that the last line speaks of: the only one, or the sweep's last value.
    pub fn last_point(&self) -> Option<&Point> {
        self.points.last()
    }

    /// `ratio R.RR [lo hi] null N.NN`, with `null -` without a null responder; `None` without a valid pair.
    pub fn line(&self) -> Option<String> {
        let point = self.last_point()?;
        Some(format!("ratio {} null {}", point.ratio?, optional(point.null, 2)))
    }

    /// True when every point has the pairs that were asked for.
    pub fn complete(&self) -> bool {
        self.points.iter().all(|point| point.valid_pairs >= self.pairs_asked as usize)
    }
}

fn point(plan: &Plan, runs: &[Run], value: Option<u64>) -> Point {
    let pairs: Vec<Pair> = rounds_of(runs).filter_map(|round| pair(plan, runs, round, value)).collect();
    let valid: Vec<&Pair> = pairs.iter().filter(|pair| pair.void.is_empty()).collect();
    let ratios: Vec<f64> = valid.iter().filter_map(|pair| pair.ratio).collect();
    let nulls: Vec<f64> = valid.iter().filter_map(|pair| pair.null).collect();
    let rounds: Vec<u32> = valid.iter().map(|pair| pair.round).collect();
    Point {
        value,
        ratio: bootstrap_median(&ratios, RESAMPLES, plan.seed),
        null: median(&nulls),
        valid_pairs: ratios.len(),
        sides: plan.roles().filter_map(|role| side(plan, runs, role, value, &rounds)).collect(),
        pairs,
    }
}

fn pair(plan: &Plan, runs: &[Run], round: u32, value: Option<u64>) -> Option<Pair> {
    let mut void = pair_void(plan, runs, round, value)?;
    let base = plan.first_value();
    let of = |role: Role, value: Option<u64>| {
        let run = at(runs, round, value).find(|run| run.id.role == role)?;
        plan.metric.of(run.report.as_ref()?)
    };
    let ours = of(Role::Ours, value);
    let under = match plan.against {
        Against::Peer => of(Role::Peer, value),
        Against::First => of(Role::Ours, base),
    };
    let divide =
        |under: Option<f64>| under.zip(ours).filter(|(under, _)| *under > 0.0).map(|(under, ours)| ours / under);
    let ratio = divide(under);
    if ratio.is_none() && void.is_empty() {
        void.push(format!("a side reports no {}, or zero", plan.metric.label()));
    }
    let mut in_order: Vec<&Run> = at(runs, round, value).collect();
    in_order.sort_by_key(|run| run.id.order);
    let order = in_order.iter().map(|run| run.id.role).collect();
    Some(Pair { round, order, ratio, null: divide(of(Role::Null, value)), void })
}

fn side(plan: &Plan, runs: &[Run], role: Role, value: Option<u64>, rounds: &[u32]) -> Option<SideSummary> {
    let runs_at: Vec<&Run> = runs
        .iter()
        .filter(|run| run.id.role == role && run.id.value == value && rounds.contains(&run.id.round))
        .filter(|run| !run.id.capacity)
        .collect();
    let base = plan.first_value();
    let own = |run: &&Run| {
        let first = at(runs, run.id.round, base).find(|first| first.id.role == role)?;
        let of = |run: &Run| plan.metric.of(run.report.as_ref()?);
        of(first).filter(|first| *first > 0.0).zip(of(run)).map(|(first, here)| here / first)
    };
    let own: Vec<f64> = match plan.against {
        Against::First => runs_at.iter().filter_map(own).collect(),
        Against::Peer => Vec::new(),
    };
    let reports: Vec<&Report> = runs_at.iter().filter_map(|run| run.report.as_ref()).collect();
    let all = |pick: &dyn Fn(&Report) -> Option<f64>| -> Vec<f64> {
        reports.iter().filter_map(|report| pick(report)).collect()
    };
    let cpu: Vec<f64> = runs_at.iter().filter_map(|run| run.cpu_us_per_request).collect();
    // The null responder may report no latency; it then has no figure to show in a comparison of latencies.
    Some(SideSummary {
        role,
        name: plan.side(role)?.name.clone(),
        metric: spread(&all(&|report| plan.metric.of(report)))?,
        requests_per_second: median(&all(&|report| Some(report.requests_per_second)))?,
        cpu_us_per_request: median(&cpu),
        latency_us: std::array::from_fn(|i| median(&all(&|report| report.latency_us[i]))),
        own: bootstrap_median(&own, RESAMPLES, plan.seed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::run_rounds;
    use crate::rounds::tests::{plan, run};

    #[test]
    fn paired_ratios_cancel_what_changes_from_round_to_round() {
        let plan = plan("pairs = 7", "");
        // The machine gets slower by the round; the ratio is 2 and the ceiling 4 in each.
        let runs = run_rounds(&plan, |id| {
            let speed = match id.role {
                Role::Ours => 2.0,
                Role::Peer => 1.0,
                Role::Null => 4.0,
            };
            Ok(run(id, speed * 1000.0 / f64::from(id.round), &[]))
        })
        .unwrap();
        let summary = Summary::of(&plan, &runs);
        assert_eq!(summary.line().unwrap(), "ratio 2.00 [2.00 2.00] null 0.50");
        assert!(summary.complete());
        let ours = &summary.points[0].sides[0];
        assert_eq!((ours.metric.median, ours.metric.count), (500.0, 7));
        assert_eq!(ours.latency_us[2], Some(40.0));
    }

    #[test]
    fn void_pairs_are_listed_and_left_out() {
        let plan = plan("pairs = 2\nextra_pairs = 0", "");
        let runs = run_rounds(&plan, |id| {
            let odd = id.round == 1;
            Ok(run(id, if id.role == Role::Ours && odd { 900.0 } else { 100.0 }, if odd { &["steal"] } else { &[] }))
        })
        .unwrap();
        let summary = Summary::of(&plan, &runs);
        assert_eq!(summary.line().unwrap(), "ratio 1.00 [1.00 1.00] null 1.00");
        assert!(!summary.complete());
        let point = &summary.points[0];
        assert_eq!((point.pairs.len(), point.valid_pairs), (2, 1));
        assert_eq!(point.pairs[0].ratio, Some(9.0));
        assert_eq!(point.pairs[0].void.len(), 3);
    }

    #[test]
    fn against_the_first_value_ours_is_divided_by_itself() {
        let plan = plan("pairs = 3\nagainst = 'first'", "[sweep]\nvariable = 'n'\nlabel = 'n'\nvalues = [0, 10]");
        let runs = run_rounds(&plan, |id| {
            let speed = if id.role == Role::Ours { 100.0 } else { 7.0 };
            Ok(run(id, if id.value == Some(10) { speed * 0.9 } else { speed }, &[]))
        })
        .unwrap();
        let summary = Summary::of(&plan, &runs);
        assert!((summary.points[1].ratio.unwrap().median - 0.9).abs() < 1e-12);
        assert_eq!(summary.points[0].ratio.unwrap().median, 1.0);
        let own: Vec<f64> = summary.points[1].sides.iter().map(|side| side.own.unwrap().median).collect();
        assert!(own.iter().all(|own| (own - 0.9).abs() < 1e-12), "each side against itself: {own:?}");
    }

    #[test]
    fn without_a_null_responder_the_line_says_so_and_without_pairs_there_is_none() {
        let mut plan = plan("pairs = 1\nextra_pairs = 0", "");
        plan.null = None;
        let runs = run_rounds(&plan, |id| Ok(run(id, 5.0, &[]))).unwrap();
        assert_eq!(Summary::of(&plan, &runs).line().unwrap(), "ratio 1.00 [1.00 1.00] null -");
        let runs = run_rounds(&plan, |id| Ok(run(id, 5.0, &["bad"]))).unwrap();
        assert_eq!(Summary::of(&plan, &runs).line(), None);
    }

    #[test]
    fn a_metric_that_is_not_reported_voids_the_pair() {
        let plan = plan("pairs = 1\nextra_pairs = 0\nmetric = 'p99_us'", "");
        let runs = run_rounds(&plan, |id| {
            let mut run = run(id, 5.0, &[]);
            run.report.as_mut().unwrap().latency_us = [None; 5];
            Ok(run)
        })
        .unwrap();
        let summary = Summary::of(&plan, &runs);
        assert!(summary.points[0].pairs[0].void[0].contains("p99"), "{summary:?}");
        assert_eq!(summary.line(), None);
    }
}
