//! `Cycles`: the worker's turn by the time-stamp counter.
//!
//! Two passes: the first reads the counter before and after whole turns, the second after each step too, which costs
//! something itself and is therefore never part of the total. A batch is several turns; of many batches the least says
//! what the code costs when nothing else disturbs it, the median what it cost on this machine today.

use std::time::{Duration, Instant};

use sidestep_cached::TurnStep;

use crate::Failure;
use crate::bench::Bench;
use crate::workload::Workload;

/// Turns of one batch: about a millisecond.
const BATCH_TURNS: usize = 16;
/// How long the rate of the counter is measured.
const RATE_SPAN: Duration = Duration::from_millis(100);
/// Readings of the counter to find what a reading costs.
const READINGS: usize = 10_000;

/// The least and the median of the batches, in cycles per request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The median.
    pub median: f64,
}

/// What a request costs in cycles.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycles {
    /// The whole turn, from the first pass.
    pub total: Spread,
    /// The steps, from the second pass, less what the readings themselves cost.
    pub steps: Vec<(TurnStep, Spread)>,
    /// Frames in and out together, per request.
    pub frames: f64,
}

impl Spread {
    /// Of the values of all batches, at least one.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { least: values[0], median: values[values.len() / 2] }
    }
}

/// Measures `workload` with `batches` batches (at least 1) in each of the two passes.
///
/// # Errors
/// As [`Bench::new`] and [`Bench::turn`].
pub fn measure(workload: Workload, flows: usize, batches: usize) -> Result<Cycles, Failure> {
    let batches = batches.max(1);
    let mut bench = Bench::new(workload, flows)?;
    let reading = reading_cycles();

    let before = bench.frames();
    let (mut totals, mut requests) = (Vec::with_capacity(batches), 0);
    for _ in 0..batches {
        let (mut spent, mut answered) = (0, 0);
        for _ in 0..BATCH_TURNS {
            answered += bench.turn(|worker, time, now| {
                let begin = cpu::cycles();
                let outcome = worker.turn(time, now);
                spent += cpu::cycles().saturating_sub(begin + reading);
                outcome
            })?;
        }
        totals.push(per(spent, answered));
        requests += answered;
    }
    let frames = per(bench.frames() - before, requests);

    let mut steps: Vec<(TurnStep, Vec<f64>)> =
        TurnStep::ALL.into_iter().map(|step| (step, Vec::with_capacity(batches))).collect();
    for _ in 0..batches {
        let (mut spent, mut answered) = ([0; TurnStep::ALL.len()], 0);
        for _ in 0..BATCH_TURNS {
            answered += bench.turn(|worker, time, now| {
                let mut work = 0;
                let mut last = cpu::cycles();
                for step in TurnStep::ALL {
                    work += worker.step(step, time, now)?;
                    let at = cpu::cycles();
                    spent[step as usize] += at.saturating_sub(last + reading);
                    last = at;
                }
                Ok(work > 0)
            })?;
        }
        for ((_, values), spent) in steps.iter_mut().zip(spent) {
            values.push(per(spent, answered));
        }
    }
    let steps = steps.into_iter().map(|(step, values)| (step, Spread::of(values))).collect();
    Ok(Cycles { total: Spread::of(totals), steps, frames })
}

/// Cycles of the counter in a second.
pub fn rate_hz() -> f64 {
    let (begin, at) = (cpu::cycles(), Instant::now());
    while at.elapsed() < RATE_SPAN {
        std::hint::spin_loop();
    }
    (cpu::cycles() - begin) as f64 / at.elapsed().as_secs_f64()
}

/// The least that lies between two readings of the counter.
fn reading_cycles() -> u64 {
    let mut last = cpu::cycles();
    let gap = |_| {
        let at = cpu::cycles();
        at.saturating_sub(std::mem::replace(&mut last, at))
    };
    (0..READINGS).map(gap).min().unwrap_or(0)
}

fn per(amount: u64, requests: u64) -> f64 {
    amount as f64 / requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_least_and_the_middle() {
        let spread = Spread::of(vec![9.0, 1.0, 5.0, 7.0, 2.0]);
        assert_eq!(spread, Spread { least: 1.0, median: 5.0 });
    }

    #[test]
    fn steps_are_reported_in_the_order_of_the_turn() {
        let cycles = measure(Workload::TcpGet, 0, 1).unwrap();
        let order: Vec<TurnStep> = cycles.steps.iter().map(|(step, _)| *step).collect();
        assert_eq!(order, TurnStep::ALL);
        assert_eq!(cycles.frames, 2.0, "a request and its answer");
        assert!(cycles.total.least > 0.0);
    }
}
