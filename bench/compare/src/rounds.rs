//! The schedule: rounds in random order until enough pairs are valid, or the plan's bound is reached.
//!
//! A round measures every side at every value that still lacks pairs. The order of the values, and of the sides at
//! each value, is drawn anew for every round; the sides of one value stand next to each other, so that slow changes of
//! the machine touch them alike.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use crate::plan::{Against, Plan, Role};
use crate::run::{Run, RunError};

/// Which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Round, from 1.
    pub round: u32,
    /// Place among all runs of the round, from 1.
    pub order: u32,
    /// The side.
    pub role: Role,
    /// The sweep's value; `None` when nothing is varied.
    pub value: Option<u64>,
}

/// The runs of one round at one value.
pub fn at(runs: &[Run], round: u32, value: Option<u64>) -> impl Iterator<Item = &Run> {
    runs.iter().filter(move |run| run.slot.round == round && run.slot.value == value)
}

/// The rounds that `runs` hold, in order.
pub fn rounds_of(runs: &[Run]) -> impl Iterator<Item = u32> {
    1..=runs.iter().map(|run| run.slot.round).max().unwrap_or(0)
}

/// Why the pair of `round` at `value` is void; empty when it is valid. `None` when the round has no such pair.
///
/// Against the first value, a pair needs that value's run of ours as well.
pub fn pair_void(plan: &Plan, runs: &[Run], round: u32, value: Option<u64>) -> Option<Vec<String>> {
    let mut reasons = Vec::new();
    let mut seen = 0;
    for run in at(runs, round, value) {
        seen += 1;
        let name = plan.side(run.slot.role).map_or("", |side| side.name.as_str());
        reasons.extend(run.void.iter().map(|reason| format!("{name}: {reason}")));
    }
    if seen < plan.roles().count() {
        return None;
    }
    let first = plan.values().first().copied().flatten();
    if plan.against == Against::First && value != first {
        let base = at(runs, round, first).find(|run| run.slot.role == Role::Ours)?;
        reasons.extend(base.void.iter().map(|reason| format!("{} at the first value: {reason}", plan.ours.name)));
    }
    Some(reasons)
}

/// How many pairs at `value` are valid.
pub fn valid_pairs(plan: &Plan, runs: &[Run], value: Option<u64>) -> u32 {
    let valid =
        rounds_of(runs).filter(|round| pair_void(plan, runs, *round, value).is_some_and(|void| void.is_empty()));
    valid.count() as u32
}

/// Runs rounds until every value has `plan.pairs` valid pairs or `plan.extra_pairs` more rounds have not sufficed.
///
/// `measure` makes one run and is told which; it also stores it. The runs measured before an error are returned.
///
/// # Errors
/// The first error of `measure`, beside the runs so far.
pub fn run_rounds(
    plan: &Plan,
    mut measure: impl FnMut(Slot) -> Result<Run, RunError>,
) -> Result<Vec<Run>, (Vec<Run>, RunError)> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
    let mut runs = Vec::new();
    for round in 1..=plan.pairs + plan.extra_pairs {
        let mut values = plan.values();
        let lacking = |value: &Option<u64>| valid_pairs(plan, &runs, *value) < plan.pairs;
        let first = values.first().copied().flatten();
        if !values.iter().any(lacking) {
            break;
        }
        values.retain(|value| lacking(value) || (plan.against == Against::First && *value == first));
        values.shuffle(&mut random);
        let mut order = 0;
        for value in values {
            let mut roles: Vec<Role> = plan.roles().collect();
            roles.shuffle(&mut random);
            for role in roles {
                order += 1;
                match measure(Slot { round, order, role, value }) {
                    Ok(run) => runs.push(run),
                    Err(error) => return Err((runs, error)),
                }
            }
        }
    }
    Ok(runs)
}

#[cfg(test)]
pub(crate) mod tests;
